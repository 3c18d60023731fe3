"""Decoding in worker processes, ahead of the model."""

import signal
from collections.abc import Iterable, Iterator

import torch
from torch.utils.data import DataLoader

from arch_hf.distributed import n_cores
from arch_hf.embedding.workers import end_with_parent, keep_freed_memory
from arch_hf.pretraining.batching import Batches, MicroBatch, Planned
from arch_hf.pretraining.clips import Clips
from arch_hf.pretraining.recipes import Recipe

MOST_WORKERS = 16


def usual_workers(processes_here: int) -> int:
    """How many decoding processes a training process has: its share of the machine's cores, one kept for itself. Without a GPU, training
    needs the cores, and one decodes.

    Examples:
        >>> usual_workers(1) >= 1
        True
    """
    if not torch.accelerator.is_available():
        return 1
    return max(1, min(MOST_WORKERS, n_cores() // processes_here - 1))


def load_batches(
    clips: Clips, recipe: Recipe, plan: Iterable[Planned], workers: int, labels=None
) -> Iterator[MicroBatch]:
    """The planned micro-batches, decoded, in their order."""
    return iter(make_loader(Batches(clips, recipe, labels), plan, workers))


def make_loader(dataset, sampler: Iterable, workers: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=begin_worker,
        prefetch_factor=4 if workers else None,
    )


def begin_worker(worker: int) -> None:
    """A decoding process goes on while the training process saves its last checkpoint, and ends with it. Clip after clip fits into the same memory."""
    for name in ("SIGTERM", "SIGUSR1", "SIGINT"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    end_with_parent(worker)
    keep_freed_memory()
