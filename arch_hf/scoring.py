"""From embeddings to the scores of one corpus: train the probes, score the test clips, put it into the result's words."""

from collections.abc import Sequence

import numpy as np
import torch

from arch_hf.corpora.spec import ClipTable, Corpus
from arch_hf.errors import UserError
from arch_hf.metrics.scores import score
from arch_hf.probe import Bench, Probe, Stream, train_probes
from arch_hf.protocols import Fold, Protocol


def score_corpus(
    features: np.ndarray,
    targets: np.ndarray,
    class_names: Sequence[str],
    folds: Sequence[Fold],
    protocol: Protocol,
    corpus: Corpus,
    table: ClipTable,
    seeds: int = 1,
    device: str | torch.device = "cpu",
    accelerator=None,
    progress: bool = True,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train and test the protocol's probe on every fold with every seed.

    Args:
        features: float32 [clips, dim], in the table's order.
        targets: int64 [clips], or multi-hot [clips, classes].
        seeds: how many probes per fold, seeds 0, 1, ...
        accelerator: an accelerate.Accelerator; its ranks share the runs, and each gets the whole result.

    Returns:
        (block, predictions): the part of the result JSON that comes from the probe, and the arrays stored beside it.

    Raises:
        UserError: embeddings that are not finite or far too large, or a test set that no score is defined on.
    """
    _check(features, targets, class_names, table)
    streams = [Stream(0, fold, index, seed) for index, fold in enumerate(folds) for seed in range(seeds)]
    rank, n_ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    bench = Bench(features[None], targets, len(class_names), device)
    probes = train_probes(bench, streams[rank::n_ranks], protocol, progress=progress and rank == 0)
    tested = [_test(bench, probe) for probe in probes]
    if n_ranks > 1:
        from accelerate.utils import gather_object

        tested = gather_object(tested)  # rank by rank
        order = [i for start in range(n_ranks) for i in range(start, len(streams), n_ranks)]
        tested = [tested[order.index(i)] for i in range(len(streams))]
    return _report(tested, targets, class_names, folds, corpus, table, seeds)


def _check(features: np.ndarray, targets: np.ndarray, class_names: Sequence[str], table: ClipTable) -> None:
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise UserError(
            f"the embedding of clip {table.clip_id[bad[0]]} is not finite ({len(bad)} in all); check the encoder"
        )
    if targets.ndim == 1 and len(targets) and (targets.min() < 0 or targets.max() >= len(class_names)):
        raise UserError(f"labels go from {targets.min()} to {targets.max()}, but there are {len(class_names)} classes")


def _test(bench: Bench, probe: Probe) -> dict:
    stream, test = probe.stream, probe.stream.fold.test
    weight = torch.zeros(bench.n_classes, bench.features.shape[1], device=bench.device)
    weight[:, : bench.dim], weight[:, bench.dim] = probe.weight, probe.bias
    scores = bench.rows(stream.layer, test) @ weight.T
    return {
        "fold": stream.fold_index,
        "seed": stream.seed,
        "learning_rate": probe.learning_rate,
        "epoch": probe.epoch,
        "validation": probe.validation,
        "scores": scores.cpu().numpy(),
    }


def _report(tested, targets, class_names, folds, corpus, table, seeds) -> tuple[dict, dict[str, np.ndarray]]:
    runs, by_seed = [], {}
    for run in tested:
        fold = folds[run["fold"]]
        metrics = score(run["scores"], targets[fold.test])
        if not all(np.isfinite(list(metrics.values()))):
            raise UserError(f"{corpus.name}, {fold.name}: no test clip has a label, so there is nothing to score")
        runs.append(
            {
                "fold": fold.name,
                "seed": run["seed"],
                "learning_rate": run["learning_rate"],
                "epoch": run["epoch"],
                "n_train": len(fold.train),
                "n_validation": len(fold.validation),
                "n_test": len(fold.test),
                "validation": run["validation"],
                "metrics": metrics,
            }
        )
        by_seed.setdefault(run["seed"], []).append(metrics)
    names = list(runs[0]["metrics"])
    summary = {}
    for name in names:
        values = np.array([run["metrics"][name] for run in runs])
        mean = np.mean([[fold[name] for fold in metrics] for metrics in by_seed.values()])
        summary[name] = {
            "mean": float(mean),
            "std": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
            "ci95": None,
        }
    block = {"metrics": summary, "runs": runs, "baselines": {}}
    predictions = {}
    return block, predictions
