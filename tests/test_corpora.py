"""The contract that every corpus keeps: raw archive -> prepare -> load_dataset and load_corpus."""

import collections
import hashlib
import json
import shutil

import datasets
import numpy as np
import pytest
import raw_trees
import yaml
from datasets import Audio, ClassLabel, List, load_dataset
from huggingface_hub import DatasetCard

from arch_hf.data import CORPUS_NAMES, get_corpus, load_corpus
from arch_hf.data.official import raw as raw_module
from arch_hf.data.official.prepare import prepare, read_clips
from arch_hf.data.official.raw import RawFolder
from arch_hf.data.tree import walk


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def as_tuple(clip):
    labels = {clip.label} if isinstance(clip.label, str) else set(clip.label)
    return clip.clip_id, clip.split, labels, clip.group, clip.arch_v1_split, clip.arch_v1_label


def undecoded(split):
    return split.cast_column("audio", Audio(decode=False))


@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_a_corpus_keeps_the_contract(name, tmp_path):
    tree = raw_trees.build(name, tmp_path / "raw")
    corpus = get_corpus(name)
    multi = corpus.task == "multi_label"

    # The same clips with the top folder, without it and inside others, in an order that depends on names alone.
    expected = [as_tuple(clip) for clip in tree.clips]
    nested = tmp_path / "some where" / "deep"
    nested.mkdir(parents=True)
    shutil.copytree(tmp_path / "raw", nested / "raw")
    for raw in (tmp_path / "raw", tmp_path / "raw" / tree.top, tmp_path / "some where"):
        read = [clip for clip in read_clips(corpus, RawFolder(raw)) if clip.clip_id not in corpus.known_bad]
        assert [as_tuple(clip) for clip in read] == expected

    prepared = prepare(corpus, tmp_path / "raw", "arch/" + name)
    assert prepared.clips == len(tree.clips)
    assert {clip["clip_id"] for clip in prepared.excluded} == set(tree.excluded)
    splits = collections.Counter(clip.split for clip in tree.clips)

    # datasets reads it back by its relative name: splits in order, feature types, every value and every byte.
    loaded = load_dataset("arch/" + name)
    streamed = load_dataset("arch/" + name, streaming=True)
    assert {split: part.num_rows for split, part in loaded.items()} == splits
    assert list(loaded) == [split for split in corpus.splits if split in splits]
    features = loaded[next(iter(loaded))].features
    assert isinstance(features["audio"], Audio) and features["clip_id"].dtype == features["group"].dtype == "string"
    label = features["labels"].feature if multi else features["label"]
    assert isinstance(label, ClassLabel) and isinstance(features.get("labels"), List) == multi
    assert not corpus.classes or tuple(label.names) == corpus.classes
    assert ("arch_v1_split" in features) == any(clip.arch_v1_split for clip in tree.clips)
    assert ("arch_v1_label" in features) == any(clip.arch_v1_label for clip in tree.clips)
    expected = {clip.clip_id: clip for clip in tree.clips}
    for reading in (loaded, streamed):
        rows = [(split, row) for split in splits for row in undecoded(reading[split])]
        assert len(rows) == len(expected)
        for split, row in rows:
            clip = expected[row["clip_id"]]
            assert (split, row["group"]) == (clip.split, clip.group)
            if multi:
                assert {label.names[i] for i in row["labels"]} == set(clip.label)
            else:
                assert label.names[row["label"]] == clip.label
            assert row.get("arch_v1_split") == clip.arch_v1_split
            if clip.arch_v1_label:
                assert features["arch_v1_label"].names[row["arch_v1_label"]] == clip.arch_v1_label
            assert row["audio"]["bytes"] == tree.files[clip.clip_id].read_bytes()

    # load_corpus gives the same, in canonical order.
    data = load_corpus(name)
    assert list(data.table.clip_id) == [clip.clip_id for clip in tree.clips]
    assert list(data.table.split) == [clip.split for clip in tree.clips]
    assert list(data.table.group) == [clip.group for clip in tree.clips]
    if data.table.arch_v1_split is None:
        assert not any(clip.arch_v1_split for clip in tree.clips)
    else:
        assert list(data.table.arch_v1_split) == [clip.arch_v1_split for clip in tree.clips]
    names = data.class_names()
    targets = data.targets()
    for i, clip in enumerate(tree.clips):
        if multi:
            assert {names[j] for j in np.flatnonzero(targets[i])} == set(clip.label)
        else:
            assert names[targets[i]] == clip.label
        if clip.arch_v1_label:
            assert data.class_names("arch_v1_label")[data.targets("arch_v1_label")[i]] == clip.arch_v1_label
    assert targets.shape == ((len(data), len(names)) if multi else (len(data),))
    assert targets.dtype == (np.float32 if multi else np.int64)
    assert data.audio(0) == tree.files[tree.clips[0].clip_id].read_bytes()
    assert {clip["clip_id"] for clip in data.excluded} == set(tree.excluded)
    assert data.id == "arch/" + name and data.corpus.classes == tuple(names)

    # The card says what the folder holds.
    card = DatasetCard.load(f"arch/{name}/README.md")
    assert all((tmp_path / f"arch/{name}" / file).is_file() and file in card.text for file in prepared.credits)
    assert all(file in card.text for file in prepared.missing_credits)
    assert card.data.to_dict()["pretty_name"] == corpus.title
    assert all(clip_id in card.text for clip_id in tree.excluded)
    assert "corpora of the ARCH benchmark" in card.text and "arch-benchmark" in card.data.tags
    assert "This copy is incomplete" in card.text and f"| {corpus.table1[0]} |" in card.text
    benchmark = yaml.safe_load((tmp_path / f"arch/{name}/eval.yaml").read_text())
    assert benchmark["tasks"][0]["id"] == name and benchmark["tasks"][0]["split"] in splits
    facts = json.loads((tmp_path / f"arch/{name}/arch.json").read_text())
    assert facts["splits"] == splits and facts["missing_clips"] == []


def test_what_is_written_depends_on_nothing_but_names(tmp_path, monkeypatch):
    """Another folder, another order of the directory entries, another number of workers: the same bytes."""
    raw_trees.build("slurp", tmp_path / "raw")
    shutil.copytree(tmp_path / "raw", tmp_path / "copied to")
    prepare(get_corpus("slurp"), tmp_path / "raw", tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(raw_module, "walk", lambda *args: reversed(list(walk(*args))))
        prepare(get_corpus("slurp"), tmp_path / "copied to", tmp_path / "b", num_proc=3)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 6
    for file in files:
        digests = [hashlib.sha256((tmp_path / folder / file).read_bytes()).hexdigest() for folder in "ab"]
        assert digests[0] == digests[1], file
