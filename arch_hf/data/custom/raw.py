"""A dataset as it came, before anybody knows which column is what."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from arch_hf.data.streaming import ClipStream


@dataclass
class Findings:
    """What is found while a dataset is looked at: `notes` say what was taken for what, `problems` what must be mended before it can be used."""

    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)


@dataclass
class RawDataset:
    """The splits of a dataset with their own columns and names.

    `facts` is the content of its arch.json, if `prepare` made it. `stream` is where its audio comes from, if that is not in the splits.
    `base` is what relative paths of audio files start from; `notes` say what is not read of it.
    """

    id: str
    splits: dict[str, Dataset]
    config: str | None = None
    revision: str | None = None
    facts: dict = field(default_factory=dict)
    stream: ClipStream | None = None
    base: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def features(self):
        return next(iter(self.splits.values())).features

    def column(self, split: str, name: str) -> list:
        """All values of one column, without touching the others: the audio stays on disk."""
        return read_column(self.splits[split], name)


def read_column(clips: Dataset, name: str) -> list:
    """All values of one column, without touching the others: the audio stays on disk."""
    return clips.select_columns(name).with_format("arrow")[:][name].to_pylist()


def files_named(clips: Dataset, name: str) -> list[str]:
    """The files that the clips name by path in a column and do not hold, without reading those that they hold."""
    column = clips.data.column(name)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return [path for path in column.to_pylist() if path]
    if not pa.types.is_struct(column.type) or not {"bytes", "path"} <= {child.name for child in column.type}:
        return []
    paths = [chunk.field("path").filter(pc.is_null(chunk.field("bytes"))) for chunk in column.chunks]
    return [path for chunk in paths for path in chunk.to_pylist() if path]


def shown(names: Sequence, most: int = 5) -> str:
    """The first few of many names, in one line.

    Examples:
        >>> shown("abcdefg", 3)
        'a, b, c and 4 more'
    """
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
