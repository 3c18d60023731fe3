"""Intervals hold the truth as often as they say, and tests call a difference as often as they say, on data whose truth is known."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from arch_hf.probing.estimate import Estimate, half_width, holm, mean_estimate, two_sided_p
from arch_hf.probing.metrics.scores import average_precision_without, score
from arch_hf.probing.statistics import (
    MOST_BLOCKS,
    TestSet,
    bootstrap,
    difference,
    interval,
    jackknife,
    unit_codes,
)


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


def test_units():
    assert unit_codes(["a", "b", "a"], ["x", "y", "z"]).tolist() == [0, 1, 0]
    assert len(set(unit_codes([None] * 3, ["x", "y", "z"]))) == 3
    assert len(set(unit_codes(["a"] * 3, ["x", "y", "z"]))) == 3, "one group alone tells nothing: clips"


# Differences -----------------------------------------------------------------------------------------------------------


def random_tests(rng, multi_label, n_folds=2):
    """Folds of three units of unlike sizes each, two seeds."""
    tests = []
    for fold in range(n_folds):
        groups = np.repeat(3 * fold + np.arange(3), (5, 9, 14))
        shape = (len(groups), 4)
        targets = (rng.random(shape) < 0.4).astype(np.int64) if multi_label else rng.integers(0, 4, len(groups))
        tests.append(TestSet(rng.standard_normal((2, *shape)).astype(np.float32), targets, groups))
    return tests


@pytest.mark.parametrize("multi_label", [False, True])
def test_jackknife_leaves_one_unit_out_as_by_hand(multi_label):
    tests = random_tests(np.random.default_rng(5), multi_label)
    found = jackknife(tests)
    for name, jack in found.items():
        for unit in (*range(6), None):
            total = share = 0
            for test in tests:
                kept = test.groups != unit
                values = [score(scores[kept], test.targets[kept])[name] for scores in test.scores]
                part = len(np.unique(test.groups[kept])) / 3
                total, share = total + part * np.mean(values), share + part
            assert (jack.value if unit is None else jack.without[unit]) == pytest.approx(total / share, abs=1e-9)
        np.testing.assert_allclose(jack.weights, np.tile([5, 9, 14], 2) / 56)


def test_average_precision_without_nobody_and_without_all_positives():
    scores = np.array([0.5, 0.5, 0.2, 0.9])
    without = average_precision_without(scores, np.array([True, False, True, False]), np.array([0, 1, 0, 1]), 3)
    assert without.tolist() == [0, 1, pytest.approx((1 / 3 + 2 / 4) / 2)]


def test_many_units_are_left_out_in_blocks_and_all_count():
    rng = np.random.default_rng(0)
    sides = [[classified(rng.random(1000) < share, np.arange(1000))] for share in (0.7, 0.65)]
    found = [jackknife(side)["accuracy"] for side in sides]
    assert (
        len(found[0].without) == MOST_BLOCKS and found[0].n_units == 1000 and found[0].weights.sum() == pytest.approx(1)
    )
    estimate = difference(*found)
    right = [side[0].scores[0].argmax(1) == side[0].targets for side in sides]
    assert estimate.standard_error == pytest.approx(np.std(right[0] * 1.0 - right[1], ddof=1) / np.sqrt(1000), rel=0.15)
    assert [jack.without.tolist() for jack in found] == [jackknife(side)["accuracy"].without.tolist() for side in sides]


@pytest.mark.parametrize("n_units", [6, 24])
def test_no_difference_is_called_one_as_often_as_said_and_nothing_contradicts(n_units):
    """600 pairs of models that are equally good: p < 0.05 in 5 % of them, give or take the chance of three standard errors."""
    rng, called, groups = np.random.default_rng(n_units), 0, np.repeat(np.arange(n_units), 25)
    for _ in range(600):
        ability = rng.beta(3, 2, (2, n_units))[:, groups]
        sides = [classified(rng.random(len(groups)) < ability[side], groups) for side in (0, 1)]
        estimate = difference(*(jackknife([side])["accuracy"] for side in sides))
        low, high = estimate.ci95
        assert (estimate.p < 0.05) == (not low <= 0 <= high) == estimate.differs
        called += estimate.differs
        scores = [np.bincount(groups, side.scores[0].argmax(1) == side.targets) / 25 for side in sides]
        assert estimate.p == pytest.approx(ttest_rel(*scores).pvalue)
    assert 0.023 <= called / 600 <= 0.077


def test_units_of_unlike_size_count_as_fewer():
    equal, unlike = (np.repeat(np.arange(8), sizes) for sizes in ((20,) * 8, (90, 20, 10, 10, 10, 10, 5, 5)))
    rng = np.random.default_rng(1)
    dfs = []
    for groups in (equal, unlike):
        sides = [jackknife([classified(rng.random(160) < 0.7, groups)])["accuracy"] for _ in range(2)]
        dfs.append(difference(*sides).df)
    assert dfs[0] == pytest.approx(7) and dfs[1] == pytest.approx(160**2 / (90**2 + 20**2 + 4 * 10**2 + 2 * 5**2) - 1)


def test_the_interval_and_the_p_are_of_the_same_numbers_where_units_count_as_fewer():
    """At 2.5 degrees of freedom, of nine units: an estimate at the edge of its interval has a p of 0.05."""
    half = float(half_width(0.01, 2.5))
    found = Estimate(half, 0.01, 2.5, 9)
    assert found.ci95 == pytest.approx((0, 2 * half), abs=1e-12) and found.p == pytest.approx(0.05)


def test_an_interval_lies_on_its_score():
    """Resamples that are lower than the score by themselves, as those of F1 are: the interval is moved, its width stays."""
    values = np.linspace(0.5, 0.7, 101)
    low, high = interval(values, 0.6, n_units=50)
    assert interval(values, 0.8, n_units=50) == pytest.approx([low + 0.2, high + 0.2])
    assert low + high == pytest.approx(2 * 0.6)


def test_the_same_gain_of_every_unit_is_no_certainty():
    """Without any spread the t test would say p = 0: six units that agree are six coins that fall on one side."""
    groups = np.repeat(np.arange(6), 10)
    right = np.tile(np.arange(10) < 7, 6)
    sides = [jackknife([classified(correct, groups)])["accuracy"] for correct in (right, np.tile(np.arange(10) < 6, 6))]
    estimate = difference(*sides)
    assert estimate.p == pytest.approx(2.0**-5) and estimate.ci95 == pytest.approx((0.1, 0.1)) and estimate.differs


def test_the_same_gain_of_units_of_unlike_size_contradicts_no_interval():
    groups = np.repeat(np.arange(6), (100, 2, 2, 2, 2, 2))
    sides = [jackknife([classified(np.full(110, right), groups)])["accuracy"] for right in (True, False)]
    estimate = difference(*sides)
    assert estimate.ci95 == pytest.approx((1, 1)) and estimate.differs and estimate.p == pytest.approx(2.0**-5)


def test_a_unit_that_holds_all_positives_leaves_no_verdict_to_chance():
    """Without it there is no score: its lack must not pass for a difference without any spread."""
    rng, targets = np.random.default_rng(0), np.zeros((40, 3), np.int64)
    targets[:4, 0] = targets[2:4, 1] = 1
    tests = [TestSet(rng.random((1, 40, 3)).astype(np.float32), targets, np.repeat(np.arange(10), 4)) for _ in range(2)]
    estimate = difference(*(jackknife([test])["map_macro"] for test in tests))
    assert estimate.ci95 == (-np.inf, np.inf) and estimate.p == 1 and not estimate.differs
    assert mean_estimate([estimate, Estimate(0.1, 0.01, 5, 6)]).p == 1


def test_holm_by_hand_and_means_of_estimates():
    assert holm([0.001, 0.02, 0.04, 0.6]) == pytest.approx([0.004, 0.06, 0.08, 0.6]) and holm([]) == []
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    one, other = Estimate(0.1, 0.01, 5, 6), Estimate(0.0, 0.03, 20, 21)
    mean = mean_estimate([one, other])
    v = np.array([1e-4, 9e-4])
    assert mean.value == pytest.approx(0.05) and mean.standard_error == pytest.approx(np.sqrt(v.sum()) / 2)
    assert mean.df == pytest.approx(v.sum() ** 2 / (v[0] ** 2 / 5 + v[1] ** 2 / 20)) and mean.n_units == 27
    assert float(two_sided_p(0.0, 0.0, 5.0)) == 1
    alike = [Estimate(0.1, 0.0, 20, 21), Estimate(0.1, 0.0, 7, 8)]
    assert mean_estimate(alike).df == 7, "without spread the degrees of freedom are the least that one of them has"
