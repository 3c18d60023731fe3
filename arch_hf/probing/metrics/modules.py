"""What the modules of the evaluate library share. Each of them is one file that can be put on the Hub, and imports the rest from arch_hf."""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from arch_hf.compat.evaluate_library import find_evaluate
from arch_hf.probing.metrics.scores import accuracy_and_macro_f1, count_columns

evaluate = find_evaluate()
SOURCE = ["https://scikit-learn.org/stable/modules/model_evaluation.html"]


def describe_single_label(description: str | None) -> Any:
    """The `MetricInfo` of a metric over one class per clip."""
    features = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
    return _describe(description, "predictions: class index of each clip; references: the true one.", features)


def describe_multi_label(description: str | None) -> Any:
    """The `MetricInfo` of a metric over a score per clip and class."""
    features = {
        "predictions": datasets.List(datasets.Value("float32")),
        "references": datasets.List(datasets.Value("int64")),
    }
    inputs = "predictions: a score per clip and class; references: 0 or 1 per clip and class."
    return _describe(description, inputs, features)


def _describe(description: str | None, inputs: str, features: dict) -> Any:
    return evaluate.MetricInfo(
        description=description,
        citation="",
        inputs_description=inputs,
        features=datasets.Features(features),
        reference_urls=SOURCE,
    )


def single_label_scores(predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
    """Accuracy and macro F1 of class indices.

    Examples:
        >>> single_label_scores([0, 1, 1, 2], [0, 1, 2, 2])
        {'accuracy': 0.75, 'macro_f1': 0.7777...}
    """
    guesses, truths = np.asarray(predictions), np.asarray(references)
    n_classes = int(max(guesses.max(), truths.max())) + 1
    counts = count_columns(guesses, truths, n_classes).sum(0, dtype=np.float64).reshape(3, n_classes)
    return {name: float(value) for name, value in accuracy_and_macro_f1(counts).items()}
