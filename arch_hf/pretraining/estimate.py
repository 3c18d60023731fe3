"""What a run will take, before it is begun: `--dry_run`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from arch_hf.compat.fake_tensors import owner, without_memory
from arch_hf.errors import UserError
from arch_hf.pretraining import shards, sources
from arch_hf.pretraining.architecture import frames_of
from arch_hf.pretraining.batching import Plan
from arch_hf.pretraining.clips import Clips
from arch_hf.pretraining.hubert import HubertObjective
from arch_hf.pretraining.options import Options, advice, recipe_of
from arch_hf.pretraining.recipes import SAMPLING_RATE, Recipe, differences
from arch_hf.pretraining.runs import index_folders
from arch_hf.pretraining.wav2vec2 import Wav2Vec2Objective


class Gpu(NamedTuple):
    """An accelerator: dense bf16 matrix products (fp16 where it has no bf16) and memory, by its maker's data sheet."""

    tflops: float
    gigabytes: float


GPUS = {
    "v100": Gpu(125, 32),
    "t4": Gpu(65, 16),
    "l4": Gpu(121, 24),
    "a10g": Gpu(70, 24),
    "a100": Gpu(312, 80),
    "l40s": Gpu(362, 48),
    "h100": Gpu(989, 80),
    "h200": Gpu(989, 141),
    "mi300x": Gpu(1307, 192),
}
# Shares of the peak that runs reach. wav2vec 2.0 base took 64 V100 1.6 days for 400,000 steps (section 4.2): 10 % as operations are
# counted here. 40 % is what well-kept training of Transformers reaches; no run of this program on a GPU stands behind it.
UTILISATION = (0.1, 0.4)
MASKED = 0.5  # of the frames, for counting
OPTIMISER_BYTES = 16  # to a parameter: weight, gradient and two moments in fp32


@dataclass
class Cost:
    """What a model costs: parameters; operations of a micro-batch as `clips · (linear · s + quadratic · s²)`, s the crop's seconds;
    and bytes that a second of audio holds between forward and backward pass."""

    parameters: int
    linear: float
    quadratic: float
    activation_bytes: float

    def operations(self, clips: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        return clips * (self.linear * seconds + self.quadratic * seconds**2)


def measure_cost(recipe: Recipe, low_precision: bool = True) -> Cost | None:
    """Count a model's cost by running it on tensors without memory; None where torch cannot. In bf16 or fp16 where `low_precision`.

    A multiplication and an addition count as two operations.
    """
    long, short = recipe.crop_seconds, recipe.crop_seconds / 2
    half = _run_without_memory(recipe, short, low_precision)
    full = _run_without_memory(recipe, long, low_precision)
    if half is None or full is None:
        return None
    few, (many, held, parameters) = half[0], full
    quadratic = (many / long - few / short) / (long - short)
    return Cost(parameters, many / long - quadratic * long, quadratic, held / long)


def _run_without_memory(recipe: Recipe, seconds: float, low_precision: bool) -> tuple[int, int, int] | None:
    """One clip forward and backward → (operations, bytes held for the backward pass, parameters)."""
    mode = without_memory()
    if mode is None:
        return None
    held: dict[int, tuple[torch.Tensor, int]] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        held[owner(tensor)] = tensor, tensor.untyped_storage().nbytes()
        return tensor

    counter, samples = FlopCounterMode(display=False), int(seconds * SAMPLING_RATE)
    with mode, counter:
        objective = HubertObjective(recipe) if recipe.objective == "hubert" else Wav2Vec2Objective(recipe)
        objective.train()
        for module in objective.modules():
            # Which of its layers to drop is drawn, and without memory there is no number to draw.
            if hasattr(module, "layers"):
                module.training = False
        frames = frames_of(samples)
        mask = torch.empty(1, frames, dtype=torch.bool)
        masked = torch.empty(int(MASKED * frames), dtype=torch.int64)
        goal = torch.empty(len(masked), recipe.negatives, dtype=torch.int64)
        goal = torch.empty(1, frames, dtype=torch.int64) if recipe.objective == "hubert" else goal
        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
                value = objective(torch.empty(1, samples), mask, masked, goal)["objective"]
            value.backward()
        weights = {owner(parameter) for parameter in objective.parameters()}
        parameters = sum(parameter.numel() for parameter in objective.parameters())
    activations = sum(size for key, (_, size) in held.items() if key not in weights)
    return counter.get_total_flops(), activations, parameters


@dataclass
class Schedule:
    """What an epoch of the real plan comes to."""

    clips: int
    hours: float  # of audio
    micro_batches: int
    mean_clips: float
    mean_seconds: float  # of a micro-batch
    most_seconds: float
    heard_hours: float  # of crops
    cropped: float  # the share of what could be heard that is lost by cropping to the shortest of a micro-batch
    operations: float  # of a micro-batch, on average


def simulate(clips: Clips, recipe: Recipe, seed: int, cost: Cost | None) -> Schedule:
    """Plan one epoch."""
    plan = Plan(clips, recipe, seed)
    sizes, crops, whole = [], [], 0.0
    longest = round(recipe.crop_seconds * SAMPLING_RATE)
    for number, blocks in enumerate(plan.windows(0)):
        for chosen, samples in plan.groups(0, number, blocks):
            sizes.append(len(chosen))
            crops.append(samples)
            whole += float(np.minimum(clips.samples[chosen], longest).sum())
    size, crop = np.array(sizes), np.array(crops) / SAMPLING_RATE
    seconds = size * crop
    return Schedule(
        clips=int(size.sum()),
        hours=clips.hours,
        micro_batches=len(size),
        mean_clips=float(size.mean()),
        mean_seconds=float(seconds.mean()),
        most_seconds=float(seconds.max()),
        heard_hours=float(seconds.sum()) / 3600,
        cropped=1 - float(seconds.sum()) * SAMPLING_RATE / whole,
        operations=float(cost.operations(size, crop).mean()) if cost else 0.0,
    )


def dry_run(options: Options, gpu: str | None) -> str:
    """What a run would take, in words. Nothing is written.

    Raises:
        UserError: for an unknown GPU, a dataset that is not prepared, or no usable clip.
    """
    if gpu is not None and gpu.lower() not in GPUS:
        raise UserError(f"--dry_run {gpu}: known are {', '.join(GPUS)}")
    options.check()
    recipe = recipe_of(options)
    clips = _clips(options, recipe)
    cost = measure_cost(recipe)
    schedule = simulate(clips, recipe, options.settings().seed, cost)
    lines = [f"{recipe.objective} {recipe.size}: {recipe.source}", *_data_lines(recipe, schedule)]
    if cost is None:
        lines.append("operations and memory: this version of torch cannot count them beforehand")
    else:
        lines += _cost_lines(recipe, schedule, cost, gpu)
    lines += [
        f"where the sources do not agree: {each.number}: {each.here}; {each.other}" for each in differences(recipe)
    ]
    return "\n".join([*lines, *(f"note: {text}" for text in advice(recipe))])


def _clips(options: Options, recipe: Recipe) -> Clips:
    prepared = [Path(name) for name in options.audio if shards.read_manifest(Path(name))]
    if prepared:
        if len(prepared) < len(options.audio):
            raise UserError(f"--audio: {prepared[0]} is prepared audio, and the others are not: prepare them too")
        clips = Clips(prepared)
        if int(clips.samples.max(initial=0)) < round(recipe.min_seconds * SAMPLING_RATE):
            raise UserError(f"--audio: all of {len(clips)} clips are below {recipe.min_seconds:g} s")
        return clips
    if sources.is_dataset(options.audio):
        raise UserError(
            f"--dry_run: how long the clips of {options.audio[0]} are is known once arch-hf prepare-audio has prepared it"
        )
    with tempfile.TemporaryDirectory() as folder:
        index_folders(options.audio, recipe.min_seconds, Path(folder) / "clips.arrow", options.segments)
        return Clips([Path(folder)])


def _scaled(value: float, units: dict[str, float], digits: int) -> str:
    """In the largest of the units of which it is a quarter or more, else in the smallest; two digits where so few decimals would show none.

    Example:
        >>> [_scaled(hours, HOURS, 1) for hours in (4910.1, 0.02, 0.002)], [_scaled(gb, BYTES, 2) for gb in (1.14, 0.0034, 0)]
        (['4,910.1 h', '1.2 min', '7.2 s'], ['1.14 GB', '3.40 MB', '0 kB'])
    """
    name = next((name for name, size in units.items() if value >= size / 4), [*units][-1])
    number = value / units[name]
    return (f"{number:,.{digits}f}" if number >= 10.0**-digits else f"{number:.2g}") + f" {name}"


HOURS = {"h": 1.0, "min": 1 / 60, "s": 1 / 3600}
GPU_HOURS = {f"GPU-{name}": size for name, size in {"hours": 1.0, "minutes": 1 / 60, "seconds": 1 / 3600}.items()}
BYTES = {"GB": 1.0, "MB": 1e-3, "kB": 1e-6}


def _data_lines(recipe: Recipe, schedule: Schedule) -> list[str]:
    steps = recipe.max_steps
    per_step = recipe.micro_batches * schedule.mean_seconds / 3600
    epochs = steps * recipe.micro_batches / schedule.micro_batches
    return [
        f"audio: {_scaled(schedule.hours, HOURS, 1)}; {schedule.clips:,} clips in {schedule.micro_batches:,} micro-batches an epoch, "
        f"{schedule.mean_clips:.1f} clips and {schedule.mean_seconds:.1f} s each",
        f"nothing is padded; cropping to the shortest of a micro-batch leaves out {100 * schedule.cropped:.2f} %",
        f"steps: {steps:,} of {recipe.micro_batches} micro-batches, {_scaled(per_step, HOURS, 3)} of audio each: {_scaled(per_step * steps, HOURS, 0)}, {epochs:,.1f} epochs",
    ]


def memory_of(recipe: Recipe, schedule: Schedule, cost: Cost) -> float:
    """Gigabytes on each GPU: weights, gradients, optimiser, and what the largest micro-batch holds."""
    return (OPTIMISER_BYTES * cost.parameters + cost.activation_bytes * schedule.most_seconds) / 1e9


def gpu_hours(recipe: Recipe, schedule: Schedule, gpu: Gpu) -> tuple[float, float]:
    """Hours of one GPU at the best and at the papers' utilisation."""
    total = schedule.operations * recipe.micro_batches * recipe.max_steps
    low, high = (total / (gpu.tflops * 1e12 * share) / 3600 for share in UTILISATION[::-1])
    return low, high


def _cost_lines(recipe: Recipe, schedule: Schedule, cost: Cost, name: str | None) -> list[str]:
    memory, weights = memory_of(recipe, schedule, cost), cost.parameters / 1e9
    lines = [
        f"model: {_scaled(cost.parameters / 1e6, {'M': 1.0, 'k': 1e-3}, 1)} parameters; a checkpoint has {_scaled(12 * weights, BYTES, 2)}, an export {_scaled(4 * weights, BYTES, 2)}",
        f"memory on each GPU, in bf16 or fp16: about {_scaled(memory, BYTES, 1)} ({_scaled(OPTIMISER_BYTES * weights, BYTES, 1)} of it for weights, gradients and "
        "optimiser); --gradient_checkpointing lowers the rest",
        f"operations: {schedule.operations * recipe.micro_batches:.3g} a step, {schedule.operations * recipe.micro_batches * recipe.max_steps:.3g} in all",
    ]
    if name is None:
        return [*lines, f"hours: name a GPU, --dry_run {'|'.join(GPUS)}"]
    gpu = GPUS[name.lower()]
    low, high = gpu_hours(recipe, schedule, gpu)
    best, worst = UTILISATION[::-1]
    lines.append(
        f"{name} ({gpu.tflops:g} TFLOP/s, {gpu.gigabytes:g} GB): {_scaled(low, GPU_HOURS, 0)} at {100 * best:.0f} % of its peak, {_scaled(high, GPU_HOURS, 0)} at {100 * worst:.0f} %, "
        "which wav2vec 2.0's own run reached on V100; on "
        + ", ".join(
            f"{n}: {_scaled(low / n, HOURS, 1)} to {_scaled(high / n, HOURS, 1)}"
            for n in (1, 8, 32)
            if recipe.micro_batches % n == 0
        )
    )
    rate = recipe.max_steps * recipe.micro_batches * schedule.mean_seconds / (low * 3600)
    lines.append(f"data, at {100 * best:.0f} %: {rate:,.0f} s of audio a second for each GPU")
    if memory > gpu.gigabytes:
        lines.append(
            "that is more memory than it has: --gradient_checkpointing, or halve micro_batch_seconds and double micro_batches"
        )
    return lines
