"""What a run leaves behind as it goes: `metrics.jsonl`, one line per logged step, and the clips that it skipped."""

import json
import math
from pathlib import Path

EXPLODED, PATIENCE = 1.5, 5  # a loss above this many times its first value for so many lines has exploded


class Metrics:
    """The curve of a run, averaged over the steps between two log lines and kept in `metrics.jsonl`.

    Lines go to the file only at a checkpoint, so that a killed run resumes with the curve of the checkpoint it resumes from.
    """

    MEANS = ("loss", "accuracy", "codebook_perplexity", "diversity_loss", "gradient_norm")

    def __init__(self, output_dir: Path, first_step: int, is_main: bool):
        self.path = output_dir / "metrics.jsonl"
        self.is_main = is_main
        self.rows: list[dict] = []
        self.pending: list[dict] = []
        if self.path.exists() and first_step:
            rows = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
            self.rows = [row for row in rows if row["step"] <= first_step]

    @property
    def last(self) -> dict:
        return self.rows[-1]

    def add(self, row: dict, complete: bool) -> bool:
        """Take one step's values; when `complete`, they and those before make a line, which is then `last`."""
        self.pending.append(row)
        if not complete:
            return False
        steps, seconds = len(self.pending), sum(step["seconds"] for step in self.pending)
        line = {"step": row["step"]}
        line |= {name: sum(step[name] for step in self.pending) / steps for name in self.MEANS if name in row}
        line["learning_rate"] = row["learning_rate"]
        line["audio_seconds"] = sum(step["audio_seconds"] for step in self.pending)
        line["hours_per_hour"] = line["audio_seconds"] / seconds
        line["skipped"] = int(row["skipped"])
        self.rows.append(line)
        self.pending = []
        return True

    def divergence(self, row: dict) -> str | None:
        """Why the run must stop after this step, or None."""
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(row[name]):
                return f"the {name.replace('_', ' ')} is {row[name]}, so the run has diverged"
        recent = [line["loss"] for line in self.rows[-PATIENCE:]]
        if len(self.rows) > PATIENCE and min(recent) > EXPLODED * self.rows[0]["loss"]:
            return f"the loss rose from {self.rows[0]['loss']:.3g} at the start to {recent[-1]:.3g} and stays there, so the run has diverged"
        return None

    def flush(self) -> None:
        if not self.is_main:
            return
        aside = self.path.with_suffix(".partial")
        aside.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")
        aside.replace(self.path)


class Skipped:
    """The clips that could not be used, each once with its reason, in `skipped.jsonl` as soon as they are met.

    Every process holds them all; the main one writes.
    """

    def __init__(self, output_dir: Path, is_main: bool):
        self.path = output_dir / "skipped.jsonl"
        self.is_main = is_main
        self.names: set[str] = set()
        if self.path.exists():
            self.names = {json.loads(line)["clip"] for line in self.path.read_text(encoding="utf-8").splitlines()}

    def __len__(self) -> int:
        return len(self.names)

    def add(self, clips: list[tuple[str, str]]) -> None:
        new = {name: reason for name, reason in clips if name not in self.names}
        self.names.update(new)
        if new and self.is_main:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"clip": name, "reason": reason}) + "\n" for name, reason in new.items())
