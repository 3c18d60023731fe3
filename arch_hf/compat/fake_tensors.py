"""Tensors without memory, to count what a model would do: torch has them under a private name only (torch.compile is built on them)."""

import contextlib

import torch


def without_memory() -> contextlib.AbstractContextManager | None:
    """A context in which tensors on the CPU have shapes and dtypes and no values; None where this torch has no such thing.

    Examples:
        >>> with without_memory() or contextlib.nullcontext():
        ...     (torch.empty(30, 2) @ torch.empty(2, 7)).shape
        torch.Size([30, 7])
    """
    try:
        from torch._subclasses.fake_tensor import FakeTensorMode
    except ImportError:
        return None
    return FakeTensorMode()


def owner(tensor: torch.Tensor) -> int:
    """A number that tensors share when they share memory; those without memory have no address."""
    return tensor.untyped_storage()._cdata
