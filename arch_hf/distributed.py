"""What the processes of one launch do together: start as one, share the cores and the work, fail as one."""

import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list, gather_object

from arch_hf.errors import UserError, as_user_error
from arch_hf.terminal import say

LAUNCHERS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")  # what `accelerate launch` and `torchrun` set
# How a launcher asks for a training strategy. Nothing is trained here on several processes together: each has the whole model, and works alone.
STRATEGIES = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")
DTYPES = {"no": None, "fp16": "float16", "bf16": "bfloat16"}  # of a launcher's --mixed_precision
# How long one process waits for another, which may be downloading and hashing a corpus: by default 10 minutes (NCCL) or 30 (gloo).
PATIENCE = timedelta(hours=12)

T = TypeVar("T")


class SharedError(UserError):
    """What went wrong on one process, as all of them have heard."""


class Ranks:
    """The processes of one launch, seen from one of them.

    Attributes:
        accelerator: accelerate's own object.
        rank, size: this process, and how many there are.
        is_main: the one process that writes results and prints.
        is_local_main: one process on each machine.
        device: where this process computes.
        machine: the name of this process's machine, unlike that of any other.

    Examples:
        >>> ranks = Ranks.launched()
        >>> ranks.gather("here"), ranks.share_out([1, 2, 3], lambda mine: [2 * job for job in mine])
        (['here'], [2, 4, 6])
    """

    def __init__(self, accelerator: Accelerator, device: torch.device | None = None):
        self.accelerator = accelerator
        self.rank, self.size = accelerator.process_index, accelerator.num_processes
        self.is_main, self.is_local_main = accelerator.is_main_process, accelerator.is_local_main_process
        self.device = device or accelerator.device
        self.machine = machine_name()

    @classmethod
    def launched(cls, device: str | None = None) -> "Ranks":
        """The processes that a launcher has started, on the best device there is or on this one ("cpu", "cuda", "cuda:1", "mps").

        Without a GPU accelerate must be told so, or the processes that `torchrun` and `accelerate launch` start on a CPU do not know of each
        other, and each does the whole work. Of a launcher's settings for training (FSDP, DeepSpeed) nothing is taken.

        Raises:
            UserError: there is no such device.
        """
        wanted = None if device is None else find_device(device)
        ignored = [name for name in STRATEGIES if os.environ.pop(f"ACCELERATE_USE_{name}", "false").lower() == "true"]
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
        if ignored and ranks.is_main:
            say(
                f"note: the launcher's settings for {', '.join(ignored)} are of training, and not used here", sys.stderr
            )
        share_cores(int(os.environ.get("LOCAL_WORLD_SIZE", ranks.size)))
        return ranks

    @property
    def dtype(self) -> str | None:
        """What the launcher's --mixed_precision asks for; None for float32.

        Raises:
            UserError: it asks for what no encoder is run in.
        """
        asked = self.accelerator.mixed_precision
        if asked not in DTYPES:
            raise UserError(
                f"--mixed_precision {asked}: encoders run in float32, bf16 or fp16; launch with one of these"
            )
        return DTYPES[asked]

    def gather(self, value: T, error: str | None = None) -> list[T]:
        """The value of every process, in the order of the ranks; or the error of the first that has one, on all of them.

        Raises:
            SharedError: this process brings an `error`, or another has failed since they last met (see `tell`).
        """
        told = gather_object([(value, error)]) if self.size > 1 else [(value, error)]
        if errors := [problem for _, problem in told if problem is not None]:
            raise SharedError(errors[0])
        return [found for found, _ in told]

    def tell(self, error: Exception) -> UserError:
        """The error as a `UserError`, once the others know of it: they wait in their next `gather`, and fail there. What all know already
        is not told again."""
        if isinstance(error, SharedError):
            return error
        problem = as_user_error(error)
        try:
            self.gather(None, str(problem))
        except SharedError as shared:
            return shared
        raise AssertionError("unreachable")

    def on_main(self, work: Callable[[], T]) -> T:
        """Do `work` on the main process alone, and have what it gives on all of them.

        Raises:
            SharedError: it failed.
        """
        value, error = None, None
        if self.is_main:
            try:
                value = work()
            except Exception as problem:
                error = str(as_user_error(problem))
        return self.gather(value, error)[0]  # type: ignore[return-value]

    def from_rank(self, rank: int, value: T) -> T:
        """The value of one process, on every process: unlike `gather`, for one that fills much memory."""
        return broadcast_object_list([value], from_process=rank)[0] if self.size > 1 else value

    def agree(self, what: str, value: T) -> T:
        """The value, if all processes have the same.

        Raises:
            SharedError: they have not: their folders or caches are not the same.
        """
        if len(set(self.gather(value))) > 1:
            raise SharedError(
                f"the processes do not have the same {what}: give all machines the same files, and start again"
            )
        return value

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
            except SharedError:
                raise
            except Exception as problem:
                error = str(as_user_error(problem))
            self.gather(None, error)
        return value

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
        except SharedError:
            raise
        except Exception as problem:
            error = str(as_user_error(problem))
        answers = [None] * len(jobs)
        for rank, part in enumerate(self.gather(mine, error)):
            answers[rank :: self.size] = part
        return answers

    def share_locally(self, jobs: Sequence[str]) -> list[str]:
        """This process's share of the jobs that the processes of its machine bring together, each of which is to be done once there."""
        told = self.gather((self.machine, jobs))
        here = [rank for rank, (machine, _) in enumerate(told) if machine == self.machine]
        return sorted({job for rank in here for job in told[rank][1]})[here.index(self.rank) :: len(here)]

    def wait(self) -> None:
        """Until all processes are here.

        Raises:
            SharedError: one of them has failed on the way.
        """
        self.gather(None)

    def end(self) -> None:
        """Nothing more is done together."""
        self.accelerator.end_training()


def find_device(name: str) -> torch.device:
    """The device of that name, once it has computed something.

    Raises:
        UserError: there is none.

    Examples:
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
    except (RuntimeError, AssertionError, NotImplementedError, TypeError):  # also what is no name of one
        best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        kinds = (
            ["cpu"] + [f"{best.type}:{index}" for index in range(torch.accelerator.device_count())] if best else ["cpu"]
        )
        raise UserError(f"--device {name}: no such device; there are {', '.join(kinds)}") from None


def machine_name() -> str:
    """The name of this machine, or container, unlike that of any other: a cluster may give all its machines one host name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{platform.node()} {boot.read_text().strip() if boot.is_file() else ''}"


def share_cores(n_processes: int) -> None:
    """Compute on this process's share of the machine's cores if a launcher started it, `n_processes` on this machine.

    Launchers set OMP_NUM_THREADS to 1 unless they are told a number: then all cores but one per process would be idle.
    """
    if torch.get_num_threads() == 1 and any(name in os.environ for name in LAUNCHERS):
        torch.set_num_threads(max(1, n_cores() // n_processes))


def n_cores() -> int:
    """The cores that this process may use: those it may run on, within what a container's quota allows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file system, or an older form of it
        return cores
