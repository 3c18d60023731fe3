"""From clips to embeddings: each clip is decoded and encoded once, and what was encoded is never lost.

The work is planned over the whole corpus, from the clips alone, before anyone looks into the store: which clips share a batch does not
depend on what an earlier run has left behind, nor on the number of processes. So a run that was killed and continued, and a run
on more processes, compute the same embeddings to the last bit on the same hardware (with up to eight cores for each process; beyond
these, cores share a product, and on how many it is computed shows in its last bits).

A corpus that is streamed can only be read forward. It is planned in windows, one after the other, and one process per rank reads and decodes
ahead of the model; each rank reads the whole stream and takes its own batches from it.
"""

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from arch_hf.audio import load_audio
from arch_hf.data import CorpusData
from arch_hf.data.clip_index import ClipIndex
from arch_hf.distributed import Ranks, n_cores
from arch_hf.embedding.encoder import NonFiniteError
from arch_hf.embedding.inputs import Inputs, Segment, pack, unpack
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.embedding.workers import (
    end_with_parent,
    ended_by_exception,
    in_order,
    keep_freed_memory,
    shared_memory_holds,
    threads,
)
from arch_hf.errors import AudioError, UserError, as_user_error
from arch_hf.files import audio_digest
from arch_hf.progress import progress_bar

FLUSH_SECONDS = 20  # at most this much encoding is lost when a process is killed
BATCH_SECONDS = {"cpu": 12.0, "gpu": 960.0}  # audio per batch; halved as often as memory asks
MODEL_THREADS = 8  # of a CPU, each with a batch of its own; more of them would wait for Python's lock
MOST_WORKERS = 16  # decoding processes per rank before a GPU; else one for each core of its share
AHEAD = 2  # batches that each of them has ready
WINDOW_BATCHES = 5  # of a stream, so many batches are planned together: their encoded audio is held in memory


@dataclass
class Extraction:
    """What was done: `failures` (digest -> reason), clips and audio seconds encoded, and how long it took."""

    failures: dict[bytes, str] = field(default_factory=dict)
    clips: int = 0
    audio_s: float = 0.0
    decode_s: float = 0.0
    extract_s: float = 0.0

    def add(self, batch: "_Batch", good: dict, failures: dict[bytes, str]) -> None:
        """Count a batch that is done."""
        self.failures |= failures
        self.clips += len(good)
        self.audio_s += batch.seconds
        self.decode_s += batch.decode_s

    @classmethod
    def merge(cls, ranks: Sequence["Extraction"]) -> "Extraction":
        """All ranks together: work adds up, the slowest says how long it took."""
        failures = {digest: reason for rank in ranks for digest, reason in rank.failures.items()}
        clips, audio_s, decode_s = (
            sum(getattr(rank, name) for rank in ranks) for name in ("clips", "audio_s", "decode_s")
        )
        return cls(failures, clips, audio_s, decode_s, max(rank.extract_s for rank in ranks))


def plan_batches(
    index: ClipIndex, cost: np.ndarray, batch_seconds: float, order: Sequence[int] | None = None
) -> list[list[int]]:
    """Positions of all readable clips in batches of about `batch_seconds`, longest clips first; equal audio appears once.

    `cost` are the seconds of each clip as the model takes it. With the `order` of a stream, longest first holds within each window of it.

    Example:
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


def clip_cost(index: ClipIndex, inputs: Inputs, settings: EmbedSettings) -> np.ndarray:
    """Seconds of each clip as the model takes it: whole windows, where it has one."""
    longest = settings.max_seconds
    padded = settings.padding == "max_length"
    cost = np.full(len(index.digests), longest) if padded else np.minimum(index.seconds, longest)
    window = inputs.window / inputs.rate if inputs.window else None
    return cost if window is None else np.maximum(1, np.ceil(cost / window)) * window


def _windows(clips: list[int], seconds: np.ndarray, limit: float) -> Iterator[list[int]]:
    """Consecutive clips that hold about `limit` seconds of audio together."""
    window, held = [], 0.0
    for i in clips:
        if window and held + seconds[i] > limit:
            yield window
            window, held = [], 0.0
        window.append(i)
        held += seconds[i]
    yield window


class _Passing:
    """Clips of a stream for a plan that takes those of a window out of order: what the stream passes before its turn is held."""

    def __init__(self, audio_of, digests: Sequence[bytes], coming: list[int]):
        self.audio_of, self.digests, self.coming = audio_of, digests, coming[::-1]
        self.held: dict[int, bytes] = {}

    def __call__(self, position: int) -> bytes:
        while position not in self.held:
            i = self.coming.pop()
            try:
                self.held[i] = self.audio_of(i)
            except AudioError:
                self.held[i] = b""
            if audio_digest(self.held[i]) != self.digests[i]:
                raise UserError("the dataset has changed while it was read: start again")
        return self.held.pop(position)


@dataclass
class _Batch:
    """Clips that are ready for the model: `positions` of those that can be used, with their audio in `seconds`; the segments of all of them,
    `packed`; `failures` (position -> reason)."""

    positions: list[int]
    seconds: float
    packed: tuple[torch.Tensor | np.ndarray, list]
    failures: dict[int, str]
    decode_s: float

    def pin_memory(self) -> "_Batch":
        """In memory that a GPU reads by itself; called by the loader, ahead of the model."""
        values, layout = self.packed
        return replace(self, packed=(torch.as_tensor(values).pin_memory(), layout))


@dataclass(frozen=True)
class _Stopped:
    """What stops the extraction, told by value: torch would wrap what a worker process raises in a traceback."""

    reason: str
    position: int | None = None  # of the clip, where the reason does not name it


class _Prepare(Dataset):
    """One item per batch: its clips decoded and brought into the model's form.

    `as_array` is for worker processes where tensors find no shared memory to pass through: arrays go through a pipe.
    """

    def __init__(self, batches: list[list[int]], audio_of, inputs: Inputs, max_seconds: float, padded: bool):
        self.batches, self.audio_of, self.inputs = batches, audio_of, inputs
        self.max_seconds, self.padded_seconds = max_seconds, max_seconds if padded else None
        self.as_array = False

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> _Batch | _Stopped:
        start = time.perf_counter()
        positions, clips, failures, samples = [], [], {}, 0
        for i in self.batches[index]:
            try:
                waveform = load_audio(self.audio_of(i), self.inputs.rate, self.max_seconds)
                clips.append(self.inputs.segments(waveform, self.padded_seconds))
            except AudioError as error:
                failures[i] = str(error)
                continue
            except UserError as error:
                return _Stopped(str(error))
            except Exception as error:
                return _Stopped(str(as_user_error(error)), i)
            positions.append(i)
            samples += len(waveform)
        values, layout = pack(clips)
        packed = (values.numpy() if self.as_array else values, layout)
        return _Batch(positions, samples / self.inputs.rate, packed, failures, time.perf_counter() - start)


def _embed(encoder, clips: list[list[Segment]], **settings) -> list[np.ndarray | str]:
    """Embed a batch, in halves when memory runs out; a clip whose embedding is not finite gives its reason instead."""
    if not clips:
        return []
    try:
        return list(encoder.embed_segments(clips, **settings))
    except NonFiniteError as error:
        bad, reason = error.index, f"its embedding is not finite at layer {error.layer} in {encoder.dtype}"
        before, after = _embed(encoder, clips[:bad], **settings), _embed(encoder, clips[bad + 1 :], **settings)
        return [*before, reason, *after]
    except torch.OutOfMemoryError:
        if len(clips) == 1:
            seconds = sum(segment.samples for segment in clips[0]) / encoder.sampling_rate
            raise UserError(
                f"out of memory on one clip of {seconds:.1f} s: use --dtype bfloat16 or another --device"
            ) from None
        torch.cuda.empty_cache()
    half = len(clips) // 2
    return _embed(encoder, clips[:half], **settings) + _embed(encoder, clips[half:], **settings)


def _encode(
    encoder, clips: _Prepare, streamed: bool, **settings
) -> Iterator[tuple[_Batch, dict[int, np.ndarray | str]] | _Stopped]:
    """Each batch with what the model makes of its clips (position -> vector, or why there is none), in order; or what stops it.

    On a CPU each core decodes and encodes batches of its own: cores that share a matrix product wait for one another. Before a
    GPU, and where the clips come through a network, processes decode ahead of the model.
    """
    cores = torch.get_num_threads()
    if encoder.device.type != "cpu":
        n_threads, batches = 1, _decoded_ahead(clips, 1 if streamed else decoders(), encoder.device.type == "cuda")
    else:
        keep_freed_memory()
        # However little is left to do, so that a product is computed on as many cores.
        n_threads = min(cores, MODEL_THREADS) if encoder.thread_safe else 1
        here = (functools.partial(clips.__getitem__, i) for i in range(len(clips)))
        batches = _decoded_ahead(clips, 1) if streamed else here

    idle = [encoder, *(encoder.copy_for_thread() for _ in range(n_threads - 1))]

    def work(decoded: Callable[[], _Batch | _Stopped]):
        item = decoded()
        if isinstance(item, _Stopped):
            return item
        values, layout = item.packed
        segments = unpack(torch.as_tensor(values).to(encoder.device, non_blocking=True), layout)
        mine = idle.pop()
        try:
            return item, dict(zip(item.positions, _embed(mine, segments, **settings), strict=True))
        except Exception as error:
            return _culprit(mine, item.positions, segments, error, settings)
        finally:
            idle.append(mine)

    with threads(n_threads, cores // n_threads) as pool:
        if encoder.device.type == "cuda":  # which GPU is the current one, each thread is told by itself
            pool.submit(torch.cuda.set_device, torch.cuda.current_device())
        yield from in_order(pool, work, batches, ahead=n_threads)


def _culprit(encoder, positions: list[int], clips: list[list[Segment]], error: Exception, settings: dict) -> _Stopped:
    """Which clip of a batch it was that broke the model: the first with which it breaks alone, else the first of the batch."""
    for position, segments in zip(positions, clips, strict=True):
        try:
            _embed(encoder, [segments], **settings)
        except Exception as alone:
            return _Stopped(str(as_user_error(alone)), position)
    return _Stopped(f"with {len(positions) - 1} others in a batch: {as_user_error(error)}", positions[0])


def _decoded_ahead(clips: _Prepare, workers: int, pinned: bool = False) -> Iterator[Callable[[], _Batch | _Stopped]]:
    """The batches as worker processes have prepared them; without any for a handful of clips."""
    workers = 0 if sum(map(len, clips.batches)) < 64 else min(workers, len(clips))
    clips.as_array = not shared_memory_holds(workers * AHEAD * BATCH_SECONDS["gpu"] * clips.inputs.rate * 4)
    loader = DataLoader(
        clips,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=pinned,
        collate_fn=_as_is,
        worker_init_fn=end_with_parent,
    )
    for item in loader:
        yield functools.partial(_as_is, item)


def decoders() -> int:
    """How many processes decode for one rank before a GPU: a rank has its share of the machine's cores."""
    return max(1, min(MOST_WORKERS, n_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def _as_is(item):
    return item


class _Writer:
    """Collects embeddings and adds them to the store as a shard every FLUSH_SECONDS."""

    def __init__(self, store: EmbeddingStore):
        self.store, self.digests, self.vectors, self.last = store, [], [], time.monotonic()

    def add(self, digests: Iterable[bytes], vectors: Iterable[np.ndarray]) -> None:
        self.digests += digests
        self.vectors += vectors
        if time.monotonic() - self.last > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self.digests:
            self.store.add(self.digests, np.stack(self.vectors))
        self.digests, self.vectors, self.last = [], [], time.monotonic()


@dataclass(frozen=True)
class ExtractionPlan:
    """Which clips go through the model together: `batches` of positions, the same on every process; `settings` as they were asked for."""

    batches: list[list[int]]
    settings: EmbedSettings

    @classmethod
    def of(cls, encoder, corpus: CorpusData, settings: EmbedSettings) -> "ExtractionPlan":
        """The plan for all clips of a corpus, whatever is stored already."""
        kind = "cpu" if encoder.device.type == "cpu" else "gpu"
        cost = clip_cost(corpus.index, encoder.inputs, settings)
        seconds = encoder.batch_seconds or BATCH_SECONDS[kind]
        return cls(plan_batches(corpus.index, cost, seconds, corpus.order), settings)

    def share(self, rank: int, size: int, store: EmbeddingStore, index: ClipIndex) -> list[list[int]]:
        """This process's batches, without the clips that are stored. They are dealt out first: two processes that see different stores
        (one of them late) leave no batch to nobody."""
        mine = self.batches[rank::size]
        todo = [[i for i in batch if index.digests[i] not in store] for batch in mine]
        return [batch for batch in todo if batch]


def extract(encoder, corpus: CorpusData, store: EmbeddingStore, plan: ExtractionPlan, ranks: Ranks) -> Extraction:
    """Encode this process's share of the clips that the store does not hold yet, and put them there.

    Args:
        encoder: an `AudioEncoder`.
        corpus: its clips, with their index.
        store: where the embeddings go; shared by all processes of a machine.
        plan: which clips go together.
        ranks: this process among all of them; batches are dealt out longest first.

    Raises:
        UserError: if the store cannot be written, one clip does not fit into memory, or a stream breaks; or of any other fault, with the
            name of the clip. What was encoded is kept.
    """
    index, settings = corpus.index, plan.settings
    todo = plan.share(ranks.rank, ranks.size, store, index)
    done = Extraction()
    if not todo:
        return done
    start = time.perf_counter()
    padded = settings.padding == "max_length"
    audio_of = corpus.audio
    if corpus.order is not None:
        mine = {i for batch in todo for i in batch}
        audio_of = _Passing(audio_of, index.digests, [i for i in corpus.order if i in mine])
    clips = _Prepare(todo, audio_of, encoder.inputs.without_model(), settings.max_seconds, padded)
    writer = _Writer(store)
    label = "encode" if ranks.size == 1 else f"encode (share 1 of {ranks.size})"
    encoded = _encode(encoder, clips, streamed=corpus.order is not None, layers=settings.layers)
    bar = progress_bar(label, sum(map(len, todo)), ranks.is_main)
    try:
        with ended_by_exception(), bar, contextlib.closing(encoded):
            for outcome in encoded:
                if isinstance(outcome, _Stopped):
                    name = "" if outcome.position is None else f"clip {corpus.table.clip_id[outcome.position]}: "
                    raise UserError(f"{name}{outcome.reason}")
                item, vectors = outcome
                failures = item.failures | {i: vector for i, vector in vectors.items() if isinstance(vector, str)}
                good = {index.digests[i]: vector for i, vector in vectors.items() if i not in failures}
                writer.add(good.keys(), good.values())
                done.add(item, good, {index.digests[i]: reason for i, reason in failures.items()})
                bar.update(len(good) + len(failures))
                bar.set_postfix_str(f"{done.audio_s / (time.perf_counter() - start):.1f} audio s/s", refresh=False)
    finally:
        writer.flush()
    done.extract_s = time.perf_counter() - start
    return done
