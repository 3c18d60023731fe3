"""Intervals hold the truth as often as they say, on data whose truth is known."""

import numpy as np
import pytest

from arch_hf.probing.metrics.scores import score
from arch_hf.probing.statistics import TestSet, bootstrap, interval, two_sided_p, unit_codes


def hits(make, truth, metric, n_units, n_sets, n_resamples):
    """How often the interval of a made test set holds the truth."""
    found = 0
    for number in range(n_sets):
        test = make(np.random.default_rng(number))
        estimate = score(test.scores[0], test.targets)[metric]
        low, high = interval(bootstrap([test], n_resamples, seed=number)[metric], estimate, n_units)
        found += low <= truth <= high
    return found / n_sets


def classified(correct, groups):
    """A test set of two classes in which the clips named were found."""
    targets = np.arange(len(correct)) % 2
    return TestSet(np.eye(2, dtype=np.float32)[np.where(correct, targets, 1 - targets)][None], targets, groups)


def test_coverage_of_accuracy_by_clip():
    def make(rng):
        return classified(rng.random(200) < 0.7, np.arange(200))

    assert 0.93 <= hits(make, 0.7, "accuracy", 200, n_sets=1200, n_resamples=400) <= 0.97


def test_coverage_of_accuracy_by_group():
    """30 speakers of 8 clips, whose own accuracy varies: clips alone would give intervals that are far too narrow."""
    groups = np.repeat(np.arange(30), 8)

    def make(rng, by_group=True):
        ability = rng.beta(3, 2, 30)[groups]
        return classified(rng.random(240) < ability, groups if by_group else np.arange(240))

    assert 0.93 <= hits(make, 0.6, "accuracy", 30, n_sets=1200, n_resamples=400) <= 0.97
    assert hits(lambda rng: make(rng, by_group=False), 0.6, "accuracy", 240, n_sets=300, n_resamples=200) < 0.88


def test_coverage_of_macro_map():
    """The truth is the mean over many test sets: average precision depends on their size."""

    def make(rng):
        targets = (rng.random((250, 5)) < 0.15).astype(np.int64)
        scores = (rng.standard_normal((250, 5)) + 1.2 * targets).astype(np.float32)
        return TestSet(scores[None], targets, np.arange(250))

    sets = (make(np.random.default_rng([1, number])) for number in range(1000))
    truth = np.mean([score(test.scores[0], test.targets)["map_macro"] for test in sets])
    assert 0.92 <= hits(make, truth, "map_macro", 250, n_sets=400, n_resamples=200) <= 0.98


def test_few_groups_widen_the_interval():
    values = np.linspace(0, 1, 10_001)
    widths = [np.diff(interval(values, 0.5, n))[0] for n in (3, 6, 24, 10_000)]
    assert widths == sorted(widths, reverse=True) and widths[-1] == pytest.approx(0.95, abs=0.001)
    assert interval(values, 0.5, n_units=1) == [-np.inf, np.inf]


def test_folds_and_seeds_as_computed_by_hand():
    """Two folds of two speakers each, two seeds; resampling speakers and averaging by hand gives the same numbers."""
    rng = np.random.default_rng(0)
    tests = [
        TestSet(rng.standard_normal((2, 12, 3)), rng.integers(0, 3, 12), np.repeat([2 * f, 2 * f + 1], 6))
        for f in (0, 1)
    ]
    values = bootstrap(tests, n_resamples=50, seed=9)["accuracy"]
    draws = np.random.default_rng(9).integers(0, 4, (50, 4))
    for value, draw in zip(values, draws, strict=True):
        total = share = 0
        for f, test in enumerate(tests):
            clips = np.concatenate([np.flatnonzero(test.groups == unit) for unit in draw if unit // 2 == f] or [[]])
            if len(clips):
                found = (test.scores.argmax(-1) == test.targets)[:, clips.astype(int)].mean()
                total, share = total + found * len(clips) / 12, share + len(clips) / 12
        assert value == pytest.approx(total / share)


def test_perfect_scores_stay_perfect():
    test = classified(np.ones(50, bool), np.arange(50))
    values = bootstrap([test])
    assert interval(values["accuracy"], 1.0, 50) == [1.0, 1.0] == interval(values["macro_f1"], 1.0, 50)


def test_p_of_no_difference_is_uniform_and_of_a_large_one_small():
    rng = np.random.default_rng(0)
    small = 0
    for number in range(300):
        first, second = rng.random((2, 150)) < 0.7
        sides = [
            bootstrap([classified(correct, np.arange(150))], 200, seed=number)["accuracy"]
            for correct in (first, second)
        ]
        small += two_sided_p(sides[0] - sides[1]) < 0.05
    assert 0.02 <= small / 300 <= 0.09
    assert two_sided_p(np.full(999, 0.1)) == pytest.approx(0.002) and two_sided_p(np.zeros(99)) == 1


def test_units():
    assert unit_codes(["a", "b", "a"], ["x", "y", "z"]).tolist() == [0, 1, 0]
    assert len(set(unit_codes([None] * 3, ["x", "y", "z"]))) == 3
    assert len(set(unit_codes(["a"] * 3, ["x", "y", "z"]))) == 3, "one group alone tells nothing: clips"
