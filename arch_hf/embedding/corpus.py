"""A whole corpus through an encoder and into the store: shared out over the processes, and what came of it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from arch_hf.data import CorpusData
from arch_hf.distributed import Ranks
from arch_hf.embedding.exchange import bring_from_other_machines
from arch_hf.embedding.extraction import Extraction, extract
from arch_hf.embedding.interface import AnyEncoder
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.plan import ExtractionPlan, clip_cost
from arch_hf.embedding.store import EmbeddingStore, maker
from arch_hf.errors import UserError
from arch_hf.terminal import say


@dataclass(frozen=True)
class CorpusEmbeddings:
    """The embeddings of a corpus, in a store.

    Attributes:
        store: holds them, by the digest of the audio.
        corpus: whose clips they are.
        all_layers: whether the store holds every layer.
        failures: position of the clip -> why it has none.
        work: what this run has encoded.
        usable: positions of the clips that have one, in order.
    """

    store: EmbeddingStore
    corpus: CorpusData
    all_layers: bool
    failures: dict[int, str]
    work: Extraction
    usable: list[int] = field(init=False)

    def __post_init__(self):
        usable = [i for i in range(len(self.corpus.table)) if i not in self.failures]
        if not usable:
            first = next(iter(self.failures.values()))
            raise UserError(f"none of the {len(self.corpus.table)} clips could be used; the first: {first}")
        object.__setattr__(self, "usable", usable)

    @property
    def made_by(self) -> list[str]:
        """The versions and devices that made them: an earlier run's may be others than this one's."""
        return self.store.makers(self.corpus.index.digests[i] for i in self.usable)

    def read(self, layer: int | Literal["all"]) -> np.ndarray:
        """Of the usable clips the embeddings at one layer, float32 [clips, dim], or at all of them, [clips, layers, dim]."""
        digests = [self.corpus.index.digests[i] for i in self.usable]
        return self.store.read(digests, layer if self.all_layers and layer != "all" else None)


def embed_corpus(
    encoder: AnyEncoder,
    corpus: CorpusData,
    settings: EmbedSettings,
    ranks: Ranks,
    also: Sequence[EmbedSettings] = (),
) -> CorpusEmbeddings:
    """Bring every clip's embedding into the store: what is there already, and whole, is not encoded again.

    Args:
        encoder, corpus, ranks: which clips go through what, on which processes.
        settings: how the clips are embedded.
        also: other settings that will be asked for: what the same passes through the model give under them is stored on the way. That is
            nearly all where the model has one fixed window and the clips fit into it, else nothing.

    Raises:
        UserError: see `extract`; or not one clip could be used; or the store was removed in the meantime.
    """
    index = corpus.index
    settings = _what_is_stored(encoder, corpus, settings, ranks)
    store = ranks.together(lambda: _open(encoder, settings))
    to_check = ranks.share_locally(store.shards_of(index.digests))
    ranks.together(lambda: store.check(to_check))
    ranks.together(store.refresh)
    plan = ExtractionPlan.of(encoder, corpus, settings, [replace(other, layers=settings.layers) for other in also])
    others = ranks.together(lambda: [_open(encoder, other) for other in plan.also])
    everyone = ranks.gather(ranks.together(lambda: extract(encoder, corpus, store, plan, ranks, others)))
    ranks.together(store.refresh)
    done = Extraction.merge(everyone)
    failures = index.failures | {i: done.failures[d] for i, d in enumerate(index.digests) if d in done.failures}
    wanted = [digest for i, digest in enumerate(index.digests) if i not in failures]
    bring_from_other_machines(store, wanted, ranks)
    ranks.together(lambda: _require(store, wanted))
    return CorpusEmbeddings(store, corpus, settings.layers == "all", failures, done)


def _open(encoder: AnyEncoder, settings: EmbedSettings) -> EmbeddingStore:
    by, key = maker(encoder.device.type), settings.key(encoder)
    return EmbeddingStore(settings.cache, key, by, warn=lambda line: say(line, sys.stderr))


def _require(store: EmbeddingStore, digests: list[bytes]) -> None:
    if lacking := sum(digest not in store for digest in digests):
        raise UserError(
            f"{lacking} embeddings in {store.folder} were removed while this run was at work: start again, and they are encoded anew"
        )


def _what_is_stored(encoder: AnyEncoder, corpus: CorpusData, settings: EmbedSettings, ranks: Ranks) -> EmbedSettings:
    """The settings as they are, or with all layers where an earlier run over all of them has left what a run over the last one needs."""
    if settings.layers == "all":
        return settings
    deep = replace(settings, layers="all")

    def complete() -> bool:
        store, index = EmbeddingStore(deep.cache, deep.key(encoder)), corpus.index
        return all(digest in store for i, digest in enumerate(index.digests) if i not in index.failures)

    return deep if all(ranks.gather(ranks.together(complete))) else settings


@dataclass(frozen=True)
class EmbeddingCost:
    """What embedding a corpus costs: `clips`, `stored` among them, `hours` of audio as the encoder takes it, `hours_left` of those that are not
    stored, and `gigabytes` on disk."""

    clips: int
    stored: int
    hours: float
    hours_left: float
    gigabytes: float


def embedding_cost(encoder: AnyEncoder, corpus: CorpusData, settings: EmbedSettings) -> EmbeddingCost:
    """What embedding a corpus would cost."""
    index, n_clips = corpus.index, len(corpus.table)
    store = EmbeddingStore(settings.cache, settings.key(encoder))
    width = encoder.embedding_size * (encoder.n_layers if settings.layers == "all" else 1)
    hours = clip_cost(index, encoder.inputs, settings) / 3600
    stored = np.array([digest in store for digest in index.digests])
    return EmbeddingCost(
        n_clips, int(stored.sum()), float(hours.sum()), float(hours[~stored].sum()), n_clips * width * 4 / 1e9
    )
