"""The audio of one clip, in the forms in which people's datasets hold it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Audio, LargeList, List, Value
from datasets.utils.file_utils import xopen

from arch_hf.audio import encode_samples
from arch_hf.errors import AudioError

# A column of texts is taken for paths where it is called so.
PATH_NAMES = (
    "audio",
    "path",
    "file",
    "file_name",
    "filename",
    "file_path",
    "filepath",
    "audio_path",
    "audio_file",
    "wav",
)
Kind = Literal["audio", "file", "samples", "bytes", "path", "list"]
KINDS: tuple[Kind, ...] = ("audio", "file", "samples", "bytes", "path")  # in this order of preference


def kind_of(name: str, feature: Any) -> Kind | None:
    """In which form a column holds audio; None if it holds none.

    "audio": the Audio type. "file": {bytes, path}. "samples": {array, sampling_rate}. "bytes": encoded bytes. "path": paths of files.
    "list": samples without their rate, which nobody can use.
    """
    if isinstance(feature, Audio):
        return "audio"
    if isinstance(feature, Mapping):
        fields = set(feature)
        return "file" if {"bytes", "path"} <= fields else "samples" if {"array", "sampling_rate"} <= fields else None
    if isinstance(feature, Value) and feature.dtype in ("binary", "large_binary"):
        return "bytes"
    if isinstance(feature, Value) and feature.dtype in ("string", "large_string"):
        return "path" if name.lower() in PATH_NAMES else None
    if isinstance(feature, (List, LargeList)) and str(getattr(feature.feature, "dtype", "")).startswith("float"):
        return "list" if name.lower() in PATH_NAMES else None
    return None


def encoded_audio(cell: Any, base: str | None = None) -> bytes:
    """The encoded bytes of one clip, from whatever the dataset holds for it. Relative paths start from `base`.

    Raises:
        AudioError: if it holds no audio, or the file that it names is not there.

    Examples:
        >>> encoded_audio({"bytes": b"RIFF", "path": None})
        b'RIFF'
    """
    if isinstance(cell, Mapping) and "array" in cell:
        return _from_samples(cell["array"], cell.get("sampling_rate"))
    path = cell.get("path") if isinstance(cell, Mapping) else cell if isinstance(cell, str) else None
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell if isinstance(cell, bytes) else None
    if content is not None:
        return content
    if not path:
        raise AudioError("no audio")
    return _from_file(path, base)


def _from_file(path: str, base: str | None) -> bytes:
    remote = "://" in path or (base is not None and "://" in base)
    if base is not None and "://" not in path and not Path(path).is_absolute():
        path = f"{base.rstrip('/')}/{path}"
    try:
        if not remote:
            return Path(path).read_bytes()
        with xopen(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise AudioError(f"no such file: {path}") from None
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({error.strerror or error})") from None


def _from_samples(array: Any, rate: Any) -> bytes:
    if array is None or rate is None:
        raise AudioError("no audio" if array is None else "samples without a sampling rate")
    try:
        samples, rate = np.asarray(array), float(rate)
        whole = samples.dtype.kind in "iu"
        samples = samples.astype(np.float32)
    except (TypeError, ValueError):
        raise AudioError("its samples, or their rate, are no numbers") from None
    if whole:  # of 16 bits, or of 24 or 32: the list does not say what the loudest would be
        raise AudioError("its samples are whole numbers: make them floats from -1 to 1 (of 16 bits: divide by 32768)")
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:  # channels first, as most libraries have it
        samples = samples.T
    if samples.ndim not in (1, 2) or not 0 < rate < 2**31 or rate != int(rate):
        raise AudioError(f"samples of shape {samples.shape} at {rate:g} Hz are no audio")
    return encode_samples(samples, int(rate))
