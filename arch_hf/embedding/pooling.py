"""Hidden states over time to one vector per clip; and the states themselves, with the time of each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from arch_hf.embedding.inputs import Inputs, Segment
from arch_hf.embedding.timing import KALDI_FRAME, KALDI_HOP, FrameGrid


class Frames(NamedTuple):
    """The hidden states of one clip over time.

    Attributes:
        states: float32 [frames, dim].
        times: seconds, float64 [frames]: the middle of what each frame hears, not counting what attention adds.
    """

    states: np.ndarray
    times: np.ndarray


def counted_frames(segment: Segment, inputs: Inputs, n_frames: int) -> slice:
    """Which of a segment's frames count: those in the part of a window that is pooled, else all.

    A patch of a spectrogram (AST) counts if it lies in that part whole, or if none does.
    """
    if segment.pooled is None:
        return slice(0, n_frames)
    begin, end = segment.pooled
    if inputs.patches and end < segment.total:
        frames = 1 + int((end / inputs.rate - KALDI_FRAME) / KALDI_HOP)
        return slice(0, max(1, (frames - inputs.patches.size) // inputs.patches.stride + 1))
    return slice(begin * n_frames // segment.total, -(-end * n_frames // segment.total))


def mean_over_time(state: torch.Tensor, counted: Sequence[slice], padded: bool = False) -> torch.Tensor:
    """Mean of hidden states [segments, frames, dim] over the frames of each that count: float32 [segments, dim]. What a segment's mean is to the
    last bit depends on no other segment, `padded` or not (if some have fewer frames than there are).

    Examples:
        >>> state = torch.tensor([[[1.0], [3.0], [9.0]], [[2.0], [4.0], [6.0]]])
        >>> mean_over_time(state, [slice(0, 2), slice(0, 3)]).tolist()
        [[2.0], [4.0]]
    """
    whole = [part == slice(0, state.shape[1]) and not padded for part in counted]
    if all(whole):
        return state.float().mean(1)
    weights = torch.zeros(state.shape[:2])
    for row, part in zip(weights, counted, strict=True):
        row[part] = 1
    weights = weights.to(state.device)
    means = (state.float() * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
    if any(whole):
        means = torch.where(torch.tensor(whole, device=state.device)[:, None], state.float().mean(1), means)
    return means


def times_of(segment: Segment, n_frames: int, grid: FrameGrid | None, rate: int) -> np.ndarray:
    """Seconds from the beginning of the clip at which a segment's frames are, float64 [n_frames]; of a single frame (no grid) the middle.

    CLAP's window holds a short clip several times over: the times begin anew with each repetition.
    """
    start = segment.start / rate
    if grid is None:
        return np.full(n_frames, start + segment.samples / rate / 2)
    times = grid.seconds(n_frames, rate)
    if segment.pooled is not None:
        begin, end = segment.pooled
        times = times - begin / rate
        times = times % (segment.samples / rate) if end - begin > segment.samples else times
    return start + times
