"""What a corpus is: facts as data (`Corpus`), its clips on disk (`Clip`), and its clips as a table (`ClipTable`)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from arch_hf.data.official.raw import RawFolder


HEADLINE = {"single_label": "accuracy", "multi_label": "map_macro"}  # task -> headline metric


@dataclass(frozen=True)
class Source:
    """One file of a corpus's official distribution. `size` in bytes and the checksums are None where nobody states them."""

    url: str
    size: int | None = None
    md5: str | None = None
    sha1: str | None = None
    filename: str | None = None  # None: the last part of the URL


@dataclass(frozen=True)
class Clip:
    """One clip of a raw archive: where it lies and what the corpus says about it.

    `path` is where the file is, or would be: a clip that the corpus's metadata lists may be missing on disk. `clip_id` is
    unique in the corpus. `label` is one class name, or a tuple of them for a multi-label corpus. `group` is the unit that must
    not cross train and test (speaker, source recording, artist). The two `arch_v1_*` are set where the paper departs from the
    official split or label; a clip that the paper leaves out has the split None.
    """

    path: Path
    clip_id: str
    split: str
    label: str | tuple[str, ...]
    group: str | None = None
    arch_v1_split: str | None = None
    arch_v1_label: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Its class names: one, or any number."""
        return (self.label,) if isinstance(self.label, str) else self.label


@dataclass(frozen=True)
class Corpus:
    """The facts of one corpus, and how its raw layout reads.

    `read` takes the raw folder and yields every clip that is there or that the metadata lists, in any order: the canonical
    order is `splits`, then `clip_id`. `splits` maps each split of the full corpus to its number of clips, in order. `classes`
    is empty where they are those that the metadata hold, sorted. Durations are in seconds; `max_seconds` is None where nobody
    has stated it and the clips have not been measured yet (`CorpusData.measured`). `rehost` says whether the licence lets
    anyone publish the audio again ("public") or not ("private", with the reason).
    """

    name: str
    title: str
    domain: Literal["events", "music", "speech", "other"]
    task: Literal["single_label", "multi_label"]
    classes: tuple[str, ...]
    splits: Mapping[str, int]
    max_seconds: float | None
    licence: str
    citation: str
    homepage: str
    read: Callable[["RawFolder"], Iterable[Clip]] | None  # None where there is no raw archive
    layout: str = ""  # what the raw folder holds, for whoever gave the wrong one
    sources: tuple[Source, ...] = ()
    languages: tuple[str, ...] = ()
    rehost: Literal["public", "private"] = "public"
    rehost_reason: str = ""
    credits: tuple[str, ...] = ()  # files of the archive that its licence wants beside any copy
    known_bad: Mapping[str, str] = field(default_factory=dict)  # clip_id -> why it can never be used
    known_missing: Mapping[str, str] = field(
        default_factory=dict
    )  # clip_id, listed and not in the archive -> who says so
    table1: tuple[int, float, int] | None = None  # the paper's Table 1: clips, mean seconds, classes
    human_accuracy: float | None = None  # in [0, 1], where published
    class_clips: tuple[int, ...] = ()  # clips of each class in the full corpus, where known
    groups: tuple[str, ...] = ()  # every group of the full corpus, where they are few: its speakers
    freesound_id: Literal["group", "clip_id"] | None = (
        None  # which column holds the Freesound id, for corpora made from it
    )
    notes: tuple[str, ...] = ()  # what a user of the corpus should know; sentences for the card
    version: str = "1.0.0"

    @property
    def is_cross_validated(self) -> bool:
        return next(iter(self.splits)).startswith("fold_")

    @property
    def metric(self) -> str:
        """The headline metric."""
        return HEADLINE[self.task]


@dataclass(frozen=True)
class ClipTable:
    """All clips of a corpus without their audio, one entry per clip, in the corpus's canonical order.

    This is all that a protocol needs to decide who trains and who tests. `digest` is that of the clip's audio, once it was read: clips of
    one digest are the same recording, whatever their ids and groups say.
    """

    clip_id: Sequence[str]
    split: Sequence[str]
    group: Sequence[str | None]
    arch_v1_split: Sequence[str | None] | None = None  # None: the paper uses the official splits
    digest: Sequence[bytes] | None = None

    def __len__(self) -> int:
        return len(self.clip_id)

    def select(self, positions: Sequence[int]) -> "ClipTable":
        """The same columns for some clips only, in the order given.

        Examples:
            >>> ClipTable(["a", "b"], ["train", "test"], [None, None]).select([1]).clip_id
            ['b']
        """
        columns: dict[str, Any] = {column.name: getattr(self, column.name) for column in fields(self)}
        kept: dict[str, Any] = {
            name: None if column is None else [column[i] for i in positions] for name, column in columns.items()
        }
        return ClipTable(**kept)
