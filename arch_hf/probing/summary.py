"""The words of the result: from the test scores of all runs to metrics, intervals, floors, per-class scores, predictions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from arch_hf.errors import UserError
from arch_hf.probing.metrics.scores import average_precision, score
from arch_hf.probing.record import ClassScore, FewShot, Run, Score, Scores, score_of_runs
from arch_hf.probing.splits import split_digest
from arch_hf.probing.statistics import N_RESAMPLES, SEED, TestSet, bootstrap, interval, unit_codes
from arch_hf.probing.task import Fold, Outcome, ProbeTask, RunKey

# Part of a result's identity: raise it when the same embeddings under the same protocol give other metrics, intervals, baselines or scores by class.
SCORING_VERSION = 3
LARGEST_CONFUSION = 200  # classes; a larger matrix would be most of the file, and the predictions hold it all


def summarise(
    outcomes: Sequence[Outcome], task: ProbeTask, validation_use: str
) -> tuple[Scores, dict[str, np.ndarray]]:
    """The scores of all runs together, and what they were made from.

    Args:
        outcomes: of every fold with every seed.
        task: its targets, classes and folds.
        validation_use: what the validation clips were used for.

    Returns:
        scores: see `Scores`.
        predictions:
            "clip" int64 [tested]: index into the table; "fold" int64 [tested]; "unit" int64 [tested]: what the bootstrap draws;
            "target" int64 [tested] or uint8 [tested, classes]; "scores" float32 [seeds, tested, classes]: the probe's
            output, the highest is the prediction.

    Raises:
        UserError: a test set without any label.
    """
    targets, class_names, folds, table = task.targets, task.class_names, task.folds, task.table
    seeds = sorted({outcome.seed for outcome in outcomes})
    by_run = {(outcome.fold_index, outcome.seed): outcome for outcome in outcomes}
    tested = np.concatenate([fold.test for fold in folds])
    units = unit_codes([table.group[i] for i in tested], [table.clip_id[i] for i in tested])
    of_fold = np.concatenate([np.full(len(fold.test), index) for index, fold in enumerate(folds)])
    scores = np.stack([np.concatenate([by_run[f, seed].scores for f in range(len(folds))]) for seed in seeds])
    runs = [_run(by_run[index, seed], fold, task) for index, fold in enumerate(folds) for seed in seeds]
    tests = [TestSet(scores[:, of_fold == f], targets[fold.test], units[of_fold == f]) for f, fold in enumerate(folds)]
    n_units = len(np.unique(units))
    block = Scores(
        metrics=_metrics(runs, tests),
        runs=tuple(runs),
        validation=_validation(runs, task.metric),
        validation_use=validation_use if any(len(fold.validation) for fold in folds) else None,
        baselines=baselines(task),
        per_class=_per_class(scores, tests, targets[tested], class_names),
        confusion=_confusion(scores, targets[tested], len(class_names)),
        classes_without_positives=_without_positives(task),
        left_out_for_leakage=sum(fold.left_out for fold in folds),
        split_notes=tuple(dict.fromkeys(fold.note for fold in folds if fold.note)),
        split_digest=split_digest(table, folds),
        probe_notes=_probe_notes(runs),
        bootstrap={
            "resamples": N_RESAMPLES,
            "seed": SEED,
            "unit": "group" if n_units < len(tested) else "clip",
            "n_units": n_units,
        },
    )
    target = targets[tested] if targets.ndim == 1 else targets[tested].astype(np.uint8)
    return block, {"clip": tested, "fold": of_fold, "unit": units, "target": target, "scores": scores}


def _run(outcome: Outcome, fold: Fold, task: ProbeTask) -> Run:
    targets = task.targets[fold.test]
    if targets.ndim == 2 and not targets.any():
        raise UserError(f"{task.name}, {fold.name}: no test clip has a label, so there is nothing to score")
    return Run(
        fold=fold.name,
        seed=outcome.seed,
        n_train=outcome.n_train,
        n_validation=len(fold.validation),
        n_test=len(fold.test),
        left_out_for_leakage=fold.left_out,
        **outcome.kept,
        validation=_known(outcome.validation),
        metrics=score(outcome.scores, targets),
    )


def _validation(runs: Sequence[Run], metric: str) -> dict[str, float] | None:
    values = [run.validation for run in runs if run.validation is not None]
    return {metric: float(np.mean(values))} if len(values) == len(runs) else None


def _probe_notes(runs: Sequence[Run]) -> tuple[str, ...]:
    edges = Counter(
        (run.grid_edge, run.strength, run.grid_edge == "greatest" and run.validation_loss == 0)
        for run in runs
        if run.grid_edge
    )
    notes = []
    for (edge, strength, idle), n in edges.items():
        what = f"chose the {edge} strength of the grid, {strength:g}"
        if (
            idle
        ):  # a loss of 0 at the greatest strength: no clip is of a class that was learned, or there is one class alone
            what = f"could tell no strength from another by its classes, and the {edge}, {strength:g}, was taken"
        notes.append(f"validation {what}, in {n} of {len(runs)} runs")
    return tuple(notes)


def _metrics(runs: Sequence[Run], tests: Sequence[TestSet]) -> dict[str, Score]:
    n_units = len(np.unique(np.concatenate([test.groups for test in tests])))
    metrics = {}
    for name, values in bootstrap(tests).items():
        low, high = interval(values, score_of_runs(runs, name, None).mean, n_units)
        metrics[name] = score_of_runs(runs, name, (max(low, 0.0), min(high, 1.0)))
    return metrics


def _without_positives(task: ProbeTask) -> dict[str, tuple[str, ...]]:
    if task.targets.ndim == 1:
        return {}
    empty = {fold.name: np.flatnonzero(task.targets[fold.test].sum(0) == 0) for fold in task.folds}
    return {
        name: tuple(task.class_names[c] for c in classes.tolist()) for name, classes in empty.items() if len(classes)
    }


def baselines(task: ProbeTask) -> dict[str, dict[str, float]]:
    """Scores without listening: the majority class of each fold's train clips; and people's, where published."""
    by_fold = []
    for fold in task.folds:
        train = task.targets[fold.train]
        frequency = np.bincount(train, minlength=len(task.class_names)) if train.ndim == 1 else train.mean(0)
        constant = np.broadcast_to(frequency.astype(np.float64), (len(fold.test), len(task.class_names))).copy()
        by_fold.append(score(constant, task.targets[fold.test]))
    baselines = {"majority": {name: float(np.mean([scores[name] for scores in by_fold])) for name in by_fold[0]}}
    if task.human_accuracy is not None:
        baselines["human"] = {"accuracy": task.human_accuracy}
    return baselines


def _confusion(scores: np.ndarray, targets: np.ndarray, n_classes: int) -> tuple[tuple[float, ...], ...] | None:
    if targets.ndim == 2 or n_classes > LARGEST_CONFUSION:
        return None
    return tuple(map(tuple, _count(scores, targets, n_classes).tolist()))


def _count(scores: np.ndarray, targets: np.ndarray, n_classes: int) -> np.ndarray:
    """float64 [true, predicted]: clips, mean over seeds."""
    cells = (targets * n_classes + scores.argmax(-1)).ravel()
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes) / len(scores)


def _per_class(
    scores: np.ndarray, tests: Sequence[TestSet], targets: np.ndarray, class_names: Sequence[str]
) -> tuple[ClassScore, ...]:
    if targets.ndim == 1:
        counts = _count(scores, targets, len(class_names))
        correct, predicted, actual = counts.diagonal(), counts.sum(0), counts.sum(1)
        columns = {
            "n_test": actual.astype(int),
            "precision": correct / np.maximum(predicted, 1e-9),
            "recall": correct / np.maximum(actual, 1e-9),
            "f1": 2 * correct / np.maximum(predicted + actual, 1e-9),
        }
    else:
        precisions = np.stack([_average_precisions(test) for test in tests])  # [folds, classes], NaN without positives
        has = np.isfinite(precisions)
        mean = np.where(has, precisions, 0).sum(0) / np.maximum(has.sum(0), 1)
        columns = {"n_test": targets.sum(0).astype(int), "average_precision": np.where(has.any(0), mean, np.nan)}
    rows: Iterator[Any] = zip(*(values.tolist() for values in columns.values()), strict=True)
    return tuple(
        ClassScore(
            class_name=name,
            **{key: _known(value) for key, value in zip(columns, row, strict=True)},
        )
        for name, row in zip(class_names, rows, strict=True)
    )


def _known(value: Any) -> Any:
    return None if value != value else value


def _average_precisions(test: TestSet) -> np.ndarray:
    return average_precision(torch.from_numpy(test.scores), torch.from_numpy(test.targets)).mean(0).numpy()


def few_shot_scores(
    plan: Mapping[int, Sequence[RunKey]], outcomes: Mapping[RunKey, Outcome], layer: int, task: ProbeTask
) -> dict[str, FewShot]:
    """shots -> {"draws", "metrics": name -> mean over folds and draws, std over draws}."""
    block = {}
    for n_shots, runs in plan.items():
        by_draw: dict[int, list[dict]] = {}
        for run in runs:
            if run.layer == layer:
                metrics = score(outcomes[run].scores, task.targets[run.fold.test])
                by_draw.setdefault(run.seed, []).append(metrics)
        means = {
            name: [np.mean([fold[name] for fold in folds]) for folds in by_draw.values()]
            for name in next(iter(by_draw.values()))[0]
        }
        spread = {n: {"mean": float(np.mean(v)), "std": float(np.std(v, ddof=1))} for n, v in means.items()}
        block[str(n_shots)] = FewShot(draws=len(by_draw), metrics=spread)
    return block
