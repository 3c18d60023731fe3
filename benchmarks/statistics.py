"""Does `arch-hf compare` call a difference where there is none as often as it says, and does it see one that is there?

    python benchmarks/statistics.py [--pairs 2000] [--designs 6 150 …]

Pairs of invented results whose two models are equally good in truth (each unit has an ability of its own for each model, from one
distribution), sent through the package's own functions. Printed of each design: the share of pairs with p < 0.05, which should be 5 %; pairs in
which p, interval and verdict do not agree, which should be none; how often a true difference is seen, beside Student's paired t test over the
units' own scores (scipy) as the baseline; and the same null share for the method of arch-hf 0.1, the paired bootstrap.
"""

import argparse
import sys
import time
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, ttest_rel

from arch_hf.probing.statistics import TestSet, bootstrap, difference, jackknife


@dataclass(frozen=True)
class Design:
    """`sizes` spreads the logarithm of the units' sizes; `gain` is the true difference, as a shift of the ability, for the power."""

    name: str
    n_units: int
    per_unit: int
    metric: str = "accuracy"
    sizes: float = 0.0
    folds: int = 1
    gain: float = 0.6
    correlation: float = 0.7


DESIGNS = (
    Design("6 speakers (EMOVO), a fold each", 6, 98, folds=6, gain=1.2),
    Design("11 speakers (VIVAE), a fold each", 11, 98, folds=11, gain=0.8),
    Design("24 speakers (RAVDESS)", 24, 60, folds=4, gain=0.5),
    Design("60 speakers (AudioMNIST)", 60, 50, folds=5, gain=0.3),
    Design("150 clips", 150, 1, gain=1.0),
    Design("6 units of unequal size", 6, 60, sizes=0.5, gain=1.2),
    Design("24 units of unequal size", 24, 20, sizes=0.8, gain=0.6),
    Design("11 units, macro F1", 11, 40, metric="macro_f1", gain=0.8),
    Design("24 units, macro mAP", 24, 20, metric="map_macro", gain=0.5),
    Design("150 clips, macro mAP", 150, 1, metric="map_macro", gain=0.4),
    Design("600 clips in 200 blocks", 600, 1, gain=0.5),
)
N_CLASSES = 4


def draw_pair(design: Design, gain: float, rng: np.random.Generator) -> tuple[list[TestSet], list[TestSet]]:
    """Two results on the same clips; the first is better by `gain` on the scale of the abilities."""
    sizes = np.maximum(1, (design.per_unit * rng.lognormal(0, design.sizes, design.n_units)).astype(int))
    unit = np.repeat(np.arange(design.n_units), sizes)
    shared = rng.standard_normal(design.n_units) * np.sqrt(design.correlation)
    own = rng.standard_normal((2, design.n_units)) * np.sqrt(1 - design.correlation)
    ability = (shared + own + np.array([[gain], [0.0]]))[:, unit]
    difficulty = rng.standard_normal(len(unit))  # of each clip, the same for both models
    if design.metric == "map_macro":
        target = (rng.random((len(unit), N_CLASSES)) < 0.3).astype(np.int64)
        noise = rng.standard_normal((2, *target.shape))
        scores = (0.7 * ability[..., None] + 1.0) * target + noise + 0.5 * difficulty[:, None]
    else:
        target = rng.integers(0, N_CLASSES, len(unit))
        right = ability + difficulty + rng.logistic(size=(2, len(unit))) > 0
        guess = np.where(right, target, (target + rng.integers(1, N_CLASSES, (2, len(unit)))) % N_CLASSES)
        scores = np.eye(N_CLASSES)[guess]
    fold = unit % design.folds
    first, second = (
        [
            TestSet(side[None, fold == f].astype(np.float32), target[fold == f], unit[fold == f])
            for f in range(design.folds)
        ]
        for side in scores
    )
    return first, second


def by_unit(tests: list[TestSet], n_units: int) -> np.ndarray:
    """Accuracy of each unit."""
    right = np.concatenate([test.scores[0].argmax(1) == test.targets for test in tests])
    unit = np.concatenate([test.groups for test in tests])
    return np.bincount(unit, right, n_units) / np.bincount(unit, minlength=n_units)


def share_called(design: Design, gain: float, pairs: int, seed: list[int]) -> tuple[float, float, int]:
    """The share of pairs with p < 0.05; the same of the paired t test over units (NaN where it does not apply); contradictions."""
    ours = students = contradictions = 0
    for number in range(pairs):
        sides = draw_pair(design, gain, np.random.default_rng([*seed, number]))
        found = difference(*(jackknife(side)[design.metric] for side in sides))
        low, high = found.ci95
        ours += found.p < 0.05
        contradictions += len({found.p < 0.05, not low <= 0 <= high, found.differs}) > 1
        if design.metric == "accuracy" and not design.sizes:
            scores = [by_unit(side, design.n_units) for side in sides]
            students += not np.array_equal(*scores) and ttest_rel(*scores).pvalue < 0.05
    applies = design.metric == "accuracy" and not design.sizes
    return ours / pairs, students / pairs if applies else float("nan"), contradictions


def share_called_before(design: Design, pairs: int, seed: list[int]) -> float:
    """The same by the paired bootstrap of arch-hf 0.1: twice the smaller tail of the resampled differences."""
    called = 0
    for number in range(pairs):
        sides = draw_pair(design, 0.0, np.random.default_rng([*seed, number]))
        first, second = (bootstrap(side)[design.metric] for side in sides)
        centred = first - second
        called += min(1.0, 2 * (min((centred <= 0).sum(), (centred >= 0).sum()) + 1) / (len(centred) + 1)) < 0.05
    return called / pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: 0)")
    parser.add_argument("--designs", nargs="+", default=[""], help="only designs whose names begin so")
    parser.add_argument(
        "--before", type=int, default=300, help="pairs for the bootstrap of 0.1, which is slow (default: 300; 0: none)"
    )
    args = parser.parse_args()
    error = norm.ppf(0.975) * np.sqrt(0.05 * 0.95 / args.pairs)
    print(
        f"{args.pairs} pairs each; a share of 5 % is seen as {100 * (0.05 - error):.1f} to {100 * (0.05 + error):.1f} %\n"
    )
    print(
        f"{'design':34}{'null, p < 0.05':>15}{'disagree':>10}{'power':>8}{'t test':>8}{'0.1: null':>11}{'ms a pair':>11}"
    )
    for number, design in enumerate(DESIGNS):
        if not design.name.startswith(tuple(args.designs)):
            continue
        start = time.perf_counter()
        null, _, wrong = share_called(design, 0.0, args.pairs, [args.seed, number, 0])
        took = 1000 * (time.perf_counter() - start) / args.pairs
        power, student, wrong_too = share_called(design, design.gain, args.pairs, [args.seed, number, 1])
        before = share_called_before(design, args.before, [args.seed, number, 0]) if args.before else float("nan")
        line = f"{100 * null:13.2f} %{wrong + wrong_too:10d}{100 * power:7.1f}%{100 * student:7.1f}%{100 * before:10.1f}%{took:11.2f}"
        print(f"{design.name:34}{line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
