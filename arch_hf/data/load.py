"""Clips of a corpus, loaded: one of the twelve, a synthetic one, a prepared folder, or any audio dataset."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Audio, ClassLabel, Dataset, List, concatenate_datasets

from arch_hf.audio import audio_info
from arch_hf.compat.datasets_library import fingerprint_of
from arch_hf.data.audio_cell import encoded_audio, kind_of
from arch_hf.data.clip_index import MAX_SECONDS, ClipIndex, index_key, padded_seconds, read_clip_index
from arch_hf.data.custom.options import ReadingOptions
from arch_hf.data.custom.raw import Findings, RawDataset, files_named, read_column
from arch_hf.data.custom.recognise import FLAW_COLUMN, recognise
from arch_hf.data.limit import spread
from arch_hf.data.locate import locate
from arch_hf.data.official.prepared import changed_shards, corpus_of_facts
from arch_hf.data.registry import CORPUS_NAMES, SYNTHETIC_NAMES, get_corpus
from arch_hf.data.spec import ClipTable, Corpus
from arch_hf.data.streaming import ClipStream, reading_order
from arch_hf.data.suites import SuiteDataset, suite_dataset
from arch_hf.data.synthetic import generate
from arch_hf.data.tree import state_of_file
from arch_hf.errors import AudioError, UserError, UserErrors
from arch_hf.files import audio_digest


@dataclass
class CorpusData:
    """A loaded corpus.

    `corpus` holds its facts (told from the data for a dataset that is not built in), with `classes` as in the data. `id`, `config` and
    `revision` say which dataset it is. `clips` is in canonical order, split by split, with the columns audio (undecoded), clip_id, group,
    label or labels, and arch_v1_split and arch_v1_label where the paper differs. `table` is the same clips without audio.

    `excluded` names the clips that are in neither: [{"clip_id", "reason"}], those that are known to be bad, and the `missing` ones, which
    were not there when the corpus was prepared; `flaws` the clips whose label cannot be used (position -> reason). `notes` say what was taken for what.
    `index` is what is known of each clip before it is decoded, once it was `measured`.

    With `stream`, the audio is not in `clips` but read in passing: clips are best asked for in the given `order`. `base` is what relative
    paths of audio files start from, `facts` the content of arch.json, `columns` which of a dataset's own columns was taken for what,
    `suite` the name by which a suite knows it.
    """

    corpus: Corpus
    id: str
    config: str | None
    revision: str | None
    clips: Dataset
    table: ClipTable
    excluded: list[dict] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    flaws: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stream: ClipStream | None = None
    base: str | None = None
    facts: dict = field(default_factory=dict)
    columns: dict[str, str | None] = field(default_factory=dict)
    suite: str | None = None
    index: ClipIndex | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def n_expected(self) -> int:
        """How many clips the whole corpus has, but for those that its official archive lacks."""
        lacking = sum(clip_id in self.corpus.known_missing for clip_id in self.missing)
        return sum(self.corpus.splits.values()) - lacking

    def targets(self, column: str = "label") -> np.ndarray:
        """int64 class indices [clips]; for a multi-label corpus float32 multi-hot [clips, classes]. `column` is "label" (which also
        means `labels`) or "arch_v1_label"; the latter falls back to the former in a corpus without it. A clip whose label cannot be used
        (`flaws`) has 0.

        Examples:
            >>> from arch_hf.data import load_corpus
            >>> data = load_corpus("synthetic_events")
            >>> data.targets().shape == (len(data),), data.targets().dtype
            (True, dtype('int64'))
        """
        column = self._column(column)
        values, n_classes = read_column(self.clips, column), len(self.class_names(column))
        if column != "labels":
            return np.array([value if _is_class(value, n_classes) else 0 for value in values], np.int64)
        hot = np.zeros((len(values), n_classes), np.float32)
        for i, labels in enumerate(values):
            hot[i, [label for label in labels or () if _is_class(label, n_classes)]] = 1.0
        return hot

    def class_names(self, column: str = "label") -> list[str]:
        """The names behind the indices of `targets(column)`, in order."""
        feature = self.clips.features[self._column(column)]
        return list((feature if isinstance(feature, ClassLabel) else feature.feature).names)

    def audio(self, index: int) -> bytes:
        """One clip's encoded bytes, as in the dataset.

        Raises:
            AudioError: if the dataset holds no audio for this clip, or the file that it names is not there.
            UserError: if the clip is not the one that was measured, or the stream breaks.
        """
        cell = self.clips[index]["audio"]
        content = encoded_audio(cell, self.base) if self.stream is None else self.stream.audio(cell["path"])
        if (
            self.index is not None
            and index not in self.index.failures
            and audio_digest(content) != self.index.digests[index]
        ):
            raise UserError(
                f"{self.id}: the audio of {self.table.clip_id[index]} has changed since it was measured: start again"
            )
        return content

    @property
    def order(self) -> list[int] | None:
        """Positions of all clips in the order in which the stream passes them; None where any clip can be read at any time."""
        if self.stream is None:
            return None
        return reading_order([audio["path"] for audio in read_column(self.clips, "audio")])

    def measured(self, cache_dir: Path, progress: bool = False) -> "CorpusData":
        """The same with its index, and with the corpus's `max_seconds` known, where only its clips can say it.

        Raises:
            UserError: if a file of it is not what was prepared, or it is not one clip long.
        """
        index = read_clip_index(self, cache_dir, progress)
        table = replace(self.table, digest=index.digests)
        return replace(self, index=index, table=table, corpus=with_max_seconds(self.corpus, index.seconds.max()))

    def audio_key(self) -> str | None:
        """What changes when the audio of any clip may have: the dataset's own files, and those that it names by path."""
        return index_key(fingerprint_of(self.clips), [(path, state_of_file(path)) for path in self.named_files])

    @property
    def named_files(self) -> list[str]:
        """The audio files that the clips name by path and do not hold; none of a stream."""
        named = () if self.stream is not None else files_named(self.clips, "audio")
        return [os.path.join(self.base or "", path) for path in named]

    def check_source(self) -> None:
        """See that the files of a prepared folder are what `prepare` wrote.

        Raises:
            UserError: if not.
        """
        if (
            self.base is not None
            and Path(self.base).is_dir()
            and (wrong := changed_shards(Path(self.base), self.facts))
        ):
            raise UserError(f"{self.id}: {'; '.join(wrong)}; prepare the corpus again")

    def fingerprint(self, class_names: list[str]) -> str:
        """SHA-256 over the classes, and over every clip's id, audio, split, group and labels: the same data has the same one wherever it
        lies. The corpus must have been `measured`."""
        if self.index is None:
            raise ValueError("the corpus was not measured")
        sha = hashlib.sha256(json.dumps(class_names).encode() + b"\n")
        table = self.table
        names = [name for name in ("label", "labels", "arch_v1_label") if name in self.clips.column_names]
        labels = self.clips.select_columns(names).with_format(None)[:]
        for i, clip_id in enumerate(table.clip_id):
            row = [clip_id, self.index.digests[i].hex(), table.split[i], table.group[i]]
            row += [labels[name][i] for name in names]
            row += [] if table.arch_v1_split is None else [table.arch_v1_split[i]]
            sha.update(json.dumps(row).encode() + b"\n")
        return sha.hexdigest()

    def _column(self, column: str) -> str:
        if column == "arch_v1_label" and column in self.clips.features:
            return column
        if column in ("label", "labels", "arch_v1_label"):
            return "labels" if self.corpus.task == "multi_label" else "label"
        raise ValueError(f"no label column {column!r}")


def load_corpus(
    name: str,
    data_dir: str | Path | None = None,
    revision: str | None = None,
    limit: int | None = None,
    *,
    streaming: bool = False,
    **columns: Any,
) -> CorpusData:
    """Load a corpus by name, a dataset by Hub id, or a folder.

    A dataset of a suite (`mteb-audio:ESC50`, see `arch_hf.data.suites`) is read as its row says. The twelve are looked for in
    `data_dir/NAME`, then in the folder `arch/NAME`, then on the Hub as `arch/NAME`. Any other `name` is a folder or a file (also below
    `data_dir`) or a Hub id; what its columns and splits are is told from their types and names, and `columns` name what cannot be told:
    the fields of `arch_hf.data.custom.options.ReadingOptions`, such as `label_column`.

    `limit` keeps that many clips of each split: those that spread over the classes most evenly, the first of each class in
    canonical order first. It is for a quick try; the scores mean nothing.

    With `streaming` nothing is copied to the disk: labels and splits are read at once, the audio where it lies and when it is asked for,
    and `corpus.max_seconds` of a dataset that is not built in is None until its clips have been read (`CorpusData.measured`).

    Raises:
        UserError: if there is no such corpus, it cannot be reached, or what it holds cannot be told from its columns.

    Examples:
        >>> from arch_hf.data import load_corpus
        >>> data = load_corpus("synthetic_events", limit=20)
        >>> data.corpus.domain, data.table.split[0], len(data.audio(0)) > 1000
        ('events', 'fold_1', True)
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit is {limit}, give 1 or more")
    findings = Findings()
    row = suite_dataset(str(name))
    if row is not None and (said := [*columns, *(["revision"] if revision else [])]):
        raise UserError(f"{name} says itself what is read: leave out {', '.join(said)}")
    at, wanted = (name, columns) if row is None else (row.row.id, row.row.options(row.config))
    revision = revision if row is None else row.row.revision or None
    data = read_corpus(str(at), data_dir, revision, ReadingOptions(**wanted), streaming, findings)
    if findings.problems or data is None:
        raise UserErrors(findings.problems)
    data = data if row is None else _as_in_suite(data, row)
    data.notes = [f"{name}: {note}" for note in findings.notes]
    if limit is not None:
        data = _limited(data, limit)
    if data.stream is None and data.corpus.max_seconds is None:
        data = replace(data, corpus=with_max_seconds(data.corpus, _longest(data)))
    return data


def _as_in_suite(data: CorpusData, dataset: SuiteDataset) -> CorpusData:
    """The same under the name, the domain and the licence of a suite's row, if its labels are of the kind that the row says."""
    row = dataset.row
    for said, actual in ((row.task, data.corpus.task), (row.metric, data.corpus.metric)):
        if said and said != actual:
            raise UserError(
                f"{dataset.name} is {said.replace('_', ' ')}, but what is read from {data.id} is {actual.replace('_', ' ')}"
            )
    corpus = replace(data.corpus, name=dataset.name, domain=row.domain, licence=row.licence)
    return replace(data, corpus=corpus, suite=dataset.name)


def read_corpus(
    name: str,
    data_dir: str | Path | None,
    revision: str | None,
    options: ReadingOptions,
    streaming: bool,
    findings: Findings,
) -> CorpusData | None:
    """All clips of a corpus; None where something is wrong with the dataset itself: `findings` say what, all of it at once.

    Raises:
        UserError: if there is no such corpus, or it cannot be opened.
    """
    if data_dir is not None and not os.path.isdir(data_dir):
        raise UserError(f"--data_dir {data_dir}: no such folder")
    if name in SYNTHETIC_NAMES:
        if given := [*(["revision"] if revision else []), *(key for key, value in vars(options).items() if value)]:
            raise UserError(f"{name} is made by this package, and has no {', '.join(given)} to be named: leave it out")
        corpus = get_corpus(name)
        return _corpus_data(RawDataset(name, dict(generate(name)), revision=corpus.version), corpus)
    raw = locate(name, data_dir, revision, options, streaming, findings)
    for note in raw.notes:
        findings.note(note)
    known = raw.facts.get("corpus") or raw.id.removeprefix("arch/")
    ours = {"audio", "clip_id", "group"} <= set(raw.features)
    if ours and not options.names_columns and (known in CORPUS_NAMES or raw.facts):
        sizes = {split: len(part) for split, part in raw.splits.items()}
        return _corpus_data(raw, get_corpus(known) if known in CORPUS_NAMES else corpus_of_facts(raw.facts, sizes))
    recognised = recognise(raw, options, findings)
    if recognised is None:
        return None
    data = _corpus_data(replace(raw, splits=dict(recognised.dataset), facts={}), recognised.corpus)
    return replace(data, columns=recognised.columns)


def with_max_seconds(corpus: Corpus, longest: float) -> Corpus:
    """The corpus with its `max_seconds` known: from the seconds of its longest clip, where nobody has stated it."""
    return corpus if corpus.max_seconds is not None else replace(corpus, max_seconds=padded_seconds(longest))


def _corpus_data(raw: RawDataset, corpus: Corpus) -> CorpusData:
    """The clips of all splits in canonical order, without those that are known to be bad."""
    order = [split for split in corpus.splits if split in raw.splits]
    if not order:
        raise UserError(
            f"{raw.id} has the splits {', '.join(raw.splits)}; {corpus.name} needs {', '.join(corpus.splits)}"
        )
    parts = []
    for split in order:
        part = raw.splits[split]
        if len(part) == 0:
            raise UserError(f"the split {split} is empty")
        if kind_of("audio", part.features["audio"]) == "audio":
            part = part.cast_column("audio", Audio(decode=False))
        good = corpus.known_bad and [clip_id not in corpus.known_bad for clip_id in read_column(part, "clip_id")]
        parts.append(part.select(np.flatnonzero(good)) if good and not all(good) else part)
    clips = concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    names = _class_names(raw, corpus, clips)
    table = ClipTable(
        clip_id=read_column(clips, "clip_id"),
        split=[split for split, part in zip(order, parts, strict=True) for _ in range(len(part))],
        group=read_column(clips, "group"),
        arch_v1_split=read_column(clips, "arch_v1_split") if "arch_v1_split" in clips.features else None,
    )
    missing = list(raw.facts.get("missing_clips", ()))
    return CorpusData(
        corpus=replace(corpus, classes=tuple(names)),
        id=raw.id,
        config=raw.config,
        revision=raw.revision,
        clips=clips,
        table=table,
        excluded=[
            {"clip_id": clip["clip_id"], "reason": clip["reason"]} for clip in raw.facts.get("excluded_clips", ())
        ]
        + [{"clip_id": clip_id, "reason": "not there when the corpus was prepared"} for clip_id in missing],
        missing=missing,
        flaws=_flaws(clips),
        stream=raw.stream,
        base=raw.base,
        facts=raw.facts,
    )


def _class_names(raw: RawDataset, corpus: Corpus, clips: Dataset) -> list[str]:
    column = "labels" if corpus.task == "multi_label" else "label"
    feature = clips.features.get(column)
    names = getattr(feature.feature if isinstance(feature, List) else feature, "names", None)
    if names is None:
        raise UserError(
            f"{raw.id} has no column {column!r} of class labels, which {corpus.name} needs; prepare it again"
        )
    if corpus.classes and tuple(names) != corpus.classes:
        raise UserError(
            f"{raw.id} has other classes than {corpus.name}: {len(names)}, {names[0]!r} first; prepare it again"
        )
    return names


def _is_class(value: int | None, n_classes: int) -> bool:
    return value is not None and 0 <= value < n_classes


def _flaws(clips: Dataset) -> dict[int, str]:
    """Position -> reason of the clips whose label cannot index anything."""
    if FLAW_COLUMN in clips.features:
        return {i: reason for i, reason in enumerate(read_column(clips, FLAW_COLUMN)) if reason}
    flaws: dict[int, str] = {}
    for column in ("label", "labels", "arch_v1_label"):
        feature = clips.features.get(column)
        if feature is None:
            continue
        n_classes = len(feature.feature.names if isinstance(feature, List) else feature.names)
        for i, value in enumerate(read_column(clips, column)):
            values = value if isinstance(value, list) else [value]
            if value is None or not all(_is_class(one, n_classes) for one in values):
                flaws[i] = f"{column} is {value}, where there are the classes 0 to {n_classes - 1}"
    return flaws


def _longest(data: CorpusData) -> float:
    """Seconds of the longest clip, as far as it matters: of a clip as long as MAX_SECONDS the search stops."""
    longest = 0.0
    for cell in (clip["audio"] for clip in data.clips.select_columns("audio")):
        try:
            named = (
                isinstance(cell, Mapping) and cell.get("bytes") is None and Path(cell.get("path") or "").is_absolute()
            )
            longest = max(longest, audio_info(Path(cell["path"]) if named else encoded_audio(cell, data.base)).seconds)
        except AudioError:
            continue  # the extraction will name it
        if longest >= MAX_SECONDS:
            break
    return longest


def _limited(data: CorpusData, limit: int) -> CorpusData:
    """At most `limit` clips of each split."""
    splits = np.array(data.table.split)
    kept = [
        members[spread(data.clips.select(members), limit)]
        for members in (np.flatnonzero(splits == split) for split in dict.fromkeys(data.table.split))
    ]
    positions = np.concatenate(kept).tolist()
    flaws = {new: data.flaws[old] for new, old in enumerate(positions) if old in data.flaws}
    return replace(data, clips=data.clips.select(positions), table=data.table.select(positions), flaws=flaws)
