"""Who trains and who tests: every corpus and protocol at full size, and what becomes of odd tables."""

import hashlib
import json
from math import ceil
from types import SimpleNamespace

import numpy as np
import pytest
from full_size import full_size_table
from sklearn.model_selection import train_test_split

from arch_hf.data import CORPUS_NAMES, get_corpus
from arch_hf.data.spec import ClipTable
from arch_hf.errors import UserError
from arch_hf.probing.protocols import PROTOCOLS, SPLIT_RULES, get_protocol, render_protocols
from arch_hf.probing.splits import plan_folds

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


@pytest.mark.parametrize(("name", "fraction"), [("esc50", 0.2), ("us8k", 0.2), ("emovo", 0.1)])
def test_random_validation_is_scikit_learns_seed_42(name, fraction):
    corpus, table = get_corpus(name), full_size_table(name)
    for fold in plan_folds(PROTOCOLS["arch-v1"], corpus, table):
        rest = [i for i, split in enumerate(table.split) if split != fold.name]
        train, validation = train_test_split(rest, test_size=fraction, random_state=42)
        assert fold.train.tolist() == sorted(train) and fold.validation.tolist() == sorted(validation)


def test_rules_name_the_twelve():
    assert tuple(SPLIT_RULES) == CORPUS_NAMES and all(set(rules) == set(PROTOCOLS) for rules in SPLIT_RULES.values())


def test_a_changed_number_needs_a_new_version():
    """If this fails, a published score means something else now: raise the protocol's version, then the digest here."""
    pinned = {("arch-v1", "1.0"): "2f17d388785f", ("strict", "1.0"): "990ee3e9dd6e"}
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
        "epochs": 200, "batch_size": 32, "learning_rates": [1e-3], "warmup_fraction": 0.1, "weights_kept": "last_epoch",
        "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01, "max_seconds": 3, "padding": "max_length",
        "metric": "accuracy", "loss": "cross-entropy",
    }  # fmt: skip
    assert {key: block[key] for key in expected} == expected
    seconds = {name: PROTOCOLS["arch-v1"].max_seconds_for(get_corpus(name)) for name in CORPUS_NAMES}
    assert list(seconds.values()) == [5, 5, 10, 5, 30, 30, 5, 3, 5, 5, 10, 5]
    strict = PROTOCOLS["strict"].as_dict(get_corpus("fsd50k"))
    assert (strict["max_seconds"], strict["metric"], strict["learning_rates"]) == (
        30, "map_macro", [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
    )  # fmt: skip


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
            assert "one split only" in fold.note

    def test_one_split_of_two_clips_or_many_labels(self, protocol):
        multi_hot = np.eye(4)[np.arange(60) % 4]
        assert len(plan_folds(protocol, *foreign(["train"] * 60), multi_hot)) == 5
        if not protocol.selects:
            assert len(plan_folds(protocol, *foreign(["train"] * 2), np.array([0, 1]))) == 2

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
