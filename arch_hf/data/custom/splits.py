"""Which clips train and which test, from the names of a dataset's splits or from a column of a single one."""

import re
from dataclasses import dataclass

import numpy as np

from arch_hf.data.custom.columns import as_text
from arch_hf.data.custom.options import SPLIT_NAMES
from arch_hf.data.custom.raw import Findings, RawDataset, shown


@dataclass(frozen=True)
class SplitPlan:
    """One of our splits: the dataset's own split that it is, and which of its clips (None: all of them)."""

    name: str
    source: str
    clips: np.ndarray | None = None


def plan_splits(
    raw: RawDataset, named: dict[str, str], fold_column: str | None, there: str, findings: Findings
) -> list[SplitPlan]:
    """Our splits: fold_1 ... fold_N; train, test and perhaps validation; or train alone, where a dataset has one split and no folds: the
    protocols then deal its clips to folds. Empty, with a problem, where they cannot be told."""
    splits = raw.splits
    if named:
        if unknown := [name for name in named.values() if name not in splits]:
            findings.problem(f"--splits: no split {', '.join(unknown)}; {there}")
            return []
        return _used(raw, [SplitPlan(ours, named[ours]) for ours in SPLIT_NAMES if ours in named], findings)
    if fold_column is None:
        folds = sorted((name for name in splits if re.fullmatch(r"fold[_\- ]*\d+", name.lower())), key=number_in)
        if len(folds) > 1:
            return _used(raw, [SplitPlan(f"fold_{i}", name) for i, name in enumerate(folds, 1)], findings)
        ours = {name: _ours(name) for name in splits}
        parts = {ours[name]: name for name in reversed(list(splits)) if ours[name]}
        if {"train", "test"} <= set(parts):
            return _used(raw, [SplitPlan(name, parts[name]) for name in SPLIT_NAMES if name in parts], findings)
        if set(parts) == {"train", "validation"} and len(splits) == 2:
            findings.note(f"there is no test split: {parts['validation']} is the test set")
            return [SplitPlan("train", parts["train"]), SplitPlan("test", parts["validation"])]
    if len(splits) != 1:
        findings.problem(
            f"{there}: cannot tell which split trains and which tests; name them with --splits train=NAME,test=NAME"
        )
        return []
    ((source, part),) = splits.items()
    if fold_column is None:
        findings.note(
            f"one split ({source}) and no column of folds: its clips are dealt to folds, groups (if any) kept together (--fold_column names one)"
        )
        return [SplitPlan("train", source)]
    return _by_column(
        as_text(raw.column(source, fold_column), part.features[fold_column]), source, fold_column, findings
    )


def _ours(name: str) -> str | None:
    return next((ours for ours, names in SPLIT_NAMES.items() if name.lower() in names), None)


def _used(raw: RawDataset, plans: list[SplitPlan], findings: Findings) -> list[SplitPlan]:
    for plan in plans:
        if len(raw.splits[plan.source]) == 0:
            findings.problem(f"the split {plan.source} is empty")
    unused = [
        f"{name} ({len(part)} clips)"
        for name, part in raw.splits.items()
        if name not in {plan.source for plan in plans}
    ]
    if unused:
        findings.note(f"not used: the splits {shown(unused)}; --splits names which train and test")
    return plans


def _by_column(values: list[str | None], source: str, column: str, findings: Findings) -> list[SplitPlan]:
    if None in values:
        findings.problem(
            f"the column of folds, {column}, is empty for {values.count(None)} clips; fill it, name another, or --fold_column none"
        )
        return []
    present = sorted({value for value in values if value is not None}, key=lambda value: (number_in(value), value))
    if len(present) < 2:
        findings.problem(
            f"the column of folds, {column}, has the one value {present[0]}; it takes two folds or more, or --fold_column none"
        )
        return []
    parts = {ours: value for value in reversed(present) if (ours := _ours(value))}
    if {"train", "test"} <= set(parts):
        unused = [f"{value} ({values.count(value)} clips)" for value in present if value not in parts.values()]
        if unused:
            findings.note(f"{column}: not used are the clips of {shown(unused)}")
        parts = {ours: parts[ours] for ours in SPLIT_NAMES if ours in parts}
    elif set(parts) == {"train", "validation"} and len(present) == 2:
        findings.note(f"{column}: there is no test split: {parts['validation']} is the test set")
        parts = {"train": parts["train"], "test": parts["validation"]}
    elif parts:
        findings.problem(
            f"the column {column} says {shown(present)}: cannot tell which clips train and which test; call them train and test, or "
            "--fold_column none"
        )
        return []
    else:
        parts = {f"fold_{i}": value for i, value in enumerate(present, 1)}
    of_clips = np.asarray(values)
    return [SplitPlan(ours, source, np.flatnonzero(of_clips == value)) for ours, value in parts.items()]


def number_in(text: str) -> int:
    """The last number in a text, by which folds are ordered; -1 if there is none."""
    digits = re.findall(r"\d+", text)
    return int(digits[-1]) if digits else -1
