"""Protocols as data: who trains, who tests, and every number of the probe's training.

Two protocols. `arch-v1` is what made the paper's Table 2 (arXiv 2405.00934), also where its splits leak; `strict` is what one should
report today. A protocol is one row of numbers (`PROTOCOLS`) and, per corpus, one row of `SPLIT_RULES`; `plan_folds` turns
both and a corpus's table of clips into index arrays. A changed number comes with a changed version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from arch_hf.data.spec import Corpus
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
