"""Prepared audio: tar files of 16 kHz mono FLAC, with an index that says where in them each clip lies.

A folder of prepared audio holds

    shard-00000.tar   clips, `KEY.flac` each followed by `KEY.json` with its name: the form of webdataset
    shard-00000.json  the shard's checksum, the places of its clips, and what was skipped on the way; written last
    clips.arrow       all clips: shard, offset, bytes, length (see `clips`)
    skipped.jsonl     all clips that could not be used, each with its reason
    manifest.json     totals, the source, how it was cut; written when all is there

Samples are those of `load_audio` at 16 kHz, rounded to 16 bits: `round(32768 x)`. Audio that is 16 kHz, mono and of 16 bits comes out as
it went in.
"""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import soundfile

try:
    import miniaudio
except ImportError:  # of the extra "pretraining": the same samples, twice as fast
    miniaudio = None

from arch_hf.errors import AudioError, UserError
from arch_hf.files import write_atomically
from arch_hf.pretraining.clips import Clip
from arch_hf.pretraining.recipes import SAMPLING_RATE

PLAN, MANIFEST, SKIPPED = "plan.json", "manifest.json", "skipped.jsonl"
FORMAT = "arch-hf audio 1"
_HEADER = 512  # bytes before a member's data in a tar file, as long as its name is short


def encode(samples: np.ndarray) -> bytes:
    """Samples in [-1, 1] at 16 kHz as 16-bit FLAC. What is beyond is clipped.

    At FLAC's least compression, which is decoded fastest, in every epoch, and makes shards a tenth larger.

    Examples:
        >>> sound = np.array([0, 0.5, -1, 1.5], dtype=np.float32)
        >>> soundfile.read(io.BytesIO(encode(sound)))[0].tolist()
        [0.0, 0.5, -1.0, 0.999969482421875]
    """
    whole = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    out = io.BytesIO()
    soundfile.write(out, whole, SAMPLING_RATE, format="FLAC", subtype="PCM_16", compression_level=0)
    return out.getvalue()


def decode(data: bytes, clip: Clip) -> np.ndarray:
    """A clip of a shard: float32 [samples] at 16 kHz. What we wrote ourselves needs fewer checks than what was found (`load_audio`).

    Raises:
        AudioError: if it is damaged.
    """
    try:
        if miniaudio is None:
            samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        else:
            samples = np.frombuffer(miniaudio.flac_read_f32(data).samples, dtype=np.float32)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"damaged in its shard ({error.error_string.rstrip('.')})") from None
    except getattr(miniaudio, "MiniaudioError", ()) as error:
        raise AudioError(f"damaged in its shard ({error})") from None
    if samples.shape != (clip.samples,):
        raise AudioError(f"damaged in its shard: {len(samples)} of {clip.samples} samples")
    return samples


class ShardWriter:
    """Writes shard `number` in `folder`: its tar under a temporary name until `close`, which writes its record last.

    The same clips give the same bytes, whenever they are written.
    """

    def __init__(self, folder: Path, number: int):
        self.tar_path, self.record_path = shard_paths(folder, number)
        self.number = number
        self.places: list[list] = []
        self.skipped: list[list[str]] = []
        self._aside = self.tar_path.with_name(f".{self.tar_path.name}.partial")
        self._file = self._aside.open("wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, name: str, samples: np.ndarray) -> None:
        data, key = encode(samples), f"{self.number:05d}-{len(self.places):06d}"
        self.places.append([name, self._tar.offset + _HEADER, len(data), len(samples)])
        self._member(f"{key}.flac", data)
        self._member(f"{key}.json", json.dumps({"name": name}).encode())

    def skip(self, name: str, reason: str) -> None:
        self.skipped.append([name, reason])

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def close(self) -> dict:
        """Finish the shard → its record."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        record = {"sha256": sha256(self._aside), "bytes": self._aside.stat().st_size}
        record |= {"clips": self.places, "skipped": self.skipped}
        os.replace(self._aside, self.tar_path)
        write_atomically(self.record_path, json.dumps(record).encode())
        return record

    def abandon(self) -> None:
        self._file.close()
        self._aside.unlink(missing_ok=True)


def shard_paths(folder: Path, number: int) -> tuple[Path, Path]:
    """A shard's tar and its record."""
    return folder / f"shard-{number:05d}.tar", folder / f"shard-{number:05d}.json"


def read_record(folder: Path, number: int) -> dict | None:
    """The record of a shard that was finished, or None."""
    tar, record = shard_paths(folder, number)
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        return found if tar.stat().st_size == found["bytes"] else None
    except (OSError, ValueError, KeyError):
        return None


def is_whole(folder: Path, number: int) -> bool:
    """Whether a shard's bytes are those that were written."""
    record = read_record(folder, number)
    return record is not None and sha256(shard_paths(folder, number)[0]) == record["sha256"]


def clips_of(number: int, record: dict) -> list[Clip]:
    """A shard's rows of the index."""
    file = shard_paths(Path(), number)[0].name
    return [Clip(name, file, offset, size, samples) for name, offset, size, samples in record["clips"]]


def read_manifest(folder: Path) -> dict | None:
    """The manifest of a folder of prepared audio; None for any other folder.

    Raises:
        UserError: if the preparation was not finished.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / PLAN).is_file():
            raise UserError(f"{folder}: preparing this audio was not finished; run arch-hf prepare-audio again")
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("format") == FORMAT else None


def sha256(path: Path) -> str:
    """Of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
