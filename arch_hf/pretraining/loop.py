"""The training loop, to be read top to bottom: `pretrain`."""

import contextlib
import dataclasses
import itertools
import math
import time
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object, set_seed
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from arch_hf.errors import UserError
from arch_hf.pretraining import checkpoints, targets
from arch_hf.pretraining.card import export
from arch_hf.pretraining.hubert import HubertObjective
from arch_hf.pretraining.preparation import (
    Options,
    advance,
    fit_targets,
    micro_batches_of,
    open_source,
    prepare_run,
    recipe_of,
)
from arch_hf.pretraining.recipes import SAMPLING_RATE
from arch_hf.pretraining.records import Metrics, Skipped
from arch_hf.pretraining.wav2vec2 import Wav2Vec2Objective

SHOWN = ("loss", "accuracy", "codebook_perplexity", "gradient_norm", "hours_per_hour", "skipped")


def pretrain(options: Options) -> Path:
    """Pretrain by a recipe, from audio to a checkpoint in `options.output_dir`, which is returned.

    Raises:
        UserError: if no clip can be used, the loss diverges, the disk is full, or a run is resumed with another configuration.
    """
    recipe = recipe_of(options)
    out = Path(options.output_dir)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # else processes launched on a machine without one run side by side, unaware
        log_with=list(options.log_with) or None,
        project_dir=str(out),
        step_scheduler_with_optimizer=False,  # the schedule counts steps, not processes times steps
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=recipe.layer_drop > 0),
            InitProcessGroupKwargs(timeout=timedelta(hours=6)),  # the others wait while the main process fits k-means
        ],
    )
    world, rank, device = accelerator.num_processes, accelerator.process_index, accelerator.device
    if recipe.micro_batches % world:
        raise UserError(
            f"a step has {recipe.micro_batches} micro-batches, which {world} processes cannot share evenly: --set micro_batches=N"
        )
    share = recipe.micro_batches // world

    # Data, and whether this run is new or goes on.
    checkpoint = checkpoints.on_main(accelerator, prepare_run, options, recipe, world)
    source = open_source(options)
    skipped = Skipped(out, accelerator.is_main_process)

    # Model and, for HuBERT, what it is to predict.
    label = None
    if options.objective == "hubert":
        frames = (
            targets.LayerFrames(options.targets_from, options.layer, device)
            if options.targets_from
            else targets.MfccFrames()
        )
        checkpoints.on_main(accelerator, fit_targets, frames, source, recipe, options, device)
        label = targets.ClusterTargets(frames, targets.load_centroids(out / "kmeans.safetensors"))
    set_seed(options.seed)
    model = Wav2Vec2Objective(recipe) if label is None else HubertObjective(recipe, len(label.centroids))
    if options.gradient_checkpointing:
        model.model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, (recipe.beta1, recipe.beta2), recipe.adam_epsilon, recipe.weight_decay
    )
    warmup = round(recipe.warmup_fraction * recipe.max_steps)
    schedule = get_linear_schedule_with_warmup(optimizer, warmup, recipe.max_steps)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    objective = accelerator.unwrap_model(model, keep_torch_compile=False)

    # Resume.
    first, position = 0, {}
    if checkpoint is not None:
        first, position = checkpoints.load_checkpoint(accelerator, checkpoints.checkpoint_steps(out)[checkpoint])
    accelerator.init_trackers(
        "arch-pretrain", {k: str(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(recipe).items()}
    )
    metrics = Metrics(out, first, accelerator.is_main_process)
    batches = micro_batches_of(source, recipe, options, rank, world, position)
    model.train()
    with tqdm(
        total=recipe.max_steps,
        initial=first,
        disable=not accelerator.is_main_process,
        desc=options.objective,
        unit="step",
    ) as bar:  # closed also when the run stops, so that the reason has a line of its own
        for step in range(first, recipe.max_steps):
            started = time.perf_counter()
            objective.set_step(step)
            step_batches = [next(batches) for _ in range(share)]
            hidden = torch.tensor([float(batch.hidden) for batch in step_batches], device=device).sum()
            hidden = accelerator.reduce(hidden).clamp(min=1)  # over all processes: the loss is a mean over these frames

            sums: dict[str, torch.Tensor] = {}
            for number, batch in enumerate(step_batches, start=1):
                # Dropout, layer drop and Gumbel noise belong to the micro-batch, not to the process that it falls to.
                torch.manual_seed(batch.seed)
                waveforms = batch.waveforms.to(device, non_blocking=True)
                inputs = targets.normalise(waveforms) if recipe.normalise else waveforms
                goal = label(waveforms) if label else batch.negatives.to(device)
                with accelerator.no_sync(model) if number < share else contextlib.nullcontext():
                    values = model(inputs, batch.mask.to(device), goal)
                    used = 0.0 if batch.empty else 1.0
                    # The loss is a sum over processes; DDP takes the mean of their gradients.
                    accelerator.backward(values.pop("objective") * used * world / hidden)
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + used * value.detach().float()

            limit = recipe.max_gradient_norm or math.inf
            gradient_norm = float(accelerator.clip_grad_norm_(model.parameters(), limit))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            position = advance(position, step_batches)

            # What happened, over all processes.
            broken = list(itertools.chain.from_iterable(batch.broken for batch in step_batches))
            audio_seconds = sum(batch.waveforms.numel() for batch in step_batches if not batch.empty) / SAMPLING_RATE
            local = torch.stack([*sums.values(), *torch.tensor([audio_seconds, len(broken)], device=device)])
            *means, audio_seconds, n_broken = accelerator.reduce(local).tolist()
            if n_broken:
                skipped.add(gather_object(broken))
            row = {name: value / hidden.item() for name, value in zip(sums, means, strict=True)}
            row |= {"step": step + 1, "gradient_norm": gradient_norm, "learning_rate": schedule.get_last_lr()[0]}
            row |= {"audio_seconds": audio_seconds, "skipped": len(skipped), "seconds": time.perf_counter() - started}
            save = (step + 1) % options.save_every == 0 or step + 1 == recipe.max_steps
            bar.update()
            if metrics.add(row, complete=save or (step + 1) % options.log_every == 0):
                accelerator.log({name: value for name, value in metrics.last.items() if name != "step"}, step=step + 1)
                bar.set_postfix({name: f"{metrics.last[name]:.3g}" for name in SHOWN}, refresh=False)
            if problem := metrics.divergence(row):
                checkpoints.stop(
                    accelerator,
                    f"step {step + 1}: {problem}; {checkpoints.last_whole(out)}. Try a lower --set learning_rate",
                )
            if save:
                checkpoints.save_checkpoint(accelerator, out, step + 1, position, options.keep_checkpoints, metrics)

    checkpoints.on_main(accelerator, export, objective, recipe, options, metrics, world)
    accelerator.print(f"{out}: load it with AutoModel.from_pretrained, score it with evaluate.py --model_id {out}")
    accelerator.end_training()  # closes the trackers and the processes' group, so it comes last
    return out
