"""The HuBERT objective (Hsu et al. 2021): name the cluster of each hidden frame."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import HubertModel

from arch_hf.pretraining.recipes import Recipe, model_config
from arch_hf.pretraining.wav2vec2 import scale_gradient


class HubertObjective(nn.Module):
    """`HubertModel` with the prediction head of pretraining, which the exported encoder leaves behind.

    The logit of cluster c at a frame is cos(A·o, e_c) / τ (equation 3): o the frame's output, A a projection, e_c the
    cluster's embedding, τ = 0.1. The loss is the cross-entropy over hidden frames alone (α = 1).
    """

    def __init__(self, recipe: Recipe, clusters: int):
        super().__init__()
        self.recipe = recipe
        self.model = HubertModel(model_config(recipe))
        self.projection = nn.Linear(recipe.hidden_size, recipe.projection_dim)
        self.codewords = nn.Parameter(torch.empty(clusters, recipe.projection_dim).uniform_())
        self.conv_output: torch.Tensor | None = None
        self.model.feature_extractor.register_forward_hook(self._tap)

    def _tap(self, module, inputs, output):
        self.conv_output = scale_gradient(output, self.recipe.feature_gradient_scale)
        return self.conv_output

    def set_step(self, step: int) -> None:
        """Nothing of this objective changes with the step."""

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Frames [frames, hidden_size] → float32 [frames, clusters]."""
        projected = self.projection(hidden_states)
        with torch.autocast(projected.device.type, enabled=False):
            cosine = F.normalize(projected.float(), dim=-1) @ F.normalize(self.codewords.float(), dim=-1).T
            return cosine / self.recipe.logit_temperature

    def forward(self, waveforms: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Waveforms [clips, samples], mask bool [clips, frames], labels int64 [clips, frames] → sums over the hidden frames."""
        logits = self.logits(self.model(waveforms, mask_time_indices=mask).last_hidden_state[mask])
        labels = labels[mask]
        with torch.autocast(waveforms.device.type, enabled=False):
            cross_entropy = F.cross_entropy(logits, labels, reduction="sum")
            penalty, self.conv_output = self.conv_output.float().pow(2).mean(), None
            loss = cross_entropy + len(logits) * self.recipe.feature_penalty * penalty
        usage = torch.bincount(logits.detach().argmax(dim=-1), minlength=logits.shape[-1]) / max(len(logits), 1)
        perplexity = torch.exp(-torch.xlogy(usage, usage).sum())  # of the clusters that the model names
        return {
            "objective": loss,
            "loss": cross_entropy.detach(),
            "accuracy": (logits.argmax(dim=-1) == labels).sum(),
            "codebook_perplexity": len(logits) * perplexity,
        }
