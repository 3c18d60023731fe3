"""The wav2vec 2.0 objective (Baevski et al. 2020): tell the true quantised frame from others of the same clip."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Wav2Vec2ForPreTraining

from arch_hf.pretraining.recipes import Recipe, model_config


def contrastive_logits(
    predicted: torch.Tensor, quantised: torch.Tensor, negatives: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Cosine similarities over the temperature: float32 [frames, 1 + negatives], the true target first.

    `predicted` and `quantised` are [frames, dim], `negatives` int64 [frames, negatives] indexes `quantised`. A negative that equals
    the true target (two frames may share their codewords) is no negative: it gets -inf.
    """
    predicted, quantised = predicted.float(), quantised.float()
    others = quantised[negatives]  # [frames, negatives, dim]
    candidates = torch.cat([quantised[:, None], others], dim=1)
    logits = F.cosine_similarity(predicted[:, None], candidates, dim=-1) / temperature
    same = (others == quantised[:, None]).all(dim=-1)
    return torch.cat([logits[:, :1], logits[:, 1:].masked_fill(same, -torch.inf)], dim=1)


class Wav2Vec2Objective(nn.Module):
    """`Wav2Vec2ForPreTraining` and its loss, in sums over hidden frames so that micro-batches and processes add up.

    transformers' own forward computes the same loss (a test compares them); it quantises every frame, though the loss needs the
    hidden ones only, and cannot scale the convolutions' gradient or penalise their output.
    """

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.recipe = recipe
        self.model = Wav2Vec2ForPreTraining(model_config(recipe))
        # A tensor rather than a number: a compiled model must not be compiled again for each step's value.
        self.register_buffer("temperature", torch.tensor(recipe.gumbel_start), persistent=False)
        self.conv_output: torch.Tensor | None = None
        self.model.wav2vec2.feature_extractor.register_forward_hook(self._tap)

    def _tap(self, module, inputs, output):
        self.conv_output = scale_gradient(output, self.recipe.feature_gradient_scale)
        return self.conv_output

    def set_step(self, step: int) -> None:
        """The Gumbel temperature of that step (from 0)."""
        recipe = self.recipe
        self.temperature.fill_(max(recipe.gumbel_start * recipe.gumbel_decay**step, recipe.gumbel_end))

    def quantise(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codewords of `frames` [frames, conv_dim]: [frames, code_dim], and the mean softmax over codewords [codebooks, codewords]."""
        quantizer, recipe = self.model.quantizer, self.recipe
        logits = quantizer.weight_proj(frames).float().view(len(frames), recipe.codebooks, recipe.codewords)
        if self.training:
            choice = F.gumbel_softmax(logits, tau=self.temperature, hard=True)
        else:
            choice = F.one_hot(logits.argmax(dim=-1), recipe.codewords).float()
        codevectors = quantizer.codevectors.view(recipe.codebooks, recipe.codewords, -1)
        codes = torch.einsum("fgv,gvd->fgd", choice, codevectors).flatten(1)
        return codes, logits.softmax(dim=-1).mean(dim=0)

    def forward(self, waveforms: torch.Tensor, mask: torch.Tensor, negatives: torch.Tensor) -> dict[str, torch.Tensor]:
        """Waveforms [clips, samples], mask bool [clips, frames], negatives [hidden, negatives] → sums over the hidden frames."""
        recipe, model = self.recipe, self.model
        outputs = model.wav2vec2(waveforms, mask_time_indices=mask)
        codes, usage = self.quantise(model.dropout_features(outputs.extract_features[mask]))
        quantised = model.project_q(codes)
        predicted = model.project_hid(outputs.last_hidden_state[mask])
        with torch.autocast(waveforms.device.type, enabled=False):
            logits = contrastive_logits(predicted, quantised, negatives, recipe.logit_temperature)
            hidden = len(logits)
            contrastive = -logits.log_softmax(dim=-1)[:, 0].sum()
            perplexity = torch.exp(-torch.xlogy(usage, usage).sum(dim=-1)).sum()  # at most codebooks × codewords
            total = recipe.codebooks * recipe.codewords
            diversity = (total - perplexity) / total
            penalty, self.conv_output = self.conv_output.float().pow(2).mean(), None
            loss = contrastive + hidden * (recipe.diversity_weight * diversity + recipe.feature_penalty * penalty)
        correct = (logits[:, :1] > logits[:, 1:]).all(dim=-1)  # a tie is no success
        return {
            "objective": loss,
            "loss": contrastive.detach(),
            "accuracy": correct.sum(),
            "codebook_perplexity": hidden * perplexity.detach(),
            "diversity_loss": hidden * diversity.detach(),
        }


def scale_gradient(tensor: torch.Tensor, scale: float) -> torch.Tensor:
    """The same values; in the backward pass, the gradient times `scale`."""
    return tensor if scale == 1.0 else tensor * scale + tensor.detach() * (1 - scale)
