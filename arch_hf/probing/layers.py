"""The embeddings that the regressions of strict learn from: one copy for all folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

CONSTANT = 1e-9  # a dimension whose deviation is less than this part of its size is one number with rounding
CHUNK_CLIPS = 4096  # at a time where each is read once


@dataclass(frozen=True, eq=False)
class Layers:
    """The one copy of the embeddings that all regressions share, and the targets.

    Attributes:
        inputs: float32 [layers, clips, dim + 1] (or float64), the last column of ones.
        targets: int64 [clips], or float64 [clips, classes] of 0 and 1.
        n_classes: how many there are.
        centre, scale: float64 [layers, dim], how the embeddings were brought to these: (embedding - centre) * scale.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    n_classes: int
    centre: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def of(
        cls,
        layers: Sequence[np.ndarray],
        targets: np.ndarray,
        n_classes: int,
        device: str | torch.device = "cpu",
        learned: np.ndarray | None = None,
    ) -> "Layers":
        """Embeddings about their median, with a deviation of 1, which only keeps the numbers in range: each set has a standardisation of its own.

        A clip unlike all others hardly moves a median; about it, the rounding of float32 is as small for the others as it was in what they came in.

        Args:
            layers: float32 [clips, dim] each.
            targets: int64 [clips], or 0 and 1 [clips, classes].
            n_classes: how many there are.
            device: where to compute; one without double precision (MPS) computes on the processor.
            learned: the clips that any set learns from, which decide alone; by default all.
        """
        device = "cpu" if torch.device(device).type == "mps" else device
        n_clips, dim = layers[0].shape
        inputs = torch.ones(len(layers), n_clips, dim + 1, device=device)
        centre = torch.empty(len(layers), dim, dtype=torch.float64, device=device)
        scale = torch.empty_like(centre)
        for layer, embeddings in enumerate(layers):
            part = torch.from_numpy(np.ascontiguousarray(embeddings))
            known = part if learned is None else part[torch.from_numpy(learned)]
            centre[layer], deviation = (of_all.to(device) for of_all in _middle_and_deviation(known))
            scale[layer] = torch.where(deviation > 0, 1 / deviation, 1)
            for own, given in zip(inputs[layer].split(CHUNK_CLIPS), part.split(CHUNK_CLIPS), strict=True):
                limit = torch.finfo(torch.float32).max  # a clip that nothing learns from may be as far away as it likes
                own[:, :-1] = given.to(device).double().sub_(centre[layer]).mul_(scale[layer]).clamp_(-limit, limit)
        return cls(inputs, as_targets(targets, inputs.device), n_classes, centre, scale)

    @property
    def dim(self) -> int:
        return self.inputs.shape[-1] - 1

    @property
    def multi_label(self) -> bool:
        return self.targets.ndim == 2

    @property
    def device(self) -> torch.device:
        return self.inputs.device

    def rows(self, clips: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(clips).to(self.device)


def _middle_and_deviation(embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each dimension of float32 [clips, dim] the median and the root of the mean squared distance from it, float64 [dim]."""
    columns = [part.T.contiguous() for part in embeddings.split(64, dim=1)]
    middle = torch.cat([part.median(1).values for part in columns]).double()
    squares = [
        (part.double() - own[:, None]).square_().mean(1) for part, own in zip(columns, middle.split(64), strict=True)
    ]
    return middle, torch.cat(squares).sqrt()


def standards(embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each dimension the mean and 1 / deviation, float64 [dim]; 0 for the latter where all clips have the same number."""
    mean = embeddings.mean(0, dtype=torch.float64)
    deviation = (embeddings - mean).square().mean(0).sqrt()
    return mean, torch.where(deviation > CONSTANT * embeddings.abs().amax(0), 1 / deviation, 0)


def as_targets(targets: np.ndarray, device: torch.device) -> torch.Tensor:
    """Class indices as int64, multi-hot targets as float64."""
    return torch.from_numpy(targets).to(device, torch.float64 if targets.ndim == 2 else torch.int64)
