"""The encoder as transformers saves it, for `AutoModel`: at the end of a run, and on the way."""

import os
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file

from arch_hf.errors import UserError
from arch_hf.pretraining.architecture import feature_extractor
from arch_hf.pretraining.card import model_card
from arch_hf.pretraining.curves import plot_curves
from arch_hf.pretraining.recipes import Recipe
from arch_hf.pretraining.runs import Run
from arch_hf.pretraining.step import Objective

EXPORTS = "exports"


def save_encoder(objective: Objective, recipe: Recipe, folder: Path) -> None:
    """Weights, configuration and feature extractor; for HuBERT also its head, which `HubertModel` has no place for."""
    objective.model.save_pretrained(folder)
    feature_extractor(recipe).save_pretrained(folder)
    if recipe.objective == "hubert":
        whole = objective.state_dict()
        head = {name: whole[name].cpu().contiguous() for name in ("projection.weight", "projection.bias", "codewords")}
        save_file(head, folder / "hubert_head.safetensors")


def export(objective: Objective, run: Run, rows: list[dict], step: int, folder: Path) -> None:
    """Write the checkpoint of `step` into `folder`: each file whole, the card last.

    Raises:
        UserError: if the folder cannot take it. The last training checkpoint stays, to resume from.
    """
    aside = folder / ".export.partial"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        save_encoder(objective, run.recipe, aside)
        plotted = plot_curves(rows, aside / "curves.png")
        (aside / "README.md").write_text(model_card(run, rows, step, plotted), "utf-8", "replace")
        for path in sorted(aside.iterdir(), key=lambda path: path.name == "README.md"):
            os.replace(path, folder / path.name)
        aside.rmdir()
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{folder}: the trained model cannot be written there ({error}); mend it, then --resume"
        ) from None
