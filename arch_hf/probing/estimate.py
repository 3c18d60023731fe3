"""An estimated difference, and what its standard error says: the interval, the p, means over corpora, the correction for many of them.

The formulas stand in `docs/statistics.md` with their sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.05  # a difference with a smaller p is called one
FEWEST_UNITS = 6  # for a verdict; n units that all agree are no evidence at 5 % where 2 ** (1 - n) > 0.05
TINY = 1e-9  # below this a spread or difference of fractions is that of rounding


@dataclass(frozen=True)
class Estimate:
    """A difference with its standard error and degrees of freedom: all that its interval and its p are made from.

    Examples:
        >>> found = Estimate(value=0.03, standard_error=0.01, df=5.0, n_units=6)
        >>> [round(bound, 4) for bound in found.ci95], round(found.p, 3), found.differs
        ([0.0043, 0.0557], 0.03, True)
        >>> Estimate(value=0.03, standard_error=0.01, df=4.0, n_units=5).p is None
        True
    """

    value: float
    standard_error: float
    df: float
    n_units: int

    @property
    def has_verdict(self) -> bool:
        """Whether there are units enough for an interval and a p."""
        return self.n_units >= FEWEST_UNITS

    @property
    def ci95(self) -> tuple[float, float] | None:
        half = float(half_width(self.standard_error, self.df))
        return (self.value - half, self.value + half) if self.has_verdict else None

    @property
    def p(self) -> float | None:
        """Two-sided."""
        return float(two_sided_p(self.value, self.standard_error, self.df)) if self.has_verdict else None

    @property
    def differs(self) -> bool:
        """Whether p is below `LEVEL`; then, and only then, the interval leaves out 0."""
        return self.p is not None and self.p < LEVEL


def half_width(standard_error: ArrayLike, df: ArrayLike) -> np.ndarray:
    """Half of the interval at 1 - `LEVEL`, by Student's t; numbers or arrays."""
    from scipy.stats import t

    return t.ppf(1 - LEVEL / 2, df) * np.asarray(standard_error)


def two_sided_p(value: ArrayLike, standard_error: ArrayLike, df: ArrayLike) -> np.ndarray:
    """Student's t test of an estimate against 0; numbers or arrays. Without any spread over the units, the sign test's p, 2 ** -df, of `FEWEST_UNITS`
    at least: fewer have no verdict, and p then is below `LEVEL` as the interval, which has no width, leaves out 0.

    Examples:
        >>> [float(p.round(4)) for p in two_sided_p(np.array([0.02, 0.0, 0.02]), np.array([0.01, 0.0, 0.0]), np.array([5.0, 5.0, 5.0]))]
        [0.1019, 1.0, 0.0312]
    """
    from scipy.stats import t

    error, size = np.asarray(standard_error), np.abs(value)
    by_t = 2 * t.sf(size / np.where(error > TINY, error, 1.0), df)
    by_sign = np.where(size > TINY, 2.0 ** -np.maximum(df, FEWEST_UNITS - 1.0), 1.0)
    return np.where(error > TINY, by_t, by_sign)


def degrees_of_freedom(weights: np.ndarray) -> float:
    """Of a mean of units with such weights: Kish's effective number of them, less one.

    Examples:
        >>> round(degrees_of_freedom(np.full(6, 1 / 6)), 9), round(degrees_of_freedom(np.array([0.5, 0.25, 0.25])), 3)
        (5.0, 1.667)
    """
    return float(max(1 / np.square(weights / weights.sum()).sum() - 1, TINY))


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, one per corpus: what other test units of these very corpora would give.

    Degrees of freedom after Welch and Satterthwaite.

    Examples:
        >>> mean = mean_estimate([Estimate(0.04, 0.02, 9.0, 10), Estimate(0.02, 0.02, 9.0, 10)])
        >>> round(mean.value, 3), round(mean.standard_error, 4), round(mean.df, 1), mean.n_units
        (0.03, 0.0141, 18.0, 20)
    """
    variances = np.square([estimate.standard_error for estimate in estimates])
    dfs = np.array([estimate.df for estimate in estimates])
    spread = float((np.square(variances) / dfs).sum())
    df = float(variances.sum() ** 2 / spread) if 0 < spread < np.inf else float(dfs.min())
    value = float(np.mean([estimate.value for estimate in estimates]))
    error = float(np.sqrt(variances.sum())) / len(estimates)
    return Estimate(value, error, df, sum(estimate.n_units for estimate in estimates))


def over_units(differences: Sequence[float]) -> Estimate:
    """Student's paired t test over differences that weigh the same, here one per corpus: what other corpora of the kind would give.

    Examples:
        >>> from scipy.stats import ttest_1samp
        >>> values = [0.01, 0.03, -0.01, 0.02, 0.05, 0.0]
        >>> abs(over_units(values).p - float(ttest_1samp(values, 0).pvalue)) < 1e-9
        True
    """
    n = len(differences)
    error = float(np.std(differences, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    return Estimate(float(np.mean(differences)), error, max(n - 1, 1), n)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm, 1979), in the same order: the chance of any false one stays below the level.

    Examples:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected
