"""Encoded clips that are no corpus, through the store: whatever another benchmark asks for, each clip is encoded once, ever.

Other benchmarks take clips whole. What is stored for them lies in a store of its own, of whole clips; a clip that `strict` does not cut either
has the same vector there, so it is taken from the store of `strict`, or put there too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from arch_hf.audio import audio_info
from arch_hf.data.clip_index import ClipIndex
from arch_hf.distributed import Ranks
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.extraction import ExtractionPlan, extract
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.errors import AudioError, UserError
from arch_hf.probing.protocols import get_protocol

WHOLE_SECONDS = 86_400.0  # a day: longer clips are refused, none is cut


@dataclass
class Clips:
    """Encoded clips: `audio` gives the bytes of one by its position, `digests` are theirs (see `arch_hf.files.audio_digest`), `where` names
    the clip of a position in messages."""

    audio: Callable[[int], bytes]
    digests: Sequence[bytes]
    where: Callable[[int], str]


@dataclass
class _Missing:
    """Some of the clips in the form that `extract` takes."""

    audio: Callable[[int], bytes]
    index: ClipIndex
    order = None  # any clip can be read at any time


class StoredEncoder:
    """An encoder with its store.

    Attributes:
        encoder: an `AudioEncoder`.
        encoded: how many clips went through the model so far.
        ranks: this process.

    Example:
        >>> import tempfile
        >>> from arch_hf.audio import encode_wav
        >>> from arch_hf.files import audio_digest
        >>> wav = encode_wav(np.ones(8000, np.float32) / 2, 16000)
        >>> clips = Clips(lambda _: wav, [audio_digest(wav)] * 2, "clip {}".format)
        >>> stored = StoredEncoder(AudioEncoder.from_pretrained("logmel"), Path(tempfile.mkdtemp()))
        >>> stored.embed(clips).shape, stored.embed(clips).shape, stored.encoded
        ((2, 128), (2, 128), 1)
    """

    def __init__(self, encoder: AudioEncoder, cache: Path, ranks: Ranks | None = None):
        self.encoder = encoder
        self.encoded = 0
        self.ranks = ranks or Ranks.launched()
        self._whole = EmbedSettings(cache, "none", WHOLE_SECONDS, "last")
        strict = get_protocol("strict")
        assert strict.max_seconds is not None
        self._strict = EmbedSettings(cache, strict.padding, strict.max_seconds, "last")

    @property
    def key(self) -> dict:
        """Everything that a vector depends on besides the audio."""
        return self._whole.key(self.encoder)

    def embed(self, clips: Clips) -> np.ndarray:
        """The vector of every clip: float32 [clips, dim].

        Raises:
            UserError: a clip cannot be used; the message names it.
        """
        store = self._store(self._whole)
        missing = {digest: i for i, digest in reversed(list(enumerate(clips.digests))) if digest not in store}
        if missing:
            self._bring(clips, sorted(missing.values()), store)
        return store.read(clips.digests)

    def _store(self, settings: EmbedSettings) -> EmbeddingStore:
        return EmbeddingStore(settings.cache, settings.key(self.encoder), warn=self.ranks.accelerator.print)

    def _bring(self, clips: Clips, missing: list[int], whole: EmbeddingStore) -> None:
        """Put the vectors of these clips into the store of whole clips: out of the stores of `strict`, or encoded."""
        seconds = np.array([_seconds(clips, i) for i in missing])
        short = [i for i, s in zip(missing, seconds, strict=True) if s <= self._strict.max_seconds]
        self._take(clips, short, replace(self._strict, layers="all"), whole)
        self._encode(clips, [i for i in short if clips.digests[i] not in whole], self._strict)
        self._take(clips, short, self._strict, whole)
        self._encode(clips, [i for i in missing if clips.digests[i] not in whole], self._whole)
        whole.refresh()

    def _take(self, clips: Clips, some: list[int], settings: EmbedSettings, whole: EmbeddingStore) -> None:
        """Put what another store holds of these clips into the store of whole clips."""
        store = self._store(settings)
        held = [clips.digests[i] for i in some if clips.digests[i] in store and clips.digests[i] not in whole]
        layer = self.encoder.n_layers - 1 if settings.layers == "all" else None
        whole.add(held, store.read(held, layer))

    def _encode(self, clips: Clips, some: list[int], settings: EmbedSettings) -> None:
        """Encode what the store of these settings does not hold of the clips."""
        index = ClipIndex([clips.digests[i] for i in some], np.array([_seconds(clips, i) for i in some]))
        source = _Missing(lambda i: clips.audio(some[i]), index)
        plan = ExtractionPlan.of(self.encoder, source, settings)
        work = extract(self.encoder, source, self._store(settings), plan, self.ranks)
        self.encoded += work.clips
        for i, digest in zip(some, index.digests, strict=True):
            if digest in work.failures:
                raise UserError(f"{clips.where(i)}: {work.failures[digest]}")


def _seconds(clips: Clips, position: int) -> float:
    try:
        seconds = audio_info(clips.audio(position)).seconds
    except AudioError as error:
        raise UserError(f"{clips.where(position)}: {error}") from None
    if seconds > WHOLE_SECONDS:
        raise UserError(f"{clips.where(position)}: is {seconds / 3600:.0f} hours long; clips of up to a day are taken")
    return seconds
