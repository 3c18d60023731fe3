"""How sure a score is: bootstrap intervals over test clips, and the paired bootstrap of a difference.

What is resampled is the unit that was sampled when the corpus was made: the group (speaker, recording, artist) where groups are
known, else the clip. Units are drawn with replacement from all test clips of the corpus, not fold by fold (in a fold that tests one
speaker there is nothing to draw from). A fold counts in a resample by the share of its units that was drawn. The score of a
resample is, as in the result, the mean over folds of the metric, averaged over seeds. The intervals hold the choice
of test clips, not that of train clips; the std over runs beside them is about that.

With few units the plain percentiles are too narrow. They are expanded as Hesterberg does ("What Teachers Should Know About the
Bootstrap", The American Statistician 2015, section 5.3 of the long version): the normal quantile is exchanged for
Student's, times sqrt(n / (n - 1)).

A resample holds some clips twice and others never, which lifts average precision (and moves F1) by itself: the intervals
are centred on the score, and hold what the metric would be on average over other test sets of the same size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arch_hf.probing.metrics.scores import (
    RankedClasses,
    accuracy_and_macro_f1,
    count_columns,
    map_macro_and_weighted,
)

N_RESAMPLES = 1000
SEED = 42
CHUNK_NUMBERS = 1 << 19  # weights held at a time: few enough for the processor's cache


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


def bootstrap(tests: Sequence[TestSet], n_resamples: int = N_RESAMPLES, seed: int = SEED) -> dict[str, np.ndarray]:
    """The metrics of resampled test clips: name -> float64 [n_resamples].

    Two calls with the same groups and seed see the same resamples, so their difference is that of a paired bootstrap.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> targets = rng.integers(0, 2, 200)
        >>> scores = np.eye(2)[np.where(rng.random(200) < 0.8, targets, 1 - targets)][None]
        >>> test = TestSet(scores, targets, np.arange(200))
        >>> values = bootstrap([test])["accuracy"]
        >>> [round(bound, 2) for bound in interval(values, 0.745, n_units=200)]
        [0.68, 0.8]
    """
    n_units = max(test.groups.max() for test in tests) + 1
    metrics = [_prepare(test) for test in tests]
    sums: dict[str, list[np.ndarray]] = {}
    for drawn in _draws(np.unique(np.concatenate([test.groups for test in tests])), n_units, tests, n_resamples, seed):
        totals, shares = {}, {}
        for test, measure in zip(tests, metrics, strict=True):
            units = np.unique(test.groups)
            share = drawn[:, units].sum(1, dtype=np.float64) / len(units)
            for name, values in measure(drawn[:, test.groups]).items():
                use = (share > 0) & np.isfinite(values)
                totals[name] = totals.get(name, 0) + np.where(use, share * np.where(use, values, 0), 0)
                shares[name] = shares.get(name, 0) + np.where(use, share, 0)
        for name, total in totals.items():
            with np.errstate(invalid="ignore"):
                sums.setdefault(name, []).append(total / shares[name])
    return {name: np.concatenate(parts) for name, parts in sums.items()}


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


def _prepare(test: TestSet):
    """A function from weights float32 [resamples, clips] to name -> values [resamples], the mean over seeds."""
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

    Example:
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


def two_sided_p(differences: np.ndarray) -> float:
    """How often resampling turns the sign of a difference: twice the smaller tail, at least 2 / (resamples + 1).

    Example:
        >>> two_sided_p(np.array([0.1] * 98 + [-0.1]))
        0.04
    """
    below, above = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1)))


def unit_codes(groups: Sequence[str | None], clip_ids: Sequence[str]) -> np.ndarray:
    """What is resampled, as int64 [clips]: the group, or the clip where no group is known or all clips are of one.

    Example:
        >>> unit_codes(["anna", "anna", None], ["a", "b", "c"]).tolist()
        [1, 1, 0]
    """
    names = [
        f"clip {clip}" if group is None else f"group {group}" for group, clip in zip(groups, clip_ids, strict=True)
    ]
    if len(set(names)) < 2:
        names = list(clip_ids)
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
