"""The end of a run: the encoder as transformers saves it, its feature extractor, and a model card that tells how it was made."""

import dataclasses
import json
import os
import platform
import shutil
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import save_file

from arch_hf.errors import UserError
from arch_hf.pretraining.preparation import CENTROIDS, MANIFEST, Options
from arch_hf.pretraining.recipes import Recipe, feature_extractor
from arch_hf.pretraining.records import Metrics

CURVE_LINES = 12


def export(objective: torch.nn.Module, recipe: Recipe, options: Options, metrics: Metrics, world: int) -> None:
    """Write the checkpoint into the output folder: each file whole, the card last.

    Raises:
        UserError: if the folder cannot take it. The last training checkpoint stays, to resume from.
    """
    try:
        _export(objective, recipe, options, metrics, world)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{options.output_dir}: the trained model cannot be written there ({error}); mend it, then --resume"
        ) from None


def _export(objective: torch.nn.Module, recipe: Recipe, options: Options, metrics: Metrics, world: int) -> None:
    out = Path(options.output_dir)
    aside = out / ".export.partial"
    shutil.rmtree(aside, ignore_errors=True)
    objective.model.save_pretrained(aside)
    feature_extractor(recipe).save_pretrained(aside)
    if recipe.objective == "hubert":  # what HubertModel has no place for, to go on from or to look at
        head = {"projection.weight": objective.projection.weight, "projection.bias": objective.projection.bias}
        head = {name: value.detach().cpu().contiguous() for name, value in head.items()}
        save_file(
            {**head, "codewords": objective.codewords.detach().cpu().contiguous()}, aside / "hubert_head.safetensors"
        )
    plotted = plot_curves(metrics.rows, aside / "curves.png")
    (aside / "README.md").write_text(model_card(recipe, options, metrics, world, plotted), encoding="utf-8")
    for path in sorted(aside.iterdir(), key=lambda path: path.name == "README.md"):
        os.replace(path, out / path.name)
    aside.rmdir()


def plot_curves(rows: list[dict], path: Path) -> bool:
    """Loss, accuracy and codebook perplexity over steps as a picture, where matplotlib is installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return False
    figure, axes = pyplot.subplots(1, 3, figsize=(10, 2.6), layout="constrained")
    for axis, name in zip(axes, ("loss", "accuracy", "codebook_perplexity"), strict=True):
        axis.plot([row["step"] for row in rows], [row[name] for row in rows], linewidth=1)
        axis.set(title=name.replace("_", " "), xlabel="step")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True


def model_card(recipe: Recipe, options: Options, metrics: Metrics, world: int, plotted: bool) -> str:
    """The card as Markdown. Folders are named by their last part only: where they lay is nobody's business."""
    out = Path(options.output_dir)
    title = {"wav2vec2": "wav2vec 2.0", "hubert": "HuBERT"}[recipe.objective]
    audio = ", ".join(
        f"`{name.rstrip('/') if '/' in name and not Path(name).exists() else Path(name).name}`"
        for name in options.audio
    )
    lines = [
        "---",
        "library_name: transformers",
        "tags:",
        "- audio",
        "- feature-extraction",
        f"- {recipe.objective}",
        "- arch",
        "---",
        f"# {out.name}",
        "",
        f"A {title} encoder ({recipe.size}), pretrained without labels on {audio} by arch-hf. No licence is stated here: it follows the audio's.",
        "",
        "```python",
        "from transformers import AutoFeatureExtractor, AutoModel",
        f'model = AutoModel.from_pretrained("{out.name}")',
        f'extractor = AutoFeatureExtractor.from_pretrained("{out.name}")  # mono audio at 16 kHz',
        "```",
        "",
        "## How to evaluate it",
        "",
        f"    accelerate launch evaluate.py --model_id {out.name}",
        "",
        "scores it on the twelve corpora of ARCH, with a linear probe on the frozen encoder.",
        "",
        "## Data",
        "",
        *_data_lines(out, metrics),
        "",
        "## Training",
        "",
        *_training_lines(recipe, options, metrics, world),
        "",
        "![Curves](curves.png)" if plotted else "",
        "",
        *_curve_table(metrics.rows),
        "",
        "## Recipe",
        "",
        f"Source of the numbers: {recipe.source}.",
        "",
        "| number | value |",
        "|---|---|",
        *(
            f"| {field.name} | {getattr(recipe, field.name)} |"
            for field in dataclasses.fields(recipe)
            if field.name != "source"
        ),
        "",
    ]
    return "\n".join(lines)


def _data_lines(out: Path, metrics: Metrics) -> list[str]:
    heard = sum(row["audio_seconds"] for row in metrics.rows) / 3600
    skipped = (
        len((out / "skipped.jsonl").read_text(encoding="utf-8").splitlines()) if (out / "skipped.jsonl").exists() else 0
    )
    lines = []
    if (out / MANIFEST).exists():
        seconds = [json.loads(line)["seconds"] for line in (out / MANIFEST).read_text(encoding="utf-8").splitlines()]
        lines.append(f"- {len(seconds)} clips, {sum(seconds) / 3600:.2f} hours")
    lines.append(f"- {heard:.2f} hours heard in training, repeats included")
    lines.append(f"- {skipped} clips skipped" + (" (named with their reasons in `skipped.jsonl`)" if skipped else ""))
    return lines


def _training_lines(recipe: Recipe, options: Options, metrics: Metrics, world: int) -> list[str]:
    last = metrics.last
    lines = [
        f"- {recipe.max_steps} steps of {recipe.micro_batches} micro-batches of up to {recipe.micro_batch_seconds:g} s, {world} process(es), seed {options.seed}",
        f"- at the end: loss {last['loss']:.4f}, accuracy {100 * last['accuracy']:.2f}%, codebook perplexity {last['codebook_perplexity']:.1f}",
        f"- torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}",
    ]
    if recipe.objective == "hubert":
        frames = (
            f"layer {options.layer} of `{Path(options.targets_from).name}`"
            if options.targets_from
            else "39 MFCC values"
        )
        lines.insert(1, f"- targets: {recipe.clusters} k-means clusters of {frames} (centroids in `{CENTROIDS}`)")
    return lines


def _curve_table(rows: list[dict]) -> list[str]:
    every = max(1, len(rows) // CURVE_LINES)
    shown = rows[::-1][::every][::-1]
    lines = ["| step | loss | accuracy | codebook perplexity | gradient norm |", "|---|---|---|---|---|"]
    for row in shown:
        values = f"{row['loss']:.4f} | {100 * row['accuracy']:.2f}% | {row['codebook_perplexity']:.1f} | {row['gradient_norm']:.3f}"
        lines.append(f"| {row['step']} | {values} |")
    return lines
