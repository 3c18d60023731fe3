"""Labels in all the forms that people have, checked in one place before they index anything."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import ClassLabel, LargeList, List, Value
from datasets import Sequence as OldList

from arch_hf.data.custom.raw import Findings, RawDataset, shown

LABEL_NAMES = ("label", "labels", "target", "class", "category")
_SEVERAL_NAMES = ("labels", "tags", "classes", "categories", "genres")  # a text there may hold several labels
_LISTS = (List, LargeList, OldList)
_TEXTS = ("string", "large_string")


@dataclass
class Labels:
    """The labels of each split by their names' indices: an index for each clip, or a list of them where `several`. `flaws` say of a clip
    (split -> position -> reason) why it has none that could be used; an index of 0, or an empty list, stands there."""

    names: list[str]
    several: bool
    indices: dict[str, list]
    flaws: dict[str, dict[int, str]] = field(default_factory=dict)


def is_class_label(feature: Any) -> bool:
    """Whether a column's type says that it holds classes, or lists of them."""
    return isinstance(feature.feature if isinstance(feature, _LISTS) else feature, ClassLabel)


def choose_label(features: Mapping[str, Any], flag: str | None, there: str, findings: Findings) -> str | None:
    """The column of the labels: the one whose type says so (of several, the one called label, labels, target, class or category); else the
    one called so. None, and a problem, where it cannot be told."""
    if flag:
        if flag not in features:
            findings.problem(f"--label_column {flag}: no such column; {there}")
            return None
        return flag
    typed = [name for name, feature in features.items() if is_class_label(feature)]
    usual = [name for name in LABEL_NAMES if name in features]
    named = [name for name in features if name.rpartition(".")[2].lower() in (*LABEL_NAMES, "cls")]
    for name in usual:
        if name in typed:
            return name
    choice = typed or usual[:1] or named
    if len(choice) == 1:
        return choice[0]
    findings.problem(
        f"{there}: {'more than one' if choice else 'no'} class label column, say which with --label_column"
    )
    return None


def read_labels(
    raw: RawDataset, column: str, separator: str | None, findings: Findings, without: Sequence[str] = ()
) -> Labels | None:
    """The labels of all splits, by one list of names, less those `without` which no clip has any more. None, and a problem, where the column
    holds no labels.

    Names are aligned: where splits order their classes otherwise, the first split's order holds.
    """
    cells: dict[str, list] = {}
    values = {split: raw.column(split, column) for split in raw.splits}
    together = [value for part in values.values() for value in part]
    for split, part in raw.splits.items():
        named = _named(values[split], together, part.features[column], column, separator, findings)
        if named is None:
            return None
        cells[split] = named
    several = any(isinstance(cell, tuple) for part in cells.values() for cell in part)
    names = [name for name in _all_names(raw, column, cells) if name not in without]
    if len(names) < 2:
        findings.problem(f"{column} has {len(names)} classes{f' ({names[0]})' if names else ''}: nothing to tell apart")
        return None
    if twice := _written_in_two_ways(names):
        findings.problem(
            f"{column}: {' and '.join(map(ascii, twice))} are one text in two ways to write it in Unicode, and would be two classes: write it in one"
        )
        return None
    labelled = [cell for part in cells.values() for cell in part if isinstance(cell, str)]
    if not several and len(set(labelled)) == len(labelled):
        findings.problem(
            f"{column} is another for each of the {len(labelled)} clips ({shown(labelled, 2)}): no class to learn; name another with --label_column"
        )
        return None
    position, labels = {name: i for i, name in enumerate(names)}, Labels(names, several, {})
    for split, part in cells.items():
        labels.flaws[split] = {i: cell.reason for i, cell in enumerate(part) if isinstance(cell, _Flaw)}
        nothing: Any = [] if several else 0
        labels.indices[split] = [_indices(cell, position, nothing) for cell in part]
        if part and len(labels.flaws[split]) == len(part):
            findings.problem(
                f"split {split}: not one clip has a label ({part[0].reason}; a hidden test set?); name the splits with --splits"
            )
    _note_flaws(labels, column, cells, findings)
    return labels


def _written_in_two_ways(names: Sequence[str]) -> tuple[str, str] | None:
    """Two names that a reader cannot tell apart, as an accented letter and the letter with its accent behind it."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            return other, name
    return None


@dataclass(frozen=True)
class _Flaw:
    reason: str


def _indices(cell: Any, position: Mapping[str, int], nothing: Any) -> Any:
    if isinstance(cell, _Flaw):
        return nothing
    return position[cell] if nothing == 0 else sorted({position[name] for name in _each(cell)})


def _note_flaws(labels: Labels, column: str, cells: Mapping[str, list], findings: Findings) -> None:
    flawed = [(split, i) for split, flaws in labels.flaws.items() for i in flaws]
    if flawed:
        split, i = flawed[0]
        findings.note(
            f"{column}: clips without a label that could be used: {len(flawed)}, the first in {split}, row {i} ({labels.flaws[split][i]})"
        )
    empty = sum(cell == () for part in cells.values() for cell in part)
    if empty:
        findings.note(f"{column}: clips that carry no class: {empty}; they count as examples of none")


def _all_names(raw: RawDataset, column: str, cells: Mapping[str, list]) -> list[str]:
    """The names of a typed column in its own order, of the first split that has them; of any other in sorted order, numbers by their value."""
    typed: dict[str, None] = {}
    for part in raw.splits.values():
        feature = part.features[column]
        if is_class_label(feature):
            inner = feature.feature if isinstance(feature, _LISTS) else feature
            typed |= dict.fromkeys(inner.names or ())
    if typed:
        return list(typed)
    used = {name for part in cells.values() for cell in part for name in _each(cell)}
    numbers = all(re.fullmatch(r"-?\d+", name) for name in used)
    return sorted(used, key=int if numbers else str)


def _each(cell: Any) -> Sequence[str]:
    return () if isinstance(cell, _Flaw) else cell if isinstance(cell, tuple) else (cell,)


def _named(
    values: list, together: list, feature: Any, column: str, separator: str | None, findings: Findings
) -> list | None:
    """Each cell of a split as the name of its class, a tuple of names, or a flaw. What the cells are is told from those of all splits
    `together`: a split may happen to hold clips of one label only."""
    if isinstance(feature, ClassLabel):
        return [_one_class(value, feature.names) for value in values]
    if isinstance(feature, _LISTS):
        return _lists(values, together, feature.feature, column, findings)
    dtype = getattr(feature, "dtype", "") if isinstance(feature, Value) else ""
    if dtype in _TEXTS:
        texts = [value for value in together if isinstance(value, str)]
        separator = separator or _separator(texts, column, findings)
        if separator:
            return [_split(value, separator) for value in values]
        one = _text_of_number if _are_numbers(texts) else _text
        return [one(value) for value in values]
    if dtype == "bool" or re.match(r"u?int", dtype):
        return [_number(value) for value in values]
    if dtype.startswith("float") and all(
        value is None or value != value or float(value).is_integer() for value in values
    ):
        return [_number(None if value is None or value != value else int(value)) for value in values]
    findings.problem(
        f"the label column {column} holds {dtype or 'no classes'}: it takes classes, texts, whole numbers, or lists of them"
    )
    return None


def _one_class(value: int | None, names: Sequence[str]) -> Any:
    if value is None:
        return _Flaw("no label")
    if not 0 <= value < len(names):
        return _Flaw(f"label {value}, where there are the classes 0 to {len(names) - 1}")
    return names[value]


def _text(value: str | None) -> Any:
    return value.strip() if value and value.strip() else _Flaw("no label")


def _are_numbers(texts: list) -> bool:
    """Whether all texts are whole numbers, as a csv holds them: also as 1.0, which pandas writes where the column has gaps."""
    texts = [text.strip() for text in texts if text.strip() and text.strip().lower() != "nan"]
    return bool(texts) and all(re.fullmatch(r"-?\d+(\.0*)?", text) for text in texts)


def _text_of_number(value: str | None) -> Any:
    text = (value or "").strip().partition(".")[0]
    return _Flaw("no label") if text.lower() in ("", "nan") else _Flaw(f"label {text}") if text[0] == "-" else text


def _number(value: int | bool | None) -> Any:
    if value is None:
        return _Flaw("no label")
    return _Flaw(f"label {value}") if value < 0 else str(value)


def _separator(texts: list[str], column: str, findings: Findings) -> str | None:
    """What parts several labels in one text: only in a column whose name says that there are several."""
    for sign in (",", ";", "|"):
        parted = sum(sign in text for text in texts)
        if parted and column.rpartition(".")[2].lower() in _SEVERAL_NAMES:
            return sign
        if parted:
            findings.note(
                f'{column}: {parted} texts hold "{sign}" and are taken for one class each; for several labels in a text: '
                f'--label_separator "{sign}"'
            )
            return None
    return None


def _split(value: str | None, separator: str) -> Any:
    if value is None:
        return _Flaw("no label")
    return tuple(part.strip() for part in value.split(separator) if part.strip())


def _lists(values: list, together: list, inner: Any, column: str, findings: Findings) -> list | None:
    """Lists of class indices, of names, of numbers, or of ones and zeros for each class."""
    dtype = getattr(inner, "dtype", "")
    if isinstance(inner, ClassLabel):
        return [_list(value, lambda label: _one_class(label, inner.names)) for value in values]
    if dtype in _TEXTS:
        return [_list(value, _text) for value in values]
    numeric = dtype == "bool" or re.match(r"u?int|float", dtype)
    if not numeric:
        findings.problem(
            f"the label column {column} holds lists of {dtype or 'lists'}: it takes names, indices, or ones and zeros"
        )
        return None
    together = [value for value in together if isinstance(value, list)]
    if _is_multi_hot(together, dtype):
        findings.note(
            f"{column}: taken as ones and zeros for {len(next(v for v in together if v))} classes, named by their places"
        )
        return [
            _Flaw("no label") if value is None else _Flaw("a label of the list is empty") if None in value
            else tuple(str(i) for i, on in enumerate(value) if on)
            for value in values
        ]  # fmt: skip
    if dtype.startswith("float") or dtype == "bool":
        findings.problem(
            f"the label column {column} holds lists of {dtype} that are not ones and zeros, as many in each"
        )
        return None
    return [_list(value, _number) for value in values]


def _is_multi_hot(values: list, dtype: str) -> bool:
    """Whether all lists are as long, hold ones and zeros only, and cannot be lists of indices."""
    lists = [value for value in values if value]
    same_length = len({len(value) for value in lists}) == 1 and len(lists[0]) > 1
    if not same_length or any(element not in (0, 1, None) for value in lists for element in value):
        return False
    repeated = any(len(set(value)) < len(value) for value in lists)
    return repeated or dtype == "bool" or dtype.startswith("float")


def _list(value: list | None, one) -> Any:
    if value is None:
        return _Flaw("no label")
    names = [one(element) for element in value]
    for name in names:
        if isinstance(name, _Flaw):
            return _Flaw(f"in its list of labels: {name.reason}")
    return tuple(names)


def describe_labels(labels: Labels, column: str) -> str:
    """What was taken, in a few words."""
    kind = "any number of" if labels.several else "one of"
    return f'labels from "{column}", {kind} {len(labels.names)} classes ({shown(labels.names)})'
