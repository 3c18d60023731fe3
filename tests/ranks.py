"""Several processes in a test, or one that stands for one of several."""

from types import SimpleNamespace

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from arch_hf.distributed import Ranks


def one_of_two() -> Ranks:
    """A forked rank: without the state that it inherits from the test process, which was alone."""
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    ranks = Ranks(Accelerator(cpu=True))
    assert ranks.size == 2
    return ranks


def rank(index: int = 0, size: int = 1) -> Ranks:
    """One process of `size`, as far as it works alone."""
    return Ranks(
        SimpleNamespace(
            process_index=index,
            num_processes=size,
            is_main_process=index == 0,
            is_local_main_process=index == 0,
            device=torch.device("cpu"),
            mixed_precision="no",
            print=print,
        )
    )
