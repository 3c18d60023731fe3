"""Accuracy: the fraction of clips whose class was found. As sklearn.metrics.accuracy_score."""

from arch_hf.compat.evaluate_library import find_evaluate
from arch_hf.probing.metrics.modules import describe_single_label, single_label_scores

evaluate = find_evaluate()


class Accuracy(evaluate.Metric):  # type: ignore[name-defined]  # found at run time
    """Accuracy: the fraction of clips whose class was found.

    Examples:
        >>> metric = Accuracy()
        >>> metric.compute(predictions=[0, 1, 1, 2], references=[0, 1, 2, 2])
        {'accuracy': 0.7...}
    """

    def _info(self):
        return describe_single_label(__doc__)

    def _compute(self, predictions, references):
        return {"accuracy": single_label_scores(predictions, references)["accuracy"]}
