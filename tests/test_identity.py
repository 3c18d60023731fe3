"""What a number depends on: one row for each thing that can change.

Either nothing that is computed changes to the last bit, or the name under which it is kept does. All rows, one after the other on one cache and in one
folder of results, give what each gives on fresh ones.
"""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetInfo
from ranks import rank
from safetensors.numpy import load_file
from tiny_models import make_tiny

from arch_hf.audio import encode_wav
from arch_hf.data import CorpusData, load_corpus
from arch_hf.data.clip_index import ClipIndex
from arch_hf.data.spec import ClipTable
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding import encoder as encoder_module
from arch_hf.embedding.corpus import embed_corpus
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.store import store_name
from arch_hf.evaluate import evaluate_corpus
from arch_hf.files import audio_digest
from arch_hf.job import Job
from arch_hf.names import public_name
from arch_hf.probing import protocols
from arch_hf.probing.record import Score
from arch_hf.results.answer import predictions_path
from arch_hf.results.folder import result_paths
from arch_hf.results.question import Question
from arch_hf.results.result import DatasetFacts, ModelFacts, Result

CODE = """from transformers import HubertConfig, HubertModel


class MyConfig(HubertConfig):
    model_type = "mine"


class MyModel(HubertModel):
    config_class = MyConfig

    def forward(self, *inputs, **options):
        out = super().forward(*inputs, **{**options, "return_dict": True})
        out.last_hidden_state = FUNCTION
        return out
"""


@dataclass(frozen=True)
class Row:
    """One thing that differs from the plain case of its family: files of the checkpoint, or how it is loaded or asked."""

    family: str = "hubert"
    config: dict = None  # type: ignore[assignment]
    extractor: dict = None  # type: ignore[assignment]
    edit: Callable[[Path], None] | None = None
    dtype: str | None = None
    attention: str | None = None
    precision: str = "highest"
    padding: str = "none"
    max_seconds: float = 30.0
    layers: str = "last"
    seed: int = 0
    matters: bool | None = (
        True  # whether the vectors are others than in the plain case; None: in the last digits, maybe
    )


def own_code(function: str, labels=("a", "b")):
    """A checkpoint of the same weights that brings its own code."""

    def edit(folder: Path) -> None:
        (folder / "mine.py").write_text(CODE.replace("FUNCTION", function))
        auto_map = {"AutoConfig": "mine.MyConfig", "AutoModel": "mine.MyModel"}
        edit_json(folder / "config.json", model_type="mine", architectures=["MyModel"], auto_map=auto_map)
        edit_json(folder / "config.json", id2label=dict(enumerate(labels)))

    return edit


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def as_pickle(folder: Path) -> None:
    from safetensors.torch import load_file as load_torch

    torch.save(load_torch(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def no_effect(**config):
    return Row(config=config, matters=False)


ROWS = {
    # what belongs to a checkpoint, family by family
    "hubert": Row(matters=False),
    "hubert: conv_stride": Row(config={"conv_stride": [5, 2, 2, 2, 2, 2, 1]}),
    "hubert: feat_extract_activation": Row(config={"feat_extract_activation": "relu"}),
    "hubert: hidden_act": Row(config={"hidden_act": "relu"}),
    "hubert: layer_norm_eps": Row(config={"layer_norm_eps": 0.5}),
    "hubert: do_stable_layer_norm": Row(config={"do_stable_layer_norm": True}),
    "hubert: num_attention_heads": Row(config={"num_attention_heads": 4}),
    "hubert: layerdrop": no_effect(layerdrop=0.5),
    "hubert: mask_time_prob": no_effect(mask_time_prob=0.9),
    "hubert: vocab_size": no_effect(vocab_size=99),
    "hubert: architectures": no_effect(architectures=["HubertForCTC"]),
    "hubert: id2label": no_effect(id2label={"0": "cat"}, label2id={"cat": 0}),
    "hubert: transformers_version": no_effect(transformers_version="4.1.0"),
    "hubert: torch_dtype": no_effect(torch_dtype="float16"),
    "hubert: weights": Row(seed=1),
    "hubert: weights as pickle": Row(edit=as_pickle, matters=False),
    "hubert: do_normalize": Row(extractor={"do_normalize": False}),
    "hubert: padding_value": Row(extractor={"padding_value": 0.7}, padding="max_length", max_seconds=0.5),
    "hubert: return_attention_mask": Row(extractor={"return_attention_mask": True}, padding="max_length", max_seconds=0.5),
    "hubert: sampling_rate": Row(extractor={"sampling_rate": 8000}),
    "hubert: own code": Row(edit=own_code("out.last_hidden_state"), matters=None),
    "hubert: other own code": Row(edit=own_code("out.last_hidden_state.abs()")),
    "hubert: labels of own code": Row(edit=own_code("out.last_hidden_state", labels=("b", "a")), matters=None),
    "wav2vec2": Row("wav2vec2", matters=False),
    "wav2vec2: feat_extract_activation": Row("wav2vec2", config={"feat_extract_activation": "silu"}),
    "wav2vec2: layer_norm_eps": Row("wav2vec2", config={"layer_norm_eps": 0.5}),
    "wavlm": Row("wavlm", matters=False),
    "wavlm: max_bucket_distance": Row("wavlm", config={"max_bucket_distance": 200}, matters=None),
    "wavlm: hidden_act": Row("wavlm", config={"hidden_act": "silu"}),
    "whisper": Row("whisper", matters=False),
    "whisper: activation_function": Row("whisper", config={"activation_function": "relu"}),
    "whisper: encoder_attention_heads": Row("whisper", config={"encoder_attention_heads": 4}),
    "whisper: decoder_attention_heads": Row("whisper", config={"decoder_attention_heads": 4}, matters=False),
    "whisper: n_fft": Row("whisper", extractor={"n_fft": 200}),
    "whisper: padding_value": Row("whisper", extractor={"padding_value": 0.3}),
    "ast": Row("ast", matters=False),
    "ast: hidden_act": Row("ast", config={"hidden_act": "relu"}),
    "ast: mean": Row("ast", extractor={"mean": -1.0}),
    "ast: std": Row("ast", extractor={"std": 2.0}),
    "ast: do_normalize": Row("ast", extractor={"do_normalize": False}),
    "wav2vec2-bert": Row("wav2vec2-bert", matters=False),
    "wav2vec2-bert: hidden_act": Row("wav2vec2-bert", config={"hidden_act": "relu"}),
    "wav2vec2-bert: layer_norm_eps": Row("wav2vec2-bert", config={"layer_norm_eps": 0.5}),
    "wav2vec2-bert: padding_value": Row("wav2vec2-bert", extractor={"padding_value": 0.5}, padding="max_length", max_seconds=0.5),
    # how it is asked
    "dtype": Row(dtype="bfloat16"),
    "attn_implementation": Row(attention="eager"),
    "products of float32": Row(precision="medium", matters=None),  # not on every processor
    "padding": Row(padding="max_length", max_seconds=0.5),
    "max_seconds": Row(max_seconds=0.3),
    "padding alone": Row(padding="max_length", max_seconds=0.3),
    "max_seconds of padding": Row(padding="max_length", max_seconds=0.4),
    "layers": Row(layers="all", matters=False),
}  # fmt: skip


def noise(seconds: float, seed: int) -> bytes:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(16000 * seconds))
    return encode_wav(samples.astype(np.float32), 16000)


CLIPS = [noise(0.25 + 0.07 * (seed % 2), seed) for seed in range(3)]


@pytest.fixture(scope="module")
def load_row(tmp_path_factory):
    """The encoder of a row, from a folder of its own."""
    made = {}
    root = tmp_path_factory.mktemp("checkpoints")

    def load(row: Row) -> AudioEncoder:
        if (row.family, row.seed) not in made:
            made[row.family, row.seed] = make_tiny(row.family, root / f"{row.family}{row.seed}", row.seed)
        folder = root / f"variant{len(list(root.iterdir()))}"
        shutil.copytree(made[row.family, row.seed], folder)
        if row.config:
            edit_json(folder / "config.json", **row.config)
        if row.extractor:
            edit_json(folder / "preprocessor_config.json", **row.extractor)
        if row.edit:
            row.edit(folder)
        with pytest.MonkeyPatch.context() as patch:
            if row.attention:
                load_plain = encoder_module.load

                def load_other(*arguments):
                    loaded = load_plain(*arguments)
                    loaded.model.set_attn_implementation(row.attention)
                    return loaded

                patch.setattr(encoder_module, "load", load_other)
            return AudioEncoder.from_pretrained(str(folder), dtype=row.dtype, trust_remote_code=row.edit is not None)

    return load


def embed(row: Row, encoder: AudioEncoder, cache: Path) -> tuple[str, np.ndarray]:
    """The name of the row's store, and its vectors of the last layer."""
    index = ClipIndex([audio_digest(clip) for clip in CLIPS], np.array([len(clip) / 32000 for clip in CLIPS]))
    corpus = SimpleNamespace(audio=CLIPS.__getitem__, index=index, order=None, table=CLIPS)
    settings = EmbedSettings(cache, row.padding, row.max_seconds, row.layers)
    torch.set_float32_matmul_precision(row.precision)
    try:
        found = embed_corpus(encoder, corpus, settings, rank())
        return store_name(settings.key(encoder)), found.read(-1)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_either_the_vectors_are_the_same_or_their_name_differs(load_row, tmp_path):
    assert len(ROWS) >= 40
    encoders = {name: load_row(row) for name, row in ROWS.items()}
    fresh = {name: embed(row, encoders[name], tmp_path / f"cache of {i}") for i, (name, row) in enumerate(ROWS.items())}
    for number in range(2):  # written, and then read
        for name, row in ROWS.items():
            key, vectors = embed(row, encoders[name], tmp_path / "one cache")
            np.testing.assert_array_equal(vectors, fresh[name][1], err_msg=f"{name}, pass {number}")
            assert key == fresh[name][0]
    names = list(ROWS)
    for i, one in enumerate(names):
        for other in names[:i]:
            if fresh[one][0] == fresh[other][0]:
                np.testing.assert_array_equal(
                    fresh[one][1], fresh[other][1], err_msg=f"{one} and {other} have one name"
                )
    for name, row in ROWS.items():
        plain = fresh[row.family][1]
        same = plain.shape == fresh[name][1].shape and np.array_equal(plain, fresh[name][1])
        assert same != row.matters, (
            f"{name}: the vectors are {'the same' if same else 'others'}, against what the row says"
        )
    # and a name does not change where it need not: nothing is encoded twice for it
    shared = {name for name in names if fresh[name][0] == fresh["hubert"][0]}
    assert shared == {
        "hubert", "hubert: architectures", "hubert: id2label", "hubert: transformers_version", "hubert: torch_dtype",
        "hubert: weights as pickle",
    }  # fmt: skip


class Data:
    """A small corpus and its variations, in memory."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.plain = load_corpus("synthetic_speech", limit=4)
        self.rows = self.plain.clips.to_list()

    def corpus(self, change: Callable[[list[dict]], None] | None = None, names=None, **facts) -> CorpusData:
        """The corpus with its rows changed, the names of its classes, or facts of it."""
        table = self.plain.table
        rows = [{**row, "split": split} for row, split in zip(copy.deepcopy(self.rows), table.split, strict=True)]
        if change:
            change(rows)
        splits = [row.pop("split") for row in rows]
        features = self.plain.clips.features.copy()
        if names:
            features["label"] = ClassLabel(names=names)
        clips = Dataset(pa.Table.from_pylist(rows, schema=features.arrow_schema), DatasetInfo(features=features))
        new_table = ClipTable(
            [row["clip_id"] for row in rows], splits, [row["group"] for row in rows], table.arch_v1_split
        )
        return replace(self.plain, clips=clips, table=new_table, **facts).measured(self.folder)


def swap(key: str, one: int, other: int):
    def change(rows):
        rows[one][key], rows[other][key] = rows[other][key], rows[one][key]

    return change


def put(key: str, index: int, value):
    def change(rows):
        rows[index][key] = value

    return change


def other_bytes(rows):
    rows[3]["audio"]["bytes"] = noise(0.4, 99)


def of_class(rows, label: int) -> int:
    """The first clip of another class than the first one's in its split."""
    return next(i for i, row in enumerate(rows) if row["label"] != label and row["split"] == rows[0]["split"])


def other_order(rows):
    rows[0], rows[1] = rows[1], rows[0]


def other_labels(rows):
    i = of_class(rows, rows[0]["label"])
    rows[0]["label"], rows[i]["label"] = rows[i]["label"], rows[0]["label"]


# What differs from the plain question: (the job's fields, the data, the encoder's row, what is patched).
QUESTIONS = {
    "plain": {},
    "protocol": {"job": {"protocol": "strict"}},
    "layer 0": {"layers": [0]},
    "layers 0 and last": {"layers": [0, -1]},
    "seeds": {"job": {"seeds": 2}},
    "limit": {"job": {"limit": 4}},
    "probe knn": {"job": {"probe": "knn"}},
    "probe weighted_sum": {"job": {"probe": "weighted_sum"}},
    "shots": {"job": {"shots": (1,)}},
    "other shots": {"job": {"shots": (2,)}},
    "revision by name": {"job": {"revision": "main"}},
    "named column": {"job": {"dataset_options": {"label_column": "label"}}},
    "bytes of a clip": {"change": other_bytes},
    "labels of two clips": {"change": other_labels},
    "order of two clips": {"change": other_order},
    "split of a clip": {"change": lambda rows: put("split", 0, rows[-1]["split"])(rows)},
    "group of a clip": {"change": put("group", 0, "somebody else")},
    "id of a clip": {"change": put("clip_id", 0, "renamed")},
    "a clip less": {"change": lambda rows: rows.pop()},
    "a clip twice": {"change": lambda rows: rows.append({**rows[0], "clip_id": "again", "split": rows[-1]["split"]})},
    "class names": {"names": "reversed"},
    "id of the dataset": {"facts": {"id": "me/speech"}},
    "config of the dataset": {"facts": {"config": "small"}},
    "revision of the dataset": {"facts": {"revision": "f" * 40}, "same_as": "plain"},
    "weights": {"encoder": Row(seed=1)},
    "epsilon": {"encoder": Row(config={"layer_norm_eps": 0.5})},
    "dtype": {"encoder": Row(dtype="bfloat16")},
    "attention": {"encoder": Row(attention="eager")},
    "code": {"encoder": Row(edit=own_code("out.last_hidden_state.abs()"))},
    "weights as pickle": {"encoder": Row(edit=as_pickle), "same_as": "plain"},
    "version of the protocol": {"patch": ("arch_hf.probing.protocols.PROTOCOLS", "version")},
    "version of the scoring": {"patch": ("arch_hf.results.question.SCORING_VERSION", 99)},
    "version of the pooling": {"patch": ("arch_hf.embedding.encoder.POOLING_VERSION", 99)},
    "decoder": {"patch": ("arch_hf.embedding.key.DECODER", "another")},
    "baseline": {"baseline": "d" * 64},
    "other baseline": {"baseline": "e" * 64},
}  # fmt: skip


@pytest.fixture(scope="module")
def ask_row(load_row, tmp_path_factory):
    """What a row of QUESTIONS gives with this cache and this folder of results: the result of each layer, and their predictions."""
    data, encoders = Data(tmp_path_factory.mktemp("data")), {}

    def ask(name: str, folder: Path) -> dict[int, tuple]:
        row = QUESTIONS[name]
        fields = {
            "seeds": 1,
            "model_id": "me/model",
            "output_dir": str(folder / "results"),
            "cache_dir": str(folder / "cache"),
        }
        job = Job(**fields | row.get("job", {}))
        checkpoint = row.get("encoder", Row())
        if name not in encoders:
            encoders[name] = encoders["plain"] if "plain" in encoders and "encoder" not in row else load_row(checkpoint)
            encoders[name].model_id = "me/model"
        names = [*reversed(data.plain.class_names())] if row.get("names") else None
        corpus = data.corpus(row.get("change"), names, **row.get("facts", {}))
        baseline = None
        if "baseline" in row:
            mean = Score(mean=0.5)
            baseline = SimpleNamespace(identity=row["baseline"], metrics={"accuracy": mean})
        with pytest.MonkeyPatch.context() as patch:
            where, value = row.get("patch", (None, None))
            if value == "version":
                patch.setitem(protocols.PROTOCOLS, "arch-v1", replace(protocols.PROTOCOLS["arch-v1"], version="99.0"))
            elif where:
                patch.setattr(where, value)
            run = evaluate_corpus(job, encoders[name], corpus, row.get("layers", [-1]), rank(), baseline)
        assert not [line for line in run.notes if "was changed" in line]
        files = zip(run.results, run.paths, strict=True)
        return {result.layer: (result, load_file(predictions_path(path))) for result, path in files}

    return ask


def numbers(result: Result) -> dict:
    """All of a result that must not depend on what was there before it."""
    return {key: value for key, value in result.to_dict().items() if key not in ("timing", "environment", "created")}


def test_all_questions_in_one_folder_get_the_answers_of_fresh_ones(ask_row, tmp_path):
    fresh = {name: ask_row(name, tmp_path / f"fresh{i}") for i, name in enumerate(QUESTIONS)}
    identities = {name: tuple(result.identity for result, _ in answers.values()) for name, answers in fresh.items()}
    for name, row in QUESTIONS.items():
        others = [other for other in QUESTIONS if other != name and identities[other] == identities[name]]
        allowed = {
            "plain",
            "revision by name",
            "named column",
            "revision of the dataset",
            "weights as pickle",
            "id of the dataset",
            "config of the dataset",
        }
        assert set(others) | {name} <= allowed if others else "same_as" not in row, (
            f"{name} has the identity of {others}"
        )
    one, expected = tmp_path / "one", set()
    for names in (list(QUESTIONS), list(reversed(QUESTIONS))):
        for name in names:
            for layer, (result, predictions) in ask_row(name, one).items():
                right, scores = fresh[name][layer]
                found, wanted = numbers(result), numbers(right)
                for block in (found, wanted):
                    block["dataset"] = {**block["dataset"], "revision": None}
                    block.pop("layer_curve") if name in (
                        "layer 0",
                        "plain",
                    ) else None  # another run's curve over more layers stays
                    block.pop("predictions_sha256")
                assert found == wanted, name
                # a clip that had other neighbours in its batch may differ in the last digit of float32
                np.testing.assert_allclose(predictions["scores"], scores["scores"], rtol=1e-4, atol=1e-5, err_msg=name)
                expected.add((result.identity, result.model.id, result.dataset.id))
    kept = [Result.read(path) for path in (one / "results").rglob("*.json")]
    assert {(result.identity, result.model.id, result.dataset.id) for result in kept} == expected, "a result was lost"
    assert len(result_paths(one)) < len(kept), "the questions that share a name are kept apart"


def question(
    model="me/model", dataset="arch/esc50", config=None, protocol="arch-v1", layer=-1, limit=None, asked=()
) -> Question:
    facts = DatasetFacts(id=dataset, config=config, task="single_label", n_clips=9, limit=limit)
    block = {"name": protocol}
    return Question(model=ModelFacts(id=model), dataset=facts, protocol=block, layer=layer, embedding={}, asked=asked)


def test_names_say_what_was_asked_and_never_meet():
    long = "x" * 300
    questions = [
        question(), question("a/b__c"), question("a__b/c"), question("a__b__c"), question(long), question(long + "y"), question("Ünï/cödé"),
        question("a b/c"), question("../up"), question(dataset="me/birds"), question(dataset="me__birds"), question(dataset="me/birds.strict"),
        question(dataset="me/birds", protocol="strict"), question(dataset="me/birds", config="strict"), question(dataset="me/birds", layer=3),
        question(dataset="me/birds.layer3"), question(dataset="me/birds", limit=10), question(dataset="me/birds", asked=("limit10",) * 2),
        question(dataset=long), question(dataset=long, asked=("bfloat16",)), question(asked=(f"label-{long}",)), question(asked=(f"label-{long}y",)),
        question(asked=("rev-refs/pr/1",)), question(asked=("rev-refs__pr__1",)), question(dataset="./arch/esc50"), question(dataset="esc50/"),
    ]  # fmt: skip
    paths = [q.path("results").as_posix() for q in questions]
    assert paths[0] == "results/me__model/esc50.json"
    assert len(set(paths)) == len(paths) - 1 and paths[-1] == paths[0]
    for path in paths:
        _, model, name = path.split("/")
        assert (
            len(model.encode()) <= 255
            and len(f".{name.removesuffix('.json')}.predictions.safetensors.12345678.tmp".encode()) <= 255
        )
        assert not {model, name} & {".", ".."} and not model.startswith(".") and not name.startswith(".")


def test_one_folder_has_one_name_however_it_is_written(tmp_path, monkeypatch):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert {
        public_name(name) for name in ("models/mine", "./models/mine", "models/mine/", tmp_path / "models/mine")
    } == {"models/mine"}
    monkeypatch.chdir(tmp_path / "models/mine")
    assert public_name("x" * 300) == "x" * 300  # longer than any folder's name
    elsewhere = {public_name(name) for name in (".", "../mine", str(tmp_path / "models/mine"))}
    assert (
        len(elsewhere) == 1 and next(iter(elsewhere)).startswith("mine-") and str(tmp_path) not in next(iter(elsewhere))
    )
