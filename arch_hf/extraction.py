"""From clips to embeddings: each clip is decoded and encoded once, and what was encoded is never lost.

The work is planned over the whole corpus, from the clips alone, before anyone looks into the store: which clips share a batch does not
depend on what an earlier run has left behind, nor on the number of processes. So a run that was killed and continued, and a run
on more processes, compute the same embeddings to the last bit on the same hardware.

A corpus that is streamed can only be read forward. It is planned in windows, one after the other, and one process per rank reads and decodes
ahead of the model; each rank reads the whole stream and takes its own batches from it.
"""

import contextlib
import ctypes
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from arch_hf.audio import DECODER, audio_info, load_audio
from arch_hf.encoders.encoder import NonFiniteError
from arch_hf.errors import AudioError, UserError
from arch_hf.store import EmbeddingStore, audio_digest, checksum, write_atomically

FLUSH_SECONDS = 20  # at most this much encoding is lost when a process is killed
BATCH_SECONDS = {"cpu": 48.0, "gpu": 960.0}  # audio per batch, a few passes; halved as often as memory asks
WORKERS = {"cpu": 1, "gpu": 8}  # decoding processes per rank
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
WINDOW_BATCHES = 5  # of a stream, so many batches are planned together: their encoded audio is held in memory


@dataclass
class Catalogue:
    """What is known of each clip before it is decoded: `digests`, `seconds` (0 where unreadable), `failures` (position -> reason)."""

    digests: list[bytes]
    seconds: np.ndarray
    failures: dict[int, str] = field(default_factory=dict)


@dataclass
class Extraction:
    """What was done: `failures` (digest -> reason), clips and audio seconds encoded, and how long it took."""

    failures: dict[bytes, str] = field(default_factory=dict)
    clips: int = 0
    audio_s: float = 0.0
    decode_s: float = 0.0
    extract_s: float = 0.0

    @classmethod
    def merge(cls, ranks: Sequence["Extraction"]) -> "Extraction":
        """All ranks together: work adds up, the slowest says how long it took."""
        failures = {digest: reason for rank in ranks for digest, reason in rank.failures.items()}
        clips, audio_s, decode_s = (
            sum(getattr(rank, name) for rank in ranks) for name in ("clips", "audio_s", "decode_s")
        )
        return cls(failures, clips, audio_s, decode_s, max(rank.extract_s for rank in ranks))


def read_catalogue(data, cache_dir: Path, progress: bool = False, order: Sequence[int] | None = None) -> Catalogue:
    """Read every clip's bytes once: its digest, and its duration from the header. Remembered under the dataset's own
    fingerprint, which changes with the files it was loaded from.

    Args:
        data: a `CorpusData`.
        cache_dir: the cache folder.
        progress: whether to show a progress bar.
        order: positions of all clips in the order of reading, for a corpus that is streamed.
    """
    path = Path(cache_dir) / "catalogues" / f"{data.clips._fingerprint}.safetensors"
    if path.is_file() and (known := _load_catalogue(path)):
        return known
    n_clips = len(data.table)
    found = Catalogue([b""] * n_clips, np.zeros(n_clips))
    for i in _bar("read", n_clips, progress, range(n_clips) if order is None else order):
        try:
            audio = data.audio(i)
        except AudioError as error:
            found.digests[i] = audio_digest(f"missing {i}".encode())
            found.failures[i] = str(error)
            continue
        found.digests[i] = audio_digest(audio)
        try:
            found.seconds[i] = audio_info(audio).seconds
        except AudioError as error:
            found.failures[i] = str(error)
    # A failure is looked at again, the file may have been mended; not in a stream, which has another fingerprint then.
    if not found.failures or order is not None:
        keys = np.frombuffer(b"".join(found.digests), np.uint8).reshape(n_clips, -1)
        metadata = {"failures": json.dumps(found.failures), "sha256": checksum(keys, found.seconds)}
        write_atomically(path, save({"digests": keys, "seconds": found.seconds}, metadata))
    return found


def _bar(label: str, n_clips: int, shown: bool, clips: Iterable[int] | None = None) -> tqdm:
    """A progress bar on a terminal; a line every half minute in a log file."""
    interval = 0.1 if sys.stderr.isatty() else 30
    return tqdm(clips, desc=label, total=n_clips, unit="clip", mininterval=interval, disable=not shown, leave=False)


def _load_catalogue(path: Path) -> Catalogue | None:
    """What was remembered, or None if that is damaged: the clips are read again."""
    try:
        with safe_open(path, framework="numpy") as file:
            keys, seconds, metadata = file.get_tensor("digests"), file.get_tensor("seconds"), file.metadata()
            if checksum(keys, seconds) != metadata["sha256"]:
                return None
            failures = json.loads(metadata["failures"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    return Catalogue([key.tobytes() for key in keys], seconds, {int(i): reason for i, reason in failures.items()})


def recipe(encoder, padding: str, max_seconds: float, layers: str) -> dict:
    """Everything besides the audio that an embedding depends on: the key of its store."""
    return {
        "weights_sha256": encoder.weights_sha256,
        "class": encoder.model_class,
        "preprocessing": encoder.preprocessing,
        "decoder": DECODER,
        "sampling_rate": encoder.sampling_rate,
        "dtype": str(encoder.dtype).removeprefix("torch."),
        "padding": padding,
        "max_seconds": max_seconds,
        "layers": layers,
    }


def plan_batches(
    found: Catalogue, max_seconds: float, padded: bool, batch_seconds: float, order: Sequence[int] | None = None
) -> list[list[int]]:
    """Positions of all readable clips in batches of about `batch_seconds`, longest clips first; equal audio appears once.

    With the `order` of a stream, longest first holds within each window of it.

    Example:
        >>> found = Catalogue([b"a", b"b", b"a", b"c"], np.array([1.0, 3.0, 1.0, 2.0]))
        >>> plan_batches(found, max_seconds=30, padded=False, batch_seconds=5)
        [[1], [3, 0]]
    """
    seen, clips = set(), []
    for i in range(len(found.digests)) if order is None else order:
        if i not in found.failures and found.digests[i] not in seen:
            seen.add(found.digests[i])
            clips.append(i)
    cost = np.full(len(found.digests), max_seconds) if padded else np.minimum(found.seconds, max_seconds)
    batches: list[list[int]] = []
    for window in [clips] if order is None else _windows(clips, found.seconds, WINDOW_BATCHES * batch_seconds):
        longest = np.inf  # a window starts a batch
        for i in sorted(window, key=lambda i: (-found.seconds[i], found.digests[i])):
            if not batches or (len(batches[-1]) + 1) * longest > batch_seconds:
                batches.append([])
                longest = cost[i]
            batches[-1].append(i)
    return batches


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


class _Decode(Dataset):
    """One item per batch: its clips decoded. Runs in worker processes, ahead of the model."""

    def __init__(self, batches: list[list[int]], audio_of, sampling_rate: int, max_seconds: float):
        self.batches, self.audio_of = batches, audio_of
        self.sampling_rate, self.max_samples = sampling_rate, round(max_seconds * sampling_rate)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int):
        start = time.perf_counter()
        positions, waveforms, failures = [], [], {}
        for i in self.batches[index]:
            try:
                waveform = load_audio(self.audio_of(i), self.sampling_rate)[: self.max_samples]
            except AudioError as error:
                failures[i] = str(error)
                continue
            except UserError as error:  # told by value: torch would wrap what a worker raises in a traceback
                return error
            positions.append(i)
            waveforms.append(waveform)
        return positions, waveforms, failures, time.perf_counter() - start


def _embed(encoder, waveforms: list[np.ndarray], **settings) -> list[np.ndarray | str]:
    """Embed a batch, in halves when memory runs out; a clip whose embedding is not finite gives its reason instead."""
    if not waveforms:
        return []
    try:
        return list(encoder.embed(waveforms, **settings))
    except NonFiniteError as error:
        bad, reason = error.index, f"its embedding is not finite at layer {error.layer} in {encoder.dtype}"
        before, after = _embed(encoder, waveforms[:bad], **settings), _embed(encoder, waveforms[bad + 1 :], **settings)
        return [*before, reason, *after]
    except torch.OutOfMemoryError:
        if len(waveforms) == 1:
            seconds = len(waveforms[0]) / encoder.sampling_rate
            raise UserError(
                f"out of memory on one clip of {seconds:.1f} s: use --mixed_precision bf16 or another device"
            ) from None
        torch.cuda.empty_cache()
    half = len(waveforms) // 2
    return _embed(encoder, waveforms[:half], **settings) + _embed(encoder, waveforms[half:], **settings)


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


def extract(
    encoder,
    audio_of,
    found: Catalogue,
    store: EmbeddingStore,
    *,
    padding: str,
    max_seconds: float,
    layers: str = "last",
    order: Sequence[int] | None = None,
    rank: int = 0,
    n_ranks: int = 1,
    progress: bool = False,
) -> Extraction:
    """Encode this rank's share of the clips that the store does not hold yet, and put them there.

    Args:
        encoder: an `AudioEncoder`.
        audio_of: position -> the clip's encoded bytes.
        found: the corpus's catalogue.
        store: where the embeddings go; shared by all ranks.
        padding, max_seconds, layers: as in `AudioEncoder.embed`.
        order: positions of all clips in the order of reading, for a corpus that is streamed.
        rank, n_ranks: this process among all of them; batches are dealt out longest first.
        progress: whether to show a progress bar.

    Raises:
        UserError: if the store cannot be written, one clip does not fit into memory, or a stream breaks; what was encoded is kept.
    """
    kind = "cpu" if encoder.device.type == "cpu" else "gpu"
    plan = plan_batches(found, max_seconds, padding == "max_length", BATCH_SECONDS[kind], order)
    todo = [[i for i in batch if found.digests[i] not in store] for batch in plan]
    todo = [batch for batch in todo if batch][rank::n_ranks]
    done = Extraction()
    if not todo:
        return done
    start = time.perf_counter()
    n_clips = sum(map(len, todo))
    workers = min(WORKERS[kind], len(todo))
    if order is not None:
        mine = {i for batch in todo for i in batch}
        audio_of, workers = _Passing(audio_of, found.digests, [i for i in order if i in mine]), 1
    loader = DataLoader(
        _Decode(todo, audio_of, encoder.sampling_rate, max_seconds),
        batch_size=None,
        num_workers=workers if n_clips >= 64 else 0,
        prefetch_factor=4 if n_clips >= 64 else None,
        collate_fn=_as_is,
        worker_init_fn=functools.partial(_start_worker, step_back=kind == "cpu"),
    )
    writer = _Writer(store)
    settings = {"padding": padding, "max_seconds": max_seconds, "layers": layers}
    label = "encode" if n_ranks == 1 else f"encode (share 1 of {n_ranks})"
    try:
        with _stored_before_the_end(), _bar(label, n_clips, progress) as bar:
            for item in loader:
                if isinstance(item, UserError):
                    raise item
                positions, waveforms, failures, decode_s = item
                vectors = dict(zip(positions, _embed(encoder, waveforms, **settings), strict=True))
                failures |= {i: vector for i, vector in vectors.items() if isinstance(vector, str)}
                good = {found.digests[i]: vector for i, vector in vectors.items() if i not in failures}
                writer.add(good.keys(), good.values())
                done.failures |= {found.digests[i]: reason for i, reason in failures.items()}
                done.clips += len(good)
                done.audio_s += sum(map(len, waveforms)) / encoder.sampling_rate
                done.decode_s += decode_s
                bar.update(len(good) + len(failures))
                bar.set_postfix_str(f"{done.audio_s / (time.perf_counter() - start):.1f} audio s/s", refresh=False)
    finally:
        writer.flush()
    done.extract_s = time.perf_counter() - start
    return done


@contextlib.contextmanager
def _stored_before_the_end() -> Iterator[None]:
    """Make SIGTERM an exception, so that what was encoded is still stored: a launcher sends it to all ranks when one has died."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may listen to signals
        return

    def end(*_):
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_is(item):
    return item


def _start_worker(_worker: int, step_back: bool) -> None:
    """Set up a decoding process.

    It decodes when the model leaves a core idle, where both share the cores: one that is busy elsewhere keeps all others waiting. And it
    ends with its rank: one whose rank was killed would wait for ever to hand over its batch.
    """
    if step_back and hasattr(os, "nice"):
        os.nice(19)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
