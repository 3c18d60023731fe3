"""The formulas of the scores, as scikit-learn computes them, for one test set or for many weighted ones at once."""

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

    Example:
        >>> scores, targets = torch.tensor([[0.9], [0.8], [0.1]]), torch.tensor([[1], [0], [1]])
        >>> average_precision(scores, targets).tolist()
        [0.8333...]
    """
    ranked, order = scores.sort(dim=-2, descending=True)
    positive = targets.to(scores.device).expand(scores.shape).gather(-2, order).double()
    positions = torch.arange(1, scores.shape[-2] + 1, device=scores.device).unsqueeze(-1)
    precision = positive.cumsum(-2) / positions
    tied_with_next = ranked[..., :-1, :] == ranked[..., 1:, :]
    if tied_with_next.any():
        # the last position of each run of equal scores: the smallest last position at or after this one
        last = torch.where(tied_with_next, scores.shape[-2], positions[:-1])
        last = torch.cat([last, torch.full_like(last[..., :1, :], scores.shape[-2])], dim=-2)
        last = last.flip(-2).cummin(-2).values.flip(-2)
        precision = precision.gather(-2, last - 1)
    return (positive * precision).sum(-2) / positive.sum(-2)


def accuracy_and_macro_f1(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy and macro F1 from what `count_columns` counts; F1 over the classes that occur as target or prediction.

    Args:
        counts: [..., 3, classes]: clips of the class that were found, clips predicted as it, clips that are of it.

    Returns:
        {"accuracy", "macro_f1"}, each float64 [...].

    Example:
        >>> counts = count_columns(np.array([0, 0, 1]), np.array([0, 1, 1]), 3).sum(0).reshape(3, 3)
        >>> {name: value.item() for name, value in accuracy_and_macro_f1(counts).items()}
        {'accuracy': 0.6666..., 'macro_f1': 0.6666...}
    """
    found, predicted, actual = np.moveaxis(counts.astype(np.float64), -2, 0)
    occurs = predicted + actual > 0
    f1 = np.where(occurs, 2 * found / np.where(occurs, predicted + actual, 1), 0)
    return {"accuracy": found.sum(-1) / actual.sum(-1), "macro_f1": f1.sum(-1) / np.maximum(occurs.sum(-1), 1)}


def count_columns(predictions: np.ndarray, targets: np.ndarray, n_classes: int) -> np.ndarray:
    """Indicators whose (weighted) sum over clips is all that the single-label scores need: float32 [clips, 3 * classes]."""
    classes = np.arange(n_classes)
    predicted, actual = predictions[:, None] == classes, targets[:, None] == classes
    return np.concatenate([predicted & actual, predicted, actual], axis=1).astype(np.float32)


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

    Example:
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
