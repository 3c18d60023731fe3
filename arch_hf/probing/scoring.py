"""From embeddings to the scores of one corpus: train the probes, test them, and put it into the result's words."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import torch

from arch_hf.data.spec import ClipTable, Corpus
from arch_hf.distributed import share_out
from arch_hf.errors import UserError
from arch_hf.probing import other_probes
from arch_hf.probing.linear import Bench, Stream, apply_probe, train_probes
from arch_hf.probing.protocols import Fold, Protocol
from arch_hf.probing.summary import few_shot_block, summarise

PROBES = ("linear", "knn", "weighted_sum")
LAYER_BYTES = 1 << 30  # embeddings of the layers that are on the device together


def score_corpus(
    features: np.ndarray,
    targets: np.ndarray,
    class_names: Sequence[str],
    folds: Sequence[Fold],
    protocol: Protocol,
    corpus: Corpus,
    table: ClipTable,
    seeds: int = 3,
    device: str | torch.device = "cpu",
    accelerator=None,
    probe: str = "linear",
    shots: Sequence[int] = (),
    progress: bool = True,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train and test a probe on every fold with every seed.

    Args:
        features: float32 [clips, dim], in the table's order; [clips, layers, dim] for the probe "weighted_sum".
        targets: int64 [clips], or 0 and 1 [clips, classes].
        folds: of `plan_folds`.
        seeds: how many probes per fold (seeds 0, 1, ...).
        accelerator: an accelerate.Accelerator; its ranks share the runs, and each returns the whole result.
        probe: "linear" (the protocol's), "knn" or "weighted_sum" (see `arch_hf.probing.other_probes`).
        shots: also train the linear probe on so many clips per class, for the block's "few_shot".

    Returns:
        block: "metrics", "runs", "validation", "baselines", "per_class", "confusion", ... (see `arch_hf.probing.summary`).
        predictions: arrays to be stored beside the result, all that `arch-hf compare` needs.

    Raises:
        UserError: embeddings that are not finite or far too large, labels out of range, a test set with nothing to score.
    """
    if probe not in PROBES:
        raise UserError(f"unknown probe {probe!r}: choose one of {', '.join(PROBES)}")
    if probe == "linear":
        return next(
            score_layers(
                [features],
                targets,
                class_names,
                folds,
                protocol,
                corpus,
                table,
                seeds,
                device,
                accelerator,
                shots,
                progress,
            )
        )
    if shots:
        raise UserError(f"few-shot scores are the linear probe's: leave out --shots, or the probe {probe}")
    _check(features, targets, class_names, table)
    if probe == "knn":
        jobs = list(enumerate(folds))
        outcomes = share_out(
            accelerator, jobs, lambda mine: other_probes.knn(features, targets, len(class_names), mine)
        )
    else:
        bench = Bench(list(features.transpose(1, 0, 2)), targets, len(class_names), device)
        outcomes = share_out(
            accelerator,
            [Stream(0, index, fold, seed) for index, fold in enumerate(folds) for seed in range(seeds)],
            lambda mine: other_probes.weighted_sums(bench, mine, protocol, progress),
        )
    return share_out(
        accelerator, [outcomes], lambda mine: [summarise(o, targets, class_names, folds, corpus, table) for o in mine]
    )[0]


def score_layers(
    layers: Iterable[np.ndarray],
    targets: np.ndarray,
    class_names: Sequence[str],
    folds: Sequence[Fold],
    protocol: Protocol,
    corpus: Corpus,
    table: ClipTable,
    seeds: int = 3,
    device: str | torch.device = "cpu",
    accelerator=None,
    shots: Sequence[int] = (),
    progress: bool = True,
) -> Iterator[tuple[dict, dict[str, np.ndarray]]]:
    """`score_corpus` with the linear probe for each of many layers; yields one (block, predictions) per layer.

    `layers` are arrays float32 [clips, dim], taken one after the other; as many as fit into LAYER_BYTES train together.
    """
    for some in _by_bytes(layers, LAYER_BYTES):
        for features in some:
            _check(features, targets, class_names, table)
        bench = Bench(some, targets, len(class_names), device)
        n_classes = len(class_names)

        def train_and_test(streams: Sequence[Stream], rule: Protocol, bench=bench) -> list:
            return [apply_probe(bench, probe) for probe in train_probes(bench, streams, rule, progress)]

        n_runs = len(folds) * seeds
        streams = [
            Stream(layer, index, fold, seed)
            for layer in range(len(some))
            for index, fold in enumerate(folds)
            for seed in range(seeds)
        ]
        outcomes = share_out(accelerator, streams, lambda mine, go=train_and_test: go(mine, protocol))
        by_layer = [outcomes[start : start + n_runs] for start in range(0, len(outcomes), n_runs)]
        results = share_out(
            accelerator, by_layer, lambda mine: [summarise(o, targets, class_names, folds, corpus, table) for o in mine]
        )
        if shots:
            plan = other_probes.few_shot_streams(folds, targets, n_classes, shots, len(some))
            rule = other_probes.as_arch_v1_trains(protocol)
            jobs = list(chain.from_iterable(plan.values()))
            outcomes = share_out(accelerator, jobs, lambda mine, go=train_and_test, rule=rule: go(mine, rule))
            for layer, (block, _) in enumerate(results):
                block["few_shot"] = few_shot_block(plan, dict(zip(jobs, outcomes, strict=True)), layer, targets)
        yield from results


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


def _check(features: np.ndarray, targets: np.ndarray, class_names: Sequence[str], table: ClipTable) -> None:
    finite = np.isfinite(features).reshape(len(features), -1).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise UserError(
            f"the embedding of clip {table.clip_id[bad[0]]} is not finite ({len(bad)} such clips); check the encoder"
        )
    if targets.ndim == 1 and len(targets) and not 0 <= targets.min() <= targets.max() < len(class_names):
        raise UserError(f"labels go from {targets.min()} to {targets.max()}, but there are {len(class_names)} classes")
