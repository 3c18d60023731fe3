"""What is known of each clip before it is decoded, read once and remembered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from datasets.fingerprint import Hasher
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from arch_hf.audio import audio_info
from arch_hf.errors import AudioError
from arch_hf.files import audio_digest, checksum, write_atomically
from arch_hf.progress import progress_bar

MAX_SECONDS = 30.0  # the clips of a dataset that is not built in are cut there, as in the strict protocol


@dataclass
class ClipIndex:
    """What is known of each clip before it is decoded: `digests`, `seconds` (0 where unreadable), `failures` (position -> reason)."""

    digests: list[bytes]
    seconds: np.ndarray
    failures: dict[int, str] = field(default_factory=dict)


class _Clips(Protocol):
    """What the index is read from: a `CorpusData`."""

    flaws: dict[int, str]

    @property
    def order(self) -> list[int] | None: ...
    def __len__(self) -> int: ...
    def audio(self, index: int) -> bytes: ...
    def audio_key(self) -> str | None: ...
    def check_source(self) -> None: ...


def read_clip_index(data: _Clips, cache_dir: Path, progress: bool = False) -> ClipIndex:
    """Read every clip's bytes once: its digest, and its duration by its container. Remembered under what decides over all of the audio:
    the dataset's files, and those that it names by path.

    A clip whose label cannot be used has that for its failure.

    Args:
        data: a `CorpusData`.
        cache_dir: the cache folder.
        progress: whether to show a progress bar.

    Raises:
        UserError: if the dataset's files are not what was prepared.
    """
    key, order = data.audio_key(), data.order
    path = None if key is None else Path(cache_dir) / "clip_index" / f"{key}.safetensors"
    index = _load_known(path) if path is not None and path.is_file() else None
    if index is None:
        data.check_source()
        index = _read(data, range(len(data)) if order is None else order, progress)
        # A failure is looked at again, the file may have been mended; not in a stream, which has another key then.
        if path is not None and (not index.failures or order is not None):
            _remember(index, path)
    index.failures = index.failures | data.flaws
    return index


def _read(data: _Clips, order: Sequence[int], progress: bool) -> ClipIndex:
    n_clips = len(data)
    index = ClipIndex([b""] * n_clips, np.zeros(n_clips))
    for i in progress_bar("read", n_clips, progress, order):
        try:
            audio = data.audio(i)
        except AudioError as error:
            index.digests[i] = audio_digest(f"missing {i}".encode())
            index.failures[i] = str(error)
            continue
        index.digests[i] = audio_digest(audio)
        try:
            index.seconds[i] = audio_info(audio).seconds
        except AudioError as error:
            index.failures[i] = str(error)
    return index


def _remember(index: ClipIndex, path: Path) -> None:
    keys = np.frombuffer(b"".join(index.digests), np.uint8).reshape(len(index.digests), -1)
    metadata = {"failures": json.dumps(index.failures), "sha256": checksum(keys, index.seconds)}
    write_atomically(path, save({"digests": keys, "seconds": index.seconds}, metadata))


def _load_known(path: Path) -> ClipIndex | None:
    """What was remembered, or None if that is damaged: the clips are read again."""
    try:
        with safe_open(path, framework="numpy") as file:
            keys, seconds, metadata = file.get_tensor("digests"), file.get_tensor("seconds"), file.metadata()
            if checksum(keys, seconds) != metadata["sha256"]:
                return None
            failures = json.loads(metadata["failures"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None
    return ClipIndex([key.tobytes() for key in keys], seconds, {int(i): reason for i, reason in failures.items()})


def index_key(fingerprint: str | None, files: Sequence[tuple]) -> str | None:
    """The name under which an index is remembered; None where the dataset has no fingerprint: it is not remembered then."""
    if fingerprint is None:
        return None
    return Hasher.hash([fingerprint, _FORMAT, list(files)])


_FORMAT = 2  # of how seconds are told: in 1, by the header alone


def padded_seconds(longest: float) -> float:
    """What arch-v1 pads every clip to: seconds of the longest, rounded up, at most MAX_SECONDS.

    Examples:
        >>> padded_seconds(4.2), padded_seconds(0.3), padded_seconds(600)
        (5.0, 1.0, 30.0)
    """
    return float(min(MAX_SECONDS, max(1, np.ceil(longest))))
