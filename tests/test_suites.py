"""Suites: the table that ships, files of one's own, and every row of it read from a Hub and evaluated."""

import csv
import hashlib
import importlib.util
import itertools
from importlib.resources import files

import datasets
import pyarrow as pa
import pytest
import raw_trees
import yaml
from datasets import Audio, ClassLabel, Dataset, Features, List, Value

from arch_hf.cli import main
from arch_hf.data import load_corpus
from arch_hf.data.suites import suite_dataset, suite_datasets, suite_names
from arch_hf.errors import UserError
from arch_hf.evaluate import evaluate_model
from arch_hf.probing.protocols import get_protocol
from arch_hf.probing.splits import plan_folds

# Of arch_hf/data/suites.csv. It changes with the table: then say in CHANGELOG.md which rows moved, and why.
DIGEST = "37798856ee69c6dd1711c1706448226874c567a6674293b943a62d22d2f2e810"
# Tasks whose dataset has a single split on the Hub, by the name of that split; all others have train and test.
ONE_SPLIT = dict.fromkeys(
    "AESDD CREMA_D CSTRVCTKAccentID CSTRVCTKGender IEMOCAPEmotion IEMOCAPGender LibriCount SpokeNEnglish VoxLingua107_Top10 MInDS14 "
    "VoxPopuliGenderID VoxPopuliLanguageID BeijingOpera BirdCLEF ESC50 GTZANGenre GunshotTriangulation MridinghamStroke MridinghamTonic "
    "TUTAcousticScenes UrbanSound8k".split(),
    "train",
) | dict.fromkeys(["SpokenQAForIC", "VoxCelebSA", "INatSounds", "VoxPopuliAccentID"], "test")
NUMBERS = ("target", "classID", "gender_id", "intent_class", "category", "instrument_source")
ROWS = tuple(csv.DictReader((files("arch_hf.data") / "suites.csv").read_text(encoding="utf-8").splitlines()))
NAMES = {row["name"]: row for row in ROWS}


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def suite_hub(hub, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    return hub


def first_name(row: dict) -> str:
    """The name of a row's dataset, of its first configuration where it has several."""
    return next(name for name in suite_datasets("mteb-audio") if name.split(":")[1] == row["name"])


def make_split(row: dict, n: int, seed: int) -> bytes:
    """A few clips in the shape of the row's dataset: its columns and the kind of its labels, as Parquet."""
    column, classes = row["label_column"], ["aa", "bb", "cc"]
    label, values = ClassLabel(names=classes), [i % 3 for i in range(n)]
    if row["without_labels"]:
        label, values = (
            Value("string"),
            list(itertools.islice(itertools.cycle([*classes, *row["without_labels"].split(";")]), n)),
        )
    elif row["task"] == "multi_label":
        label = List(label if column == "ebird_code_multilabel" else Value("string"))
        values = [[i % 3] if isinstance(label.feature, ClassLabel) else classes[: 1 + i % 3] for i in range(n)]
    elif column in NUMBERS:
        label = Value("int64")
    elif column not in ("label", "style"):
        label, values = Value("string"), [classes[i % 3] for i in range(n)]
    sounds = [raw_trees.sound(seed=seed + i, seconds=0.15) for i in range(n)]
    data = {
        row["audio_column"]: [{"bytes": sound, "path": f"{i}.wav"} for i, sound in enumerate(sounds)],
        column: values,
    }
    features = {row["audio_column"]: Audio(), column: label}
    for name, of in (("fold_column", lambda i: i // 3 % 3 + 1), ("group_column", lambda i: i)):
        if row[name]:
            data[row[name]], features[row[name]] = [of(i) for i in range(n)], Value("int64")
    features = Features(features)
    table = pa.Table.from_pydict(data, features.arrow_schema)
    out = pa.BufferOutputStream()
    pa.parquet.write_table(Dataset(table, info=datasets.DatasetInfo(features=features)).data.table, out)
    return out.getvalue().to_pybytes()


def on_hub(hub, rows=ROWS, revision=None, skip_config=False) -> None:
    """A small dataset for each row, at the row's commit."""
    import pyarrow.parquet  # noqa: F401

    for row in rows:
        splits = dict(part.split("=") for part in row["splits"].split(",")) if row["splits"] else {}
        names = (
            [*splits.values()] or [ONE_SPLIT[row["name"]]]
            if row["name"] in ONE_SPLIT
            else [*splits.values()] or ["train", "test"]
        )
        content = {name: make_split(row, 15, 20 * i + len(row["name"])) for i, name in enumerate(names)}
        configs = row["configs"].split()[int(skip_config) :] or ["default"]
        paths, card = {}, []
        for config in configs[:2]:
            card.append(
                {"config_name": config, "data_files": [{"split": s, "path": f"{config}/{s}.parquet"} for s in content]}
            )
            paths |= {f"{config}/{split}.parquet": data for split, data in content.items()}
        paths["README.md"] = f"---\n{yaml.safe_dump({'configs': card})}---\n".encode()
        sha = revision or row["revision"]
        repo = hub.repos.get(("datasets", row["id"])) or hub.create("datasets", row["id"])
        repo.commits[sha] = {**repo.commits.get(sha, {}), **paths}
        repo.refs["main"] = sha


def test_the_table_is_the_one_that_was_checked():
    content = (files("arch_hf.data") / "suites.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGEST
    assert len(ROWS) == 50 and sum("maeb" in row["suites"].split() for row in ROWS) == 12
    for row in ROWS:
        assert len(row["revision"]) == 40 and set(row["revision"]) <= set("0123456789abcdef")
        assert (row["task"], row["metric"]) in (("single_label", "accuracy"), ("multi_label", "map_macro"))


@pytest.mark.skipif(importlib.util.find_spec("mteb") is None, reason="the extra mteb is not installed")
def test_the_facts_are_those_of_mtebs_own_tasks():
    import mteb

    kinds = {"AudioClassification": "single_label", "AudioMultilabelClassification": "multi_label"}
    tasks = mteb.get_tasks(task_types=list(kinds), exclude_superseded=False, exclude_beta=False)
    maeb = {
        task.metadata.name for name in ("MAEB(v1)", "MAEB(v1, audio-only)") for task in mteb.get_benchmark(name).tasks
    }
    # mteb makes these labels from another column as it loads, or renames it.
    made = {"IEMOCAPEmotion": "major_emotion", "IEMOCAPGender": "gender", "VoxPopuliGenderID": "gender"}
    made["BirdSet"] = "ebird_code_multilabel"
    assert {task.metadata.name for task in tasks} == set(NAMES)
    for task in tasks:
        row, metadata = NAMES[task.metadata.name], task.metadata
        configs = list(metadata.eval_langs) if metadata.is_multilingual else [metadata.dataset.get("name") or ""]
        assert (row["id"], row["revision"]) == (metadata.dataset["path"], metadata.dataset["revision"])
        assert row["configs"].split() == [config for config in configs if config]
        assert row["audio_column"] == task.input_column_name
        assert row["label_column"] == made.get(metadata.name, task.label_column_name)
        assert row["task"] == kinds[metadata.type] and row["licence"] == (metadata.license or "not specified")
        assert ("maeb" in row["suites"].split()) == (metadata.name in maeb)


def test_every_row_loads_from_the_hub_and_is_evaluated(suite_hub, tmp_path):
    on_hub(suite_hub)
    names = [first_name(row) for row in ROWS]
    for name, row in zip(names, ROWS, strict=True):
        data = load_corpus(name)
        assert (data.id, data.revision, data.suite) == (row["id"], row["revision"], name)
        assert (data.corpus.task, data.corpus.domain, data.corpus.licence) == (
            row["task"],
            row["domain"],
            row["licence"],
        )
        assert data.class_names() == (["0", "1", "2"] if row["label_column"] in NUMBERS else ["aa", "bb", "cc"])
        folds = plan_folds(get_protocol("strict"), data.corpus, data.table, data.targets())
        official = 3 if row["fold_column"] else 5 if row["name"] in ONE_SPLIT else 1
        assert len(folds) == official, name
    options = {
        "protocol": "strict",
        "seeds": 1,
        "output_dir": str(tmp_path / "out"),
        "cache_dir": str(tmp_path / "cache"),
    }
    results = evaluate_model("logmel", names, **options)
    assert [result.corpus for result in results] == names
    assert all(result.complete and result.dataset.id == row["id"] for result, row in zip(results, ROWS, strict=True))
    written = sorted(path.name for path in (tmp_path / "out/logmel").glob("*.json"))
    assert len(written) == 50 and "mteb-audio__ESC50.strict.json" in written
    arch_v1 = evaluate_model("logmel", names[:2], **options | {"protocol": "arch-v1"})
    assert [result.protocol["max_seconds"] for result in arch_v1] == [1.0, 1.0]


def test_clips_of_labels_that_a_row_leaves_out_are_not_there_and_a_note_says_so(suite_hub):
    on_hub(suite_hub, [NAMES["VoxCelebSA"]])
    data = load_corpus("mteb-audio:VoxCelebSA")
    assert data.class_names() == ["aa", "bb", "cc"] and len(data) < 15
    assert any("left out for their label (Disagreement)" in note for note in data.notes)


def test_a_suite_and_its_datasets_have_names(suite_hub, tmp_path, capsys):
    assert set(suite_datasets("maeb")) < set(suite_datasets("mteb-audio"))
    found = suite_dataset("mteb-audio:SIBFLEURS:zul_Latn")
    assert (found.row.id, found.config) == ("mteb/sib-fleurs-multilingual-mini", "zul_Latn")
    assert suite_dataset("mteb-audio:BirdSet").config == "HSN"
    assert suite_dataset("esc50") is suite_dataset("user/birds") is None
    with pytest.raises(UserError, match="did you mean mteb-audio:ESC50"):
        suite_dataset("mteb-audio:ESC-50")
    assert main(["list", "suites"]) in (0, None)
    printed = capsys.readouterr().out
    assert all(name in printed for name in suite_names()) and "and 157 more" in printed
    on_hub(suite_hub, [NAMES["FSDD"]])
    with pytest.raises(UserError, match="mteb-audio:FSDD says itself what is read: leave out label_column"):
        load_corpus("mteb-audio:FSDD", label_column="label")


def test_what_is_not_as_the_table_says_is_one_line(suite_hub, tmp_path, capsys):
    command = [
        "evaluate",
        "--model_id",
        "logmel",
        "--protocol",
        "strict",
        "--output_dir",
        "out",
        "--cache_dir",
        "cache",
    ]

    def line(name: str) -> str:
        assert main([*command, "--datasets", name]) == 1
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert name in error and len(error) < 600
        return error

    on_hub(suite_hub, [NAMES["ESC50"]], revision="1" * 40)
    assert NAMES["ESC50"]["revision"] in line("mteb-audio:ESC50")
    on_hub(suite_hub, [NAMES["GTZANGenre"] | {"label_column": "genre"}])
    assert "--label_column label: no such column" in line("mteb-audio:GTZANGenre")
    on_hub(suite_hub, [NAMES["MInDS14"]], skip_config=True)
    assert "en-GB" in line("mteb-audio:MInDS14:en-GB")
    on_hub(suite_hub, [NAMES["BeijingOpera"] | {"task": "multi_label", "label_column": "label"}])
    assert "is single label, but what is read from mteb/beijing-opera is multi label" in line("mteb-audio:BeijingOpera")


def test_a_file_of_ones_own(suite_hub, tmp_path, capsys):
    on_hub(suite_hub, [NAMES["FSDD"], NAMES["ESC50"]])
    suite = tmp_path / "mine.csv"
    suite.write_text(
        "id,name,label_column,domain\nmteb/free-spoken-digit-dataset,digits,,speech\nmteb/esc50,,target,events\n"
    )
    assert suite_datasets("mine.csv") == ("mine.csv:digits", "mine.csv:mteb/esc50")
    data = load_corpus("mine.csv:digits")
    assert (data.corpus.domain, data.suite, data.class_names()) == ("speech", "mine.csv:digits", ["aa", "bb", "cc"])
    command = [
        "evaluate",
        "--model_id",
        "logmel",
        "--protocol",
        "strict",
        "--output_dir",
        "out",
        "--cache_dir",
        "cache",
    ]
    assert main([*command, "--suite", "mine.csv"]) == 0
    assert "mine.csv:digits" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("name\nbirds\n", "line 2 has no id"),
        ("id,colour\nme/birds,red\n", "has a column 'colour'"),
        ("id,task\nme/birds,regression\n", "line 2: task is 'regression'; choose of single_label, multi_label"),
        ("id,domain\nme/birds,nature\n", "line 2: domain is 'nature'"),
        ("id\nme/birds\nme/birds\n", "line 3: there are two rows of the name me/birds"),
        ("id,name\nme/birds\n", "line 2 has not as many fields"),
        ('id\n"me/birds\n', "unexpected end of data"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, text, wrong):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(UserError) as error:
        suite_datasets("mine.csv")
    assert str(error.value).startswith("mine.csv") and wrong in str(error.value)


def test_no_file_and_no_text_are_named(tmp_path):
    with pytest.raises(UserError, match=r"--suite none.csv cannot be read \(No such file"):
        suite_datasets("none.csv")
    (tmp_path / "mine.csv").write_bytes(b"id\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"mine.csv is no text in UTF-8"):
        suite_datasets("mine.csv")
