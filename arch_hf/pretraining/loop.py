"""The story of a run, to be read top to bottom: `pretrain`."""

import itertools
import os
import time
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, set_seed

from arch_hf.compat.transformers_internals import checkpoint_activations
from arch_hf.distributed import share_cores
from arch_hf.embedding.workers import keep_freed_memory
from arch_hf.pretraining import checkpoints
from arch_hf.pretraining.batching import Plan
from arch_hf.pretraining.clips import Clips
from arch_hf.pretraining.export import EXPORTS, export
from arch_hf.pretraining.hubert import HubertObjective
from arch_hf.pretraining.kmeans import CENTROIDS, fit_targets, read_centroids
from arch_hf.pretraining.labels import CachedLabels, label_all
from arch_hf.pretraining.loading import load_batches, usual_workers
from arch_hf.pretraining.options import Options
from arch_hf.pretraining.processes import on_main, stop
from arch_hf.pretraining.recorder import Recorder
from arch_hf.pretraining.runs import Run, add_event, open_run
from arch_hf.pretraining.signals import listening
from arch_hf.pretraining.step import Training, take_step
from arch_hf.pretraining.targets import ClusterTargets, LayerFrames, MfccFrames
from arch_hf.pretraining.validation import probe, validate
from arch_hf.pretraining.wav2vec2 import Wav2Vec2Objective

TERMINATED = 128 + 15  # the exit status after SIGTERM


def pretrain(options: Options) -> Path:
    """Pretrain by a recipe, from audio to a checkpoint in `options.output_dir`, which is returned.

    Raises:
        UserError: if no clip can be used, the loss diverges, the disk is full, or what defines a run that goes on has changed.
        SystemExit: after SIGTERM, when the checkpoint of the step under way is written.
    """
    accelerator = make_accelerator(options)
    world = accelerator.num_processes
    workers = usual_workers(_processes_here(accelerator)) if options.workers is None else options.workers
    start = {"processes": world, "mixed_precision": accelerator.mixed_precision, "workers": workers}
    run: Run = on_main(accelerator, open_run, options, start)
    if run.recipe.micro_batches % world:
        stop(
            accelerator,
            f"a step has {run.recipe.micro_batches} micro-batches, which {world} processes cannot share evenly: --set micro_batches=N",
        )
    finished = train(accelerator, run, workers)
    if finished:
        accelerator.print(
            f"{run.out}: load it with AutoModel.from_pretrained, score it with evaluate.py --model_id {run.out}"
        )
    # In this order: a model that outlives the group of its processes may wait for it for ever.
    accelerator.free_memory()
    accelerator.end_training()
    if not finished:
        raise SystemExit(TERMINATED)
    return run.out


def train(accelerator: Accelerator, run: Run, workers: int) -> bool:
    """Train from where the run stands to its last step, and write the encoder → True; False if SIGTERM ended it before."""
    recipe, settings, out = run.recipe, run.settings, run.out
    clips = Clips(run.indices)
    label, labels = make_targets(accelerator, run, clips, workers)
    training = make_training(accelerator, run, label)
    state: dict = {"step": 0, "position": None, "pending": [], "in_a_row": 0}
    if run.checkpoint is not None:
        folder = checkpoints.checkpoint_steps(out)[run.checkpoint]
        state = checkpoints.load_checkpoint(folder, training.objective, training.optimizer)
        if accelerator.scaler is not None and state.get("scaler"):
            accelerator.scaler.load_state_dict(state["scaler"])

    rank, world = accelerator.process_index, accelerator.num_processes
    plan = Plan(clips, recipe, settings.seed, rank, world, state["position"])
    batches = load_batches(clips, recipe, plan, workers, labels)
    training.model.train()
    owed = False  # a checkpoint
    with Recorder(accelerator, run, state) as recorder, listening() as asked:
        for step in range(state["step"], recipe.max_steps):
            started = time.perf_counter()
            mine = list(itertools.islice(batches, recipe.micro_batches // world))
            waited = time.perf_counter() - started
            outcome = take_step(training, step, mine, asked.take())
            outcome.row |= {"data_seconds": waited, "seconds": time.perf_counter() - started}
            last = step + 1 == recipe.max_steps
            problem = recorder.add(outcome, last)

            if _due(step, settings.valid_every, last) and (run.valid or settings.probe):
                found = validate(training, Clips(run.valid), workers) if run.valid else {}
                found |= probe(training, settings.probe, out) if settings.probe else {}
                recorder.add_validation(step + 1, found)
            if problem:
                on_main(accelerator, add_event, out, {"step": step + 1, "event": "ended", "reason": problem})
                stop(accelerator, f"step {step + 1}: {problem}; {checkpoints.last_whole(out)}. {recorder.advice()}")
            owed = owed or outcome.save or _due(step, settings.save_every, last)
            if owed and (doubt := recorder.doubtful(outcome.row)):
                recorder.event(f"no checkpoint of step {step + 1}: {doubt}")
            elif owed:
                _save(training, run, {"step": step + 1, "position": mine[-1].position, **recorder.state()})
                owed = False
            if settings.export_every and _due(step, settings.export_every, False):
                folder = out / EXPORTS / f"step-{step + 1:07d}"
                on_main(accelerator, export, training.objective, run, recorder.metrics.rows, step + 1, folder)
                recorder.event(f"exported to {folder}")
            if outcome.stop and not last:
                on_main(accelerator, add_event, out, {"step": step + 1, "event": "stopped by SIGTERM"})
                recorder.event(
                    f"stopped by SIGTERM after step {step + 1}; {checkpoints.last_whole(out)}: --resume goes on"
                )
                return False

    on_main(accelerator, export, training.objective, run, recorder.metrics.rows, recipe.max_steps, out)
    return True


def _due(step: int, every: int, last: bool) -> bool:
    return last or (step + 1) % every == 0


def _save(training: Training, run: Run, state: dict) -> None:
    accelerator, keep = training.accelerator, run.settings.keep_checkpoints
    if accelerator.scaler is not None:
        state["scaler"] = accelerator.scaler.state_dict()
    checkpoints.save_checkpoint(accelerator, run.out, training.objective, training.optimizer, state, keep)


def _processes_here(accelerator: Accelerator) -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))


def make_accelerator(options: Options) -> Accelerator:
    """The processes that were launched, as one.

    Raises:
        UserError: if fp16 is asked for on a CPU, where accelerate would silently train in fp32, or a tracker that is not installed.
    """
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # else processes launched on a machine without one run side by side, unaware
        log_with=list(options.log_with) or None,
        project_dir=str(options.output_dir),
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=timedelta(hours=6)),  # the others wait while one process looks at the audio
        ],
    )
    if missing := [name for name in options.log_with if name not in {str(each) for each in accelerator.log_with}]:
        stop(accelerator, f"--log_with {missing[0]}: accelerate finds no such package; pip install {missing[0]}")
    if accelerator.mixed_precision == "fp16" and accelerator.scaler is None:
        stop(accelerator, "--mixed_precision fp16 needs a GPU: on a CPU use bf16 or no")
    if accelerator.device.type == "cpu":
        share_cores(_processes_here(accelerator))
        keep_freed_memory()
    return accelerator


def make_targets(
    accelerator: Accelerator, run: Run, clips: Clips, workers: int
) -> tuple[ClusterTargets | None, CachedLabels | None]:
    """What HuBERT is to predict: the clusters, fitted once per run, and all labels if they are made once."""
    recipe, settings = run.recipe, run.settings
    if recipe.objective != "hubert":
        return None, None
    frames: MfccFrames | LayerFrames = MfccFrames()
    if recipe.target_layer:
        frames = LayerFrames(str(settings.targets_from), recipe.target_layer, accelerator.device)
    fit_targets(accelerator, frames, clips, recipe, settings.seed, run.out, workers)
    label = ClusterTargets(frames, read_centroids(run.out / CENTROIDS))
    return label, label_all(accelerator, label, clips, run.out, workers) if settings.cache_targets else None


def make_training(accelerator: Accelerator, run: Run, label: ClusterTargets | None) -> Training:
    """The model as it begins, and its optimiser."""
    recipe = run.recipe
    set_seed(run.settings.seed)
    objective = HubertObjective(recipe) if recipe.objective == "hubert" else Wav2Vec2Objective(recipe)
    if run.settings.gradient_checkpointing:
        checkpoint_activations(objective.model)
    betas = (recipe.beta1, recipe.beta2)
    fused = accelerator.device.type in ("cuda", "cpu")
    optimizer = torch.optim.AdamW(
        objective.parameters(), recipe.learning_rate, betas, recipe.adam_epsilon, recipe.weight_decay, fused=fused
    )
    if accelerator.ddp_handler is not None:  # a layer that is dropped has no gradient
        accelerator.ddp_handler.find_unused_parameters = recipe.layer_drop > 0
    model, optimizer = accelerator.prepare(objective, optimizer)
    objective = accelerator.unwrap_model(model, keep_torch_compile=False)
    return Training(accelerator, recipe, objective, model, optimizer, label)
