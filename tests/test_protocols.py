"""Who trains and who tests: every corpus and protocol at full size, and what becomes of odd tables."""

import hashlib
import json
from dataclasses import replace
from math import ceil
from types import SimpleNamespace

import numpy as np
import pytest
from full_size import REAL_NAMES, full_size_table
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from arch_hf.data import CORPUS_NAMES, get_corpus
from arch_hf.data.spec import ClipTable
from arch_hf.errors import UserError
from arch_hf.probing.protocols import PROTOCOLS, PUBLISHED_SPLITS, SPLIT_RULES, get_protocol, render_protocols
from arch_hf.probing.splits import plan_folds, split_digest

US8K = [873, 888, 925, 990, 936, 823, 838, 806, 816, 837]
VIVAE = [93, 101, 101, 108, 111, 111, 103, 108, 108, 87, 54]


def cyclic(sizes):
    """Train, validation, test of folds whose validation is the next fold."""
    after = sizes[1:] + sizes[:1]
    return [(sum(sizes) - test - validation, validation, test) for test, validation in zip(sizes, after, strict=True)]


# Train, validation and test clips of each fold: from the papers of the corpora and of the benchmark.
SIZES = {
    ("esc50", "arch-v1"): [(1280, 320, 400)] * 5,
    ("us8k", "arch-v1"): [(8732 - t - ceil((8732 - t) / 5), ceil((8732 - t) / 5), t) for t in US8K],
    ("fsd50k", "arch-v1"): [(36796, 4170, 10231)],
    ("fsd50k", "strict"): [(36796, 4170, 10231)],
    ("vivae", "arch-v1"): cyclic(VIVAE),
    ("vivae", "strict"): cyclic(VIVAE),
    ("fma_small", "arch-v1"): [(6400, 800, 800)],
    ("fma_small", "strict"): [(6400, 800, 800)],
    ("magnatagatune", "arch-v1"): [(15247, 1529, 4332)],
    ("magnatagatune", "strict"): [(15247, 1529, 4332)],
    ("irmas", "arch-v1"): [(5364, 1341, 1573)],
    ("medley_solos_db", "arch-v1"): [(5841, 3494, 12236)],
    ("medley_solos_db", "strict"): [(5841, 3494, 12236)],
    ("ravdess", "arch-v1"): [(921, 231, 288)],
    ("ravdess", "strict"): [(960, 240, 240)] * 6,
    ("audio_mnist", "arch-v1"): [(18000, 6000, 6000)] * 5,
    ("audio_mnist", "strict"): [(18000, 6000, 6000)] * 5,
    ("slurp", "arch-v1"): [(50628, 8690, 13078)],
    ("slurp", "strict"): [(50628, 8690, 13078)],
    ("emovo", "arch-v1"): [(441, 49, 98)] * 6,
    ("emovo", "strict"): cyclic([98] * 6),
}
# Strict leaves out of train and validation what shares a group with test (or train with validation); the official test stays whole.
TEST_SIZES = {"esc50": [400] * 5, "us8k": US8K, "irmas": [2874]}  # the train sizes depend on the real groups


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_sizes_and_groups_at_full_size(name, protocol):
    corpus, table = get_corpus(name), full_size_table(name)
    folds = plan_folds(protocol, corpus, table)
    sizes = [(len(fold.train), len(fold.validation), len(fold.test)) for fold in folds]
    if (name, protocol.name) in SIZES:
        assert sizes == SIZES[name, protocol.name]
    else:
        assert [test for _, _, test in sizes] == TEST_SIZES[name]
    group = np.array([f"clip {c}" if g is None else g for c, g in zip(table.clip_id, table.group, strict=True)])
    left_out = 0
    for fold in folds:
        parts = [fold.train, fold.validation, fold.test]
        everyone = np.concatenate(parts)
        assert len(set(everyone)) == len(everyone), "a clip is on two sides"
        assert all((np.diff(part) > 0).all() for part in parts)
        if protocol.name == "strict":
            train, validation, test = (set(group[part]) for part in parts)
            assert not (train & validation or train & test or validation & test), "a group is on two sides"
        left_out += fold.left_out
        used = len(table) if protocol.name == "strict" else corpus.table1[0]
        assert len(everyone) + fold.left_out == used, "Table 1's count, or all official clips"
    tested = np.concatenate([fold.test for fold in folds])
    assert len(set(tested)) == len(tested), "no clip is tested twice"
    assert (left_out > 0) == (protocol.name == "strict" and name in ("esc50", "us8k")), "the shared source recordings"


def test_strict_irmas_tests_all_and_draws_validation_by_recording():
    (fold,) = plan_folds(PROTOCOLS["strict"], get_corpus("irmas"), full_size_table("irmas"))
    assert len(fold.test) == 2874 and len(fold.train) + len(fold.validation) == 6705
    assert 0.15 < len(fold.validation) / 6705 < 0.25


def derived(name, protocol, table):
    """(fold, side, clip id) of every clip, from the facts of the corpora and of the paper's program, without the package's rules."""
    clips = list(zip(table.clip_id, table.split, table.group, table.arch_v1_split or table.split, strict=True))
    folds = list(dict.fromkeys(table.split)) if table.split[0].startswith("fold") else []
    if protocol == "arch-v1" and name in ("esc50", "us8k", "emovo"):
        order = [f"fold_{k}" for k in (5, 10, 2, 6, 1, 9, 7, 4, 3, 8)] if name == "us8k" else folds
        for test in folds:
            rest = [clip_id for fold in order if fold != test for clip_id, split, *_ in clips if split == fold]
            train, validation = train_test_split(rest, test_size=0.1 if name == "emovo" else 0.2, random_state=42)
            yield from ((test, "train", clip_id) for clip_id in train)
            yield from ((test, "validation", clip_id) for clip_id in validation)
            yield from ((test, "test", clip_id) for clip_id, split, *_ in clips if split == test)
    elif (protocol == "arch-v1" and not folds) or (name == "ravdess" and protocol == "arch-v1"):
        yield from (("test", paper, clip_id) for clip_id, _, _, paper in clips if paper)
    elif folds:
        for test, validation in zip(folds, folds[1:] + folds[:1], strict=True):
            tested = {group for _, split, group, _ in clips if split == test and protocol == "strict"}
            held = {group for _, split, group, _ in clips if split == validation and protocol == "strict"} - tested
            for clip_id, split, group, _ in clips:
                if split == test:
                    yield test, "test", clip_id
                elif split == validation and group not in tested:
                    yield test, "validation", clip_id
                elif split not in (test, validation) and group not in tested | held:
                    yield test, "train", clip_id
    else:
        held = set()
        if name == "irmas":
            recordings = [group for _, split, group, _ in clips if split == "train"]
            chosen = GroupShuffleSplit(1, test_size=0.2, random_state=42).split(recordings, groups=recordings)
            held = {recordings[i] for i in next(chosen)[1]}
        yield from (
            ("test", "validation" if split == "train" and group in held else split, clip_id)
            for clip_id, split, group, _ in clips
        )


# Who trains, validates and tests, as `split_digest` sums it up, of the tables of `full_size`. Those of RAVDESS, AudioMNIST and EMOVO are of the real clips.
DIGESTS = {
    ("esc50", "arch-v1"): "e5e379d4ba0c685f",
    ("esc50", "strict"): "fd7a3a73732c1c1d",
    ("us8k", "arch-v1"): "6be1b688d4a1858d",
    ("us8k", "strict"): "46cacef9a3dcb307",
    ("fsd50k", "arch-v1"): "2e03b2bda5b1b713",
    ("fsd50k", "strict"): "2e03b2bda5b1b713",
    ("vivae", "arch-v1"): "cd8c6f6afbd78d79",
    ("vivae", "strict"): "cd8c6f6afbd78d79",
    ("fma_small", "arch-v1"): "e2d298891f8c2548",
    ("fma_small", "strict"): "02ecce2753137479",
    ("magnatagatune", "arch-v1"): "d2c54bc5ed3c0436",
    ("magnatagatune", "strict"): "d2c54bc5ed3c0436",
    ("irmas", "arch-v1"): "bb51703574ae2198",
    ("irmas", "strict"): "8a22111bae6bb95b",
    ("medley_solos_db", "arch-v1"): "2696fe8097016c67",
    ("medley_solos_db", "strict"): "2696fe8097016c67",
    ("ravdess", "arch-v1"): "f75dbd94f06623c0",
    ("ravdess", "strict"): "d732f15dae6c9de1",
    ("audio_mnist", "arch-v1"): "85d640cb2cbe7a85",
    ("audio_mnist", "strict"): "85d640cb2cbe7a85",
    ("slurp", "arch-v1"): "4a97ffc135c31387",
    ("slurp", "strict"): "4a97ffc135c31387",
    ("emovo", "arch-v1"): "c0903895257141e4",
    ("emovo", "strict"): "4449a8815c0bfc46",
}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("name", CORPUS_NAMES)
def test_every_split_is_derived_clip_by_clip_and_pinned(name, protocol):
    table = full_size_table(name)
    folds = plan_folds(protocol, get_corpus(name), table)
    ours = [
        (fold.name, side, table.clip_id[i])
        for fold in folds
        for side in ("train", "validation", "test")
        for i in getattr(fold, side)
    ]
    assert sorted(ours) == sorted(derived(name, protocol.name, table))
    assert split_digest(table, folds) == DIGESTS[name, protocol.name]
    if name in REAL_NAMES and protocol.name == "arch-v1":
        assert PUBLISHED_SPLITS[name] == DIGESTS[name, "arch-v1"]


def test_a_random_part_is_drawn_from_the_folds_as_the_csv_names_them():
    """ESC-50's and UrbanSound8K's tables are sorted by file name; a copy that deals the same clips to other folds names these in another order."""
    corpus, n = get_corpus("esc50"), 100
    table = ClipTable([f"{i:03d}" for i in range(n)], [f"fold_{1 + (3 * i + 2) % 5}" for i in range(n)], [None] * n)
    named = list(dict.fromkeys(table.split))
    assert named == ["fold_3", "fold_1", "fold_4", "fold_2", "fold_5"]
    for fold in plan_folds(PROTOCOLS["arch-v1"], corpus, table):
        rest = [i for name in named if name != fold.name for i in range(n) if table.split[i] == name]
        train, validation = train_test_split(rest, test_size=0.2, random_state=42)
        assert (fold.train.tolist(), fold.validation.tolist()) == (sorted(train), sorted(validation))


def test_fma_tests_on_the_first_part_of_the_second_draw():
    table = full_size_table("fma_small")
    (fold,) = plan_folds(PROTOCOLS["arch-v1"], get_corpus("fma_small"), table)
    tracks = sorted(table.clip_id)
    train, held_out = train_test_split(tracks, test_size=0.2, random_state=42)
    test, validation = train_test_split(held_out, test_size=0.5, random_state=42)
    for side, expected in (("train", train), ("validation", validation), ("test", test)):
        assert {table.clip_id[i] for i in getattr(fold, side)} == set(expected)


class TestIdenticalAudio:
    """Clips that are the same bytes are one group, whatever they are called."""

    def test_they_do_not_cross_the_sides_of_strict(self):
        """As in IRMAS, where 56 excerpts stand in two class folders under two numbers."""
        table, corpus = full_size_table("irmas"), get_corpus("irmas")
        digests = list(range(len(table)))
        for i in range(0, 112, 2):  # of 56 recordings the first excerpt is another recording's too
            digests[i + 1] = digests[i]
        (before,) = plan_folds(PROTOCOLS["strict"], corpus, table)
        (fold,) = plan_folds(PROTOCOLS["strict"], corpus, replace(table, digest=digests))
        sides = [{digests[i] for i in part} for part in (fold.train, fold.validation, fold.test)]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        assert {digests[i] for i in before.train} & {digests[i] for i in before.validation}
        assert fold.left_out == 0 and len(fold.train) + len(fold.validation) == 6705

    def test_a_train_clip_that_is_a_test_clip_is_left_out(self):
        table = ClipTable(list("abcdef"), ["train"] * 4 + ["test"] * 2, [None] * 6, digest=[1, 2, 3, 4, 1, 5])
        corpus = SimpleNamespace(name="user/birds", is_cross_validated=False, metric="accuracy")
        (fold,) = plan_folds(PROTOCOLS["strict"], corpus, table)
        assert 0 not in {*fold.train, *fold.validation} and fold.left_out == 1
        (fold,) = plan_folds(PROTOCOLS["arch-v1"], corpus, table)
        assert len(fold.train) + len(fold.validation) == 4, "arch-v1 leaves the leaks of the paper"


def test_rules_name_the_twelve():
    assert tuple(SPLIT_RULES) == CORPUS_NAMES and all(set(rules) == set(PROTOCOLS) for rules in SPLIT_RULES.values())


def test_a_changed_number_needs_a_new_version():
    """If this fails, a published score means something else now: raise the protocol's version, then the digest here."""
    pinned = {("arch-v1", "2.0"): "9514124f20a4", ("strict", "2.0"): "088fa7fa583d"}
    seen = {}
    for protocol in PROTOCOLS.values():
        numbers = [protocol.as_dict(get_corpus(name)) for name in CORPUS_NAMES]
        for block in numbers:
            del block["summary"]
        seen[protocol.name, protocol.version] = hashlib.sha256(
            json.dumps(numbers, sort_keys=True).encode()
        ).hexdigest()[:12]
    assert seen == pinned


def test_paper_numbers():
    block = PROTOCOLS["arch-v1"].as_dict(get_corpus("medley_solos_db"))
    expected = {
        "epochs": 200, "batch_size": 32, "learning_rate": 1e-3, "warmup_fraction": 0.1, "weights_kept": "last epoch",
        "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01, "max_seconds": 3, "padding": "max_length",
        "metric": "accuracy", "loss": "cross-entropy",
    }  # fmt: skip
    assert {key: block[key] for key in expected} == expected
    seconds = {name: PROTOCOLS["arch-v1"].max_seconds_for(get_corpus(name)) for name in CORPUS_NAMES}
    assert list(seconds.values()) == [5, 5, 10, 5, 30, 30, 5, 3, 5, 5, 10, 5]
    strict = PROTOCOLS["strict"].as_dict(get_corpus("fsd50k"))
    assert (strict["max_seconds"], strict["metric"], strict["loss"]) == (
        30, "map_macro", "binary cross-entropy, one regression per class",
    )  # fmt: skip
    assert strict["strengths"] == pytest.approx(np.logspace(2, -6, 17))
    assert json.loads(json.dumps(strict)) == strict, "as it is read back from a result"
    assert (strict["name"], PROTOCOLS["strict"].as_dict(get_corpus("esc50"), "knn")["name"]) == ("strict", "strict-knn")


def foreign(split, group=None):
    table = ClipTable([str(i) for i in range(len(split))], split, group or [None] * len(split))
    is_cross_validated = split[0].startswith("fold_")
    return SimpleNamespace(name="user/birds", is_cross_validated=is_cross_validated, metric="accuracy"), table


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda protocol: protocol.name)
class TestForeign:
    def test_train_and_test_draw_a_validation(self, protocol):
        groups = [f"bird{i // 4}" for i in range(100)]
        (fold,) = plan_folds(protocol, *foreign(["train"] * 80 + ["test"] * 20, groups))
        assert (len(fold.train), len(fold.validation), len(fold.test)) == (64, 16, 20)
        assert "no validation split" in fold.note

    def test_train_and_validation_test_on_validation(self, protocol):
        (fold,) = plan_folds(protocol, *foreign(["train"] * 80 + ["validation"] * 20))
        assert (len(fold.train), len(fold.validation), fold.test.tolist()) == (64, 16, list(range(80, 100)))
        assert "validation split is the test set" in fold.note

    def test_one_split_becomes_stratified_group_disjoint_folds(self, protocol):
        groups = [f"bird{i // 2}" for i in range(100)]
        targets = np.arange(100) // 2 % 5
        folds = plan_folds(protocol, *foreign(["train"] * 100, groups), targets)
        assert [fold.name for fold in folds] == [f"fold_{k}" for k in range(1, 6)]
        assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(100))
        for fold in folds:
            assert np.bincount(targets[fold.test]).tolist() == [4] * 5 and len(fold.validation)
            assert not {groups[i] for i in fold.test} & {groups[i] for i in np.r_[fold.train, fold.validation]}
            assert "one split only (train): 5 group-disjoint folds" in fold.note
        # Whatever the version of scikit-learn: its own shuffle dealt otherwise before 1.8.
        assert sorted({i // 2 for i in folds[0].test.tolist()}) == [0, 5, 12, 16, 23, 31, 32, 34, 39, 43]
        for fold in plan_folds(protocol, *foreign(["train"] * 100), targets):  # no groups: none are claimed
            assert "5 folds of single clips" in fold.note and "disjoint" not in fold.note

    def test_one_split_of_two_clips_or_many_labels(self, protocol):
        multi_hot = np.eye(4)[np.arange(60) % 4]
        assert len(plan_folds(protocol, *foreign(["train"] * 60), multi_hot)) == 5
        if protocol.name == "arch-v1":
            assert len(plan_folds(protocol, *foreign(["train"] * 2), np.array([0, 1]))) == 2

    def test_one_split_of_few_groups_has_no_empty_fold(self, protocol):
        """scikit-learn leaves one of four folds without clips here: it is none, and the note counts those there are."""
        groups = [f"bird{g}" for g in np.repeat(np.arange(4), (1, 2, 6, 3))]
        targets = np.array([1, 0, 0, 2, 0, 1, 2, 0, 1, 2, 0, 0])
        folds = plan_folds(protocol, *foreign(["train"] * 12, groups), targets)
        assert [len(fold.test) for fold in folds] == [3, 6, 3] and "3 group-disjoint folds" in folds[0].note

    def test_two_folds_still_have_a_validation(self, protocol):
        for fold in plan_folds(protocol, *foreign(["fold_1"] * 20 + ["fold_2"] * 20)):
            assert (len(fold.train), len(fold.validation), len(fold.test)) == (16, 4, 20)

    def test_ten_folds_are_in_the_order_of_numbers(self, protocol):
        names = [fold.name for fold in plan_folds(protocol, *foreign([f"fold_{k}" for k in range(1, 11)] * 3))]
        assert names == [f"fold_{k}" for k in range(1, 11)]

    @pytest.mark.parametrize(
        ("split", "group", "message"),
        [
            (["test"] * 3, ["a"] * 3, "nothing to test on"),
            (["train"] * 3 + ["unsupervised"] * 3, None, "needs train and test"),
        ],
    )
    def test_refusals(self, protocol, split, group, message):
        with pytest.raises(UserError, match=message):
            plan_folds(protocol, *foreign(split, group))


def test_a_validation_that_leaks_as_a_whole_is_said_to_be_replaced():
    """It was there: the note does not call it missing, and it is named of folds too."""
    groups = [f"bird{i}" for i in range(20)]
    (fold,) = plan_folds(
        PROTOCOLS["strict"], *foreign(["train"] * 20 + ["validation"] * 4 + ["test"] * 4, [*groups, *["wren"] * 8])
    )
    assert fold.note == "every validation clip shares a group with the test set: a random 20% of train"
    split = ["fold_1"] * 4 + ["fold_2"] * 4 + ["fold_3"] * 20 + ["fold_4"] * 20
    more = [f"owl{i}" for i in range(20)]
    folds = plan_folds(PROTOCOLS["strict"], *foreign(split, [*["wren"] * 8, *groups, *more]))
    assert ["every validation clip" in fold.note for fold in folds] == [True, False, False, False]
    assert (len(folds[0].train), len(folds[0].validation), folds[0].left_out) == (32, 8, 4)


def test_strict_refuses_when_all_train_clips_leak_or_none_can_validate():
    with pytest.raises(UserError, match="3 share a group with the test set"):
        plan_folds(PROTOCOLS["strict"], *foreign(["train"] * 3 + ["test"] * 3, ["a"] * 6))
    with pytest.raises(UserError, match="no clip to validate on"):
        plan_folds(PROTOCOLS["strict"], *foreign(["train", "test"]))
    (fold,) = plan_folds(PROTOCOLS["arch-v1"], *foreign(["train", "test"]))
    assert len(fold.train) == len(fold.test) == 1 and not len(fold.validation)


def test_names_and_tables():
    with pytest.raises(UserError, match="arch-v1, strict"):
        get_protocol("v1")
    text = render_protocols()
    assert all(word in text for word in (*CORPUS_NAMES, "0.001", "the paper's split", "groups disjoint", "any other"))
