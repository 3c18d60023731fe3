"""From embeddings to the scores of one corpus: train the probes, test them, put all runs together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import msgspec
import numpy as np

from arch_hf.distributed import Ranks
from arch_hf.errors import UserError
from arch_hf.probing import few_shot
from arch_hf.probing.adamw import ProbeData, apply_probe, train_probes
from arch_hf.probing.knn import knn
from arch_hf.probing.layers import Layers
from arch_hf.probing.protocols import AdamW, LogisticRegression, Probes, Protocol
from arch_hf.probing.record import Score, Scores
from arch_hf.probing.strict import fit_and_test
from arch_hf.probing.summary import few_shot_scores, summarise
from arch_hf.probing.task import Outcome, ProbeTask, RunKey
from arch_hf.probing.weighted_sum import weighted_sums

LAYER_BYTES = (
    1 << 28
)  # embeddings of the layers that are on the device together (strict holds them in double precision)

Predictions = dict[str, np.ndarray]


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
    for some in _by_bytes(layers, LAYER_BYTES):
        for features in some:
            _check_finite(features, task)
        yield from _score(some, task, protocol, probes, ranks, progress)


def _score(
    layers: list[np.ndarray], task: ProbeTask, protocol: Protocol, probes: Probes, ranks: Ranks, progress: bool
) -> list[tuple[Scores, Predictions]]:
    seeds, folds = probes.seeds_under(protocol), list(enumerate(task.folds))
    runs = [RunKey(layer, i, fold, seed) for layer in range(len(layers)) for i, fold in folds for seed in seeds]
    train_and_test = _trainer(layers, task, protocol, probes.probe, ranks, progress)
    outcomes = ranks.share_out(runs, train_and_test)
    n_runs = len(runs) // len(layers)
    by_layer = [outcomes[start : start + n_runs] for start in range(0, len(outcomes), n_runs)]
    use = validation_use(probes.probe, protocol)
    results = ranks.share_out(by_layer, lambda mine: [summarise(its, task, use) for its in mine])
    if probes.shots:
        plan = few_shot.few_shot_runs(task, probes.shots, len(layers))
        few = _trainer(layers, task, protocol, probes.probe, ranks, progress, few_shots=True)
        jobs = list(chain.from_iterable(plan.values()))
        answers = dict(zip(jobs, ranks.share_out(jobs, few), strict=True))
        results = [
            (msgspec.structs.replace(scores, few_shot=few_shot_scores(plan, answers, layer, task)), predictions)
            for layer, (scores, predictions) in enumerate(results)
        ]
    return results


def validation_use(probe: str, protocol: Protocol) -> str:
    """What validation clips are used for, in words for the result."""
    if isinstance(protocol.training_of(probe), LogisticRegression):
        return "to choose the strength, by their loss; the last solution learns from them too"
    if probe == "knn":
        return "they vote, as the train clips do" if protocol.is_strict else "nothing"
    return "nothing: they are only scored"


def _trainer(
    layers: list[np.ndarray],
    task: ProbeTask,
    protocol: Protocol,
    probe: str,
    ranks: Ranks,
    progress: bool,
    few_shots: bool = False,
) -> Callable[[Sequence[RunKey]], list[Outcome]]:
    """A function that trains and tests the probes of some runs. Of few shots the last solution learns from these clips alone."""
    targets, n_classes, device, training = task.targets, task.n_classes, ranks.device, protocol.training

    def train_and_test(runs: Sequence[RunKey]) -> list[Outcome]:
        if not runs:
            return []
        if probe == "knn":
            return [outcome for run in runs for outcome in knn(layers[run.layer], task, [run], protocol.is_strict)]
        if probe == "weighted_sum":
            return weighted_sums(layers[0], task, runs, device, progress)
        if isinstance(training, AdamW):
            data = ProbeData(layers, targets, n_classes, device)
            return [apply_probe(data, trained) for trained in train_probes(data, runs, training, progress)]
        # of all folds, not of these runs: every process and every group of runs shall compute with the same numbers
        learned = np.unique(np.concatenate([part for fold in task.folds for part in (fold.train, fold.validation)]))
        matrices = Layers.of(layers, targets, n_classes, device, learned)
        return fit_and_test(matrices, runs, training.strengths, not few_shots, progress)

    return train_and_test


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
    parts = ranks.share_out(kinds, lambda mine: [training_free(features, task, [kind]) for kind in mine])
    return {kind: scores for part in parts for kind, scores in part.items()}
