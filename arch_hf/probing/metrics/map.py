"""Mean average precision over classes, plain and weighted by positives. As sklearn.metrics.average_precision_score."""

import numpy as np

from arch_hf.compat.evaluate_library import find_evaluate
from arch_hf.probing.metrics.modules import describe_multi_label
from arch_hf.probing.metrics.scores import score

evaluate = find_evaluate()


class MeanAveragePrecision(evaluate.Metric):  # type: ignore[name-defined]  # found at run time
    """Mean average precision: `map_macro` is the plain mean over classes, `map_weighted` weighs them by their positives.

    A class without a positive clip has no average precision and is left out (scikit-learn counts it as 0).

    Examples:
        >>> metric = MeanAveragePrecision()
        >>> metric.compute(predictions=[[0.9, 0.1], [0.8, 0.7], [0.1, 0.2]], references=[[1, 0], [0, 1], [1, 0]])
        {'map_macro': 0.9166..., 'map_weighted': 0.8888...}
    """

    def _info(self):
        return describe_multi_label(__doc__)

    def _compute(self, predictions, references):
        return score(np.asarray(predictions, dtype=np.float32), np.asarray(references))
