"""Checkpoints as people have them: each loads, to the encoder's own embeddings, or is refused in a line with the true cause."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, make_tiny

from arch_hf.embedding import AudioEncoder
from arch_hf.errors import UserError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d" * 32 + "\nsize 377607901\n"
PAGE = "\n<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.fixture
def hubert(tmp_path):
    return make_tiny("hubert", tmp_path / "hubert")


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder, **options) -> str:
    with pytest.raises(UserError) as caught:
        AudioEncoder.from_pretrained(folder, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize("model", ["Wav2Vec2", "WavLM", "UniSpeechSat", "Data2VecAudio"])
@pytest.mark.parametrize("head", ["ForXVector", "ForSequenceClassification", "ForCTC"])
def test_a_head_for_another_task(model, head, tmp_path):
    """Whose layers may be called as parts of the encoder are: ForXVector has a feature_extractor.weight."""
    small = {"tdnn_dim": [16] * 5, "xvector_output_dim": 16, "vocab_size": 30}
    family = {
        "Wav2Vec2": "wav2vec2",
        "WavLM": "wavlm",
        "UniSpeechSat": "unispeech-sat",
        "Data2VecAudio": "data2vec-audio",
    }[model]
    model_class = getattr(hf, model + head)
    torch.manual_seed(0)
    whole = model_class(model_class.config_class(**FAMILIES[family][1], **small)).eval()
    whole.save_pretrained(tmp_path)
    hf.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    clip = torch.randn(8000)
    with torch.inference_mode():
        expected = whole.base_model(clip[None]).last_hidden_state.mean(1)
    found = AudioEncoder.from_pretrained(tmp_path).embed([clip.numpy()])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    edit(tmp_path / "config.json", num_hidden_layers=1)  # the encoder's own weights are still missed
    assert "no place" in refused(tmp_path)


@pytest.mark.parametrize("content, cause", [(POINTER, "is a Git LFS pointer"), (PAGE, "is an HTML page")])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "config.json", "preprocessor_config.json", "shard"]
)
def test_what_stands_in_a_files_place(name, content, cause, hubert):
    if name == "pytorch_model.bin":
        (hubert / "model.safetensors").unlink()
    if name == "shard":
        hf.AutoModel.from_pretrained(hubert).save_pretrained(hubert, max_shard_size="20KB")
        (hubert / "model.safetensors").unlink(missing_ok=True)
        name = sorted(path.name for path in hubert.glob("model-*.safetensors"))[1]
    (hubert / name).write_text(content)
    message = refused(hubert)
    assert f"{name} {cause}" in message and "pickle" not in message


def test_a_shard_that_is_missing(hubert):
    hf.AutoModel.from_pretrained(hubert).save_pretrained(hubert, max_shard_size="20KB")
    (hubert / "model.safetensors").unlink(missing_ok=True)
    shard = sorted(hubert.glob("model-*.safetensors"))[0]
    shard.unlink()
    assert f"model.safetensors.index.json names {shard.name}, which is not there" in refused(hubert)
    (hubert / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    assert "names no files" in refused(hubert)


def test_a_processor_and_no_preprocessor(hubert):
    """What a processor's save_pretrained writes in transformers 5."""
    expected = AudioEncoder.from_pretrained(hubert).identity
    extractor = json.loads((hubert / "preprocessor_config.json").read_text())
    (hubert / "preprocessor_config.json").unlink()
    (hubert / "processor_config.json").write_text(
        json.dumps({"processor_class": "Wav2Vec2Processor", "feature_extractor": extractor})
    )
    assert AudioEncoder.from_pretrained(hubert).identity == expected


@pytest.mark.parametrize("family", ["hubert", "wavlm", "whisper", "clap", "ast"])
def test_a_configuration_that_asks_for_tuples(family, tmp_path):
    folder = make_tiny(family, tmp_path)
    before = AudioEncoder.from_pretrained(folder)
    edit(folder / "config.json", return_dict=False)
    after = AudioEncoder.from_pretrained(folder)
    clips = [np.ones(before.sampling_rate, np.float32)]
    assert (after.embed(clips, layers="all") == before.embed(clips, layers="all")).all()
    assert after.identity == before.identity


def test_numbers_that_cannot_be(hubert):
    edit(hubert / "config.json", num_hidden_layers=10**9)
    assert "config.json says num_hidden_layers = 1,000,000,000, but there are" in refused(hubert)
    edit(hubert / "config.json", num_hidden_layers=2)
    edit(hubert / "preprocessor_config.json", sampling_rate=float("nan"))
    assert "sampling_rate in preprocessor_config.json is nan" in refused(hubert)
    edit(hubert / "preprocessor_config.json", sampling_rate=float("inf"))
    assert "sampling_rate in preprocessor_config.json is inf" in refused(hubert)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_settings_nested_without_end(name, hubert):
    (hubert / name).write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    assert f"{name} is nested too deep" in refused(hubert)


OWN = """import transformers as hf


class MyConfig(hf.HubertConfig):
    model_type = "mine"


class MyModel(hf.{base}):
    config_class = MyConfig
    main_input_name = "input_values"
{body}
"""
TUPLE = """
    def forward(self, *inputs, **options):
        return (super().forward(*inputs, **options).last_hidden_state,)"""
INNER = """
    def __init__(self, config):
        super().__init__(config)
        self.inner = hf.HubertModel(config)
        {last}

    def forward(self, input_values, **options):
        return self.inner(input_values, **options)"""


def own(folder: Path, base: str, body: str) -> Path:
    (folder / "mine.py").write_text(OWN.format(base=base, body=body))
    auto_map = {"AutoConfig": "mine.MyConfig", "AutoModel": "mine.MyModel"}
    edit(folder / "config.json", model_type="mine", architectures=["MyModel"], auto_map=auto_map)
    if base == "PreTrainedModel":
        weights = load_file(folder / "model.safetensors")
        save_file(
            {f"inner.{key}": value for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
        )
    return folder


def test_own_code_that_gives_a_tuple(hubert):
    message = refused(own(hubert, "HubertModel", TUPLE), trust_remote_code=True)
    assert "MyModel.forward returns a tuple without last_hidden_state" in message and "belong together" not in message


def test_own_code_that_is_not_finished(hubert):
    folder = own(hubert, "PreTrainedModel", INNER.format(last=""))
    assert "lacks a call of self.post_init()" in refused(folder, trust_remote_code=True)


def test_own_code_that_works(hubert):
    expected = AudioEncoder.from_pretrained(hubert)
    clip = [np.ones(8000, np.float32)]
    vector = expected.embed(clip)
    encoder = AudioEncoder.from_pretrained(
        own(hubert, "PreTrainedModel", INNER.format(last="self.post_init()")), trust_remote_code=True
    )
    assert (encoder.embed(clip) == vector).all() and encoder.identity != expected.identity


def test_names_that_are_too_long(hubert, tmp_path):
    deep = tmp_path / "/".join(f"a-rather-long-name-of-an-experiment-{i:02d}" for i in range(7))
    deep.parent.mkdir(parents=True)
    hubert.rename(deep)
    assert AudioEncoder.from_pretrained(deep).n_layers == 3
    told = refused("x" * 300)  # from Python 3.14 on, pathlib takes a name that is too long for one that is not there
    assert "is no folder (File name too long)" in told or "no folder xxx" in told


def test_a_dithering_feature_extractor(tmp_path):
    """It adds noise of its own, another one each time: no two runs would agree."""
    folder = make_tiny("whisper", tmp_path)
    edit(folder / "preprocessor_config.json", dither=1e-3)
    assert "makes something else of the same clip each time (dither is 0.001)" in refused(folder)
