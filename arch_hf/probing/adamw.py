"""The probe of arch-v1: linear layers trained by AdamW as the paper's program trains them, many at once by batched matrix products.

A run is one probe: a layer, a fold and a seed. All runs step together, each through its own batches: the
gather, the two matrix products and the AdamW update are one call for all of them. A run's random numbers come from its seed and its
fold alone, so it is the same probe alone and in company.

The bias is a weight like the others: the embeddings get a column of ones. They also get a row of zeros, the filling of batches
that are short: it adds nothing to a gradient.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from arch_hf.compat.fused_adamw import adamw_step
from arch_hf.errors import UserError
from arch_hf.probing.metrics.scores import headline
from arch_hf.probing.protocols import AdamW
from arch_hf.probing.task import Outcome, RunKey
from arch_hf.progress import progress_bar

# Weights, gradients and moments of the runs that train together. On a CPU they should stay in its caches: at ESC-50's size 8 runs at
# a time took 0.77 of the time of all 15 together, and 4 at a time 0.94 (medians of five rounds in turns).
STATE_BYTES = {"cpu": 7 << 20, "cuda": 4 << 30}
STEPS_AHEAD = 256  # batches are drawn for so many steps at a time


@dataclass(frozen=True, eq=False)
class Probe:
    """One trained probe: scores are `embedding @ weight.T + bias`. `weight` float32 [classes, dim], `bias` float32 [classes]."""

    run: RunKey
    weight: torch.Tensor
    bias: torch.Tensor


class ProbeData:
    """The shared copy of embeddings and targets on the device, in the shape that training wants.

    `features` float32 [layers * (clips + 1), width]: embeddings, a column of ones, zeros up to a multiple of 16; each layer
    ends with a row of zeros. `targets` float32 [clips + 1, classes]: one-hot or multi-hot.

    Args:
        layers: float32 [clips, dim] each.
        targets: int64 [clips], or 0 and 1 [clips, classes].
    """

    def __init__(
        self, layers: Sequence[np.ndarray], targets: np.ndarray, n_classes: int, device: str | torch.device = "cpu"
    ):
        self.n_layers, (self.n_clips, self.dim) = len(layers), layers[0].shape
        self.n_classes, self.multi_label = n_classes, targets.ndim == 2
        self.width = -(-(self.dim + 1) // 16) * 16
        shared = torch.zeros(self.n_layers, self.n_clips + 1, self.width, device=device)
        for layer, features in enumerate(layers):
            shared[layer, :-1, : self.dim] = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        shared[:, :-1, self.dim] = 1
        self.features, self.device = shared.view(-1, self.width), shared.device
        labels = torch.zeros(self.n_clips + 1, n_classes)
        if self.multi_label:
            labels[:-1] = torch.from_numpy(targets.astype(np.float32))
        else:
            labels[torch.arange(self.n_clips), torch.from_numpy(targets)] = 1
        self.targets = labels.to(device)

    def inputs(self, layer: int, clips: np.ndarray) -> torch.Tensor:
        """Embeddings of these clips, with the column of ones: [clips, width]."""
        return self.features[torch.from_numpy(clips + layer * (self.n_clips + 1)).to(self.device)]

    def labels(self, clips: np.ndarray) -> torch.Tensor:
        return self.targets[torch.from_numpy(clips).to(self.device)]


def learning_rate_factor(step: int, per_epoch: int, training: AdamW) -> float:
    """The learning rate at a step (0, 1, ...) of a run with so many batches an epoch, as a fraction of its peak.

    The schedule is that of transformers' get_linear_schedule_with_warmup over all steps, but the paper's program steps it once more after each
    epoch: it runs ahead, and is over before the run is.

    Examples:
        >>> training = AdamW(epochs=20)
        >>> [round(learning_rate_factor(step, 5, training), 4) for step in (0, 4, 5, 10, 50, 82, 83)]
        [0.0, 0.4, 0.6, 0.9778, 0.4444, 0.0222, 0.0111]
    """
    total = training.epochs * per_epoch
    warmup = int(training.warmup_fraction * total)
    position = step + step // per_epoch
    if position < warmup:
        return position / warmup
    return max(0, total - position) / max(1, total - warmup)


def n_batches(run: RunKey, training: AdamW) -> int:
    """Batches of an epoch; the last one may be short."""
    return -(-len(run.fold.train) // training.batch_size)


def n_steps(run: RunKey, training: AdamW) -> int:
    """Optimiser steps until the schedule is over; what the program does afterwards, at a rate of 0, changes nothing."""
    per_epoch = n_batches(run, training)
    epochs, steps = divmod(training.epochs * per_epoch, per_epoch + 1)
    return epochs * per_epoch + steps


def initial_weights(dim: int, n_classes: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [classes, dim] and bias [classes] as torch.nn.Linear draws them: uniform within 1 / sqrt(dim)."""
    bound = dim**-0.5
    weight = torch.empty(n_classes, dim).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(n_classes).uniform_(-bound, bound, generator=generator)


def run_generator(run: RunKey) -> torch.Generator:
    """The random numbers of a run: first its initial weights, then one permutation of the train clips per epoch."""
    state = np.random.SeedSequence([run.seed, run.fold_index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def batches(data: ProbeData, run: RunKey, training: AdamW, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Blocks of STEPS_AHEAD batches, int64 [steps, batch], for ever: clips, and the number of clips as filling."""
    train, per_epoch = torch.from_numpy(run.fold.train), n_batches(run, training)
    block = torch.empty(0, training.batch_size, dtype=torch.int64)
    while True:
        epochs, ahead = [block], len(block)
        while ahead < STEPS_AHEAD:
            epoch = torch.full((per_epoch * training.batch_size,), data.n_clips)
            epoch[: len(train)] = train[torch.randperm(len(train), generator=generator)]
            epochs.append(epoch.view(per_epoch, -1))
            ahead += per_epoch
        block = torch.cat(epochs)
        yield block[:STEPS_AHEAD]
        block = block[STEPS_AHEAD:]


def train_probes(data: ProbeData, runs: Sequence[RunKey], training: AdamW, progress: bool = True) -> list[Probe]:
    """Train all runs.

    Returns:
        One probe per run, in order, with its last weights.

    Raises:
        UserError: training left float32's range (embeddings that are far too large).

    Examples:
        >>> from arch_hf.probing.task import Fold
        >>> fold = Fold("test", train=np.arange(8), validation=np.arange(0), test=np.arange(8))
        >>> features = np.repeat(np.eye(2, dtype=np.float32)[[0, 1] * 4], 100, axis=1)
        >>> data = ProbeData([features], np.array([0, 1] * 4), n_classes=2)
        >>> probe, = train_probes(data, [RunKey(0, 0, fold, seed=0)], AdamW(), progress=False)
        >>> apply_probe(data, probe).scores.argmax(1).tolist()
        [0, 1, 0, 1, 0, 1, 0, 1]
    """
    bytes_per_run = 5 * 4 * data.width * data.n_classes
    together = max(1, STATE_BYTES["cuda" if data.device.type == "cuda" else "cpu"] // bytes_per_run)
    order = sorted(range(len(runs)), key=lambda i: n_steps(runs[i], training))  # like sizes step together
    total = sum(n_steps(run, training) for run in runs)
    probes: dict[int, Probe] = {}
    with progress_bar("probe", total, progress, unit="step") as bar:
        for start in range(0, len(order), together):
            group = order[start : start + together]
            probes.update(zip(group, _train_together(data, [runs[i] for i in group], training, bar), strict=True))
    return [probes[i] for i in range(len(runs))]


def _train_together(data: ProbeData, runs: Sequence[RunKey], training: AdamW, bar: tqdm) -> list[Probe]:
    """Train runs that are sorted by their number of steps; those that are done wait, at a learning rate of 0."""
    totals = [n_steps(run, training) for run in runs]
    generators = [run_generator(run) for run in runs]
    # [runs, width, classes]: with the classes last both products are quick
    weights = torch.zeros(len(runs), data.width, data.n_classes)
    for position, generator in enumerate(generators):
        weight, bias = initial_weights(data.dim, data.n_classes, generator)
        weights[position, : data.dim], weights[position, data.dim] = weight.T, bias
    weights = weights.to(data.device)
    gradients = torch.zeros_like(weights)
    optimiser = _Optimiser(weights, gradients, [n_batches(run, training) for run in runs], training)

    blocks = [batches(data, run, training, generator) for run, generator in zip(runs, generators, strict=True)]
    offsets = torch.tensor([run.layer * (data.n_clips + 1) for run in runs]).view(-1, 1)
    inputs = weights.new_empty(len(runs), training.batch_size, data.width)
    labels = weights.new_empty(len(runs), training.batch_size, data.n_classes)
    flat_inputs, flat_labels = inputs.flatten(0, 1), labels.flatten(0, 1)
    for step in range(totals[-1]):
        ahead = step % STEPS_AHEAD
        if ahead == 0:
            clips = torch.stack([next(its_blocks) for its_blocks in blocks], dim=1)  # [steps, runs, batch]
            sizes = (clips < data.n_clips).sum(-1).view(-1, len(runs), 1, 1)
            scales = (1 / (sizes * data.n_classes if data.multi_label else sizes)).to(data.device)  # the loss is a mean
            rows = (clips + offsets).flatten(1).to(data.device)
            clips = clips.flatten(1).to(data.device)
        torch.index_select(data.features, 0, rows[ahead], out=flat_inputs)
        torch.index_select(data.targets, 0, clips[ahead], out=flat_labels)
        logits = torch.bmm(inputs, weights)
        errors = torch.sigmoid(logits) if data.multi_label else torch.softmax(logits, -1)
        errors.sub_(labels).mul_(scales[ahead])
        torch.bmm(inputs.mT, errors, out=gradients)
        optimiser.step(step)
        if ahead == STEPS_AHEAD - 1 or step == totals[-1] - 1:
            bar.update(sum(min(step + 1, total) - min(step - ahead, total) for total in totals))
    if not (torch.isfinite(weights).all() and torch.isfinite(optimiser.squares).all()):
        raise UserError(
            f"the probe left float32's range: embeddings reach {data.features.abs().max().item():.3g} in size; "
            "check the encoder's output (its dtype, its scale)"
        )
    return [
        Probe(run, weight[: data.dim].T.contiguous(), weight[data.dim].clone())
        for run, weight in zip(runs, weights, strict=True)
    ]


class _Optimiser:
    """AdamW for all runs: one call for those of one schedule."""

    def __init__(self, weights: torch.Tensor, gradients: torch.Tensor, per_epoch: Sequence[int], training: AdamW):
        moments, self.squares = torch.zeros_like(weights), torch.zeros_like(weights)
        self.training, self.count = training, torch.zeros((), device=weights.device)
        state = (weights, gradients, moments, self.squares)
        self.calls = []
        for batches_of_epoch in sorted(set(per_epoch)):  # runs are sorted: those of one schedule lie side by side
            first = per_epoch.index(batches_of_epoch)
            last = first + per_epoch.count(batches_of_epoch)
            weights, gradients, moments, squares = (tensor[first:last] for tensor in state)
            self.calls.append((batches_of_epoch, (weights, gradients, moments, squares)))

    def step(self, step: int) -> None:
        training = self.training
        self.count.fill_(step + 1)
        for per_epoch, tensors in self.calls:
            rate = training.learning_rate * learning_rate_factor(step, per_epoch, training)
            betas = (training.beta1, training.beta2)
            adamw_step(tensors, self.count, rate, betas, training.epsilon, training.weight_decay)


def apply_probe(data: ProbeData, probe: Probe) -> Outcome:
    """The probe's scores for the test clips of its fold."""
    run = probe.run

    def scores(clips: np.ndarray) -> torch.Tensor:
        return torch.addmm(probe.bias, data.inputs(run.layer, clips)[:, : data.dim], probe.weight.T)

    validation = None
    if len(run.fold.validation):
        labels = data.labels(run.fold.validation)
        validation = headline(scores(run.fold.validation), labels if data.multi_label else labels.argmax(-1))
    return Outcome(run.fold_index, run.seed, scores(run.fold.test).cpu().numpy(), len(run.fold.train), validation)
