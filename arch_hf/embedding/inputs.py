"""A clip to what a model takes, by the model's own feature extractor.

A feature extractor gives one of three things, told apart by calling it: the waveform itself (scaled, perhaps), frames
of a spectrogram as many as the clip has, or a spectrogram of one fixed size, its window. Clips longer than a window are
cut into windows, each a segment of its own; the clip's embedding is the mean over the frames of all its segments.
"""

import copy
import inspect
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from arch_hf.embedding.families import AudioTower
from arch_hf.embedding.timing import KALDI_FRAME, KALDI_HOP, receptive_field
from arch_hf.errors import UserError


@dataclass
class Segment:
    """A clip, or one window of it, as the model takes it.

    Attributes:
        values: without batch dimension.
        samples: how many hold sound, of `total`.
        constant_from: of a waveform, where the values begin that are all like the last one: trailing silence, or padding.
        pooled: of a window, from which of its samples to which the frames count; None for all.
        start: of a window, how many of the clip's samples lie before it.
    """

    values: torch.Tensor
    samples: int
    total: int
    constant_from: int = 0
    pooled: tuple[int, int] | None = None
    start: int = 0


class Inputs:
    """How clips become the input of one encoder: `kind` is "waveform", "frames" or "window"."""

    def __init__(self, feature_extractor: Any, tower: AudioTower):
        self.feature_extractor = feature_extractor
        self.tower: AudioTower | None = tower
        self.input_name, self.codec, self.patches = tower.input_name, tower.codec, tower.patches
        self.rate = int(feature_extractor.sampling_rate)
        noise = np.random.default_rng(0).standard_normal(2 * self.rate).astype(np.float32) * 0.1
        one, again, two = (self._extract(noise[: seconds * self.rate]) for seconds in (1, 1, 2))
        if not torch.equal(one, again):
            raise UserError(
                f"{type(feature_extractor).__name__} makes something else of the same clip each time (dither is "
                f"{getattr(feature_extractor, 'dither', 'not set')}): switch that off in preprocessor_config.json"
            )
        self.window: int | None = None
        self.shortest: int | None = None  # not known yet: see `minimum`
        if one.shape == two.shape:
            self.kind, self.window = "window", self._window()
            self.from_the_left = self._pads_on_the_left(noise[: min(self.rate, self.window // 2)])
        else:
            self.kind = "waveform" if two.shape[-1] >= 2 * self.rate else "frames"

    def without_model(self) -> "Inputs":
        """As much of it as makes segments, for a process that prepares clips and has no use for the model."""
        self.minimum()
        light = copy.copy(self)
        light.tower = None
        return light

    def segments(self, waveform: np.ndarray, max_seconds: float | None) -> list[Segment]:
        """One clip as the segments that go through the model; with `max_seconds`, cut and zero-padded to that (arch-v1)."""
        length = None if max_seconds is None else round(max_seconds * self.rate)
        waveform = waveform[:length]
        if self.window is not None:
            return self._windows(waveform, length)
        if length is None or self.kind == "frames":
            waveform = self._long_enough(waveform)
        values = self._extract(waveform, length)
        return [Segment(values, len(waveform), length or len(waveform), _constant_from(values))]

    def _windows(self, waveform: np.ndarray, length: int | None) -> list[Segment]:
        """The windows of a clip; the frames of its own sound are pooled, or of the first `length` samples, silence behind it included."""
        assert self.window is not None
        if length is not None and length > self.window:
            waveform = np.pad(waveform, (0, length - len(waveform)))
        out = []
        for start in range(0, len(waveform), self.window):
            part = self._long_enough(waveform[start : start + self.window])
            pooled = self._pooled(len(part), None if length is None else length - start)
            out.append(Segment(self._extract(part), len(part), self.window, pooled=pooled, start=start))
        return out

    def _pooled(self, samples: int, length: int | None) -> tuple[int, int]:
        """Which part of a window with so many samples of sound counts: that, or so many samples (`length`) with what is behind it."""
        assert self.window is not None
        counted = self._filled(samples) if length is None else min(self.window, length)
        return (self.window - counted, self.window) if self.from_the_left else (0, counted)

    def seen_alike(self, clips: list[list[Segment]], max_seconds: float | None) -> list[list[Segment]] | None:
        """The segments of whole clips under another `max_seconds`, where the model sees the same in all of them, one fixed window for each:
        they share their values, and another part of the window counts. None where it sees something else."""
        if self.window is None or any(len(segments) != 1 for segments in clips):
            return None
        length = None if max_seconds is None else round(max_seconds * self.rate)
        if length is not None and length > self.window:
            return None
        return [[replace(s, pooled=self._pooled(s.samples, length)) for s in segments] for segments in clips]

    def _filled(self, samples: int) -> int:
        """How much of a window so many samples fill: CLAP's feature extractor repeats a short clip, as often as it fits or until it is full."""
        assert self.window is not None
        filling = getattr(self.feature_extractor, "padding", None)
        if filling == "repeat":
            return self.window
        return self.window // samples * samples if filling == "repeatpad" else samples

    def _pads_on_the_left(self, sound: np.ndarray) -> bool:
        """Whether the feature extractor puts a short clip at the end of its window, with silence before it."""
        if getattr(self.feature_extractor, "padding_side", "right") != "left":
            return False
        assert self.window is not None
        shifted = np.pad(sound, (self.window - len(sound), 0))
        return bool(torch.allclose(self._extract(sound), self._extract(shifted), atol=1e-5))

    def _long_enough(self, waveform: np.ndarray) -> np.ndarray:
        if len(waveform) >= self.rate or len(waveform) >= self.minimum():
            return waveform
        return np.pad(waveform, (0, self.minimum() - len(waveform)))

    def minimum(self) -> int:
        """The fewest samples that make a frame; shorter clips are zero-padded to it.

        The receptive field of the convolutions where the configuration gives them, else found by trying.
        """
        if self.shortest is None:
            assert self.tower is not None
            guess = receptive_field(self.tower.config) or (round(KALDI_FRAME * self.rate) if self.patches else 1)
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
        assert self.tower is not None
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
            return round(((extractor.max_length - 1) * KALDI_HOP + KALDI_FRAME) * self.rate)
        raise UserError(
            f"{type(extractor).__name__} makes a spectrogram of fixed size but does not say how many samples it holds "
            "(n_samples, nb_max_samples or max_length)"
        )


def _constant_from(values: torch.Tensor) -> int:
    """
    Examples:
        >>> _constant_from(torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0])), _constant_from(torch.zeros(5))
        (3, 0)
    """
    if values.ndim > 1:
        return 0
    differ = np.flatnonzero(values.numpy() != float(values[-1]))
    return int(differ[-1]) + 1 if len(differ) else 0


def as_waveforms(waveforms: Sequence) -> list[np.ndarray]:
    """The clips as float32 arrays [samples]; refuses what is no clip.

    Raises:
        ValueError: one is not 1-D, empty, or holds integers: a 16-bit sample has to be divided by 32768 first.

    Examples:
        >>> as_waveforms([np.zeros(3, np.int16)])
        Traceback (most recent call last):
        ValueError: waveform 0 holds int16, not float samples between -1 and 1
    """
    out = []
    for i, waveform in enumerate(waveforms):
        clip = waveform.numpy(force=True) if isinstance(waveform, torch.Tensor) else waveform
        if getattr(clip, "ndim", None) != 1 or len(clip) == 0:
            raise ValueError(f"waveform {i} is not a 1-D array with samples in it")
        if clip.dtype.kind != "f":
            raise ValueError(f"waveform {i} holds {clip.dtype}, not float samples between -1 and 1")
        out.append(clip.astype(np.float32, copy=False))
    return out


def cut_to(clips: list[np.ndarray], max_seconds: float | None, rate: int) -> list[np.ndarray]:
    """The clips, none longer than so many seconds.

    Examples:
        >>> [len(clip) for clip in cut_to([np.ones(9), np.ones(3)], 2.0, 3)]
        [6, 3]
    """
    return clips if max_seconds is None else [clip[: round(max_seconds * rate)] for clip in clips]


def pack(clips: list[list[Segment]]) -> tuple[torch.Tensor, list]:
    """All segments of some clips as one flat tensor and how to take it apart: what passes from one process to another. Values that several
    segments share pass once.

    Examples:
        >>> clips = [[Segment(torch.ones(3), 3, 3)], [], [Segment(torch.zeros(2, 4), 8, 9), Segment(torch.ones(2, 4), 2, 9)]]
        >>> flat, layout = pack([*clips, clips[0]])
        >>> flat.shape, [len(segments) for segments in unpack(flat, layout)]
        (torch.Size([19]), [1, 0, 2, 1])
    """
    values = {id(segment.values): segment.values for segments in clips for segment in segments}
    number = {key: i for i, key in enumerate(values)}
    facts = [
        [(number[id(s.values)], s.samples, s.total, s.constant_from, s.pooled, s.start) for s in segments]
        for segments in clips
    ]
    flat = torch.cat([tensor.flatten() for tensor in values.values()]) if values else torch.empty(0)
    return flat, [[tuple(tensor.shape) for tensor in values.values()], facts]


def unpack(flat: torch.Tensor, layout: list) -> list[list[Segment]]:
    """The segments that `pack` was given, their values views of `flat`."""
    shapes, facts = layout
    parts = flat.split([math.prod(shape) for shape in shapes])
    values = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    return [[Segment(values[number], *rest) for number, *rest in segments] for segments in facts]


def _parameters(extractor: Any) -> tuple[str, ...]:
    return tuple(inspect.signature(extractor.__call__).parameters)
