"""Targets labelled once for all clips (`--cache_targets`): 16-bit ids, one file for each shard of the prepared audio.

A label on the fly hears its crop; a cached one hears the whole clip, as in HuBERT's own pipeline.
"""

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from arch_hf.errors import AudioError, UserError
from arch_hf.files import write_atomically
from arch_hf.pretraining.architecture import FRAME_HOP, FRAME_SAMPLES
from arch_hf.pretraining.batching import read_clip
from arch_hf.pretraining.clips import Clips
from arch_hf.pretraining.loading import make_loader
from arch_hf.pretraining.processes import on_main
from arch_hf.pretraining.recipes import SAMPLING_RATE
from arch_hf.pretraining.shards import sha256
from arch_hf.pretraining.targets import ClusterTargets
from arch_hf.progress import progress_bar

FOLDER, SUM = "targets", ".sha256"
_OPEN = 64
BATCH_SECONDS = 90.0


def n_frames(samples: np.ndarray) -> np.ndarray:
    """Frames of clips of so many samples.

    Examples:
        >>> n_frames(np.array([16_000, 400, 399])).tolist()
        [49, 1, 0]
    """
    return np.maximum((samples - FRAME_SAMPLES) // FRAME_HOP + 1, 0)


class CachedLabels:
    """The labels of a clip's frames by its number, from the files that `label_all` wrote."""

    def __init__(self, folder: Path, clips: Clips):
        self.folder, self.clips = folder, clips
        self._open: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def __call__(self, number: int) -> np.ndarray:
        """uint16 [frames]."""
        block = int(np.searchsorted(self.clips.blocks, number, side="right")) - 1
        if block not in self._open:
            if len(self._open) == _OPEN:
                self._open.popitem(last=False)
            self._open[block] = np.load(_path(self.folder, block), mmap_mode="r"), _starts(self.clips, block)
        self._open.move_to_end(block)
        labels, starts = self._open[block]
        row = number - int(self.clips.blocks[block])
        return labels[starts[row] : starts[row + 1]]


def label_all(accelerator: Accelerator, label: ClusterTargets, clips: Clips, out: Path, workers: int) -> CachedLabels:
    """Label every frame of every clip, each process its share of the shards; goes on where it was stopped.

    Raises:
        UserError: if the clips are files as they were found, whose exact length is not known, or there are more than 65,536 clusters.
    """
    folder = out / FOLDER
    on_main(accelerator, _begin, folder, label, clips)
    blocks = range(accelerator.process_index, len(clips.blocks) - 1, accelerator.num_processes)
    missing = [block for block in blocks if not _is_whole(folder, clips, block)]
    with progress_bar("labelling", len(missing), accelerator.is_main_process, unit="shard") as bar:
        for block in missing:
            _label_block(block, label, clips, folder, workers, accelerator.device)
            bar.update()
    accelerator.wait_for_everyone()
    return CachedLabels(folder, clips)


def _begin(folder: Path, label: ClusterTargets, clips: Clips) -> None:
    if any(index.parent.joinpath("manifest.json").exists() is False for index in clips.indices):
        raise UserError(
            "--cache_targets wants prepared audio: arch-hf prepare-audio SOURCE --output_dir DIR, then --audio DIR"
        )
    if len(label.centroids) > 1 << 16:
        raise UserError(f"--cache_targets holds at most 65,536 clusters, not {len(label.centroids)}")
    about = {"clips": clips.fingerprint, "frames_of": label.frames.fingerprint}
    path = folder / "about.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) == about:
        return
    for stale in folder.glob("*.npy"):
        stale.unlink()
    write_atomically(path, json.dumps(about).encode())


def _path(folder: Path, block: int) -> Path:
    return folder / f"{block:06d}.npy"


def _is_whole(folder: Path, clips: Clips, block: int) -> bool:
    path = _path(folder, block)
    try:
        sound = sha256(path) == path.with_suffix(SUM).read_text()
        return sound and np.load(path, mmap_mode="r").shape == (_starts(clips, block)[-1],)
    except (OSError, ValueError):
        return False


def _starts(clips: Clips, block: int) -> np.ndarray:
    samples = clips.samples[clips.blocks[block] : clips.blocks[block + 1]]
    return np.concatenate([[0], np.cumsum(n_frames(samples))])


class _WholeClips(Dataset):
    """Clips of one length, whole: (numbers, waveforms). Those that cannot be decoded are left out; training names them."""

    def __init__(self, clips: Clips):
        self.clips = clips

    def __getitem__(self, numbers: list[int]) -> tuple[list[int], torch.Tensor]:
        found, waveforms = [], []
        for number in numbers:
            clip = self.clips[number]
            try:
                audio = read_clip(self.clips, clip)
            except AudioError:
                continue
            if len(audio) == clip.samples:
                found.append(number)
                waveforms.append(audio)
        return found, torch.from_numpy(np.stack(waveforms)) if found else torch.zeros(0, 0)


def _label_block(block: int, label: ClusterTargets, clips: Clips, folder: Path, workers: int, device) -> None:
    first, stop = int(clips.blocks[block]), int(clips.blocks[block + 1])
    starts = _starts(clips, block)
    labels = np.zeros(starts[-1], np.uint16)
    order = first + np.argsort(clips.samples[first:stop], kind="stable")
    batches: list[list[int]] = []
    held: list[int] = []
    for number in order.tolist():
        length = int(clips.samples[number])
        full = (len(held) + 1) * length > BATCH_SECONDS * SAMPLING_RATE
        if held and (full or clips.samples[held[0]] != length):
            batches.append(held)
            held = []
        if length >= FRAME_SAMPLES:
            held.append(number)
    for numbers, waveforms in make_loader(_WholeClips(clips), [*batches, held] if held else batches, workers):
        if numbers:
            found = label(waveforms.to(device)).cpu().numpy().astype(np.uint16)
            for number, row in zip(numbers, found, strict=True):
                labels[starts[number - first] : starts[number - first + 1]] = row
    aside = folder / f".{block:06d}.partial.npy"
    np.save(aside, labels)
    write_atomically(_path(folder, block).with_suffix(SUM), sha256(aside).encode())
    aside.replace(_path(folder, block))
