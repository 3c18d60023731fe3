"""Where clips come from: folders of audio files, AudioSet's segment lists for a local copy, or a `datasets` dataset, streamed."""

import copy
import csv
import itertools
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from datasets import Audio, DatasetDict, IterableDataset, load_dataset, load_from_disk
from datasets.distributed import split_dataset_by_node
from tqdm import tqdm

from arch_hf.audio import audio_info
from arch_hf.errors import AudioError, UserError

# What libsndfile reads, under the names that files go by.
EXTENSIONS = {f".{name.lower()}" for name in soundfile.available_formats()} | {".aif", ".oga", ".opus", ".m4a", ".webm"}
EXTENSIONS -= {".raw", ".mat4", ".mat5", ".txt"}


@dataclass
class Clips:
    """Clips on disk, in the order of their paths: `paths`, their `seconds` by their headers, and those `skipped`, with the reason."""

    paths: list[str] = field(default_factory=list)
    seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """One JSON line per clip."""
        aside = path.with_suffix(".partial")
        with aside.open("w", encoding="utf-8") as file:
            for name, seconds in zip(self.paths, self.seconds.tolist(), strict=True):
                file.write(json.dumps({"path": name, "seconds": seconds}) + "\n")
        os.replace(aside, path)

    @classmethod
    def load(cls, path: Path) -> "Clips":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return cls([row["path"] for row in rows], np.array([row["seconds"] for row in rows]))


def scan_folders(folders: list[str], min_seconds: float, segments: list[str] | None = None) -> Clips:
    """Find the audio files under `folders` (their sub-folders too) and read their headers.

    Clips shorter than `min_seconds` and files that are no audio are skipped with their reason; with `segments` (AudioSet's csv lists) only
    the clips that these name are taken.

    Raises:
        UserError: if a folder or list is missing, no audio file is found, or none of them is usable.
    """
    files = sorted(itertools.chain.from_iterable(_audio_files(Path(folder)) for folder in folders))
    if not files:
        raise UserError(f"--audio {' '.join(folders)}: no audio file found; looked for {', '.join(sorted(EXTENSIONS))}")
    skipped = []
    if segments:
        wanted = set(itertools.chain.from_iterable(read_segments(Path(path)) for path in segments))
        files = [path for path in files if youtube_id(Path(path).stem, wanted)]
        missing = wanted - {youtube_id(Path(path).stem, wanted) for path in files}
        skipped += [(name, "in the segment list, not in the folder") for name in sorted(missing)]
        if not files:
            raise UserError(
                f"none of the {len(wanted)} clips of --segments is in {' '.join(folders)}: files are found by their YouTube id"
            )

    def measure(path: str) -> float | str:
        try:
            seconds = audio_info(path).seconds
        except AudioError as error:
            return str(error)
        return (
            seconds if seconds >= min_seconds else f"too short: {seconds:.2f} s, at least {min_seconds:g} s are needed"
        )

    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        measured = list(
            tqdm(pool.map(measure, files), total=len(files), desc="reading headers", unit="clip", leave=False)
        )
    pairs = list(zip(files, measured, strict=True))
    skipped += [(path, seconds) for path, seconds in pairs if isinstance(seconds, str)]
    usable = [(path, seconds) for path, seconds in pairs if not isinstance(seconds, str)]
    if not usable:
        reasons = [reason for _, reason in skipped]
        short = sum(reason.startswith("too short") for reason in reasons)
        raise UserError(
            f"--audio {' '.join(folders)}: none of {len(files)} clips can be used: {short} too short (below {min_seconds:g} s), "
            f"{len(files) - short} unreadable, the first because: {skipped[-1][1]}"
        )
    return Clips([path for path, _ in usable], np.array([seconds for _, seconds in usable]), skipped)


def _audio_files(folder: Path) -> Iterator[str]:
    if not folder.is_dir():
        raise UserError(f"--audio {folder}: no such folder")
    for root, _, names in os.walk(folder, followlinks=True):
        for name in names:
            if Path(name).suffix.lower() in EXTENSIONS and not name.startswith("."):
                yield os.path.join(root, name)


def read_segments(path: Path) -> list[str]:
    """The YouTube ids of one of AudioSet's csv lists: lines of `YTID, start_seconds, end_seconds, positive_labels`, `#` comments."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"--segments {path}: {error.strerror}") from None
    rows = list(csv.reader((line for line in lines if line and not line.startswith("#")), skipinitialspace=True))
    if not rows or any(len(row) < 4 for row in rows):
        raise UserError(
            f"--segments {path}: expected AudioSet's lines: YTID, start_seconds, end_seconds, positive_labels"
        )
    return [row[0] for row in rows if row[0] != "YTID"]


def youtube_id(stem: str, wanted: set[str]) -> str | None:
    """The YouTube id in a file's name, if it is wanted: `ID`, `YID` (PANNs), and either followed by its seconds or milliseconds.

    Example:
        >>> wanted = {"--4gqARaEJE", "Yabcdefghi0"}
        >>> [youtube_id(stem, wanted) for stem in ("--4gqARaEJE", "Y--4gqARaEJE", "--4gqARaEJE_0.000_10.000", "Yabcdefghi0", "other")]
        ['--4gqARaEJE', '--4gqARaEJE', '--4gqARaEJE', 'Yabcdefghi0', None]
    """
    for start in (0, 1):
        name, rest = stem[start : start + 11], stem[start + 11 :]
        if name in wanted and (start == 0 or stem[0] == "Y") and re.fullmatch(r"([_-]\d+(\.\d+)?){0,2}", rest):
            return name
    return None


def is_dataset(audio: list[str]) -> bool:
    """Whether `--audio` names a `datasets` dataset (a Hub id, or a folder of Parquet or Arrow) rather than folders of audio files."""
    if len(audio) > 1:
        return False
    folder = Path(audio[0])
    if not folder.exists():
        return re.fullmatch(r"[\w.-]+/[\w.-]+", audio[0]) is not None
    return any(folder.rglob("*.parquet")) or (folder / "state.json").exists() or (folder / "dataset_dict.json").exists()


class AudioStream:
    """A `datasets` dataset read from front to back, its audio still encoded."""

    def __init__(self, dataset: IterableDataset, column: str, name: str):
        self.dataset, self.column, self.name = dataset, column, name

    @property
    def shards(self) -> int:
        return self.dataset.num_shards

    def share(self, rank: int, world: int) -> "AudioStream":
        """One process's part: its own shards where they divide evenly, else every `world`-th clip."""
        return AudioStream(split_dataset_by_node(self.dataset, rank, world), self.column, self.name)

    def read(self, epoch: int, state: dict | None) -> "StreamReader":
        return StreamReader(self, epoch, state)


class StreamReader:
    """One pass, from `state` on: (name, bytes, seconds, problem) per clip; `problem` says why a clip has no seconds."""

    def __init__(self, stream: AudioStream, epoch: int, state: dict | None):
        self.dataset = copy.deepcopy(stream.dataset)
        self.dataset.set_epoch(epoch)
        if state is not None:
            self.dataset.load_state_dict(state)
        self.column = stream.column
        self.examples = enumerate(self.dataset)
        self.started_at = state

    def state(self) -> dict | None:
        return self.dataset.state_dict() if self.started else self.started_at

    started = False

    def __iter__(self) -> Iterator[tuple[str, bytes, float, str | None]]:
        for number, example in self.examples:
            self.started = True
            audio = example[self.column] or {}
            name = audio.get("path") or f"clip {number}"
            try:
                source = audio.get("bytes") or Path(audio["path"]).read_bytes()
                yield name, source, audio_info(source).seconds, None
            except (AudioError, OSError, KeyError, TypeError) as error:
                yield name, b"", 0.0, str(error) or "no audio"


def _load(name: str, config: str | None, split: str) -> IterableDataset:
    try:
        return load_dataset(name, config, split=split, streaming=True)
    except RuntimeError as error:
        if "script" not in str(error):
            raise
        # Its main branch still holds a loading script, which datasets refuses; the Hub keeps the same rows as Parquet.
        return load_dataset(name, config, split=split, streaming=True, revision="refs/convert/parquet")


def open_stream(name: str, config: str | None = None, split: str | None = None) -> AudioStream:
    """Open a dataset by Hub id or folder, streamed.

    Raises:
        UserError: if it cannot be opened, the split does not exist, or it has no audio column.
    """
    split = split or "train"
    try:
        folder = Path(name)
        if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
            dataset = load_from_disk(name)
            dataset = dataset[split] if isinstance(dataset, DatasetDict) else dataset
            dataset = dataset.to_iterable_dataset(num_shards=min(64, max(1, len(dataset))))
        else:
            dataset = _load(name, config, split)
    except (
        Exception
    ) as error:  # whatever the Hub, the network or a loader raises: the user named a dataset that does not open
        raise UserError(
            f"--audio {name}: the dataset's split {split!r} cannot be opened ({str(error).splitlines()[0]})"
        ) from None
    columns = [column for column, feature in (dataset.features or {}).items() if isinstance(feature, Audio)]
    if not columns:
        raise UserError(f"--audio {name}: no audio column among {', '.join(dataset.column_names or ['none'])}")
    column = "audio" if "audio" in columns else columns[0]
    dataset = dataset.select_columns([column]).cast_column(column, Audio(decode=False))
    return AudioStream(dataset, column, name)
