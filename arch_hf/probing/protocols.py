"""Protocols as data: who trains, who tests, and every number of the probe.

Two protocols. `arch-v1` is what made the paper's Table 2 (arXiv 2405.00934), also where its splits leak; `strict` is what one should
report today. A protocol is one row of facts (`PROTOCOLS`) and, per corpus, one row of `SPLIT_RULES`; `plan_folds` turns
both and a corpus's table of clips into index arrays. A changed number comes with a changed version.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from arch_hf.data.spec import Corpus
from arch_hf.errors import UserError


@dataclass(frozen=True)
class SplitRule:
    """How the splits of a corpus become training, validation and test clips.

    `column` is the table's column that names the splits. Where the splits are folds, each is the test set once. `validation`:
    "official" (the split of that name), "next_fold" (cyclic), or "random" (`fraction` of the clips that are not test, seed `SEED`).
    A random part depends on the order in which the folds are joined before it is drawn. `fold_order`: "number"; "first_clip", the order in which
    the folds first come in a list of all clips by id; or the numbers themselves.
    `group_disjoint`: no group on two sides, and identical audio is one group; what would leak into test is left out of train
    and validation, what would leak into validation is left out of train.
    """

    column: Literal["split", "arch_v1_split"] = "split"
    validation: Literal["official", "next_fold", "random"] = "random"
    fraction: float = 0.2
    fold_order: Literal["number", "first_clip"] | tuple[int, ...] = "number"
    group_disjoint: bool = False


@dataclass(frozen=True)
class AdamW:
    """A linear layer trained as the paper's program trains it; a new one for each seed.

    The layer starts as torch.nn.Linear does, and its last weights are kept. Fractions are of all optimiser steps. The program steps the
    schedule of the learning rate after every batch, and once more after every epoch: see `arch_hf.probing.adamw.learning_rate_factor`.
    """

    optimiser: str = "AdamW"
    learning_rate: float = 1e-3
    schedule: str = "linear up from 0 and down to 0, stepped after each batch and once more after each epoch"
    warmup_fraction: float = 0.1
    epochs: int = 200
    batch_size: int = 32
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    weights_kept: str = "last epoch"


@dataclass(frozen=True)
class LogisticRegression:
    """Mean loss + strength / 2 * (sum of the squared weights), the bias free, minimised; there is one minimum, whatever finds it.

    The strength is that of the smallest loss on the validation clips; with it, the last solution learns from training and validation clips.
    """

    optimiser: str = "L-BFGS, to the optimum"
    penalty: str = "strength / 2 * sum of squared weights, bias free"
    strengths: tuple[float, ...] = tuple(10 ** (exponent / 2) for exponent in range(4, -13, -1))
    selection: str = "smallest loss on the validation clips; ties: the greater strength"
    last_solution: str = "on training and validation clips"


@dataclass(frozen=True)
class WeightedSum(LogisticRegression):
    """The same regression on a weighted sum of all layers, the softmax of numbers that are minimised with it, 0 at first."""

    features: str = "each layer standardised by mean and deviation of the clips learned from"
    mixture: str = "softmax of one number per layer, minimised together with the regression"


@dataclass(frozen=True)
class Neighbours:
    """The vote of the nearest clips, which needs no training; under strict the validation clips vote too."""

    neighbours: int = 10
    distance: str = "cosine"
    vote: str = "by the inverse of the distance"


Training = AdamW | LogisticRegression | WeightedSum | Neighbours
PROBES = ("linear", "knn", "weighted_sum")


def has_seeds(training: Training) -> bool:
    """Whether there is anything random in it."""
    return isinstance(training, AdamW)


@dataclass(frozen=True)
class Protocol:
    """The facts of one protocol. `max_seconds` None is the corpus's own."""

    name: str
    version: str
    summary: str
    padding: Literal["max_length", "none"]
    pooling: str
    max_seconds: float | None
    label_column: Literal["arch_v1_label", "label"]  # "label" where a corpus has no column of the other name
    features: Literal["as they are", "standardised by mean and deviation of the clips learned from"]
    training: AdamW | LogisticRegression

    @property
    def is_strict(self) -> bool:
        """Whether embeddings are standardised, and validation clips learned from."""
        return isinstance(self.training, LogisticRegression)

    def training_of(self, probe: str) -> Training:
        """The numbers of a probe under this protocol: the linear one is its own."""
        return {"linear": self.training, "knn": Neighbours(), "weighted_sum": WeightedSum()}[probe]

    def max_seconds_for(self, corpus: Corpus) -> float | None:
        """Clips are cut to this many seconds."""
        return corpus.max_seconds if self.max_seconds is None else self.max_seconds

    def as_dict(self, corpus: Corpus, probe: str = "linear") -> dict[str, Any]:
        """Every number of the protocol for one corpus and probe, ready for JSON. Another probe than the linear one makes another protocol
        of it.

        Examples:
            >>> from types import SimpleNamespace
            >>> corpus = SimpleNamespace(name="esc50", task="single_label", metric="accuracy", max_seconds=5.0)
            >>> block = get_protocol("arch-v1").as_dict(corpus)
            >>> block["epochs"], block["learning_rate"], block["max_seconds"], block["splits"]["validation"]
            (200, 0.001, 5.0, 'random')
        """
        facts, numbers = asdict(self), asdict(self.training_of(probe))
        del facts["training"]
        if probe != "linear":
            facts["name"] += f"-{probe}"
        extras = {
            "max_seconds": self.max_seconds_for(corpus),
            "probe": probe,
            "metric": corpus.metric,
            "splits": asdict(split_rule(self, corpus)) | {"seed": SEED},
        }
        if "optimiser" in numbers:
            classes = "mean over the classes" if numbers["optimiser"] == "AdamW" else "one regression per class"
            one_label = corpus.task == "single_label"
            extras["loss"] = "cross-entropy" if one_label else f"binary cross-entropy, {classes}"
        block = facts | numbers | extras
        return {key: [*value] if isinstance(value, tuple) else value for key, value in block.items()}


@dataclass(frozen=True)
class Probes:
    """Which probes are trained on each fold.

    `probe` is "linear" (the protocol's), "knn" or "weighted_sum"; `seeds` how many with the seeds 0, 1, ... (of arch-v1's linear one: the others have
    nothing random); `shots` also trains the linear one on so many clips per class.
    """

    probe: str = "linear"
    seeds: int = 3
    shots: tuple[int, ...] = ()

    def __post_init__(self):
        if self.probe not in PROBES:
            raise UserError(f"unknown --probe {self.probe!r}: choose one of {', '.join(PROBES)}")
        if self.seeds < 1:
            raise UserError(f"--seeds is {self.seeds}: give the number of probe seeds, 1 or more")
        if self.shots and (self.probe != "linear" or min(self.shots) < 1):
            raise UserError("--shots takes numbers of clips per class, 1 or more, and goes with --probe linear")

    def seeds_under(self, protocol: Protocol) -> range:
        """The seeds of a fold's probes: one, where nothing is random."""
        return range(self.seeds if has_seeds(protocol.training_of(self.probe)) else 1)


SEED = 42  # of every random split: the paper's

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="arch-v1",
            version="2.0",
            summary="the paper's own, comparable with its Table 2",
            padding="max_length",
            pooling="mean over all frames, padding included",
            max_seconds=None,
            label_column="arch_v1_label",
            features="as they are",
            training=AdamW(),
        ),
        Protocol(
            name="strict",
            version="2.0",
            summary="native clip lengths, no leaks, a probe without seeds or rates",
            padding="none",
            pooling="mean over the clip's own frames",
            max_seconds=30.0,
            label_column="label",
            features="standardised by mean and deviation of the clips learned from",
            training=LogisticRegression(),
        ),
    )
}

# Per corpus: the rule of arch-v1 (the paper's program), and the rule of strict. A corpus that is not named
# (anybody's own data set) gets FOREIGN_RULES. The program joins the folds of ESC-50 and UrbanSound8K in the order in which their csv first names them:
# both are sorted by file name, which for ESC-50 is 1 2 3 4 5.
_RANDOM = SplitRule(validation="random")
_NEXT = SplitRule(validation="next_fold")
_OFFICIAL = SplitRule(validation="official")
_PAPER = SplitRule(column="arch_v1_split", validation="official")
_STRICT_NEXT = SplitRule(validation="next_fold", group_disjoint=True)
_STRICT_OFFICIAL = SplitRule(validation="official", group_disjoint=True)
_STRICT_RANDOM = SplitRule(validation="random", group_disjoint=True)
_US8K_ORDER = (5, 10, 2, 6, 1, 9, 7, 4, 3, 8)

SPLIT_RULES: Mapping[str, Mapping[str, SplitRule]] = {
    "esc50": {"arch-v1": SplitRule(validation="random", fold_order="first_clip"), "strict": _STRICT_NEXT},
    "us8k": {"arch-v1": SplitRule(validation="random", fold_order=_US8K_ORDER), "strict": _STRICT_NEXT},
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
# Of corpora whose real metadata were at hand: who trains, validates and tests under arch-v1, as `split_digest` sums it up. Derived anew from
# these metadata, apart from this package. A complete copy with another split was not prepared by this version.
PUBLISHED_SPLITS: Mapping[str, str] = {
    "esc50": "2f0afb81ab1b85f7",
    "us8k": "940ee332da794910",
    "fma_small": "5c502e106833ac2b",
    "medley_solos_db": "f0ac4d263dc2886d",
    "ravdess": "f75dbd94f06623c0",
    "audio_mnist": "85d640cb2cbe7a85",
    "emovo": "c0903895257141e4",
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
    """The protocols as two plain-text tables: the facts, then the splits of each corpus."""
    protocols = list(PROTOCOLS.values())
    rows = [["", *(f"{protocol.name} {protocol.version}" for protocol in protocols)]]
    facts = [field.name for field in fields(Protocol) if field.name not in ("name", "version", "training")]
    rows += [[key, *(_show(getattr(protocol, key)) for protocol in protocols)] for key in facts]
    training = [asdict(protocol.training) for protocol in protocols]
    for key in dict.fromkeys(key for numbers in training for key in numbers):
        rows.append([key, *(_show(numbers[key]) if key in numbers else "-" for numbers in training)])
    rules = [["corpus", *(protocol.name for protocol in protocols)]]
    for corpus, by_protocol in SPLIT_RULES.items():
        rules.append([corpus, *(_show_rule(by_protocol[protocol.name]) for protocol in protocols)])
    for shape, by_protocol in FOREIGN_RULES.items():
        rules.append([f"(any other, {shape})", *(_show_rule(by_protocol[protocol.name]) for protocol in protocols)])
    return f"{_align(rows)}\n\nSplits (random: seed {SEED})\n\n{_align(rules)}"


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} from {value[0]:g} to {value[-1]:g}, two a decade"
    return "the corpus's own" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _show_rule(rule: SplitRule) -> str:
    source = "the paper's split" if rule.column == "arch_v1_split" else "official"
    validation = {"official": "", "next_fold": ", validation = next fold"}.get(
        rule.validation, f", validation = random {rule.fraction:.0%}"
    )
    order = ""
    if rule.fold_order != "number":
        order = " of the folds " + (
            " ".join(map(str, rule.fold_order)) if rule.fold_order != "first_clip" else "by clip"
        )
    return source + validation + order + (", groups disjoint" if rule.group_disjoint else "")


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
