"""Suites: the table that ships, files of one's own, and every row of it read from a Hub and evaluated."""

import csv
import hashlib
import importlib.util
import os
from importlib.resources import files as shipped
from itertools import cycle, islice

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import raw_trees
import yaml
from datasets import Audio, ClassLabel, Dataset, Features, List, Value

from arch_hf.cli import main
from arch_hf.data import load_corpus
from arch_hf.data.suites import SuiteRow, suite_dataset, suite_datasets, suite_names
from arch_hf.errors import UserError
from arch_hf.evaluate import evaluate_model
from arch_hf.probing.protocols import get_protocol
from arch_hf.probing.splits import plan_folds
from arch_hf.results.folder import read_results

# Of arch_hf/data/suites.csv. It changes with the table: then say in CHANGELOG.md which rows moved, and why.
DIGEST = "c46afc9cf0efd9d424deb92726c539be1d3102442e5916ff8507aff25b808054"
# Tasks whose dataset has a single split on the Hub, by the name of that split; all others have train and test.
ONE_SPLIT = dict.fromkeys(
    "AESDD CREMA_D CSTRVCTKAccentID CSTRVCTKGender IEMOCAPEmotion IEMOCAPGender LibriCount SpokeNEnglish VoxLingua107_Top10 MInDS14 "
    "VoxPopuliGenderID VoxPopuliLanguageID BeijingOpera BirdCLEF ESC50 GTZANGenre GunshotTriangulation MridinghamStroke MridinghamTonic "
    "TUTAcousticScenes UrbanSound8k".split(),
    "train",
) | dict.fromkeys(["SpokenQAForIC", "VoxCelebSA", "INatSounds", "VoxPopuliAccentID"], "test")
NUMBERS = ("target", "classID", "gender_id", "intent_class", "category", "instrument_source")
ROWS = tuple(csv.DictReader((shipped("arch_hf.data") / "suites.csv").read_text(encoding="utf-8").splitlines()))
NAMES = {row["name"]: row for row in ROWS}
EVALUATE = "evaluate --model_id logmel --protocol strict --output_dir out --cache_dir cache".split()


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def suite_hub(hub, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    return hub


def suite_row(row: dict) -> SuiteRow:
    return suite_dataset(first_name(row)).row


def first_name(row: dict) -> str:
    """The name of a row's dataset, of its first configuration where it has several."""
    return next(name for name in suite_datasets("mteb-audio") if name.split(":")[1] == row["name"])


def label_column(row: dict, n: int) -> tuple:
    """The kind and the values of a row's labels, of three classes."""
    classes = ["aa", "bb", "cc"]
    if row["task"] == "multi_label" and row["label_column"] == "ebird_code_multilabel":
        return List(ClassLabel(names=classes)), [[i % 3] for i in range(n)]
    if row["name"] == "FSD50K":  # one text, as the corpus's csv has it
        return Value("string"), [",".join(classes[: 1 + i % 3]) for i in range(n)]
    if row["task"] == "multi_label":
        return List(Value("string")), [classes[: 1 + i % 3] for i in range(n)]
    if row["without_labels"]:
        return Value("string"), list(islice(cycle([*classes, *row["without_labels"].split(";")]), n))
    if row["label_column"] in NUMBERS:
        return Value("int64"), [i % 3 for i in range(n)]
    if row["label_column"] in ("label", "style"):
        return ClassLabel(names=classes), [i % 3 for i in range(n)]
    return Value("string"), [classes[i % 3] for i in range(n)]


def make_split(rows: list[dict], n: int, seed: int) -> bytes:
    """A few clips in the shape of the dataset of these rows, with the columns and the kinds of labels of all of them, as Parquet."""
    sounds = [raw_trees.sound(seed=seed + i, seconds=0.15) for i in range(n)]
    audio = rows[0]["audio_column"]
    data = {audio: [{"bytes": sound, "path": f"{i}.wav"} for i, sound in enumerate(sounds)]}
    features = {audio: Audio()}
    for row in rows:
        features[row["label_column"]], data[row["label_column"]] = label_column(row, n)
        for name, of in (("fold_column", lambda i: i // 3 % 3 + 1), ("group_column", lambda i: i)):
            if row[name]:
                data[row[name]], features[row[name]] = [of(i) for i in range(n)], Value("int64")
    table = pa.Table.from_pydict(data, Features(features).arrow_schema)
    out = pa.BufferOutputStream()
    pq.write_table(Dataset(table, info=datasets.DatasetInfo(features=Features(features))).data.table, out)
    return out.getvalue().to_pybytes()


def on_hub(hub, rows=ROWS, revision=None, skip_config=False) -> None:
    """A small dataset for each row, at the row's commit; rows of one dataset together."""
    by_id: dict[str, list[dict]] = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row)
    for number, (repo_id, of_one) in enumerate(by_id.items()):
        row = of_one[0]
        if row["splits"]:
            names = [part.partition("=")[2] for part in row["splits"].split(",")]
        else:
            names = [ONE_SPLIT[row["name"]]] if row["name"] in ONE_SPLIT else ["train", "test"]
        content = {name: make_split(of_one, 15, 100 * number + 20 * i) for i, name in enumerate(names)}
        files, configs = {}, []
        for config in (row["configs"].split()[int(skip_config) :] or ["default"])[:2]:
            paths = [{"split": split, "path": f"{config}/{split}.parquet"} for split in content]
            configs.append({"config_name": config, "data_files": paths})
            files |= {f"{config}/{split}.parquet": data for split, data in content.items()}
        files["README.md"] = f"---\n{yaml.safe_dump({'configs': configs})}---\n".encode()
        repo, sha = hub.create("datasets", repo_id), revision or row["revision"]
        repo.commits[sha] = files
        repo.refs["main"] = sha


def test_the_table_is_the_one_that_was_checked():
    content = (shipped("arch_hf.data") / "suites.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGEST
    assert len(ROWS) == 50 and sum("maeb" in row["suites"] for row in ROWS) == 12
    for row in ROWS:
        assert len(row["revision"]) == 40 and set(row["revision"]) <= set("0123456789abcdef")
        assert (row["task"], row["metric"]) in (("single_label", "accuracy"), ("multi_label", "map_macro"))


@pytest.mark.skipif(importlib.util.find_spec("mteb") is None, reason="the extra mteb is not installed")
def test_the_facts_are_those_of_mtebs_own_tasks():
    import mteb

    kinds = {"AudioClassification": "single_label", "AudioMultilabelClassification": "multi_label"}
    tasks = mteb.get_tasks(task_types=list(kinds), exclude_superseded=False, exclude_beta=False)
    benchmarks = [mteb.get_benchmark(name) for name in ("MAEB(v1)", "MAEB(v1, audio-only)")]
    maeb = {task.metadata.name: task.hf_subsets for benchmark in benchmarks for task in benchmark.tasks}
    # The splits that mteb trains and tests on, where these are not train and test, or one split of its own (folds, or the same clips twice).
    by_hand = {"VocalSound": ("val", "test"), "BirdSet": ("train", "test_5s")}
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
        taken = suite_row(row).configs_in("maeb")
        assert [config for config in taken if config] == (
            [*maeb.get(metadata.name, ())] if metadata.is_multilingual else []
        )
        assert bool(taken) == (metadata.name in maeb)
        trained, (tested,) = task.train_split, metadata.eval_splits
        if metadata.name in by_hand:
            assert (
                row["splits"] == "train={},test={}".format(*by_hand[metadata.name])
                and tested == by_hand[metadata.name][1]
            )
        elif metadata.name != "SIBFLEURS":  # has its authors' splits, of which mteb deals train to folds
            one_split = metadata.name in ONE_SPLIT
            assert (trained, tested) == (tested, tested) if one_split else (trained, tested) == ("train", "test")
            assert task.is_cross_validation == one_split or metadata.name.startswith("CSTRVCTK")


def test_every_row_loads_from_the_hub_as_it_says(suite_hub):
    on_hub(suite_hub)
    for row in ROWS:
        name = first_name(row)
        data = load_corpus(name)
        assert (data.id, data.revision, data.suite) == (row["id"], row["revision"], name)
        facts = data.corpus
        assert (facts.task, facts.domain, facts.licence) == (row["task"], row["domain"], row["licence"])
        assert data.class_names() == (["0", "1", "2"] if row["label_column"] in NUMBERS else ["aa", "bb", "cc"])
        folds = plan_folds(get_protocol("strict"), data.corpus, data.table, data.targets())
        official = 3 if row["fold_column"] else 5 if row["name"] in ONE_SPLIT else 1
        assert len(folds) == official, name


# One row of each shape: folds, groups, one split, several labels and a name with a dot, labels left out, configurations. ARCH_HF_ALL_ROWS=1 takes all.
SAMPLE = [["ESC50", "VoxPopuliAccentID", "BeijingOpera"], ["FSD2019Kaggle.v2", "VoxCelebSA", "MInDS14"]]
ALL = [list(NAMES)[i : i + 5] for i in range(0, 50, 5)]


@pytest.mark.parametrize("some", ALL if os.environ.get("ARCH_HF_ALL_ROWS") else SAMPLE, ids=" ".join)
def test_rows_are_evaluated_under_both_protocols(suite_hub, tmp_path, some):
    rows = [NAMES[name] for name in some]
    on_hub(suite_hub, rows)
    names = [first_name(row) for row in rows]
    options = {"seeds": 1, "output_dir": str(tmp_path / "out"), "cache_dir": str(tmp_path / "cache")}
    results = evaluate_model("logmel", names, protocol="strict", **options)
    assert [result.corpus for result in results] == names
    for result, row in zip(results, rows, strict=True):
        assert result.complete and (result.dataset.id, result.dataset.revision) == (row["id"], row["revision"])
        assert row["metric"] in result.metrics and result.model.id == "logmel"
    filed, skipped = read_results(tmp_path / "out")
    # Beside them lie those of the other baseline, which a score is compared with.
    assert {entry.result.corpus for entry in filed if entry.result.model.id == "logmel"} == set(names) and not skipped
    (arch_v1,) = evaluate_model("logmel", names[:1], protocol="arch-v1", **options)
    assert arch_v1.protocol["max_seconds"] == 1.0


def test_clips_of_labels_that_a_row_leaves_out_are_not_there_and_a_note_says_so(suite_hub):
    on_hub(suite_hub, [NAMES["VoxCelebSA"]])
    data = load_corpus("mteb-audio:VoxCelebSA")
    assert data.class_names() == ["aa", "bb", "cc"] and len(data) < 15
    assert any("left out for their label (Disagreement)" in note for note in data.notes)


def test_a_suite_and_its_datasets_have_names(suite_hub, tmp_path, capsys):
    assert set(suite_datasets("maeb")) < set(suite_datasets("mteb-audio"))
    # MAEB takes the curated training clips alone.
    of_kaggle = {suite: [n for n in suite_datasets(suite) if "FSD2019" in n] for suite in ("maeb", "mteb-audio")}
    assert of_kaggle["maeb"] == ["mteb-audio:FSD2019Kaggle:curated"] and len(suite_datasets("maeb")) == 124
    assert [name for name in of_kaggle["mteb-audio"] if "v2" not in name] == [
        f"mteb-audio:FSD2019Kaggle:{config}" for config in ("curated", "noisy")
    ]
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


def test_a_row_names_what_the_flags_name():
    columns = ("audio_column", "label_column", "fold_column", "group_column", "splits", "without_labels")
    said = {column: f"its {column}" for column in columns}
    assert SuiteRow("me/birds", **said).options(None) == said
    assert SuiteRow("me/birds").options("en") == {"config": "en"}


def test_what_is_not_as_the_table_says_is_one_line(suite_hub, tmp_path, capsys):
    def line(name: str) -> str:
        assert main([*EVALUATE, "--datasets", name]) == 1
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
        "id,name,label_column,domain\nmteb/free-spoken-digit-dataset, digits ,,speech\nmteb/esc50,,target,events\n"
    )
    assert suite_datasets("mine.csv") == ("mine.csv:digits", "mine.csv:mteb/esc50")
    data = load_corpus("mine.csv:digits")
    assert (data.corpus.domain, data.suite, data.class_names()) == ("speech", "mine.csv:digits", ["aa", "bb", "cc"])
    assert main([*EVALUATE, "--suite", "mine.csv"]) == 0
    assert "mine.csv:digits" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("name\nbirds\n", "line 2 has no id"),
        ("id,colour\nme/birds,red\n", "has a column 'colour'"),
        ("id,task\nme/birds,regression\n", "line 2: task is 'regression'; choose of single_label, multi_label"),
        ("id,metric\nme/birds,f1\n", "line 2: metric is 'f1'; choose of accuracy, map_macro"),
        ("id,domain\nme/birds,nature\n", "line 2: domain is 'nature'"),
        ("id\nme/birds\nme/birds\n", "line 3: there are two rows of the name me/birds"),
        ("id,name\nme/birds\n", "line 2 has not as many fields"),
        ('id\n"me/birds\n', "unexpected end of data"),
        ("id,label_column,label_column\nme/birds,a,b\n", "has two columns 'label_column'"),
        ("id,name,configs\nme/birds,x,en de\nme/bees,x:en,\n", "there are two datasets of the name x:en"),
        ("id,configs\nme/birds,en de en\n", "there are two datasets of the name me/birds:en"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, text, wrong):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(UserError) as error:
        suite_datasets("mine.csv")
    assert str(error.value).startswith("mine.csv") and wrong in str(error.value)


@pytest.mark.parametrize("text", ["", "id,name\n", "id\n\n\n"])
def test_a_file_without_datasets_does_not_ask_for_all_that_are_built_in(tmp_path, capsys, text):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(SystemExit):
        main([*EVALUATE, "--suite", "mine.csv"])
    assert "--suite mine.csv has no dataset" in capsys.readouterr().err


def test_a_value_is_taken_as_it_is_written_and_a_path_may_hold_a_colon(tmp_path):
    (tmp_path / "my:own.csv").write_text(
        'id,without_labels\r\nme/birds,a\x0bb\u2028c\x85d\r\nme/bees,"e\nf"\r\n', "utf-8-sig", newline=""
    )
    birds, bees = (suite_dataset(name) for name in suite_datasets("my:own.csv"))
    assert (birds.row.without_labels, bees.row.without_labels) == ("a\x0bb\u2028c\x85d", "e\nf")


def test_no_file_and_no_text_are_named(tmp_path):
    with pytest.raises(UserError, match=r"--suite none.csv cannot be read \(No such file"):
        suite_datasets("none.csv")
    (tmp_path / "mine.csv").write_bytes(b"id\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"mine.csv is no text in UTF-8"):
        suite_datasets("mine.csv")
