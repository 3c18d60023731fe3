"""Protocols as data: who trains, who tests, and every number of the probe's training.

Two protocols. `arch-v1` is what made the paper's Table 2 (arXiv 2405.00934), also where its splits leak; `strict` is what one should
report today. A protocol is one row of numbers (`PROTOCOLS`) and, per corpus, one row of `SPLIT_RULES`; `plan_folds` turns
both and a corpus's table of clips into index arrays. A changed number comes with a changed version.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from arch_hf.data.spec import ClipTable, Corpus
from arch_hf.errors import UserError


@dataclass(frozen=True)
class SplitRule:
    """How the splits of a corpus become training, validation and test clips.

    `column` is the table's column that names the splits. Where the splits are folds, each is the test set once. `validation`:
    "official" (the split of that name), "next_fold" (cyclic), or "random" (`fraction` of the clips that are not test, seed `SEED`).
    `group_disjoint`: no group on two sides; what would leak into test is left out of train and validation, what would leak
    into validation is left out of train.
    """

    column: Literal["split", "arch_v1_split"] = "split"
    validation: Literal["official", "next_fold", "random"] = "random"
    fraction: float = 0.2
    group_disjoint: bool = False


@dataclass(frozen=True)
class Protocol:
    """The numbers of one protocol. Rates are AdamW's, fractions are of all optimiser steps, `max_seconds` None is the corpus's own.

    The linear layer starts as torch.nn.Linear does. The learning rate of step t (0, 1, ... T - 1) is, with W warm-up steps, peak * t / W
    for t < W, then peak * (T - t) / (T - W): the convention of transformers' get_linear_schedule_with_warmup.
    """

    name: str
    version: str
    summary: str
    padding: Literal["max_length", "none"]
    pooling: str
    max_seconds: float | None
    label_column: Literal["arch_v1_label", "label"]  # "label" where a corpus has no column of the other name
    learning_rates: tuple[float, ...]
    weights_kept: Literal["last_epoch", "best_validation_epoch"]
    epochs: int = 200
    batch_size: int = 32
    warmup_fraction: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    @property
    def selects(self) -> bool:
        """Whether validation decides anything (the epoch, the learning rate)."""
        return self.weights_kept == "best_validation_epoch"

    def max_seconds_for(self, corpus: Corpus) -> float:
        """Clips are cut to this many seconds."""
        return corpus.max_seconds if self.max_seconds is None else self.max_seconds

    def as_dict(self, corpus: Corpus) -> dict:
        """Every number of the protocol for one corpus, ready for JSON.

        Example:
            >>> from types import SimpleNamespace
            >>> corpus = SimpleNamespace(name="esc50", task="single_label", metric="accuracy", max_seconds=5.0)
            >>> block = get_protocol("arch-v1").as_dict(corpus)
            >>> block["epochs"], block["learning_rates"], block["max_seconds"], block["splits"]["validation"]
            (200, [0.001], 5.0, 'random')
        """
        numbers = asdict(self)
        numbers.update(
            max_seconds=self.max_seconds_for(corpus),
            learning_rates=list(self.learning_rates),
            probe="linear",
            initialisation="torch.nn.Linear",
            optimiser="AdamW",
            schedule="linear warm-up from 0, then linear to 0",
            loss="cross-entropy" if corpus.task == "single_label" else "binary cross-entropy per class",
            metric=corpus.metric,
            splits=asdict(split_rule(self, corpus)) | {"seed": SEED},
        )
        if self.selects:
            numbers["selection"] = "highest validation metric; ties: lower validation loss, smaller rate, earlier epoch"
        return numbers


SEED = 42  # of every random split: the paper's

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="arch-v1",
            version="1.0",
            summary="the paper's own, comparable with its Table 2",
            padding="max_length",
            pooling="mean over all frames, padding included",
            max_seconds=None,
            label_column="arch_v1_label",
            learning_rates=(1e-3,),
            weights_kept="last_epoch",
        ),
        Protocol(
            name="strict",
            version="1.0",
            summary="native clip lengths, no leaks, rate and epoch chosen by validation",
            padding="none",
            pooling="mean over the clip's own frames",
            max_seconds=30.0,
            label_column="label",
            learning_rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
            weights_kept="best_validation_epoch",
        ),
    )
}

# Per corpus: the rule of arch-v1 (CORPORA's facts of the paper's program), and the rule of strict. A corpus that is not named
# (anybody's own data set) gets FOREIGN_RULES.
_RANDOM = SplitRule(validation="random")
_NEXT = SplitRule(validation="next_fold")
_OFFICIAL = SplitRule(validation="official")
_PAPER = SplitRule(column="arch_v1_split", validation="official")
_STRICT_NEXT = SplitRule(validation="next_fold", group_disjoint=True)
_STRICT_OFFICIAL = SplitRule(validation="official", group_disjoint=True)
_STRICT_RANDOM = SplitRule(validation="random", group_disjoint=True)

SPLIT_RULES: Mapping[str, Mapping[str, SplitRule]] = {
    "esc50": {"arch-v1": _RANDOM, "strict": _STRICT_NEXT},
    "us8k": {"arch-v1": _RANDOM, "strict": _STRICT_NEXT},
    "fsd50k": {"arch-v1": _OFFICIAL, "strict": _STRICT_OFFICIAL},
    "vivae": {"arch-v1": _NEXT, "strict": _STRICT_NEXT},
    "fma_small": {"arch-v1": _PAPER, "strict": _STRICT_OFFICIAL},
    "magnatagatune": {"arch-v1": _OFFICIAL, "strict": _STRICT_OFFICIAL},
    "irmas": {"arch-v1": SplitRule(column="arch_v1_split", validation="random"), "strict": _STRICT_RANDOM},
    "medley_solos_db": {"arch-v1": _OFFICIAL, "strict": _STRICT_OFFICIAL},
    "ravdess": {"arch-v1": _PAPER, "strict": _STRICT_NEXT},
    "audio_mnist": {"arch-v1": _NEXT, "strict": _STRICT_NEXT},
    "slurp": {"arch-v1": _OFFICIAL, "strict": _STRICT_OFFICIAL},
    "emovo": {"arch-v1": SplitRule(validation="random", fraction=0.1), "strict": _STRICT_NEXT},
}
FOREIGN_RULES: Mapping[str, Mapping[str, SplitRule]] = {
    "folds": {"arch-v1": _RANDOM, "strict": _STRICT_NEXT},
    "splits": {"arch-v1": _OFFICIAL, "strict": _STRICT_OFFICIAL},
}
FOREIGN_FOLDS = 5  # for a data set of one split only


def get_protocol(name: str) -> Protocol:
    """The protocol of that name, or a UserError that names those there are."""
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def split_rule(protocol: Protocol, corpus: Corpus) -> SplitRule:
    """The corpus's row of SPLIT_RULES, or the default for a data set that is not of the twelve."""
    if corpus.name in SPLIT_RULES:
        return SPLIT_RULES[corpus.name][protocol.name]
    return FOREIGN_RULES["folds" if corpus.is_cross_validated else "splits"][protocol.name]


@dataclass(frozen=True)
class Fold:
    """Who trains, validates and tests: int64 indices into the corpus's table of clips, each sorted.

    `left_out` counts the clips that sit in none of the three because their group is on the other side (strict only), and `note` says
    in words where the rule had to give way (no validation split, one split only); both go into the result.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    left_out: int = 0
    note: str = ""


def plan_folds(protocol: Protocol, corpus: Corpus, table: ClipTable, targets: np.ndarray | None = None) -> list[Fold]:
    """Train, validation and test clips of each fold; a corpus without folds has one, named "test".

    `targets` (int64 [clips], or multi-hot [clips, classes]) is only looked at for a data set of a single split, to make
    its folds stratified. A split without clips (a limited run) is passed over, and the note says what took its place.

    Raises:
        UserError: no clip is left to train on, or none to test on.

    Example:
        >>> from types import SimpleNamespace
        >>> table = ClipTable(clip_id=list("abcdef"), split=["fold_1", "fold_2", "fold_3"] * 2, group=[None] * 6)
        >>> corpus = SimpleNamespace(name="vivae", is_cross_validated=True)
        >>> folds = plan_folds(get_protocol("arch-v1"), corpus, table)
        >>> [(fold.name, fold.train.tolist(), fold.validation.tolist(), fold.test.tolist()) for fold in folds]
        [('fold_1', [2, 5], [1, 4], [0, 3]), ('fold_2', [0, 3], [2, 5], [1, 4]), ('fold_3', [1, 4], [0, 3], [2, 5])]
    """
    rule = split_rule(protocol, corpus)
    column = table.arch_v1_split if rule.column == "arch_v1_split" and table.arch_v1_split is not None else table.split
    splits = np.array(["" if name is None else name for name in column])  # "": the paper leaves the clip out
    groups = _group_codes(table)
    names = sorted(set(splits.tolist()) - {""}, key=_fold_order)
    if len(names) == 1:
        plans = _folds_of_one_split(np.flatnonzero(splits != ""), names[0], groups, targets)
    elif names and all(name.startswith("fold_") for name in names):
        plans = [_fold_of_folds(rule, splits, names, position) for position in range(len(names))]
    else:
        plans = [_fold_of_splits(splits, names)]
    return [_finish(rule, protocol, corpus, plan, groups) for plan in plans]


def _fold_order(name: str) -> tuple[str, int]:
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if number.isdigit() else (name, 0)


def _group_codes(table: ClipTable) -> np.ndarray:
    """One integer per group; a clip of unknown group is its own."""
    names = [
        f"clip {clip_id}" if group is None else f"group {group}"
        for clip_id, group in zip(table.clip_id, table.group, strict=True)
    ]
    return np.unique(np.array(names), return_inverse=True)[1] if names else np.zeros(0, np.int64)


def _fold_of_folds(rule: SplitRule, splits: np.ndarray, names: Sequence[str], position: int) -> Fold:
    test = splits == names[position]
    validation = np.zeros_like(test)
    note = ""
    if rule.validation == "next_fold":
        if len(names) > 2:
            validation = splits == names[(position + 1) % len(names)]
        else:
            note = "two folds only: validation is a random part of the other fold"
    train = ~test & ~validation & (splits != "")
    return Fold(names[position], np.flatnonzero(train), np.flatnonzero(validation), np.flatnonzero(test), note=note)


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
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # a class of fewer clips than folds: its folds are as good as can be
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=SEED)
        parts = list(splitter.split(clips, classes, groups[clips]))
    note = f"one split only ({name}): {n_folds} group-disjoint folds, seed {SEED}"
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
        if rule.validation == "official" and not note.startswith("one split"):
            note = "; ".join(filter(None, [note, f"no validation split: a random {rule.fraction:.0%} of train"]))
        train, validation = _draw_validation(train, groups if rule.group_disjoint else None, rule.fraction)
    if not len(train) or not len(plan.test):
        what = "to train on" if len(plan.test) else "to test on"
        why = f" ({left_out} share a group with the test set)" if left_out else ""
        raise UserError(f"{corpus.name}, {plan.name}: no clip is left {what}{why}; take more clips or another protocol")
    if protocol.selects and not len(validation):
        raise UserError(
            f"{corpus.name}, {plan.name}: {protocol.name} chooses by validation, and there is no clip to validate on; "
            "take more clips or --protocol arch-v1"
        )
    return Fold(plan.name, train, validation, plan.test, left_out, note)


def _draw_validation(clips: np.ndarray, groups: np.ndarray | None, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """A random `fraction` of the clips (of the groups, where given), seed 42; none where there is but one clip or group."""
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    if groups is None:
        if len(clips) < 2:
            return clips, clips[:0]
        train, validation = train_test_split(clips, test_size=fraction, random_state=SEED)
        return np.sort(train), np.sort(validation)
    if len(np.unique(groups[clips])) < 2:
        return clips, clips[:0]
    splitter = GroupShuffleSplit(1, test_size=fraction, random_state=SEED)
    train, validation = next(splitter.split(clips, groups=groups[clips]))
    return clips[np.sort(train)], clips[np.sort(validation)]


def render_protocols() -> str:
    """The protocols as two plain-text tables: the numbers, then the splits of each corpus."""
    protocols = list(PROTOCOLS.values())
    rows = [["", *(f"{protocol.name} {protocol.version}" for protocol in protocols)]]
    numbers = [key for key in asdict(protocols[0]) if key not in ("name", "version")]
    rows += [[key, *(_show(getattr(protocol, key)) for protocol in protocols)] for key in numbers]
    rules = [["corpus", *(protocol.name for protocol in protocols)]]
    for corpus, by_protocol in SPLIT_RULES.items():
        rules.append([corpus, *(_show_rule(by_protocol[protocol.name]) for protocol in protocols)])
    for shape, by_protocol in FOREIGN_RULES.items():
        rules.append([f"(any other, {shape})", *(_show_rule(by_protocol[protocol.name]) for protocol in protocols)])
    return f"{_align(rows)}\n\nSplits (random: seed {SEED})\n\n{_align(rules)}"


def _show(value) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{number:g}" for number in value)
    return "the corpus's own" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _show_rule(rule: SplitRule) -> str:
    source = "the paper's split" if rule.column == "arch_v1_split" else "official"
    validation = {"official": "", "next_fold": ", validation = next fold"}.get(
        rule.validation, f", validation = random {rule.fraction:.0%}"
    )
    return source + validation + (", groups disjoint" if rule.group_disjoint else "")


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
