"""Other probes on the same embeddings and the same folds, off by default: neighbours, few shots, a weighted sum of layers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from tqdm.auto import tqdm

from arch_hf.probing.linear import (
    Bench,
    Outcome,
    Stream,
    batches,
    initial_weights,
    learning_rate_factor,
    n_steps,
    stream_generator,
)
from arch_hf.probing.protocols import PROTOCOLS, Fold, Protocol

N_NEIGHBOURS = 10
FEW_SHOT_DRAWS = 10


def as_arch_v1_trains(protocol: Protocol) -> Protocol:
    """The protocol with arch-v1's one learning rate and no selection."""
    source = PROTOCOLS["arch-v1"]
    return replace(protocol, learning_rates=source.learning_rates, weights_kept=source.weights_kept)


def knn(features: np.ndarray, targets: np.ndarray, n_classes: int, folds: Sequence[tuple[int, Fold]]) -> list[Outcome]:
    """The 10 nearest train clips by cosine vote with the inverse of their distance (scikit-learn's weights="distance").

    There is nothing random in it, so one outcome per fold, as of seed 0.

    Example:
        >>> fold = Fold("test", train=np.array([0, 1]), validation=np.array([], int), test=np.array([2]))
        >>> features = np.float32([[1, 0], [0, 1], [0.9, 0.2]])
        >>> knn(features, np.array([0, 1, 0]), 2, [(0, fold)])[0].scores.argmax(1)
        array([0])
    """
    import sklearn
    from sklearn.neighbors import KNeighborsRegressor

    hot = np.eye(n_classes, dtype=np.float32)[targets] if targets.ndim == 1 else targets.astype(np.float32)
    outcomes = []
    for index, fold in folds:
        n_neighbours = min(N_NEIGHBOURS, len(fold.train))
        model = KNeighborsRegressor(n_neighbours, weights="distance", metric="cosine", algorithm="brute")
        with sklearn.config_context(working_memory=256):
            votes = model.fit(features[fold.train], hot[fold.train]).predict(features[fold.test])
        votes = votes.reshape(len(fold.test), n_classes).astype(np.float32)
        outcomes.append(Outcome(index, 0, votes, None, {"n_neighbours": n_neighbours}))
    return outcomes


def few_shot_streams(
    folds: Sequence[Fold], targets: np.ndarray, n_classes: int, shots: Sequence[int], n_layers: int = 1
) -> dict[int, list[Stream]]:
    """Training on few clips: for each number of shots the streams of FEW_SHOT_DRAWS draws from every fold's train clips.

    A draw takes `shots` clips of each class (all, where the class has fewer); of a multi-label clip every label counts as
    drawn, so that a class may get more. The seed of a stream is the number of its draw.
    """
    hot = np.eye(n_classes, dtype=bool)[targets] if targets.ndim == 1 else targets.astype(bool)
    plan: dict[int, list[Stream]] = {}
    for n_shots in shots:
        plan[n_shots] = []
        for index, fold in enumerate(folds):
            for draw in range(FEW_SHOT_DRAWS):
                order = np.random.default_rng([draw, index]).permutation(fold.train)
                few = replace(fold, train=np.sort(_draw(order, hot[order], n_shots)))
                plan[n_shots] += [Stream(layer, index, few, draw) for layer in range(n_layers)]
    return plan


def _draw(order: np.ndarray, hot: np.ndarray, n_shots: int) -> np.ndarray:
    chosen = np.zeros(len(order), bool)
    for label in np.argsort(hot.sum(0), kind="stable"):  # the rare classes first
        missing = n_shots - (hot[:, label] & chosen).sum()
        chosen[np.flatnonzero(hot[:, label] & ~chosen)[: max(missing, 0)]] = True
    return order[chosen]


def weighted_sums(bench: Bench, streams: Sequence[Stream], protocol: Protocol, progress: bool = True) -> list[Outcome]:
    """A linear probe on a weighted sum of all layers, the softmax of learned numbers (as in SUPERB, arXiv 2105.01051).

    The numbers start at 0 and train with the probe, by the same optimiser at arch-v1's learning rate; the weights after the last
    epoch are kept. Each outcome's `kept` has the "layer_weights", which sum to 1.
    """
    protocol = as_arch_v1_trains(protocol)
    outcomes: dict[int, Outcome] = {}
    total = sum(n_steps(stream, protocol) for stream in streams)
    with tqdm(total=total, desc="weighted sum", unit="step", disable=None if progress else True, leave=False) as bar:
        for steps in sorted({n_steps(stream, protocol) for stream in streams}):
            together = [i for i, stream in enumerate(streams) if n_steps(stream, protocol) == steps]
            outcomes.update(zip(together, _train(bench, [streams[i] for i in together], protocol, bar), strict=True))
    return [outcomes[i] for i in range(len(streams))]


def _train(bench: Bench, streams: Sequence[Stream], protocol: Protocol, bar: tqdm) -> list[Outcome]:
    """Streams of one number of steps, together; the loss is a sum over streams, so each has its own gradient."""
    generators = [stream_generator(stream) for stream in streams]
    weights = torch.zeros(len(streams), bench.width, bench.n_classes)
    for position, generator in enumerate(generators):
        weight, bias = initial_weights(bench.dim, bench.n_classes, generator)
        weights[position, : bench.dim], weights[position, bench.dim] = weight.T, bias
    weights = weights.to(bench.device).requires_grad_()
    mix = torch.zeros(len(streams), bench.n_layers, device=bench.device, requires_grad=True)
    optimiser = torch.optim.AdamW(
        [weights, mix],
        betas=(protocol.beta1, protocol.beta2),
        eps=protocol.epsilon,
        weight_decay=protocol.weight_decay,
    )
    blocks = [
        batches(bench, stream, protocol, generator) for stream, generator in zip(streams, generators, strict=True)
    ]
    layers = bench.features.view(bench.n_layers, bench.n_clips + 1, bench.width)
    steps, block = n_steps(streams[0], protocol), torch.empty(0)
    for step in range(steps):
        if not len(block):
            block = torch.stack([next(its_blocks) for its_blocks in blocks], dim=1).to(bench.device)
        clips, block = block[0], block[1:]
        inputs = torch.einsum("sl,lsbw->sbw", mix.softmax(-1), layers[:, clips])
        sizes = (clips < bench.n_clips).sum(-1)
        loss = (bench.losses(inputs @ weights, bench.targets[clips]) * (clips < bench.n_clips)).sum(-1) / sizes
        optimiser.param_groups[0]["lr"] = protocol.learning_rates[0] * learning_rate_factor(
            step, steps, protocol.warmup_fraction
        )
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        bar.update(len(streams))
    with torch.no_grad():
        return [
            _outcome(bench, stream, layers, mix[i].softmax(-1), weights[i], protocol)
            for i, stream in enumerate(streams)
        ]


def _outcome(bench: Bench, stream: Stream, layers, mix, weights, protocol: Protocol) -> Outcome:
    def scores(clips: np.ndarray) -> torch.Tensor:
        return torch.einsum("l,lcw->cw", mix, layers[:, torch.from_numpy(clips).to(bench.device)]) @ weights

    fold, validation = stream.fold, None
    if len(fold.validation):
        validation = bench.headline_and_loss(scores(fold.validation), bench.labels(fold.validation))[0].item()
    kept = {"learning_rate": protocol.learning_rates[0], "epoch": protocol.epochs, "layer_weights": mix.tolist()}
    return Outcome(stream.fold_index, stream.seed, scores(fold.test).cpu().numpy(), validation, kept)
