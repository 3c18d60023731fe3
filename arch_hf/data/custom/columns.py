"""Which columns of a dataset are taken for the groups, the folds and the ids of its clips.

A column is taken by its name only if it can be what it is called: plain values, not the same in every clip, and ids that are unique. A line
says what was taken, and "none" goes without it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Value

from arch_hf.data.audio_cell import kind_of
from arch_hf.data.custom.labels import is_class_label
from arch_hf.data.custom.options import OFF
from arch_hf.data.custom.raw import Findings, RawDataset

GROUP_NAMES = ("group", "speaker_id", "speaker", "artist", "source")
FOLD_NAMES = ("fold", "split")
ID_NAMES = ("clip_id",)
_MOST_FOLDS = 100


def describe_columns(features: Mapping[str, Any]) -> str:
    """The columns with their types, for a message."""
    return ", ".join(f"{name} ({_type_of(name, feature)})" for name, feature in features.items())


def _type_of(name: str, feature: Any) -> str:
    if is_class_label(feature):
        return "classes" if isinstance(feature, ClassLabel) else "lists of classes"
    kind = kind_of(name, feature)
    kinds = {"audio": "audio", "file": "audio", "samples": "audio samples", "list": "list of numbers", "path": "paths"}
    if kind in kinds:
        return kinds[kind]
    inner = getattr(feature, "feature", None)
    if inner is not None:
        return f"list of {getattr(inner, 'dtype', type(inner).__name__)}"
    return str(getattr(feature, "dtype", "fields" if isinstance(feature, Mapping) else type(feature).__name__))


def choose_groups(
    raw: RawDataset, flag: str | None, taken: Sequence[str], there: str, findings: Findings
) -> str | None:
    """The column of what must not cross train and test, or None."""
    if flag == OFF:
        return None
    if flag:
        return _named(raw, "group_column", flag, there, findings)
    for name in GROUP_NAMES:
        if name not in raw.features or name in taken:
            continue
        if not _is_plain(raw.features[name]):
            findings.note(f"{name} is not taken for groups: it holds no plain values")
        elif len(_values(raw, name)) < 2:
            findings.note(f"{name} is not taken for groups: it is the same for every clip")
        else:
            return name
    return None


def _named(raw: RawDataset, option: str, flag: str, there: str, findings: Findings) -> str | None:
    """The column that was named, if its values can be told apart."""
    if flag not in raw.features:
        findings.problem(f"--{option} {flag}: no such column; {there}")
        return None
    if not _is_plain(raw.features[flag]):
        findings.problem(f"--{option} {flag} holds no plain values; name another, or none")
        return None
    return flag


def choose_folds(raw: RawDataset, flag: str | None, taken: Sequence[str], there: str, findings: Findings) -> str | None:
    """The column that deals the clips of a single split to folds, or to train and test; None if there is none."""
    if flag == OFF:
        return None
    if flag:
        return _named(raw, "fold_column", flag, there, findings)
    for name in FOLD_NAMES:
        if len(raw.splits) != 1 or name not in raw.features or name in taken:
            continue
        n_values, n_clips = len(_values(raw, name)), len(next(iter(raw.splits.values())))
        if not _is_plain(raw.features[name]):
            findings.note(f"{name} is not taken for folds: it holds no plain values")
        elif n_values < 2:
            findings.note(f"{name} is not taken for folds: it is the same for every clip")
        elif n_values > min(_MOST_FOLDS, n_clips // 2):
            findings.note(f"{name} is not taken for folds: it has {n_values} values for {n_clips} clips")
        else:
            for other in FOLD_NAMES[FOLD_NAMES.index(name) + 1 :]:
                if other in raw.features and other not in taken:
                    findings.note(
                        f"{name} says which fold a clip is of, and {other} is not used (--fold_column {other})"
                    )
            return name
    return None


def choose_ids(raw: RawDataset, flag: str | None, taken: Sequence[str], there: str, findings: Findings) -> str | None:
    """The column of the clips' ids, each there and unique; None for ids of our own."""
    if flag == OFF:
        return None
    if flag and flag not in raw.features:
        findings.problem(f"--id_column {flag}: no such column; {there}")
        return None
    for name in (flag,) if flag else ID_NAMES:
        if name not in raw.features or name in taken:
            continue
        wrong = _why_no_ids(raw, name)
        if wrong is None:
            return name
        if flag:
            findings.problem(f"--id_column {flag}: {wrong}; name another, or none")
        else:
            findings.note(f"{name} is not taken for the clips' ids: {wrong}")
    return None


def _why_no_ids(raw: RawDataset, name: str) -> str | None:
    if not _is_plain(raw.features[name]):
        return "it holds no plain values"
    values = [value for split in raw.splits for value in raw.column(split, name)]
    if any(value is None or value == "" for value in values):
        return "it is empty for some clips"
    twice = len(values) - len(set(values))
    return f"{twice} of {len(values)} clips have the id of another" if twice else None


def _is_plain(feature: Any) -> bool:
    if isinstance(feature, ClassLabel):
        return True
    dtype = str(getattr(feature, "dtype", "")) if isinstance(feature, Value) else ""
    return dtype in ("string", "large_string", "bool") or "int" in dtype


def _values(raw: RawDataset, name: str) -> set:
    if not _is_plain(raw.features[name]):
        return set()
    return {value for split in raw.splits for value in raw.column(split, name) if value is not None}


def as_text(values: Sequence[Any], feature: Any) -> list[str | None]:
    """Plain values as texts: a class by its name."""
    if isinstance(feature, ClassLabel):
        return [None if value is None else feature.int2str(value) for value in values]
    return [None if value is None else str(value) for value in values]
