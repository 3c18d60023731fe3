"""AudioEncoder: any audio model of transformers as a function from clips to vectors.

a clip -> segments, as the feature extractor makes them -> batches -> hidden states -> their mean over time
"""

import copy
import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from arch_hf.compat.transformers_internals import attention_of
from arch_hf.embedding import batching
from arch_hf.embedding.families import AudioTower
from arch_hf.embedding.fast.mixed_lengths import MixedLengths
from arch_hf.embedding.inputs import Inputs, Segment, as_waveforms, cut_to
from arch_hf.embedding.key import code_of, facts_of, float32_products, settings_of
from arch_hf.embedding.loading import Loaded, load, parse_dtype
from arch_hf.embedding.pooling import Frames, counted_frames, mean_over_time, times_of
from arch_hf.embedding.timing import Timing, timing_of
from arch_hf.embedding.weights import hash_weights
from arch_hf.errors import UserError, one_line
from arch_hf.names import public_name

# Part of the name under which embeddings are cached: raise it when the same weights and settings give other vectors.
POOLING_VERSION = 4

# Set to 0, it stands for `fast=False`: every encoder just as transformers makes it, clips of one length together.
FAST_VARIABLE = "ARCH_HF_FAST"

# Seconds of audio that go through the model at once. It bounds the memory, of all hidden states too.
_BATCH_SECONDS = {"cpu": 12, "cuda": 480}
# What a pass costs beside its audio, in seconds of audio: reading the weights (CPU), starting the kernels (GPU).
_PASS_SECONDS = {"cpu": 0.5, "cuda": 10}


class NonFiniteError(UserError):
    """The model gave NaN or infinity: for clip number `index` of those handed to `embed`, first in hidden state `layer`.

    The message names both and the dtype; a caller that knows the clip's name adds it.
    """

    def __init__(self, message: str, index: int, layer: int):
        super().__init__(message)
        self.index = index
        self.layer = layer


class AudioEncoder:
    """A frozen audio encoder: clips in, one vector per clip out.

    Attributes:
        model_id: as asked for; of a folder the name that may be shown (see `arch_hf.names`).
        revision: the commit for a model of the Hub, None for a folder.
        weights_sha256: of the encoder's weights, the same for every dtype and file format.
        model_class, n_parameters: of the encoder (of Whisper, CLAP and the like the audio part alone).
        sampling_rate: in Hz, of the waveforms that `embed` takes.
        embedding_size: of a clip's vector.
        n_layers: number of hidden states, the input of the first layer among them: layers are 0 ... n_layers - 1.
        dtype, device: of the computation; embeddings are float32 always.
        fast: whether clips of several lengths go together, through convolutions in another form (see `arch_hf.embedding.fast`).
        batch_seconds: of audio that go through the model at once, which bounds the memory; None, as it is at first: what suits the device.
        thread_safe: whether copies of it (see `copy_for_thread`) may run in several threads at once.

    Examples:
        >>> encoder = AudioEncoder.from_pretrained("logmel")
        >>> encoder.embed([np.zeros(16000, np.float32), np.zeros(400, np.float32)]).shape
        (2, 128)
    """

    batch_seconds: float | None = None

    def __init__(
        self,
        loaded: Loaded,
        model_id: str,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        compiled: bool = False,
        fast: bool = True,
    ):
        tower = AudioTower(loaded.model).eval().requires_grad_(False)
        self.model_id = public_name(model_id)
        self.revision = loaded.revision
        self.weights_sha256 = hash_weights(tower.encoder)
        self.model_class = type(tower.encoder).__name__
        self.code_sha256 = code_of(loaded.model, loaded.model.config, loaded.feature_extractor)
        self.config = settings_of(loaded.model.config, own_code=self.code_sha256 is not None)
        self.compiled = compiled
        self.attention = attention_of(getattr(tower.encoder, "config", tower.config))
        self.n_parameters = sum(p.numel() for p in tower.encoder.parameters())
        self.dtype, self.device, self.fast = dtype, torch.device(device), fast
        try:
            self.inputs = Inputs(loaded.feature_extractor, tower)
            self.sampling_rate = self.inputs.rate
            self._batches = (MixedLengths if fast else batching.EqualLengths)(tower, self.device, dtype)
            self.tower = tower
            second = self.inputs.segments(np.zeros(self.sampling_rate, np.float32), None)[0].values
            with torch.inference_mode():
                states = tower.learn_layout(second[None].to(self.device, dtype))
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            raise UserError(
                f"{model_id}: {self.model_class} does not run on what {type(loaded.feature_extractor).__name__} makes, "
                f"do they belong together? ({one_line(error)})"
            ) from error
        # A model's own code may keep things outside of its modules, and torch.compile does.
        self.thread_safe = not compiled and type(tower.encoder).__module__.startswith(("transformers.", "arch_hf."))
        self.n_layers = len(states)
        self.embedding_size = states[-1].shape[-1]
        if compiled:
            self._batches.compile()

    @classmethod
    def from_pretrained(
        cls,
        model_id: str | os.PathLike,
        revision: str | None = None,
        dtype: torch.dtype | str | None = None,
        *,
        device: torch.device | str = "cpu",
        trust_remote_code: bool = False,
        compiled: bool = False,
        fast: bool | None = None,
    ) -> "AudioEncoder":
        """Load an encoder by its Hub id or from a folder, or one of the built-in baselines "logmel" and "mfcc".

        Args:
            model_id: Hub id or folder; with a preprocessor_config.json, as every audio model has one.
            revision: commit, branch or tag of a Hub model.
            dtype: torch.float32 (None), torch.bfloat16 or torch.float16, or the name of one.
            device: where to compute.
            trust_remote_code: run the model's own code, if it brings any.
            compiled: through torch.compile; worth its minutes only for long runs.
            fast: False leaves every module as transformers made it: slower, the same to rounding. None: as the environment's ARCH_HF_FAST
                says (0 or 1), else True.

        Raises:
            UserError: if the id is unknown, the model takes no audio, or a weight or file is missing.

        Examples:
            >>> AudioEncoder.from_pretrained("mfcc", dtype="float32").embedding_size
            26
        """
        dtype = parse_dtype(dtype)
        if fast is None:
            fast = _asked_fast(os.environ.get(FAST_VARIABLE, "1"))
        return cls(load(str(model_id), revision, trust_remote_code), str(model_id), dtype, device, compiled, fast)

    def copy_for_thread(self) -> "AudioEncoder":
        """The same encoder for another thread: it shares the weights, but not what modules keep in themselves while they run (the
        positions of the last clip, where a batch's clips end).

        Examples:
            >>> encoder = AudioEncoder.from_pretrained("logmel")
            >>> clip = np.ones(16000, np.float32)
            >>> bool((encoder.copy_for_thread().embed([clip]) == encoder.embed([clip])).all())
            True
        """
        copied = copy.copy(self)
        weights = itertools.chain(self.tower.parameters(), self.tower.buffers())
        copied._batches = copy.deepcopy(self._batches, {id(weight): weight for weight in weights})
        copied.tower = copied._batches.tower
        return copied

    @property
    def dtype_name(self) -> str:
        """ "float32", "bfloat16" or "float16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def identity(self) -> dict[str, Any]:
        """All of the encoder that an embedding depends on, as plain JSON values: weights, every setting of the model and of the feature
        extractor that can have an effect, the source of the model's own code, dtype, how attention and products are computed, how frames are
        pooled."""
        return {
            "weights_sha256": self.weights_sha256,
            "class": self.model_class,
            "config": self.config,
            "code_sha256": self.code_sha256,
            "feature_extractor": settings_of(self.inputs.feature_extractor, own_code=self.code_sha256 is not None),
            "sampling_rate": self.sampling_rate,
            "dtype": self.dtype_name,
            "attention": self.attention,
            "float32_products": float32_products(),
            "compiled": self.compiled,
            "fast": self.fast,
            "pooling": POOLING_VERSION,
        }

    def describe(self) -> dict[str, Any]:
        """The facts of the `model` block of a result.

        Examples:
            >>> AudioEncoder.from_pretrained("logmel").describe()["class"]
            'LogMelModel'
        """
        return facts_of(self)

    def embed(
        self,
        waveforms: Sequence[np.ndarray],
        padding: str = "none",
        max_seconds: float | None = None,
        layers: str = "last",
    ) -> np.ndarray:
        """One vector per clip: the mean over time of the last hidden state, or of every one.

        Args:
            waveforms: float32 [samples] each, at `sampling_rate`, any mix of lengths.
            padding: "none": every clip as long as it is, pooled over its own frames; its embedding does not depend on
                its batch mates. "max_length" (arch-v1): cut to `max_seconds`, zero-padded to that by the model's own
                feature extractor, no attention mask, pooled over the frames of these seconds, padding included.
            max_seconds: what is longer is cut to it; under "max_length" what is shorter is padded to it.
            layers: "last" or "all"; the last of all is the same as "last".

        A clip shorter than the encoder's receptive field is zero-padded to it. Encoders of one fixed window (Whisper
        30 s, AST 10 s, CLAP 10 s) take a longer clip in consecutive windows; of a window that a clip does not fill, the frames
        that hold the clip's own sound are pooled, under "max_length" those of its first `max_seconds` (CLAP fills its window by
        repeating the clip: under "none" its repetitions count). Other encoders take a clip of any length whole: the caller cuts.

        Returns:
            float32 [clips, embedding_size], or [clips, n_layers, embedding_size] for layers="all".

        Raises:
            NonFiniteError: if the model gives NaN or infinity; with the index of the clip, the layer and the dtype.

        Examples:
            >>> encoder = AudioEncoder.from_pretrained("logmel")
            >>> clips = [np.ones(8000, np.float32), np.ones(20000, np.float32)]
            >>> encoder.embed(clips, padding="max_length", max_seconds=1.0, layers="all").shape
            (2, 1, 128)
        """
        if padding not in ("none", "max_length"):
            raise ValueError(f'padding is "none" or "max_length", not {padding!r}')
        if padding == "max_length" and not (max_seconds and max_seconds > 0):
            raise ValueError('padding="max_length" needs max_seconds > 0')
        seconds = max_seconds if padding == "max_length" else None
        clips = cut_to(as_waveforms(waveforms), max_seconds, self.sampling_rate)
        return self.embed_segments([self.inputs.segments(clip, seconds) for clip in clips], layers)

    def embed_segments(self, clips: Sequence[list[Segment]], layers: str = "last") -> np.ndarray:
        """As `embed`, for clips that `inputs.segments` has prepared. Segments that share their values go through the model once."""
        if layers not in ("last", "all"):
            raise ValueError(f'layers is "last" or "all", not {layers!r}')
        all_layers = layers == "all"
        flat = [segment for segments in clips for segment in segments]
        clip_of = np.repeat(np.arange(len(clips)), [len(segments) for segments in clips])
        sharing: dict[int, list[int]] = {}
        for i, segment in enumerate(flat):
            sharing.setdefault(id(segment.values), []).append(i)
        shared = list(sharing.values())
        means, counts, order = [], [], []
        for batch, states, frames in self._hidden_states([flat[first] for first, *_ in shared], all_layers):
            rows = [row for row, k in enumerate(batch) for _ in shared[k]]
            pooled = [i for k in batch for i in shared[k]]
            mean, count = self._pool([flat[i] for i in pooled], rows, states, frames)
            means.append(mean)  # left on the device, which need not wait
            counts += count
            order += pooled
        totals = np.zeros((len(clips), self.n_layers if all_layers else 1, self.embedding_size))
        weights = np.zeros(len(clips))
        if order:
            share = np.array(counts, float)
            np.add.at(totals, clip_of[order], torch.cat(means).double().cpu().numpy() * share[:, None, None])
            np.add.at(weights, clip_of[order], share)
        out = (totals / np.maximum(weights, 1)[:, None, None]).astype(np.float32)
        self._check_finite(out, clips)
        return out if all_layers else out[:, 0]

    def frames(self, waveforms: Sequence[np.ndarray], layer: int = -1) -> list[Frames]:
        """The hidden states of each clip over time, at one layer, whatever its batch mates are. Their mean is what `embed` gives with
        padding="none", to 1e-6 of the vector's largest number if taken by PyTorch (as `embed` does) or in float64: `arch_hf.embedding.Frames`.

        Args:
            waveforms: float32 [samples] each, at `sampling_rate`, any mix of lengths.
            layer: 0 ... n_layers - 1, or -1 for the last one.

        Returns:
            `states` float32 [frames, embedding_size] and `times` float64 [frames] in seconds, within the clip. Where an encoder cuts its
            spectrogram into patches, those of one time are averaged. CLAP hears a short clip several times over: its times begin anew with
            each repetition. An encoder that makes one frame of a whole clip (the baselines) has it in the middle.

        Raises:
            NonFiniteError: as `embed`.

        Examples:
            >>> encoder = AudioEncoder.from_pretrained("logmel")
            >>> states, times = encoder.frames([np.ones(16000, np.float32)])[0]
            >>> states.shape, times.tolist()
            ((1, 128), [0.5])
        """
        if not -self.n_layers <= layer < self.n_layers:
            raise ValueError(f"layer is {layer}, but there are layers 0 to {self.n_layers - 1}")
        clips = [self.inputs.segments(waveform, None) for waveform in as_waveforms(waveforms)]
        flat = [segment for segments in clips for segment in segments]
        rest = [len(waveform) - s.start for waveform, segments in zip(waveforms, clips, strict=True) for s in segments]
        last = layer % self.n_layers == self.n_layers - 1
        grid = None if self.timing is None else self.timing.final if last else self.timing.between
        parts: dict[int, Frames] = {}
        for batch, states, lengths in self._hidden_states(flat, not last):
            state = states[-1 if last else layer]
            for i, own, hidden in zip(
                batch, self._counted([flat[i] for i in batch], state, lengths), state, strict=True
            ):
                times = times_of(flat[i], rest[i], len(hidden), grid, self.sampling_rate)
                parts[i] = Frames(hidden[own].float().cpu().numpy(), times[own])
        in_order = (parts[i] for i in range(len(flat)))
        joined = [list(itertools.islice(in_order, len(segments))) for segments in clips]
        out = [Frames(*(np.concatenate(arrays) for arrays in zip(*frames, strict=True))) for frames in joined]
        if out:
            self._check_finite(np.stack([frames.states.mean(0) for frames in out])[:, None], clips)
        return out

    @functools.cached_property
    def timing(self) -> Timing | None:
        """When the frames of the hidden states are; None for an encoder that makes one frame of a whole clip."""
        return timing_of(self.tower, self.inputs, self.n_frames)

    @torch.inference_mode()
    def n_frames(self, samples: int, layer: int = -1) -> int:
        """Frames of a hidden state for a clip of so many samples (of one window, where the encoder has one).

        Examples:
            >>> AudioEncoder.from_pretrained("logmel").n_frames(16000)
            1
        """
        segment = self.inputs.segments(np.zeros(samples, np.float32), None)[0]
        return self._batches.run([segment], layer != -1)[0][layer].shape[1]

    @torch.inference_mode()
    def _hidden_states(
        self, segments: Sequence[Segment], all_layers: bool
    ) -> Iterator[tuple[list[int], list[torch.Tensor], torch.Tensor | None]]:
        """For each batch: which segments, their hidden states [segments, frames, dim], and how many frames each has, None for all."""
        kind = "cpu" if self.device.type == "cpu" else "cuda"
        limits = self.batch_seconds or _BATCH_SECONDS[kind], _PASS_SECONDS[kind]
        for batch in batching.plan(segments, *limits, self.sampling_rate, self._batches.mixed):
            states, frames = self._batches.run([segments[i] for i in batch], all_layers)
            yield batch, states, frames

    def _counted(self, segments: Sequence[Segment], state: torch.Tensor, frames: torch.Tensor | None) -> list[slice]:
        """Which frames of a hidden state are each segment's own."""
        if frames is not None:
            return [slice(0, n) for n in frames.tolist()]
        return [counted_frames(segment, self.inputs, state.shape[1]) for segment in segments]

    @torch.inference_mode()
    def _pool(
        self,
        segments: Sequence[Segment],
        rows: Sequence[int],
        states: Sequence[torch.Tensor],
        frames: torch.Tensor | None,
    ) -> tuple[torch.Tensor, list[int]]:
        """Mean over each segment's frames, float32 [segments, layers, dim] on the device, and how many these are in the last state.

        `rows` are those of the segments in the batch: one for several where they share their values.
        """
        if len(rows) > len(states[-1]):
            states = [state[list(rows)] for state in states]
            frames = None if frames is None else frames[list(rows)]
        counted = [self._counted(segments, state, frames) for state in states]
        means = [mean_over_time(s, parts, frames is not None) for s, parts in zip(states, counted, strict=True)]
        return torch.stack(means, dim=1), [part.stop - part.start for part in counted[-1]]

    def _check_finite(self, out: np.ndarray, clips: Sequence[list[Segment]]) -> None:
        """Refuse vectors [clips, layers, dim] with NaN or infinity in them."""
        bad = np.flatnonzero(~np.isfinite(out).all(axis=(1, 2)))
        if len(bad) == 0:
            return
        clip = int(bad[0])
        # Once more, to name the layer in which it began.
        first = clips[clip][:1]
        _, hidden, frames = next(self._hidden_states(first, True))
        broken = np.flatnonzero(~np.isfinite(self._pool(first, [0], hidden, frames)[0][0].cpu().numpy()).all(axis=1))
        layer = int(broken[0]) if len(broken) else self.n_layers - 1
        advice = "check the clip and the weights" if self.dtype == torch.float32 else "try --dtype float32"
        raise NonFiniteError(
            f"clip {clip}: hidden state {layer} of {self.model_id} is not finite in {self.dtype_name}; {advice}",
            clip,
            layer,
        )


def _asked_fast(value: str) -> bool:
    """
    Examples:
        >>> _asked_fast("0")
        False
        >>> _asked_fast("false")
        Traceback (most recent call last):
        arch_hf.errors.UserError: ARCH_HF_FAST is 'false': set it to 0 or 1
    """
    if value not in ("0", "1"):
        raise UserError(f"{FAST_VARIABLE} is {value!r}: set it to 0 or 1")
    return value == "1"
