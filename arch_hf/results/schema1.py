"""Results of schema 1, as arch-hf 0.1 wrote them, brought to the present form."""

from typing import Any

import numpy as np


def upgrade(old: dict[str, Any]) -> dict[str, Any]:
    """The content of a result file of schema 1 as one of schema 2, for the reader to check.

    What schema 1 did not know stays unknown (null). It had one standard deviation over all runs, folds and seeds alike: the two that there
    are now come from its runs.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: it has not the form of a result.
    """
    new = {key: value for key, value in old.items() if value is not None}
    new["schema_version"] = 2
    runs = old.get("runs", [])
    if not isinstance(runs, list):
        raise ValueError(f"has runs that are {'null' if runs is None else 'no list'}")
    new["metrics"] = {name: _score(name, block, runs) for name, block in old["metrics"].items()}
    new["dataset"] = {key: value for key, value in old["dataset"].items() if value is not None}
    new["runs"] = [_run(run) for run in runs]
    new["baselines"] = {name: block for name, block in (old.get("baselines") or {}).items() if isinstance(block, dict)}
    return new


def _score(name: str, block: dict[str, Any], runs: list) -> dict[str, Any]:
    known = [run for run in runs if isinstance((run.get("metrics") or {}).get(name), (int, float))]
    deviations = {"std_folds": _std(known, name, "fold"), "std_seeds": _std(known, name, "seed")}
    return {"mean": block["mean"], "ci95": block.get("ci95"), **deviations}


def _std(runs: list[dict], name: str, by: str) -> float | None:
    """Sample standard deviation over folds (or seeds) of their means."""
    values: dict[Any, list[float]] = {}
    for run in runs:
        values.setdefault(run[by], []).append(run["metrics"][name])
    return float(np.std([np.mean(part) for part in values.values()], ddof=1)) if len(values) > 1 else None


def _run(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if value is not None}
