"""A dataset that is read where it lies, without a copy on disk: what is known of its clips at once, their audio in passing.

A stream goes forward only. So whoever wants many clips asks for them in the order in which the stream gives them
(`CorpusData.order`); to go back is to read the split from its start again. A process that was forked opens a stream of its own.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from datasets import Audio, Dataset, DatasetDict, DatasetInfo, Features, IterableDataset, load_dataset_builder
from datasets.fingerprint import Hasher
from datasets.utils.file_utils import xopen

from arch_hf.errors import AudioError, UserError

# How much is read ahead of a Parquet file's small columns: by default 5 MB, which are the next clips' audio.
LIGHT_BLOCK = 1 << 17


class ClipStream:
    """The audio of a dataset in streaming mode.

    A clip is asked for by its place, "SPLIT/INDEX/COLUMN", which `open_stream` puts where the audio would be.
    """

    def __init__(self, splits: dict[str, IterableDataset], n_clips: dict[str, int], shown: str):
        self._splits, self._n_clips, self._shown = splits, n_clips, shown
        self._opened, self._rows, self._next = None, None, 0

    def __getstate__(self) -> dict:  # a process that was spawned opens its own, as one that was forked
        return self.__dict__ | {"_opened": None, "_rows": None}

    def audio(self, place: str) -> bytes:
        """The encoded bytes of one clip.

        Raises:
            AudioError: if the dataset holds no audio for this clip.
            UserError: if the stream breaks, or does not hold as many clips as it did when its columns were read.
        """
        split, index, column = _parse(place)
        try:
            with audio_as_it_is():
                audio = self._row(split, index, column)[column]
                if index == self._n_clips[split] - 1 and next(self._rows, None) is not None:
                    raise UserError(self._told(split, "holds more clips than when its columns were read"))
                return _content(audio)
        except UserError:
            raise
        except StopIteration:
            self._opened = None
            raise UserError(self._told(split, f"ended after {self._next} of {self._n_clips[split]} clips")) from None
        except Exception as error:  # whatever `datasets`, the Hub's client or a file format has for it
            self._opened = None
            where = f"broke at clip {index + 1} of {self._n_clips[split]} ({first_line(error)})"
            raise UserError(self._told(split, where)) from None

    def _row(self, split: str, index: int, column: str) -> dict:
        wanted = os.getpid(), split, column
        if self._opened != wanted or index < self._next:
            stream = self._splits[split].select_columns([column]).cast_column(column, Audio(decode=False))
            self._opened, self._rows, self._next = wanted, iter(stream), 0
        for _ in range(self._next, index):
            next(self._rows)
            self._next += 1
        row = next(self._rows)
        self._next += 1
        return row

    def _told(self, split: str, what: str) -> str:
        advice = "start again to go on: embeddings stored so far are kept"
        return f"the stream of {self._shown}, split {split}, {what}; {advice}"


def _parse(place: str) -> tuple[str, int, str]:
    split, index, column = place.split("/", 2)
    return split, int(index), column


def reading_order(places: list[str]) -> list[int]:
    """Positions of these clips in the order in which a stream passes them.

    Example:
        >>> reading_order(["b/0/audio", "a/10/audio", "a/9/audio"])
        [2, 1, 0]
    """
    return sorted(range(len(places)), key=lambda i: _parse(places[i]))


def _content(audio: dict | None) -> bytes:
    if audio is None or (audio["bytes"] is None and audio["path"] is None):
        raise AudioError("no audio")
    if audio["bytes"] is not None:
        return audio["bytes"]
    with xopen(audio["path"], "rb") as file:
        return file.read()


def open_stream(
    path: str, config: str | None, revision: str | None, audio: str | None
) -> tuple[DatasetDict, ClipStream]:
    """A dataset's columns without the audio, in memory, and the stream of its audio.

    In place of each clip's audio stands its place in the stream. `audio` names an audio column that is not of that type. Of Parquet files
    only the other columns are read; other formats are read whole for them.

    Raises:
        Exception: what `datasets` raises where it cannot load.
    """
    builder = load_dataset_builder(path, config, revision=revision)
    if hasattr(builder.config, "decode_num_threads"):
        builder.config.decode_num_threads = 0  # it would decode at once, with torchcodec
    streams = builder.as_streaming_dataset()
    features = _features(streams)
    audio_columns = [name for name, feature in features.items() if isinstance(feature, Audio) or name == audio]
    others = [name for name in features if name not in audio_columns]
    if others and hasattr(builder.config, "columns"):
        light = load_dataset_builder(
            path, config, revision=revision, columns=others, storage_options={"hf": {"block_size": LIGHT_BLOCK}}
        ).as_streaming_dataset()
    else:
        light = streams
    # `datasets` names the folder of its own copy by the commit, if there is one
    identity = builder.cache_dir, identity_of_files(path)
    dataset = DatasetDict()
    for split, stream in light.items():
        stream = stream.select_columns(others).with_format("arrow")
        with audio_as_it_is():
            tables = list(stream.iter(batch_size=1000))
        n_clips = sum(map(len, tables))
        columns = {name: pa.chunked_array([chunk for t in tables for chunk in t[name].chunks]) for name in others}
        for name in audio_columns:
            places = [f"{split}/{i}/{name}" for i in range(n_clips)]
            columns[name] = pa.StructArray.from_arrays([pa.nulls(n_clips, pa.binary()), places], ["bytes", "path"])
        known = Features({name: Audio(decode=False) if name in audio_columns else f for name, f in features.items()})
        fingerprint = Hasher.hash([*identity, split, n_clips])
        table = pa.table({name: columns[name] for name in features}).cast(known.arrow_schema)
        dataset[split] = Dataset(table, info=DatasetInfo(features=known), fingerprint=fingerprint)
    return dataset, ClipStream(dict(streams), {split: len(part) for split, part in dataset.items()}, path)


def identity_of_files(path: str) -> str | None:
    """What changes when a file in a folder does: by the names, sizes and dates of all of them. None for a dataset of the Hub.

    `datasets` goes by README.md alone where that describes the dataset: it would read its copy of the files of before.

    Example:
        >>> identity_of_files("nyu-mll/glue") is None
        True
    """
    folder = Path(path)
    if not folder.is_dir():
        return None
    files = [(file, file.stat()) for file in sorted(folder.rglob("*")) if file.is_file()]
    dates = [(file.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in files]
    return Hasher.hash([folder.resolve().as_posix(), dates])


def _features(streams: dict[str, IterableDataset]) -> Features:
    first = next(iter(streams.values()))
    with audio_as_it_is():
        return first.features or first._resolve_features().features


@contextlib.contextmanager
def audio_as_it_is() -> Iterator[None]:
    """Let `datasets` read folders of audio files without torchcodec.

    It asks for torchcodec as soon as it builds an Audio column from files, also where it only notes their paths or bytes.
    """
    original = Audio.encode_example

    def encode_example(self, value):
        if isinstance(value, str):
            return {"bytes": None, "path": value}
        if isinstance(value, dict) and (value.get("bytes") is not None or value.get("path")):
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        return original(self, value)

    Audio.encode_example = encode_example
    try:
        yield
    finally:
        Audio.encode_example = original


def first_line(error: BaseException) -> str:
    """What was first wrong, in one line: `datasets` wraps it in errors that only say that there was one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().split("\n")[0] or type(error).__name__
