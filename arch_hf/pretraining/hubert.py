"""The HuBERT objective (Hsu et al. 2021): name the cluster of each masked frame."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import HubertModel

from arch_hf.pretraining.architecture import hubert_config
from arch_hf.pretraining.masked_encoder import encode_masked
from arch_hf.pretraining.recipes import Recipe


class HubertObjective(nn.Module):
    """`HubertModel` with the prediction head of pretraining, which the exported encoder leaves behind.

    The logit of cluster c at a frame is cos(A·o, e_c) / τ (equation 3): o the frame's output, A a projection, e_c the
    cluster's embedding, τ = 0.1. The loss is the cross-entropy over masked frames alone (α = 1).
    """

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.recipe = recipe
        self.model = HubertModel(hubert_config(recipe))
        self.projection = nn.Linear(recipe.hidden_size, recipe.projection_dim)
        self.codewords = nn.Parameter(torch.empty(recipe.clusters, recipe.projection_dim).uniform_())

    def set_step(self, step: int) -> None:
        """Nothing of this objective changes with the step."""

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Frames [frames, hidden_size] → float32 [frames, clusters]."""
        projected = self.projection(states)
        with torch.autocast(projected.device.type, enabled=False):
            cosine = F.normalize(projected.float(), dim=-1) @ F.normalize(self.codewords.float(), dim=-1).T
            return cosine / self.recipe.logit_temperature

    def forward(
        self, waveforms: torch.Tensor, mask: torch.Tensor, masked: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Waveforms [clips, samples], mask bool [clips, frames], `masked` int64 [masked frames], its places in the flattened mask,
        labels int64 [clips, frames] → sums over the masked frames."""
        states, _, mean_square = encode_masked(self.model, waveforms, mask, self.recipe)
        logits = self.logits(states.flatten(0, 1)[masked])
        labels = labels.flatten()[masked]
        n_masked = len(logits)
        with torch.autocast(waveforms.device.type, enabled=False):
            cross_entropy = F.cross_entropy(logits, labels, reduction="sum")
            loss = cross_entropy + n_masked * self.recipe.feature_penalty * mean_square
        named = logits.detach().argmax(dim=-1)
        usage = torch.zeros_like(logits[0]).index_add_(0, named, torch.ones_like(logits[:, 0])) / max(n_masked, 1)
        perplexity = torch.exp(-torch.xlogy(usage, usage).sum())  # of the clusters that the model names
        return {
            "objective": loss,
            "loss": cross_entropy.detach(),
            "accuracy": (named == labels).sum(),
            "codebook_perplexity": n_masked * perplexity,
        }
