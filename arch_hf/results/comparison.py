"""Is one result better than another? Both are scored on the test clips that they share, and on these without each unit in turn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arch_hf.errors import UserError
from arch_hf.probing.estimate import FEWEST_UNITS, LEVEL, Estimate
from arch_hf.probing.statistics import difference, jackknife
from arch_hf.results.folder import encoder_of, layer_name
from arch_hf.results.predictions import PredictedClips
from arch_hf.results.result import Result


@dataclass(frozen=True)
class Difference:
    """One metric of two results, as fractions; `estimate` is first minus second, with its interval and p."""

    metric: str
    first: float
    second: float
    estimate: Estimate


@dataclass(frozen=True)
class Comparison:
    """Two results on the same test clips; the headline metric comes first. `left_out`: clips that one of them lacks; `same_encoder`: both
    are of the same weights, whatever they are called; `caveats`: of a result that stands for less than the corpus, its path and why; `seeds`: of how
    many each score is the mean."""

    names: tuple[str, str]
    differences: tuple[Difference, ...]
    n_clips: int
    n_units: int
    left_out: int
    same_encoder: bool
    caveats: tuple[str, ...] = ()
    seeds: tuple[int, int] = (1, 1)

    @property
    def unlike_seeds(self) -> str | None:
        """In words, where the two are means of different numbers of seeds: what other seeds would give is in no interval."""
        a, b = self.seeds
        return None if a == b else f"A is the mean of {a} seed{'s' * (a != 1)}, B of {b}: give both as many (--seeds)"

    @property
    def headline(self) -> Difference:
        return self.differences[0]

    @property
    def verdict(self) -> str:
        """In words, by the headline metric."""
        estimate = self.headline.estimate
        if not estimate.has_verdict:
            return f"No verdict is possible: {too_few(self.n_units)}."
        if not estimate.differs:
            return f"No difference shown ({p_phrase(estimate.p)})."
        better, other = self.names if estimate.value > 0 else self.names[::-1]
        return f"{better} is better than {other} ({p_phrase(estimate.p)})."


def too_few(n_units: int) -> str:
    """Why there is no verdict.

    Examples:
        >>> too_few(4)
        '4 units (speakers, recordings, albums ...), and a difference can be shown from 6 on'
    """
    return f"{n_units} units (speakers, recordings, albums ...), and a difference can be shown from {FEWEST_UNITS} on"


def p_text(p: float | None) -> str:
    """
    Examples:
        >>> p_text(0.04321), p_text(0.0000001), p_text(0.0499), p_text(0.04999), p_text(None)
        ('0.043', '< 0.001', '0.0499', '0.04999', '–')
    """
    if p is None:
        return "–"
    texts = [f"{p:.{digits}f}" for digits in range(3, 8)]
    shown = next((text for text in texts if float(text) != LEVEL), texts[0])  # which side of 0.05 it is on must be seen
    return "< 0.001" if p < 0.001 else shown


def p_phrase(p: float | None) -> str:
    """
    Examples:
        >>> p_phrase(0.04321), p_phrase(0.0000001)
        ('p = 0.043', 'p < 0.001')
    """
    text = p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two result files on the same data under the same protocol, from the predictions that lie beside them.

    Both lose the same clips and units in turn, so what is hard for both does not blur the difference (`arch_hf.probing.statistics`).

    Raises:
        UserError: a file cannot be read, the predictions are missing, or the two do not answer the same question.
    """
    results = (Result.read(first), Result.read(second))
    paths = (Path(first), Path(second))
    refuse_unlike(results, paths)
    tested = (PredictedClips(first, results[0]), PredictedClips(second, results[1]))
    common = sorted(tested[0].row.keys() & tested[1].row.keys())
    if not common:
        raise UserError(f"{first} and {second} have no test clip in common")
    rows = [side.rows(common) for side in tested]
    if not all(
        side.arrays["target"][some].any()
        for side, some in zip(tested, rows, strict=True)
        if side.arrays["target"].ndim == 2
    ):
        raise UserError(f"{first} and {second} have no test clip with a label in common")
    shared = [side.in_common(its_rows) for side, its_rows in zip(tested, rows, strict=True)]
    if not all(np.array_equal(shared[0][name], shared[1][name]) for name in shared[0]):
        raise UserError(
            f"{first} and {second} tested the same clips with other labels, folds or units: evaluate both again"
        )
    scores = [jackknife(side.test_sets(its_rows)) for side, its_rows in zip(tested, rows, strict=True)]
    differences = tuple(
        Difference(name, one.value, scores[1][name].value, difference(one, scores[1][name]))
        for name, one in scores[0].items()
    )
    return Comparison(
        names=names_of(results, paths),
        differences=differences,
        n_clips=len(common),
        n_units=differences[0].estimate.n_units,
        left_out=len(tested[0].row.keys() ^ tested[1].row.keys()),
        same_encoder=encoder_of(results[0]) == encoder_of(results[1]),
        caveats=tuple(f"{path}: {its.caveat}" for path, its in zip(paths, results, strict=True) if its.caveat),
        seeds=(len(tested[0].arrays["scores"]), len(tested[1].arrays["scores"])),
    )


def refuse_unlike(results: tuple[Result, Result], paths: tuple[Path, Path]) -> None:
    """Two results can be compared if they tested on the same data by the same rules; models, layers and seeds may differ.

    Raises:
        UserError: they did not.
    """
    facts = {
        "dataset": lambda result: result.corpus,
        "fingerprint of the dataset": lambda result: result.dataset.fingerprint,
        "protocol": lambda result: result.protocol_title,
    }
    for fact, of in facts.items():
        first, second = map(of, results)
        if first != second:
            raise UserError(f"cannot compare: {paths[0]} has {fact} {first}, {paths[1]} has {second}")


def names_of(results: tuple[Result, Result], paths: tuple[Path, Path]) -> tuple[str, str]:
    """The models' ids, with the layer where it is not the last; the paths where those are the same."""
    first, second = (
        result.model.id + (f" ({layer_name(result.layer)})" if result.layer != -1 else "") for result in results
    )
    return (first, second) if first != second else (str(paths[0]), str(paths[1]))
