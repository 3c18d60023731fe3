"""The clips that a run trains on: where each one's bytes lie and how long it is, in an index on disk that is mapped, not loaded.

An index is one Arrow file. Every process and every decoding worker maps the same pages, so that 1.8 million clips cost each of
them next to nothing. A clip's bytes are a stretch of a shard (see `shards`), or a whole file.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from arch_hf.errors import AudioError, UserError
from arch_hf.pretraining.recipes import SAMPLING_RATE

INDEX = "clips.arrow"
_FIELDS = [
    ("name", pa.binary()),  # as the system writes names: not every one is UTF-8
    ("file", pa.dictionary(pa.int32(), pa.binary())),  # relative to the index's folder
    ("offset", pa.int64()),  # -1: the whole file
    ("size", pa.int64()),  # bytes
    ("samples", pa.int64()),  # at 16 kHz
]
_OPEN_FILES = 64


class Clip(NamedTuple):
    """A row of an index."""

    name: str
    file: str
    offset: int
    size: int
    samples: int


def write_index(path: Path, clips: Iterable[Clip], fingerprint: str) -> None:
    """Write an index, whole or not at all. The clips of one file must follow one another."""
    rows = [(os.fsencode(clip.name), os.fsencode(clip.file), *clip[2:]) for clip in clips]
    columns = [[row[i] for row in rows] for i in range(len(_FIELDS))]
    arrays = [pa.array(column, type=kind) for column, (_, kind) in zip(columns, _FIELDS, strict=True)]
    schema = pa.schema(_FIELDS, metadata={"fingerprint": fingerprint})
    aside = path.with_name(f".{path.name}.partial")
    with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    os.replace(aside, path)


def fingerprint_of(names_and_samples: Iterable[tuple[str, int]]) -> str:
    """What tells the same clips from others, wherever they lie.

    Examples:
        >>> fingerprint_of([("a.wav", 16000)])
        'cef041bf760a8471'
    """
    digest = hashlib.sha256()
    for name, samples in names_and_samples:
        digest.update(f"{name}\0{samples}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


class Clips:
    """The clips of one or more indices, by number.

    Args:
        indices: paths of index files, or of the folders that hold them.

    Attributes:
        samples: int64 [clips], their lengths at 16 kHz.
        blocks: int64 [blocks + 1]: block b is the clips `blocks[b]` to `blocks[b + 1]`, which lie in one shard; a file is a block of its own.
        fingerprint: tells the same clips from others.
    """

    def __init__(self, indices: list[Path]):
        self.indices = [path / INDEX if path.is_dir() else path for path in map(Path, indices)]
        tables = [_map(path) for path in self.indices]
        self._tables = tables
        self._starts = np.cumsum([0, *(len(table) for table in tables)])
        lengths = [_numbers(table["samples"]) for table in tables]
        self.samples = lengths[0] if len(lengths) == 1 else np.concatenate(lengths)
        blocks = []
        for table, start in zip(tables, self._starts, strict=False):
            file = _numbers(table["file"].chunk(0).indices) if len(table) else np.zeros(0, np.int32)
            blocks.append(start + np.flatnonzero(np.diff(file, prepend=-1)))
        self.blocks = np.append(np.concatenate(blocks), self._starts[-1])
        marks = [(table.schema.metadata or {}).get(b"fingerprint", b"").decode() for table in tables]
        self.fingerprint = marks[0] if len(marks) == 1 else fingerprint_of((mark, 0) for mark in marks)
        self._open: OrderedDict[str, int] = OrderedDict()

    def __reduce__(self):
        return Clips, (self.indices,)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def hours(self) -> float:
        return float(self.samples.sum()) / SAMPLING_RATE / 3600

    def __getitem__(self, number: int) -> Clip:
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        row = int(number - self._starts[part])
        table = self._tables[part]
        name, file = (os.fsdecode(table[column][row].as_py()) for column in ("name", "file"))
        file = os.path.join(self.indices[part].parent, file)
        return Clip(name, file, *(table[name][row].as_py() for name in ("offset", "size", "samples")))

    def read(self, clip: Clip) -> bytes | str:
        """A clip's encoded audio, or the path of its file: what `load_audio` takes.

        Raises:
            AudioError: if its shard cannot be read, or is shorter than the index says.
        """
        if clip.offset < 0:
            return clip.file
        try:
            data = os.pread(self._descriptor(clip.file), clip.size, clip.offset)
        except OSError as error:
            raise AudioError(f"{clip.file}: {error.strerror}") from None
        if len(data) < clip.size:
            raise AudioError(f"{clip.file} ends before this clip does")
        return data

    def _descriptor(self, file: str) -> int:
        if file in self._open:
            self._open.move_to_end(file)
            return self._open[file]
        if len(self._open) == _OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        self._open[file] = os.open(file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        return self._open[file]

    def __del__(self):
        for descriptor in getattr(self, "_open", {}).values():
            os.close(descriptor)


def _map(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid):
        raise UserError(
            f"{path} is missing or damaged; where it is prepared audio, arch-hf prepare-audio makes it anew"
        ) from None


def _numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column as it lies in the mapped file."""
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    return column.to_numpy(zero_copy_only=True)
