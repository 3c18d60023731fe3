"""One optimiser step: `take_step`."""

import contextlib
import itertools
import math
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import gather_object
from torch import nn

from arch_hf.pretraining.batching import MicroBatch
from arch_hf.pretraining.hubert import HubertObjective
from arch_hf.pretraining.recipes import Recipe
from arch_hf.pretraining.targets import ClusterTargets, normalise
from arch_hf.pretraining.wav2vec2 import Wav2Vec2Objective

Objective = HubertObjective | Wav2Vec2Objective
SMALLEST_SCALE = 1.0  # an overflow at a loss scale above it is fp16's, below it is the model's


@dataclass
class Training:
    """What a step works on. `model` is what accelerate made of the objective, for several processes; `label` gives HuBERT's targets."""

    accelerator: Accelerator
    recipe: Recipe
    objective: Objective
    model: nn.Module
    optimizer: AcceleratedOptimizer
    label: ClusterTargets | None

    def inputs(self, batch: MicroBatch) -> tuple[torch.Tensor, ...]:
        """A micro-batch on the device, as the objective takes it."""
        device = self.accelerator.device
        waveforms = batch.waveforms.to(device, non_blocking=True)
        goal = batch.goal.to(device, non_blocking=True)
        if self.label is not None and goal.numel() == 0:
            goal = self.label(waveforms)
        mask, masked = (tensor.to(device, non_blocking=True) for tensor in (batch.mask, batch.masked))
        return normalise(waveforms) if self.recipe.normalise else waveforms, mask, masked, goal


@dataclass
class Outcome:
    """What a step came to, over all processes."""

    row: dict  # a row of `Metrics`
    broken: list[tuple[str, str]]  # clips that could not be used
    suspects: list[str]  # clips of the micro-batches that were not finite, if the step was not
    save: bool
    stop: bool


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """The rate of a step (from 0), as fairseq's polynomial_decay gives it: rising linearly, then falling linearly towards 0.

    Examples:
        >>> from arch_hf.pretraining.recipes import get_recipe
        >>> recipe = get_recipe("hubert", "tiny", ["max_steps=10", "warmup_fraction=0.2", "learning_rate=1"])
        >>> [learning_rate_at(step, recipe) for step in (0, 1, 2, 6, 9)]
        [0.5, 0.5, 1.0, 0.5, 0.125]
    """
    warmup = round(recipe.warmup_fraction * recipe.max_steps)
    if step < warmup:
        return recipe.learning_rate * max(step, 1) / warmup
    return recipe.learning_rate * max(0.0, (recipe.max_steps - step) / max(1, recipe.max_steps - warmup))


def take_step(training: Training, step: int, batches: list[MicroBatch], asked: tuple[bool, bool]) -> Outcome:
    """Train on this process's share of a step's micro-batches. A step whose loss or gradient is not finite changes nothing.

    `asked` is what signals asked this process for, (save, stop); all processes hear of it.
    """
    accelerator, recipe, optimizer = training.accelerator, training.recipe, training.optimizer
    world, device = accelerator.num_processes, accelerator.device
    training.objective.set_step(step)
    rate = learning_rate_at(step, recipe)
    for group in optimizer.param_groups:
        group["lr"] = rate
    # The loss is a mean over the masked frames of all processes.
    n_masked = torch.tensor([float(sum(batch.n_masked for batch in batches))], device=device).sum()
    # None at all, where no clip could be used, makes loss and gradient NaN: such a step changes nothing.
    n_masked = accelerator.reduce(n_masked)
    zero = torch.zeros((), device=device)
    sums: dict[str, torch.Tensor] = {}
    finite = []
    for number, batch in enumerate(batches, start=1):
        # Dropout, layer drop and Gumbel noise belong to the micro-batch, not to the process that it falls to.
        torch.manual_seed(batch.seed)
        with accelerator.no_sync(training.model) if number < len(batches) else contextlib.nullcontext():
            values = training.model(*training.inputs(batch))
            used = 0.0 if batch.empty else 1.0
            # The loss is a sum over processes; DDP takes the mean of their gradients.
            accelerator.backward(values.pop("objective") * used * world / n_masked)
        for name, value in values.items():
            sums[name] = sums.get(name, zero) + used * value.detach().float()
        finite.append(torch.isfinite(values["loss"]))
    norm = float(accelerator.clip_grad_norm_(training.model.parameters(), recipe.max_gradient_norm or math.inf))

    # What happened, over all processes, before the weights move.
    extra = [sum(batch.seconds for batch in batches), sum(len(batch.broken) for batch in batches), *map(float, asked)]
    local = torch.stack([*sums.values(), *torch.tensor(extra, dtype=torch.float32, device=device)])
    *totals, seconds, n_broken, save, stop = accelerator.reduce(local).tolist()
    count = n_masked.item() or math.nan
    row = {name: value / count for name, value in zip(sums, totals, strict=True)}
    row |= {"step": step + 1, "gradient_norm": norm, "learning_rate": rate, "audio_seconds": seconds}
    row |= judge(row, accelerator.scaler)
    if accelerator.scaler is not None or row["kept"]:
        optimizer.step()  # with a loss scale, it sees to it itself that an overflow changes nothing but the scale
    optimizer.zero_grad()

    broken = itertools.chain.from_iterable(batch.broken for batch in batches)
    bad = [batch for batch, good in zip(batches, finite, strict=True) if row["not_finite"] and not good.item()]
    suspects = [name for batch in bad for name in batch.names]
    if math.isnan(count):
        suspects = [name for batch in batches for name, _ in batch.broken]
    return Outcome(
        row,
        gather_object(list(broken)) if n_broken else [],
        sorted(set(gather_object(suspects))) if row["not_finite"] else [],
        save=bool(save),
        stop=bool(stop),
    )


def judge(row: dict, scaler) -> dict:
    """Whether a step counts: `kept`; if not, `overflow` where fp16's loss scale was too large, else `not_finite`."""
    finite = math.isfinite(row["loss"]) and math.isfinite(row["gradient_norm"])
    if scaler is None:
        return {"kept": finite, "not_finite": not finite}
    scale = float(scaler.get_scale())
    overflow = not finite and math.isfinite(row["loss"]) and scale > SMALLEST_SCALE
    return {"kept": finite, "not_finite": not finite and not overflow, "overflow": overflow, "loss_scale": scale}
