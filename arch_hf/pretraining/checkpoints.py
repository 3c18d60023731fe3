"""Checkpoints of a run: written aside and renamed, the last few kept, and refused when they belong to another configuration."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError

from arch_hf.errors import UserError
from arch_hf.pretraining.records import Metrics

FOLDER, RECORD = "checkpoints", "run.json"


def on_main(accelerator: Accelerator, function, *args):
    """Run on the main process alone and give every process the result; a user's mistake ends them all, told once."""
    outcome = [None, None]
    if accelerator.is_main_process:
        try:
            outcome = [function(*args), None]
        except UserError as error:
            outcome = [None, str(error)]
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        stop(accelerator, outcome[1])
    return outcome[0]


def stop(accelerator: Accelerator, message: str):
    """End every process; the main one says why."""
    if accelerator.is_main_process:
        raise UserError(message)
    raise SystemExit(1)


def checkpoint_steps(output_dir: Path) -> dict[int, Path]:
    """The whole checkpoints of a run, by step, oldest first."""
    found = {}
    for path in (output_dir / FOLDER).glob("step-*"):
        if match := re.fullmatch(r"step-(\d+)", path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def save_checkpoint(
    accelerator: Accelerator, output_dir: Path, step: int, position: dict, keep: int, metrics: Metrics
) -> Path:
    """Save model, optimiser, schedule and random state, each process's position in the data, and the curve so far.

    Raises:
        UserError: if the disk cannot hold it. Nothing half-written stays.
    """
    final = output_dir / FOLDER / f"step-{step:07d}"
    aside = final.with_name(f".{final.name}.partial")
    on_main(accelerator, _make_room, accelerator, aside)
    try:
        metrics.flush()
        accelerator.save_state(str(aside))
        text = json.dumps({"step": step, "position": position})
        (aside / f"data_{accelerator.process_index}.json").write_text(text, encoding="utf-8")
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _disk_reason(error, output_dir)
        shutil.rmtree(aside, ignore_errors=True)
        if reason is None:
            raise
        raise UserError(_cannot_write(output_dir, step, reason)) from None
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if final.exists():
            shutil.rmtree(final)
        os.replace(aside, final)
        for old in list(checkpoint_steps(output_dir).values())[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()
    return final


def _make_room(accelerator: Accelerator, aside: Path) -> None:
    """Remove what a killed run left behind, and check that a checkpoint fits before writing it."""
    aside.parent.mkdir(parents=True, exist_ok=True)
    for leftover in aside.parent.glob(".step-*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    # Weights, and two moments of the same size in the optimiser.
    needed = sum(3 * p.numel() * p.element_size() for model in accelerator._models for p in model.parameters())
    free = shutil.disk_usage(aside.parent).free
    if free < needed * 1.05:
        step = int(re.search(r"\d+", aside.name)[0])
        raise UserError(
            _cannot_write(aside.parent.parent, step, f"it needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free")
        )
    aside.mkdir()


def _disk_reason(error: Exception, output_dir: Path) -> str | None:
    """Whether an error while writing means a full disk. Serialisers wrap the system's error, so the disk is asked too."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return os.strerror(error.errno)
    if isinstance(error, SafetensorError | RuntimeError):
        free = shutil.disk_usage(output_dir).free
        if "space" in str(error) or "os error 28" in str(error) or free < 50e6:
            return f"{free / 1e6:.0f} MB are free"
    return None


def _cannot_write(output_dir: Path, step: int, reason: str) -> str:
    return f"no room for the checkpoint of step {step} in {output_dir}: {reason}; {last_whole(output_dir)}. Free space, then --resume"


def load_checkpoint(accelerator: Accelerator, folder: Path) -> tuple[int, dict]:
    """Restore everything from `folder` → the step to go on with, and this process's position in the data."""
    accelerator.load_state(str(folder))
    own = folder / f"data_{accelerator.process_index}.json"
    saved = json.loads((own if own.exists() else folder / "data_0.json").read_text(encoding="utf-8"))
    return saved["step"], saved["position"]


def resume_point(output_dir: Path, configuration: dict, resume: bool) -> int | None:
    """The step of the checkpoint that a run in `output_dir` goes on from, or None to begin.

    Raises:
        UserError: if the folder holds a run and `resume` is False, or it was started with another configuration.
    """
    record, steps = output_dir / RECORD, list(checkpoint_steps(output_dir))
    if not (record.exists() and steps):
        if (output_dir / "config.json").exists():
            raise UserError(f"{output_dir} already holds a model: give another --output_dir")
        return None
    if not resume:
        raise UserError(
            f"{output_dir} holds a run of {steps[-1]} steps: add --resume to go on with it, or give another --output_dir"
        )
    before = json.loads(record.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(configuration))
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        told = "; ".join(f"{name} was {before.get(name)}, is {now.get(name)}" for name in changed)
        raise UserError(f"--resume: {output_dir} was started with another configuration: {told}")
    return steps[-1]


def begin_run(output_dir: Path, configuration: dict) -> None:
    """Make the folder and record the configuration in it."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        aside = output_dir / f"{RECORD}.partial"
        aside.write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
        os.replace(aside, output_dir / RECORD)
    except OSError as error:
        raise UserError(f"--output_dir {output_dir}: {error.strerror}") from None


def last_whole(output_dir: Path) -> str:
    """Where a stopped run can go on from, in words."""
    steps = list(checkpoint_steps(output_dir))
    return f"the last whole checkpoint is of step {steps[-1]}" if steps else "there is no checkpoint yet"
