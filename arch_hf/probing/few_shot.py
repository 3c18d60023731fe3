"""The linear probe on few clips per class, off by default."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from arch_hf.probing.task import ProbeTask, RunKey

FEW_SHOT_DRAWS = 10


def few_shot_runs(task: ProbeTask, shots: Sequence[int], n_layers: int = 1) -> dict[int, list[RunKey]]:
    """Training on few clips: for each number of shots the runs of FEW_SHOT_DRAWS draws from every fold's train clips.

    A draw takes `shots` clips of each class (all, where the class has fewer); of a multi-label clip every label counts as
    drawn, so that a class may get more. The seed of a run is the number of its draw.
    """
    targets, folds = task.targets, task.folds
    hot = np.eye(task.n_classes, dtype=bool)[targets] if targets.ndim == 1 else targets.astype(bool)
    plan: dict[int, list[RunKey]] = {}
    for n_shots in shots:
        plan[n_shots] = []
        for index, fold in enumerate(folds):
            for draw in range(FEW_SHOT_DRAWS):
                order = np.random.default_rng([draw, index]).permutation(fold.train)
                few = replace(fold, train=np.sort(_draw(order, hot[order], n_shots)))
                plan[n_shots] += [RunKey(layer, index, few, draw) for layer in range(n_layers)]
    return plan


def _draw(order: np.ndarray, hot: np.ndarray, n_shots: int) -> np.ndarray:
    chosen = np.zeros(len(order), bool)
    for label in np.argsort(hot.sum(0), kind="stable"):  # the rare classes first
        missing = n_shots - (hot[:, label] & chosen).sum()
        chosen[np.flatnonzero(hot[:, label] & ~chosen)[: max(missing, 0)]] = True
    return order[chosen]
