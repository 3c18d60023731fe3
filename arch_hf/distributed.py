"""What the processes of one launch do together: start as one, share the cores and the work, fail as one."""

import os
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from arch_hf.errors import UserError

LAUNCHERS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")  # what `accelerate launch` and `torchrun` set


def make_accelerator() -> Accelerator:
    """The processes that were launched, as one. Without a GPU accelerate must be told so, or the processes that `torchrun` and
    `accelerate launch` start on a CPU do not know of each other, and each does the whole work."""
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    share_cores(int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes)))
    return accelerator


def share_cores(n_processes: int) -> None:
    """Compute on this process's share of the machine's cores if a launcher started it, `n_processes` on this machine.

    Launchers set OMP_NUM_THREADS to 1 unless they are told a number: then all cores but one per process would be idle.
    """
    if torch.get_num_threads() == 1 and any(name in os.environ for name in LAUNCHERS):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // n_processes))


def together(accelerator: Accelerator, work: Callable, main_first: bool = False):
    """Do `work` on every process. When it fails on one, all of them fail with its message: nobody waits for the dead."""
    value, error = None, None
    first = accelerator.is_local_main_process
    for my_turn in (first, not first) if main_first else (True,):
        try:
            value = work() if my_turn else value
        except UserError as problem:
            error = str(problem)
        errors = gather_object([error]) if accelerator.num_processes > 1 else [error]
        if any(errors):
            raise UserError(next(filter(None, errors)))
    return value


def share_out(accelerator, jobs: Sequence, work: Callable[[Sequence], list]) -> list:
    """Do the jobs, every n-th on each of n ranks; every rank gets all answers, in the order of the jobs.

    A UserError on one rank is raised on all, so that none waits for another.
    """
    n_ranks = accelerator.num_processes if accelerator else 1
    if n_ranks == 1:
        return work(jobs)
    rank, mine, error = accelerator.process_index, [], None
    try:
        mine = work(jobs[rank::n_ranks])
    except UserError as problem:
        error = str(problem)
    answers = [None] * len(jobs)
    for its_rank, part, its_error in gather_object([(rank, mine, error)]):
        if its_error:
            raise UserError(its_error)
        answers[its_rank::n_ranks] = part
    return answers
