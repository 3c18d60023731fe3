"""Clips from bytes to what the model takes, a batch at a time, in the processes or threads that decode."""

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from arch_hf.audio import load_audio
from arch_hf.distributed import n_cores
from arch_hf.embedding import plan
from arch_hf.embedding.inputs import Inputs, Segment, pack, unpack
from arch_hf.embedding.interface import WholeClips
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.workers import end_with_parent, shared_memory_holds
from arch_hf.errors import AudioError, UserError, as_user_error
from arch_hf.files import audio_digest

MOST_WORKERS = 16  # decoding processes per rank before a GPU; else one for each core of its share
AHEAD = 2  # batches that each of them has ready


class Passing:
    """Clips of a stream for a plan that takes those of a window out of order: what the stream passes before its turn is held."""

    def __init__(self, audio_of: Callable[[int], bytes], digests: Sequence[bytes], coming: list[int]):
        self.audio_of, self.digests, self.coming = audio_of, digests, coming[::-1]
        self.held: dict[int, bytes] = {}

    def __call__(self, position: int) -> bytes:
        while position not in self.held:
            i = self.coming.pop()
            try:
                self.held[i] = self.audio_of(i)
            except AudioError:
                self.held[i] = b""
            if audio_digest(self.held[i]) != self.digests[i]:
                raise UserError("the dataset has changed while it was read: start again")
        return self.held.pop(position)


@dataclass
class Batch:
    """Clips that are ready for the model.

    Attributes:
        positions: of those that can be used.
        seconds: of their audio.
        packed: the segments of all of them, and behind them those under each of the other settings that is `served`; see `unpacked`.
        failures: position -> reason.
        decode_s: how long it took.
        served: the numbers of those other settings under which the model sees the same in all of these clips.
    """

    positions: list[int]
    seconds: float
    packed: tuple[torch.Tensor | np.ndarray, list]
    failures: dict[int, str]
    decode_s: float
    served: list[int] = field(default_factory=list)

    def pin_memory(self) -> "Batch":
        """In memory that a GPU reads by itself; called by the loader, ahead of the model."""
        values, layout = self.packed
        return replace(self, packed=(torch.as_tensor(values).pin_memory(), layout))

    def unpacked(self, device: torch.device) -> list[list[Segment]]:
        """The segments on the device: of the clips, and of the same clips again under each of the settings that are `served`."""
        values, layout = self.packed
        return unpack(torch.as_tensor(values).to(device, non_blocking=True), layout)


@dataclass(frozen=True)
class Stopped:
    """What stops the extraction, told by value: torch would wrap what a worker process raises in a traceback."""

    reason: str
    position: int | None = None  # of the clip, where the reason does not name it


class Prepare(Dataset):
    """One item per batch: its clips decoded and brought into the model's form, under the settings and, where the model sees the same in all
    clips of a batch, under others `also`: for these, `seconds` say how long each clip of the corpus is.

    `as_array` is for worker processes where tensors find no shared memory to pass through: arrays go through a pipe.
    """

    def __init__(
        self,
        batches: list[list[int]],
        audio_of: Callable[[int], bytes],
        inputs: Inputs | WholeClips,
        settings: EmbedSettings,
        also: Sequence[EmbedSettings] = (),
        seconds: np.ndarray | None = None,
    ):
        self.batches, self.audio_of, self.inputs = batches, audio_of, inputs
        self.settings, self.also, self.seconds = settings, also, seconds
        self.as_array = False

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch | Stopped:
        start = time.perf_counter()
        positions: list[int] = []
        clips: list[list[Segment]] = []
        failures: dict[int, str] = {}
        lengths: list[int] = []  # in samples
        for i in self.batches[number]:
            try:
                waveform = load_audio(self.audio_of(i), self.inputs.rate, self.settings.max_seconds)
                clips.append(self.inputs.segments(waveform, self.settings.padded_seconds))
            except AudioError as error:
                failures[i] = str(error)
                continue
            except UserError as error:
                return Stopped(str(error))
            except Exception as error:
                return Stopped(str(as_user_error(error)), i)
            positions.append(i)
            lengths.append(len(waveform))
        alike = [self._seen_alike(positions, lengths, clips, other) for other in self.also]
        values, layout = pack([*clips, *(segments for others in alike if others for segments in others)])
        packed = (values.numpy() if self.as_array else values, layout)
        took = time.perf_counter() - start
        served = [k for k, others in enumerate(alike) if others]
        return Batch(positions, sum(lengths) / self.inputs.rate, packed, failures, took, served)

    def _seen_alike(
        self, positions: list[int], lengths: list[int], clips: list[list[Segment]], other: EmbedSettings
    ) -> list[list[Segment]] | None:
        """The segments of a batch under other settings; None where the model sees something else in one clip, or one of them cuts it."""
        most = min(self.settings.max_seconds, other.max_seconds)
        if self.seconds is None or max(lengths, default=0) > round(most * self.inputs.rate):
            return None
        return self.inputs.seen_alike(clips, other.padded_seconds) if (self.seconds[positions] <= most).all() else None


def decoded_ahead(clips: Prepare, workers: int, pinned: bool = False) -> Iterator[Callable[[], Batch | Stopped]]:
    """The batches as worker processes have prepared them; without any for a handful of clips."""
    workers = 0 if sum(map(len, clips.batches)) < 64 else min(workers, len(clips))
    clips.as_array = not shared_memory_holds(workers * AHEAD * plan.BATCH_SECONDS["gpu"] * clips.inputs.rate * 4)
    loader = DataLoader(
        clips,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=pinned,
        collate_fn=_as_is,  # type: ignore[arg-type]  # without batch_size it is handed one item
        worker_init_fn=end_with_parent,
    )
    for item in loader:
        yield functools.partial(_as_is, item)


def decoders() -> int:
    """How many processes decode for one rank before a GPU: a rank has its share of the machine's cores."""
    return max(1, min(MOST_WORKERS, n_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def _as_is(item: Batch | Stopped) -> Batch | Stopped:
    return item
