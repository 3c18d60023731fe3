"""The clustering of HuBERT's targets: frames of a share of the audio, heard by all processes, clustered by one."""

import itertools
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from arch_hf.errors import UserError
from arch_hf.files import checksum
from arch_hf.pretraining.batching import Plan, Planned
from arch_hf.pretraining.clips import Clips
from arch_hf.pretraining.loading import load_batches
from arch_hf.pretraining.processes import on_main
from arch_hf.pretraining.recipes import SAMPLING_RATE, Recipe
from arch_hf.pretraining.targets import LayerFrames, MfccFrames
from arch_hf.progress import progress_bar
from arch_hf.terminal import say

CENTROIDS = "kmeans.safetensors"


def fit_targets(
    accelerator: Accelerator,
    frames: MfccFrames | LayerFrames,
    clips: Clips,
    recipe: Recipe,
    seed: int,
    out: Path,
    workers: int,
) -> None:
    """Fit k-means on frames of random crops, once per run, into `out`; all processes hear their part of the audio.

    Which frames are clustered does not depend on the number of processes.

    Raises:
        UserError: if no clip can be decoded, there are fewer frames than clusters, or a run goes on with other targets.
    """
    if on_main(accelerator, _fitted, out / CENTROIDS, frames.fingerprint):
        return
    rank, world = accelerator.process_index, accelerator.num_processes
    parts = out / ".kmeans"
    if accelerator.is_main_process:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
    accelerator.wait_for_everyone()
    chosen, heard = _hear(frames, clips, recipe, seed, (rank, world), workers, accelerator)
    save_file(chosen, parts / f"{rank}.safetensors")
    heard = float(accelerator.reduce(torch.tensor(heard, device=accelerator.device, dtype=torch.float32)))
    accelerator.wait_for_everyone()
    on_main(accelerator, _cluster, parts, recipe, seed, out / CENTROIDS, _about(frames, heard, clips.hours * 3600))


def _fitted(path: Path, fingerprint: str) -> bool:
    if not path.exists():
        return False
    read_centroids(path)
    before = read_about(path).get("fingerprint")
    if before != fingerprint:
        raise UserError(
            f"--resume: the targets of {path.parent} were made of another model (weights {before}, now {fingerprint})"
        )
    return True


def _sample(clips: Clips, recipe: Recipe, seed: int) -> tuple[Iterator[tuple[int, Planned]], float]:
    """The micro-batches that are heard, numbered, and the seconds of an epoch: a share of an epoch in an order that training does not begin with."""
    usable = clips.samples[clips.samples >= round(recipe.min_seconds * SAMPLING_RATE)]
    seconds = float(np.minimum(usable, round(recipe.crop_seconds * SAMPLING_RATE)).sum()) / SAMPLING_RATE
    plan = Plan(clips, replace(recipe, micro_batches=1), seed + 1)

    def take() -> Iterator[tuple[int, Planned]]:
        heard = 0.0
        for number, planned in enumerate(plan):
            if planned.key[1] > 0 or heard >= recipe.kmeans_share * seconds:
                return
            heard += len(planned.clips) * planned.samples / SAMPLING_RATE
            yield number, planned

    return take(), seconds


def _hear(frames, clips, recipe, seed, place: tuple[int, int], workers: int, accelerator) -> tuple[dict, float]:
    """This process's part of the sample: frames by the micro-batch's number, and the seconds that were heard."""
    rank, world = place
    sample, seconds = _sample(clips, recipe, seed)
    per_second = frames.step * 50
    keep = min(1.0, recipe.kmeans_frames / max(1.0, recipe.kmeans_share * seconds * per_second))
    numbers, plans = itertools.tee(itertools.islice(sample, rank, None, world))
    batches = load_batches(clips, recipe, (planned for _, planned in plans), workers)
    chosen, heard = {}, 0.0
    total = recipe.kmeans_share * seconds / world
    with progress_bar(f"hearing {frames.description}", round(total), accelerator.is_main_process, unit="s") as bar:
        for (number, _), batch in zip(numbers, batches, strict=True):
            if batch.empty:
                continue
            rng = np.random.default_rng((seed, number))
            found = frames(batch.waveforms.to(accelerator.device)).flatten(0, 1)
            index = rng.permutation(len(found))[: int(keep * len(found) + rng.random())]
            chosen[f"{number:09d}"] = found[torch.from_numpy(np.sort(index)).to(found.device)].cpu().numpy()
            heard += batch.seconds
            bar.update(round(batch.seconds))
    return chosen, heard


def _about(frames, heard: float, seconds: float) -> dict[str, str]:
    """`seconds` is the audio as a whole: where clips are longer than a crop, most of it is not heard."""
    share = 100 * heard / max(seconds, 1e-9)
    return {
        "fingerprint": frames.fingerprint,
        "frames_of": frames.description,
        "hours": f"{heard / 3600:.4g}",
        "share": f"{share:.3g} %",
    }


def _cluster(parts: Path, recipe: Recipe, seed: int, path: Path, about: dict[str, str]) -> None:
    taken: dict[str, np.ndarray] = {}
    for part in parts.glob("*.safetensors"):
        taken |= load_file(part)
    if not taken:
        raise UserError("no clip could be decoded, so there is nothing to cluster")
    sample = np.concatenate([taken[number] for number in sorted(taken)])
    taken.clear()
    centroids = fit_centroids(sample, recipe.clusters, seed, recipe.kmeans_starts)
    about |= {"frames": str(len(sample)), "sha256": checksum(centroids)}
    aside = path.with_name(f".{path.name}.partial")
    save_file({"centroids": centroids}, aside, metadata=about)
    aside.replace(path)
    shutil.rmtree(parts, ignore_errors=True)
    say(describe(path))


def fit_centroids(frames: np.ndarray, clusters: int, seed: int, starts: int) -> np.ndarray:
    """k-means over frames [frames, dim] → float32 [clusters, dim].

    scikit-learn's mini-batch k-means with HuBERT's settings (fairseq's learn_kmeans.py: k-means++, batches of 10,000, 100 passes at
    most, no reassignment).

    Raises:
        UserError: if there are fewer frames than clusters.
    """
    if len(frames) < clusters:
        raise UserError(
            f"{len(frames)} frames are too few for {clusters} clusters: give more audio, or --set clusters={len(frames)}"
        )
    kmeans = MiniBatchKMeans(
        clusters,
        batch_size=10_000,
        max_iter=100,
        n_init=starts,
        tol=0.0,
        max_no_improvement=100,
        reassignment_ratio=0.0,
        compute_labels=False,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans.fit(frames)
    return kmeans.cluster_centers_.astype(np.float32)


def read_centroids(path: Path) -> torch.Tensor:
    """float32 [clusters, dim].

    Raises:
        UserError: if they are not what was written.
    """
    try:
        centroids, written = load_file(path)["centroids"], read_about(path).get("sha256")
    except (OSError, SafetensorError, KeyError):
        centroids, written = np.zeros(0, np.float32), "none"
    if written and written != checksum(centroids):  # a file of arch-hf 0.1 has none
        raise UserError(f"{path} is damaged: put it back, or begin anew in another --output_dir")
    return torch.from_numpy(centroids)


def read_about(path: Path) -> dict[str, str]:
    """What the centroids were fitted on."""
    with safe_open(path, "np") as file:
        return file.metadata() or {}


def describe(path: Path) -> str:
    """The clustering in words."""
    about = read_about(path)
    clusters = len(read_centroids(path))
    return (
        f"{clusters} k-means clusters of {int(about['frames']):,} frames of {about['frames_of']}, "
        f"drawn from {about['hours']} h ({about['share']} of the audio)"
    )
