"""Several processes in a test: what a forked rank must do before anything else."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState


def one_of_two() -> Accelerator:
    """The accelerator of a forked rank: without the state that it inherits from the test process, which was alone."""
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    return accelerator
