"""Operators of PyTorch that its public functions do not offer."""

from collections.abc import Callable

import torch
from torch.nn import functional


def gelu_copied(hidden: torch.Tensor) -> torch.Tensor:
    """GELU into its argument, by way of a second array."""
    return hidden.copy_(functional.gelu(hidden))


def _find_gelu() -> Callable[[torch.Tensor], torch.Tensor]:
    operator = getattr(torch.ops.aten, "gelu_", None)
    return gelu_copied if operator is None else operator


# GELU in the memory of its argument: a second array would not stay in the caches beside the first. `torch.nn.functional` has no
# in-place form of it, ATen's name is not public.
gelu_in_place = _find_gelu()
