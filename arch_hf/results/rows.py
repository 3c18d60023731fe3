"""Results as rows of a table, one each, for a dataset of results on the Hub.

The columns up to `created` are for whoever filters in a viewer or with SQL; `result` is the result file itself, byte for byte, with its checksum, and
it alone is read back. Rows of the same numbers have the same `key`, whenever and wherever they were computed.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from arch_hf.errors import UserError
from arch_hf.names import as_file_name
from arch_hf.results.result import Result, Timing

ROWS_VERSION = 1
_VERSION_KEY = b"arch_hf_rows"
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("model_id", pa.string()),
        ("model_revision", pa.string()),
        ("weights_sha256", pa.string()),
        ("dataset_id", pa.string()),
        ("dataset_config", pa.string()),
        ("dataset_revision", pa.string()),
        ("protocol", pa.string()),
        ("protocol_version", pa.string()),
        ("layer", pa.int32()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("ci95_low", pa.float64()),
        ("ci95_high", pa.float64()),
        ("n_clips", pa.int64()),
        ("caveat", pa.string()),
        ("created", pa.string()),
        ("file", pa.string()),
        ("result", pa.string()),
    ],
    metadata={_VERSION_KEY: str(ROWS_VERSION).encode()},
)


def key_of(result: Result) -> str:
    """SHA-256 over all that a result says but for when, where and how fast it was computed.

    Examples:
        >>> from arch_hf.results.result import DatasetFacts, ModelFacts
        >>> from arch_hf.probing.record import Score
        >>> facts = dict(complete=True, model=ModelFacts(id="m"), layer=-1, protocol={"name": "p", "version": "1"},
        ...     dataset=DatasetFacts(id="d", task="single_label", n_clips=9), metrics={"accuracy": Score(mean=0.5)})
        >>> key_of(Result(created="today", **facts)) == key_of(Result(created="tomorrow", **facts))
        True
    """
    said = msgspec.structs.replace(result, timing=Timing(), created=None, environment={})
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()


def row_of(result: Result, file_name: str) -> dict:
    """One result as a row; `file_name` is its name among the model's results, which says what was asked beyond the plain case."""
    low, high = result.headline.ci95 or (None, None)
    return {
        "key": key_of(result),
        "model_id": result.model.id,
        "model_revision": result.model.revision,
        "weights_sha256": result.model.weights_sha256,
        "dataset_id": result.dataset.id,
        "dataset_config": result.dataset.config,
        "dataset_revision": result.dataset.revision,
        "protocol": result.protocol["name"],
        "protocol_version": str(result.protocol["version"]),
        "layer": result.layer,
        "metric": result.metric,
        "value": result.headline.mean,
        "ci95_low": low,
        "ci95_high": high,
        "n_clips": result.dataset.n_clips,
        "caveat": result.caveat,
        "created": result.created,
        "file": f"{as_file_name(result.model.id)}/{file_name}",
        "result": result.to_json().decode(),
    }


def write_rows(rows: Iterable[dict]) -> bytes:
    """A Parquet file of rows, in the order of their keys: the same rows give the same bytes."""
    return _write(pa.Table.from_pylist(sorted(rows, key=lambda row: row["key"]), schema=SCHEMA))


def _write(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", row_group_size=256)
    return out.getvalue()


def merge_rows(paths: Iterable[Path]) -> tuple[list[str], bytes]:
    """The keys and the content of one file of all rows of several, each key once."""
    table = pa.concat_tables([_open(path).read() for path in paths])
    first: dict[str, int] = {}
    for number, key in enumerate(table.column("key").to_pylist()):
        first.setdefault(key, number)
    keys = sorted(first)
    return keys, _write(table.take([first[key] for key in keys]))


def is_rows(path: Path) -> bool:
    """Whether a Parquet file holds results."""
    try:
        return _VERSION_KEY in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def read_keys(path: Path) -> list[str]:
    """The keys of the rows in a file.

    Raises:
        UserError: it holds no results, or newer ones than this package knows.
    """
    return _open(path).read(columns=["key"]).column("key").to_pylist()


def read_rows(path: Path) -> Iterator[tuple[str, Path, Result | UserError]]:
    """The rows of a file: the key, the path that the result had, and the result, or why it is none.

    Raises:
        UserError: as `read_keys`.
    """
    for batch in _open(path).iter_batches(batch_size=256, columns=["key", "file", "result"]):
        for row in batch.to_pylist():
            try:
                result = Result.parse(row["result"].encode(), row["file"])
                if key_of(result) != row["key"]:
                    raise UserError(f"{row['file']} stands under the key of another result")
                yield row["key"], Path(row["file"]), result
            except UserError as error:
                yield row["key"], Path(row["file"]), error


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
        version = int((file.schema_arrow.metadata or {})[_VERSION_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        raise UserError(f"{path} holds no rows of results") from None
    if version > ROWS_VERSION:
        raise UserError(f"{path} has rows of version {version}, this arch-hf knows {ROWS_VERSION}: upgrade arch-hf")
    return file
