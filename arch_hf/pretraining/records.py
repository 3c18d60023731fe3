"""What a run leaves behind as it goes: `metrics.jsonl`, one line per logged step; the clips and steps that it skipped; `train.log`."""

import json
import math
import os
import sys
import time
from pathlib import Path

from arch_hf.terminal import say

EXPLODED, PATIENCE = 1.5, 5  # a loss above this many times its first value for so many lines has exploded
NOT_FINITE_IN_A_ROW = 10  # so many skipped steps end a run
LOG_SECONDS = 30.0


class Metrics:
    """The curve of a run, averaged over the steps between two log lines and kept in `metrics.jsonl`.

    A line is written as soon as it is complete; a run that goes on from an earlier step drops the lines behind it, and takes up the
    steps of the line that was begun (`pending`, kept in the checkpoint), so that its curve is that of an undisturbed run.
    """

    MEANS = ("loss", "accuracy", "codebook_perplexity", "diversity_loss", "gradient_norm")

    def __init__(self, output_dir: Path, first_step: int, pending: list[dict], is_main: bool):
        self.path = output_dir / "metrics.jsonl"
        self.is_main = is_main
        self.pending = list(pending)
        self.rows = [row for row in read_rows(self.path) if row["step"] <= first_step] if first_step else []
        if is_main:
            _rewrite(self.path, self.rows)

    @property
    def last(self) -> dict:
        return self.rows[-1]

    def add(self, row: dict, complete: bool) -> bool:
        """Take one step's values; when `complete`, they and those before make a line, which is then `last`."""
        self.pending.append(row)
        if not complete:
            return False
        steps = self.pending
        kept = [step for step in steps if step["kept"]]
        seconds, heard = (sum(step[name] for step in steps) for name in ("seconds", "audio_seconds"))
        line = {"step": row["step"]}
        for name in self.MEANS:
            if name in row:
                line[name] = sum(step[name] for step in kept) / len(kept) if kept else None
        line["learning_rate"] = row["learning_rate"]
        line |= {"audio_seconds": heard, "hours_per_hour": heard / seconds, "seconds": seconds}
        line["data_seconds"] = sum(step["data_seconds"] for step in steps)
        line["skipped"], line["not_finite"] = row["skipped"], sum(step["not_finite"] for step in steps)
        if "loss_scale" in row:
            line |= {"loss_scale": row["loss_scale"], "overflows": sum(step["overflow"] for step in steps)}
        self.pending = []
        self.write(line)
        return True

    def write(self, line: dict) -> None:
        self.rows.append(line)
        if self.is_main:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def exploded(self) -> str | None:
        """Why the run must stop after the last line, or None."""
        losses = [row["loss"] for row in self.rows if row.get("loss") is not None]
        recent = losses[-PATIENCE:]
        if len(losses) > PATIENCE and min(recent) > EXPLODED * losses[0]:
            return f"the loss rose from {losses[0]:.3g} at the start to {recent[-1]:.3g} and stays there, so the run has diverged"
        return None


def _rewrite(path: Path, rows: list[dict]) -> None:
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    os.replace(aside, path)


def read_rows(path: Path) -> list[dict]:
    """The lines of a curve; one that a kill left unfinished is passed over."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


class Skipped:
    """The clips that could not be used, each once with its reason, in `skipped.jsonl` as soon as they are met.

    Every process holds them all; the main one writes.
    """

    def __init__(self, output_dir: Path, is_main: bool):
        self.path = output_dir / "skipped.jsonl"
        self.is_main = is_main
        self.names = {row["clip"] for row in read_rows(self.path)}

    def __len__(self) -> int:
        return len(self.names)

    def add(self, clips: list[tuple[str, str]]) -> None:
        new = {name: reason for name, reason in clips if name not in self.names}
        self.names.update(new)
        if new and self.is_main:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"clip": name, "reason": reason}) + "\n" for name, reason in new.items())


class NotFinite:
    """The steps that were skipped because loss or gradient was not finite, each with its clips, in `skipped_steps.jsonl`.

    As of the curve, a run that goes on from an earlier step drops the lines behind it: those steps are taken again.
    """

    def __init__(self, output_dir: Path, first_step: int, in_a_row: int, is_main: bool):
        self.path, self.in_a_row, self.is_main = output_dir / "skipped_steps.jsonl", in_a_row, is_main
        if is_main and self.path.exists():
            kept = [row for row in read_rows(self.path) if row["step"] <= first_step]
            _rewrite(self.path, kept)

    def add(self, step: int, loss: float, gradient_norm: float, clips: list[str]) -> str | None:
        """Note a step → why the run must stop, or None."""
        self.in_a_row += 1
        if self.is_main:
            row = {"step": step, "loss": str(loss), "gradient_norm": str(gradient_norm), "clips": clips}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if self.in_a_row < NOT_FINITE_IN_A_ROW:
            return None
        value = "loss" if not math.isfinite(loss) else "gradient norm"
        return f"the {value} was not finite in {self.in_a_row} steps in a row, so the run has diverged"


class Log:
    """`train.log`: one line every half minute, and each event; on the terminal too where that is no terminal but a file."""

    def __init__(self, output_dir: Path, is_main: bool, seconds: float = LOG_SECONDS):
        self.path, self.is_main, self.seconds = output_dir / "train.log", is_main, seconds
        self.last = -math.inf

    def event(self, text: str) -> None:
        if not self.is_main:
            return
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"
        with self.path.open("a", encoding="utf-8", errors="replace") as file:  # names that are no Unicode
            file.write(line + "\n")
        if not sys.stderr.isatty():
            say(line, file=sys.stderr)

    def step(self, line: dict, max_steps: int, at_once: bool = False) -> None:
        """Tell a line of the curve, if the last one was told long enough ago or it is wanted `at_once`."""
        if not self.is_main or (time.monotonic() - self.last < self.seconds and not at_once):
            return
        self.last = time.monotonic()
        self.event(describe_line(line, max_steps))


def describe_line(line: dict, max_steps: int) -> str:
    """A line of the curve for people."""
    names = ("loss", "accuracy", "codebook_perplexity", "gradient_norm", "learning_rate")
    shown = [f"step {line['step']}/{max_steps}"]
    shown += [f"{name} {line[name]:.4g}" for name in names if line.get(name) is not None]
    shown.append(f"{line['hours_per_hour']:.4g} h of audio per hour")
    shown.append(f"waited {line['data_seconds']:.2f} of {line['seconds']:.2f} s for data")
    shown += [f"{line['skipped']} clips skipped"] if line["skipped"] else []
    shown += [f"{line['not_finite']} steps not finite"] if line["not_finite"] else []
    shown += [f"loss scale {line['loss_scale']:g}"] if "loss_scale" in line else []
    return ", ".join(shown)
