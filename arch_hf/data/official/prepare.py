"""From a raw archive to a Hub-ready folder: Parquet shards, a dataset card, eval.yaml.

Clips are streamed: what is in memory at a time is one row group, whatever the size of the corpus. Everything is written into
a folder beside the target and moved into place when it is whole.
"""

import collections
import itertools
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Audio, ClassLabel, Features, List, Value
from tqdm import tqdm

from arch_hf.audio import audio_info, encode_flac, load_audio
from arch_hf.data.official.aside import check_target, written_aside
from arch_hf.data.official.card import write_card
from arch_hf.data.official.prepared import Prepared
from arch_hf.data.official.raw import RawFolder
from arch_hf.data.official.shards import SplitWriter
from arch_hf.data.spec import Clip, Corpus
from arch_hf.errors import AudioError, UserError
from arch_hf.terminal import say


def prepare(
    corpus: Corpus,
    raw_dir: str | Path,
    output_dir: str | Path,
    *,
    sampling_rate: int | None = None,
    num_proc: int = 1,
    allow_partial: bool = False,
    overwrite: bool = False,
) -> Prepared:
    """Read the raw archive of `corpus` and write `output_dir`, ready for `load_dataset` and for the Hub.

    Audio bytes are kept as they are, or re-encoded to mono FLAC at `sampling_rate` Hz. `num_proc` clips are read at a time.
    With `allow_partial`, clips that the metadata lists and the folder lacks are named and left out; without, they are an error, but for
    those that the official archive is known to lack.

    Raises:
        UserError: if the folder does not hold this corpus, a metadata file has a fault, files are missing, a clip cannot be
            re-encoded, or `output_dir` cannot be written. Nothing is left under its name then.
    """
    output_dir = Path(output_dir)
    check_target(output_dir, overwrite)
    raw = RawFolder(raw_dir, corpus.layout)
    clips = read_clips(corpus, raw)
    corpus, features = _features(corpus, clips)
    prepared = Prepared(corpus, features, sampling_rate)
    prepared.excluded = [
        {"clip_id": clip.clip_id, "split": clip.split, "reason": corpus.known_bad[clip.clip_id]}
        for clip in clips
        if clip.clip_id in corpus.known_bad
    ]
    clips = [clip for clip in clips if clip.clip_id not in corpus.known_bad]
    missing = {clip.clip_id: clip for clip in clips if not clip.path.is_file()}
    unknown = [clip.path for clip_id, clip in missing.items() if clip_id not in corpus.known_missing]
    if unknown and not allow_partial:
        raise UserError(_missing_message(corpus, raw_dir, unknown, len(clips)))
    prepared.missing = {clip_id: clip.split for clip_id, clip in missing.items()}
    clips = [clip for clip in clips if clip.clip_id not in missing]
    if not clips:
        raise UserError(f"{corpus.name}: none of the audio files that the metadata lists are in {raw_dir}")
    credits = {name: raw.find(name) for name in corpus.credits}
    prepared.credits = [path.name for path in credits.values() if path]
    prepared.missing_credits = [name for name, path in credits.items() if not path]
    with written_aside(output_dir) as folder:
        for path in filter(None, credits.values()):
            shutil.copyfile(path, folder / path.name)
        _write_clips(folder, prepared, clips, num_proc)
        write_card(folder, prepared)
    return prepared


def read_clips(corpus: Corpus, raw: RawFolder) -> list[Clip]:
    """Every clip of a raw archive, in canonical order: split by split in the order of the corpus, then by clip id."""
    rank = {split: i for i, split in enumerate(corpus.splits)}
    if corpus.read is None:
        raise UserError(f"{corpus.name} has no raw archive to be read")
    listed = list(corpus.read(raw))
    clips = list(dict.fromkeys(listed))
    if len(clips) < len(listed):
        say(
            f"{corpus.name}: {len(listed) - len(clips)} records stand twice in the metadata; each counts once",
            file=sys.stderr,
        )
    if not clips:
        raise raw.wrong(f"holds no clip of {corpus.name}")
    for clip in clips:
        if clip.split not in rank:
            raise UserError(
                f"{corpus.name}: {clip.clip_id} is in the split {clip.split!r}, not one of {', '.join(rank)}"
            )
        if corpus.classes and (bad := set(clip.labels) - set(corpus.classes)):
            raise UserError(
                f"{corpus.name}: {clip.clip_id} has the label {bad.pop()!r}, which is not one of its classes"
            )
    clips.sort(key=lambda clip: (rank[clip.split], clip.clip_id))
    count = collections.Counter(clip.clip_id for clip in clips)
    if twice := [clip_id for clip_id, n in count.items() if n > 1]:
        raise UserError(
            f"{corpus.name}: {len(twice)} clip ids occur more than once, {twice[0]!r} first, with unlike records, in {raw.root}"
        )
    return clips


def _features(corpus: Corpus, clips: Sequence[Clip]) -> tuple[Corpus, Features]:
    """The columns of a corpus; its classes too, where they are those that the metadata hold."""
    multi = corpus.task == "multi_label"
    if not corpus.classes:
        labels = {label for clip in clips for label in clip.labels}
        corpus = replace(corpus, classes=tuple(sorted(labels)))
    label = ClassLabel(names=list(corpus.classes))
    features = {"audio": Audio(), **({"labels": List(label)} if multi else {"label": label})}
    features |= {"clip_id": Value("string"), "group": Value("string")}
    if any(clip.arch_v1_split for clip in clips):
        features["arch_v1_split"] = Value("string")
    if any(clip.arch_v1_label for clip in clips):
        features["arch_v1_label"] = ClassLabel(names=sorted({clip.arch_v1_label or "" for clip in clips}))
    return corpus, Features(features)


def _missing_message(corpus: Corpus, raw_dir, missing: Sequence[Path], listed: int) -> str:
    first = ", ".join(str(path.relative_to(raw_dir)) for path in missing[:3])
    return (
        f"{corpus.name}: {len(missing)} of {listed} audio files that the metadata lists are not in {raw_dir}: {first}"
        f"{', ...' if len(missing) > 3 else ''}; complete the folder, or go on without them with --allow_partial"
    )


def _write_clips(folder: Path, prepared: Prepared, clips: Sequence[Clip], num_proc: int) -> None:
    (folder / "data").mkdir()
    position = {name: i for i, name in enumerate(prepared.corpus.classes)}
    progress = tqdm(total=len(clips), desc=prepared.corpus.name, unit="clip", disable=None, file=sys.stderr)
    with progress:
        for split, members in itertools.groupby(clips, key=lambda clip: clip.split):
            writer = SplitWriter(folder / "data", split, prepared.features)
            read = _reader(prepared.sampling_rate)
            for clip, audio, seconds, fault in parallel(read, members, num_proc):
                if fault and prepared.sampling_rate:
                    raise UserError(
                        f"{prepared.corpus.name}: {clip.path} cannot be re-encoded: {fault}; mend or replace the file"
                    )
                if fault:
                    prepared.unreadable.append({"clip_id": clip.clip_id, "reason": fault})
                prepared.seconds += seconds
                writer.add(_row(clip, audio, prepared, position))
                progress.update()
            prepared.splits[split] = writer.close()
            prepared.shards |= {f"data/{name}": facts for name, facts in writer.shards.items()}


def _row(clip: Clip, audio: bytes, prepared: Prepared, position: dict[str, int]) -> dict:
    suffix = ".flac" if prepared.sampling_rate else clip.path.suffix
    row: dict[str, Any] = {
        "audio": {"bytes": audio, "path": clip.clip_id.replace("/", "_") + suffix},
        "clip_id": clip.clip_id,
        "group": clip.group,
        "arch_v1_split": clip.arch_v1_split,
    }
    if prepared.corpus.task == "multi_label":
        row["labels"] = sorted(position[label] for label in set(clip.labels))
    else:
        (row["label"],) = (position[label] for label in clip.labels)
    if "arch_v1_label" in prepared.features:
        row["arch_v1_label"] = prepared.features["arch_v1_label"].str2int(clip.arch_v1_label)
    return row


def _reader(sampling_rate: int | None) -> Callable[[Clip], tuple[Clip, bytes, float, str | None]]:
    """A function that reads one clip: the clip, its bytes, its seconds, and what is wrong with it."""

    def read(clip: Clip):
        try:
            if sampling_rate:
                samples = load_audio(clip.path, sampling_rate)
                return clip, encode_flac(samples, sampling_rate), len(samples) / sampling_rate, None
            audio = clip.path.read_bytes()
            try:
                return clip, audio, audio_info(audio).seconds, None
            except AudioError as error:
                return clip, audio, 0.0, str(error)
        except AudioError as error:
            return clip, b"", 0.0, str(error)

    return read


def parallel(function: Callable, items: Iterable, workers: int) -> Iterator:
    """`map`, in order, with `workers` threads and a bounded number of results in memory.

    Threads suffice: libsndfile, soxr and the disk all work outside Python's lock.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    items = iter(items)
    pending: collections.deque[Future] = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 4 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
