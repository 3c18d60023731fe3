"""A few clips of a dataset, for a quick look."""

import numpy as np
from datasets import Dataset

from arch_hf.data.custom.raw import read_column


def spread(clips: Dataset, limit: int) -> np.ndarray:
    """Positions of `limit` clips that cover the classes evenly, in canonical order.

    Each class's clips are counted 0, 1, 2, ... in order; the clips with the lowest counts are kept. A clip with several labels counts
    for the rarest of them.
    """
    if "labels" in clips.features:
        labels = [[label for label in of_clip or () if label is not None] for of_clip in read_column(clips, "labels")]
        sizes = np.bincount(np.concatenate([np.asarray(of_clip, np.int64) for of_clip in labels]), minlength=1)
        first = [min(of_clip, key=lambda label: (sizes[label], label)) if of_clip else -1 for of_clip in labels]
    else:
        first = [-1 if label is None else label for label in read_column(clips, "label")]
    seen: dict[int, int] = {}
    counts = np.empty(len(first), np.int64)
    for i, label in enumerate(first):
        counts[i] = seen.get(label, 0)
        seen[label] = counts[i] + 1
    return np.sort(np.lexsort((np.array(first), counts))[:limit])
