"""What the processes of one launch do together: start as one, share the cores and the work, fail as one."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list, gather_object

from arch_hf.errors import UserError, as_user_error

LAUNCHERS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")  # what `accelerate launch` and `torchrun` set
# How long one process waits for another, which may be downloading and hashing a corpus: by default 10 minutes (NCCL) or 30 (gloo).
PATIENCE = timedelta(hours=12)

T = TypeVar("T")


class Ranks:
    """The processes of one launch, seen from one of them.

    Attributes:
        accelerator: accelerate's own object.
        rank, size: this process, and how many there are.
        is_main: the one process that writes results and prints.
        is_local_main: one process on each machine.
        device: where this process computes.

    Example:
        >>> ranks = Ranks.launched()
        >>> ranks.gather("here"), ranks.share_out([1, 2, 3], lambda mine: [2 * job for job in mine])
        (['here'], [2, 4, 6])
    """

    def __init__(self, accelerator: Accelerator, device: torch.device | None = None):
        self.accelerator = accelerator
        self.rank, self.size = accelerator.process_index, accelerator.num_processes
        self.is_main, self.is_local_main = accelerator.is_main_process, accelerator.is_local_main_process
        self.device = device or accelerator.device

    @classmethod
    def launched(cls, device: str | None = None) -> "Ranks":
        """The processes that a launcher has started, on the best device there is or on this one ("cpu", "cuda", "cuda:1", "mps").

        Without a GPU accelerate must be told so, or the processes that `torchrun` and `accelerate launch` start on a CPU do not know of each
        other, and each does the whole work.

        Raises:
            UserError: there is no such device.
        """
        wanted = None if device is None else find_device(device)
        patience = InitProcessGroupKwargs(timeout=PATIENCE)
        on_cpu = not torch.accelerator.is_available() or (wanted is not None and wanted.type == "cpu")
        accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[patience])
        if wanted is not None and accelerator.num_processes > 1:
            if wanted.index is not None:
                raise UserError(
                    f"--device {device} is one device, for {accelerator.num_processes} processes: leave out its number"
                )
            wanted = None  # each has its own
        ranks = cls(accelerator, wanted)
        share_cores(int(os.environ.get("LOCAL_WORLD_SIZE", ranks.size)))
        return ranks

    def gather(self, value: T) -> list[T]:
        """The value of every process, in the order of the ranks."""
        return gather_object([value]) if self.size > 1 else [value]

    def from_main(self, value: T) -> T:
        """The main process's value, on every process."""
        return broadcast_object_list([value])[0] if self.size > 1 else value

    def together(self, work: Callable[[], T], main_first: bool = False) -> T:
        """Do `work` on every process. When it fails on one, all of them fail with its message: nobody waits for the dead.

        With `main_first` one process of each machine goes first: it downloads, and the others find what it has left.

        Raises:
            UserError: whatever went wrong; of an error that is nobody's mistake, the message names the log file with its traceback.
        """
        value: Any = None
        for my_turn in (self.is_local_main, not self.is_local_main) if main_first else (True,):
            error = None
            try:
                value = work() if my_turn else value
            except Exception as problem:
                error = str(as_user_error(problem))
            self.fail_together(error)
        return value

    def fail_together(self, error: str | None) -> None:
        """Raise the first process's error on all of them, if one has any."""
        if errors := [found for found in self.gather(error) if found]:
            raise UserError(errors[0])

    def share_out(self, jobs: Sequence, work: Callable[[Sequence], list]) -> list:
        """Do the jobs, every n-th on each of n processes; every process gets all answers, in the order of the jobs.

        Raises:
            UserError: on all processes, if one of them failed.
        """
        if self.size == 1:
            return work(jobs)
        mine, error = [], None
        try:
            mine = work(jobs[self.rank :: self.size])
        except Exception as problem:
            error = str(as_user_error(problem))
        self.fail_together(error)
        answers = [None] * len(jobs)
        for rank, part in enumerate(self.gather(mine)):
            answers[rank :: self.size] = part
        return answers

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()

    def end(self) -> None:
        """Nothing more is done together."""
        self.accelerator.end_training()


def find_device(name: str) -> torch.device:
    """The device of that name, once it has computed something.

    Raises:
        UserError: there is none.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
        >>> find_device("gpu")
        Traceback (most recent call last):
        arch_hf.errors.UserError: --device gpu: no such device; there are cpu...
    """
    try:
        device = torch.device(name)
        torch.ones(1, device=device).add_(1).item()
        return device
    except (RuntimeError, AssertionError, NotImplementedError):
        best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        kinds = (
            ["cpu"] + [f"{best.type}:{index}" for index in range(torch.accelerator.device_count())] if best else ["cpu"]
        )
        raise UserError(f"--device {name}: no such device; there are {', '.join(kinds)}") from None


def share_cores(n_processes: int) -> None:
    """Compute on this process's share of the machine's cores if a launcher started it, `n_processes` on this machine.

    Launchers set OMP_NUM_THREADS to 1 unless they are told a number: then all cores but one per process would be idle.
    """
    if torch.get_num_threads() == 1 and any(name in os.environ for name in LAUNCHERS):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // n_processes))
