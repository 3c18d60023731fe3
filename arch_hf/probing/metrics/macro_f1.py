"""Macro F1: the mean over classes of the harmonic mean of precision and recall. As sklearn.metrics.f1_score(average="macro")."""

from arch_hf.compat.evaluate_library import find_evaluate
from arch_hf.probing.metrics.modules import describe_single_label, single_label_scores

evaluate = find_evaluate()


class MacroF1(evaluate.Metric):  # type: ignore[name-defined]  # found at run time
    """Macro F1: the mean over classes of the harmonic mean of precision and recall.

    Examples:
        >>> metric = MacroF1()
        >>> metric.compute(predictions=[0, 1, 1, 2], references=[0, 1, 2, 2])
        {'macro_f1': 0.7...}
    """

    def _info(self):
        return describe_single_label(__doc__)

    def _compute(self, predictions, references):
        return {"macro_f1": single_label_scores(predictions, references)["macro_f1"]}
