"""PyTorch's fused AdamW kernel without torch.optim's bookkeeping, which costs as much as the kernel where parameters are small.

`torch._fused_adamw_` is what torch.optim.AdamW(fused=True) calls; its name is private. Where a torch has it no more, or another signature, or
no such kernel for the device, the same update is written out below.
"""

import torch


def adamw_step(
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    count: torch.Tensor,
    rate: float,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float,
) -> None:
    """One step of AdamW (Loshchilov & Hutter, arXiv 1711.05101) in place, as torch.optim.AdamW computes it.

    Args:
        tensors: the weights, their gradient, and the two moments; of one shape.
        count: float32 [], the number of this step, 1 the first.
        rate: the learning rate of this step.
        betas, epsilon, weight_decay: as torch.optim.AdamW names them.

    Examples:
        >>> weights, gradient, first, second = torch.ones(2), torch.tensor([1.0, -1.0]), torch.zeros(2), torch.zeros(2)
        >>> adamw_step((weights, gradient, first, second), torch.tensor(1.0), 0.1, (0.9, 0.999), 1e-8, 0.0)
        >>> weights
        tensor([0.9000, 1.1000])
    """
    if not _fused(tensors, count, rate, betas, epsilon, weight_decay):
        plain_adamw_step(tensors, count, rate, betas, epsilon, weight_decay)


def _fused(tensors, count, rate, betas, epsilon, weight_decay) -> bool:
    """Whether the kernel did it."""
    kernel = getattr(torch, "_fused_adamw_", None)
    if kernel is None:
        return False
    numbers = {"lr": rate, "beta1": betas[0], "beta2": betas[1], "weight_decay": weight_decay, "eps": epsilon}
    try:
        kernel(*([tensor] for tensor in tensors), [], [count], **numbers, amsgrad=False, maximize=False)
    except (RuntimeError, TypeError):  # it checks its arguments before it writes
        return False
    return True


def plain_adamw_step(
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    count: torch.Tensor,
    rate: float,
    betas: tuple[float, float],
    epsilon: float,
    weight_decay: float,
) -> None:
    """The same, written out."""
    weights, gradient, first, second = tensors
    step = count.item()
    weights.mul_(1 - rate * weight_decay)
    first.lerp_(gradient, 1 - betas[0])
    second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    size = (second.sqrt() / (1 - betas[1] ** step) ** 0.5).add_(epsilon)
    weights.addcdiv_(first, size, value=-rate / (1 - betas[0] ** step))
