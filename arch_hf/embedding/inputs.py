"""A clip to what a model takes, by the model's own feature extractor.

A feature extractor gives one of three things, told apart by calling it: the waveform itself (scaled, perhaps), frames
of a spectrogram as many as the clip has, or a spectrogram of one fixed size, its window. Clips longer than a window are
cut into windows, each a segment of its own; the clip's embedding is the mean over the frames of all its segments.
"""

import copy
import inspect
import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from arch_hf.embedding.families import AudioTower
from arch_hf.errors import UserError

# Kaldi's filter banks, built into AST's feature extractor: frames of 25 ms every 10 ms.
_KALDI_FRAME, _KALDI_HOP = 0.025, 0.010


@dataclass
class Segment:
    """A clip, or one window of it, as the model takes it.

    Attributes:
        values: without batch dimension.
        samples: how many hold sound, of `total`.
        moving: of a waveform, the values up to the last that differs from the very last one: behind them all is constant.
    """

    values: torch.Tensor
    samples: int
    total: int
    moving: int = 0


class Inputs:
    """How clips become the input of one encoder: `kind` is "waveform", "frames" or "window"."""

    def __init__(self, feature_extractor, tower: AudioTower):
        self.feature_extractor = feature_extractor
        self.tower = tower
        self.input_name, self.codec = tower.input_name, tower.codec
        self.rate = int(feature_extractor.sampling_rate)
        embeddings = getattr(tower.encoder, "embeddings", None)
        # AST: a spectrogram from Kaldi's filter banks, cut into patches
        self.patches = embeddings.get_shape if hasattr(embeddings, "get_shape") else None
        noise = np.random.default_rng(0).standard_normal(2 * self.rate).astype(np.float32) * 0.1
        one, two = (self._extract(noise[: seconds * self.rate]).shape for seconds in (1, 2))
        if one == two:
            self.kind, self.window = "window", self._window()
        else:
            self.kind = "waveform" if two[-1] >= 2 * self.rate else "frames"
            self.window = None
        self.shortest = None  # not known yet: see `minimum`

    def without_model(self) -> "Inputs":
        """As much of it as makes segments, for a process that prepares clips and has no use for the model."""
        self.minimum()
        light = copy.copy(self)
        light.tower = light.patches = None
        return light

    def segments(self, waveform: np.ndarray, max_seconds: float | None) -> list[Segment]:
        """One clip as the segments that go through the model; with `max_seconds`, cut and zero-padded to that (arch-v1)."""
        length = None if max_seconds is None else round(max_seconds * self.rate)
        waveform = waveform[:length]
        if self.kind != "window":
            if length is None:
                waveform = self._long_enough(waveform)
            values = self._extract(waveform, length)
            return [Segment(values, len(waveform), length or len(waveform), _moving(values))]
        if length is not None and length > self.window:
            waveform = np.pad(waveform, (0, length - len(waveform)))
        out = []
        for start in range(0, len(waveform), self.window):
            part = self._long_enough(waveform[start : start + self.window])
            out.append(Segment(self._extract(part), len(part), self.window))
        return out

    def _long_enough(self, waveform: np.ndarray) -> np.ndarray:
        if len(waveform) >= self.rate or len(waveform) >= self.minimum():
            return waveform
        return np.pad(waveform, (0, self.minimum() - len(waveform)))

    def minimum(self) -> int:
        """The fewest samples that make a frame; shorter clips are zero-padded to it.

        The receptive field of the convolutions where the configuration gives them, else found by trying.
        """
        if self.shortest is None:
            guess = receptive_field(self.tower.config) or (round(_KALDI_FRAME * self.rate) if self.patches else 1)
            high = guess
            while not self._works(high):
                high *= 2
                if high > 60 * self.rate:
                    raise UserError("the model takes no clip of up to 60 s")
            low = high // 2 if high > guess else high - 1  # known not to work, or not to be tried
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if self._works(middle) else (middle, high)
            self.shortest = high
        return self.shortest

    @torch.inference_mode()
    def _works(self, samples: int) -> bool:
        noise = np.random.default_rng(0).standard_normal(samples).astype(np.float32) * 0.1
        parameter = next(iter(self.tower.state_dict().values()))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # statistics of too few frames: that is what is asked here
                values = self._extract(noise)
            if not torch.isfinite(values).all():
                return False
            if self.kind == "window":  # the model sees the same size whatever the clip
                return True
            states = self.tower(values[None].to(parameter.device, parameter.dtype))
        except (RuntimeError, ValueError, IndexError, ZeroDivisionError, AssertionError):
            return False
        return all(state.shape[1] > 0 and bool(torch.isfinite(state).all()) for state in states)

    def _extract(self, waveform: np.ndarray, length: int | None = None) -> torch.Tensor:
        """One clip through the feature extractor; with `length` zero-padded by it to so many samples."""
        extractor, options = self.feature_extractor, {}
        if getattr(extractor, "feature_size", 1) == 2 and self.codec:
            waveform = np.stack([waveform, waveform])  # a stereo codec
        if length is not None:
            options = {"padding": "max_length", "max_length": length}
            if self.kind == "frames":
                options["max_length"] = self._frames(length)
        elif self.codec and getattr(extractor, "chunk_length_s", None):
            options = {"padding": False}  # it would fill the last chunk with zeros, and the model does not need it
        elif self.input_name == "input_features" and "pad_to_multiple_of" in _parameters(extractor):
            options = {"pad_to_multiple_of": None}  # a half-empty last frame
        # A list, always: handed an array with two dimensions, a feature extractor takes a batch for one clip.
        features = extractor([waveform], sampling_rate=self.rate, return_tensors="pt", **options)
        if self.input_name not in features:
            raise UserError(
                f"{type(extractor).__name__} makes {', '.join(features)} but the model takes {self.input_name}: "
                "preprocessor_config.json does not belong to this model"
            )
        return features[self.input_name][0]

    def _frames(self, samples: int) -> int:
        """Frames of the spectrogram before the feature extractor stacks neighbours."""
        silence = self.feature_extractor(
            [np.zeros(samples, np.float32)], sampling_rate=self.rate, return_tensors="pt", pad_to_multiple_of=None
        )
        return silence[self.input_name].shape[1] * getattr(self.feature_extractor, "stride", 1)

    def _window(self) -> int:
        """Samples that fit into a fixed-size spectrogram."""
        extractor = self.feature_extractor
        for name in ("nb_max_samples", "n_samples"):  # CLAP, Whisper
            if getattr(extractor, name, None):
                return int(getattr(extractor, name))
        if self.patches:
            return round(((extractor.max_length - 1) * _KALDI_HOP + _KALDI_FRAME) * self.rate)
        raise UserError(
            f"{type(extractor).__name__} makes a spectrogram of fixed size but does not say how many samples it holds "
            "(n_samples, nb_max_samples or max_length)"
        )


def _moving(values: torch.Tensor) -> int:
    """
    Example:
        >>> _moving(torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0])), _moving(torch.zeros(5))
        (3, 0)
    """
    if values.ndim > 1:
        return 0
    differ = np.flatnonzero(values.numpy() != float(values[-1]))
    return int(differ[-1]) + 1 if len(differ) else 0


def pack(clips: list[list[Segment]]) -> tuple[torch.Tensor, list]:
    """All segments of some clips as one flat tensor and how to take it apart: what passes from one process to another.

    Example:
        >>> clips = [[Segment(torch.ones(3), 3, 3)], [], [Segment(torch.zeros(2, 4), 8, 9), Segment(torch.ones(2, 4), 2, 9)]]
        >>> flat, layout = pack(clips)
        >>> flat.shape, [len(segments) for segments in unpack(flat, layout)]
        (torch.Size([19]), [1, 0, 2])
    """
    layout = [[(tuple(p.values.shape), p.samples, p.total, p.moving) for p in segments] for segments in clips]
    values = [segment.values.flatten() for segments in clips for segment in segments]
    return torch.cat(values) if values else torch.empty(0), layout


def unpack(flat: torch.Tensor, layout: list) -> list[list[Segment]]:
    """The segments that `pack` was given, their values views of `flat`."""
    parts = iter(flat.split([math.prod(shape) for segments in layout for shape, *_ in segments]))
    return [[Segment(next(parts).view(shape), *rest) for shape, *rest in segments] for segments in layout]


def own_frames(tower: AudioTower, inputs: Inputs, segment: Segment, n_frames: int) -> torch.Tensor | None:
    """Which of a window's frames hold the segment's own sound: bool [frames], or None for all.

    CLAP repeats a short clip until its window is full: all frames are the clip's.
    """
    if inputs.kind != "window" or segment.samples >= segment.total:
        return None
    if getattr(inputs.feature_extractor, "padding", None) in ("repeat", "repeatpad"):
        return None
    rows, columns, leading = 1, n_frames, 0
    if inputs.patches:
        config = tower.encoder.config
        rows, columns = inputs.patches(config)
        leading = n_frames - rows * columns  # the class and distillation tokens
        frames = 1 + int((segment.samples / inputs.rate - _KALDI_FRAME) / _KALDI_HOP)
        own = max(1, (frames - config.patch_size) // config.time_stride + 1)
    else:
        own = -(-segment.samples * n_frames // segment.total)
    row = torch.arange(columns) < own
    return torch.cat([torch.zeros(leading, dtype=torch.bool), row.repeat(rows)])


def receptive_field(config) -> int | None:
    """Samples that one frame of a stack of convolutions sees, or None if the configuration has none.

    Example:
        >>> from transformers import HubertConfig
        >>> receptive_field(HubertConfig()), hop(HubertConfig())
        (400, 320)
    """
    if not getattr(config, "conv_kernel", None):
        return None
    field, step = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        field += (kernel - 1) * step
        step *= stride
    return field


def hop(config) -> int | None:
    """Samples between the frames of a stack of convolutions, or None if the configuration has none."""
    return int(np.prod(config.conv_stride)) if getattr(config, "conv_stride", None) else None


def _parameters(extractor) -> tuple[str, ...]:
    return tuple(inspect.signature(extractor.__call__).parameters)
