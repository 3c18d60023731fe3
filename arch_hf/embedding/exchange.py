"""Where the processes do not share one cache folder: what some have encoded reaches the others."""

from collections.abc import Sequence

import numpy as np

from arch_hf.distributed import Ranks
from arch_hf.embedding.extraction import Extraction
from arch_hf.embedding.store import EmbeddingStore


def bring_from_other_machines(
    store: EmbeddingStore, digests: Sequence[bytes], everyone: Sequence[Extraction], ranks: Ranks
) -> None:
    """Pass around what some processes have and others lack; nothing at all where all see one store."""
    if ranks.size == 1:
        return
    failed = set().union(*(extraction.failures for extraction in everyone))
    lacking = [d for d in dict.fromkeys(digests) if d not in store and d not in failed]
    wanted = list(dict.fromkeys(d for rank in ranks.gather(lacking) for d in rank))
    if not wanted:
        return
    have = [d for d in wanted if d in store]
    for theirs, vectors in ranks.gather((have, store.read(have) if have else np.empty(0))):
        new = [row for row, digest in enumerate(theirs) if digest not in store]
        if new and ranks.is_local_main:
            store.add([theirs[row] for row in new], vectors[new])
    ranks.wait()
    store.refresh()
