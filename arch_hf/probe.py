"""The linear probe: many small classifiers trained at once by batched matrix products.

A run is one probe: a fold, a seed, a learning rate (and a layer). All runs step together through their own batches: the gather, the
two matrix products and the AdamW update are one call each for all of them. Runs that differ only in the learning rate see
the same batches. A run's random numbers come from its seed and its fold alone, so it is the same probe alone and in company.

The bias is a weight like the others: the embeddings get a column of ones. One row of zeros more serves as filling for
batches that are short: a row of zeros adds nothing to a gradient.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm.auto import tqdm

from arch_hf.errors import UserError
from arch_hf.metrics.scores import average_precision
from arch_hf.protocols import Fold, Protocol

STATE_BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}  # weights, gradients and moments of the runs that train together
STEPS_AHEAD = 256  # batches are drawn for so many steps at a time


@dataclass(frozen=True)
class Stream:
    """One sequence of batches: the runs of one layer, fold and seed, one per learning rate."""

    layer: int
    fold: Fold
    fold_index: int
    seed: int


@dataclass(frozen=True)
class Probe:
    """One trained probe: scores are `embedding @ weight.T + bias`.

    `weight` float32 [classes, dim], `bias` float32 [classes], `learning_rate` and `epoch` (1 is the first) those that were kept,
    `validation` the headline metric on the validation clips, None without any.
    """

    stream: Stream
    weight: torch.Tensor
    bias: torch.Tensor
    learning_rate: float
    epoch: int
    validation: float | None


def learning_rate_factor(step: int, n_steps: int, warmup_fraction: float) -> float:
    """The learning rate at a step (0, 1, ...) as a fraction of its peak; 0 once the run is over.

    Example:
        >>> [learning_rate_factor(step, 100, 0.1) for step in (0, 5, 10, 55, 99, 100)]
        [0.0, 0.5, 1.0, 0.5, 0.0111..., 0.0]
    """
    n_warmup = round(warmup_fraction * n_steps)
    if step < n_warmup:
        return step / n_warmup
    return max(0, n_steps - step) / max(1, n_steps - n_warmup)


class Bench:
    """The shared copy of embeddings and targets on the device, in the shape that training wants.

    `features` float32 [layers * (clips + 1), width]: embeddings, a column of ones, zeros up to a multiple of 16; each layer ends
    with a row of zeros. `targets` float32 [clips + 1, classes], one-hot or multi-hot.
    """

    def __init__(self, features: np.ndarray, targets: np.ndarray, n_classes: int, device: str | torch.device):
        self.n_layers, self.n_clips, self.dim = features.shape
        self.n_classes = n_classes
        self.multi_label = targets.ndim == 2
        width = -(-(self.dim + 1) // 16) * 16
        shared = torch.zeros(self.n_layers, self.n_clips + 1, width, device=device)
        shared[:, :-1, : self.dim] = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        shared[:, :-1, self.dim] = 1
        self.features = shared.view(-1, width)
        labels = torch.zeros(self.n_clips + 1, n_classes)
        if self.multi_label:
            labels[:-1] = torch.from_numpy(np.asarray(targets, dtype=np.float32))
        else:
            labels[torch.arange(self.n_clips), torch.from_numpy(np.asarray(targets, dtype=np.int64))] = 1
        self.targets = labels.to(device)
        self.device = self.features.device

    def rows(self, layer: int, clips: np.ndarray) -> torch.Tensor:
        """Embeddings of these clips, with the column of ones: [clips, width]."""
        return self.features[torch.from_numpy(clips + layer * (self.n_clips + 1)).to(self.device)]

    def labels(self, clips: np.ndarray) -> torch.Tensor:
        return self.targets[torch.from_numpy(clips).to(self.device)]


def train_probes(bench: Bench, streams: Sequence[Stream], protocol: Protocol, progress: bool = True) -> list[Probe]:
    """Train all runs of the streams, and keep per stream the learning rate and epoch that the protocol says.

    Returns:
        One probe per stream, in order.

    Raises:
        UserError: training left float32's range (embeddings that are far too large).
    """
    per_stream = bench.features.shape[1] * bench.n_classes * 4 * 5 * len(protocol.learning_rates)
    size = max(1, STATE_BYTES["cuda" if bench.device.type == "cuda" else "cpu"] // per_stream)
    order = sorted(range(len(streams)), key=lambda i: len(streams[i].fold.train))  # like sizes step together
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    total = sum(_n_steps(streams[group[-1]], protocol) * len(group) for group in groups)
    probes: dict[int, Probe] = {}
    with tqdm(total=total, desc="probe", unit="step", disable=None if progress else True, leave=False) as bar:
        for group in groups:
            trained = _train_together(bench, [streams[i] for i in group], protocol, bar)
            probes.update(zip(group, trained, strict=True))
    return [probes[i] for i in range(len(streams))]


def _n_steps(stream: Stream, protocol: Protocol) -> int:
    return protocol.epochs * -(-len(stream.fold.train) // protocol.batch_size)


def initial_weights(dim: int, n_classes: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [classes, dim] and bias [classes] as torch.nn.Linear draws them: uniform within 1 / sqrt(dim)."""
    bound = dim**-0.5
    weight = torch.empty(n_classes, dim).uniform_(-bound, bound, generator=generator)
    return weight, torch.empty(n_classes).uniform_(-bound, bound, generator=generator)


def stream_generator(stream: Stream) -> torch.Generator:
    """The random numbers of a stream: first the initial weights, then one permutation of the train clips per epoch."""
    state = np.random.SeedSequence([stream.seed, stream.fold_index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def _batches(bench: Bench, stream: Stream, protocol: Protocol, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Blocks of batches, int64 [steps, batch]: rows of the shared embeddings, for ever; filling is the last row."""
    train = torch.from_numpy(stream.fold.train)
    n_batches = -(-len(train) // protocol.batch_size)
    block = torch.empty(0, protocol.batch_size, dtype=torch.int64)
    while True:
        blocks, length = [block], len(block)
        while length < STEPS_AHEAD:
            epoch = torch.full((n_batches * protocol.batch_size,), bench.n_clips)
            epoch[: len(train)] = train[torch.randperm(len(train), generator=generator)]
            blocks.append(epoch.view(n_batches, protocol.batch_size))
            length += n_batches
        block = torch.cat(blocks)
        yield block[:STEPS_AHEAD]
        block = block[STEPS_AHEAD:]


def _train_together(bench: Bench, streams: Sequence[Stream], protocol: Protocol, bar: tqdm) -> list[Probe]:
    rates, device = protocol.learning_rates, bench.device
    n_steps = [_n_steps(stream, protocol) for stream in streams]
    generators = [stream_generator(stream) for stream in streams]
    width = bench.features.shape[1]
    # [rates, streams, width, classes]: with the classes last, both products are fastest
    weights = torch.zeros(len(rates), len(streams), width, bench.n_classes)
    for position, generator in enumerate(generators):
        weight, bias = initial_weights(bench.dim, bench.n_classes, generator)
        weights[:, position, : bench.dim] = weight.T
        weights[:, position, bench.dim] = bias
    weights = weights.to(device)
    gradients = torch.zeros_like(weights)
    optimiser, schedules = _optimiser(weights, gradients, n_steps, protocol)
    batches = [
        _batches(bench, stream, protocol, generator) for stream, generator in zip(streams, generators, strict=True)
    ]
    keeper = _Keeper(bench, streams, protocol, weights)

    inputs = torch.empty(len(streams) * protocol.batch_size, width, device=device)
    labels = torch.empty(len(streams) * protocol.batch_size, bench.n_classes, device=device)
    shape = (len(streams), protocol.batch_size, -1)
    offsets = torch.tensor([stream.layer * (bench.n_clips + 1) for stream in streams]).view(-1, 1)
    for step in range(max(n_steps)):
        if step % STEPS_AHEAD == 0:
            clips = torch.stack([next(block) for block in batches], dim=1)  # [steps, streams, batch]
            sizes = (clips < bench.n_clips).sum(-1, keepdim=True) * (bench.n_classes if bench.multi_label else 1)
            scales = (1 / sizes).unsqueeze(-1).to(device)  # the loss is a mean over the batch (and the classes)
            rows = (clips + offsets).flatten(1).to(device)
            clips = clips.flatten(1).to(device)
        now = step % STEPS_AHEAD
        torch.index_select(bench.features, 0, rows[now], out=inputs)
        torch.index_select(bench.targets, 0, clips[now], out=labels)
        for rate in range(len(rates)):
            logits = torch.bmm(inputs.view(shape), weights[rate])
            errors = torch.sigmoid(logits) if bench.multi_label else torch.softmax(logits, -1)
            errors.sub_(labels.view(shape)).mul_(scales[now])
            torch.bmm(inputs.view(shape).mT, errors, out=gradients[rate])
        for group, (peak, total) in zip(optimiser.param_groups, schedules, strict=True):
            group["lr"] = peak * learning_rate_factor(step, total, protocol.warmup_fraction)
        optimiser.step()
        keeper.after(step + 1)
        bar.update(len(streams))
    return keeper.probes()


def _optimiser(weights, gradients, n_steps: Sequence[int], protocol: Protocol):
    """AdamW over the weights, one parameter group per learning rate and schedule, and (peak, steps) of each group."""
    groups, schedules = [], []
    for rate, peak in enumerate(protocol.learning_rates):
        for total in sorted(set(n_steps)):
            first, count = n_steps.index(total), n_steps.count(total)  # n_steps is sorted
            parameter = weights[rate, first : first + count]
            parameter.grad = gradients[rate, first : first + count]
            groups.append({"params": [parameter]})
            schedules.append((peak, total))
    betas = (protocol.beta1, protocol.beta2)
    optimiser = torch.optim.AdamW(
        groups, lr=0.0, betas=betas, eps=protocol.epsilon, weight_decay=protocol.weight_decay, fused=True
    )
    return optimiser, schedules


class _Keeper:
    """Watches the validation clips, and keeps the weights that the protocol keeps."""

    def __init__(self, bench: Bench, streams: Sequence[Stream], protocol: Protocol, weights: torch.Tensor):
        self.bench, self.streams, self.protocol, self.weights = bench, streams, protocol, weights
        self.best = torch.zeros_like(weights) if protocol.selects else weights
        shape = (len(protocol.learning_rates), len(streams))
        self.score = torch.full(shape, -1.0, dtype=torch.float64, device=bench.device)
        self.loss = torch.full(shape, torch.inf, dtype=torch.float64, device=bench.device)
        self.epoch = torch.zeros(shape, dtype=torch.int64, device=bench.device)
        self.n_batches = [-(-len(stream.fold.train) // protocol.batch_size) for stream in streams]
        self._validation: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def after(self, steps: int) -> None:
        """To be called after each step; acts where an epoch (or, if nothing is selected, the last epoch) of a stream ends."""
        for position, n_batches in enumerate(self.n_batches):
            epoch, rest = divmod(steps, n_batches)
            if rest == 0 and epoch <= self.protocol.epochs and (self.protocol.selects or epoch == self.protocol.epochs):
                self._look(position, epoch)

    def _look(self, position: int, epoch: int) -> None:
        stream, weights = self.streams[position], self.weights[:, position]
        if len(stream.fold.validation):
            score, loss = self._validate(stream, weights)
        else:
            score = loss = torch.zeros(len(weights), dtype=torch.float64, device=self.bench.device)
        if not self.protocol.selects:
            self.score[:, position], self.loss[:, position], self.epoch[:, position] = score, loss, epoch
            return
        best_score, best_loss = self.score[:, position], self.loss[:, position]
        better = (score > best_score) | ((score == best_score) & (loss < best_loss))
        self.score[:, position] = torch.where(better, score, best_score)
        self.loss[:, position] = torch.where(better, loss, best_loss)
        self.epoch[:, position] = torch.where(better, epoch, self.epoch[:, position])
        self.best[:, position] = torch.where(better.view(-1, 1, 1), weights, self.best[:, position])

    def _validate(self, stream: Stream, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Headline metric and mean loss of each learning rate on the validation clips: two float64 [rates]."""
        key = (stream.layer, stream.fold_index)
        if key not in self._validation:
            clips = stream.fold.validation
            self._validation[key] = (self.bench.rows(stream.layer, clips), self.bench.labels(clips))
        inputs, labels = self._validation[key]
        logits = inputs @ weights  # [rates, clips, classes]
        if self.bench.multi_label:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, labels.expand_as(logits), reduction="none"
            ).mean((1, 2))
            return average_precision(logits, labels).nanmean(-1).nan_to_num(0.0), loss.double()
        loss = -(torch.log_softmax(logits, -1) * labels).sum(-1).mean(-1)
        return (logits.argmax(-1) == labels.argmax(-1)).double().mean(-1), loss.double()

    def probes(self) -> list[Probe]:
        if not torch.isfinite(self.weights).all():
            largest = self.bench.features.abs().max().item()
            raise UserError(
                f"the probe's weights left float32's range: embeddings go up to {largest:.3g}; check the encoder (its dtype, its scale)"
            )
        probes = []
        for position, stream in enumerate(self.streams):
            scores, losses = self.score[:, position].tolist(), self.loss[:, position].tolist()
            rate = max(range(len(scores)), key=lambda j: (scores[j], -losses[j], -j))
            kept = self.best[rate, position]
            probes.append(
                Probe(
                    stream=stream,
                    weight=kept[: self.bench.dim].T.contiguous(),
                    bias=kept[self.bench.dim].clone(),
                    learning_rate=self.protocol.learning_rates[rate],
                    epoch=int(self.epoch[rate, position]),
                    validation=scores[rate] if len(stream.fold.validation) else None,
                )
            )
        return probes
