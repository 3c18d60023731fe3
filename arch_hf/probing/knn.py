"""The nearest neighbours' vote: a probe without training, off by default."""

from collections.abc import Sequence

import numpy as np

from arch_hf.probing.protocols import Neighbours
from arch_hf.probing.task import Outcome, ProbeTask, RunKey


def knn(features: np.ndarray, task: ProbeTask, runs: Sequence[RunKey], strict: bool = False) -> list[Outcome]:
    """The nearest train clips by cosine vote with the inverse of their distance (scikit-learn's weights="distance"), in double precision:
    of vectors that share a large mean the distances are small, and squares of very large ones leave float32's range.

    Args:
        features: float32 [clips, dim].
        task: its targets and classes.
        runs: the folds to score.
        strict: whether embeddings are standardised by the clips that vote, which are those of validation too.

    Examples:
        >>> from arch_hf.probing.task import Fold
        >>> fold = Fold("test", train=np.array([0, 1]), validation=np.array([], int), test=np.array([2]))
        >>> task = ProbeTask("two", "accuracy", None, np.array([0, 1, 0]), ["a", "b"], [fold])
        >>> features = np.float32([[1, 0], [0, 1], [0.9, 0.2]])
        >>> knn(features, task, [RunKey(0, 0, fold, 0)])[0].scores.argmax(1)
        array([0])
    """
    import sklearn  # a second to import, and the other probes need none
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.preprocessing import StandardScaler

    targets, n_classes = task.targets, task.n_classes
    hot = np.eye(n_classes, dtype=np.float32)[targets] if targets.ndim == 1 else targets.astype(np.float32)
    outcomes = []
    for run in runs:
        voters, tested = run.fold.train, features[run.fold.test].astype(np.float64)
        if strict:
            voters = np.union1d(voters, run.fold.validation)
        known = features[voters].astype(np.float64)
        if strict:
            scaler = StandardScaler().fit(known)
            varies = (known != known[0]).any(0)  # what is constant has no scale; the linear probe leaves it out, too
            known, tested = scaler.transform(known) * varies, scaler.transform(tested) * varies
        neighbours = min(Neighbours.neighbours, len(voters))
        known, tested = map(unit_length, (known, tested))  # scikit-learn takes vectors shorter than 2e-15 for zeros
        model = KNeighborsRegressor(neighbours, weights="distance", metric="cosine", algorithm="brute")
        with sklearn.config_context(working_memory=256):
            votes = model.fit(known, hot[voters]).predict(tested)
        votes = votes.reshape(len(tested), n_classes).astype(np.float32)
        outcomes.append(Outcome(run.fold_index, run.seed, votes, len(voters), None, {"n_neighbours": neighbours}))
    return outcomes


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Vectors [clips, dim] of whatever length brought to length 1, float64; those of zeros stay as they are.

    Examples:
        >>> unit_length(np.float32([[3e30, 4e30], [0, 0]])).round(6).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    vectors = vectors.astype(np.float64, copy=False)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
