"""From embeddings to the scores of one corpus: train the probes, test them, put all runs together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import msgspec
import numpy as np

from arch_hf.distributed import Ranks
from arch_hf.errors import UserError
from arch_hf.probing import few_shot
from arch_hf.probing.knn import knn
from arch_hf.probing.linear import ProbeData, RunKey, apply_probe, train_probes
from arch_hf.probing.protocols import Protocol
from arch_hf.probing.record import Score, Scores
from arch_hf.probing.summary import few_shot_scores, summarise
from arch_hf.probing.task import ProbeTask
from arch_hf.probing.weighted_sum import weighted_sums

PROBES = ("linear", "knn", "weighted_sum")
LAYER_BYTES = 1 << 30  # embeddings of the layers that are on the device together

Predictions = dict[str, np.ndarray]


@dataclass(frozen=True)
class Probes:
    """Which probes are trained on each fold.

    `probe` is "linear" (the protocol's), "knn" or "weighted_sum"; `seeds` how many with the seeds 0, 1, ...; `shots` also trains the linear one on so
    many clips per class.
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


def score_layers(
    layers: Iterable[np.ndarray],
    task: ProbeTask,
    protocol: Protocol,
    probes: Probes,
    ranks: Ranks,
    progress: bool = True,
) -> Iterator[tuple[Scores, Predictions]]:
    """Train and test a probe on every fold with every seed, for each of many layers; yields one (scores, predictions) per layer.

    Args:
        layers: arrays float32 [clips, dim] in the order of the task's table, taken one after the other, as many at a time as fit into
            LAYER_BYTES; for the probe "weighted_sum" one array [clips, layers, dim].
        task: what is to be learned.
        protocol: the numbers of the training.
        probes: which probes.
        ranks: they share the runs, and each gets the whole result.

    Raises:
        UserError: embeddings that are not finite or far too large, a test set with nothing to score.
    """
    progress = progress and ranks.is_main
    if probes.probe != "linear":
        for features in layers:
            _check_finite(features, task)
            yield _score_other(features, task, protocol, probes, ranks, progress)
        return
    for some in _by_bytes(layers, LAYER_BYTES):
        for features in some:
            _check_finite(features, task)
        yield from _score_linear(some, task, protocol, probes, ranks, progress)


def _score_linear(
    layers: list[np.ndarray], task: ProbeTask, protocol: Protocol, probes: Probes, ranks: Ranks, progress: bool
) -> list[tuple[Scores, Predictions]]:
    data = ProbeData(layers, task.targets, task.n_classes, ranks.device)

    def train_and_test(runs: Sequence[RunKey], rule: Protocol) -> list:
        return [apply_probe(data, probe) for probe in train_probes(data, runs, rule, progress)]

    runs = [run for layer in range(len(layers)) for run in _runs_of(layer, task, probes)]
    outcomes = ranks.share_out(runs, lambda mine: train_and_test(mine, protocol))
    n_runs = len(runs) // len(layers)
    by_layer = [outcomes[start : start + n_runs] for start in range(0, len(outcomes), n_runs)]
    results = ranks.share_out(by_layer, lambda mine: [summarise(layer_outcomes, task) for layer_outcomes in mine])
    if probes.shots:
        plan = few_shot.few_shot_runs(task, probes.shots, len(layers))
        rule = few_shot.as_arch_v1_trains(protocol)
        jobs = list(chain.from_iterable(plan.values()))
        answers = dict(zip(jobs, ranks.share_out(jobs, lambda mine: train_and_test(mine, rule)), strict=True))
        results = [
            (msgspec.structs.replace(scores, few_shot=few_shot_scores(plan, answers, layer, task)), predictions)
            for layer, (scores, predictions) in enumerate(results)
        ]
    return results


def _score_other(
    features: np.ndarray, task: ProbeTask, protocol: Protocol, probes: Probes, ranks: Ranks, progress: bool
) -> tuple[Scores, Predictions]:
    if probes.probe == "knn":
        outcomes = ranks.share_out(list(enumerate(task.folds)), lambda mine: knn(features, task, mine))
    else:
        data = ProbeData(list(features.transpose(1, 0, 2)), task.targets, task.n_classes, ranks.device)
        runs = list(_runs_of(0, task, probes))
        outcomes = ranks.share_out(runs, lambda mine: weighted_sums(data, mine, protocol, progress))
    return ranks.share_out([outcomes], lambda mine: [summarise(all_outcomes, task) for all_outcomes in mine])[0]


def _runs_of(layer: int, task: ProbeTask, probes: Probes) -> Iterator[RunKey]:
    for index, fold in enumerate(task.folds):
        for seed in range(probes.seeds):
            yield RunKey(layer, index, fold, seed)


def _by_bytes(layers: Iterable[np.ndarray], limit: int) -> Iterator[list[np.ndarray]]:
    """Lists of arrays that together stay under the limit; at least one in each."""
    some: list[np.ndarray] = []
    for features in layers:
        if some and sum(other.nbytes for other in some) + features.nbytes > limit:
            yield some
            some = []
        some.append(features)
    if some:
        yield some


def _check_finite(features: np.ndarray, task: ProbeTask) -> None:
    finite = np.isfinite(features).reshape(len(features), -1).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise UserError(
            f"the embedding of clip {task.table.clip_id[bad[0]]} is not finite ({len(bad)} such clips); check the encoder"
        )


def score_vectors(
    kinds: Sequence[str], read: Callable[[], np.ndarray], task: ProbeTask, ranks: Ranks
) -> dict[str, dict[str, Score]]:
    """What the vectors say without training: kind -> metric -> score. The processes share the kinds out, and each gets the whole.

    Args:
        kinds: of `arch_hf.probing.training_free`; where there are none, nothing is read.
        read: gives the vectors, float32 [clips, dim], in the order of the task's table.
    """
    if not kinds:
        return {}
    from arch_hf.probing.training_free import training_free  # scikit-learn takes seconds to import

    features = read()
    found = ranks.share_out(kinds, lambda mine: [training_free(features, task, [kind]) for kind in mine])
    return {kind: scores for part in found for kind, scores in part.items()}
