"""From clips to embeddings: each clip is decoded and encoded once, and what was encoded is never lost.

The work is planned over the whole corpus (see `plan`). So a run that was killed and continued, and a run
on more processes, compute the same embeddings to the last bit on the same hardware (with up to eight cores for each process; beyond
these, cores share a product, and on how many it is computed shows in its last bits).

A corpus that is streamed can only be read forward. It is planned in windows, one after the other, and one process per rank reads and decodes
ahead of the model; each rank reads the whole stream and takes its own batches from it.
"""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from arch_hf.data import CorpusData
from arch_hf.distributed import Ranks
from arch_hf.embedding.encoder import NonFiniteError
from arch_hf.embedding.inputs import Segment
from arch_hf.embedding.interface import AnyEncoder
from arch_hf.embedding.plan import ExtractionPlan
from arch_hf.embedding.preparation import Batch, Passing, Prepare, Stopped, decoded_ahead, decoders
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.embedding.workers import ended_by_exception, in_order, keep_freed_memory, threads
from arch_hf.errors import UserError, as_user_error
from arch_hf.progress import progress_bar

FLUSH_SECONDS = 20  # at most this much encoding is lost when a process is killed
MODEL_THREADS = 8  # of a CPU, each with a batch of its own; more of them would wait for Python's lock


@dataclass
class Extraction:
    """What was done: `failures` (digest -> reason), clips and audio seconds encoded, and how long it took."""

    failures: dict[bytes, str] = field(default_factory=dict)
    clips: int = 0
    audio_s: float = 0.0
    decode_s: float = 0.0
    extract_s: float = 0.0

    def add(self, encoded: "_Encoded", digests: Sequence[bytes]) -> dict[int, np.ndarray]:
        """Count a batch that is done; returns the vectors of the clips that have one."""
        good, failures = {}, dict(encoded.batch.failures)
        for i, vector in encoded.vectors.items():
            if isinstance(vector, str):
                failures[i] = vector
            else:
                good[i] = vector
        self.failures |= {digests[i]: reason for i, reason in failures.items()}
        self.clips += len(good)
        self.audio_s += encoded.batch.seconds
        self.decode_s += encoded.batch.decode_s
        return good

    @classmethod
    def merge(cls, ranks: Sequence["Extraction"]) -> "Extraction":
        """All ranks together: work adds up, the slowest says how long it took."""
        failures = {digest: reason for rank in ranks for digest, reason in rank.failures.items()}
        clips, audio_s, decode_s = (
            sum(getattr(rank, name) for rank in ranks) for name in ("clips", "audio_s", "decode_s")
        )
        return cls(failures, clips, audio_s, decode_s, max(rank.extract_s for rank in ranks))


@dataclass
class _Encoded:
    """A batch with what the model makes of its clips: by position the vector, or why there is none; by the number of the other setting the
    vectors under those that were served on the way."""

    batch: Batch
    vectors: Mapping[int, np.ndarray | str]
    also: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)


def _embed(encoder: AnyEncoder, clips: list[list[Segment]], layers: str) -> list[np.ndarray | str]:
    """Embed a batch, in halves when memory runs out; a clip whose embedding is not finite gives its reason instead."""
    if not clips:
        return []
    try:
        return list(encoder.embed_segments(clips, layers))
    except NonFiniteError as error:
        bad, reason = error.index, f"its embedding is not finite at layer {error.layer} in {encoder.dtype}"
        before, after = _embed(encoder, clips[:bad], layers), _embed(encoder, clips[bad + 1 :], layers)
        return [*before, reason, *after]
    except torch.OutOfMemoryError:
        if len(clips) == 1:
            seconds = sum(segment.samples for segment in clips[0]) / encoder.sampling_rate
            raise UserError(
                f"out of memory on one clip of {seconds:.1f} s: use --dtype bfloat16 or another --device"
            ) from None
        torch.cuda.empty_cache()
    half = len(clips) // 2
    return _embed(encoder, clips[:half], layers) + _embed(encoder, clips[half:], layers)


def _embed_batch(encoder: AnyEncoder, batch: Batch, layers: str) -> _Encoded | Stopped:
    """A batch through the model, or which clip stopped it. Other settings are served only where all goes well at once."""
    segments, n = batch.unpacked(encoder.device), len(batch.positions)
    clips = dict(zip(batch.positions, segments[:n], strict=True))
    if batch.served:
        with contextlib.suppress(Exception):  # which of the clips it was is found below
            rows = iter(encoder.embed_segments(segments, layers))
            mine, *others = (
                dict(zip(clips, itertools.islice(rows, n), strict=True)) for _ in range(len(segments) // n)
            )
            return _Encoded(batch, mine, dict(zip(batch.served, others, strict=True)))
    try:
        return _Encoded(batch, dict(zip(clips, _embed(encoder, segments[:n], layers), strict=True)))
    except Exception as error:
        return _culprit(encoder, clips, error, layers)


def _encode(
    encoder: AnyEncoder, clips: Prepare, streamed: bool, layers: str
) -> Generator[_Encoded | Stopped, None, None]:
    """Each batch with what the model makes of its clips, in order; or what stops it.

    On a CPU each core decodes and encodes batches of its own: cores that share a matrix product wait for one another. Before a
    GPU, and where the clips come through a network, processes decode ahead of the model.
    """
    cores = torch.get_num_threads()
    if encoder.device.type != "cpu":
        n_threads, batches = 1, decoded_ahead(clips, 1 if streamed else decoders(), encoder.device.type == "cuda")
    else:
        keep_freed_memory()
        # However little is left to do, so that a product is computed on as many cores.
        n_threads = min(cores, MODEL_THREADS) if encoder.thread_safe else 1
        here = (functools.partial(clips.__getitem__, i) for i in range(len(clips)))
        batches = decoded_ahead(clips, 1) if streamed else here

    idle = [encoder, *(encoder.copy_for_thread() for _ in range(n_threads - 1))]

    def work(decoded: Callable[[], Batch | Stopped]) -> _Encoded | Stopped:
        item = decoded()
        if isinstance(item, Stopped):
            return item
        mine = idle.pop()
        try:
            return _embed_batch(mine, item, layers)
        finally:
            idle.append(mine)

    with threads(n_threads, cores // n_threads) as pool:
        if encoder.device.type == "cuda":  # which GPU is the current one, each thread is told by itself
            pool.submit(torch.cuda.set_device, torch.cuda.current_device())
        yield from in_order(pool, work, batches, ahead=n_threads)


def _culprit(encoder: AnyEncoder, clips: dict[int, list[Segment]], error: Exception, layers: str) -> Stopped:
    """Which clip of a batch it was that broke the model: the first with which it breaks alone, else the first of the batch."""
    for position, segments in clips.items():
        try:
            _embed(encoder, [segments], layers)
        except Exception as alone:
            return Stopped(str(as_user_error(alone)), position)
    return Stopped(f"with {len(clips) - 1} others in a batch: {as_user_error(error)}", next(iter(clips)))


class _Writer:
    """Collects embeddings and adds them to their store as a shard every FLUSH_SECONDS."""

    def __init__(self, store: EmbeddingStore):
        self.store, self.last = store, time.monotonic()
        self.held: dict[bytes, np.ndarray] = {}

    def add(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """What is not stored yet."""
        self.held |= {digest: vector for digest, vector in vectors.items() if digest not in self.store}
        if time.monotonic() - self.last > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self.held:
            self.store.add(list(self.held), np.stack(list(self.held.values())))
        self.held, self.last = {}, time.monotonic()


def extract(
    encoder: AnyEncoder,
    corpus: CorpusData,
    store: EmbeddingStore,
    plan: ExtractionPlan,
    ranks: Ranks,
    also: Sequence[EmbeddingStore] = (),
) -> Extraction:
    """Encode this process's share of the clips that the store does not hold yet, and put them there.

    Args:
        encoder: see `as_encoder`.
        corpus: its clips, with their index.
        store: where the embeddings go; shared by all processes of a machine.
        plan: which clips go together.
        ranks: this process among all of them; batches are dealt out longest first.
        also: where those under the other settings of the plan go, as far as the same passes give them.

    Raises:
        UserError: if a store cannot be written, one clip does not fit into memory, or a stream breaks; or of any other fault, with the
            name of the clip. What was encoded is kept.
    """
    index = corpus.index
    todo = plan.share(ranks.rank, ranks.size, store, index)
    done = Extraction()
    if not todo:
        return done
    start = time.perf_counter()
    audio_of = corpus.audio
    if corpus.order is not None:
        mine = {i for batch in todo for i in batch}
        audio_of = Passing(audio_of, index.digests, [i for i in corpus.order if i in mine])
    others = plan.also if also else ()
    clips = Prepare(todo, audio_of, encoder.inputs.without_model(), plan.settings, others, index.seconds)
    writers = [_Writer(store), *map(_Writer, also)]
    label = "encode" if ranks.size == 1 else f"encode (share 1 of {ranks.size})"
    encoded = _encode(encoder, clips, streamed=corpus.order is not None, layers=plan.settings.layers)
    bar = progress_bar(label, sum(map(len, todo)), ranks.is_main)
    try:
        with ended_by_exception(), bar, contextlib.closing(encoded):
            for outcome in encoded:
                if isinstance(outcome, Stopped):
                    name = "" if outcome.position is None else f"clip {corpus.table.clip_id[outcome.position]}: "
                    raise UserError(f"{name}{outcome.reason}")
                good = done.add(outcome, index.digests)
                writers[0].add({index.digests[i]: vector for i, vector in good.items()})
                for k, vectors in outcome.also.items():
                    writers[k + 1].add({index.digests[i]: vector for i, vector in vectors.items()})
                bar.update(len(outcome.vectors) + len(outcome.batch.failures))
                bar.set_postfix_str(f"{done.audio_s / (time.perf_counter() - start):.1f} audio s/s", refresh=False)
    finally:
        for writer in writers:
            writer.flush()
    done.extract_s = time.perf_counter() - start
    return done
