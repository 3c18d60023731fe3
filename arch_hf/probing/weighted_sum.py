"""A linear probe on a learned weighted sum of all layers, off by default."""

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from arch_hf.probing.few_shot import as_arch_v1_trains
from arch_hf.probing.linear import (
    Outcome,
    ProbeData,
    RunKey,
    batches,
    initial_weights,
    learning_rate_factor,
    n_steps,
    run_generator,
)
from arch_hf.probing.protocols import Protocol
from arch_hf.progress import progress_bar


def weighted_sums(data: ProbeData, runs: Sequence[RunKey], protocol: Protocol, progress: bool = True) -> list[Outcome]:
    """A linear probe on a weighted sum of all layers, the softmax of learned numbers (as in SUPERB, arXiv 2105.01051).

    The numbers start at 0 and train with the probe, by the same optimiser at arch-v1's learning rate; the weights after the last
    epoch are kept. Each outcome's `kept` has the "layer_weights", which sum to 1.
    """
    protocol = as_arch_v1_trains(protocol)
    outcomes: dict[int, Outcome] = {}
    total = sum(n_steps(run, protocol) for run in runs)
    with progress_bar("weighted sum", total, progress, unit="step") as bar:
        for steps in sorted({n_steps(run, protocol) for run in runs}):
            together = [i for i, run in enumerate(runs) if n_steps(run, protocol) == steps]
            outcomes.update(zip(together, _train(data, [runs[i] for i in together], protocol, bar), strict=True))
    return [outcomes[i] for i in range(len(runs))]


def _train(data: ProbeData, runs: Sequence[RunKey], protocol: Protocol, bar: tqdm) -> list[Outcome]:
    """Streams of one number of steps, together; the loss is a sum over runs, so each has its own gradient."""
    generators = [run_generator(run) for run in runs]
    weights = torch.zeros(len(runs), data.width, data.n_classes)
    for position, generator in enumerate(generators):
        weight, bias = initial_weights(data.dim, data.n_classes, generator)
        weights[position, : data.dim], weights[position, data.dim] = weight.T, bias
    weights = weights.to(data.device).requires_grad_()
    mix = torch.zeros(len(runs), data.n_layers, device=data.device, requires_grad=True)
    optimiser = torch.optim.AdamW(
        [weights, mix],
        betas=(protocol.beta1, protocol.beta2),
        eps=protocol.epsilon,
        weight_decay=protocol.weight_decay,
    )
    blocks = [batches(data, run, protocol, generator) for run, generator in zip(runs, generators, strict=True)]
    layers = data.features.view(data.n_layers, data.n_clips + 1, data.width)
    steps, block = n_steps(runs[0], protocol), torch.empty(0)
    for step in range(steps):
        if not len(block):
            block = torch.stack([next(its_blocks) for its_blocks in blocks], dim=1).to(data.device)
        clips, block = block[0], block[1:]
        inputs = torch.einsum("sl,lsbw->sbw", mix.softmax(-1), layers[:, clips])
        sizes = (clips < data.n_clips).sum(-1)
        loss = (data.losses(inputs @ weights, data.targets[clips]) * (clips < data.n_clips)).sum(-1) / sizes
        optimiser.param_groups[0]["lr"] = protocol.learning_rates[0] * learning_rate_factor(
            step, steps, protocol.warmup_fraction
        )
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        bar.update(len(runs))
    with torch.no_grad():
        return [_outcome(data, run, layers, mix[i].softmax(-1), weights[i], protocol) for i, run in enumerate(runs)]


def _outcome(data: ProbeData, run: RunKey, layers, mix, weights, protocol: Protocol) -> Outcome:
    def scores(clips: np.ndarray) -> torch.Tensor:
        return torch.einsum("l,lcw->cw", mix, layers[:, torch.from_numpy(clips).to(data.device)]) @ weights

    fold, validation = run.fold, None
    if len(fold.validation):
        validation = data.headline_and_loss(scores(fold.validation), data.labels(fold.validation))[0].item()
    kept = {"learning_rate": protocol.learning_rates[0], "epoch": protocol.epochs, "layer_weights": tuple(mix.tolist())}
    return Outcome(run.fold_index, run.seed, scores(fold.test).cpu().numpy(), validation, kept)
