"""Many convex functions minimised at once, each to its own optimum, by L-BFGS (Liu & Nocedal, Mathematical Programming 45, 1989)."""

from collections.abc import Callable

import torch

from arch_hf.errors import UserError

MEMORY = 10  # steps that an estimate of the curvature remembers
TOLERANCE = 1e-9  # a function is minimised when a step promises to lower it by less than this fraction of it
MOST_STEPS = 5_000
REFRESH = 100  # steps after which the second derivative is looked at anew: far from where it began, it says little
SUFFICIENT = 1e-4  # of the decrease that the slope promises (Armijo)
ROUNDING = 0.1  # a rise of less than this part of the tolerance is rounding

Evaluate = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Precondition = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def minimise(
    evaluate: Evaluate,
    start: torch.Tensor,
    precondition_at: Callable[[torch.Tensor, torch.Tensor], Precondition],
    rescale: bool = True,
    tolerance: float = TOLERANCE,
    most_steps: int = MOST_STEPS,
) -> torch.Tensor:
    """The minimum of each of many smooth convex functions, float64 [functions, n].

    They step together, so that one call computes all values; each has its own step length, and is left alone once it is done.

    Args:
        evaluate: from points float64 [some, n] and int64 [some], which functions they belong to, to values [some] and gradients [some, n].
        start: float64 [functions, n], where to begin.
        precondition_at: from points and their functions to a function of gradients and their functions: about the inverse of the second derivative.
        rescale: whether that is known but for a factor, which the last step then tells.
        tolerance: a function is done when the next step promises to lower it by less than this fraction of its value.
        most_steps: after which to give up.

    Raises:
        UserError: a function is not finite, or not minimised in so many steps.

    Examples:
        >>> centres = torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64)
        >>> def bowls(x, which):
        ...     away = x - centres[which]
        ...     return 1 + away.square().sum(1), 2 * away
        >>> minimise(bowls, torch.zeros_like(centres), lambda point, which: lambda gradient, which: gradient)
        tensor([[ 1.0000,  2.0000],
                [-3.0000,  0.5000]], dtype=torch.float64)
    """
    solution, which = start.clone(), torch.arange(len(start), device=start.device)
    point, memory = start, _Memory(start)
    (value, gradient), precondition = evaluate(point, which), precondition_at(point, which)
    direction = -precondition(gradient, which)
    length, slope = torch.ones_like(value), (gradient * direction).sum(1)
    for step in range(1, most_steps + 1):
        done = -slope / 2 <= tolerance * value
        if done.any():
            solution[which[done]] = point[done]
            if done.all():
                return solution
            state = (which, point, value, gradient, direction, length, slope)
            which, point, value, gradient, direction, length, slope = (part[~done] for part in state)
            memory.keep(~done)
        trial = torch.addcmul(point, direction, length[:, None])
        new_value, new_gradient = evaluate(trial, which)
        accepted = new_value <= value + SUFFICIENT * length * slope + ROUNDING * tolerance * value.abs()
        _check_finite(value)
        # Convex functions: along an accepted step the slope always rises, so that every remembered pair is a proper one.
        memory.add(trial - point, new_gradient - gradient, accepted)
        column = accepted[:, None]
        point, gradient = torch.where(column, trial, point), torch.where(column, new_gradient, gradient)
        value = torch.where(accepted, new_value, value)
        if step % REFRESH == 0:
            precondition = precondition_at(point, which)
        direction = torch.where(column, -memory.apply(gradient, which, precondition, rescale), direction)
        length, slope = torch.where(accepted, 1.0, length / 2), (gradient * direction).sum(1)
    raise UserError(f"the probe was not solved in {most_steps} steps: check the encoder's output")


def _check_finite(values: torch.Tensor) -> None:
    if not torch.isfinite(values).all():
        raise UserError("the probe met numbers that are not finite: check the encoder's output")


class _Memory:
    """The last MEMORY steps of each function with the changes of its gradient: the inverse of its second derivative, as L-BFGS knows it."""

    def __init__(self, start: torch.Tensor):
        shape = (MEMORY, *start.shape)
        self.steps, self.changes = start.new_zeros(shape), start.new_zeros(shape)
        self.weights = start.new_zeros(shape[:2])  # 1 / (step * change); 0 where there is no pair
        self.count = 0

    def keep(self, kept: torch.Tensor) -> None:
        self.steps, self.changes, self.weights = self.steps[:, kept], self.changes[:, kept], self.weights[:, kept]

    def add(self, step: torch.Tensor, change: torch.Tensor, accepted: torch.Tensor) -> None:
        slot = self.count % MEMORY
        product = (step * change).sum(1)
        proper = accepted & (product > 0)
        self.steps[slot], self.changes[slot] = step, change
        self.weights[slot] = torch.where(proper, 1 / product.where(proper, 1.0), 0.0)
        self.count += 1

    def apply(
        self, gradient: torch.Tensor, which: torch.Tensor, precondition: Precondition, rescale: bool
    ) -> torch.Tensor:
        """The two loops of L-BFGS."""
        slots = [(self.count - 1 - age) % MEMORY for age in range(min(self.count, MEMORY))]
        vector, shares = gradient.clone(), {}
        for slot in slots:
            shares[slot] = self.weights[slot] * (self.steps[slot] * vector).sum(1)
            vector.addcmul_(self.changes[slot], shares[slot][:, None], value=-1)
        vector = precondition(vector, which)
        if rescale:
            change, weight = self.changes[slots[0]], self.weights[slots[0]]
            curvature = weight * (change * precondition(change, which)).sum(1)
            vector *= torch.where(curvature > 0, 1 / curvature.where(curvature > 0, 1.0), 1.0)[:, None]
        for slot in reversed(slots):
            share = shares[slot] - self.weights[slot] * (self.changes[slot] * vector).sum(1)
            vector.addcmul_(self.steps[slot], share[:, None])
        return vector
