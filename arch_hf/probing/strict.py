"""The probe of strict: logistic regressions at every strength, the one chosen by validation, solved once more on all clips but the test's.

The strength is that of the smallest *loss* on the validation clips, not of the highest accuracy: accuracy hardly changes over decades, so that folds of
one corpus chose strengths seven decades apart; by loss they agree within one. The smallest loss is taken as it was computed, of equal ones the greater strength: a tolerance would only move
the ties to its edge (docs/protocols.md says how near to full convergence the losses are). And with the strength known, the validation clips are worth more
as training clips: on small corpora that is worth several points (docs/protocols.md has both measured).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from arch_hf.probing.layers import Layers
from arch_hf.probing.lbfgs import MEMORY
from arch_hf.probing.logistic import NEVER, Regressions, TrainingSet
from arch_hf.probing.metrics.scores import headline
from arch_hf.probing.task import Outcome, RunKey
from arch_hf.progress import progress_bar

ROUGH = 1e-5  # how near to the optimum the walk along the strengths comes, as a fraction of what is minimised
MARGIN = 0.02  # a strength whose rough validation loss is this part above the smallest is not the best: it is within 0.005 of the true loss
STATE_BYTES = {"cpu": 1 << 28, "cuda": 4 << 30}  # of the regressions that are solved together


Edge = Literal["greatest", "smallest"]


class Solvable(Protocol):
    """What `choose` needs to know of the problems that it solves: see `Regressions`."""

    data: Layers
    set_of: torch.Tensor
    biases: torch.Tensor

    @property
    def sets(self) -> Sequence[TrainingSet]: ...

    def start(self) -> torch.Tensor: ...

    def solve(self, start: torch.Tensor, strengths: torch.Tensor, tolerance: float = ...) -> torch.Tensor: ...

    def scores(self, coefficients: torch.Tensor, position: int, clips: np.ndarray) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False)
class Choice:
    """Of each set the strength that validation chose, its solution, and its loss and headline metric on the validation clips.

    `edges` says where the strength is the greatest or the smallest that was tried, so that a better one may lie beyond.
    """

    strengths: torch.Tensor
    coefficients: torch.Tensor
    losses: torch.Tensor
    metrics: tuple[float, ...]
    edges: tuple[Edge | None, ...]

    def kept(self, position: int) -> dict[str, Any]:
        """What a result says of one set's choice; the loss without the digits that depend on the order of a sum."""
        strength, loss = self.strengths[position].item(), round(self.losses[position].item(), 5)
        return {"strength": strength, "validation_loss": loss, "grid_edge": self.edges[position]}


@dataclass(frozen=True, eq=False)
class Fitted:
    """The last solution of each set, and how its strength was chosen."""

    regressions: Regressions
    coefficients: torch.Tensor
    choice: Choice

    def outcomes(self, runs: Sequence[RunKey]) -> list[Outcome]:
        """What each solution says of its fold's test clips."""
        outcomes = []
        for i, run in enumerate(runs):
            scores = self.regressions.scores(self.coefficients, i, run.fold.test).float().cpu().numpy()
            n_train, metric = len(self.regressions.sets[i].clips), self.choice.metrics[i]
            outcomes.append(Outcome(run.fold_index, run.seed, scores, n_train, metric, self.choice.kept(i)))
        return outcomes


def fit_and_test(
    data: Layers, runs: Sequence[RunKey], strengths: Sequence[float], once_more: bool = True, progress: bool = True
) -> list[Outcome]:
    """One outcome per run: the strength by validation, the last solution's scores of the test clips.

    Args:
        data: embeddings and targets.
        runs: in any order.
        strengths: the grid, the greatest first.
        once_more: whether the last solution learns from the validation clips too.
        progress: whether to show it.

    Raises:
        UserError: a regression could not be solved.
    """
    outcomes: dict[int, Outcome] = {}
    order = sorted(range(len(runs)), key=lambda i: runs[i].layer)
    total = len(runs) * len(strengths)
    with progress_bar("probe", total, progress, unit="solution") as bar:
        for group in _by_bytes(data, [runs[i] for i in order], len(strengths)):
            positions, order = order[: len(group)], order[len(group) :]
            fitted = fit(data, group, strengths, once_more, bar.update)
            outcomes.update(zip(positions, fitted.outcomes(group), strict=True))
    return [outcomes[i] for i in range(len(runs))]


def _by_bytes(data: Layers, runs: Sequence[RunKey], n_strengths: int) -> Iterator[Sequence[RunKey]]:
    """As many runs at a time as their state may take."""
    width = data.dim + 1
    one = 8 * (2 * width**2 + (2 * MEMORY + n_strengths + 12) * width * data.n_classes)
    together = max(1, STATE_BYTES["cuda" if data.device.type == "cuda" else "cpu"] // one)
    for first in range(0, len(runs), together):
        yield runs[first : first + together]


def fit(
    data: Layers,
    runs: Sequence[RunKey],
    strengths: Sequence[float],
    once_more: bool = True,
    step: Callable[[int], object] = lambda solutions: None,
) -> Fitted:
    """Solve the regressions of some runs, those of one layer one after the other; `step` is told how many solutions there are more."""
    regressions = Regressions(data, [TrainingSet(run.layer, run.fold.train) for run in runs])
    choice = choose(regressions, [run.fold.validation for run in runs], strengths, step)
    if not once_more:
        return Fitted(regressions, regressions.solve(choice.coefficients, choice.strengths), choice)
    everyone = [np.union1d(run.fold.train, run.fold.validation) for run in runs]
    last = Regressions(data, [TrainingSet(run.layer, clips) for run, clips in zip(runs, everyone, strict=True)])
    return Fitted(last, last.solve(last.start(choice.coefficients), choice.strengths), choice)


def choose(
    problems: Solvable, validation: Sequence[np.ndarray], strengths: Sequence[float], step: Callable[[int], object]
) -> Choice:
    """Walk the strengths from the greatest to the smallest, solve to the optimum where the validation loss may be the smallest, and keep of each
    set the solution where it is."""
    grid = problems.biases.new_tensor(strengths)
    walked, rough = _walk(problems, validation, strengths, step)
    candidates = (rough <= (1 + MARGIN) * rough.amin(0)).to(grid.device)  # [strengths, sets]
    turns = candidates.cumsum(0) * candidates  # each set's first candidate is 1, its second 2 ...
    chosen = turns.eq(1).int().argmax(0)
    best, losses = walked[0], torch.full((len(problems.sets),), torch.inf, dtype=torch.float64)
    for turn in range(1, int(turns.amax()) + 1):
        taking_part = turns.eq(turn).any(0)
        tried = torch.where(taking_part, turns.eq(turn).int().argmax(0), chosen)
        start = torch.where(taking_part[problems.set_of][:, None], _of_each(walked, tried[problems.set_of]), best)
        solved = problems.solve(start, grid[tried])
        held_out = _validation_losses(problems, solved, validation)
        better = (held_out < losses) & taking_part.cpu()
        losses = torch.where(better, held_out, losses)
        better = better.to(grid.device)
        chosen, best = torch.where(better, tried, chosen), torch.where(better[problems.set_of][:, None], solved, best)
    metrics = [
        headline(problems.scores(best, i, clips), problems.data.targets[problems.data.rows(clips)])
        for i, clips in enumerate(validation)
    ]
    ends: dict[int, Edge] = {len(strengths) - 1: "smallest", 0: "greatest"} if len(strengths) > 1 else {}
    return Choice(grid[chosen], best, losses, tuple(metrics), tuple(ends.get(place) for place in chosen.tolist()))


def _walk(
    problems: Solvable, validation: Sequence[np.ndarray], strengths: Sequence[float], step: Callable[[int], object]
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Rough solutions at each strength, and their validation losses [strengths, sets]."""
    before = coefficients = problems.start()
    walked, losses = [], []
    for strength in strengths:
        # Solutions go on along the logarithm of the strength nearly as they went last.
        onward = 2 * coefficients - before
        everywhere = coefficients.new_full((len(problems.sets),), strength)
        before, coefficients = coefficients, problems.solve(onward, everywhere, ROUGH)
        walked.append(coefficients)
        losses.append(_validation_losses(problems, coefficients, validation))
        step(len(problems.sets))
    return walked, torch.stack(losses)


def _of_each(walked: Sequence[torch.Tensor], places: torch.Tensor) -> torch.Tensor:
    """Each problem's solution at its own place among the strengths."""
    return torch.stack([walked[place][problem] for problem, place in enumerate(places.tolist())])


def _validation_losses(
    problems: Solvable, coefficients: torch.Tensor, validation: Sequence[np.ndarray]
) -> torch.Tensor:
    """float64 [sets], on the processor."""
    losses = [validation_loss(problems, coefficients, i, clips) for i, clips in enumerate(validation)]
    return torch.tensor(losses, dtype=torch.float64)


def validation_loss(problems: Solvable, coefficients: torch.Tensor, position: int, clips: np.ndarray) -> float:
    """Mean loss of one set's solution on other clips, over the classes that it could learn; 0 where there is none."""
    data, biases = problems.data, problems.biases[position]
    scores, targets = problems.scores(coefficients, position, clips), data.targets[data.rows(clips)]
    if data.multi_label:
        learnable = biases.abs() < NEVER
        losses = F.binary_cross_entropy_with_logits(scores[:, learnable], targets[:, learnable], reduction="none")
    else:
        known = (biases > -NEVER)[targets]
        losses = F.cross_entropy(scores[known], targets[known], reduction="none")
    return losses.mean().item() if losses.numel() else 0.0
