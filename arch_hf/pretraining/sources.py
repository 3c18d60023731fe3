"""Where audio comes from: folders of files, a csv of segments, AudioSet's lists for a local copy, or a `datasets` dataset."""

import csv
import itertools
import math
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from arch_hf.audio import audio_info, load_audio
from arch_hf.data.custom.passed_over import loose_line, may_hold_audio
from arch_hf.data.tree import walk
from arch_hf.errors import AudioError, UserError
from arch_hf.pretraining.recipes import SAMPLING_RATE
from arch_hf.progress import progress_bar
from arch_hf.terminal import say

# What libsndfile reads, under the names that files go by.
EXTENSIONS = {f".{name.lower()}" for name in soundfile.available_formats()} | {".aif", ".oga", ".opus", ".m4a", ".webm"}
EXTENSIONS -= {".raw", ".mat4", ".mat5", ".txt"}


class Segment(NamedTuple):
    """A stretch of a file: seconds from its beginning, or all of it. `name` tells it from others, wherever the folder lies."""

    path: str
    name: str
    start: float = 0.0
    end: float | None = None

    @property
    def is_whole(self) -> bool:
        return self.start == 0 and self.end is None

    def load(self) -> np.ndarray:
        """Its samples at 16 kHz: the recording is resampled as a whole and cut afterwards, so that pieces fit together.

        Raises:
            AudioError: if the recording cannot be read or ends before the segment begins.
        """
        samples = load_audio(self.path, SAMPLING_RATE)
        end = None if self.end is None else round(self.end * SAMPLING_RATE)
        piece = samples[round(self.start * SAMPLING_RATE) : end]
        if len(piece) == 0:
            raise AudioError(f"the recording of {len(samples) / SAMPLING_RATE:.2f} s ends before the segment begins")
        return piece


def find_files(
    folders: list[str], segments: list[str] | None = None, flag: str = "--audio"
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The audio files under `folders`, sub-folders too, in the order of their paths; with `segments` (AudioSet's lists) those that these name.

    Returns:
        (path, name) of each, the name being its place in its folder; and (id, reason) of what the lists name and the folders do not have.

    Raises:
        UserError: if a folder or list is missing, or no audio file is found.
    """
    loose: list[str] = []
    files = sorted(
        itertools.chain.from_iterable(_audio_files(folder, flag, len(folders) > 1, loose) for folder in folders)
    )
    for line in loose_line(loose):
        say(f"note: {line}", sys.stderr)
    if twice := next((path for (path, _), (other, _) in itertools.pairwise(files) if path == other), None):
        raise UserError(f"{flag} {' '.join(folders)}: {twice} is in two of them")
    if not files:
        raise UserError(f"{flag} {' '.join(folders)}: no audio file found; looked for {', '.join(sorted(EXTENSIONS))}")
    if not segments:
        return files, []
    wanted = set(itertools.chain.from_iterable(read_segments(Path(path)) for path in segments))
    ids = [youtube_id(Path(path).stem, wanted) for path, _ in files]
    missing = sorted(wanted.difference(ids))
    files = [file for file, found in zip(files, ids, strict=True) if found]
    if not files:
        raise UserError(
            f"none of the {len(wanted)} clips of --segments is in {' '.join(folders)}: files are found by their YouTube id"
        )
    return files, [(name, "in the segment list, not in the folder") for name in missing]


def _audio_files(folder: str, flag: str, several: bool, loose: list[str]) -> Iterator[tuple[str, str]]:
    """(path, name) of each; `loose` gets what is not called like audio, and may be some."""
    if not Path(folder).is_dir():
        raise UserError(f"{flag} {folder}: no such folder")
    whole = os.path.abspath(folder)
    before = f"{os.path.basename(whole)}/" if several else ""
    for name, entry in walk(Path(whole)):
        if os.path.splitext(name)[1].lower() in EXTENSIONS:
            yield entry.path, before + name
        elif may_hold_audio(Path(entry.path)):
            loose.append(before + name)


def measure(files: list[str], min_seconds: float) -> list[float | str]:
    """The seconds of each file by its header, or why it cannot be used."""

    def look(path: str) -> float | str:
        try:
            seconds = audio_info(path).seconds
        except AudioError as error:
            return str(error)
        return seconds if seconds >= min_seconds else too_short(seconds, min_seconds)

    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        return list(progress_bar("reading headers", len(files), True, pool.map(look, files)))


def too_short(seconds: float, least: float) -> str:
    return f"too short: {seconds:.2f} s, at least {least:g} s are needed"


def nothing_usable(clips: int, reasons: list[str], min_seconds: float) -> str:
    """Why there is nothing to train on."""
    short = sum(reason.startswith("too short") for reason in reasons)
    other = next((f", the first because: {reason}" for reason in reasons if not reason.startswith("too short")), "")
    return (
        f"--audio: none of {clips} clips can be used: {short} too short (below {min_seconds:g} s), "
        f"{clips - short} unreadable{other}"
    )


def read_table(path: Path) -> list[Segment]:
    """The rows of a csv with the columns `path`, `start`, `end` (seconds; empty: from the beginning, to the end), paths relative to the csv.

    Raises:
        UserError: if it cannot be read as that.
    """
    segments = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            if missing := [name for name in ("path", "start", "end") if name not in columns]:
                raise ValueError(f"no column {missing[0]!r}")
            for number, row in enumerate(reader, start=2):
                start, end = float(row.get("start") or 0), float(row["end"]) if row.get("end") else None
                known = math.isfinite(start) and (end is None or math.isfinite(end)) and "\0" not in (row["path"] or "")
                if not known or not row["path"] or start < 0 or (end is not None and end <= start):
                    raise ValueError(f"line {number}: expected a path, and start before end")
                name = (
                    f"{row['path']}#{start:.3f}-{'' if end is None else f'{end:.3f}'}" if start or end else row["path"]
                )
                segments.append(Segment(os.path.join(os.path.abspath(path.parent), row["path"]), name, start, end))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise UserError(
            f"{path}: {error}; a csv of segments has the columns path,start,end (for AudioSet's own lists: FOLDER --segments {path.name})"
        ) from None
    if not segments:
        raise UserError(f"{path}: no segment in it")
    return segments


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

    Examples:
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


FINER_BELOW = 64  # a dataset of fewer shards is taken apart by its Parquet row groups


@lru_cache(maxsize=2)
def open_dataset(name: str, config: str | None = None, split: str | None = None):
    """Open a dataset by Hub id or folder, streamed, its audio still encoded: (IterableDataset, the audio column's name).

    Raises:
        UserError: if it cannot be opened, the split does not exist, or it has no audio column.
    """
    from datasets import Audio, DatasetDict, load_from_disk

    named, split = split, split or "train"
    try:
        folder = Path(name)
        if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
            dataset = load_from_disk(name)
            if config is not None or (named and not isinstance(dataset, DatasetDict)):
                raise ValueError(f"a saved dataset has no {'configurations' if config else 'splits'} to be named")
            dataset = dataset[split] if isinstance(dataset, DatasetDict) else dataset
            dataset = dataset.to_iterable_dataset(num_shards=min(FINER_BELOW, max(1, len(dataset))))
        else:
            dataset = _load(name, config, split)
    except (
        Exception
    ) as error:  # whatever the Hub, the network or a loader raises: the user named a dataset that does not open
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name}: the dataset's split {split!r} cannot be opened ({reason})") from None
    columns = [column for column, feature in (dataset.features or {}).items() if isinstance(feature, Audio)]
    if not columns:
        raise UserError(f"{name}: no audio column among {', '.join(dataset.column_names or ['none'])}")
    column = "audio" if "audio" in columns else columns[0]
    dataset = dataset.select_columns([column]).cast_column(column, Audio(decode=False))
    return (dataset.reshard() if dataset.num_shards < FINER_BELOW else dataset), column


def _load(name: str, config: str | None, split: str):
    from datasets import load_dataset

    try:
        return load_dataset(name, config, split=split, streaming=True)
    except RuntimeError as error:
        if "script" not in str(error):
            raise
        # Its main branch still holds a loading script, which datasets refuses; the Hub keeps the same rows as Parquet.
        return load_dataset(name, config, split=split, streaming=True, revision="refs/convert/parquet")
