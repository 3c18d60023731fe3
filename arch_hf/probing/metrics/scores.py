"""The formulas of the scores, as scikit-learn computes them, for one test set or for many weighted ones at once."""

from typing import Any

import numpy as np
import torch


def average_precision(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Average precision of each class: the mean, over its positive clips, of the precision at the clip's rank.

    Clips of equal score share the rank of the last of them, as in sklearn.metrics.average_precision_score.

    Args:
        scores: [..., clips, classes], any monotone score (logits serve).
        targets: [clips, classes], 0 or 1.

    Returns:
        float64 [..., classes]; NaN where a class has no positive clip.

    Examples:
        >>> scores, targets = torch.tensor([[0.9], [0.8], [0.1]]), torch.tensor([[1], [0], [1]])
        >>> average_precision(scores, targets).tolist()
        [0.8333...]
    """
    ranked, order = scores.mT.sort(dim=-1, descending=True)
    positive = targets.to(scores.device).mT.expand(ranked.shape).gather(-1, order).double()
    precision = positive.cumsum(-1) / torch.arange(1, ranked.shape[-1] + 1, device=scores.device)
    tied_with_next = ranked[..., :-1] == ranked[..., 1:]
    if tied_with_next.any():
        # the last position of each run of equal scores: the smallest one at or after this clip's that is a last one
        positions = torch.arange(ranked.shape[-1], device=scores.device)
        last = positions.expand(ranked.shape).clone()
        last[..., :-1][tied_with_next] = ranked.shape[-1]
        precision = precision.gather(-1, last.flip(-1).cummin(-1).values.flip(-1))
    return (positive * precision).sum(-1) / positive.sum(-1)


def accuracy_and_macro_f1(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy and macro F1 from what `count_columns` counts; F1 over the classes that occur as target or prediction.

    Args:
        counts: [..., 3, classes]: clips of the class that were found, clips predicted as it, clips that are of it.

    Returns:
        {"accuracy", "macro_f1"}, each float64 [...].

    Examples:
        >>> counts = count_columns(np.array([0, 0, 1]), np.array([0, 1, 1]), 3).sum(0).reshape(3, 3)
        >>> {name: value.item() for name, value in accuracy_and_macro_f1(counts).items()}
        {'accuracy': 0.6666..., 'macro_f1': 0.6666...}
    """
    correct, predicted, actual = np.moveaxis(counts.astype(np.float64), -2, 0)
    occurs = predicted + actual > 0
    f1 = np.where(occurs, 2 * correct / np.where(occurs, predicted + actual, 1), 0)
    return {"accuracy": correct.sum(-1) / actual.sum(-1), "macro_f1": f1.sum(-1) / np.maximum(occurs.sum(-1), 1)}


def count_columns(predictions: np.ndarray, targets: np.ndarray, n_classes: int) -> np.ndarray:
    """Indicators whose (weighted) sum over clips is all that the single-label scores need: float32 [clips, 3 * classes]."""
    classes = np.arange(n_classes)
    predicted, actual = predictions[:, None] == classes, targets[:, None] == classes
    return np.concatenate([predicted & actual, predicted, actual], axis=1).astype(np.float32)


def average_precision_without(scores: np.ndarray, positive: np.ndarray, block: np.ndarray, n_blocks: int) -> np.ndarray:
    """Average precision of one class without each block of clips in turn.

    Args:
        scores: float [clips].
        positive: bool [clips].
        block: int64 [clips], in [0, n_blocks).

    Returns:
        float64 [n_blocks]; 0 where no positive clip is left.

    Examples:
        >>> scores, positive = np.array([0.9, 0.8, 0.1]), np.array([True, False, True])
        >>> average_precision_without(scores, positive, np.array([0, 1, 2]), 4).tolist()
        [0.5, 1.0, 1.0, 0.8333...]
    """
    thresholds = np.unique(scores[positive])[::-1]
    # of each clip the first positive's score that is not above its own; what ranks below all positives never counts
    row = np.searchsorted(-thresholds, -scores)
    cells, shape = row * n_blocks + block, (len(thresholds), n_blocks)
    ranked = row < len(thresholds)
    every = np.bincount(cells[ranked], minlength=shape[0] * n_blocks).reshape(shape)
    hits = np.bincount(cells[positive], minlength=shape[0] * n_blocks).reshape(shape)
    every, hits = every.sum(1, keepdims=True) - every, hits.sum(1, keepdims=True) - hits
    precision = hits.cumsum(0) / np.maximum(every.cumsum(0), 1)
    return (hits * precision).sum(0) / np.maximum(hits.sum(0), 1)


def map_macro_and_weighted(average_precisions: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
    """Mean of the classes' average precision, plain and weighted by their positives, over the classes that have a positive.

    Args:
        average_precisions, positives: [..., classes]; what stands for a class without positives does not matter.

    Returns:
        {"map_macro", "map_weighted"}, each float64 [...]; NaN where no class has a positive.
    """
    weights = np.asarray(positives, dtype=np.float64)
    known = np.where(weights > 0, average_precisions, 0.0)
    with np.errstate(invalid="ignore"):
        return {
            "map_macro": known.sum(-1) / (weights > 0).sum(-1),
            "map_weighted": (known * weights).sum(-1) / weights.sum(-1),
        }


def score(scores: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The metrics of one test set: accuracy and macro F1, or for multi-hot targets macro and weighted mAP.

    Args:
        scores: float [clips, classes]; the highest is the prediction.
        targets: int64 [clips], or 0 and 1 [clips, classes].

    Examples:
        >>> score(np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 0]))
        {'accuracy': 0.5, 'macro_f1': 0.3333...}
    """
    if targets.ndim == 1:
        columns = count_columns(scores.argmax(1), targets, scores.shape[1])
        values = accuracy_and_macro_f1(columns.sum(0, dtype=np.float64).reshape(3, -1))
    else:
        precisions = average_precision(torch.from_numpy(scores), torch.from_numpy(targets)).numpy()
        values = map_macro_and_weighted(precisions, targets.sum(0))
    return {name: float(value) for name, value in values.items()}


def headline(scores: torch.Tensor, targets: torch.Tensor) -> float:
    """Accuracy, or of several labels a clip macro mAP (NaN where no class has a positive clip).

    Args:
        scores: [clips, classes]; the highest is the prediction.
        targets: int64 [clips], or 0 and 1 [clips, classes].

    Examples:
        >>> headline(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
        0.5
    """
    if targets.ndim == 2:
        return average_precision(scores, targets).nanmean().item()
    return (scores.argmax(-1) == targets).double().mean().item()


class RankedClasses:
    """Clips ranked by score for every class, once, so that the average precision under many sets of clip weights is quick.

    Args:
        scores: float [clips, classes].
        targets: 0 or 1 [clips, classes].

    Examples:
        >>> scores, targets = np.array([[0.9], [0.8], [0.1]]), np.array([[1], [0], [1]])
        >>> RankedClasses(scores, targets).average_precision(np.float32([[1, 1, 1], [1, 1, 0]])).ravel().tolist()
        [0.8333..., 1.0]
    """

    def __init__(self, scores: np.ndarray, targets: np.ndarray):
        self._classes = [self._rank(column, target > 0) for column, target in zip(scores.T, targets.T, strict=True)]

    @staticmethod
    def _rank(scores: np.ndarray, positive: np.ndarray) -> tuple[Any, Any]:
        """Two sparse matrices that sum, for each score that a positive clip has, the clips ranked since the one before."""
        from scipy.sparse import csr_matrix

        order = np.argsort(-scores, kind="stable")
        # per clip in rank order: the first positive's score that is not above its own
        thresholds = np.unique(scores[positive])[::-1]
        row = np.searchsorted(-thresholds, -scores[order])
        kept = row < len(thresholds)  # what ranks below all positives never counts
        starts = np.searchsorted(row[kept], np.arange(len(thresholds) + 1)).astype(np.int32)
        columns = order[kept].astype(np.int32)
        shape = (len(thresholds), len(scores))
        every = csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=shape)
        hits = every.multiply(positive.astype(np.float32)).tocsr()
        hits.eliminate_zeros()
        return every, hits

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Average precision [sets, classes] under clip weights float32 [sets, clips]; 0 where no positive has weight."""
        by_clip = np.ascontiguousarray(weights.T)
        result = np.zeros((len(weights), len(self._classes)))
        for index, (every, hits) in enumerate(self._classes):
            if every.shape[0]:
                correct = hits @ by_clip
                so_far = correct.cumsum(0, dtype=np.float32)
                precision = so_far / np.maximum((every @ by_clip).cumsum(0, dtype=np.float32), 1)
                result[:, index] = (correct * precision).sum(0, dtype=np.float64) / np.maximum(so_far[-1], 1)
        return result
