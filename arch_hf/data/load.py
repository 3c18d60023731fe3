"""Clips of a corpus, loaded: one of the twelve, a synthetic one, a prepared folder, or any audio dataset."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from datasets import Audio, ClassLabel, Dataset, List, concatenate_datasets

from arch_hf.data.clip_index import ClipIndex, read_clip_index
from arch_hf.data.columns import longest_clip, padded_seconds, parse_splits
from arch_hf.data.find import Found, find
from arch_hf.data.registry import SYNTHETIC_NAMES, get_corpus
from arch_hf.data.spec import ClipTable, Corpus
from arch_hf.data.streaming import ClipStream, reading_order
from arch_hf.errors import AudioError, UserError


@dataclass
class CorpusData:
    """A loaded corpus.

    `corpus` holds its facts (inferred for a foreign dataset), with `classes` as in the data. `id`, `config` and `revision` say which
    dataset it is. `clips` is in canonical order, split by split, with the columns audio (undecoded: {"bytes", "path"}),
    clip_id, group, label or labels, and arch_v1_split and arch_v1_label where the paper differs. `table` is the same clips
    without audio. `excluded` names the known-bad clips that are in neither: [{"clip_id", "reason"}].

    `missing` are the ids of clips that were not there when the corpus was prepared. `index` is what is known of each clip before it is decoded,
    once it was `measured`.

    With `stream`, the audio is not in `clips` but read in passing: clips are best asked for in the given `order`.
    """

    corpus: Corpus
    id: str
    config: str | None
    revision: str | None
    clips: Dataset
    table: ClipTable
    excluded: list[dict] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    stream: ClipStream | None = None
    index: ClipIndex | None = None

    def __len__(self) -> int:
        return len(self.table)

    def targets(self, column: str = "label") -> np.ndarray:
        """int64 class indices [clips]; for a multi-label corpus float32 multi-hot [clips, classes]. `column` is "label" (which also
        means `labels`) or "arch_v1_label"; the latter falls back to the former in a corpus without it.

        Example:
            >>> from arch_hf.data import load_corpus
            >>> data = load_corpus("synthetic_events")
            >>> data.targets().shape == (len(data),), data.targets().dtype
            (True, dtype('int64'))
        """
        column = self._column(column)
        values = read_column(self.clips, column)
        if column != "labels":
            return np.asarray(values, np.int64)
        hot = np.zeros((len(values), len(self.class_names())), np.float32)
        for i, labels in enumerate(values):
            hot[i, labels] = 1.0
        return hot

    def class_names(self, column: str = "label") -> list[str]:
        """The names behind the indices of `targets(column)`, in order."""
        feature = self.clips.features[self._column(column)]
        return list((feature if isinstance(feature, ClassLabel) else feature.feature).names)

    def audio(self, index: int) -> bytes:
        """One clip's encoded bytes, as in the dataset.

        Raises:
            AudioError: if the dataset holds no audio for this clip.
            UserError: if a file of it cannot be read, or the stream breaks.
        """
        audio = self.clips[index]["audio"]
        if self.stream is not None:
            return self.stream.audio(audio["path"])
        if audio is None:
            raise AudioError("no audio")
        if audio["bytes"] is not None:
            return audio["bytes"]
        try:
            return Path(audio["path"]).read_bytes()
        except OSError as error:
            raise UserError(f"{self.table.clip_id[index]}: cannot read {audio['path']} ({error.strerror})") from None

    @property
    def order(self) -> list[int] | None:
        """Positions of all clips in the order in which the stream passes them; None where any clip can be read at any time."""
        if self.stream is None:
            return None
        return reading_order([audio["path"] for audio in read_column(self.clips, "audio")])

    def measured(self, cache_dir: Path, progress: bool = False) -> "CorpusData":
        """The same with its index, and with the corpus's `max_seconds` known, where only its clips can say it."""
        index = read_clip_index(self, cache_dir, progress, order=self.order)
        return replace(self, index=index, corpus=with_max_seconds(self.corpus, index.seconds.max()))

    def fingerprint(self, class_names: list[str]) -> str:
        """SHA-256 over the classes, and over every clip's id, audio, split, group and labels: the same data has the same one wherever it
        lies. The corpus must have been `measured`."""
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


def read_column(clips: Dataset, column: str) -> list:
    """All values of one column, without touching the others: the audio stays on disk."""
    return clips.select_columns(column).with_format("arrow")[:][column].to_pylist()


def load_corpus(
    name: str,
    data_dir: str | Path | None = None,
    revision: str | None = None,
    limit: int | None = None,
    *,
    config: str | None = None,
    audio_column: str | None = None,
    label_column: str | None = None,
    fold_column: str | None = None,
    group_column: str | None = None,
    splits: dict[str, str] | str | None = None,
    streaming: bool = False,
) -> CorpusData:
    """Load a corpus by name, a dataset by Hub id, or a folder.

    The twelve are looked for in `data_dir/NAME`, then in the folder `arch/NAME`, then on the Hub as `arch/NAME`. Any other `name` is
    a folder (also below `data_dir`) or a Hub id; how its columns and splits are recognised is described in
    `arch_hf.data.columns`, and the keyword arguments name what is not. `splits` maps "train", "validation" and "test" to
    the dataset's own names: a dict, or as text "train=NAME,test=NAME".

    `limit` keeps that many clips of each split: those that spread over the classes most evenly, the first of each class in
    canonical order first. It is for a quick try; the scores mean nothing.

    With `streaming` nothing is copied to the disk: labels and splits are read at once, the audio where it lies and when it is asked for,
    and `corpus.max_seconds` of a dataset that is not built in is None until its clips have been read (`CorpusData.measured`).

    Raises:
        UserError: if there is no such corpus, it cannot be reached, or what it holds cannot be told from its columns.

    Example:
        >>> from arch_hf.data import load_corpus
        >>> data = load_corpus("synthetic_events", limit=20)
        >>> data.corpus.domain, data.table.split[0], len(data.audio(0)) > 1000
        ('events', 'fold_1', True)
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit is {limit}, give 1 or more")
    name = str(name)
    if name in SYNTHETIC_NAMES:
        from arch_hf.data.synthetic import generate

        corpus = get_corpus(name)
        found = Found(generate(name), corpus, name, None, corpus.version)
    else:
        columns = {"audio": audio_column, "label": label_column, "fold": fold_column, "group": group_column}
        found = find(name, data_dir, revision, config, columns, parse_splits(splits), streaming)
    data = _corpus_data(found, limit)
    if data.stream is None and data.corpus.max_seconds is None:
        data = replace(data, corpus=with_max_seconds(data.corpus, longest_clip(data.clips)))
    return data


def with_max_seconds(corpus: Corpus, longest: float) -> Corpus:
    """The corpus with its `max_seconds` known: from the seconds of its longest clip, where nobody has stated it."""
    return corpus if corpus.max_seconds is not None else replace(corpus, max_seconds=padded_seconds(longest))


def _corpus_data(found: Found, limit: int | None) -> CorpusData:
    dataset, corpus = found.dataset, found.corpus
    order = [split for split in corpus.splits if split in dataset]
    if not order:
        raise UserError(
            f"{found.id} has the splits {', '.join(dataset)}; {corpus.name} needs {', '.join(corpus.splits)}"
        )
    parts = []
    for split in order:
        part = dataset[split].cast_column("audio", Audio(decode=False))
        if len(part) == 0:
            raise UserError(f"{found.id}: the split {split} is empty")
        bad = corpus.known_bad and [clip_id not in corpus.known_bad for clip_id in read_column(part, "clip_id")]
        if bad and not all(bad):
            part = part.select(np.flatnonzero(bad))
        parts.append(part if limit is None else part.select(_spread(part, limit)))
    clips = concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    column = "labels" if corpus.task == "multi_label" else "label"
    feature = clips.features.get(column)
    names = getattr(feature.feature if isinstance(feature, List) else feature, "names", None)
    if names is None:
        raise UserError(
            f"{found.id} has no column {column!r} of class labels, which {corpus.name} needs; prepare it again"
        )
    if corpus.classes and tuple(names) != corpus.classes:
        raise UserError(
            f"{found.id} has other classes than {corpus.name}: {len(names)}, {names[0]!r} first; prepare it again"
        )
    table = ClipTable(
        clip_id=read_column(clips, "clip_id"),
        split=[split for split, part in zip(order, parts, strict=True) for _ in range(len(part))],
        group=read_column(clips, "group"),
        arch_v1_split=read_column(clips, "arch_v1_split") if "arch_v1_split" in clips.features else None,
    )
    excluded = [
        {"clip_id": clip["clip_id"], "reason": clip["reason"]} for clip in found.facts.get("excluded_clips", ())
    ]
    corpus = replace(corpus, classes=tuple(names))
    missing = list(found.facts.get("missing_clips", ()))
    return CorpusData(corpus, found.id, found.config, found.revision, clips, table, excluded, missing, found.stream)


def _spread(clips: Dataset, limit: int) -> np.ndarray:
    """`limit` clips that cover the classes evenly, in canonical order.

    Each class's clips are counted 0, 1, 2, ... in order; the clips with the lowest counts are kept. A clip with several labels counts
    for the rarest of them.
    """
    if "labels" in clips.features:
        labels = read_column(clips, "labels")
        sizes = np.bincount(np.concatenate([np.asarray(found, np.int64) for found in labels]), minlength=1)
        first = [min(found, key=lambda label: (sizes[label], label)) if found else -1 for found in labels]
    else:
        first = read_column(clips, "label")
    seen, counts = {}, np.empty(len(first), np.int64)
    for i, label in enumerate(first):
        counts[i] = seen.get(label, 0)
        seen[label] = counts[i] + 1
    return np.sort(np.lexsort((first, counts))[:limit])
