"""Encoded clips that are no corpus, through the store: whatever another benchmark asks for, each clip is encoded once, ever.

Other benchmarks take clips whole. What is stored for them lies in a store of its own, of whole clips; a clip that `strict` does not cut either
has the same vector there, so it is taken from the store of `strict`, or put there too.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from arch_hf.audio import audio_info
from arch_hf.data.clip_index import ClipIndex
from arch_hf.data.spec import ClipTable
from arch_hf.distributed import Ranks
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.corpus import embed_corpus
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.store import EmbeddingStore, maker
from arch_hf.errors import AudioError, UserError
from arch_hf.probing.protocols import get_protocol
from arch_hf.terminal import say

WHOLE_SECONDS = 86_400.0  # a day: longer clips are refused, none is cut


@dataclass
class Clips:
    """Encoded clips: `audio` gives the bytes of one by its position, `digests` are theirs (see `arch_hf.files.audio_digest`), `where` names
    the clip of a position in messages."""

    audio: Callable[[int], bytes]
    digests: Sequence[bytes]
    where: Callable[[int], str]


class _Some:
    """The clips at some positions, with their lengths, in the form that `embed_corpus` takes."""

    order = None  # any clip can be read at any time

    def __init__(self, clips: Clips, seconds: Mapping[int, float]):
        self._clips, positions = clips, [*seconds]
        self._positions = positions
        self.index = ClipIndex([clips.digests[i] for i in positions], np.array([*seconds.values()]))
        names = [clips.where(i) for i in positions]
        self.table = ClipTable(names, ["test"] * len(names), [None] * len(names))

    def audio(self, position: int) -> bytes:
        return self._clips.audio(self._positions[position])


class StoredEncoder:
    """An encoder with its store.

    Attributes:
        encoder: an `AudioEncoder`.
        encoded: how many clips went through the model so far.
        ranks: this process.

    Examples:
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
        store = self._open(self._whole)
        store.check(store.shards_of(clips.digests))
        missing = {digest: i for i, digest in reversed(list(enumerate(clips.digests))) if digest not in store}
        if missing:
            self._bring(clips, sorted(missing.values()), store)
        return store.read(clips.digests)

    def _open(self, settings: EmbedSettings) -> EmbeddingStore:
        made_by = maker(self.encoder.device.type)
        return EmbeddingStore(
            settings.cache, settings.key(self.encoder), made_by, warn=lambda line: say(line, sys.stderr)
        )

    def _bring(self, clips: Clips, missing: list[int], whole: EmbeddingStore) -> None:
        """Put the vectors of these clips into the store of whole clips: out of the stores of `strict`, or encoded."""
        seconds = {i: _seconds(clips, i) for i in missing}
        self._take_from_all_layers(
            [clips.digests[i] for i, own in seconds.items() if own <= self._strict.max_seconds], whole
        )
        seconds = {i: own for i, own in seconds.items() if clips.digests[i] not in whole}
        for settings, is_short in ((self._strict, True), (self._whole, False)):
            if chosen := {i: own for i, own in seconds.items() if (own <= self._strict.max_seconds) is is_short}:
                embeddings = embed_corpus(self.encoder, _Some(clips, chosen), settings, self.ranks)
                self.encoded += embeddings.work.clips
                for position, reason in sorted(embeddings.failures.items()):
                    raise UserError(f"{clips.where([*chosen][position])}: {reason}")
                if settings is self._strict:
                    whole.add([clips.digests[i] for i in chosen], embeddings.read(-1))
        whole.refresh()

    def _take_from_all_layers(self, digests: list[bytes], whole: EmbeddingStore) -> None:
        """What a run over all layers under `strict` has left, also of a part of the clips."""
        store = self._open(replace(self._strict, layers="all"))
        store.check(store.shards_of(digests))
        held = [digest for digest in digests if digest in store]
        whole.add(held, store.read(held, self.encoder.n_layers - 1))


def _seconds(clips: Clips, position: int) -> float:
    try:
        seconds = audio_info(clips.audio(position)).seconds
    except AudioError as error:
        raise UserError(f"{clips.where(position)}: {error}") from None
    if seconds > WHOLE_SECONDS:
        raise UserError(f"{clips.where(position)}: is {seconds / 3600:.0f} hours long; clips of up to a day are taken")
    return seconds
