"""Hidden states over time to one vector per clip; and the states themselves, with the time of each."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from arch_hf.embedding.inputs import Inputs, Segment
from arch_hf.embedding.timing import KALDI_FRAME, KALDI_HOP, FrameGrid


class Frames(NamedTuple):
    """The hidden states of one clip over time.

    Their mean by PyTorch is the clip's embedding, but for the rounding where a clip goes in several windows. NumPy adds float32 frames one
    after the other, which may itself lose 3e-6 of the vector's largest number; in float64 it shows the rounding of `embed`, at most 4e-7 of
    that number for all families that were tried.

    Attributes:
        states: float32 [frames, dim].
        times: seconds, float64 [frames]: the middle of what each frame hears of the clip, not counting what attention adds. Where a frame
            hears padding behind the clip's end too, the padding is not counted: no time lies outside of the clip.

    Examples:
        >>> frames = Frames(np.array([[1, 2], [3, 6]], np.float32), np.array([0.01, 0.03]))
        >>> torch.from_numpy(frames.states).mean(0).tolist(), frames.states.mean(0, dtype=np.float64).tolist()
        ([2.0, 4.0], [2.0, 4.0])
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


def times_of(segment: Segment, rest: int, n_frames: int, grid: FrameGrid | None, rate: int) -> np.ndarray:
    """Seconds from the beginning of the clip at which a segment's frames are, float64 [n_frames]: the middle of what each hears of the clip, of
    which `rest` samples are left from the segment's beginning on; of a single frame (no grid) the middle of these.

    CLAP's window holds a short clip several times over: the times begin anew with each repetition.

    Examples:
        >>> hubert, clip = FrameGrid(200, 320), Segment(torch.zeros(400), 400, 400)
        >>> (times_of(clip, 400, 1, hubert, 16000) * 16000).tolist(), (times_of(clip, 100, 1, hubert, 16000) * 16000).tolist()
        ([200.0], [50.0])
    """
    start, end = segment.start / rate, min(rest, segment.samples) / rate
    if grid is None:
        return np.full(n_frames, start + end / 2)
    times = grid.seconds(n_frames, rate)
    begin, stop = segment.pooled or (0, 0)
    times = times - begin / rate
    if stop - begin > segment.samples:
        times = times % (segment.samples / rate)
    else:  # a frame hears `first` samples on both sides of its middle
        times = np.minimum(times, (times - grid.first / rate + end) / 2)
    return start + np.clip(times, 0, end)
