"""The words of the result: from the test scores of all runs to metrics, intervals, floors, per-class scores, predictions."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from arch_hf.data.spec import ClipTable, Corpus
from arch_hf.errors import UserError
from arch_hf.probing.linear import Outcome, Stream
from arch_hf.probing.metrics.scores import average_precision, score
from arch_hf.probing.protocols import Fold
from arch_hf.probing.statistics import N_RESAMPLES, SEED, TestSet, bootstrap, interval, unit_codes

LARGEST_CONFUSION = 200  # classes; a larger matrix would be most of the file, and the predictions hold it all


def summarise(
    outcomes: Sequence[Outcome],
    targets: np.ndarray,
    class_names: Sequence[str],
    folds: Sequence[Fold],
    corpus: Corpus,
    table: ClipTable,
) -> tuple[dict, dict[str, np.ndarray]]:
    """The probe's part of a result.

    Returns:
        block:
            "metrics": name -> "mean" (over folds without weights, then over seeds), "std" (sample standard deviation over all
                runs, folds and seeds alike; 0 for one run) and "ci95" (see `arch_hf.probing.statistics`).
            "runs": one per fold and seed: sizes, the learning rate and epoch that were kept, the headline metric on validation,
                the metrics on test.
            "validation": the headline metric on validation, mean over the runs; null without validation clips.
            "baselines": "majority" (each fold's most frequent train class for all, or its train frequencies as scores), and
                "human" where published.
            "per_class": clips of the class, precision, recall and F1 over all folds, or average precision (mean over
                folds that have a positive); means over seeds.
            "confusion": [true class][predicted class], clips, sum over folds, mean over seeds; null for multi-label.
            "classes_without_positives": multi-label: fold -> names of the classes that no test clip has, left out of its mean.
            "left_out_for_leakage", "split_notes", "bootstrap": what was left out, what gave way, how the intervals came about.
        predictions:
            "clip" int64 [tested]: index into the table; "fold" int64 [tested]; "unit" int64 [tested]: what the bootstrap draws;
            "target" int64 [tested] or uint8 [tested, classes]; "scores" float32 [seeds, tested, classes]: the probe's
            output, the highest is the prediction.

    Raises:
        UserError: a test set without any label.
    """
    seeds = sorted({outcome.seed for outcome in outcomes})
    by_run = {(outcome.fold_index, outcome.seed): outcome for outcome in outcomes}
    tested = np.concatenate([fold.test for fold in folds])
    units = unit_codes([table.group[i] for i in tested], [table.clip_id[i] for i in tested])
    of_fold = np.concatenate([np.full(len(fold.test), index) for index, fold in enumerate(folds)])
    scores = np.stack([np.concatenate([by_run[f, seed].scores for f in range(len(folds))]) for seed in seeds])
    runs = [_run(by_run[index, seed], fold, targets, corpus) for index, fold in enumerate(folds) for seed in seeds]
    tests = [TestSet(scores[:, of_fold == f], targets[fold.test], units[of_fold == f]) for f, fold in enumerate(folds)]
    validations = [run["validation"] for run in runs]
    block = {
        "metrics": _metrics(runs, tests),
        "runs": runs,
        "validation": None if None in validations else {corpus.metric: float(np.mean(validations))},
        "baselines": baselines(targets, len(class_names), folds, corpus),
        "per_class": _per_class(scores, tests, targets[tested], class_names),
        "confusion": _confusion(scores, targets[tested], len(class_names)),
        "bootstrap": {
            "resamples": N_RESAMPLES,
            "seed": SEED,
            "unit": "group" if len(np.unique(units)) < len(tested) else "clip",
            "n_units": len(np.unique(units)),
        },
        "left_out_for_leakage": sum(fold.left_out for fold in folds),
        "split_notes": list(dict.fromkeys(fold.note for fold in folds if fold.note)),
    }
    if targets.ndim == 2:
        block["classes_without_positives"] = {
            fold.name: [class_names[c] for c in np.flatnonzero(targets[fold.test].sum(0) == 0)]
            for fold in folds
            if (targets[fold.test].sum(0) == 0).any()
        }
    target = targets[tested] if targets.ndim == 1 else targets[tested].astype(np.uint8)
    return block, {"clip": tested, "fold": of_fold, "unit": units, "target": target, "scores": scores}


def _run(outcome: Outcome, fold: Fold, targets: np.ndarray, corpus: Corpus) -> dict:
    if targets.ndim == 2 and not targets[fold.test].any():
        raise UserError(f"{corpus.name}, {fold.name}: no test clip has a label, so there is nothing to score")
    return {
        "fold": fold.name,
        "seed": outcome.seed,
        "n_train": len(fold.train),
        "n_validation": len(fold.validation),
        "n_test": len(fold.test),
        "left_out_for_leakage": fold.left_out,
        **outcome.kept,
        "validation": outcome.validation,
        "metrics": score(outcome.scores, targets[fold.test]),
    }


def _metrics(runs: Sequence[dict], tests: Sequence[TestSet]) -> dict:
    resampled = bootstrap(tests)
    n_units = len(np.unique(np.concatenate([test.groups for test in tests])))
    metrics = {}
    for name, values in resampled.items():
        scores = [
            run["metrics"][name] for run in runs
        ]  # every fold has every seed: the plain mean is the mean of means
        mean = float(np.mean(scores))
        low, high = interval(values, mean, n_units)
        std = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
        metrics[name] = {"mean": mean, "std": std, "ci95": [max(low, 0.0), min(high, 1.0)]}
    return metrics


def baselines(targets: np.ndarray, n_classes: int, folds: Sequence[Fold], corpus: Corpus) -> dict:
    """Scores without listening: the majority class of each fold's train clips; and people's, where published."""
    by_fold = []
    for fold in folds:
        train = targets[fold.train]
        frequency = np.bincount(train, minlength=n_classes) if train.ndim == 1 else train.mean(0)
        constant = np.broadcast_to(frequency.astype(np.float64), (len(fold.test), n_classes)).copy()
        by_fold.append(score(constant, targets[fold.test]))
    found = {"majority": {name: float(np.mean([scores[name] for scores in by_fold])) for name in by_fold[0]}}
    if corpus.human_accuracy is not None:
        found["human"] = {"accuracy": corpus.human_accuracy}
    return found


def _confusion(scores: np.ndarray, targets: np.ndarray, n_classes: int) -> list[list[float]] | None:
    if targets.ndim == 2 or n_classes > LARGEST_CONFUSION:
        return None
    return _count(scores, targets, n_classes).tolist()


def _count(scores: np.ndarray, targets: np.ndarray, n_classes: int) -> np.ndarray:
    """float64 [true, predicted]: clips, mean over seeds."""
    cells = (targets * n_classes + scores.argmax(-1)).ravel()
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes) / len(scores)


def _per_class(
    scores: np.ndarray, tests: Sequence[TestSet], targets: np.ndarray, class_names: Sequence[str]
) -> list[dict]:
    if targets.ndim == 1:
        counts = _count(scores, targets, len(class_names))
        found, predicted, actual = counts.diagonal(), counts.sum(0), counts.sum(1)
        columns = {
            "n_test": actual.astype(int),
            "precision": found / np.maximum(predicted, 1e-9),
            "recall": found / np.maximum(actual, 1e-9),
            "f1": 2 * found / np.maximum(predicted + actual, 1e-9),
        }
    else:
        precisions = np.stack([_average_precisions(test) for test in tests])  # [folds, classes], NaN without positives
        has = np.isfinite(precisions)
        mean = np.where(has, precisions, 0).sum(0) / np.maximum(has.sum(0), 1)
        columns = {"n_test": targets.sum(0).astype(int), "average_precision": np.where(has.any(0), mean, np.nan)}
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return [
        {"class": name} | {key: None if value != value else value for key, value in zip(columns, row, strict=True)}
        for name, row in zip(class_names, rows, strict=True)
    ]


def _average_precisions(test: TestSet) -> np.ndarray:
    return average_precision(torch.from_numpy(test.scores), torch.from_numpy(test.targets)).mean(0).numpy()


def few_shot_block(
    plan: Mapping[int, Sequence[Stream]], outcomes: Mapping[Stream, Outcome], layer: int, targets: np.ndarray
) -> dict:
    """shots -> {"draws", "metrics": name -> mean over folds and draws, std over draws}."""
    block = {}
    for n_shots, streams in plan.items():
        by_draw: dict[int, list[dict]] = {}
        for stream in streams:
            if stream.layer == layer:
                metrics = score(outcomes[stream].scores, targets[stream.fold.test])
                by_draw.setdefault(stream.seed, []).append(metrics)
        means = {
            name: [np.mean([fold[name] for fold in folds]) for folds in by_draw.values()]
            for name in next(iter(by_draw.values()))[0]
        }
        block[str(n_shots)] = {
            "draws": len(by_draw),
            "metrics": {
                name: {"mean": float(np.mean(v)), "std": float(np.std(v, ddof=1))} for name, v in means.items()
            },
        }
    return block
