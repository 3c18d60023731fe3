"""What the probes of one corpus came to, as typed values: the part of a result that is made here."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct

Fraction = Annotated[float, Meta(ge=0, le=1)]
KINDS = ("retrieval", "clustering", "pairs")  # of questions that need no training (see `arch_hf.probing.training_free`)
Count = Annotated[int, Meta(ge=0)]


class Score(Struct, frozen=True, kw_only=True):
    """One metric, as fractions: `mean` over folds without weights, then over seeds; `std_folds`, the sample standard deviation over folds of
    their mean over seeds; `std_seeds`, over seeds of their mean over folds (null where there is but one); the 95 % interval."""

    mean: Fraction
    std_folds: float | None = None
    std_seeds: float | None = None
    ci95: tuple[Fraction, Fraction] | None = None


class Run(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fold with one seed: how many clips, what the probe kept, and its metrics on the test clips.

    `n_train` counts the clips that the last solution learned from; `validation` is the headline metric on the validation clips, of a solution
    that has not learned from them. `strength` is that of the penalty, chosen by `validation_loss`; `grid_edge`: it is the greatest or the
    smallest of the grid, so that a better one may lie beyond. `learning_rate` and `epoch` are those that version 1.0 of the protocols chose.
    """

    fold: str
    seed: int
    n_train: Count = 0
    n_validation: Count = 0
    n_test: Count = 0
    left_out_for_leakage: Count = 0
    metrics: dict[str, Fraction] = {}
    validation: Fraction | None = None
    validation_loss: float | None = None
    strength: float | None = None
    grid_edge: Literal["greatest", "smallest"] | None = None
    learning_rate: float | None = None
    epoch: int | None = None
    n_neighbours: int | None = None
    layer_weights: tuple[float, ...] | None = None


class ClassScore(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"class_name": "class"}):
    """One class: precision, recall and F1 over all folds, or average precision (null where no test clip is of it)."""

    class_name: str
    n_test: Count = 0
    precision: Fraction | None = None
    recall: Fraction | None = None
    f1: Fraction | None = None
    average_precision: Fraction | None = None


class FewShot(Struct, frozen=True, kw_only=True):
    """The linear probe on so many clips per class."""

    draws: Count
    metrics: dict[str, dict[str, float]]


class Scores(Struct, frozen=True, kw_only=True):
    """The scores of one model on one corpus at one layer.

    Attributes:
        metrics: by name; see `Score`. The intervals are explained in `arch_hf.probing.statistics`.
        runs: one per fold and seed.
        validation: the headline metric on validation, mean over the runs; null without validation clips.
        validation_use: what the validation clips were used for, in words.
        baselines: "majority" (each fold's most frequent train class for all, or its train frequencies as scores), and
            "human" where published: name -> metric -> fraction.
        per_class: the classes in order, over all folds, means over seeds.
        confusion: [true class][predicted class], clips, sum over folds, mean over seeds; null for several labels a clip.
        classes_without_positives: of several labels a clip: fold -> classes that no test clip has, left out of its mean.
        left_out_for_leakage, split_notes: how many clips were left out, and where the rule of the splits had to give way.
        split_digest: who trains, validates and tests, by clip id (see `arch_hf.probing.splits.split_digest`).
        probe_notes: what a reader should know of the solutions.
        bootstrap: how the intervals came about.
        few_shot: shots -> their scores.
    """

    metrics: dict[str, Score]
    runs: tuple[Run, ...] = ()
    validation: dict[str, Fraction] | None = None
    validation_use: str | None = None
    baselines: dict[str, dict[str, Fraction]] = {}
    per_class: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[float, ...], ...] | None = None
    classes_without_positives: dict[str, tuple[str, ...]] = {}
    left_out_for_leakage: Count = 0
    split_notes: tuple[str, ...] = ()
    split_digest: str | None = None
    probe_notes: tuple[str, ...] = ()
    bootstrap: dict[str, Any] = {}
    few_shot: dict[str, FewShot] = {}


def score_of_runs(runs: Sequence[Run], metric: str, ci95: tuple[float, float] | None) -> Score:
    """One metric over all runs; every fold has every seed, so that the plain mean is the mean of means.

    Examples:
        >>> runs = [Run(fold=f, seed=s, metrics={"accuracy": v}) for f, s, v in
        ...         (("a", 0, 0.1), ("a", 1, 0.3), ("b", 0, 0.5), ("b", 1, 0.7))]
        >>> score = score_of_runs(runs, "accuracy", None)
        >>> round(score.mean, 3), round(score.std_folds, 3), round(score.std_seeds, 3)
        (0.4, 0.283, 0.141)
    """
    values = [run.metrics[metric] for run in runs]
    folds: dict[str, list[float]] = {}
    seeds: dict[int, list[float]] = {}
    for run, value in zip(runs, values, strict=True):
        folds.setdefault(run.fold, []).append(value)
        seeds.setdefault(run.seed, []).append(value)
    over = [[float(np.mean(part)) for part in by.values()] for by in (folds, seeds)]
    std_folds, std_seeds = (float(np.std(means, ddof=1)) if len(means) > 1 else None for means in over)
    return Score(mean=float(np.mean(values)), std_folds=std_folds, std_seeds=std_seeds, ci95=ci95)
