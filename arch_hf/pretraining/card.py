"""The card of a pretrained encoder: how it was made, from the run's own records."""

import dataclasses
import platform
from pathlib import Path

import torch
import transformers

from arch_hf.pretraining import runs, shards
from arch_hf.pretraining.clips import Clips
from arch_hf.pretraining.kmeans import CENTROIDS, describe
from arch_hf.pretraining.options import advice
from arch_hf.pretraining.recipes import Recipe, differences
from arch_hf.pretraining.records import read_rows
from arch_hf.pretraining.runs import Run

CURVE_LINES = 12
TITLES = {"wav2vec2": "wav2vec 2.0", "hubert": "HuBERT"}


def model_card(run: Run, rows: list[dict], step: int, plotted: bool) -> str:
    """The card of a model after `step` steps, as Markdown. Folders are named by their last part only: where they lay is nobody's business."""
    name, recipe = run.out.resolve().name, run.recipe
    unfinished = "" if step >= recipe.max_steps else f" **Not finished: step {step} of {recipe.max_steps}.**"
    lines = [
        "---",
        "library_name: transformers",
        "tags:",
        "- audio",
        "- feature-extraction",
        f"- {recipe.objective}",
        "- arch",
        "---",
        f"# {name}",
        "",
        f"A {TITLES[recipe.objective]} encoder ({recipe.size}), pretrained without labels on {_audio_names(run)} by arch-hf. No licence is "
        f"stated here: it follows the audio's.{unfinished}",
        "",
        "```python",
        "from transformers import AutoFeatureExtractor, AutoModel",
        f'model = AutoModel.from_pretrained("{name}")',
        f'extractor = AutoFeatureExtractor.from_pretrained("{name}")  # mono audio at 16 kHz',
        "```",
        "",
        "## How to evaluate it",
        "",
        f"    accelerate launch evaluate.py --model_id {name}",
        "",
        "scores it on the twelve corpora of ARCH, with a linear probe on the frozen encoder.",
        "",
        *_section("Data", _data(run, rows)),
        *_section("Training", _training(run, rows)),
        *(["![Curves](curves.png)", ""] if plotted else []),
        *_curve_table(rows),
        "",
        *_section("History", _history(run)),
        *_section("Recipe", _recipe(recipe)),
    ]
    return "\n".join(lines)


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""]


def _audio_names(run: Run) -> str:
    names = [name.rstrip("/") for name in run.audio]
    return ", ".join(f"`{Path(name).resolve().name if Path(name).exists() else name}`" for name in names)


def _data(run: Run, rows: list[dict]) -> list[str]:
    clips = Clips(run.indices)
    heard = sum(row.get("audio_seconds", 0) for row in rows) / 3600
    lines = [f"- {len(clips)} clips, {clips.hours:.2f} hours"]
    for index in clips.indices:
        if manifest := shards.read_manifest(index.parent):
            about = manifest["source"]
            audio = ", ".join(f"`{name}`" for name in about["audio"])
            told = f"- prepared by arch-hf prepare-audio from {audio}, {manifest['skipped']} skipped on the way"
            lines.append(told + (f", configuration {about['config']}" if about["config"] else ""))
    lines.append(f"- {heard:.2f} hours heard in training, repeats included")
    skipped = len(read_rows(run.out / "skipped.jsonl"))
    lines.append(f"- {skipped} clips skipped" + (" (named with their reasons in `skipped.jsonl`)" if skipped else ""))
    if run.valid:
        held_out = Clips(run.valid)
        lines.append(f"- held out: {len(held_out)} clips, {held_out.hours:.2f} hours")
    return lines


def _training(run: Run, rows: list[dict]) -> list[str]:
    recipe = run.recipe
    trained = [row for row in rows if row.get("loss") is not None]
    processes = {entry["processes"] for entry in runs.history(run.out) if "processes" in entry}
    lines = [
        f"- {recipe.max_steps} steps of {recipe.micro_batches} micro-batches of up to {recipe.micro_batch_seconds:g} s, "
        f"{', '.join(map(str, sorted(processes)))} process(es), seed {run.settings.seed}"
    ]
    if recipe.objective == "hubert":
        how = (
            "labelled once, clips as a whole" if run.settings.cache_targets else "labelled as trained on, crop by crop"
        )
        lines.append(f"- targets: {describe(run.out / CENTROIDS)}, in `{CENTROIDS}`; {how}")
        lines += [f"- note: {text}" for text in advice(recipe)]
    if trained:
        lines.append(f"- at the end: {_values(trained[-1], '')}")
    held_out = [row for row in rows if "valid_loss" in row]
    if held_out:
        lines.append(
            f"- on held-out clips, at step {held_out[-1]['step']}: {_values(held_out[-1], 'valid_')}{_without(held_out[-1])}"
        )
    for row in [row for row in rows if any(name.startswith("probe_") for name in row)][-1:]:
        scores = ", ".join(f"{k[6:]} {100 * v:.2f}" for k, v in row.items() if k.startswith("probe_"))
        lines.append(f"- probe at step {row['step']} (arch-v1, percent): {scores}")
    lines.append(
        f"- torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"
    )
    return lines


def _without(row: dict) -> str:
    return f", without {row['valid_skipped']:.0f} clips that could not be used" if row.get("valid_skipped") else ""


def _values(row: dict, prefix: str) -> str:
    return (
        f"loss {row[prefix + 'loss']:.4f}, accuracy {100 * row[prefix + 'accuracy']:.2f}%, "
        f"codebook perplexity {row[prefix + 'codebook_perplexity']:.1f}"
    )


def _curve_table(rows: list[dict]) -> list[str]:
    """Some lines of the curve, evenly spaced, with what was last measured on held-out clips."""
    trained = [row for row in rows if row.get("loss") is not None]
    valid = {row["step"]: row for row in rows if "valid_loss" in row}
    every = max(1, len(trained) // CURVE_LINES)
    held_out = " held-out loss | held-out accuracy |" if valid else ""
    lines = [f"| step | loss | accuracy | codebook perplexity | gradient norm |{held_out}"]
    lines.append("|---|---|---|---|---|" + ("---|---|" if valid else ""))
    for row in trained[::-1][::every][::-1]:
        values = f"{row['loss']:.4f} | {100 * row['accuracy']:.2f}% | {row['codebook_perplexity']:.1f} | {row['gradient_norm']:.3f}"
        last = next((valid[step] for step in sorted(valid, reverse=True) if step <= row["step"]), None)
        more = (
            f" {last['valid_loss']:.4f} | {100 * last['valid_accuracy']:.2f}% |" if last else (" | |" if valid else "")
        )
        lines.append(f"| {row['step']} | {values} |{more}")
    return lines


def _history(run: Run) -> list[str]:
    """The starts and ends of a run, what was changed at which step, and the steps that did not count."""
    lines = []
    for entry in runs.history(run.out):
        told = f"- step {entry['step']}: {entry['event']}"
        if entry.get("changed"):
            changes = (
                f"{name} {_plain(before)} → {_plain(after)}" for name, (before, after) in entry["changed"].items()
            )
            told += f", changed: {'; '.join(changes)}"
        if entry.get("reason"):
            told += f" ({entry['reason']})"
        lines.append(told)
    skipped = read_rows(run.out / "skipped_steps.jsonl")
    for row in skipped[:20]:
        clips = ", ".join(f"`{Path(name).name}`" for name in row["clips"][:8])
        lines.append(
            f"- step {row['step']}: not finite, skipped (loss {row['loss']}, gradient norm {row['gradient_norm']}); clips {clips}"
        )
    if len(skipped) > 20:
        lines.append(f"- and {len(skipped) - 20} more such steps, in `skipped_steps.jsonl`")
    return lines


def _plain(value) -> str:
    """A value of the history without the folders it lay in."""
    if isinstance(value, list):
        return ", ".join(_plain(each) for each in value)
    return Path(value).name if isinstance(value, str) and "/" in value and Path(value).is_absolute() else str(value)


def _recipe(recipe: Recipe) -> list[str]:
    lines = [f"Source of the numbers: {recipe.source}.", ""]
    if disagreements := differences(recipe):
        lines += ["Where the sources do not agree:", ""]
        lines += [f"- {each.number}: {each.here}; {each.other}" for each in disagreements]
        lines.append("")
    lines += ["| number | value |", "|---|---|"]
    fields = [field.name for field in dataclasses.fields(recipe) if field.name != "source"]
    return lines + [f"| {name} | {getattr(recipe, name)} |" for name in fields]
