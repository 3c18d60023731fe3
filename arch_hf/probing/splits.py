"""Who trains, validates and tests: a protocol's rule and a corpus's table of clips become index arrays."""

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np

from arch_hf.data.spec import ClipTable, Corpus
from arch_hf.errors import UserError
from arch_hf.probing.protocols import FOREIGN_FOLDS, SEED, LogisticRegression, Protocol, SplitRule, split_rule
from arch_hf.probing.task import Fold


def plan_folds(protocol: Protocol, corpus: Corpus, table: ClipTable, targets: np.ndarray | None = None) -> list[Fold]:
    """Train, validation and test clips of each fold; a corpus without folds has one, named "test".

    `targets` (int64 [clips], or multi-hot [clips, classes]) is only looked at for a data set of a single split, to make
    its folds stratified. A split without clips (a limited run) is passed over, and the note says what took its place.

    Raises:
        UserError: no clip is left to train on, or none to test on.

    Examples:
        >>> from types import SimpleNamespace
        >>> from arch_hf.probing.protocols import get_protocol
        >>> table = ClipTable(clip_id=list("abcdef"), split=["fold_1", "fold_2", "fold_3"] * 2, group=[None] * 6)
        >>> corpus = SimpleNamespace(name="vivae", is_cross_validated=True)
        >>> folds = plan_folds(get_protocol("arch-v1"), corpus, table)
        >>> [(fold.name, fold.train.tolist(), fold.validation.tolist(), fold.test.tolist()) for fold in folds]
        [('fold_1', [2, 5], [1, 4], [0, 3]), ('fold_2', [0, 3], [2, 5], [1, 4]), ('fold_3', [1, 4], [0, 3], [2, 5])]
    """
    rule = split_rule(protocol, corpus)
    column = table.arch_v1_split if rule.column == "arch_v1_split" and table.arch_v1_split is not None else table.split
    splits = np.array(["" if name is None else name for name in column])  # "": the paper leaves the clip out
    groups = _group_codes(table, merge_copies=rule.group_disjoint)
    names = sorted(set(splits.tolist()) - {""}, key=_fold_number)
    if len(names) == 1:
        plans = _folds_of_one_split(np.flatnonzero(splits != ""), names[0], groups, targets)
    elif names and all(name.startswith("fold_") for name in names):
        joined = _joined(rule, splits, names, table.clip_id)
        plans = [_fold_of_folds(rule, splits, names, position, joined) for position in range(len(names))]
    else:
        plans = [_fold_of_splits(splits, names)]
    return [_finish(rule, protocol, corpus, plan, groups) for plan in plans]


def _fold_number(name: str) -> tuple[str, int]:
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdigit() else (name, 0)


def _joined(rule: SplitRule, splits: np.ndarray, names: Sequence[str], clip_ids: Sequence[str]) -> np.ndarray:
    """All clips of the folds, fold by fold in the rule's order: the order from which a random part is drawn."""
    if rule.fold_order == "number":
        order = list(names)
    elif rule.fold_order == "first_clip":
        first = {name: min(clip_ids[i] for i in np.flatnonzero(splits == name).tolist()) for name in names}
        order = sorted(names, key=first.__getitem__)
    else:
        numbers = [_fold_number(name)[1] for name in names]
        order = [names[numbers.index(number)] for number in rule.fold_order if number in numbers]
        order += [name for name in names if name not in order]
    return np.concatenate([np.flatnonzero(splits == name) for name in order])


def _group_codes(table: ClipTable, merge_copies: bool) -> np.ndarray:
    """One integer per group; a clip of unknown group is its own. With `merge_copies`, clips of the same audio are one group, and so are
    two groups that share a recording."""
    names = [
        f"clip {clip_id}" if group is None else f"group {group}"
        for clip_id, group in zip(table.clip_id, table.group, strict=True)
    ]
    if not names:
        return np.zeros(0, np.int64)
    codes = np.unique(np.array(names), return_inverse=True)[1]
    if not merge_copies or table.digest is None:
        return codes
    leader = list(range(codes.max() + 1))  # of each group: another one that it was merged into, or itself

    def find(code: int) -> int:
        while leader[code] != code:
            leader[code] = code = leader[leader[code]]
        return code

    first: dict[bytes, int] = {}
    for code, digest in zip(codes.tolist(), table.digest, strict=True):
        leader[find(code)] = find(first.setdefault(digest, code))
    return np.unique([find(code) for code in codes.tolist()], return_inverse=True)[1]


def _fold_of_folds(
    rule: SplitRule, splits: np.ndarray, names: Sequence[str], position: int, joined: np.ndarray
) -> Fold:
    test, validation, note = names[position], None, ""
    if rule.validation == "next_fold":
        if len(names) > 2:
            validation = names[(position + 1) % len(names)]
        else:
            note = "two folds only: validation is a random part of the other fold"
    of_clip = splits[joined]
    train = joined[(of_clip != test) & (of_clip != validation)]
    return Fold(test, train, np.flatnonzero(splits == validation), np.flatnonzero(splits == test), note=note)


def _fold_of_splits(splits: np.ndarray, names: Sequence[str]) -> Fold:
    train, validation, test = (np.flatnonzero(splits == name) for name in ("train", "validation", "test"))
    if not len(train) or not len(test) + len(validation):
        raise UserError(
            f"splits {', '.join(names) or '(none)'}: a data set needs train and test, fold_1 to fold_N, or one split alone"
        )
    note = ""
    if not len(test):
        test, validation = validation, test
        note = "no test split: the validation split is the test set"
    return Fold("test", train, validation, test, note=note)


def _folds_of_one_split(clips: np.ndarray, name: str, groups: np.ndarray, targets: np.ndarray | None) -> list[Fold]:
    """FOREIGN_FOLDS group-disjoint folds, stratified by class where each clip has one class."""
    from sklearn.model_selection import StratifiedGroupKFold

    n_folds = min(FOREIGN_FOLDS, len(np.unique(groups[clips])))
    if n_folds < 2:
        raise UserError(f"all clips are of split {name!r} and of one group: there is nothing to test on")
    classes = targets[clips] if targets is not None and targets.ndim == 1 else np.zeros(len(clips), np.int64)
    if np.bincount(classes).max() < n_folds:
        classes = np.zeros_like(classes)
    # The groups are shuffled here, by a generator that numpy keeps as it is: scikit-learn's own shuffle dealt other folds before its version 1.8.
    number = np.unique(groups[clips], return_inverse=True)[1]
    shuffled = np.random.RandomState(SEED).permutation(number.max() + 1)[number]
    with warnings.catch_warnings():
        # Of a class with fewer clips than folds: its folds are as good as can be.
        warnings.simplefilter("ignore", UserWarning)
        parts = list(StratifiedGroupKFold(n_folds).split(clips, classes, shuffled))
    parts = [part for part in parts if len(part[1])]  # of few groups one may be empty
    shared = len(np.unique(groups[clips])) < len(clips)
    kind = "group-disjoint folds" if shared else "folds of single clips (no two are known to share a group)"
    note = f"one split only ({name}): {len(parts)} {kind}, seed {SEED}"
    nothing = np.zeros(0, np.int64)
    return [
        Fold(f"fold_{k}", clips[rest], nothing, clips[test], note=note) for k, (rest, test) in enumerate(parts, start=1)
    ]


def _finish(rule: SplitRule, protocol: Protocol, corpus: Corpus, plan: Fold, groups: np.ndarray) -> Fold:
    """Take out what leaks, draw the random validation set, and see that nothing is missing."""
    train, validation, note, left_out = plan.train, plan.validation, plan.note, 0
    if rule.group_disjoint:
        validation = validation[~np.isin(groups[validation], groups[plan.test])]
        train = train[~np.isin(groups[train], groups[np.concatenate([plan.test, validation])])]
        left_out = len(plan.train) + len(plan.validation) - len(train) - len(validation)
    if not len(validation):
        why = "no validation split" if rule.validation == "official" and not note.startswith("one split") else ""
        if len(plan.validation):
            why = "every validation clip shares a group with the test set"
        if why:
            note = "; ".join(filter(None, [note, f"{why}: a random {rule.fraction:.0%} of train"]))
        train, validation = _draw_validation(train, groups if rule.group_disjoint else None, rule.fraction)
    if not len(train) or not len(plan.test):
        what = "to train on" if len(plan.test) else "to test on"
        why = f" ({left_out} share a group with the test set)" if left_out else ""
        raise UserError(f"{corpus.name}, {plan.name}: no clip is left {what}{why}; take more clips or another protocol")
    if isinstance(protocol.training, LogisticRegression) and not len(validation):
        raise UserError(
            f"{corpus.name}, {plan.name}: {protocol.name} chooses by validation, and there is no clip to validate on; "
            "take more clips or --protocol arch-v1"
        )
    return Fold(plan.name, np.sort(train), np.sort(validation), plan.test, left_out, note)


def _draw_validation(clips: np.ndarray, groups: np.ndarray | None, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """A random `fraction` of the clips (of the groups, where given), seed 42; none where there is but one clip or group."""
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    if groups is None:
        if len(clips) < 2:
            return clips, clips[:0]
        train, validation = train_test_split(clips, test_size=fraction, random_state=SEED)
        return train, validation
    if len(np.unique(groups[clips])) < 2:
        return clips, clips[:0]
    splitter = GroupShuffleSplit(1, test_size=fraction, random_state=SEED)
    train, validation = next(splitter.split(clips, groups=groups[clips]))
    return clips[train], clips[validation]


def split_digest(table: ClipTable, folds: Sequence[Fold]) -> str:
    """SHA-256 (its first 16 digits) of who trains, validates and tests in each fold, by clip id: the same mapping has the same one,
    in whatever order the clips come.

    Examples:
        >>> table = ClipTable(["a", "b", "c"], ["train", "validation", "test"], [None] * 3)
        >>> fold = Fold("test", *(np.array([i]) for i in range(3)))
        >>> split_digest(table, [fold])
        '...'
    """
    lines = [
        f"{fold.name}\t{side}\t{table.clip_id[i]}\n"
        for fold in folds
        for side, clips in (("train", fold.train), ("validation", fold.validation), ("test", fold.test))
        for i in clips
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()[:16]
