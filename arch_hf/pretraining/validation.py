"""How good a model is while it trains: the objective on held-out clips, and the probe's score on a small corpus."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from accelerate.utils import gather_object

from arch_hf.evaluate import evaluate_model
from arch_hf.pretraining.batching import Plan
from arch_hf.pretraining.clips import Clips
from arch_hf.pretraining.export import save_encoder
from arch_hf.pretraining.loading import load_batches
from arch_hf.pretraining.step import Training

SEED = 0  # of the crops and masks, which are always the same


@torch.no_grad()
def validate(training: Training, clips: Clips, workers: int) -> dict[str, float]:
    """Loss, accuracy and codebook perplexity on held-out clips, each once, always with the same crops and masks.

    The clips are shared among the processes. Returns "valid_loss" and so on, averages over the masked frames, and "valid_skipped", how many
    clips could not be used, if any; the loss is not there if that is all of them.
    """
    accelerator = training.accelerator
    plan = Plan(clips, replace(training.recipe, micro_batches=1), SEED)
    epoch = itertools.takewhile(lambda planned: planned.key[1] == 0, plan)
    mine = itertools.islice(epoch, accelerator.process_index, None, accelerator.num_processes)
    training.model.eval()
    sums: dict[str, float] = {}
    n_masked = n_broken = 0
    for batch in load_batches(clips, training.recipe, mine, workers):
        n_broken += len(batch.broken)
        if batch.empty:
            continue
        with accelerator.autocast():
            values = training.objective(*training.inputs(batch))
        n_masked += batch.n_masked
        for name in ("loss", "accuracy", "codebook_perplexity"):
            sums[name] = sums.get(name, 0.0) + float(values[name])
    training.model.train()
    parts = gather_object([(n_masked, n_broken, sums)])
    n_masked, n_broken = (sum(part[i] for part in parts) for i in (0, 1))
    skipped = {"valid_skipped": float(n_broken)} if n_broken else {}
    if not n_masked:
        return skipped
    return skipped | {
        f"valid_{name}": sum(sums.get(name, 0.0) for *_, sums in parts) / n_masked
        for name in ("loss", "accuracy", "codebook_perplexity")
    }


def probe(training: Training, corpora: list[str], out: Path) -> dict[str, float]:
    """The main job's scores (arch-v1) of the encoder as it is, "probe_esc50" and so on, as fractions. All processes take part."""
    accelerator, folder = training.accelerator, out / ".probe"
    if accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
        save_encoder(training.objective, training.recipe, folder / "model")
    accelerator.wait_for_everyone()
    results = evaluate_model(
        str(folder / "model"), corpora, output_dir=str(folder / "results"), cache_dir=str(folder / "cache")
    )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
    training.model.train()
    return {f"probe_{Path(result.dataset.id).name}": result.headline.mean for result in results}
