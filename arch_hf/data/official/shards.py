"""Parquet shards, written one row group at a time, with a checksum of each."""

import hashlib
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

ROW_GROUP_BYTES = 64 << 20
ROW_GROUP_CLIPS = 1000
SHARD_BYTES = 500 << 20


class _Hashed(io.FileIO):
    """A file that is written from front to back, and knows the SHA-256 of what was written."""

    def __init__(self, path: Path):
        super().__init__(path, "w")
        self.sha256 = hashlib.sha256()
        self.n_bytes = 0

    def write(self, data) -> int:
        view = memoryview(data)
        done = 0
        while done < len(view):
            done += super().write(view[done:])
        self.sha256.update(view)
        self.n_bytes += len(view)
        return len(view)


class SplitWriter:
    """Writes one split into Parquet shards of about half a gigabyte, in row groups that fit into memory."""

    def __init__(self, folder: Path, split: str, features: Features):
        self.folder, self.split, self.schema = folder, split, features.arrow_schema
        self.rows: list[dict] = []
        self.row_bytes = self.shard_bytes = 0
        self.clips = self.bytes = 0
        self.paths: list[Path] = []
        self.writer: pq.ParquetWriter | None = None
        self.sink: _Hashed | None = None
        self.sums: list[dict] = []
        self.shards: dict[str, dict] = {}  # name -> {"bytes", "sha256"}, when all is written

    def add(self, row: dict) -> None:
        size = len(row["audio"]["bytes"])
        self.rows.append(row)
        self.row_bytes += size
        self.clips += 1
        self.bytes += size
        if len(self.rows) >= ROW_GROUP_CLIPS or self.row_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self.rows:
            return
        if self.writer is None or self.shard_bytes >= SHARD_BYTES:
            self._close_shard()
            self.paths.append(self.folder / f"{self.split}-{len(self.paths):05d}.parquet")
            # Audio does not compress; dictionaries over it would only cost time and memory.
            self.sink = _Hashed(self.paths[-1])
            self.writer = pq.ParquetWriter(
                self.sink, self.schema, compression={"audio.bytes": "none"}, use_dictionary=["group"]
            )
        self.writer.write_table(pa.Table.from_pylist(self.rows, self.schema), row_group_size=len(self.rows))
        self.shard_bytes += self.row_bytes
        self.rows, self.row_bytes = [], 0

    def _close_shard(self) -> None:
        if self.writer is not None and self.sink is not None:
            self.writer.close()
            self.sink.close()
            self.sums.append({"bytes": self.sink.n_bytes, "sha256": self.sink.sha256.hexdigest()})
        self.writer, self.sink, self.shard_bytes = None, None, 0

    def close(self) -> dict:
        self._flush()
        self._close_shard()
        total = len(self.paths)
        for i, path in enumerate(self.paths):
            name = f"{self.split}-{i:05d}-of-{total:05d}.parquet"
            path.rename(self.folder / name)
            self.shards[name] = self.sums[i]
        return {"clips": self.clips, "bytes": self.bytes, "shards": total}
