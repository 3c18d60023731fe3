"""Where the processes do not share one cache folder, or one sees late what another has written: who has what passes it on."""

from collections.abc import Iterator, Sequence

import numpy as np

from arch_hf.distributed import Ranks
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.errors import as_user_error

PIECE_BYTES = 64 << 20  # of embeddings that pass from one process to the others at a time


def bring_from_other_machines(store: EmbeddingStore, digests: Sequence[bytes], ranks: Ranks) -> None:
    """Pass around what some processes have and others lack; nothing at all where all see one store.

    Each embedding is sent once, in pieces of `PIECE_BYTES`, by the first process that has it; on each machine the first process that lacks it
    writes it to the store.

    Raises:
        SharedError: a store cannot be read or written.
    """
    if ranks.size == 1:
        return
    told = ranks.gather((ranks.machine, [d for d in dict.fromkeys(digests) if d not in store]))
    wanted = list(dict.fromkeys(digest for _, lacking in told for digest in lacking))
    if not wanted:
        return
    before_me = {d for machine, lacking in told[: ranks.rank] if machine == ranks.machine for d in lacking}
    needed = set(told[ranks.rank][1]) - before_me
    error = None
    for sender, piece in _pieces(store, wanted, ranks):
        vectors = None
        try:  # an error waits for the end: the others are in the middle of it
            if sender == ranks.rank and error is None:
                vectors = store.read(piece)
        except Exception as problem:
            error = str(as_user_error(problem))
        vectors = ranks.from_rank(sender, vectors)
        rows = [row for row, digest in enumerate(piece) if digest in needed]
        try:
            if rows and vectors is not None and error is None:
                store.add([piece[row] for row in rows], vectors[rows])
        except Exception as problem:
            error = str(as_user_error(problem))
    ranks.gather(None, error)
    ranks.together(store.refresh)


def _pieces(store: EmbeddingStore, wanted: list[bytes], ranks: Ranks) -> Iterator[tuple[int, list[bytes]]]:
    """Who sends what, the same on every process; what nobody has is in no piece."""
    have = [digest in store for digest in wanted]
    row_bytes = store.read([wanted[have.index(True)]]).nbytes if any(have) else 0
    answers = ranks.gather((np.packbits(have), row_bytes))
    everyone = np.stack([np.unpackbits(bits, count=len(wanted)) for bits, _ in answers])
    senders = np.where(everyone.any(0), everyone.argmax(0), -1)
    at_once = max(1, PIECE_BYTES // max(1, *(size for _, size in answers)))
    for sender in range(ranks.size):
        mine = [wanted[i] for i in np.flatnonzero(senders == sender)]
        for start in range(0, len(mine), at_once):
            yield sender, mine[start : start + at_once]
