"""Which clips make which micro-batch, and the micro-batches themselves.

Order, crops and masks are a function of the seed and of a micro-batch's place in the epoch, never of the number of processes: two
processes share what one would do in turn, and a resumed run goes on where the position in its checkpoint points, on as many
processes as it then has.

An epoch takes the shards in random order, a window of them at a time. A window's clips are shuffled, sorted by length and cut into
micro-batches, and these are shuffled: reading stays within a few shards for a while, and nothing is held but a window's numbers.
Clips of like length go together and are cropped to the shortest among them, as both papers do, so there is no padding.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from arch_hf.audio import load_audio
from arch_hf.errors import AudioError
from arch_hf.pretraining.architecture import FRAME_HOP, frames_of
from arch_hf.pretraining.clips import Clip, Clips
from arch_hf.pretraining.masking import sample_negatives, span_mask
from arch_hf.pretraining.recipes import SAMPLING_RATE, Recipe
from arch_hf.pretraining.shards import decode

WINDOW = 16_384  # clips of a window, at least
STRETCH = 1.25  # a clip joins a micro-batch if it is at most this much longer than the shortest


@dataclass
class MicroBatch:
    """What the model sees at once: crops of equal length, which frames of them are masked, and where the data stands afterwards."""

    waveforms: torch.Tensor  # float32 [clips, samples]
    mask: torch.Tensor  # bool [clips, frames]
    masked: torch.Tensor  # int64 [masked frames], their places in the flattened mask
    goal: (
        torch.Tensor
    )  # wav2vec 2.0: negatives, int64 [masked frames, negatives]; HuBERT: labels, int64 [clips, frames], or empty
    seed: int  # of the draws on the device: dropout, layer drop, Gumbel noise
    position: dict  # where to resume after this one's step
    names: list[str] = field(default_factory=list)
    empty: bool = False  # no clip could be used; the tensors are a stand-in that counts nothing
    broken: list[tuple[str, str]] = field(default_factory=list)  # (clip, reason)

    def pin_memory(self) -> "MicroBatch":
        """For the data loader: memory from which a GPU copies without waiting."""
        for name in ("waveforms", "mask", "masked", "goal"):
            setattr(self, name, getattr(self, name).pin_memory())
        return self

    @property
    def n_masked(self) -> int:
        """Masked frames, those that the loss is taken over."""
        return 0 if self.empty else len(self.masked)

    @property
    def seconds(self) -> float:
        return 0.0 if self.empty else self.waveforms.numel() / SAMPLING_RATE


class Planned(NamedTuple):
    """One planned micro-batch: clips by number, the crops' length in samples, the place in the data, and the position after its step."""

    clips: np.ndarray
    samples: int
    key: tuple[int, ...]
    position: dict


def group_by_length(samples: np.ndarray, recipe: Recipe, rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    """Split clips into micro-batches of at most `micro_batch_seconds` after cropping, in random order: [(indices, samples of the crops)].

    Examples:
        >>> from arch_hf.pretraining.recipes import get_recipe
        >>> recipe = get_recipe("hubert", "tiny", ["micro_batch_seconds=4", "crop_seconds=2"])
        >>> lengths = np.array([144000, 8000, 48000, 8000, 40000])
        >>> groups = group_by_length(lengths, recipe, np.random.default_rng(0))
        >>> sorted((crop, len(clips)) for clips, crop in groups)
        [(8000, 2), (32000, 1), (32000, 2)]
    """
    samples = np.minimum(samples, round(recipe.crop_seconds * SAMPLING_RATE))
    budget = round(recipe.micro_batch_seconds * SAMPLING_RATE)
    most = recipe.micro_batch_clips or len(samples)
    order = rng.permutation(len(samples))
    order = order[np.argsort(samples[order], kind="stable")]
    lengths = samples[order]
    groups, start = [], 0
    while start < len(order):
        shortest = int(lengths[start])
        alike = int(np.searchsorted(lengths, shortest * STRETCH, side="right"))
        stop = min(start + min(max(1, budget // shortest), most), alike)
        groups.append((order[start:stop], shortest))
        start = stop
    return [groups[i] for i in rng.permutation(len(groups))]


class Plan:
    """The endless order of the micro-batches as one process of `world` sees it, from a position on.

    Iterating gives `Planned`s. Every step takes `micro_batches` of the common order; each process takes its contiguous share.
    """

    def __init__(
        self, clips: Clips, recipe: Recipe, seed: int, rank: int = 0, world: int = 1, position: dict | None = None
    ):
        self.clips, self.recipe, self.seed = clips, recipe, seed
        self.rank, self.world = rank, world
        self.position = position or {"epoch": 0, "window": 0, "index": 0}
        self.least = round(recipe.min_seconds * SAMPLING_RATE)

    def windows(self, epoch: int) -> list[np.ndarray]:
        """The windows of an epoch, each as the numbers of its blocks."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.clips.blocks) - 1)
        held = np.cumsum(np.diff(self.clips.blocks)[order])
        cuts = [0]
        while cuts[-1] < len(order):
            before = held[cuts[-1] - 1] if cuts[-1] else 0
            cuts.append(int(np.searchsorted(held, before + WINDOW)) + 1)
        return [order[start:stop] for start, stop in itertools.pairwise(cuts)]

    def groups(self, epoch: int, number: int, blocks: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """The micro-batches of one window: [(clips, samples of the crops)]. Clips that are too short are left out."""
        starts, stops = self.clips.blocks[blocks], self.clips.blocks[blocks + 1]
        clips = np.concatenate([np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)])
        samples = self.clips.samples[clips]
        usable = samples >= self.least
        clips, samples = clips[usable], samples[usable]
        rng = np.random.default_rng((self.seed, epoch, number))
        return [(clips[chosen], crop) for chosen, crop in group_by_length(samples, self.recipe, rng)]

    def __iter__(self) -> Iterator[Planned]:
        share = self.recipe.micro_batches // self.world
        order = self._in_order(**self.position)
        while True:
            step = [next(order) for _ in range(self.recipe.micro_batches)]
            for planned in step[self.rank * share : (self.rank + 1) * share]:
                yield planned._replace(position=step[-1].position)

    def _in_order(self, epoch: int, window: int, index: int) -> Iterator[Planned]:
        while True:
            windows = self.windows(epoch)
            while window < len(windows):
                groups = self.groups(epoch, window, windows[window])
                while index < len(groups):
                    chosen, crop = groups[index]
                    position = {"epoch": epoch, "window": window, "index": index + 1}
                    yield Planned(chosen, crop, (self.seed, epoch, window, index), position)
                    index += 1
                window, index = window + 1, 0
            epoch, window = epoch + 1, 0


def read_clip(clips: Clips, clip: Clip) -> np.ndarray:
    """A clip's samples at 16 kHz, from its shard or its file.

    Raises:
        AudioError: if it cannot be used.
    """
    source = clips.read(clip)
    return decode(source, clip) if isinstance(source, bytes) else load_audio(source, SAMPLING_RATE)


class Batches(Dataset):
    """Turns a `Planned` into a `MicroBatch`; runs in the data loader's workers.

    `labels`, where targets are cached, gives the labels of a clip's frames by its number.
    """

    def __init__(self, clips: Clips, recipe: Recipe, labels=None):
        self.clips, self.recipe, self.labels = clips, recipe, labels

    def __getitem__(self, planned: Planned) -> MicroBatch:
        chosen = [(int(number), self.clips[int(number)]) for number in planned.clips]
        return self.assemble(chosen, planned.samples, planned.key, planned.position)

    def assemble(
        self, chosen: list[tuple[int, Clip]], samples: int, key: tuple[int, ...], position: dict
    ) -> MicroBatch:
        """Decode, crop and mask clips. Broken ones are left out and named."""
        recipe, rng = self.recipe, np.random.default_rng(key)
        least = min(round(recipe.min_seconds * SAMPLING_RATE), samples)
        whole, broken = [], []
        for number, clip in chosen:
            start = rng.random()  # drawn also for a broken clip, so that it does not move the others' crops
            try:
                audio = read_clip(self.clips, clip)
                if len(audio) < least - 1:
                    raise AudioError(f"too short: {len(audio) / SAMPLING_RATE:.2f} s")
                whole.append((number, clip.name, audio, start))
            except AudioError as error:
                broken.append((clip.name, str(error)))
        empty = not whole
        if empty:
            whole = [(-1, "", np.zeros(samples, np.float32), 0.0)]
        samples = min(samples, *(len(audio) for _, _, audio, _ in whole))  # a header may promise a little too much
        # HuBERT's crops begin at a frame of the whole clip, so that labels of the clip are labels of the crop.
        step = FRAME_HOP if recipe.objective == "hubert" else 1
        begins = [int(start * ((len(audio) - samples) // step + 1)) * step for _, _, audio, start in whole]
        crops = [audio[at : at + samples] for (_, _, audio, _), at in zip(whole, begins, strict=True)]
        shape = (len(crops), frames_of(samples))
        mask = span_mask(rng, shape, recipe.mask_start, recipe.mask_length, recipe.trim_masks)
        if recipe.objective == "wav2vec2":
            goal = sample_negatives(rng, mask, recipe.negatives)
        elif self.labels is None or empty:
            goal = np.zeros(shape if empty else 0, np.int64)
        else:
            frames = [at // FRAME_HOP for at in begins]
            goal = np.stack([self.labels(n)[at : at + shape[1]] for (n, *_), at in zip(whole, frames, strict=True)])
        return MicroBatch(
            waveforms=torch.from_numpy(np.stack(crops)),
            mask=torch.from_numpy(mask),
            masked=torch.from_numpy(np.flatnonzero(mask)),
            goal=torch.from_numpy(goal.astype(np.int64)),
            seed=int(rng.integers(2**62)),
            position=position,
            names=[name for _, name, _, _ in whole],
            empty=empty,
            broken=broken,
        )
