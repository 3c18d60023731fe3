"""What is told and kept of a run while it goes: curve, log, progress bar, trackers, and the picture of the curve however it ends."""

import dataclasses

from accelerate import Accelerator
from tqdm import tqdm

from arch_hf.pretraining.curves import plot_curves
from arch_hf.pretraining.records import EXPLODED, Log, Metrics, NotFinite, Skipped
from arch_hf.pretraining.runs import Run
from arch_hf.pretraining.step import Outcome

SHOWN = ("loss", "accuracy", "codebook_perplexity", "hours_per_hour")


class Recorder:
    """As a context: on leaving it, whatever the reason, the curve is drawn into `curves.png`."""

    def __init__(self, accelerator: Accelerator, run: Run, state: dict):
        is_main = accelerator.is_main_process
        self.accelerator, self.run = accelerator, run
        self.metrics = Metrics(run.out, state["step"], state["pending"], is_main)
        self.skipped = Skipped(run.out, is_main)
        self.not_finite = NotFinite(run.out, state["step"], state["in_a_row"], is_main)
        self.log = Log(run.out, is_main)
        self.bar = tqdm(disable=True)
        self.first = state["step"]
        self.unread = False  # whether no clip of the last step that did not count could be used

    def __enter__(self) -> "Recorder":
        recipe, accelerator = self.run.recipe, self.accelerator
        numbers = {name: str(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(recipe).items()}
        accelerator.init_trackers("arch-pretrain", numbers)
        self.log.event(f"{'going on from' if self.first else 'beginning at'} step {self.first} of {recipe.max_steps}")
        # A bar on a terminal only, `None` says; elsewhere the log's lines stand for it.
        self.bar = tqdm(
            total=recipe.max_steps, initial=self.first, disable=None if accelerator.is_main_process else True,
            desc=recipe.objective, unit="step",
        )  # fmt: skip
        return self

    def __exit__(self, kind, value, trace) -> None:
        self.bar.close()  # so that the reason has a line of its own
        if kind is not None:
            self.log.event(f"ended: {str(value) or kind.__name__}")
        if self.accelerator.is_main_process and self.metrics.rows:
            plot_curves(self.metrics.rows, self.run.out / "curves.png")

    def add(self, outcome: Outcome, last: bool) -> str | None:
        """Take a step → why the run must stop, or None."""
        row, step = outcome.row, outcome.row["step"]
        self.skipped.add(outcome.broken)
        row["skipped"] = len(self.skipped)
        self.bar.update()
        problem = None
        if row["not_finite"]:
            problem = self.not_finite.add(step, row["loss"], row["gradient_norm"], outcome.suspects)
            self.unread = row["audio_seconds"] == 0
            if problem and self.unread:
                problem = f"no clip of {self.not_finite.in_a_row} steps in a row could be used (skipped.jsonl says why)"
            what = "had no clip that could be used" if self.unread else "is not finite"
            self.log.event(f"step {step} {what} and changes nothing; its clips: {', '.join(outcome.suspects)}")
        elif row["kept"]:
            self.not_finite.in_a_row = 0
        if self.metrics.add(row, complete=last or step % self.run.settings.log_every == 0):
            line = self.metrics.last
            self._track(line)
            self.bar.set_postfix({k: f"{line[k]:.3g}" for k in SHOWN if line.get(k) is not None}, refresh=False)
            self.log.step(line, self.run.recipe.max_steps, at_once=last)
            problem = problem or self.metrics.exploded()
        return problem

    def add_validation(self, step: int, values: dict[str, float]) -> None:
        self.metrics.write({"step": step, **values})
        self._track(self.metrics.rows[-1])
        self.log.event(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))

    def event(self, text: str) -> None:
        self.log.event(text)

    def _track(self, line: dict) -> None:
        numbers = {name: value for name, value in line.items() if name != "step" and value is not None}
        self.accelerator.log(numbers, step=line["step"])

    def doubtful(self, row: dict) -> str | None:
        """Why a checkpoint of this step would be of no use, and might push a good one out; None if nothing speaks against it."""
        if self.not_finite.in_a_row:
            return "the step was not finite"
        first = next((line["loss"] for line in self.metrics.rows if line.get("loss") is not None), None)
        if first is not None and row["kept"] and row["loss"] > EXPLODED * first:
            return f"the loss has risen to {row['loss']:.3g}"
        return None

    def state(self) -> dict:
        """What of it a checkpoint keeps."""
        return {"pending": self.metrics.pending, "in_a_row": self.not_finite.in_a_row}

    def advice(self) -> str:
        if self.unread:
            return "Mend the audio, then --resume"
        rate = self.run.recipe.learning_rate
        return f"Go on from there with a lower rate: --resume --set learning_rate={rate / 3:.1g}"
