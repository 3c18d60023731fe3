"""What would be read of a dataset, and what is wrong with it: all at once, before anything is computed."""

import collections
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from arch_hf.audio import audio_info
from arch_hf.data.custom.options import ReadingOptions
from arch_hf.data.custom.raw import Findings, shown
from arch_hf.data.load import CorpusData, read_corpus
from arch_hf.errors import AudioError, UserError
from arch_hf.files import audio_digest
from arch_hf.progress import progress_bar

_MOST_CLASSES = 12  # that are counted one by one


@dataclass
class DatasetCheck:
    """What was found in a dataset: its clips as they would be taken (None where it cannot be used), their `seconds`, sampling `rates` and
    `channels` (each with its number of clips), clips of the `same` audio, `unusable` ones (id, reason), `notes` and `problems`."""

    name: str
    data: CorpusData | None
    notes: list[str]
    problems: list[str]
    command: str
    seconds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    rates: collections.Counter = field(default_factory=collections.Counter)
    channels: collections.Counter = field(default_factory=collections.Counter)
    same: list[list[int]] = field(default_factory=list)
    unusable: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_fine(self) -> bool:
        """Whether every clip can be used."""
        return self.data is not None and not self.problems and not self.unusable


def check_dataset(
    name: str,
    data_dir: str | Path | None = None,
    options: ReadingOptions | None = None,
    *,
    streaming: bool = False,
    progress: bool = False,
) -> DatasetCheck:
    """Read a dataset as the main job would, and every clip's container.

    Examples:
        >>> check_dataset("synthetic_speech").is_fine
        True
    """
    findings, options, data = Findings(), options or ReadingOptions(), None
    try:
        data = read_corpus(name, data_dir, None, options, streaming, findings)
    except UserError as error:
        findings.problem(str(error))
    check = DatasetCheck(name, data, findings.notes, findings.problems, _command(name, data_dir, options, streaming))
    if data is not None:
        _look_at_clips(check, data, progress)
    return check


def _command(name: str, data_dir: str | Path | None, options: ReadingOptions, streaming: bool) -> str:
    parts = ["arch-hf", "evaluate", "--model_id", "MODEL", "--datasets", name]
    parts += ["--data_dir", str(data_dir)] if data_dir is not None else []
    for flag, value in vars(options).items():
        if value:
            parts += [f"--{flag}", ",".join(map("=".join, value.items())) if isinstance(value, dict) else str(value)]
    return shlex.join(parts + (["--streaming"] if streaming else []))


def _look_at_clips(check: DatasetCheck, data: CorpusData, progress: bool) -> None:
    seconds, by_digest = np.zeros(len(data)), collections.defaultdict(list)
    reasons = dict(data.flaws)
    for i in progress_bar("read", len(data), progress, data.order or range(len(data))):
        try:
            audio = data.audio(i)
            by_digest[audio_digest(audio)].append(i)
            info = audio_info(audio)
        except AudioError as error:
            reasons.setdefault(i, str(error))
            continue
        if info.frames == 0:
            reasons.setdefault(i, "holds no samples")
        seconds[i] = info.seconds
        check.rates[info.sampling_rate] += 1
        check.channels[info.channels] += 1
    check.seconds = seconds
    check.same = [clips for clips in by_digest.values() if len(clips) > 1]
    check.unusable = [(data.table.clip_id[i], reason) for i, reason in sorted(reasons.items())]


def report(check: DatasetCheck) -> str:
    """A check as text."""
    lines = [f"{check.name}: cannot be used as it is"]
    if check.data is not None:
        hours = check.seconds.sum() / 3600
        lines = [f"{check.name}: {len(check.data)} clips, {hours:.2f} h", *_columns(check.data), *_counts(check.data)]
        lines += [*_audio(check), *_groups(check.data), *_copies(check)]
    lines += [f"note: {note}" for note in check.notes]
    if check.unusable:
        first = "; ".join(f"{clip_id} ({reason})" for clip_id, reason in check.unusable[:10])
        more = f"; and {len(check.unusable) - 10} more" if len(check.unusable) > 10 else ""
        lines.append(f"wrong: clips that cannot be used: {len(check.unusable)}: {first}{more}")
    lines += [f"wrong: {problem}" for problem in check.problems]
    if check.data is not None:
        lines.append(f"to evaluate it: {check.command}")
    return "\n".join(lines)


def _columns(data: CorpusData) -> list[str]:
    if not data.columns:
        return [f"columns: as arch-hf prepare writes them ({data.corpus.title})"]
    names = {"audio": "audio", "label": "labels", "fold": "folds", "group": "groups", "clip_id": "ids"}
    nothing = {"fold": "none", "group": "none", "clip_id": "of our own"}
    width = max(map(len, names.values()))
    kind = "any number of" if data.corpus.task == "multi_label" else "one of"
    labels = f" ({kind} {len(data.class_names())} classes: {shown(data.class_names())})"
    return ["columns:"] + [
        f"  {name:<{width}}  {data.columns[key] or nothing[key]}{labels if key == 'label' else ''}"
        for key, name in names.items()
    ]


def _counts(data: CorpusData) -> list[str]:
    """Clips per split and class; of many classes the smallest and the largest."""
    targets, names = data.targets(), data.class_names()
    hot = targets if targets.ndim == 2 else np.eye(len(names), dtype=int)[targets]
    usable = np.array([i not in data.flaws for i in range(len(data))])
    splits, lines = np.array(data.table.split), ["splits:"]
    for split in data.corpus.splits:
        members = splits == split
        sizes = hot[members & usable].sum(0).astype(int)
        if len(names) <= _MOST_CLASSES:
            each = ", ".join(f"{name} {size}" for name, size in zip(names, sizes, strict=True))
        else:
            each = f"{sizes.min()} to {sizes.max()} clips for each of {len(names)} classes"
        empty = [name for name, size in zip(names, sizes, strict=True) if size == 0]
        without = f"; none of {shown(empty)}" if empty and len(names) > _MOST_CLASSES else ""
        lines.append(f"  {split}  {members.sum()}: {each}{without}")
    return lines


def _audio(check: DatasetCheck) -> list[str]:
    known = check.seconds[check.seconds > 0]
    if not len(known):
        return []
    rates = ", ".join(f"{rate} Hz {n}" for rate, n in check.rates.most_common(5))
    channels = ", ".join(f"{n} with {count}" for count, n in sorted(check.channels.items()))
    return [
        f"seconds: {known.min():.2f} shortest, {known.mean():.2f} mean, {known.max():.2f} longest",
        f"rates: {rates}; channels: {channels}",
    ]


def _groups(data: CorpusData) -> list[str]:
    """How many there are, and which are on both sides of a split: strict leaves out of training what shares a group with the test set."""
    sides: dict[str, set[str]] = collections.defaultdict(set)
    for group, split in zip(data.table.group, data.table.split, strict=True):
        if group is not None:
            sides[group].add(split)
    if not sides:
        return []
    across = sorted(group for group, splits in sides.items() if len(splits) > 1)
    where = (
        "none of them in more than one split"
        if not across
        else f"{len(across)} of them in more than one split: {shown(across)}"
    )
    return [f"groups: {len(sides)}, {where}"]


def _copies(check: DatasetCheck) -> list[str]:
    data = check.data
    if data is None or not check.same:
        return ["copies: none"]
    ids, splits = data.table.clip_id, data.table.split
    across = [clips for clips in check.same if len({splits[i] for i in clips}) > 1]
    first = [" = ".join(f"{ids[i]} ({splits[i]})" for i in clips[:3]) for clips in (across or check.same)[:3]]
    return [
        f"copies: {len(check.same)} sets of clips are the same audio, {len(across)} of them in more than one split: {'; '.join(first)}; "
        "--protocol strict keeps copies on one side"
    ]
