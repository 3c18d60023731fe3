"""What the probes of one corpus have to learn, who trains and who tests, and what a probe says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arch_hf.data.spec import ClipTable
from arch_hf.errors import UserError


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


@dataclass(frozen=True, eq=False)
class ProbeTask:
    """The task of one corpus under one protocol.

    Attributes:
        name: of the corpus, for messages.
        metric: the headline metric, "accuracy" or "map_macro".
        table: the clips that can be used, in order; what follows is in its order.
        targets: int64 [clips] class indices, or float32 multi-hot [clips, classes].
        class_names: in the order of the indices.
        folds: who trains, validates and tests.
        human_accuracy: in [0, 1], where published.
    """

    name: str
    metric: str
    table: ClipTable
    targets: np.ndarray
    class_names: Sequence[str]
    folds: Sequence[Fold]
    human_accuracy: float | None = None

    def __post_init__(self):
        targets, n = self.targets, len(self.class_names)
        if targets.ndim == 1 and len(targets) and not 0 <= targets.min() <= targets.max() < n:
            raise UserError(
                f"{self.name}: labels go from {targets.min()} to {targets.max()}, but there are {n} classes"
            )

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True, eq=False)
class RunKey:
    """One probe to train: at a layer, on the clips of a fold, with a seed where it is drawn at random."""

    layer: int
    fold_index: int
    fold: Fold
    seed: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a probe says of its fold's test clips: `scores` float32 [clips, classes]; it has learned from `n_train` clips.

    `validation` is the headline metric on the validation clips, None without any, NaN where none has a label; `kept` goes into the result as it is.
    """

    fold_index: int
    seed: int
    scores: np.ndarray
    n_train: int
    validation: float | None
    kept: dict[str, Any] = field(default_factory=dict)
