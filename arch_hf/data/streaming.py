"""A dataset that is read where it lies, without a copy on disk: what is known of its clips at once, their audio in passing.

A stream goes forward only. So whoever wants many clips asks for them in the order in which the stream gives them
(`CorpusData.order`); to go back is to read the split from its start again. A process that was forked opens a stream of its own.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Audio, Dataset, DatasetBuilder, DatasetInfo, Features, IterableDataset, load_dataset_builder
from datasets.fingerprint import Hasher

from arch_hf.compat.datasets_library import audio_as_it_is, features_of
from arch_hf.data.audio_cell import KINDS, encoded_audio, kind_of
from arch_hf.data.tree import state_of_file, walk
from arch_hf.errors import UserError

# How much is read ahead of a Parquet file's small columns: by default 5 MB, which are the next clips' audio.
LIGHT_BLOCK = 1 << 17


class ClipStream:
    """The audio of a dataset in streaming mode.

    A clip is asked for by its place, "SPLIT/INDEX/COLUMN", which `open_stream` puts where the audio would be.
    """

    def __init__(self, splits: dict[str, IterableDataset], n_clips: dict[str, int], name: str, base: str | None = None):
        self._splits, self._n_clips, self._name, self._base = splits, n_clips, name, base
        self._opened: tuple | None = None
        self._rows: Iterator[dict] = iter(())
        self._next = 0

    def __getstate__(self) -> dict:  # a process that was spawned opens its own, as one that was forked
        return self.__dict__ | {"_opened": None, "_rows": iter(())}

    def audio(self, place: str) -> bytes:
        """The encoded bytes of one clip.

        Raises:
            AudioError: if the dataset holds no audio for this clip.
            UserError: if the stream breaks, or does not hold as many clips as it did when its columns were read.
        """
        split, index, column = _parse(place)
        try:
            with audio_as_it_is():
                cell = self._row(split, index, column)[column]
                if index == self._n_clips[split] - 1 and next(self._rows, None) is not None:
                    raise UserError(self._message(split, "holds more clips than when its columns were read"))
                return encoded_audio(cell, self._base)
        except UserError:
            raise
        except StopIteration:
            self._opened = None
            ended = f"ended after {self._next} of {self._n_clips[split]} clips"
            raise UserError(self._message(split, ended)) from None
        except Exception as error:  # whatever `datasets`, the Hub's client or a file format has for it
            self._opened = None
            where = f"broke at clip {index + 1} of {self._n_clips[split]} ({first_line(error)})"
            raise UserError(self._message(split, where)) from None

    def _row(self, split: str, index: int, column: str) -> dict:
        wanted = os.getpid(), split, column
        if self._opened != wanted or index < self._next:
            stream = self._splits[split].select_columns([column])
            if isinstance((stream.features or {}).get(column), Audio):
                stream = stream.cast_column(column, Audio(decode=False))
            self._opened, self._rows, self._next = wanted, iter(stream), 0
        for _ in range(self._next, index):
            next(self._rows)
            self._next += 1
        row = next(self._rows)
        self._next += 1
        return row

    def _message(self, split: str, what: str) -> str:
        advice = "start again to go on: embeddings stored so far are kept"
        return f"the stream of {self._name}, split {split}, {what}; {advice}"


def _parse(place: str) -> tuple[str, int, str]:
    split, index, column = place.split("/", 2)
    return split, int(index), column


def reading_order(places: list[str]) -> list[int]:
    """Positions of these clips in the order in which a stream passes them.

    Examples:
        >>> reading_order(["b/0/audio", "a/10/audio", "a/9/audio"])
        [2, 1, 0]
    """
    return sorted(range(len(places)), key=lambda i: _parse(places[i]))


def open_stream(
    path: str, config: str | None, revision: str | None, audio_column: str | None = None, base: str | None = None
) -> tuple[dict[str, Dataset], ClipStream]:
    """A dataset's columns without the audio, in memory, and the stream of its audio.

    In place of each clip's audio stands its place in the stream. `audio_column` names an audio column that does not look like one; relative
    paths in it start from `base`. Of Parquet files only the other columns are read; other formats are read whole for them.

    Raises:
        Exception: what `datasets` raises where it cannot load.
    """
    builder = load_dataset_builder(path, config, revision=revision)
    if hasattr(builder.config, "decode_num_threads"):
        builder.config.decode_num_threads = 0  # it would decode at once, with torchcodec
    streams = builder.as_streaming_dataset()
    features = features_of(next(iter(streams.values())))
    heavy, streamed = _heavy_columns(features, audio_column)
    light_columns = [name for name in features if name not in heavy]
    if light_columns and hasattr(builder.config, "columns"):
        light = load_dataset_builder(
            path, config, revision=revision, columns=light_columns, storage_options={"hf": {"block_size": LIGHT_BLOCK}}
        ).as_streaming_dataset()
    else:
        light = streams
    # `datasets` names the folder of its own copy by the commit, if there is one
    identity = str(builder.cache_dir), str(identity_of_files(path, builder))
    splits = {}
    for split, stream in light.items():
        columns = _light_columns(stream, light_columns)
        n_clips = columns.num_rows
        for name in heavy:
            columns = columns.append_column(name, _places(features, name, split, n_clips, name in streamed))
        known = Features({name: Audio(decode=False) if name in streamed else f for name, f in features.items()})
        table = columns.select(list(features)).cast(known.arrow_schema)
        fingerprint = Hasher.hash([*identity, split, n_clips])
        splits[split] = Dataset(table, info=DatasetInfo(features=known), fingerprint=fingerprint)
    n_clips_of = {split: len(part) for split, part in splits.items()}
    return splits, ClipStream(dict(streams), n_clips_of, path, base)


def _heavy_columns(features: Features, audio_column: str | None) -> tuple[list[str], list[str]]:
    """The columns that hold audio, and those of them that may be asked for: of the form that is preferred, or the one that is named."""
    kinds = {name: kind_of(name, feature) for name, feature in features.items()}
    heavy = [name for name, kind in kinds.items() if kind not in (None, "path")]
    if audio_column is not None and audio_column in heavy:
        return heavy, [audio_column] if kinds[audio_column] != "list" else []
    best = next((kind for kind in KINDS if kind in kinds.values()), None)
    return heavy, [name for name in heavy if kinds[name] == best]


def _light_columns(stream: IterableDataset, names: list[str]) -> pa.Table:
    stream = stream.select_columns(names).with_format("arrow")
    with audio_as_it_is():
        tables = list(stream.iter(batch_size=1000))
    if not tables:
        return pa.table({name: pa.array([]) for name in names} or {"": pa.array([])})
    n_clips = sum(map(len, tables))
    columns = {name: pa.chunked_array([chunk for t in tables for chunk in t[name].chunks]) for name in names}
    return pa.table(columns or {"": pa.nulls(n_clips)})


def _places(features: Features, name: str, split: str, n_clips: int, streamed: bool) -> pa.Array:
    if not streamed:
        return pa.nulls(n_clips, features.arrow_schema.field(name).type)
    places = [f"{split}/{i}/{name}" for i in range(n_clips)]
    return pa.StructArray.from_arrays(
        [pa.nulls(n_clips, pa.binary()), pa.array(places, pa.string())], ["bytes", "path"]
    )


def identity_of_files(path: str, builder: DatasetBuilder | None = None) -> str | None:
    """What changes when a file in a folder does, or one elsewhere that its Parquet files or its card (`builder`) name by path: by the names, sizes
    and dates of all of them. None for a dataset of the Hub.

    `datasets` goes by README.md alone where that describes the dataset: it would read its copy of the files of before.

    Examples:
        >>> identity_of_files("nyu-mll/glue") is None
        True
    """
    folder = Path(path)
    if not folder.is_dir():
        return None
    files = [(name, entry.path) for name, entry in walk(folder, hidden=True) if os.path.isfile(entry.path)]
    dates = [(name, state_of_file(file)) for name, file in files]
    elsewhere = [name for _, file in files if file.endswith(".parquet") for name in files_named_in(Path(file))]
    inside = {os.path.abspath(file) for _, file in files}
    by_card = (getattr(builder.config, "data_files", None) or {}) if builder else {}
    elsewhere += sorted({str(file) for part in by_card.values() for file in part} - inside)
    named = [(name, state_of_file(name, str(folder))) for name in elsewhere]
    return Hasher.hash([folder.resolve().as_posix(), dates, *([named] if named else [])])


def files_named_in(parquet: Path) -> list[str]:
    """The audio files that a Parquet file names by path and does not hold."""
    try:
        with pq.ParquetFile(parquet) as file:
            schema, meta = file.schema, file.metadata
            paths = [schema.column(i).path for i in range(len(schema))]
            structs = [p.removesuffix(".bytes") for p in paths if p.endswith(".bytes") and p[:-5] + "path" in paths]
            names: list[str] = []
            for struct in structs:
                place = paths.index(f"{struct}.bytes")
                stats = [meta.row_group(g).column(place).statistics for g in range(meta.num_row_groups)]
                if all(s is not None and s.has_null_count and s.null_count == 0 for s in stats):
                    continue
                table = file.read([f"{struct}.path"])
                names += [name for cell in table.column(0).to_pylist() if (name := (cell or {}).get("path"))]
            return names
    except (OSError, pa.ArrowException, AttributeError):
        return []


def first_line(error: BaseException) -> str:
    """What was first wrong, in one line: `datasets` wraps it in errors that only say that there was one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().split("\n")[0] or type(error).__name__
