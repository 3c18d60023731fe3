"""Accuracy: the fraction of clips whose class was found. As sklearn.metrics.accuracy_score."""

import datasets
import numpy as np

from arch_hf.compat.evaluate_library import find_evaluate
from arch_hf.probing.metrics.scores import accuracy_and_macro_f1, count_columns

evaluate = find_evaluate()


class Accuracy(evaluate.Metric):
    """Accuracy: the fraction of clips whose class was found.

    Example:
        >>> metric = Accuracy()
        >>> metric.compute(predictions=[0, 1, 1, 2], references=[0, 1, 2, 2])
        {'accuracy': 0.7...}
    """

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions: class index of each clip; references: the true one.",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
            reference_urls=["https://scikit-learn.org/stable/modules/model_evaluation.html"],
        )

    def _compute(self, predictions, references):
        predictions, references = np.asarray(predictions), np.asarray(references)
        n_classes = int(max(predictions.max(), references.max())) + 1
        counts = count_columns(predictions, references, n_classes).sum(0, dtype=np.float64).reshape(3, n_classes)
        return {"accuracy": float(accuracy_and_macro_f1(counts)["accuracy"])}
