"""What is known of each clip before it is decoded, read once and remembered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from arch_hf.audio import audio_info
from arch_hf.errors import AudioError
from arch_hf.files import audio_digest, checksum, write_atomically
from arch_hf.progress import progress_bar


@dataclass
class ClipIndex:
    """What is known of each clip before it is decoded: `digests`, `seconds` (0 where unreadable), `failures` (position -> reason)."""

    digests: list[bytes]
    seconds: np.ndarray
    failures: dict[int, str] = field(default_factory=dict)


def read_clip_index(data, cache_dir: Path, progress: bool = False, order: Sequence[int] | None = None) -> ClipIndex:
    """Read every clip's bytes once: its digest, and its duration from the header. Remembered under the dataset's own
    fingerprint, which changes with the files it was loaded from.

    Args:
        data: a `CorpusData`.
        cache_dir: the cache folder.
        progress: whether to show a progress bar.
        order: positions of all clips in the order of reading, for a corpus that is streamed.
    """
    path = Path(cache_dir) / "clip_index" / f"{data.clips._fingerprint}.safetensors"
    if path.is_file() and (known := _load_known(path)):
        return known
    n_clips = len(data.table)
    index = ClipIndex([b""] * n_clips, np.zeros(n_clips))
    for i in progress_bar("read", n_clips, progress, range(n_clips) if order is None else order):
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
    # A failure is looked at again, the file may have been mended; not in a stream, which has another fingerprint then.
    if not index.failures or order is not None:
        keys = np.frombuffer(b"".join(index.digests), np.uint8).reshape(n_clips, -1)
        metadata = {"failures": json.dumps(index.failures), "sha256": checksum(keys, index.seconds)}
        write_atomically(path, save({"digests": keys, "seconds": index.seconds}, metadata))
    return index


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
