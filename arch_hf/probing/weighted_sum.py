"""A linear probe on a learned weighted sum of all layers, off by default."""

from collections.abc import Sequence

import numpy as np
import torch

from arch_hf.probing.layers import Layers, as_targets, standards
from arch_hf.probing.lbfgs import minimise
from arch_hf.probing.logistic import Regressions, TrainingSet
from arch_hf.probing.protocols import WeightedSum
from arch_hf.probing.strict import choose
from arch_hf.probing.task import Outcome, ProbeTask, RunKey
from arch_hf.progress import progress_bar

TOLERANCE = 1e-7  # of the layers' weights; the regression within is solved much closer


def weighted_sums(
    features: np.ndarray,
    task: ProbeTask,
    runs: Sequence[RunKey],
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> list[Outcome]:
    """The regression of strict on a weighted sum of all layers, the softmax of learned numbers (as in SUPERB, arXiv 2105.01051).

    Each layer is standardised first: of layers whose scales differ, a sum would hear the largest. The numbers are minimised together with the
    regression, from equal weights at the greatest strength on: the two together are not convex, and the minimum that is found is the one on
    that way. Strengths and validation as in strict. Each outcome's `kept` has the "layer_weights", which sum to 1.

    Args:
        features: float32 [clips, layers, dim].
        task: its targets and classes.
        runs: the folds.
        device: where to compute.
        progress: whether to show it.
    """
    layers = torch.from_numpy(features).to(device).transpose(0, 1)
    strengths, outcomes = WeightedSum().strengths, []
    total = len(runs) * len(strengths)
    with progress_bar("weighted sum", total, progress, unit="solution") as bar:
        for run in runs:
            fold = run.fold
            first = Mixture(layers, task, fold.train)
            choice = choose(first, [fold.validation], strengths, bar.update)
            clips = np.union1d(fold.train, fold.validation)
            last = Mixture(layers, task, clips)
            solution = last.solve(last.start(choice.coefficients), choice.strengths)
            scores = last.scores(solution, 0, fold.test).float().cpu().numpy()
            weights = tuple(last.shares(solution).tolist())
            kept = choice.kept(0) | {"layer_weights": weights}
            outcomes.append(Outcome(run.fold_index, run.seed, scores, len(clips), choice.metrics[0], kept))
    return outcomes


class Mixture:
    """The regression of one training set on a weighted sum of the layers, each standardised; to be used as `Regressions` are.

    Coefficients are those of the regression, then the numbers whose softmax weighs the layers: float64 [1, (dim + 1) * classes + layers].

    Args:
        layers: float32 [layers, clips, dim].
        task: its targets and classes.
        clips: those to learn from.
    """

    def __init__(self, layers: torch.Tensor, task: ProbeTask, clips: np.ndarray):
        self.layers, self.targets, self.n_classes = layers, as_targets(task.targets, layers.device), task.n_classes
        rows = torch.from_numpy(clips).to(layers.device)
        self.means, self.scales = (
            torch.stack(parts) for parts in zip(*(standards(layer[rows]) for layer in layers), strict=True)
        )
        self.sets, self.set_of = [TrainingSet(0, clips)], torch.zeros(1, dtype=torch.int64, device=layers.device)
        regression = self.regression(self.means.new_zeros(len(layers)))
        self.data, self.biases = regression.data, regression.biases

    def start(self, coefficients: torch.Tensor | None = None) -> torch.Tensor:
        """Equal weights of the layers and no coefficients, or those of another training set."""
        known = (
            self._parts(coefficients) if coefficients is not None else (None, self.means.new_zeros(len(self.layers)))
        )
        regression = self.regression(known[1])
        return torch.cat([regression.start(known[0]).flatten(), known[1]])[None]

    def solve(self, start: torch.Tensor, strengths: torch.Tensor, tolerance: float = TOLERANCE) -> torch.Tensor:
        """The optimum that is reached from `start`: for each weighting of the layers the regression is solved, and the weighting is moved."""
        solution, numbers = self._parts(start)

        def evaluate(numbers: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            nonlocal solution
            regression = self.regression(numbers[0])
            solution = regression.solve(solution, strengths)
            value = regression.objective(solution, strengths).sum()
            # at the regression's optimum its own coefficients' part of the derivative is 0
            errors, weights = regression.errors(solution), regression.by_set(solution)[0, :-1]
            along = torch.stack(
                [
                    ((self._standardised(i, self.sets[0].clips) @ weights) * errors).sum()
                    for i in range(len(self.layers))
                ]
            )
            shares = numbers[0].softmax(0)
            return value[None], (shares * (along - (shares * along).sum()))[None]

        numbers = minimise(evaluate, numbers[None], lambda point, _: lambda gradient, _: gradient, tolerance=tolerance)[
            0
        ]
        regression = self.regression(numbers)
        return torch.cat([regression.solve(solution, strengths).flatten(), numbers])[None]

    def scores(self, coefficients: torch.Tensor, position: int, clips: np.ndarray) -> torch.Tensor:
        """Of the one set there is: float64 [clips, classes]."""
        solution, numbers = self._parts(coefficients)
        regression = self.regression(numbers)
        return regression.scores(solution, 0, clips)

    def shares(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The weights of the layers, which sum to 1."""
        return self._parts(coefficients)[1].softmax(0)

    def _parts(self, coefficients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The regression's coefficients and the layers' numbers."""
        own, numbers = coefficients[0].split([coefficients.shape[1] - len(self.layers), len(self.layers)])
        per_set = self.n_classes if self.targets.ndim == 2 else 1
        return own.view(per_set, -1), numbers

    def regression(self, numbers: torch.Tensor) -> Regressions:
        """The regression on the weighted sum of the layers."""
        shares, everyone = numbers.softmax(0), slice(None)
        inputs = self.means.new_ones(1, self.layers.shape[1], self.layers.shape[2] + 1)
        inputs[0, :, :-1] = sum(share * self._standardised(i, everyone) for i, share in enumerate(shares))
        data = Layers(inputs, self.targets, self.n_classes, self.means[:1], self.scales[:1])
        return Regressions(data, self.sets, standardise=False)

    def _standardised(self, layer: int, clips: np.ndarray | slice) -> torch.Tensor:
        rows = clips if isinstance(clips, slice) else torch.from_numpy(clips).to(self.layers.device)
        return (self.layers[layer][rows] - self.means[layer]) * self.scales[layer]
