"""Is one result better than another? The paired bootstrap over the test clips that both have scored."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from arch_hf.errors import UserError
from arch_hf.probing.metrics.scores import score
from arch_hf.probing.statistics import TestSet, bootstrap, interval, two_sided_p
from arch_hf.results.result import Result

LEVEL = 0.05  # a difference with a smaller p is called one


@dataclass(frozen=True)
class Difference:
    """One metric of two results, as fractions: `difference` is first minus second, `ci95` its interval, `p` two-sided."""

    metric: str
    first: float
    second: float
    difference: float
    ci95: tuple[float, float]
    p: float


@dataclass(frozen=True)
class Comparison:
    """Two results on the same test clips; the headline metric comes first. `left_out`: clips that one of them lacks."""

    names: tuple[str, str]
    differences: list[Difference]
    n_clips: int
    n_units: int
    left_out: int

    @property
    def verdict(self) -> str:
        headline = self.differences[0]
        if headline.p >= LEVEL:
            return f"No difference shown (p = {headline.p:.3f})."
        better, other = self.names if headline.difference > 0 else self.names[::-1]
        return f"{better} is better than {other} (p = {headline.p:.3f})."


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two result files on the same data under the same protocol, from the predictions that lie beside them.

    Both results are scored on the same resamples of the test clips (of their groups, where known), so what is hard
    for both does not blur the difference.

    Raises:
        UserError: a file cannot be read, the predictions are missing, or the two do not answer the same question.
    """
    results = [Result.read(path) for path in (first, second)]
    _refuse_unlike(results, (first, second))
    tested = [_Tested(path) for path in (first, second)]
    common = sorted(tested[0].row.keys() & tested[1].row.keys())
    if not common:
        raise UserError(f"{first} and {second} have no test clip in common")
    rows = [[side.row[clip_id] for clip_id in common] for side in tested]
    targets, folds, units = (tested[0].arrays[name][rows[0]] for name in ("target", "fold", "unit"))
    if not (
        np.array_equal(targets, tested[1].arrays["target"][rows[1]])
        and np.array_equal(folds, tested[1].arrays["fold"][rows[1]])
    ):
        raise UserError(f"{first} and {second} tested the same clips with other labels or folds: evaluate both again")
    units = np.unique(units, return_inverse=True)[1]
    sides = [
        [
            TestSet(side.arrays["scores"][:, its_rows][:, folds == f], targets[folds == f], units[folds == f])
            for f in np.unique(folds)
        ]
        for side, its_rows in zip(tested, rows, strict=True)
    ]
    means = [_means(tests) for tests in sides]
    resampled = [bootstrap(tests) for tests in sides]
    n_units = int(units.max()) + 1
    differences = [
        _difference(name, *(mean[name] for mean in means), resampled[0][name] - resampled[1][name], n_units)
        for name in means[0]
    ]
    left_out = len(tested[0].row.keys() ^ tested[1].row.keys())
    return Comparison(_names(results, (first, second)), differences, len(common), n_units, left_out)


def _difference(name: str, first: float, second: float, resampled: np.ndarray, n_units: int) -> Difference:
    difference = first - second
    low, high = interval(resampled, difference, n_units)
    centred = resampled - resampled.mean() + difference
    return Difference(name, first, second, difference, (max(low, -1.0), min(high, 1.0)), two_sided_p(centred))


def _means(tests: list[TestSet]) -> dict[str, float]:
    """The metrics as in a result: mean over folds and seeds."""
    scores = [score(seed_scores, test.targets) for test in tests for seed_scores in test.scores]
    return {name: float(np.mean([its[name] for its in scores])) for name in scores[0]}


class _Tested:
    """The predictions beside a result: `arrays` as `score_corpus` made them, and `row`, clip_id -> row."""

    def __init__(self, result_path: str | Path):
        path = Path(result_path).with_suffix(".predictions.safetensors")
        try:
            with safe_open(path, framework="numpy") as file:
                clip_ids = json.loads(file.metadata()["clip_ids"])
                self.arrays = {name: file.get_tensor(name) for name in ("clip", "fold", "unit", "target", "scores")}
        except FileNotFoundError:
            raise UserError(f"no {path.name} beside {result_path}: evaluate again with --overwrite") from None
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): evaluate again with --overwrite") from None
        self.row = {clip_ids[clip]: row for row, clip in enumerate(self.arrays["clip"])}


def _refuse_unlike(results: list[Result], paths: tuple) -> None:
    """Two results can be compared if they tested on the same data by the same rules; models, layers and seeds may differ."""
    facts = {
        "dataset": lambda result: result.dataset.id,
        "fingerprint of the dataset": lambda result: result.dataset.fingerprint,
        "protocol": lambda result: result.protocol_title,
    }
    for fact, of in facts.items():
        first, second = map(of, results)
        if first != second:
            raise UserError(f"cannot compare: {paths[0]} has {fact} {first}, {paths[1]} has {second}")


def _names(results: list[Result], paths: tuple) -> tuple[str, str]:
    """The models' ids, with the layer where it is not the last; the paths where those are the same."""
    names = [result.model.id + (f" (layer {result.layer})" if result.layer != -1 else "") for result in results]
    return tuple(names if names[0] != names[1] else map(str, paths))
