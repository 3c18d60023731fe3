"""One linear probe by itself, for anybody's embeddings: what the main job trains on each fold."""

import numpy as np
import torch

from arch_hf.errors import UserError
from arch_hf.probing.adamw import ProbeData, train_probes
from arch_hf.probing.layers import Layers
from arch_hf.probing.logistic import Regressions, TrainingSet
from arch_hf.probing.protocols import AdamW, get_protocol
from arch_hf.probing.strict import fit
from arch_hf.probing.task import Fold, RunKey


class LinearProbe:
    """The linear probe of a protocol.

    Under strict (the default) it is a logistic regression on standardised embeddings, solved to its optimum. The strength of its penalty is the one
    given, or that of the smallest loss on validation clips, from which the last solution learns too. Under arch-v1 it is a layer trained by AdamW
    from a random start.

    Attributes:
        weight: float64 [classes, dim], after `fit`.
        bias: float64 [classes].
        strength: of the penalty; None under arch-v1.

    Args:
        protocol: "strict" or "arch-v1".
        strength: of strict's penalty; None has each `fit` choose it.
        seed: of arch-v1's start and batches.
        device: where to compute.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> y = rng.integers(0, 3, 60)
        >>> X = np.eye(3)[y] + 0.5 * rng.standard_normal((60, 3))
        >>> probe = LinearProbe().fit(X[:40], y[:40], validation=(X[40:], y[40:]))
        >>> int((probe.predict(X) == y).sum()), round(probe.strength, 4)
        (55, 0.01)
        >>> LinearProbe(strength=0.01).fit(X, y).weight.shape
        (3, 3)
    """

    def __init__(
        self,
        protocol: str = "strict",
        *,
        strength: float | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ):
        self.protocol, self.seed, self.device = get_protocol(protocol), seed, device
        self.strength = self._given = strength

    def fit(
        self, X: np.ndarray, y: np.ndarray, validation: tuple[np.ndarray, np.ndarray] | None = None
    ) -> "LinearProbe":
        """Learn from embeddings [clips, dim] and their classes, int [clips], or of several labels a clip 0 and 1 [clips, classes].

        Raises:
            UserError: strict has neither a strength nor validation clips to choose it by, or an embedding is not finite.
        """
        parts = [(X, y)] + ([validation] if validation is not None else [])
        with np.errstate(over="ignore"):  # is refused below
            embeddings = np.concatenate([np.asarray(part, np.float32) for part, _ in parts])
        targets = np.concatenate([np.asarray(labels, np.int64) for _, labels in parts])
        n_classes = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1
        if not np.isfinite(embeddings).all():
            raise UserError("the embeddings have numbers that are not finite in float32")
        clips, n = np.arange(len(embeddings)), len(X)
        run = RunKey(0, 0, Fold("fit", clips[:n], clips[n:], clips[:0]), self.seed)
        training = self.protocol.training
        if isinstance(training, AdamW):
            (probe,) = train_probes(ProbeData([embeddings], targets, n_classes, self.device), [run], training, False)
            weight, bias = probe.weight, probe.bias
        else:
            data = Layers.of([embeddings], targets, n_classes, self.device)
            if self._given is None and validation is None:
                raise UserError(
                    "strict chooses its strength by validation clips: give validation=(X, y), or a strength"
                )
            weight, bias = self._solve(data, run, training.strengths)
        self.weight, self.bias = weight.double().cpu().numpy(), bias.double().cpu().numpy()
        return self

    def _solve(self, data: Layers, run: RunKey, strengths: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        if self._given is None:
            fitted = fit(data, [run], strengths)
            self.strength = fitted.choice.strengths.item()
            return fitted.regressions.linear(fitted.coefficients, 0)
        regressions = Regressions(data, [TrainingSet(0, run.fold.train)])
        strength = torch.tensor([self._given], dtype=torch.float64, device=data.device)
        return regressions.linear(regressions.solve(regressions.start(), strength), 0)

    def scores(self, X: np.ndarray) -> np.ndarray:
        """float64 [clips, classes]; the highest is the prediction, or of several labels a clip those above 0."""
        return np.asarray(X, np.float64) @ self.weight.T + self.bias

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The class of each clip, int64 [clips]."""
        return self.scores(X).argmax(1)
