"""Files of our own: written whole or not at all, and known by a digest of their bytes."""

import contextlib
import hashlib
import os
import uuid
from pathlib import Path

import numpy as np

from arch_hf.errors import UserError

DIGEST_BYTES = 16


def shipped(folder: str) -> Path:
    """A folder that comes with the package: `dataset_scripts` or `model_cards`. A wheel holds it inside, a checkout beside the package.

    Examples:
        >>> (shipped("dataset_scripts") / "esc50.py").is_file()
        True
    """
    package = Path(__file__).parent
    inside = package / folder
    return inside if inside.is_dir() else package.parent / folder


def default_cache_dir() -> Path:
    """`$ARCH_HF_CACHE`, else `arch_hf` beside the Hub's own cache (`$HF_HOME`, by default `~/.cache/huggingface`)."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("ARCH_HF_CACHE") or Path(home) / "arch_hf")


def audio_digest(audio: bytes) -> bytes:
    """16 bytes that identify a clip's encoded audio (BLAKE2b).

    Examples:
        >>> audio_digest(b"RIFF").hex()
        'f9d45a7be062711cbb5ca8c8e2699db2'
    """
    return hashlib.blake2b(audio, digest_size=DIGEST_BYTES).digest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` under a temporary name in the same folder, then rename: under its final name a file is whole or absent.

    Raises:
        UserError: if the folder cannot be written or the disk is full; no temporary file stays behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the folder may not be one, or be read-only
            temporary.unlink(missing_ok=True)
        advice = "make room or choose another folder; what was stored is kept"
        raise UserError(f"cannot write {path} ({error.strerror}): {advice}") from None


def checksum(*arrays: np.ndarray, text: str = "") -> str:
    """SHA-256 over arrays, their types and shapes, and a text beside them.

    Examples:
        >>> row, column = np.zeros((1, 2), np.float32), np.zeros((2, 1), np.float32)
        >>> checksum(row) == checksum(column), checksum(row) == checksum(row.astype(np.int32)), checksum(row, text="a") == checksum(row)
        (False, False, False)
    """
    sha = hashlib.sha256(text.encode())
    for array in arrays:
        sha.update(f"\n{array.dtype.str}{list(array.shape)}\n".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
