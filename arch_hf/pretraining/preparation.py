"""What comes before the loop: the recipe asked for, the audio found, the targets fitted, the loader built."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from arch_hf.errors import UserError
from arch_hf.pretraining import checkpoints, targets
from arch_hf.pretraining.batching import FolderBatches, FolderPlan, MicroBatch, StreamBatches
from arch_hf.pretraining.recipes import Recipe, get_recipe
from arch_hf.pretraining.records import Skipped
from arch_hf.pretraining.sources import AudioStream, Clips, is_dataset, open_stream, scan_folders

MANIFEST, CENTROIDS = "clips.jsonl", "kmeans.safetensors"


@dataclass
class Options:
    """What the command line says; `arch_hf.pretraining.command` tells what each means."""

    objective: str
    size: str
    audio: list[str]
    output_dir: Path
    max_steps: int | None = None
    resume: bool = False
    targets_from: str | None = None
    layer: int = 6
    segments: list[str] | None = None
    audio_config: str | None = None
    audio_split: str | None = None
    seed: int = 0
    overrides: tuple[str, ...] = ()
    workers: int = 2
    save_every: int = 1000
    keep_checkpoints: int = 2
    log_every: int = 10
    log_with: tuple[str, ...] = ()
    gradient_checkpointing: bool = False


def recipe_of(options: Options) -> Recipe:
    """The recipe by its name, with what the options change of it."""
    recipe = get_recipe(options.objective, options.size, options.overrides)
    if options.targets_from:
        if options.objective != "hubert":
            raise UserError("--targets_from goes with --objective hubert: wav2vec2 has no targets")
        recipe = dataclasses.replace(recipe, clusters=recipe.clusters_of_layer, max_steps=recipe.max_steps_of_layer)
    if options.max_steps is not None:
        if options.max_steps < 1:
            raise UserError(f"--max_steps {options.max_steps}: must be 1 or more")
        recipe = dataclasses.replace(recipe, max_steps=options.max_steps)
    return recipe


def prepare_run(options: Options, recipe: Recipe, world: int) -> int | None:
    """On the main process: check the run's folder and find the audio → the step of the checkpoint to go on from, or None."""
    out = Path(options.output_dir)
    streamed = is_dataset(options.audio)
    if streamed and options.segments:
        raise UserError("--segments goes with a folder of clips, not with a dataset")
    configuration = {
        **dataclasses.asdict(recipe),
        "audio": options.audio if streamed else [str(Path(folder).resolve()) for folder in options.audio],
        "audio_config": options.audio_config,
        "audio_split": options.audio_split,
        "segments": options.segments,
        "targets_from": options.targets_from,
        "layer": options.layer if options.targets_from else None,
        "seed": options.seed,
    }
    if streamed:  # the order of a stream depends on who reads it
        configuration |= {"processes": world, "workers": options.workers}
    step = checkpoints.resume_point(out, configuration, options.resume)
    if step is None:
        clips = None if streamed else scan_folders(options.audio, recipe.min_seconds, options.segments)
        checkpoints.begin_run(out, configuration)
        for stale in (out / "skipped.jsonl", out / MANIFEST, out / CENTROIDS):
            stale.unlink(missing_ok=True)
        if clips is not None:
            clips.save(out / MANIFEST)
            Skipped(out, True).add(clips.skipped)
    return step


def open_source(options: Options) -> Clips | AudioStream:
    """On every process: the clips that `prepare_run` found, or the dataset."""
    if is_dataset(options.audio):
        return open_stream(options.audio[0], options.audio_config, options.audio_split)
    return Clips.load(Path(options.output_dir) / MANIFEST)


def micro_batches_of(
    source: Clips | AudioStream, recipe: Recipe, options: Options, rank: int, world: int, position: dict
) -> Iterator[MicroBatch]:
    """One process's endless micro-batches, from a position on, decoded in worker processes."""
    workers = options.workers
    if isinstance(source, Clips):
        plan = FolderPlan(source.seconds, recipe, options.seed, rank, world, position or None)
        batches, sampler = FolderBatches(source.paths, recipe), plan
    else:
        part = source.share(rank, world)
        workers = min(workers, max(1, part.shards))
        known = {int(worker): value for worker, value in position.get("workers", {}).items()}
        turn = position.get("taken", 0) % max(workers, 1)
        batches, sampler = StreamBatches(part, recipe, options.seed, rank, known, turn), None
    loader = DataLoader(
        batches, batch_size=None, sampler=sampler, num_workers=workers, pin_memory=torch.cuda.is_available()
    )
    for batch in loader:
        if batch is None:
            continue
        if batch.error:
            raise UserError(batch.error)
        yield batch


def advance(position: dict, batches: list[MicroBatch]) -> dict:
    """The position in the data after a step that took these micro-batches."""
    if "worker" not in batches[-1].position:
        return batches[-1].position
    workers = dict(position.get("workers", {}))
    for batch in batches:
        workers[str(batch.position["worker"])] = batch.position
    return {"workers": workers, "taken": position.get("taken", 0) + len(batches)}


def fit_targets(
    frames: targets.MfccFrames | targets.LayerFrames,
    source: Clips | AudioStream,
    recipe: Recipe,
    options: Options,
    device: torch.device,
) -> None:
    """On the main process: fit k-means on the frames of random crops, once per run."""
    path = Path(options.output_dir) / CENTROIDS
    if path.exists():
        return
    alone = dataclasses.replace(options, seed=options.seed + 1)  # not the crops that training begins with
    taken, count = [], 0
    with tqdm(total=recipe.kmeans_frames, desc=f"frames of {frames.description}", unit="frame", leave=False) as bar:
        for batch in micro_batches_of(source, recipe, alone, 0, 1, {}):
            if not batch.empty:
                taken.append(frames(batch.waveforms.to(device)).flatten(0, 1).cpu())
                count += len(taken[-1])
                bar.update(len(taken[-1]))
            if count >= recipe.kmeans_frames or batch.position["epoch"] > 0:
                break
    if not taken:
        raise UserError("no clip could be decoded, so there is nothing to cluster")
    sample = torch.cat(taken)[: recipe.kmeans_frames].numpy()
    targets.save_centroids(targets.fit_centroids(sample, recipe.clusters, options.seed), path)
