"""AudioEncoder: any audio model of transformers as a function from clips to vectors."""

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from arch_hf.embedding import batching
from arch_hf.embedding.families import AudioTower
from arch_hf.embedding.inputs import Inputs, Segment, own_frames
from arch_hf.embedding.key import code_of, digest_of, float32_products, settings_of
from arch_hf.embedding.loading import Loaded, fold_weight_norm, hash_weights, load, one_line, parse_dtype
from arch_hf.errors import UserError
from arch_hf.names import public_name

# Part of the name under which embeddings are cached: raise it when the same weights and settings give other vectors.
POOLING_VERSION = 2

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
        thread_safe: whether copies of it (see `copy_for_thread`) may run in several threads at once.

    Example:
        >>> encoder = AudioEncoder.from_pretrained("logmel")
        >>> encoder.embed([np.zeros(16000, np.float32), np.zeros(400, np.float32)]).shape
        (2, 128)
    """

    # Seconds of audio that go through the model at once; None: what suits the device.
    batch_seconds: float | None = None

    def __init__(self, loaded: Loaded, model_id: str, dtype: torch.dtype = torch.float32, device="cpu", compiled=False):
        tower = AudioTower(loaded.model).eval().requires_grad_(False)
        self.model_id = public_name(model_id)
        self.revision = loaded.revision
        self.weights_sha256 = hash_weights(tower.encoder)
        self.model_class = type(tower.encoder).__name__
        self.code_sha256 = code_of(loaded.model, loaded.model.config, loaded.feature_extractor)
        self.config = settings_of(loaded.model.config, own_code=self.code_sha256 is not None)
        self.compiled = compiled
        self.attention = getattr(loaded.model.config, "_attn_implementation", None)
        self.n_parameters = sum(p.numel() for p in tower.encoder.parameters())
        self.dtype = dtype
        self.device = torch.device(device)
        fold_weight_norm(tower.encoder)
        try:
            self.inputs = Inputs(loaded.feature_extractor, tower)
            self.sampling_rate = self.inputs.rate
            self.tower = tower.to(self.device, dtype)
            self._ends = batching.watch_clip_ends(tower)
            probe = self.inputs.segments(np.zeros(self.sampling_rate, np.float32), None)[0].values
            with torch.inference_mode():
                states = tower.learn_layout(probe[None].to(self.device, dtype))
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
            batching.leave_as_it_is(tower)
            tower.encoder.compile(dynamic=True)

    @classmethod
    def from_pretrained(
        cls,
        model_id,
        revision=None,
        dtype=None,
        *,
        device="cpu",
        batch_seconds: float | None = None,
        trust_remote_code=False,
        compiled=False,
    ) -> "AudioEncoder":
        """Load an encoder by its Hub id or from a folder, or one of the built-in baselines "logmel" and "mfcc".

        Args:
            model_id: Hub id or folder; with a preprocessor_config.json, as every audio model has one.
            revision: commit, branch or tag of a Hub model.
            dtype: torch.float32 (None), torch.bfloat16 or torch.float16, or the name of one.
            device: where to compute.
            batch_seconds: seconds of audio that go through the model at once, which bounds the memory; by default what suits the device.
            trust_remote_code: run the model's own code, if it brings any.
            compiled: through torch.compile; worth its minutes only for long runs.

        Raises:
            UserError: if the id is unknown, the model takes no audio, or a weight or file is missing.

        Example:
            >>> AudioEncoder.from_pretrained("mfcc", dtype="float32").embedding_size
            26
        """
        dtype = parse_dtype(dtype)
        encoder = cls(load(str(model_id), revision, trust_remote_code), str(model_id), dtype, device, compiled)
        encoder.batch_seconds = batch_seconds
        return encoder

    def copy_for_thread(self) -> "AudioEncoder":
        """The same encoder for another thread: it shares the weights, but not what modules keep in themselves while they run (the
        positions of the last clip, where a batch's clips end).

        Example:
            >>> encoder = AudioEncoder.from_pretrained("logmel")
            >>> clip = np.ones(16000, np.float32)
            >>> bool((encoder.copy_for_thread().embed([clip]) == encoder.embed([clip])).all())
            True
        """
        copied = copy.copy(self)
        weights = itertools.chain(self.tower.parameters(), self.tower.buffers())
        copied.tower, copied._ends = copy.deepcopy((self.tower, self._ends), {id(weight): weight for weight in weights})
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
            "pooling": POOLING_VERSION,
        }

    def describe(self) -> dict[str, Any]:
        """The facts of the `model` block of a result.

        Example:
            >>> AudioEncoder.from_pretrained("logmel").describe()["class"]
            'LogMelModel'
        """
        return {
            "id": self.model_id,
            "revision": self.revision,
            "weights_sha256": self.weights_sha256,
            "config_sha256": digest_of(self.config),
            "code_sha256": self.code_sha256,
            "class": self.model_class,
            "n_parameters": self.n_parameters,
            "sampling_rate": self.sampling_rate,
            "embedding_size": self.embedding_size,
            "n_layers": self.n_layers,
        }

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
                feature extractor, no attention mask, pooled over all frames, padding included.
            max_seconds: for padding="max_length".
            layers: "last" or "all"; the last of all is the same as "last".

        A clip shorter than the encoder's receptive field is zero-padded to it. Encoders of one fixed window (Whisper
        30 s, AST 10 s, CLAP 10 s) take a longer clip in consecutive windows; with padding="none" the frames that hold
        the clip's own sound are pooled (CLAP fills its window by repeating the clip: all of them). Other encoders
        take a clip of any length whole: the caller cuts.

        Returns:
            float32 [clips, embedding_size], or [clips, n_layers, embedding_size] for layers="all".

        Raises:
            NonFiniteError: if the model gives NaN or infinity; with the index of the clip, the layer and the dtype.

        Example:
            >>> encoder = AudioEncoder.from_pretrained("logmel")
            >>> clips = [np.ones(8000, np.float32), np.ones(20000, np.float32)]
            >>> encoder.embed(clips, padding="max_length", max_seconds=1.0, layers="all").shape
            (2, 1, 128)
        """
        max_seconds = self._check_arguments(waveforms, padding, max_seconds, layers)
        clips = [self.inputs.segments(waveform, max_seconds) for waveform in waveforms]
        return self.embed_segments(clips, own_only=padding == "none", layers=layers)

    def embed_segments(self, clips: Sequence[list[Segment]], own_only: bool, layers: str = "last") -> np.ndarray:
        """As `embed`, for clips that `inputs.segments` has prepared; `own_only` for padding="none"."""
        all_layers = layers == "all"
        flat = [segment for segments in clips for segment in segments]
        clip_of = np.repeat(np.arange(len(clips)), [len(segments) for segments in clips])
        kind = "cpu" if self.device.type == "cpu" else "cuda"
        limits = self.batch_seconds or _BATCH_SECONDS[kind], _PASS_SECONDS[kind]
        means, counts, order = [], [], []
        for batch in batching.plan(flat, *limits, self.sampling_rate, self.tower.mask_exact):
            mean, count = self._pool([flat[i] for i in batch], all_layers, own_only)
            means.append(mean)  # left on the device, which need not wait
            counts += count
            order += batch
        totals = np.zeros((len(clips), self.n_layers if all_layers else 1, self.embedding_size))
        weights = np.zeros(len(clips))
        if order:
            share = np.array(counts, float)
            np.add.at(totals, clip_of[order], torch.cat(means).double().cpu().numpy() * share[:, None, None])
            np.add.at(weights, clip_of[order], share)
        out = (totals / np.maximum(weights, 1)[:, None, None]).astype(np.float32)
        self._check_finite(out, clips, all_layers)
        return out if all_layers else out[:, 0]

    @torch.inference_mode()
    def n_frames(self, samples: int) -> int:
        """Frames of the last hidden state for a clip of so many samples (of one window, where the encoder has one).

        Example:
            >>> AudioEncoder.from_pretrained("logmel").n_frames(16000)
            1
        """
        segment = self.inputs.segments(np.zeros(samples, np.float32), None)[0]
        return batching.run(self.tower, self._ends, [segment], self.device, self.dtype, False)[0][-1].shape[1]

    @torch.inference_mode()
    def _pool(self, segments: list[Segment], all_layers: bool, own_only: bool) -> tuple[torch.Tensor, list[int]]:
        """Mean over frames, float32 [segments, layers, dim] on the device, and how many frames: those of the final state."""
        states, frames = batching.run(self.tower, self._ends, segments, self.device, self.dtype, all_layers)
        means, counts = [], []
        for state in states:  # each is pooled at once, and of the padded or windowed ones only what is the clip's own
            n = state.shape[1]
            own = None
            if frames is not None:
                own = torch.arange(n) < frames[:, None]
            elif own_only:
                masks = [own_frames(self.tower, self.inputs, segment, n) for segment in segments]
                if any(mask is not None for mask in masks):
                    full = torch.ones(n, dtype=torch.bool)
                    own = torch.stack([full if mask is None else mask for mask in masks])
            if own is None:
                means.append(state.float().mean(1))
                counts = [n] * len(segments)
            else:
                counts = own.sum(1).tolist()
                weights = own.float().to(self.device)
                means.append((state.float() * weights[..., None]).sum(1) / weights.sum(1, keepdim=True))
        return torch.stack(means, dim=1), counts

    def _check_arguments(self, waveforms, padding, max_seconds, layers) -> float | None:
        if padding not in ("none", "max_length"):
            raise ValueError(f'padding is "none" or "max_length", not {padding!r}')
        if layers not in ("last", "all"):
            raise ValueError(f'layers is "last" or "all", not {layers!r}')
        if padding == "max_length" and not (max_seconds and max_seconds > 0):
            raise ValueError('padding="max_length" needs max_seconds > 0')
        for i, waveform in enumerate(waveforms):
            if getattr(waveform, "ndim", None) != 1 or len(waveform) == 0:
                raise ValueError(f"waveform {i} is not a 1-D array with samples in it")
        return max_seconds if padding == "max_length" else None

    def _check_finite(self, out: np.ndarray, clips: Sequence[list[Segment]], all_layers: bool) -> None:
        bad = np.flatnonzero(~np.isfinite(out).all(axis=(1, 2)))
        if len(bad) == 0:
            return
        clip = int(bad[0])
        states = out[clip]
        if not all_layers:  # once more, to name the layer in which it began
            states = self._pool(clips[clip][:1], True, True)[0][0].cpu().numpy()
        broken = np.flatnonzero(~np.isfinite(states).all(axis=1))
        layer = int(broken[0]) if len(broken) else self.n_layers - 1
        name = str(self.dtype).removeprefix("torch.")
        advice = "check the clip and the weights" if self.dtype == torch.float32 else "try --dtype float32"
        raise NonFiniteError(
            f"clip {clip}: hidden state {layer} of {self.model_id} is not finite in {name}; {advice}", clip, layer
        )
