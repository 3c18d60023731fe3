"""Checkpoints of a run: written aside, checksummed and renamed, the last few kept. No pickle: tensors as safetensors, the rest as JSON.

Nothing in them belongs to a process: what is drawn at random belongs to the micro-batch, and the place in the data is one for all. So a
run goes on from them on any number of processes.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from arch_hf.errors import UserError
from arch_hf.pretraining.processes import on_main
from arch_hf.pretraining.shards import sha256
from arch_hf.terminal import say

FOLDER, STATE, SUMS, DAMAGED = "checkpoints", "state.json", "sha256.json", "damaged-"
MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # of AdamW


def checkpoint_steps(output_dir: Path) -> dict[int, Path]:
    """The checkpoints of a run, by step, oldest first."""
    found = {}
    for path in (output_dir / FOLDER).glob("step-*"):
        if match := re.fullmatch(r"step-(\d+)", path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def save_checkpoint(
    accelerator: Accelerator,
    output_dir: Path,
    objective: nn.Module,
    optimizer: AcceleratedOptimizer,
    state: dict,
    keep: int,
) -> None:
    """Save model and optimiser, and `state`: what else the run needs to go on, JSON with "step" among it.

    Raises:
        UserError: if the disk cannot hold it. Nothing half-written stays.
    """
    on_main(accelerator, _save, output_dir, objective, optimizer, state, keep)


def _save(output_dir: Path, objective: nn.Module, optimizer: AcceleratedOptimizer, state: dict, keep: int) -> None:
    final = output_dir / FOLDER / f"step-{state['step']:07d}"
    aside = final.with_name(f".{final.name}.partial")
    try:
        _make_room(objective, aside, state["step"])
        save_file(_on_cpu(objective.state_dict()), aside / MODEL)
        save_file(_on_cpu(_moments(objective, optimizer)), aside / OPTIMIZER)
        (aside / STATE).write_text(json.dumps(state), encoding="utf-8")
        sums = {name: sha256(aside / name) for name in (MODEL, OPTIMIZER, STATE)}
        (aside / SUMS).write_text(json.dumps(sums), encoding="utf-8")
        for path in aside.iterdir():
            _to_disk(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _disk_reason(error, output_dir)
        shutil.rmtree(aside, ignore_errors=True)
        if reason is None:
            raise
        raise UserError(_cannot_write(output_dir, state["step"], reason)) from None
    if final.exists():
        shutil.rmtree(final)
    os.replace(aside, final)
    for old in list(checkpoint_steps(output_dir).values())[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _moments(objective: nn.Module, optimizer: AcceleratedOptimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state by the names of the parameters."""
    found: dict[str, torch.Tensor] = {}
    for name, parameter in objective.named_parameters():
        held = optimizer.optimizer.state.get(parameter, {})
        found |= {f"{moment}.{name}": torch.as_tensor(held[moment]) for moment in MOMENTS if moment in held}
    return found


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_room(objective: nn.Module, aside: Path, step: int) -> None:
    """Remove what a killed run left behind, and check that a checkpoint fits before writing it."""
    aside.parent.mkdir(parents=True, exist_ok=True)
    for leftover in aside.parent.glob(".step-*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    needed, free = checkpoint_bytes(objective), shutil.disk_usage(aside.parent).free
    if free < needed * 1.05:
        reason = f"it needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
        raise UserError(_cannot_write(aside.parent.parent, step, reason))
    aside.mkdir()


def checkpoint_bytes(objective: nn.Module) -> int:
    """How large a checkpoint is: the weights, and two moments of the same size."""
    return sum(3 * p.numel() * p.element_size() for p in objective.parameters())


def _disk_reason(error: Exception, output_dir: Path) -> str | None:
    """Whether an error while writing means a full disk. Serialisers wrap the system's error, so the disk is asked too."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return os.strerror(error.errno)
    if isinstance(error, SafetensorError | RuntimeError):
        free = shutil.disk_usage(output_dir).free
        if "space" in str(error) or "os error 28" in str(error) or free < 50e6:
            return f"{free / 1e6:.0f} MB are free"
    return None


def _cannot_write(output_dir: Path, step: int, reason: str) -> str:
    return f"no room for the checkpoint of step {step} in {output_dir}: {reason}; {last_whole(output_dir)}. Free space, then --resume"


def last_whole(output_dir: Path) -> str:
    """Where a stopped run can go on from, in words."""
    steps = list(checkpoint_steps(output_dir))
    return f"the last whole checkpoint is of step {steps[-1]}" if steps else "there is no checkpoint yet"


def newest_whole(output_dir: Path, note: Callable[[dict], None]) -> int:
    """The step of the newest checkpoint whose files are what was written. Damaged ones are put aside, said aloud and given to `note`.

    Raises:
        UserError: if none is whole.
    """
    found = checkpoint_steps(output_dir)
    for step, folder in reversed(found.items()):
        problem = _damage(folder)
        if problem is None:
            return step
        say(f"the checkpoint of step {step} is damaged ({problem}): going back to the one before")
        note({"step": step, "event": "damaged checkpoint", "reason": problem})
        aside = folder.with_name(DAMAGED + folder.name)
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
    raise UserError(none_whole(output_dir) or f"{output_dir}: no checkpoint is whole")


def none_whole(output_dir: Path) -> str | None:
    """What to say of a run of which all checkpoints are damaged, or None."""
    damaged = sorted(path.name.removeprefix(DAMAGED) for path in (output_dir / FOLDER).glob(f"{DAMAGED}*"))
    if not damaged or checkpoint_steps(output_dir):
        return None
    return f"{output_dir}: no checkpoint is whole ({', '.join(damaged)}); begin anew in another --output_dir"


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        for name in (MODEL, OPTIMIZER, STATE):
            if sha256(folder / name) != sums[name]:
                return f"{name} has another checksum"
        json.loads((folder / STATE).read_text(encoding="utf-8"))
    except OSError as error:
        return f"{Path(error.filename or folder).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return f"{SUMS} cannot be read"
    return None


def load_checkpoint(folder: Path, objective: nn.Module, optimizer: AcceleratedOptimizer) -> dict:
    """Restore model and optimiser → the `state` that was saved with them.

    Raises:
        UserError: if they are of another model.
    """
    try:
        objective.load_state_dict(load_file(folder / MODEL))
    except RuntimeError as error:
        raise UserError(f"{folder} does not fit this model: {str(error).splitlines()[0]}") from None
    moments = load_file(folder / OPTIMIZER)
    states = {}
    for number, (name, _) in enumerate(objective.named_parameters()):
        held = {moment: moments[f"{moment}.{name}"] for moment in MOMENTS if f"{moment}.{name}" in moments}
        if held:
            states[number] = held
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return json.loads((folder / STATE).read_text(encoding="utf-8"))
