"""What can be wrong with a checkpoint: each is one line that says what, where, and what to do."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
import transformers as hf
from tiny_models import FAMILIES, make_tiny

from arch_hf.cli import main
from arch_hf.embedding import AudioEncoder
from arch_hf.errors import UserError


@pytest.fixture
def hubert(tmp_path):
    return make_tiny("hubert", tmp_path / "hubert")


def edit(path, **changes):
    settings = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(settings))


def refused(model_id, **options) -> str:
    with pytest.raises(UserError) as caught:
        AudioEncoder.from_pretrained(model_id, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


def test_a_folder_without_its_files(hubert):
    (hubert / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json is missing" in refused(hubert)
    (hubert / "model.safetensors").unlink()
    hf.Wav2Vec2FeatureExtractor().save_pretrained(hubert)
    assert "no file named model.safetensors" in refused(hubert)
    (hubert / "config.json").write_text("{")
    assert "config.json is not readable JSON" in refused(hubert)
    (hubert / "config.json").unlink()
    assert "no config.json" in refused(hubert)


@pytest.mark.parametrize("kind, takes", [("Bert", "text (input_ids)"), ("ViT", "image (pixel_values)")])
def test_a_model_of_text_or_images_is_refused_before_its_weights_are_read(kind, takes, tmp_path):
    getattr(hf, f"{kind}Config")().save_pretrained(tmp_path)
    message = refused(tmp_path)
    assert "no audio model" in message and takes in message


def test_an_encoder_with_a_random_part_is_refused(hubert, capsys):
    edit(hubert / "config.json", num_hidden_layers=3)
    message = refused(hubert)
    assert "lacks weights" in message and "encoder.layers.2.attention.k_proj.bias" in message and "13 more" in message
    edit(hubert / "config.json", num_hidden_layers=1)
    message = refused(hubert)
    assert "no place" in message and "encoder.layers.1.attention.k_proj.bias" in message
    edit(hubert / "config.json", num_hidden_layers=2, intermediate_size=99)
    assert "another shape" in refused(hubert)
    assert capsys.readouterr() == ("", "")  # the library's own reports are not shown


def test_truncated_weights(hubert):
    file = hubert / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert "weights cannot be loaded" in refused(hubert)


@pytest.mark.parametrize(
    "family, key", [("whisper", "decoder.layers.0.fc1.weight"), ("clap", "text_projection.linear1.weight")]
)
def test_what_the_audio_half_does_not_need_may_be_missing(family, key, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_tiny(family, tmp_path)
    complete = AudioEncoder.from_pretrained(folder).weights_sha256
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if name.endswith(key))]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert AudioEncoder.from_pretrained(folder).weights_sha256 == complete


def test_a_pretraining_head_is_left_aside(tmp_path, capsys):
    settings = FAMILIES["wav2vec2"][1]
    torch.manual_seed(0)
    hf.Wav2Vec2ForPreTraining(hf.Wav2Vec2Config(**settings)).save_pretrained(tmp_path)
    hf.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    assert AudioEncoder.from_pretrained(tmp_path).model_class == "Wav2Vec2Model"
    assert capsys.readouterr() == ("", "")


def test_pickled_weights(hubert, capsys):
    """With the names that old torch gave to weight norm; the hash is that of the same weights in safetensors."""
    hashed = AudioEncoder.from_pretrained(hubert).weights_sha256
    weights = hf.AutoModel.from_pretrained(hubert).state_dict()
    old = "encoder.pos_conv_embed.conv."
    for new, name in (("original0", "weight_g"), ("original1", "weight_v")):
        weights[old + name] = weights.pop(f"{old}parametrizations.weight.{new}")
    (hubert / "model.safetensors").unlink()
    torch.save(weights, hubert / "pytorch_model.bin")
    assert AudioEncoder.from_pretrained(hubert).weights_sha256 == hashed
    assert "read with weights_only" in capsys.readouterr().err
    torch.save({**weights, "path": hubert}, hubert / "pytorch_model.bin")  # an object, which only code can make
    assert "more than tensors" in refused(hubert)


@pytest.mark.parametrize("rate", [0, -16000, None, "16 kHz", 16000.5, True])
def test_a_sampling_rate_that_is_none(rate, hubert):
    edit(hubert / "preprocessor_config.json", sampling_rate=rate)
    assert "sampling_rate in preprocessor_config.json is" in refused(hubert)


def test_a_sampling_rate_that_the_model_was_not_made_for(hubert, tmp_path, capsys):
    codec = make_tiny("encodec", tmp_path / "codec")
    edit(codec / "preprocessor_config.json", sampling_rate=16000)
    message = refused(codec)
    assert "16000 Hz in preprocessor_config.json but 24000 Hz in config.json" in message
    edit(hubert / "preprocessor_config.json", sampling_rate=44100)
    AudioEncoder.from_pretrained(hubert)  # nothing in the checkpoint contradicts it
    assert "44100 Hz, where hubert models are at home at 16000 Hz" in capsys.readouterr().err


@pytest.mark.parametrize(
    "family, extractor",
    [
        ("hubert", hf.WhisperFeatureExtractor()),
        ("whisper", hf.WhisperFeatureExtractor(feature_size=128)),
        ("ast", hf.Wav2Vec2FeatureExtractor()),
    ],
)
def test_a_feature_extractor_of_another_model(family, extractor, tmp_path):
    make_tiny(family, tmp_path)
    extractor.save_pretrained(tmp_path)
    message = refused(tmp_path)
    assert type(extractor).__name__ in message and "belong" in message


def test_custom_code_runs_only_when_asked_for(hubert, capsys):
    edit(hubert / "config.json", model_type="mine", auto_map={"AutoConfig": "mine.C", "AutoModel": "mine.M"})
    (hubert / "mine.py").write_text(
        "import transformers as hf\n"
        "class C(hf.HubertConfig):\n    model_type = 'mine'\n"
        "class M(hf.HubertModel):\n    config_class = C\n"
    )
    assert "--trust_remote_code" in refused(hubert)
    assert AudioEncoder.from_pretrained(hubert, trust_remote_code=True).model_class == "M"
    assert "running the model's own code" in capsys.readouterr().err
    edit(hubert / "config.json", auto_map={})
    assert "does not recognize" in refused(hubert)


def test_other_flags(hubert):
    assert "is a folder" in refused(hubert, revision="main")
    assert "int8 is none of float32" in refused(hubert, dtype="int8")
    assert "no folder ./no/such/folder" in refused("./no/such/folder")


def test_a_model_of_the_hub(hub, hubert):
    files = {path.name: path.read_bytes() for path in hubert.iterdir()}
    repo = hub.create("models", "somebody/hubert", files)
    encoder = AudioEncoder.from_pretrained("somebody/hubert")
    assert encoder.revision == repo.refs["main"] and encoder.describe()["id"] == "somebody/hubert"
    assert encoder.weights_sha256 == AudioEncoder.from_pretrained(hubert).weights_sha256
    assert "no revision v9" in refused("somebody/hubert", revision="v9")
    assert "unknown model somebody/else" in refused("somebody/else")
    hub.create("models", "somebody/data", {"README.md": b"nothing"})
    assert "somebody/data has no config.json" in refused("somebody/data")
    hub.fail("GET", "somebody/secret", 403, headers={"X-Error-Code": "GatedRepo"}, times=9)
    message = refused("somebody/secret")
    assert "gated" in message and "hf auth login" in message


@pytest.mark.parametrize("model_id", ["logmel", "hubert"])
def test_check_encoder(model_id, hubert, capsys, monkeypatch):
    monkeypatch.chdir(hubert.parent)
    assert main(["check-encoder", model_id, "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("ready\n") and "batch invariance" in out and "bfloat16" in out and "speed" in out
    if model_id == "hubert":
        assert "hop               320 samples, 50 frames a second" in out
        assert "receptive field   400 samples, 25 ms" in out and "3, layers 0 to 2" in out


def test_check_encoder_says_what_is_wrong(hubert, capsys, monkeypatch):
    """A model whose output depends on its batch: `group norm` statistics over the padding, as they would be untold."""
    from arch_hf.embedding import encoder
    from arch_hf.embedding.fast import convolutions

    with_ends = convolutions._FirstConvolution.for_clips
    untold = lambda self, values, samples, lengths: with_ends(self, values, samples, None)  # noqa: E731
    monkeypatch.setattr(convolutions._FirstConvolution, "for_clips", untold)
    monkeypatch.setitem(encoder._PASS_SECONDS, "cpu", 100)
    assert main(["check-encoder", str(hubert), "--device", "cpu"]) == 1
    assert "not ready: embeddings depend on batch mates" in capsys.readouterr().out
    shutil.rmtree(hubert)
    hubert.mkdir()
    assert main(["check-encoder", str(hubert)]) == 1
    assert "no config.json" in capsys.readouterr().err


def test_the_folded_weight_does_not_depend_on_the_number_of_threads():
    """As it would in single precision: a process that shares the machine has other numbers of threads than one alone.

    In processes of their own: after several threads have run, a process that is forked off, as other tests do, would hang.
    """
    code = """
import hashlib, torch
from arch_hf.embedding.fast.mixed_lengths import fold_weight_norm
torch.manual_seed(0)
conv = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(192, 192, 128, groups=16), dim=2)
plain = conv.weight.detach().clone()
fold_weight_norm(torch.nn.Sequential(conv))
torch.testing.assert_close(conv.weight.detach(), plain, rtol=1e-5, atol=0)
assert conv.weight.dtype == conv.bias.dtype == torch.float32
print(hashlib.sha256(conv.weight.detach().numpy().tobytes()).hexdigest())
"""
    command = [sys.executable, "-c", code]
    one, two = (
        subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": n}, capture_output=True, text=True, check=True
        ).stdout
        for n in "12"
    )
    assert one == two
