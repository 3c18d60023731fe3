"""L2-regularised logistic regression, solved to its optimum: the probe of strict.

For each set of training clips (one fold at one layer) the sum to be minimised is

    mean loss over the clips + strength / 2 * sum of the squared weights        (the bias is free)

on embeddings that are standardised by the mean and the deviation of these clips. The loss is the cross-entropy, or for several labels a
clip, for which there is one regression per class, the binary cross-entropy. With scikit-learn's C it is C = 1 / (strength * clips),
and for one of two classes, of which it keeps one vector of weights, 2 / (strength * clips). It is
convex: there is one minimum, and it does not matter what finds it.

Here all folds, layers and classes step together on one copy of the embeddings of each layer: a clip that does not belong to a set has weight 0
in it, and the standardisation of a set, which its own clips alone decide, goes into its coefficients. Coefficients, values and gradients are float64.
So are the products with the embeddings, but on the way to a rough solution, for which float32 is good enough and twice as fast on a processor.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from arch_hf.errors import UserError
from arch_hf.probing.layers import CHUNK_CLIPS, Layers
from arch_hf.probing.lbfgs import MOST_STEPS, TOLERANCE, minimise

NEVER = 1e4  # minus this is the score of a class that no clip of the set has, plus this of one that all have (of several labels)
SINGLE = 1e-5  # a solution no nearer to the optimum than this is looked for with products in float32,
STEPS_IN_SINGLE = 1_000  # for so many steps; it takes a tenth of them
CHUNK_NUMBERS = {"cpu": 1 << 18, "cuda": 1 << 26}  # scores at a time; on a CPU they should stay in its caches


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Clips to learn from at one layer: int64 indices."""

    layer: int
    clips: np.ndarray


@dataclass(frozen=True, eq=False)
class _Block:
    """The rows of one layer that some of the sets learn from, and how much each row weighs in each of them.

    `sets` is the range of these sets among all; `inputs` [rows, dim + 1]; `weights` [rows, sets] sum to 1 in each set.
    """

    sets: range
    inputs: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


class Regressions:
    """The regressions of several training sets, solved together.

    A *problem* is what has an optimum of its own: a set, or of several labels a clip each class of a set. Coefficients are float64
    [problems, (dim + 1) * outputs], for standardised embeddings, the bias last; there is one output for each class, or one alone.

    Args:
        data: the embeddings and targets.
        sets: those of one layer one after the other.
        standardise: whether each set's embeddings are standardised by its own clips.
    """

    def __init__(self, data: Layers, sets: Sequence[TrainingSet], standardise: bool = True):
        self.data, self.sets = data, sets
        self.single = data.device.type == "cpu"  # whether float32 may serve for a rough solution
        self.outputs = 1 if data.multi_label else data.n_classes
        per_set = data.n_classes if data.multi_label else 1
        self.set_of = torch.arange(len(sets), device=data.device).repeat_interleave(per_set)
        self.class_of = torch.arange(per_set, device=data.device).repeat(len(sets))
        self.blocks = list(_blocks(data, sets))
        self.mean = data.centre.new_zeros(len(sets), data.dim)
        self.scale = torch.ones_like(self.mean)
        for position, one in enumerate(sets if standardise else ()):
            self.mean[position], self.scale[position] = self._standards_of(one)
        self.biases = torch.stack([self._bias_of_no_embedding(one) for one in sets])  # [sets, classes]

    def _standards_of(self, one: TrainingSet) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and 1 / deviation of the set's own clips, float64 [dim]; 0 for the latter where they all have the same number."""
        inputs, chunks = self.data.inputs[one.layer, :, :-1], self.data.rows(one.clips).split(CHUNK_CLIPS)
        mean = torch.stack([inputs[rows].sum(0, dtype=torch.float64) for rows in chunks]).sum(0) / len(one.clips)
        variance, same = torch.zeros_like(mean), torch.ones_like(mean, dtype=torch.bool)
        for rows in chunks:
            part = inputs[rows]
            variance += (part.double() - mean).square_().sum(0) / len(one.clips)
            same &= (part == inputs[one.clips[0]]).all(0)
        return mean, torch.where(same, 0, 1 / variance.sqrt())

    def _bias_of_no_embedding(self, one: TrainingSet) -> torch.Tensor:
        """Where the solution begins: the bias that is best without weights; plus or minus NEVER for what all or no clips of the set are."""
        targets, n = self.data.targets[self.data.rows(one.clips)], self.data.n_classes
        counts = targets.sum(0) if self.data.multi_label else torch.bincount(targets, minlength=n).double()
        bias = torch.log(counts / len(one.clips))
        if self.data.multi_label:
            bias -= torch.log1p(-counts / len(one.clips))
        return bias.clamp(-NEVER, NEVER)

    def start(self, coefficients: torch.Tensor | None = None) -> torch.Tensor:
        """Coefficients to begin at: no weights, or those of other sets of the same classes, and a bias for each class."""
        shape = (len(self.sets), self.data.dim + 1, self.data.n_classes)
        begin = self.mean.new_zeros(shape)
        begin[:, -1] = self.biases
        if coefficients is not None:
            known = self.by_set(coefficients)
            usable = (known[:, -1].abs() < NEVER) & (self.biases.abs() < NEVER)
            begin = torch.where(usable[:, None], known, begin)
        return (begin.mT if self.data.multi_label else begin).reshape(len(self.set_of), -1)

    def by_set(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The coefficients as [sets, dim + 1, classes]."""
        if self.data.multi_label:
            return coefficients.view(len(self.sets), self.data.n_classes, -1).mT
        return coefficients.view(len(self.sets), -1, self.data.n_classes)

    def solve(self, start: torch.Tensor, strengths: torch.Tensor, tolerance: float = TOLERANCE) -> torch.Tensor:
        """The optimum of every problem at the strength of its set, float64 [sets]."""
        if tolerance >= SINGLE and self.single:
            try:
                return self._solve(start, strengths, tolerance, torch.float32, STEPS_IN_SINGLE)
            except UserError:
                self.single = False  # so steep or so flat that rounding hides the way down: at other strengths too
        return self._solve(start, strengths, tolerance, torch.float64, MOST_STEPS)

    def _solve(
        self, start: torch.Tensor, strengths: torch.Tensor, tolerance: float, dtype: torch.dtype, most_steps: int
    ) -> torch.Tensor:
        return minimise(
            lambda x, which: self._evaluate(x, which, strengths, dtype),
            start,
            lambda x, which: self._preconditioner(x, which, strengths),
            rescale=self.data.multi_label,
            tolerance=tolerance,
            most_steps=most_steps,
        )

    def linear(self, coefficients: torch.Tensor, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The solution of one set as weight [classes, dim] and bias [classes] for embeddings as they were given."""
        layer = self.sets[position].layer
        shared = self._shared(
            self.by_set(coefficients)[position : position + 1], torch.tensor([position]).to(self.set_of)
        )[0]
        weight = shared[:-1] * self.data.scale[layer][:, None]
        return weight.T, shared[-1] - self.data.centre[layer] @ weight

    def errors(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The derivative of the first set's losses by its clips' scores: float64 [clips, classes]."""
        scores = self.scores(coefficients, 0, clips := self.sets[0].clips)
        targets, classes = self.data.targets[self.data.rows(clips)], self.class_of[: self.data.n_classes]
        problems = scores[..., None] if self.data.multi_label else scores[:, None]
        weights = scores.new_full(problems.shape[:2], 1 / len(clips))
        return self._loss_of_rows(problems, targets, weights, classes)[1].view_as(scores)

    def objective(self, coefficients: torch.Tensor, strengths: torch.Tensor) -> torch.Tensor:
        """What is minimised, of every problem: float64 [problems]."""
        return self._evaluate(coefficients, torch.arange(len(self.set_of), device=self.data.device), strengths)[0]

    def scores(self, coefficients: torch.Tensor, position: int, clips: np.ndarray) -> torch.Tensor:
        """What the solution of one set says of some clips: float64 [clips, classes]."""
        shared = self._shared(
            self.by_set(coefficients)[position : position + 1], torch.tensor([position]).to(self.set_of)
        )
        inputs = self.data.inputs[self.sets[position].layer]
        return torch.cat([inputs[rows].double() @ shared[0] for rows in self.data.rows(clips).split(CHUNK_CLIPS)])

    def _evaluate(
        self,
        coefficients: torch.Tensor,
        which: torch.Tensor,
        strengths: torch.Tensor,
        dtype: torch.dtype = torch.float64,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values and gradients of some problems, by products of that type."""
        own = coefficients.view(len(which), self.data.dim + 1, self.outputs)
        set_of = self.set_of[which]
        shared = self._shared(own, set_of)
        values, gradients = own.new_empty(len(which)), torch.empty_like(own)
        for block, part in self._parts(set_of):
            values[part], gradients[part] = self._loss(block, shared[part], which[part], dtype)
        mean, scale = self.mean[set_of][..., None], self.scale[set_of][..., None]
        gradients[:, :-1] -= mean * gradients[:, -1:]
        gradients[:, :-1] *= scale
        strength = strengths[set_of]
        values += strength / 2 * own[:, :-1].square().sum((1, 2))
        gradients[:, :-1] += strength[:, None, None] * own[:, :-1]
        return values, gradients.view(len(which), -1)

    def _shared(self, own: torch.Tensor, set_of: torch.Tensor) -> torch.Tensor:
        """Coefficients [some, dim + 1, outputs] for a set's own standardised embeddings, as those for the shared copy."""
        weights = own[:, :-1] * self.scale[set_of][..., None]
        bias = own[:, -1:] - (self.mean[set_of][:, None] @ weights)
        return torch.cat([weights, bias], 1)

    def _parts(self, set_of: torch.Tensor) -> Iterator[tuple[_Block, slice]]:
        """Each block with the problems, of those whose sets these are, that learn from its rows."""
        sets, end = set_of.tolist(), 0
        for block in self.blocks:
            start = end
            while end < len(sets) and sets[end] < block.sets.stop:
                end += 1
            if end > start:
                yield block, slice(start, end)

    def _chunks(self, block: _Block, width: int) -> Iterator[slice]:
        limit = CHUNK_NUMBERS["cuda" if self.data.device.type == "cuda" else "cpu"]
        size = max(64, limit // width)
        return (slice(first, first + size) for first in range(0, len(block.inputs), size))

    def _loss(
        self, block: _Block, shared: torch.Tensor, which: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean losses [some] and their gradients [some, dim + 1, outputs] for the shared copy."""
        some, width, outputs = shared.shape
        matrix = shared.transpose(0, 1).reshape(width, -1).to(dtype)
        columns, classes = self.set_of[which] - block.sets.start, self.class_of[which]
        losses, gradient = shared.new_zeros(some), torch.zeros_like(matrix)
        for rows in self._chunks(block, matrix.shape[1]):
            inputs = block.inputs[rows].to(dtype)
            scores = (inputs @ matrix).double().view(-1, some, outputs)
            loss, errors = self._loss_of_rows(scores, block.targets[rows], block.weights[rows][:, columns], classes)
            losses += loss
            gradient.addmm_(inputs.T, errors.view(len(inputs), -1).to(dtype))
        return losses, gradient.double().view(width, some, outputs).transpose(0, 1)

    def _loss_of_rows(
        self, scores: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted losses [some] of rows, and the derivative by their scores [rows, some, outputs], which are overwritten."""
        if self.data.multi_label:
            scores, targets = scores.squeeze(-1), targets[:, classes]
            loss = F.softplus(scores, threshold=50).sub_(targets * scores).mul_(weights).sum(0)
            return loss, scores.sigmoid_().sub_(targets).mul_(weights)
        own = targets[:, None, None].expand(*weights.shape, 1)
        scores -= scores.amax(-1, keepdim=True)
        of_own = scores.gather(-1, own).squeeze(-1)
        total = scores.exp_().sum(-1)
        loss = ((total.log() - of_own) * weights).sum(0)
        scores *= (weights / total)[..., None]
        return loss, scores.scatter_add_(-1, own, -weights[..., None])

    def _preconditioner(
        self, coefficients: torch.Tensor, which: torch.Tensor, strengths: torch.Tensor
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """About the inverse of the second derivative of each set of these problems: that of the mean over its classes, of those that are there."""
        width = self.data.dim + 1
        inverses: dict[int, torch.Tensor] = {}
        set_of = self.set_of[which]
        shared = self._shared(coefficients.view(len(which), width, self.outputs), set_of)
        for block, part in self._parts(set_of):
            for one, second in self._second_derivatives(block, shared[part], which[part]):
                scale, mean = self.scale[one], self.mean[one]
                second[:-1] = (second[:-1] - mean[:, None] * second[-1]) * scale[:, None]
                second[:, :-1] = (second[:, :-1] - second[:, -1:] * mean) * scale
                second.diagonal()[:-1] += strengths[one]
                second[-1, -1] += 1e-12  # of a set of one class
                inverses[one] = torch.cholesky_inverse(torch.linalg.cholesky(second))

        def apply(gradients: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
            steps, sets = torch.empty_like(gradients), self.set_of[which]
            for one in dict.fromkeys(sets.tolist()):
                mine = sets == one
                if self.data.multi_label:
                    steps[mine] = gradients[mine] @ inverses[one]
                else:
                    steps[mine] = (inverses[one] @ gradients[mine].view(width, -1)).view(1, -1)
            return steps

        return apply

    def _second_derivatives(
        self, block: _Block, shared: torch.Tensor, which: torch.Tensor
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """By the coefficients for the shared copy, of each set that these problems of a block belong to: its number, and the mean over the problems'
        classes, [dim + 1, dim + 1]."""
        width = shared.shape[1]
        matrix = shared.transpose(0, 1).reshape(width, -1)
        sets, counts = torch.unique_consecutive(self.set_of[which], return_counts=True)
        columns = sets - block.sets.start
        curvature = block.weights.new_empty(len(block.inputs), len(sets))
        for rows in self._chunks(block, matrix.shape[1]):
            scores = block.inputs[rows].double() @ matrix
            if self.data.multi_label:
                likely = scores.sigmoid_()
                likely = (likely - likely.square()).split(counts.tolist(), dim=1)
                means = torch.stack([of_set.mean(1) for of_set in likely], dim=1)
            else:
                likely = scores.view(len(scores), len(sets), -1).softmax(-1)
                means = (likely - likely.square()).mean(-1)
            curvature[rows] = means * block.weights[rows][:, columns]
        for column, one in enumerate(sets.tolist()):
            second = shared.new_zeros(width, width)
            for rows in self._chunks(block, width):
                inputs = block.inputs[rows].double()
                second.addmm_((inputs * curvature[rows, column : column + 1]).T, inputs)
            yield one, second


def _blocks(data: Layers, sets: Sequence[TrainingSet]) -> Iterator[_Block]:
    """The rows of each layer, shared by its sets; or of each set apart, where sharing meant to compute many scores that weigh nothing."""
    first = 0
    while first < len(sets):
        end = first
        while end < len(sets) and sets[end].layer == sets[first].layer:
            end += 1
        clips = [one.clips for one in sets[first:end]]
        low, high = min(its.min() for its in clips), max(its.max() for its in clips) + 1
        shared = (high - low) * len(clips) <= 4 * sum(map(len, clips))
        inputs = data.inputs[sets[first].layer]
        if shared:
            weights = data.centre.new_zeros(high - low, len(clips))
            for column, its in enumerate(clips):
                weights[data.rows(its - low), column] = 1 / len(its)
            yield _Block(range(first, end), inputs[low:high], data.targets[low:high], weights)
        else:
            for number, its in enumerate(clips, start=first):
                rows = data.rows(its)
                weights = data.centre.new_full((len(its), 1), 1 / len(its))
                yield _Block(range(number, number + 1), inputs[rows], data.targets[rows], weights)
        first = end
