"""What is hidden from the model, and what it must tell apart: span masks and negatives, drawn on the CPU from a given generator."""

import numpy as np


def span_mask(
    rng: np.random.Generator, clips: int, frames: int, start: float, length: int, min_spans: int = 2
) -> np.ndarray:
    """Span masks for clips of equal length: bool [clips, frames], True where the frame is hidden.

    As in wav2vec 2.0 (section 3.1) and HuBERT: a share `start` of the frames is drawn without replacement, each begins a span of
    `length` frames, and spans may overlap. A fractional number of spans is rounded up or down by chance; at least `min_spans`
    are drawn. Clips have no padding here, so a span never leaves the clip.

    Example:
        >>> span_mask(np.random.default_rng(0), 1, 12, start=0.1, length=4, min_spans=1).sum(axis=1)
        array([4])
    """
    mask = np.zeros((clips, frames), dtype=bool)
    length = min(length, frames)
    places = frames - length + 1
    for row in mask:
        spans = min(max(int(start * frames + rng.random()), min_spans), places)
        starts = rng.choice(places, size=spans, replace=False)
        row[(starts[:, None] + np.arange(length)).ravel()] = True
    return mask


def sample_negatives(rng: np.random.Generator, mask: np.ndarray, negatives: int) -> np.ndarray:
    """For every hidden frame, `negatives` other hidden frames of the same clip, drawn uniformly with replacement.

    Returns int64 [hidden frames, negatives]: indices into the hidden frames in the order of `mask.nonzero()`. A clip with a
    single hidden frame has no other one: it gets itself, which the loss leaves out.

    Example:
        >>> mask = np.array([[True, True, False], [True, True, True]])
        >>> sample_negatives(np.random.default_rng(0), mask, 4)[:2].tolist()
        [[1, 1, 1, 1], [0, 0, 0, 0]]
    """
    blocks, offset = [], 0
    for hidden in mask.sum(axis=1):
        draws = rng.integers(0, max(hidden - 1, 1), size=(hidden, negatives))
        if hidden > 1:
            draws += draws >= np.arange(hidden)[:, None]  # skips the frame itself and stays uniform
        blocks.append(draws + offset)
        offset += hidden
    return np.concatenate(blocks).astype(np.int64)
