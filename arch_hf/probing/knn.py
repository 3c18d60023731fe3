"""The nearest neighbours' vote: a probe without training, off by default."""

from collections.abc import Sequence

import numpy as np
import sklearn
from sklearn.neighbors import KNeighborsRegressor

from arch_hf.probing.linear import Outcome
from arch_hf.probing.task import Fold, ProbeTask

N_NEIGHBOURS = 10


def knn(features: np.ndarray, task: ProbeTask, folds: Sequence[tuple[int, Fold]]) -> list[Outcome]:
    """The 10 nearest train clips by cosine vote with the inverse of their distance (scikit-learn's weights="distance").

    There is nothing random in it, so one outcome per fold, as of seed 0.

    Args:
        features: float32 [clips, dim].
        task: its targets and classes.
        folds: those to score, each with its number.

    Example:
        >>> fold = Fold("test", train=np.array([0, 1]), validation=np.array([], int), test=np.array([2]))
        >>> task = ProbeTask("two", "accuracy", None, np.array([0, 1, 0]), ["a", "b"], [fold])
        >>> features = np.float32([[1, 0], [0, 1], [0.9, 0.2]])
        >>> knn(features, task, [(0, fold)])[0].scores.argmax(1)
        array([0])
    """
    targets, n_classes = task.targets, task.n_classes
    hot = np.eye(n_classes, dtype=np.float32)[targets] if targets.ndim == 1 else targets.astype(np.float32)
    outcomes = []
    for index, fold in folds:
        n_neighbours = min(N_NEIGHBOURS, len(fold.train))
        model = KNeighborsRegressor(n_neighbours, weights="distance", metric="cosine", algorithm="brute")
        with sklearn.config_context(working_memory=256):
            votes = model.fit(features[fold.train], hot[fold.train]).predict(features[fold.test])
        votes = votes.reshape(len(fold.test), n_classes).astype(np.float32)
        outcomes.append(Outcome(index, 0, votes, None, {"n_neighbours": n_neighbours}))
    return outcomes
