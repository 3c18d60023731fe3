"""Which clips make which micro-batch, and the micro-batches themselves.

Order, crops and masks are a function of the seed and of a micro-batch's place in the epoch, never of the number of processes: two
processes share what one would do in turn, and a resumed run goes on where the position in its checkpoint points.

Clips of like length go together and are cropped to the shortest among them, as both papers do, so there is no padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from arch_hf.audio import load_audio
from arch_hf.errors import AudioError
from arch_hf.pretraining.masking import sample_negatives, span_mask
from arch_hf.pretraining.recipes import SAMPLING_RATE, Recipe, frames_of

WINDOW = 8192  # clips of a folder that are shuffled, sorted by length and batched together; only their names are held
STRETCH = 1.25  # a clip joins a micro-batch if it is at most this much longer than the shortest


@dataclass
class MicroBatch:
    """What the model sees at once: crops of equal length, what is hidden of them, and where the data stands afterwards."""

    waveforms: torch.Tensor  # float32 [clips, samples]
    mask: torch.Tensor  # bool [clips, frames]
    negatives: torch.Tensor  # int64 [hidden frames, negatives]; empty for HuBERT
    seed: int  # of the draws on the device: dropout, layer drop, Gumbel noise
    position: dict  # where to resume after this one
    empty: bool = False  # no clip could be used; the tensors are a stand-in that counts nothing
    broken: list[tuple[str, str]] = field(default_factory=list)  # (clip, reason)
    error: str | None = None  # a stream that cannot go on

    def pin_memory(self) -> "MicroBatch":
        """For the data loader: memory from which a GPU copies without waiting."""
        self.waveforms, self.mask, self.negatives = (
            t.pin_memory() for t in (self.waveforms, self.mask, self.negatives)
        )
        return self

    @property
    def hidden(self) -> int:
        """Hidden frames, those that the loss is taken over."""
        return 0 if self.empty else int(self.mask.sum())


class Plan(NamedTuple):
    """One planned micro-batch: clips by index, the crop's length, the place in the data, and the position after its step."""

    clips: np.ndarray
    samples: int
    key: tuple[int, ...]
    position: dict


def group_by_length(seconds: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    """Split clips into micro-batches of at most `micro_batch_seconds` after cropping, in random order: [(indices, samples)].

    Example:
        >>> from arch_hf.pretraining.recipes import get_recipe
        >>> recipe = get_recipe("hubert", "tiny", ["micro_batch_seconds=4", "crop_seconds=2"])
        >>> groups = group_by_length(np.array([9.0, 0.5, 3.0, 0.5, 2.5]), recipe, np.random.default_rng(0))
        >>> sorted((samples, len(clips)) for clips, samples in groups)
        [(8000, 2), (32000, 1), (32000, 2)]
    """
    seconds = np.minimum(seconds, recipe.crop_seconds)
    order = rng.permutation(len(seconds))
    order = order[np.argsort(seconds[order], kind="stable")]
    sorted_seconds = seconds[order]
    groups, start = [], 0
    while start < len(order):
        shortest = sorted_seconds[start]
        fits = max(1, int(recipe.micro_batch_seconds / shortest + 1e-9))
        alike = int(np.searchsorted(sorted_seconds, shortest * STRETCH, side="right"))
        stop = min(start + fits, alike)
        groups.append((order[start:stop], int(shortest * SAMPLING_RATE)))
        start = stop
    return [groups[i] for i in rng.permutation(len(groups))]


def assemble(
    clips: list[tuple[str, bytes | str]], samples: int, key: tuple[int, ...], position: dict, recipe: Recipe
) -> MicroBatch:
    """Decode, crop and mask the clips, given as (name, bytes or path). Broken ones are left out and named."""
    rng = np.random.default_rng(key)
    shortest = int(recipe.min_seconds * SAMPLING_RATE)
    waveforms, broken = [], []
    for name, source in clips:
        start = rng.random()  # drawn also for a broken clip, so that it does not move the others' crops
        try:
            audio = load_audio(source, SAMPLING_RATE)
            if len(audio) < min(shortest, samples) - 1:
                raise AudioError(f"too short: {len(audio) / SAMPLING_RATE:.2f} s")
            waveforms.append((audio, start))
        except AudioError as error:
            broken.append((name, str(error)))
    empty = not waveforms
    if empty:
        waveforms = [(np.zeros(samples, np.float32), 0.0)]
    samples = min(samples, *(len(audio) for audio, _ in waveforms))  # a header may promise a little too much
    crops = [audio[(at := int(start * (len(audio) - samples + 1))) : at + samples] for audio, start in waveforms]
    mask = span_mask(rng, len(crops), frames_of(samples), recipe.mask_start, recipe.mask_length)
    wanted = recipe.negatives if recipe.objective == "wav2vec2" else 0
    return MicroBatch(
        waveforms=torch.from_numpy(np.stack(crops)),
        mask=torch.from_numpy(mask),
        negatives=torch.from_numpy(sample_negatives(rng, mask, wanted)),
        seed=int(rng.integers(2**62)),
        position=position,
        empty=empty,
        broken=broken,
    )


class FolderPlan:
    """The endless order of a folder's micro-batches as one process of `world` sees it, from a position on.

    Iterating gives `Plan`s. Every step takes `micro_batches` of the common order; each process takes its contiguous share.
    """

    def __init__(
        self,
        seconds: np.ndarray,
        recipe: Recipe,
        seed: int,
        rank: int = 0,
        world: int = 1,
        position: dict | None = None,
    ):
        self.seconds, self.recipe, self.seed = seconds, recipe, seed
        self.rank, self.world = rank, world
        self.position = position or {"epoch": 0, "index": 0}

    def epoch(self, epoch: int) -> list[tuple[np.ndarray, int]]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.seconds))
        groups = []
        for start in range(0, len(order), WINDOW):
            window = order[start : start + WINDOW]
            groups += [
                (window[clips], samples) for clips, samples in group_by_length(self.seconds[window], self.recipe, rng)
            ]
        return groups

    def __iter__(self) -> Iterator[Plan]:
        share = self.recipe.micro_batches // self.world
        epoch, index = self.position["epoch"], self.position["index"]
        groups = self.epoch(epoch)
        while True:
            step = []
            for _ in range(self.recipe.micro_batches):
                if index == len(groups):
                    epoch, index = epoch + 1, 0
                    groups = self.epoch(epoch)
                step.append((*groups[index], (self.seed, epoch, index)))
                index += 1
            for planned in step[self.rank * share : (self.rank + 1) * share]:
                yield Plan(*planned, position={"epoch": epoch, "index": index})


class FolderBatches(Dataset):
    """Turns a `Plan` into a `MicroBatch`; runs in the data loader's workers."""

    def __init__(self, paths: list[str], recipe: Recipe):
        self.paths, self.recipe = paths, recipe

    def __getitem__(self, plan: Plan) -> MicroBatch:
        clips = [(self.paths[i], self.paths[i]) for i in plan.clips]
        return assemble(clips, plan.samples, plan.key, plan.position, self.recipe)


class StreamBatches(IterableDataset):
    """Micro-batches of a streamed dataset, each worker of each process reading its own share of the shards.

    A buffer of `buffer` clips is filled, batched as a folder's window is, and emptied; the position is the stream's at the buffer's start
    and how many micro-batches of it are done, so resuming reads at most one buffer again. The order depends on the number
    of processes and workers.
    """

    def __init__(
        self, stream, recipe: Recipe, seed: int, rank: int, positions: dict[int, dict], turn: int, buffer: int = 1000
    ):
        self.stream, self.recipe, self.seed, self.buffer = stream, recipe, seed, buffer
        self.rank, self.positions, self.turn = rank, positions, turn

    def __iter__(self) -> Iterator[MicroBatch | None]:
        info = torch.utils.data.get_worker_info()
        worker = info.id if info else 0
        if worker < self.turn:  # the loader asks worker 0 first, whoever's turn it was: pass
            yield None
        position = self.positions.get(worker) or {"epoch": 0, "stream": None, "window": 0, "done": 0}
        epoch, state, window, done = (position[name] for name in ("epoch", "stream", "window", "done"))
        stream, usable = self.stream, 0
        while True:
            clips = stream.read(epoch, state)
            while True:
                state = clips.state()
                held, seconds, broken = self._fill(clips)
                if not held and not broken:
                    break
                usable += len(held)
                key = (self.seed, self.rank, worker, epoch, window)
                groups = group_by_length(np.array(seconds), self.recipe, np.random.default_rng(key))
                for number in range(done, len(groups)):
                    chosen, samples = groups[number]
                    position = {"worker": worker, "epoch": epoch, "stream": state, "window": window, "done": number + 1}
                    batch = assemble([held[i] for i in chosen], samples, (*key, number), position, self.recipe)
                    batch.broken += broken
                    broken = []
                    yield batch
                window, done = window + 1, 0
            if usable == 0:
                message = f"{stream.name}: no clip of at least {self.recipe.min_seconds:g} s could be read"
                nothing = assemble([], int(self.recipe.crop_seconds * SAMPLING_RATE), (0,), {}, self.recipe)
                nothing.error = message
                yield nothing
                return
            epoch, state, window, done = epoch + 1, None, 0, 0

    def _fill(self, clips) -> tuple[list, list[float], list]:
        held, seconds, broken = [], [], []
        for name, source, duration, problem in clips:
            if problem is None and duration < self.recipe.min_seconds:
                problem = f"too short: {duration:.2f} s"
            if problem is None:
                held.append((name, source))
                seconds.append(duration)
            else:
                broken.append((name, problem))
            if len(held) == self.buffer:
                break
        return held, seconds, broken
