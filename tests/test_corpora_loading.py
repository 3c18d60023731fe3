"""Loading: the synthetic corpora, any other dataset, and what cannot be told from its columns."""

import datasets
import numpy as np
import pyarrow as pa
import pytest
import raw_trees
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, List, Value
from huggingface_hub import constants

from arch_hf.audio import decode
from arch_hf.cli import build_parser
from arch_hf.data import SYNTHETIC_NAMES, get_corpus, load_corpus
from arch_hf.data.official.prepare import prepare
from arch_hf.errors import UserError


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def make(n=6, label=None, labels=None, audio="audio", **columns):
    """A dataset of `n` clips with a ClassLabel (or, with `labels`, List(ClassLabel)) column of two classes and others."""
    feature = ClassLabel(names=["cat", "dog"])
    name, label_feature = ("tags", List(feature)) if labels is not None else (label or "label", feature)
    values = labels if labels is not None else [i % 2 for i in range(n)]
    data = {
        audio: [{"bytes": raw_trees.sound(seed=i, seconds=1.2), "path": f"{i}.wav"} for i in range(n)],
        name: values,
    }
    features = {audio: Audio(), name: label_feature}
    for key, column in columns.items():
        data[key] = column
        features[key] = Value("string" if isinstance(column[0], str) else "int64")
    features = Features(features)
    return Dataset(pa.Table.from_pydict(data, features.arrow_schema), info=datasets.DatasetInfo(features=features))


def parquet(folder, **splits):
    for split, dataset in splits.items():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        dataset.to_parquet(folder / f"data/{split}-00000-of-00001.parquet")
    return str(folder)


@pytest.mark.parametrize("streaming", [False, True])
def test_files_changed_in_place_are_read_again_though_the_card_is_as_it_was(tmp_path, streaming):
    folder = tmp_path / "pets"
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n"
    card += "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in ("train", "test")) + "---\n"
    parquet(folder, train=make(4), test=make(2))
    (folder / "README.md").write_text(card)
    before = load_corpus(folder, streaming=streaming)
    assert load_corpus(folder, streaming=streaming).clips._fingerprint == before.clips._fingerprint
    turned = make(4).select([1, 0, 2, 3])  # as many clips, as many bytes
    parquet(folder, train=Dataset(turned.flatten_indices().data, info=turned.info))
    after = load_corpus(folder, streaming=streaming)
    assert after.clips._fingerprint != before.clips._fingerprint
    assert [after.audio(i) for i in (0, 1)] == [raw_trees.sound(seed=i, seconds=1.2) for i in (1, 0)]
    assert after.targets().tolist() == [1, 0, 0, 1, 0, 1]


def test_splits_that_go_by_other_names_are_recognised(tmp_path):
    folder = parquet(tmp_path / "pets", train=make(6), dev=make(2), test=make(4, speaker=["a", "b", "c", "d"]))
    with pytest.raises(UserError, match="cannot be loaded"):  # datasets itself wants the same columns in every split
        load_corpus(folder)
    speakers = {"speaker": ["a", "b"]}
    folder = parquet(tmp_path / "good", train=make(2, **speakers), dev=make(2, **speakers), test=make(2, **speakers))
    data = load_corpus(folder)
    assert data.corpus.splits == {"train": 2, "validation": 2, "test": 2}
    assert list(data.table.split) == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert list(data.table.group) == ["a", "b"] * 3 and data.table.arch_v1_split is None
    assert data.class_names() == ["cat", "dog"] and data.targets().tolist() == [0, 1] * 3
    assert (data.corpus.name, data.corpus.task, data.corpus.domain) == ("good", "single_label", "other")
    assert data.corpus.max_seconds == 2.0 and data.corpus.metric == "accuracy"  # the longest clip, 1.2 s, rounded up
    assert data.audio(1) == raw_trees.sound(seed=1, seconds=1.2)
    assert len(set(data.table.clip_id)) == 6


def test_folds_as_splits_as_a_column_and_several_labels(tmp_path):
    folder = parquet(tmp_path / "folds", fold1=make(2), fold2=make(2), fold10=make(2))
    assert list(load_corpus(folder).corpus.splits) == ["fold_1", "fold_2", "fold_3"]
    tags = [[0, 1], [], [1], [0], [0], [1]]
    folder = parquet(tmp_path / "column", train=make(6, labels=tags, fold=[3, 10, 3, 10, 7, 7]))
    data = load_corpus(folder)
    assert data.corpus.splits == {"fold_1": 2, "fold_2": 2, "fold_3": 2} and data.corpus.task == "multi_label"
    assert data.targets().tolist() == [[1, 1], [0, 1], [1, 0], [0, 1], [0, 0], [1, 0]]  # folds 3, 7, 10 in order
    folder = parquet(tmp_path / "part", train=make(6, part=["train", "test", "val", "train", "test", "train"]))
    data = load_corpus(folder)  # one split, and no column is called fold: the protocols deal folds
    assert data.corpus.splits == {"train": 6} and "--fold_column" in data.notes[0]
    data = load_corpus(folder, fold_column="part")
    assert data.corpus.splits == {"train": 3, "validation": 1, "test": 2} and data.corpus.metric == "accuracy"
    assert data.targets().tolist() == [0, 1, 1, 0, 1, 0]


def test_columns_and_splits_are_named_by_the_user(tmp_path):
    two = make(4, label="breed", kind=["x", "y", "x", "y"], who=[1, 2, 3, 4]).rename_column("audio", "sound")
    two = two.add_column("genus", [0, 0, 1, 1], feature=ClassLabel(names=["felis", "canis"]))
    folder = parquet(tmp_path / "two", english=two, french=two)
    with pytest.raises(
        UserError, match=r"breed \(classes\).*more than one class label column, say which with --label_column"
    ):
        load_corpus(folder)
    with pytest.raises(
        UserError, match=r"splits english, french: cannot tell which split trains .* --splits train=NAME"
    ):
        load_corpus(folder, label_column="genus")
    named = {"train": "english", "test": "french"}
    data = load_corpus(folder, label_column="genus", splits=named, group_column="who")
    assert data.class_names() == ["felis", "canis"] and data.corpus.splits == {"train": 4, "test": 4}
    assert list(data.table.group) == list("1234") * 2
    data = load_corpus(
        folder, label_column="kind", splits="train=english, test=french"
    )  # plain strings become classes in sorted order
    assert data.class_names() == ["x", "y"] and data.targets().tolist() == [0, 1] * 4
    for wrong, told in (
        ({"label_column": "colour"}, "--label_column colour: no such column"),
        ({"label_column": "genus", "audio_column": "noise"}, "--audio_column noise: no such column"),
        ({"label_column": "genus", "splits": {"train": "english", "test": "german"}}, "no split german"),
        ({"label_column": "genus", "splits": {"train": "english"}}, "--splits takes train=NAME,test=NAME"),
        ({"label_column": "sound", "splits": named}, "--label_column sound: no such column"),
        (
            {"label_column": "genus", "splits": {"train": "english", "test": "english"}},
            "the same clips would train and test",
        ),
    ):
        with pytest.raises(UserError, match=told):
            load_corpus(folder, **wrong)


def test_a_folder_of_audio_files_and_a_saved_dataset(tmp_path):
    for split in ("train", "test"):
        for i, kind in enumerate(("cat", "dog")):
            raw_trees.write(tmp_path / f"files/{split}/{kind}/1.wav", raw_trees.sound(seed=i))
    data = load_corpus("files", data_dir=str(tmp_path))
    assert data.class_names() == ["cat", "dog"] and data.corpus.splits == {"train": 2, "test": 2}
    assert data.audio(1) == raw_trees.sound(seed=1)
    DatasetDict(train=make(4), test=make(2)).save_to_disk(tmp_path / "saved")
    assert len(load_corpus("saved")) == 6
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="the dataset nothing cannot be loaded"):
        load_corpus("nothing")
    folder = parquet(tmp_path / "text", train=make(2, text=["a", "b"]).remove_columns("audio"))
    with pytest.raises(UserError, match=r"text \(string\).*no audio column, say which with --audio_column"):
        load_corpus(folder)


def test_the_wrong_folder_under_a_known_name_is_noticed(tmp_path):
    parquet(tmp_path / "arch/esc50", train=make(2), test=make(2))
    long = "x" * 300
    for name, message in ((long, "unknown corpus"), (f"./{long}", "no such folder"), (f"{long}.csv", "unknown corpus")):
        with pytest.raises(UserError, match=message):
            load_corpus(name)
    with pytest.raises(UserError, match=r"--data_dir x+: no such folder"):
        load_corpus("emovo", data_dir=long)
    with pytest.raises(UserError, match="emovo/missing: no such folder"):
        load_corpus("esc50", data_dir="emovo/missing")
    (tmp_path / "arch/esc50/arch.json").write_text("{")
    with pytest.raises(UserError, match=r"arch.json cannot be read .*prepare the corpus again"):
        load_corpus("esc50")


def test_from_the_hub_at_a_commit_and_from_the_cache_without_it(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    tree = raw_trees.build("fma_small", tmp_path / "raw")
    argv = ["prepare", "fma_small", "--raw_dir", "raw", "--output_dir", "made", "--push_to_hub", "arch", "--private"]
    args = build_parser().parse_args(argv)
    assert args.run(args) == 0
    repo = hub.repo("datasets", "arch/fma_small")
    assert repo.private
    first = repo.refs["main"]
    repo.commit("main", {**repo.files(), "NEWS": b"later"}, "news")
    data = load_corpus("fma_small")
    assert (data.id, data.revision) == ("arch/fma_small", repo.refs["main"]) and data.revision != first
    assert list(data.table.clip_id) == [clip.clip_id for clip in tree.clips]
    assert {clip["clip_id"] for clip in data.excluded} == set(tree.excluded)
    assert load_corpus("fma_small", revision=first).revision == first
    for name, revision, told in (
        ("us8k", None, "arch/us8k.*arch-hf prepare us8k --raw_dir"),
        ("me/nothing", None, "no dataset me/nothing: not a folder here, and none on the Hub"),
        ("fma_small", "0" * 40, "at revision 000"),
    ):
        with pytest.raises(UserError, match=told):
            load_corpus(name, revision=revision)
    nowhere = "http://127.0.0.1:9"  # the discard port, where nobody listens
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", nowhere)
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere + "/{repo_id}/resolve/{revision}/{filename}")
    again = load_corpus("fma_small")
    assert list(again.table.clip_id) == list(data.table.clip_id) and again.targets().tolist() == data.targets().tolist()
    for offline, why in ((False, "the Hub does not answer"), (True, "HF_HUB_OFFLINE keeps the Hub from being asked")):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        with pytest.raises(
            UserError,
            match=rf"arch/us8k is no folder here, and not in the cache.*; {why} for it; .*arch-hf prepare us8k",
        ):
            load_corpus("us8k")


def test_many_shards_read_as_one(tmp_path, monkeypatch):
    import arch_hf.data.official.shards as module

    tree = raw_trees.build("audio_mnist", tmp_path / "raw")
    monkeypatch.setattr(module, "ROW_GROUP_CLIPS", 2)
    monkeypatch.setattr(module, "SHARD_BYTES", 5_000)
    assert prepare(get_corpus("audio_mnist"), tmp_path / "raw", "arch/audio_mnist").splits["fold_1"]["shards"] == 6
    names = [path.name for path in (tmp_path / "arch/audio_mnist/data").iterdir() if path.name.startswith("fold_1-")]
    assert sorted(names) == [f"fold_1-{i:05d}-of-00006.parquet" for i in range(6)]
    data = load_corpus("audio_mnist")
    assert list(data.table.clip_id) == [clip.clip_id for clip in tree.clips]
    assert all(data.audio(i) == tree.files[clip.clip_id].read_bytes() for i, clip in enumerate(tree.clips))


@pytest.mark.parametrize("name", SYNTHETIC_NAMES)
def test_a_synthetic_corpus_is_always_the_same_and_whole(name):
    data = load_corpus(name)
    assert dict.fromkeys(data.table.split) and len(set(data.table.clip_id)) == len(data)
    counts = {split: list(data.table.split).count(split) for split in data.corpus.splits}
    assert counts == data.corpus.splits
    sides = {}
    for group, split in zip(data.table.group, data.table.split, strict=True):
        sides.setdefault(group, set()).add(split)
    assert all(len(splits) == 1 for splits in sides.values())
    targets = data.targets()
    assert (targets.sum(0) if targets.ndim == 2 else np.bincount(targets)).min() >= 10
    samples, rate = decode(data.audio(7))
    assert rate == 16000 and len(samples) == 16000 and 0.05 < abs(samples).max() < 1
    again = load_corpus(name).clips
    assert again._fingerprint == data.clips._fingerprint


def test_limit_keeps_clips_of_every_split_spread_over_the_classes():
    whole, data = load_corpus("synthetic_events"), load_corpus("synthetic_events", limit=10)
    assert [list(data.table.split).count(split) for split in data.corpus.splits] == [10] * 5
    assert all(len(set(data.targets()[i : i + 10])) == 8 for i in range(0, 50, 10))
    positions = [list(whole.table.clip_id).index(clip_id) for clip_id in data.table.clip_id]
    assert positions == sorted(positions)
    data = load_corpus("synthetic_music", limit=6)
    assert (data.targets()[:6].sum(0) > 0).all()  # the rarest label of a clip counts
    assert len(load_corpus("synthetic_music", limit=10**6)) == 250
    for limit in (0, -3):
        with pytest.raises(UserError, match=f"--limit is {limit}, give 1 or more"):
            load_corpus("synthetic_music", limit=limit)
