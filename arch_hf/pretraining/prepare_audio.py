"""`arch-hf prepare-audio`: from a pile of audio to shards that training reads fast (see `shards`). Parallel, and resumable shard by shard.

What each shard will hold is settled first and written down (`plan.json`), so that the same shards come out however many processes
make them and however often they are killed.
"""

import hashlib
import io
import itertools
import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from arch_hf.audio import load_audio
from arch_hf.distributed import n_cores
from arch_hf.embedding.workers import end_with_parent
from arch_hf.errors import AudioError, UserError
from arch_hf.files import write_atomically
from arch_hf.pretraining import shards, sources
from arch_hf.pretraining.clips import INDEX, fingerprint_of, write_index
from arch_hf.pretraining.recipes import SAMPLING_RATE
from arch_hf.progress import progress_bar

# Of a shard's sources, at most; 2,000 clips of AudioSet are about 0.4 GB. A small pile has 64 shards, for as many processes.
SHARD_CLIPS, SHARD_BYTES, SHARDS = 2000, 4_000_000_000, 64


@dataclass(frozen=True)
class Source:
    """What is prepared, as the command line says it."""

    audio: tuple[str, ...]  # folders, one csv of segments, or one dataset
    config: str | None = None
    split: str | None = None
    segments: tuple[str, ...] = ()
    max_seconds: float = 30.0  # longer recordings are cut into equal pieces

    @property
    def kind(self) -> str:
        if len(self.audio) == 1 and self.audio[0].endswith(".csv") and Path(self.audio[0]).is_file():
            return "table"
        return "dataset" if sources.is_dataset(list(self.audio)) else "folders"

    def check(self) -> None:
        """Raise UserError for what does not go together."""
        if (self.config or self.split) and self.kind != "dataset":
            raise UserError("--config and --split go with a dataset, not with files")
        if self.segments and self.kind != "folders":
            raise UserError("--segments goes with folders of clips")
        if not self.max_seconds > 0:
            raise UserError(f"--max_seconds {self.max_seconds:g}: must be above 0")


class Job(NamedTuple):
    """One shard to make: of these segments, or of the dataset's shard of the same number."""

    source: Source
    folder: Path
    number: int
    segments: list[sources.Segment] | None


def prepare_audio(source: Source, output_dir: Path, workers: int | None = None) -> dict:
    """Prepare audio for pretraining in `output_dir`, or go on where an earlier call was stopped → the manifest.

    A folder that is finished already is verified: shards whose bytes are no longer those that were written are made again.

    Raises:
        UserError: if the source holds no audio, is another than the folder was begun with, or the disk is full.
    """
    source.check()
    output_dir = Path(output_dir)
    jobs, absent = _plan(source, output_dir)
    _begin(output_dir, source, jobs)
    workers = workers or n_cores()
    finished = (output_dir / shards.MANIFEST).is_file()
    test = shards.is_whole if finished else _is_there
    done = _in_processes(test, [(output_dir, job.number) for job in jobs], workers, "verifying" if finished else None)
    _in_processes(
        make_shard, [(job,) for job, there in zip(jobs, done, strict=True) if not there], workers, "preparing"
    )
    return _finish(output_dir, source, len(jobs), absent)


def _plan(source: Source, output_dir: Path) -> tuple[list[Job], list[tuple[str, str]]]:
    """The shards to make, and (name, reason) of the clips that are asked for and not there."""
    absent: list[tuple[str, str]] = []
    if source.kind == "dataset":
        dataset, _ = sources.open_dataset(source.audio[0], source.config, source.split)
        return [Job(source, output_dir, number, None) for number in range(dataset.num_shards)], []
    if source.kind == "table":
        segments = sources.read_table(Path(source.audio[0]))
    else:
        files, absent = sources.find_files(list(source.audio), list(source.segments), "SOURCE")
        segments = [sources.Segment(path, name) for path, name in files]
    # Once and for all in random order, so that every shard is a sample of the whole.
    segments = [segments[i] for i in np.random.default_rng(0).permutation(len(segments))]
    most = min(SHARD_CLIPS, max(50, math.ceil(len(segments) / SHARDS)))
    jobs: list[Job] = []
    held: list[sources.Segment] = []
    size = 0
    for segment in segments:
        try:
            more = os.stat(segment.path).st_size
        except OSError:
            more = 0
        if held and (len(held) == most or size + more > SHARD_BYTES):
            jobs.append(Job(source, output_dir, len(jobs), held))
            held, size = [], 0
        held.append(segment)
        size += more
    return [*jobs, Job(source, output_dir, len(jobs), held)], absent


def _begin(output_dir: Path, source: Source, jobs: list[Job]) -> None:
    """Write the plan down, or check that the folder was begun with the same one."""
    names = hashlib.sha256()
    for job in jobs:
        for segment in job.segments or ():
            names.update(f"{segment.name}\n".encode("utf-8", "surrogateescape"))
        names.update(b"\n")
    about = asdict(source)
    if source.kind != "dataset":  # files may move; their names are in the digest
        about["audio"] = [Path(path).name for path in source.audio]
        about["segments"] = [Path(path).name for path in source.segments]
    plan = {"format": shards.FORMAT, **about, "shards": len(jobs), "names_sha256": names.hexdigest()}
    plan = json.loads(json.dumps(plan))
    path = output_dir / shards.PLAN
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in plan if plan[name] != before.get(name)]
        if changed:
            told = "; ".join(f"{name} was {before.get(name)}, is {plan[name]}" for name in changed)
            raise UserError(f"{output_dir} was begun with another source: {told}. Give another --output_dir")
        for leftover in output_dir.glob(".shard-*.partial"):
            leftover.unlink(missing_ok=True)
        return
    if output_dir.is_dir() and any(output_dir.iterdir()):
        raise UserError(f"{output_dir} is not empty and holds no prepared audio: give another --output_dir")
    write_atomically(path, json.dumps(plan, indent=2).encode())


def _is_there(folder: Path, number: int) -> bool:
    return shards.read_record(folder, number) is not None


_stop = None  # in a worker process: set when the others have failed


def _begin_worker(stop) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process hears it, and tells
    end_with_parent(0)


def _in_processes(work, arguments: list[tuple], workers: int, label: str | None) -> list:
    """`work` of all the arguments, in processes where there is enough to do."""
    results, context = [None] * len(arguments), get_context("spawn")
    workers = min(workers, len(arguments))
    bar = progress_bar(label or "", len(arguments), shown=label is not None and bool(arguments), unit="shard")
    if workers < 2 or work is _is_there:
        with bar:
            for number, each in enumerate(arguments):
                results[number] = work(*each)
                bar.update()
        return results
    stop = context.Event()
    with bar, ProcessPoolExecutor(workers, context, _begin_worker, (stop,)) as pool:
        pending = {pool.submit(work, *each): number for number, each in enumerate(arguments)}
        try:
            for future in as_completed(pending):
                results[pending[future]] = future.result()
                bar.update()
        except BrokenProcessPool:
            raise UserError(
                "a process that prepared audio was ended from outside, perhaps for want of memory: "
                "run the command again, with fewer --workers"
            ) from None
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    return results


def make_shard(job: Job) -> None:
    """Decode, resample, cut and write one shard."""
    writer = shards.ShardWriter(job.folder, job.number)
    try:
        for name, recording in _recordings(job):
            if _stop is not None and _stop.is_set():
                raise KeyboardInterrupt
            try:
                samples = recording() if callable(recording) else load_audio(recording, SAMPLING_RATE)
            except AudioError as error:
                writer.skip(name, str(error))
                continue
            for piece_name, piece in cut(name, samples, job.source.max_seconds):
                writer.add(piece_name, piece)
        writer.close()
    except OSError as error:
        raise UserError(f"{job.folder}: {error.strerror or error}; mend it and run the command again") from None
    finally:
        writer.abandon()


def cut(name: str, samples: np.ndarray, max_seconds: float) -> Iterator[tuple[str, np.ndarray]]:
    """A recording as pieces of equal length, each at most so long, named by the seconds at which they begin.

    Examples:
        >>> [(name, len(piece)) for name, piece in cut("talk.wav", np.zeros(70 * 16000), 30)]
        [('talk.wav#0.000', 373334), ('talk.wav#23.333', 373333), ('talk.wav#46.667', 373333)]
    """
    pieces = math.ceil(len(samples) / (max_seconds * SAMPLING_RATE))
    if pieces <= 1:
        yield name, samples
        return
    start = 0
    for piece in np.array_split(samples, pieces):
        yield f"{name}#{start / SAMPLING_RATE:.3f}", piece
        start += len(piece)


def _recordings(job: Job) -> Iterator[tuple[str, bytes | str | Callable[[], np.ndarray]]]:
    """(name, what `load_audio` takes, or a function that gives samples) of a job's clips."""
    if job.segments is not None:
        for segment in job.segments:
            yield segment.name, segment.path if segment.is_whole else segment.load
        return
    source = job.source
    dataset, column = sources.open_dataset(source.audio[0], source.config, source.split)
    rows = iter(dataset.shard(num_shards=dataset.num_shards, index=job.number))
    for number in itertools.count():
        try:
            row = next(rows, None)
        except Exception as error:  # whatever the Hub, the network or a reader raises
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{source.audio[0]}: row {number} of its part {job.number} cannot be read ({reason}); run the command again to go on"
            ) from None
        if row is None:
            return
        audio = row[column] or {}
        yield audio.get("path") or f"{job.number:05d}-{number:06d}", audio.get("bytes") or audio.get("path") or b""


def _finish(output_dir: Path, source: Source, n_shards: int, absent: list[tuple[str, str]]) -> dict:
    """Write the index, the list of what was skipped, and the manifest → the manifest."""
    records = [shards.read_record(output_dir, number) or {} for number in range(n_shards)]
    clips = list(
        itertools.chain.from_iterable(shards.clips_of(number, record) for number, record in enumerate(records))
    )
    skipped = [*absent, *itertools.chain.from_iterable(record["skipped"] for record in records)]
    if not clips:
        reason = f", the first because: {skipped[0][1]}" if skipped else ""
        raise UserError(f"{' '.join(source.audio)}: none of {len(skipped)} clips could be used{reason}")
    lines = io.StringIO()
    for name, reason in skipped:
        lines.write(json.dumps({"clip": name, "reason": reason}) + "\n")
    write_atomically(output_dir / shards.SKIPPED, lines.getvalue().encode())
    write_index(output_dir / INDEX, clips, fingerprint_of((clip.name, clip.samples) for clip in clips))
    seconds = [clip.samples / SAMPLING_RATE for clip in clips]
    manifest = {
        "format": shards.FORMAT,
        "source": json.loads((output_dir / shards.PLAN).read_text(encoding="utf-8")),
        "sampling_rate": SAMPLING_RATE,
        "clips": len(clips),
        "hours": sum(seconds) / 3600,
        "seconds": {"least": min(seconds), "median": float(np.median(seconds)), "most": max(seconds)},
        "skipped": len(skipped),
        "bytes": sum(record["bytes"] for record in records),
        "shards": {shards.shard_paths(output_dir, i)[0].name: record["sha256"] for i, record in enumerate(records)},
    }
    write_atomically(output_dir / shards.MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return manifest
