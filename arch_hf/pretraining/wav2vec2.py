"""The wav2vec 2.0 objective (Baevski et al. 2020): tell the true quantised frame from others of the same clip."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Wav2Vec2ForPreTraining

from arch_hf.pretraining.architecture import wav2vec2_config
from arch_hf.pretraining.masked_encoder import encode_masked
from arch_hf.pretraining.recipes import Recipe


def contrastive_logits(
    predicted: torch.Tensor, quantised: torch.Tensor, negatives: torch.Tensor, codes: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Cosine similarities over the temperature: float32 [frames, 1 + negatives], the true target first.

    `predicted` and `quantised` are [frames, dim], `negatives` int64 [frames, negatives] indexes `quantised`, `codes` int64
    [frames, codebooks] says which codewords each was made of. A negative with the codewords of the true target is no negative: it gets -inf.

    All pairs come from one matrix product: a hundredth of the memory of gathering `negatives` vectors for each frame.
    """
    similarity = F.normalize(predicted.float(), dim=-1) @ F.normalize(quantised.float(), dim=-1).T / temperature
    same = (codes[negatives] == codes[:, None]).all(dim=-1)
    others = similarity.gather(1, negatives).masked_fill(same, -torch.inf)
    return torch.cat([similarity.diagonal()[:, None], others], dim=1)


class Wav2Vec2Objective(nn.Module):
    """`Wav2Vec2ForPreTraining` and its loss, in sums over masked frames so that micro-batches and processes add up.

    transformers' own forward computes the same loss (a test compares them); it quantises every frame, though the loss needs the
    masked ones only, and cannot scale the convolutions' gradient or penalise their output.
    """

    temperature: torch.Tensor

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.recipe = recipe
        self.model = Wav2Vec2ForPreTraining(wav2vec2_config(recipe))
        # A tensor rather than a number: a compiled model must not be compiled again for each step's value.
        self.register_buffer("temperature", torch.tensor(recipe.gumbel_start), persistent=False)

    def set_step(self, step: int) -> None:
        """The Gumbel temperature of that step (from 0)."""
        recipe = self.recipe
        self.temperature.fill_(max(recipe.gumbel_start * recipe.gumbel_decay**step, recipe.gumbel_end))

    def quantise(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Choose codewords for `frames` [frames, conv_dim].

        Returns:
            The codewords [frames, code_dim], which they are [frames, codebooks], and the mean softmax over them [codebooks, codewords].
        """
        quantizer: Any = self.model.quantizer
        recipe = self.recipe
        logits = quantizer.weight_proj(frames).float().view(len(frames), recipe.codebooks, recipe.codewords)
        if self.training:
            choice = F.gumbel_softmax(logits, tau=self.temperature, hard=True)  # type: ignore[arg-type] # a tensor does
        else:
            choice = F.one_hot(logits.argmax(dim=-1), recipe.codewords).float()
        codevectors = quantizer.codevectors.view(recipe.codebooks, recipe.codewords, -1)
        codewords = torch.einsum("fgv,gvd->fgd", choice, codevectors).flatten(1)
        return codewords, choice.detach().argmax(dim=-1), logits.softmax(dim=-1).mean(dim=0)

    def forward(
        self, waveforms: torch.Tensor, mask: torch.Tensor, masked: torch.Tensor, negatives: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Waveforms [clips, samples], mask bool [clips, frames], `masked` int64 [masked frames], its places in the flattened mask,
        negatives int64 [masked frames, negatives] → sums over the masked frames."""
        recipe, model = self.recipe, self.model
        states, frames, mean_square = encode_masked(model.wav2vec2, waveforms, mask, recipe)
        codewords, codes, usage = self.quantise(model.dropout_features(frames.flatten(0, 1)[masked]))
        quantised = model.project_q(codewords)
        predicted = model.project_hid(states.flatten(0, 1)[masked])
        with torch.autocast(waveforms.device.type, enabled=False):
            logits = contrastive_logits(predicted, quantised, negatives, codes, recipe.logit_temperature)
            n_masked = len(logits)
            contrastive = -logits.log_softmax(dim=-1)[:, 0].sum()
            perplexity = torch.exp(-torch.xlogy(usage, usage).sum(dim=-1)).sum()  # at most codebooks × codewords
            total = recipe.codebooks * recipe.codewords
            diversity = (total - perplexity) / total
            loss = contrastive + n_masked * (recipe.diversity_weight * diversity + recipe.feature_penalty * mean_square)
        correct = (logits[:, :1] > logits[:, 1:]).all(dim=-1)  # a tie is no success
        return {
            "objective": loss,
            "loss": contrastive.detach(),
            "accuracy": correct.sum(),
            "codebook_perplexity": n_masked * perplexity.detach(),
            "diversity_loss": n_masked * diversity.detach(),
        }
