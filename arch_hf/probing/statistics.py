"""How sure a score is, and whether two scores differ (`docs/statistics.md` has the formulas and their sources).

A score has a bootstrap interval. What is resampled is the unit that was sampled when the corpus was made: the group (speaker, recording, artist) where groups are
known, else the clip. Units are drawn with replacement from all test clips of the corpus, not fold by fold (in a fold that tests one
speaker there is nothing to draw from). A fold counts in a resample by the share of its units that was drawn. The score of a
resample is, as in the result, the mean over folds of the metric, averaged over seeds. The intervals hold the choice
of test clips, not that of train clips; `std_folds` and `std_seeds` beside them are about that.

With few units the plain percentiles are too narrow. They are expanded as Hesterberg does ("What Teachers Should Know About the
Bootstrap", The American Statistician 2015, section 5.3 of the long version): the normal quantile is exchanged for
Student's, times sqrt(n / (n - 1)).

A resample holds some clips twice and others never, which lifts average precision (and moves F1) by itself: the intervals
are centred on the score, and hold what the metric would be on average over other test sets of the same size.

A difference of two scores on the same clips has a jackknife: both scores without each unit in turn, the standard error of their
difference from that, and Student's t. The interval and the p follow from the same three numbers, so that they never contradict each other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arch_hf.probing.estimate import Estimate, degrees_of_freedom
from arch_hf.probing.metrics.scores import (
    RankedClasses,
    accuracy_and_macro_f1,
    average_precision_without,
    count_columns,
    map_macro_and_weighted,
)

N_RESAMPLES = 1000
SEED = 42
CHUNK_NUMBERS = 1 << 19  # weights held at a time: few enough for the processor's cache
MOST_BLOCKS = 200  # of units that the jackknife leaves out together, where there are more units


@dataclass(frozen=True)
class TestSet:
    """The test clips of one fold with the scores of every seed.

    `scores` float32 [seeds, clips, classes]; `targets` int64 [clips] or multi-hot [clips, classes]; `groups` int64 [clips],
    the unit each clip belongs to.
    """

    __test__ = False  # no test case, whatever pytest makes of the name

    scores: np.ndarray
    targets: np.ndarray
    groups: np.ndarray


Measure = Callable[[np.ndarray], dict[str, np.ndarray]]  # weights float32 [sets, clips] -> name -> the metric [sets]


def bootstrap(tests: Sequence[TestSet], n_resamples: int = N_RESAMPLES, seed: int = SEED) -> dict[str, np.ndarray]:
    """The metrics of resampled test clips: name -> float64 [n_resamples].

    Two calls with the same groups and seed see the same resamples, so their difference is that of a paired bootstrap.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> targets = rng.integers(0, 2, 200)
        >>> scores = np.eye(2)[np.where(rng.random(200) < 0.8, targets, 1 - targets)][None]
        >>> test = TestSet(scores, targets, np.arange(200))
        >>> values = bootstrap([test])["accuracy"]
        >>> [round(bound, 2) for bound in interval(values, 0.745, n_units=200)]
        [0.68, 0.8]
    """
    n_units = max(test.groups.max() for test in tests) + 1
    measures = [_prepare(test) for test in tests]
    units = np.unique(np.concatenate([test.groups for test in tests]))
    parts = [_score_drawn(tests, measures, drawn) for drawn in _draws(units, n_units, tests, n_resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _score_drawn(tests: Sequence[TestSet], measures: Sequence[Measure], drawn: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics [sets] where each unit counts as often as `drawn` float32 [sets, n_units] says; a fold counts by the share of its units."""
    totals: dict[str, np.ndarray] = {}
    shares: dict[str, np.ndarray] = {}
    for test, measure in zip(tests, measures, strict=True):
        units = np.unique(test.groups)
        share = drawn[:, units].sum(1, dtype=np.float64) / len(units)
        for name, values in measure(drawn[:, test.groups]).items():
            use = (share > 0) & np.isfinite(values)
            totals[name] = totals.get(name, 0) + np.where(use, share * np.where(use, values, 0), 0)
            shares[name] = shares.get(name, 0) + np.where(use, share, 0)
    with np.errstate(invalid="ignore"):
        return {name: total / shares[name] for name, total in totals.items()}


def _draws(
    units: np.ndarray, n_units: int, tests: Sequence[TestSet], n_resamples: int, seed: int
) -> Iterator[np.ndarray]:
    """How often each unit is drawn, float32 [resamples, n_units], a part of the resamples at a time."""
    rng = np.random.default_rng(seed)
    at_once = max(1, CHUNK_NUMBERS // max(n_units, max(len(test.groups) for test in tests)))
    for start in range(0, n_resamples, at_once):
        size = min(at_once, n_resamples - start)
        chosen = units[rng.integers(0, len(units), (size, len(units)))] + n_units * np.arange(size)[:, None]
        yield np.bincount(chosen.ravel(), minlength=size * n_units).reshape(size, n_units).astype(np.float32)


def _prepare(test: TestSet) -> Measure:
    """The metrics of one fold under clip weights, mean over seeds."""
    n_classes = test.scores.shape[-1]
    if test.targets.ndim == 1:
        columns = np.concatenate(
            [count_columns(scores.argmax(1), test.targets, n_classes) for scores in test.scores], 1
        )

        def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
            counts = (weights @ columns).reshape(len(weights), len(test.scores), 3, n_classes)
            with np.errstate(invalid="ignore"):
                return {name: values.mean(1) for name, values in accuracy_and_macro_f1(counts).items()}
    else:
        ranked = [RankedClasses(scores, test.targets) for scores in test.scores]

        def measure(weights: np.ndarray) -> dict[str, np.ndarray]:
            positives = weights @ test.targets.astype(np.float32)
            by_seed = [map_macro_and_weighted(ranking.average_precision(weights), positives) for ranking in ranked]
            return {name: np.mean([values[name] for values in by_seed], axis=0) for name in by_seed[0]}

    return measure


def interval(values: np.ndarray, estimate: float, n_units: int, level: float = 0.95) -> list[float]:
    """The expanded percentile interval of bootstrap `values`, moved so that their mean lies on the `estimate`.

    An unlimited interval where one unit alone tells nothing.

    Examples:
        >>> [round(bound, 3) for bound in interval(np.linspace(0.5, 0.7, 101), 0.6, n_units=10_000)]
        [0.505, 0.695]
    """
    from scipy.stats import norm, t

    values = values[np.isfinite(values)]
    if n_units < 2 or not len(values):
        return [-np.inf, np.inf]
    quantile = t.ppf((1 + level) / 2, n_units - 1) * np.sqrt(n_units / (n_units - 1))
    tail = norm.cdf(-quantile)
    return [float(bound) for bound in np.quantile(values - values.mean() + estimate, [tail, 1 - tail])]


def unit_codes(groups: Sequence[str | None], clip_ids: Sequence[str]) -> np.ndarray:
    """What is resampled, as int64 [clips]: the group, or the clip where no group is known or all clips are of one.

    Examples:
        >>> unit_codes(["anna", "anna", None], ["a", "b", "c"]).tolist()
        [1, 1, 0]
    """
    names = [
        f"clip {clip}" if group is None else f"group {group}" for group, clip in zip(groups, clip_ids, strict=True)
    ]
    if len(set(names)) < 2:
        names = list(clip_ids)
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class Jackknife:
    """A score, and what it would be without each unit (or block of units) in turn.

    `without` float64 [blocks]; `weights` float64 [blocks], the share that each has in the score; `n_units` they hold.
    """

    value: float
    without: np.ndarray
    weights: np.ndarray
    n_units: int


def jackknife(tests: Sequence[TestSet], seed: int = SEED) -> dict[str, Jackknife]:
    """Every metric of a result, and the same without each unit in turn: name -> `Jackknife`.

    More than `MOST_BLOCKS` units are dealt at random to so many blocks, the same for every model on the same clips.

    Examples:
        >>> test = TestSet(np.eye(2)[[[0, 1, 1, 0]]], np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
        >>> accuracy = jackknife([test])["accuracy"]
        >>> accuracy.value, accuracy.without.tolist()
        (0.5, [0.0, 1.0])
    """
    units = np.unique(np.concatenate([test.groups for test in tests]))
    n_blocks = min(len(units), MOST_BLOCKS)
    block = np.zeros(units.max() + 1, dtype=np.int64)
    block[units] = np.arange(len(units)) if len(units) <= MOST_BLOCKS else _deal(len(units), seed)
    drawn = np.ones((n_blocks + 1, len(block)), dtype=np.float32)  # the last row leaves nobody out
    drawn[block[units], units] = 0
    measures = [
        _prepare(test) if test.targets.ndim == 1 else _prepare_without(test, block, len(drawn)) for test in tests
    ]
    weights = np.zeros(n_blocks)
    for test in tests:
        weights += np.bincount(block[test.groups], minlength=n_blocks) / len(test.groups) / len(tests)
    return {
        name: Jackknife(float(values[-1]), values[:-1], weights, len(units))
        for name, values in _score_drawn(tests, measures, drawn).items()
    }


def _deal(n_units: int, seed: int) -> np.ndarray:
    """A block for each unit, int64 [n_units]: as equal in number as can be, at random."""
    return np.random.default_rng(seed).permutation(n_units) % MOST_BLOCKS


def _prepare_without(test: TestSet, block: np.ndarray, n_blocks: int) -> Measure:
    """As `_prepare` for several labels a clip, where the weights are those of the jackknife: many times as fast."""
    targets, of_clip = test.targets > 0, block[test.groups]
    positives = np.stack([np.bincount(of_clip[target], minlength=n_blocks) for target in targets.T], axis=1)
    by_seed = [
        map_macro_and_weighted(
            np.stack(
                [average_precision_without(s, t, of_clip, n_blocks) for s, t in zip(scores.T, targets.T, strict=True)],
                axis=1,
            ),
            positives.sum(0) - positives,
        )
        for scores in test.scores
    ]
    means = {name: np.mean([values[name] for values in by_seed], axis=0) for name in by_seed[0]}
    return lambda _weights: means


def difference(first: Jackknife, second: Jackknife) -> Estimate:
    """The first score minus the second, of two results on the same clips, units and folds.

    The standard error is the jackknife's; the degrees of freedom are those of Student's t for as many units of equal weight as would be as good
    (Kish's effective number): the number of units less one where all weigh the same. The error is unlimited where there is no score without
    some unit.

    Examples:
        >>> weights = np.full(6, 1 / 6)
        >>> scores = np.array([[0.8, 0.6, 0.7, 0.9, 0.5, 0.7], [0.6, 0.5, 0.7, 0.6, 0.5, 0.4]])
        >>> a, b = (Jackknife(s.mean(), (s.sum() - s) / 5, weights, 6) for s in scores)
        >>> from scipy.stats import ttest_rel
        >>> abs(difference(a, b).p - float(ttest_rel(*scores).pvalue)) < 1e-9
        True
    """
    value, n_blocks = first.value - second.value, len(first.without)
    deviations = first.without - second.without - value
    known = n_blocks > 1 and bool(np.isfinite(deviations).all())  # not so where one unit holds all positive clips
    error = float(np.sqrt((n_blocks - 1) / n_blocks * (deviations @ deviations))) if known else float("inf")
    return Estimate(value, error, degrees_of_freedom(first.weights), first.n_units)
