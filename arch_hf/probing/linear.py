"""The linear probe: many small classifiers trained at once by batched matrix products.

A run is one probe: a layer, a fold, a seed and a learning rate. All runs step together, each through its own batches: the
gather, the two matrix products and the AdamW update are one call for all of them. Runs that differ only in the learning
rate (one run) see the same batches. A run's random numbers come from its seed and its fold alone, so it is the same probe
alone and in company.

The bias is a weight like the others: the embeddings get a column of ones. They also get a row of zeros, the filling of batches
that are short: it adds nothing to a gradient.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from arch_hf.errors import UserError
from arch_hf.probing.metrics.scores import average_precision
from arch_hf.probing.protocols import Protocol
from arch_hf.probing.task import Fold
from arch_hf.progress import progress_bar

# Weights, gradients and moments of the runs that train together. On a CPU they should stay in its caches: at ESC-50's size 8 runs at
# a time took 0.77 of the time of all 15 together, and 4 at a time 0.94 (medians of five rounds in turns).
STATE_BYTES = {"cpu": 7 << 20, "cuda": 4 << 30}
STEPS_AHEAD = 256  # batches are drawn for so many steps at a time


@dataclass(frozen=True, eq=False)
class RunKey:
    """One sequence of batches: the runs of one layer, fold and seed, one per learning rate."""

    layer: int
    fold_index: int
    fold: Fold
    seed: int


@dataclass(frozen=True, eq=False)
class Probe:
    """One trained probe: scores are `embedding @ weight.T + bias`.

    `weight` float32 [classes, dim], `bias` float32 [classes]; `learning_rate` and `epoch` (1 is the first) are those that were
    kept; `validation` is the headline metric on the validation clips, None without any.
    """

    run: RunKey
    weight: torch.Tensor
    bias: torch.Tensor
    learning_rate: float
    epoch: int
    validation: float | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a probe says of its fold's test clips: `scores` float32 [clips, classes]. `kept` goes into the result as it is."""

    fold_index: int
    seed: int
    scores: np.ndarray
    validation: float | None
    kept: dict = field(default_factory=dict)


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

    def losses(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of each clip, [..., clips]: cross-entropy, or binary cross-entropy, mean over the classes."""
        if self.multi_label:
            labels = labels.expand_as(logits)
            return F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)
        return -(torch.log_softmax(logits, -1) * labels).sum(-1)

    def headline_and_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Accuracy or macro mAP, and mean loss: logits [..., clips, classes] to two float64 [...]."""
        loss = self.losses(logits, labels).mean(-1).double()
        if self.multi_label:
            return average_precision(logits, labels).nanmean(-1).nan_to_num(0.0), loss
        return (logits.argmax(-1) == labels.argmax(-1)).double().mean(-1), loss


def learning_rate_factor(step: int, total: int, warmup_fraction: float) -> float:
    """The learning rate at a step (0, 1, ...) as a fraction of its peak; 0 once the run is over.

    Example:
        >>> [round(learning_rate_factor(step, 100, 0.1), 4) for step in (0, 5, 10, 55, 99, 100)]
        [0.0, 0.5, 1.0, 0.5, 0.0111, 0.0]
    """
    warmup = round(warmup_fraction * total)
    if step < warmup:
        return step / warmup
    return max(0, total - step) / max(1, total - warmup)


def n_steps(run: RunKey, protocol: Protocol) -> int:
    """Optimiser steps of a run; the last batch of an epoch may be short."""
    return protocol.epochs * -(-len(run.fold.train) // protocol.batch_size)


def initial_weights(dim: int, n_classes: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [classes, dim] and bias [classes] as torch.nn.Linear draws them: uniform within 1 / sqrt(dim)."""
    bound = dim**-0.5
    weight = torch.empty(n_classes, dim).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(n_classes).uniform_(-bound, bound, generator=generator)


def run_generator(run: RunKey) -> torch.Generator:
    """The random numbers of a run: first its initial weights, then one permutation of the train clips per epoch."""
    state = np.random.SeedSequence([run.seed, run.fold_index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def batches(data: ProbeData, run: RunKey, protocol: Protocol, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Blocks of STEPS_AHEAD batches, int64 [steps, batch], for ever: clips, and the number of clips as filling."""
    train = torch.from_numpy(run.fold.train)
    per_epoch = -(-len(train) // protocol.batch_size)
    block = torch.empty(0, protocol.batch_size, dtype=torch.int64)
    while True:
        epochs, ahead = [block], len(block)
        while ahead < STEPS_AHEAD:
            epoch = torch.full((per_epoch * protocol.batch_size,), data.n_clips)
            epoch[: len(train)] = train[torch.randperm(len(train), generator=generator)]
            epochs.append(epoch.view(per_epoch, -1))
            ahead += per_epoch
        block = torch.cat(epochs)
        yield block[:STEPS_AHEAD]
        block = block[STEPS_AHEAD:]


def train_probes(data: ProbeData, runs: Sequence[RunKey], protocol: Protocol, progress: bool = True) -> list[Probe]:
    """Train all runs of the runs, and keep per run the learning rate and epoch that the protocol keeps.

    Returns:
        One probe per run, in order.

    Raises:
        UserError: training left float32's range (embeddings that are far too large).

    Example:
        >>> from arch_hf.probing.protocols import PROTOCOLS
        >>> fold = Fold("test", train=np.arange(8), validation=np.arange(0), test=np.arange(8))
        >>> features = np.repeat(np.eye(2, dtype=np.float32)[[0, 1] * 4], 100, axis=1)
        >>> data = ProbeData([features], np.array([0, 1] * 4), n_classes=2)
        >>> probe, = train_probes(data, [RunKey(0, 0, fold, seed=0)], PROTOCOLS["arch-v1"], progress=False)
        >>> probe.epoch, apply_probe(data, probe).scores.argmax(1).tolist()
        (200, [0, 1, 0, 1, 0, 1, 0, 1])
    """
    bytes_per_run = 5 * 4 * data.width * data.n_classes * len(protocol.learning_rates)
    together = max(1, STATE_BYTES["cuda" if data.device.type == "cuda" else "cpu"] // bytes_per_run)
    order = sorted(range(len(runs)), key=lambda i: n_steps(runs[i], protocol))  # like sizes step together
    total = sum(n_steps(run, protocol) for run in runs)
    probes: dict[int, Probe] = {}
    with progress_bar("probe", total, progress, unit="step") as bar:
        for start in range(0, len(order), together):
            group = order[start : start + together]
            probes.update(zip(group, _train_together(data, [runs[i] for i in group], protocol, bar), strict=True))
    return [probes[i] for i in range(len(runs))]


def _train_together(data: ProbeData, runs: Sequence[RunKey], protocol: Protocol, bar: tqdm) -> list[Probe]:
    """Train runs that are sorted by their number of steps; those that are done wait, at a learning rate of 0."""
    rates, device = protocol.learning_rates, data.device
    totals = [n_steps(run, protocol) for run in runs]
    generators = [run_generator(run) for run in runs]
    # [rates, runs, width, classes]: with the classes last both products are quick
    weights = torch.zeros(len(rates), len(runs), data.width, data.n_classes)
    for position, generator in enumerate(generators):
        weight, bias = initial_weights(data.dim, data.n_classes, generator)
        weights[:, position, : data.dim], weights[:, position, data.dim] = weight.T, bias
    weights = weights.to(device)
    gradients = torch.zeros_like(weights)
    optimiser = _AdamW(weights, gradients, totals, protocol)
    keeper = _Keeper(data, runs, protocol, weights)

    blocks = [batches(data, run, protocol, generator) for run, generator in zip(runs, generators, strict=True)]
    offsets = torch.tensor([run.layer * (data.n_clips + 1) for run in runs]).view(-1, 1)
    inputs = torch.empty(len(runs), protocol.batch_size, data.width, device=device)
    labels = torch.empty(len(runs), protocol.batch_size, data.n_classes, device=device)
    flat_inputs, flat_labels = inputs.flatten(0, 1), labels.flatten(0, 1)
    for step in range(totals[-1]):
        ahead = step % STEPS_AHEAD
        if ahead == 0:
            clips = torch.stack([next(its_blocks) for its_blocks in blocks], dim=1)  # [steps, runs, batch]
            sizes = (clips < data.n_clips).sum(-1).view(-1, len(runs), 1, 1)
            scales = (1 / (sizes * data.n_classes if data.multi_label else sizes)).to(device)  # the loss is a mean
            rows = (clips + offsets).flatten(1).to(device)
            clips = clips.flatten(1).to(device)
        torch.index_select(data.features, 0, rows[ahead], out=flat_inputs)
        torch.index_select(data.targets, 0, clips[ahead], out=flat_labels)
        for rate in range(len(rates)):
            logits = torch.bmm(inputs, weights[rate])
            errors = torch.sigmoid(logits) if data.multi_label else torch.softmax(logits, -1)
            errors.sub_(labels).mul_(scales[ahead])
            torch.bmm(inputs.mT, errors, out=gradients[rate])
        optimiser.step(step)
        keeper.after(step + 1)
        if ahead == STEPS_AHEAD - 1 or step == totals[-1] - 1:
            bar.update(sum(min(step + 1, total) - min(step - ahead, total) for total in totals))
    if not (torch.isfinite(weights).all() and torch.isfinite(optimiser.squares).all()):
        raise UserError(
            f"the probe left float32's range: embeddings reach {data.features.abs().max().item():.3g} in size; "
            "check the encoder's output (its dtype, its scale)"
        )
    return keeper.probes()


class _AdamW:
    """PyTorch's fused AdamW for all runs: one call per learning rate and schedule.

    The kernel is that of torch.optim.AdamW(fused=True); that class's own bookkeeping would cost as much as the small kernels do.
    """

    def __init__(self, weights: torch.Tensor, gradients: torch.Tensor, totals: Sequence[int], protocol: Protocol):
        self.moments, self.squares = torch.zeros_like(weights), torch.zeros_like(weights)
        self.protocol = protocol
        self.count = torch.zeros((), device=weights.device)
        self.calls = []
        for rate, peak in enumerate(protocol.learning_rates):
            for total in sorted(set(totals)):  # totals are sorted: runs of one schedule lie side by side
                first, last = totals.index(total), totals.index(total) + totals.count(total)
                state = (weights, gradients, self.moments, self.squares)
                self.calls.append((peak, total, [[tensor[rate, first:last]] for tensor in state]))

    def step(self, step: int) -> None:
        protocol = self.protocol
        self.count.fill_(step + 1)
        for peak, total, tensors in self.calls:
            torch._fused_adamw_(
                *tensors,
                [],
                [self.count],
                lr=peak * learning_rate_factor(step, total, protocol.warmup_fraction),
                beta1=protocol.beta1,
                beta2=protocol.beta2,
                weight_decay=protocol.weight_decay,
                eps=protocol.epsilon,
                amsgrad=False,
                maximize=False,
            )


class _Keeper:
    """Watches the validation clips, and keeps the weights that the protocol keeps."""

    def __init__(self, data: ProbeData, runs: Sequence[RunKey], protocol: Protocol, weights: torch.Tensor):
        self.data, self.runs, self.protocol, self.weights = data, runs, protocol, weights
        self.best = torch.zeros_like(weights) if protocol.selects else weights
        shape = (len(protocol.learning_rates), len(runs))
        self.score = torch.full(shape, -1.0, dtype=torch.float64, device=data.device)
        self.loss = torch.full(shape, torch.inf, dtype=torch.float64, device=data.device)
        self.epoch = torch.full(shape, protocol.epochs, device=data.device)
        self.per_epoch = [-(-len(run.fold.train) // protocol.batch_size) for run in runs]
        self.looks = self._looks()
        self._validation: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def _looks(self) -> dict[int, list[tuple[int, int]]]:
        """At which steps there is something to look at: step -> (position, epoch) of the runs that end an epoch there (their
        last epoch, if nothing is selected)."""
        looks: dict[int, list[tuple[int, int]]] = {}
        first = 1 if self.protocol.selects else self.protocol.epochs
        for position, (run, per_epoch) in enumerate(zip(self.runs, self.per_epoch, strict=True)):
            if len(run.fold.validation):
                for epoch in range(first, self.protocol.epochs + 1):
                    looks.setdefault(epoch * per_epoch, []).append((position, epoch))
        return looks

    def after(self, steps: int) -> None:
        """To be called after each step."""
        for position, epoch in self.looks.get(steps, ()):
            self._look(position, epoch)

    def _look(self, position: int, epoch: int) -> None:
        weights = self.weights[:, position]
        score, loss = self._validate(self.runs[position], weights)
        best_score, best_loss = self.score[:, position], self.loss[:, position]
        better = (score > best_score) | ((score == best_score) & (loss < best_loss))
        self.score[:, position] = torch.where(better, score, best_score)
        self.loss[:, position] = torch.where(better, loss, best_loss)
        if self.protocol.selects:
            self.epoch[:, position] = torch.where(better, epoch, self.epoch[:, position])
            self.best[:, position] = torch.where(better.view(-1, 1, 1), weights, self.best[:, position])

    def _validate(self, run: RunKey, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Headline metric and mean loss of each learning rate on the validation clips: two float64 [rates]."""
        key, clips = (run.layer, run.fold_index), run.fold.validation
        if key not in self._validation:
            self._validation[key] = self.data.inputs(run.layer, clips), self.data.labels(clips)
        inputs, labels = self._validation[key]
        return self.data.headline_and_loss(inputs @ weights, labels)

    def probes(self) -> list[Probe]:
        """Of each run the best learning rate: by score, then loss, then the smaller rate."""
        probes = []
        for position, run in enumerate(self.runs):
            scores, losses = self.score[:, position].tolist(), self.loss[:, position].tolist()
            rate = max(range(len(scores)), key=lambda j: (scores[j], -losses[j], -j))
            kept = self.best[rate, position]
            probes.append(
                Probe(
                    run=run,
                    weight=kept[: self.data.dim].T.contiguous(),
                    bias=kept[self.data.dim].clone(),
                    learning_rate=self.protocol.learning_rates[rate],
                    epoch=int(self.epoch[rate, position]),
                    validation=scores[rate] if len(run.fold.validation) else None,
                )
            )
        return probes


def apply_probe(data: ProbeData, probe: Probe) -> Outcome:
    """The probe's scores for the test clips of its fold."""
    run = probe.run
    inputs = data.inputs(run.layer, run.fold.test)[:, : data.dim]
    scores = torch.addmm(probe.bias, inputs, probe.weight.T).cpu().numpy()
    kept = {"learning_rate": probe.learning_rate, "epoch": probe.epoch}
    return Outcome(run.fold_index, run.seed, scores, probe.validation, kept)
