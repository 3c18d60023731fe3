"""Result files as a report needs them: found, read, checked. What is not a result is named, with its reason, and left out."""

import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import NoneType

from arch_hf.data.spec import HEADLINE
from arch_hf.errors import UserError
from arch_hf.results.result import read_result, why_not_comparable


@dataclass(frozen=True)
class Result:
    """One model on one corpus under one protocol at one layer. Scores are fractions in [0, 1].

    `caveat` says why the score must not be ranked (an incomplete or limited run), None when it may be. `classes` and `class_scores` run in
    parallel (accuracy within the class, or its average precision; None where the test set has none of it); `confusion` counts
    clips (means over seeds), rows are the truth. `dataset` is the dataset's id, `corpus` the name of the column.
    """

    model_id: str
    revision: str | None
    weights: str | None
    n_parameters: int | None
    gflop_per_second: float | None
    n_layers: int | None
    corpus: str
    dataset: str
    domain: str
    protocol: str
    protocol_version: str
    layer: int
    metric: str
    mean: float
    std: float | None
    interval: tuple[float, float] | None
    caveat: str | None
    n_clips: int
    n_excluded: int
    n_runs: int
    majority: float | None
    classes: tuple[str, ...]
    class_scores: tuple[float | None, ...]
    confusion: list[list[float]] | None
    path: Path


def read_results(results_dir: str | Path) -> tuple[list[Result], list[str]]:
    """All results under a folder, in the order of their paths, and one line for each JSON file that is none.

    Older schema versions are brought up to date in one place, `arch_hf.results.result.read_result`; everything here sees the current one.

    Raises:
        UserError: if the folder does not exist.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "notes.json").write_text("[1, 2]")
        >>> read_results(folder)
        ([], ['notes.json: not an arch-hf result'])
    """
    results_dir = Path(results_dir)
    if not results_dir.is_dir():
        raise UserError(f"no folder {results_dir}: give the folder that the main job wrote its results to")
    results, skipped = [], []
    for path in sorted(results_dir.rglob("*.json")):
        try:
            results.append(parse_result(read_result(path), path))
            continue
        except UserError as error:
            reason = _reason(error, path)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
            reason = f"not an arch-hf result of a known form ({type(error).__name__}: {error})"
        skipped.append(f"{path.relative_to(results_dir)}: {reason}")
    return results, skipped


def _reason(error: UserError, path: Path) -> str:
    """The message without the path in front, which the caller has said already."""
    return str(error).removeprefix(str(path)).removeprefix(" is").strip(" :")


def parse_result(raw: dict, path: Path = Path()) -> Result:
    """A result's JSON as a `Result`.

    Raises:
        KeyError, TypeError, ValueError: if a fact that the report cannot do without is missing or of the wrong kind.
    """
    version = raw["schema_version"]
    if type(version) is not int or version < 1:
        raise ValueError(f"schema_version is {version!r}")
    model, dataset, protocol = raw["model"], raw["dataset"], raw["protocol"]
    metric = HEADLINE[dataset["task"]]
    score = raw["metrics"][metric]
    classes, class_scores = _per_class(raw.get("per_class"), metric)
    return Result(
        model_id=_text(model["id"]),
        revision=_text(model.get("revision"), optional=True),
        weights=_text(model.get("weights_sha256"), optional=True),
        n_parameters=_positive(model.get("n_parameters")),
        gflop_per_second=_positive(model.get("gflop_per_second")),
        n_layers=_positive(model.get("n_layers")),
        corpus=corpus_of(dataset),
        dataset=_text(dataset["id"]),
        domain=_text(dataset["domain"], optional=True) or "other",
        protocol=_text(protocol["name"]),
        protocol_version=str(protocol["version"]),
        layer=_integer(raw["layer"]),
        metric=metric,
        mean=_fraction(score["mean"]),
        std=None if score.get("std") is None else _fraction(score["std"]),
        interval=None if score.get("ci95") is None else (_fraction(score["ci95"][0]), _fraction(score["ci95"][1])),
        caveat=why_not_comparable(raw),
        n_clips=_integer(dataset["n_clips"]),
        n_excluded=len(dataset.get("excluded_clips") or ()),
        n_runs=len(raw.get("runs") or ()),
        majority=_majority(raw.get("baselines"), metric),
        classes=classes,
        class_scores=class_scores,
        confusion=_confusion(raw.get("confusion"), len(classes)),
        path=path,
    )


def corpus_of(dataset: dict) -> str:
    """The column of a dataset: its corpus name without the namespace `arch/`, with the config of a foreign dataset that has several.

    Example:
        >>> corpus_of({"id": "arch/esc50"}), corpus_of({"id": "someone/esc50"}), corpus_of({"id": "a/b", "config": "small"})
        ('esc50', 'someone/esc50', 'a/b (small)')
    """
    name = _text(dataset["id"]).removeprefix("arch/")
    config = dataset.get("config")
    return f"{name} ({config})" if config and config != "default" and "/" in name else name


def _per_class(block, metric: str) -> tuple[tuple[str, ...], tuple[float | None, ...]]:
    """Class names and their scores; empty where the result has none."""
    if not block:
        return (), ()
    names = tuple(entry["class"] for entry in block)
    key = "average_precision" if metric == "map_macro" else "recall"
    scores = tuple(entry[key] if entry.get("n_test", 1) else None for entry in block)  # no test clip: no score
    if set(map(type, names)) != {str} or not set(map(type, scores)) <= {int, float, NoneType}:
        raise TypeError("a class is not text, or its score not a number")
    if not all(score is None or 0 <= score <= 1 for score in scores):
        raise ValueError("a score of a class is not a fraction in [0, 1]")
    return names, scores


def _confusion(block, n_classes: int) -> list[list[float]] | None:
    """Clips, rows are the truth; None where the result has none."""
    if not block:
        return None
    if {len(block), *map(len, block)} != {n_classes}:
        raise ValueError(f"the confusion matrix is not of {n_classes} classes")
    if not set(map(type, chain.from_iterable(block))) <= {int, float}:
        raise TypeError("the confusion matrix holds something else than numbers")
    return block


def _majority(block, metric: str) -> float | None:
    value = (block or {}).get("majority")
    if isinstance(value, dict):
        value = value.get(metric)
    return _fraction(value) if isinstance(value, int | float) else None


def _text(value, optional: bool = False) -> str | None:
    if not isinstance(value, str) and not (optional and value is None):
        raise TypeError(f"{value!r} is not text")
    return value


def _integer(value) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _positive(value):
    """A size or cost, None where it is not stated or nought (a baseline without weights)."""
    return value if isinstance(value, int | float) and math.isfinite(value) and value > 0 else None


def _fraction(value) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} is not a fraction in [0, 1]")
    return float(value)
