"""Which clips of a corpus go through the model together, planned from the clips alone, before anyone looks into the store.

So which clips share a batch does not depend on what an earlier run has left behind, nor on the number of processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arch_hf.data import CorpusData
from arch_hf.data.clip_index import ClipIndex
from arch_hf.embedding.inputs import Inputs
from arch_hf.embedding.interface import AnyEncoder, WholeClips
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.store import EmbeddingStore

BATCH_SECONDS = {"cpu": 12.0, "gpu": 960.0}  # audio per batch; halved as often as memory asks
WINDOW_BATCHES = 5  # of a stream, so many batches are planned together: their encoded audio is held in memory


def plan_batches(
    index: ClipIndex, cost: np.ndarray, batch_seconds: float, order: Sequence[int] | None = None
) -> list[list[int]]:
    """Positions of all readable clips in batches of about `batch_seconds`, longest clips first; equal audio appears once.

    `cost` are the seconds of each clip as the model takes it. With the `order` of a stream, longest first holds within each window of it.

    Examples:
        >>> index = ClipIndex([b"a", b"b", b"a", b"c"], np.array([1.0, 3.0, 1.0, 2.0]))
        >>> plan_batches(index, index.seconds, batch_seconds=5)
        [[1], [3, 0]]
    """
    seen, clips = set(), []
    for i in range(len(index.digests)) if order is None else order:
        if i not in index.failures and index.digests[i] not in seen:
            seen.add(index.digests[i])
            clips.append(i)
    batches: list[list[int]] = []
    for window in [clips] if order is None else _windows(clips, index.seconds, WINDOW_BATCHES * batch_seconds):
        longest = np.inf  # a window starts a batch
        for i in sorted(window, key=lambda i: (-index.seconds[i], index.digests[i])):
            if not batches or (len(batches[-1]) + 1) * longest > batch_seconds:
                batches.append([])
                longest = cost[i]
            batches[-1].append(i)
    return batches


def clip_cost(index: ClipIndex, inputs: Inputs | WholeClips, settings: EmbedSettings) -> np.ndarray:
    """Seconds of each clip as the model takes it: whole windows, where it has one."""
    longest = settings.max_seconds
    padded = settings.padding == "max_length"
    cost = np.full(len(index.digests), longest) if padded else np.minimum(index.seconds, longest)
    window = inputs.window / inputs.rate if inputs.window else None
    return cost if window is None else np.maximum(1, np.ceil(cost / window)) * window


def _windows(clips: list[int], seconds: np.ndarray, limit: float) -> Iterator[list[int]]:
    """Consecutive clips that hold about `limit` seconds of audio together."""
    window: list[int] = []
    held = 0.0
    for i in clips:
        if window and held + seconds[i] > limit:
            yield window
            window, held = [], 0.0
        window.append(i)
        held += seconds[i]
    yield window


@dataclass(frozen=True)
class ExtractionPlan:
    """Which clips go through the model together: `batches` of positions, the same on every process.

    `settings` are those asked for. `also` are others that the same passes serve too, in batches in which the model sees the same: their plan is
    this one, so that it makes no difference, to the last bit, for which of them a clip was encoded.
    """

    batches: list[list[int]]
    settings: EmbedSettings
    also: tuple[EmbedSettings, ...] = ()

    @classmethod
    def of(
        cls, encoder: AnyEncoder, corpus: CorpusData, settings: EmbedSettings, also: Sequence[EmbedSettings] = ()
    ) -> "ExtractionPlan":
        """The plan for all clips of a corpus, whatever is stored already; of `also` those that have the same."""

        def batches(wanted: EmbedSettings) -> list[list[int]]:
            seconds = encoder.batch_seconds or BATCH_SECONDS["cpu" if encoder.device.type == "cpu" else "gpu"]
            return plan_batches(corpus.index, clip_cost(corpus.index, encoder.inputs, wanted), seconds, corpus.order)

        mine = batches(settings)
        return cls(mine, settings, tuple(other for other in also if other != settings and batches(other) == mine))

    def share(self, rank: int, size: int, store: EmbeddingStore, index: ClipIndex) -> list[list[int]]:
        """This process's batches, without the clips that are stored. They are dealt out first: two processes that see different stores
        (one of them late) leave no batch to nobody."""
        mine = self.batches[rank::size]
        todo = [[i for i in batch if index.digests[i] not in store] for batch in mine]
        return [batch for batch in todo if batch]
