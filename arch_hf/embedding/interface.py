"""What the pipeline needs of an encoder: little enough that any object with a sampling rate, an `embed` and an identity can stand for one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch

from arch_hf.distributed import find_device
from arch_hf.embedding.baselines import BASELINES
from arch_hf.embedding.encoder import AudioEncoder, NonFiniteError
from arch_hf.embedding.inputs import Segment, as_waveforms, cut_to
from arch_hf.embedding.key import facts_of
from arch_hf.errors import UserError, one_line


@runtime_checkable
class Encoder(Protocol):
    """A frozen encoder of one's own, for models outside of transformers.

    Attributes:
        sampling_rate: in Hz, of the waveforms that `embed` takes.
        identity: all that an embedding depends on besides the audio, as a text or as plain JSON values: two encoders that give other vectors
            have other identities. Vectors are stored under it, and a result answers for it.

    What it may have besides: `model_id`, the name in results (the name of its class); `n_layers` (1); `embedding_size` (tried out).

    Examples:
        >>> class Loudness:
        ...     sampling_rate = 16000
        ...     identity = "loudness and its deviation, version 1"
        ...
        ...     def embed(self, waveforms):
        ...         return np.stack([[np.abs(clip).mean(), clip.std()] for clip in waveforms])
        >>> isinstance(Loudness(), Encoder)
        True
    """

    sampling_rate: int
    identity: str | Mapping[str, Any]

    def embed(self, waveforms: list[np.ndarray], /) -> np.ndarray:
        """One vector per clip, [clips, dim]: of float32 arrays [samples], of any lengths. With `n_layers` above 1 it also takes
        `layers="all"`, and then gives [clips, n_layers, dim]."""


class WholeClips:
    """How clips go into an encoder that takes waveforms: as they are, or cut and zero-padded to some seconds (arch-v1)."""

    kind = "waveform"
    window: int | None = None

    def __init__(self, rate: int):
        self.rate = rate

    def without_model(self) -> "WholeClips":
        """Itself: it has no model."""
        return self

    def segments(self, waveform: np.ndarray, max_seconds: float | None) -> list[Segment]:
        """As `Inputs.segments`."""
        length = len(waveform) if max_seconds is None else round(max_seconds * self.rate)
        clip = waveform[:length]
        padded = np.pad(clip, (0, length - len(clip)))
        return [Segment(torch.from_numpy(padded), len(clip), length)]

    def seen_alike(self, clips: list[list[Segment]], max_seconds: float | None) -> None:
        """As `Inputs.seen_alike`: what the encoder makes of its input is its own affair."""


class WrappedEncoder:
    """Somebody's own `Encoder` with all that the pipeline asks of an `AudioEncoder`.

    Examples:
        >>> class Mean:
        ...     sampling_rate, identity = 8000, "mean"
        ...
        ...     def embed(self, waveforms):
        ...         return np.array([[clip.mean()] for clip in waveforms])
        >>> encoder = WrappedEncoder(Mean())
        >>> encoder.embed([np.ones(4000, np.float32)], padding="max_length", max_seconds=1).tolist(), encoder.describe()["id"]
        ([[0.5]], 'Mean')
    """

    revision = weights_sha256 = code_sha256 = n_parameters = None
    dtype, dtype_name = torch.float32, "float32"
    device = torch.device("cpu")  # where clips are prepared: where it computes is its own affair
    thread_safe = False
    batch_seconds: float | None = None

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self.model_class = type(encoder).__name__
        self.model_id = str(getattr(encoder, "model_id", self.model_class))
        rate = encoder.sampling_rate
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or rate < 1 or rate != int(rate):
            raise UserError(f"{self.model_class}.sampling_rate is {rate!r}, not a number of samples a second")
        self.sampling_rate = int(rate)
        self.inputs = WholeClips(self.sampling_rate)
        self.n_layers = int(getattr(encoder, "n_layers", 1))
        self.embedding_size = int(getattr(encoder, "embedding_size", 0)) or self._try_out()
        self.config = {"encoder": _plain_identity(encoder), "class": self.model_class}

    def _try_out(self) -> int:
        noise = np.random.default_rng(0).standard_normal(self.sampling_rate).astype(np.float32) / 10
        try:
            return np.asarray(self.encoder.embed([noise])).shape[-1]
        except Exception as error:
            raise UserError(f"{self.model_class}.embed fails on a second of noise: {one_line(error)}") from error

    @property
    def identity(self) -> dict[str, Any]:
        """The encoder's own, with its class, rate and depth."""
        return {**self.config, "sampling_rate": self.sampling_rate, "n_layers": self.n_layers, "dtype": self.dtype_name}

    def describe(self) -> dict[str, Any]:
        """The facts of the `model` block of a result."""
        return facts_of(self)

    def embed(
        self,
        waveforms: Sequence[np.ndarray],
        padding: str = "none",
        max_seconds: float | None = None,
        layers: str = "last",
    ) -> np.ndarray:
        """As `AudioEncoder.embed`; under "max_length" the clips are cut and zero-padded before the encoder sees them."""
        seconds = max_seconds if padding == "max_length" else None
        clips = cut_to(as_waveforms(waveforms), max_seconds, self.sampling_rate)
        return self.embed_segments([self.inputs.segments(clip, seconds) for clip in clips], layers)

    def embed_segments(self, clips: Sequence[list[Segment]], layers: str = "last") -> np.ndarray:
        """As `AudioEncoder.embed_segments`.

        Raises:
            UserError: what the encoder gives is not one vector per clip.
            NonFiniteError: it holds NaN or infinity.
        """
        waveforms = [segment.values.numpy() for segments in clips for segment in segments]
        deep = layers == "all" and self.n_layers > 1
        vectors = self.encoder.embed(waveforms, layers="all") if deep else self.encoder.embed(waveforms)  # type: ignore[call-arg]
        if isinstance(vectors, torch.Tensor):
            vectors = vectors.detach().float().numpy(force=True)
        out = np.asarray(vectors, np.float32)
        shape = (len(clips), self.n_layers, self.embedding_size) if deep else (len(clips), self.embedding_size)
        if out.shape != shape:
            raise UserError(f"{self.model_class}.embed gives an array of shape {out.shape} where it should be {shape}")
        bad = np.flatnonzero(~np.isfinite(out.reshape(len(clips), -1)).all(axis=1))
        if len(bad):
            raise NonFiniteError(f"clip {bad[0]}: what {self.model_class} gives is not finite", int(bad[0]), -1)
        return out[:, None] if layers == "all" and not deep else out

    def copy_for_thread(self) -> "WrappedEncoder":
        """Itself: it is asked by one thread at a time."""
        return self


AnyEncoder: TypeAlias = AudioEncoder | WrappedEncoder


def as_encoder(encoder: Encoder | AnyEncoder) -> AnyEncoder:
    """An encoder as the pipeline takes it: an `AudioEncoder` as it is, any other object wrapped.

    Raises:
        UserError: it lacks something, or its `embed` fails; the message says what.

    Examples:
        >>> as_encoder("facebook/hubert-base-ls960")
        Traceback (most recent call last):
        arch_hf.errors.UserError: a str is no encoder: it has no sampling_rate, no identity, no embed
    """
    if isinstance(encoder, (AudioEncoder, WrappedEncoder)):
        return encoder
    lacking = [name for name in ("sampling_rate", "identity", "embed") if not hasattr(encoder, name)]
    if lacking:
        raise UserError(
            f"a {type(encoder).__name__} is no encoder: it has {', '.join(f'no {name}' for name in lacking)} "
            "(see arch_hf.embedding.Encoder)"
        )
    return WrappedEncoder(encoder)


def names_and_objects(
    models: str | Path | Encoder | Sequence[str | Path | Encoder],
) -> tuple[list[str], dict[str, AnyEncoder]]:
    """The name of each model, and by name the encoders that need not be loaded."""
    names: list[str] = []
    own: dict[str, AnyEncoder] = {}
    for model in models if isinstance(models, Sequence) and not isinstance(models, str) else [models]:
        encoder = None if isinstance(model, (str, Path)) else as_encoder(model)
        name = str(model) if encoder is None else encoder.model_id
        if name in own or (encoder is not None and name in names):
            raise UserError(f"two models are called {name}: give one of them another model_id")
        if isinstance(encoder, WrappedEncoder) and name in BASELINES:
            raise UserError(f"{name} is a baseline that is built in: give the encoder another model_id")
        names.append(name)
        if encoder is not None:
            own[name] = encoder
    if not names:
        raise UserError("there is no model: name at least one")
    return names, own


def check_loaded(own: Mapping[str, AnyEncoder], fields: Mapping[str, Any], device: str | None) -> None:
    """Refuse options that are of the loading of a model, where there is nothing to load any more.

    Raises:
        UserError: one of them was given.
    """
    given = [name for name in ("revision", "dtype", "trust_remote_code") if fields.get(name)]
    if own and given:
        raise UserError(f"{', '.join(own)}: loaded already, so {', '.join(given)} can change nothing: leave it out")
    wanted = None if device is None else find_device(device)
    for name, encoder in own.items():
        if wanted and isinstance(encoder, AudioEncoder) and wanted.type != encoder.device.type:
            raise UserError(f"{name} is on {encoder.device}, and not on {device}: load it there, or leave device out")


def _plain_identity(encoder: Encoder) -> Any:
    identity = encoder.identity
    try:
        plain = json.loads(json.dumps(identity if isinstance(identity, str) else dict(identity), sort_keys=True))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{type(encoder).__name__}.identity is to be a text or plain JSON values that say all that its embeddings depend on "
            f"({one_line(error)})"
        ) from None
    if not plain:
        raise UserError(f"{type(encoder).__name__}.identity is empty: say all that its embeddings depend on")
    return plain
