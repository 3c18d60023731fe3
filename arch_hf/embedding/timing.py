"""When a frame is: where the middle of what it hears lies in the clip.

Known from the configuration where an encoder is a stack of convolutions, of frames or of patches; measured otherwise, by the lengths at
which a clip has one frame more.
"""

import bisect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

# Kaldi's filter banks, built into AST's feature extractor: frames of 25 ms every 10 ms.
KALDI_FRAME, KALDI_HOP = 0.025, 0.010


@dataclass(frozen=True)
class FrameGrid:
    """Frames at regular times, in samples: the middle of frame 0 is at `first`, the next ones follow every `hop`.

    A codec that works in chunks begins anew in each: `chunk` holds the frames of one and the samples from one to the next.

    Examples:
        >>> samples = FrameGrid(0.5, 1)
        >>> wav2vec2 = samples.then(10, 5).then(3, 2).then(3, 2).then(3, 2).then(3, 2).then(2, 2).then(2, 2)
        >>> wav2vec2.first, wav2vec2.hop, wav2vec2.seconds(3, rate=16000).tolist()
        (200.0, 320, [0.0125, 0.0325, 0.0525])
    """

    first: float
    hop: float
    chunk: tuple[int, int] | None = None

    def then(self, kernel: int, stride: int, padding: int = 0) -> "FrameGrid":
        """The frames after one more convolution or pooling over time."""
        return FrameGrid(self.first + ((kernel - 1) / 2 - padding) * self.hop, self.hop * stride)

    def seconds(self, n_frames: int, rate: int) -> np.ndarray:
        """Times of the first frames, float64 [n_frames]."""
        frame = np.arange(n_frames)
        start: np.ndarray | float = 0.0
        if self.chunk is not None:
            start, frame = frame // self.chunk[0] * float(self.chunk[1]), frame % self.chunk[0]
        return (start + self.first + self.hop * frame) / rate


@dataclass(frozen=True)
class Timing:
    """The frames of the hidden states between the layers, and of the final output: other ones after an adapter or in SEW."""

    between: FrameGrid
    final: FrameGrid


def timing_of(tower: Any, inputs: Any, n_frames: Callable[[int, int], int]) -> Timing | None:
    """When the frames of an encoder are; None if it makes a single frame of a whole clip.

    Args:
        tower, inputs: of the encoder.
        n_frames: of a clip of so many samples at one layer.
    """
    config = tower.config
    if inputs.window is not None:
        return _in_a_window(tower, inputs, n_frames(inputs.rate, -1))

    chunk, stride = getattr(config, "chunk_length", None), getattr(config, "chunk_stride", None)
    longest = min(inputs.rate, stride or inputs.rate)

    def measured(layer: int) -> FrameGrid | None:
        grid = _measured(lambda n: n_frames(n, layer), inputs.minimum(), longest)
        return (
            grid if grid is None or not (chunk and stride) else replace(grid, chunk=(round(chunk / grid.hop), stride))
        )

    between = _from_convolutions(config) or measured(0)
    if between is None:
        return None
    if squeeze := getattr(config, "squeeze_factor", None):  # SEW's transformer has fewer frames than its final output
        return Timing(between.then(squeeze, squeeze), between)
    if n_frames(inputs.rate, 0) == n_frames(inputs.rate, -1):
        return Timing(between, between)
    final = between
    for layer in getattr(getattr(tower.encoder, "adapter", None), "layers", ()):
        conv = next(module for module in layer.children() if isinstance(module, nn.Conv1d))
        final = final.then(conv.kernel_size[0], conv.stride[0], int(conv.padding[0]))
    return Timing(between, final if final is not between else measured(-1) or between)


def _in_a_window(tower: Any, inputs: Any, n_frames: int) -> Timing:
    """A spectrogram of fixed size: under two convolutions (Whisper), in patches with gaps or overlaps (AST), or in equal parts (CLAP)."""
    if inputs.patches:
        frames = FrameGrid(0.5, 1).then(round(KALDI_FRAME * inputs.rate), round(KALDI_HOP * inputs.rate))
        patches = frames.then(inputs.patches.size, inputs.patches.stride)
        return Timing(patches, patches)
    step = inputs.window / n_frames
    layers = [getattr(tower.encoder, name, None) for name in ("conv1", "conv2")]
    convolutions = [conv for conv in layers if isinstance(conv, nn.Conv1d)]
    if convolutions != layers:
        return Timing(FrameGrid(step / 2, step), FrameGrid(step / 2, step))
    between = FrameGrid(0, inputs.feature_extractor.hop_length)  # the spectrogram's frames are centred
    for conv in convolutions:
        between = between.then(conv.kernel_size[0], conv.stride[0], int(conv.padding[0]))
    pooled = round(step / between.hop)
    return Timing(between, between.then(pooled, pooled))


def _from_convolutions(config: Any) -> FrameGrid | None:
    """Of a stack of convolutions over the waveform, if the configuration has one."""
    if not getattr(config, "conv_kernel", None):
        return None
    grid = FrameGrid(0.5, 1)
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        grid = grid.then(kernel, stride)
    return grid


def _measured(n_frames: Callable[[int], int], shortest: int, longest: int) -> FrameGrid | None:
    """By the lengths at which a clip has a second frame, and its last one. What one frame hears is then known where nothing is padded;
    where the edges are padded (codecs), frames are taken to lie side by side.

    Examples:
        >>> _measured(lambda n: max(0, (n - 895) // 384 + 1), 895, 16000)
        FrameGrid(first=447.5, hop=384.0, chunk=None)
        >>> _measured(lambda n: -(-n // 320), 1, 24000)
        FrameGrid(first=160.0, hop=320.0, chunk=None)
        >>> _measured(lambda n: 1, 1, 24000)
    """
    if (most := n_frames(longest)) < 3:
        longest *= 11
        most = n_frames(longest)
    if most < 3:
        return None
    lengths = range(shortest, longest + 1)
    second, last = (lengths[bisect.bisect_left(lengths, count, key=n_frames)] for count in (2, most))
    hop = (last - second) / (most - 2)
    return FrameGrid(max(second - hop, hop) / 2, hop)


def receptive_field(config: Any) -> int | None:
    """Samples that one frame of a stack of convolutions hears, or None if the configuration has none.

    Examples:
        >>> from transformers import HubertConfig
        >>> receptive_field(HubertConfig())
        400
    """
    grid = _from_convolutions(config)
    return None if grid is None else round(2 * grid.first)  # the first frame hears from sample 0 on
