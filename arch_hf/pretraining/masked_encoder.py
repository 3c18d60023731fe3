"""The forward pass that both objectives share: convolutions, masking, Transformer."""

from typing import Any

import torch

from arch_hf.pretraining.convolutions import convolve
from arch_hf.pretraining.recipes import Recipe


def encode_masked(
    model: Any, waveforms: torch.Tensor, mask: torch.Tensor, recipe: Recipe
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Encode with some frames masked: waveforms [clips, samples] and mask bool [clips, frames] through a `Wav2Vec2Model` or `HubertModel`.

    What the model's own forward computes (a test compares them), with the gradient of the convolutions scaled.

    Returns:
        The Transformer's output [clips, frames, hidden_size]; the normalised frames [clips, frames, conv_dim] that wav2vec 2.0
        quantises; and the mean square of the convolutions' output.
    """
    frames = scale_gradient(convolve(model.feature_extractor, waveforms), recipe.feature_gradient_scale)
    with torch.autocast(waveforms.device.type, enabled=False):
        mean_square = frames.float().square().mean()
    projected = model.feature_projection(frames)
    hidden, normalised = projected if isinstance(projected, tuple) else (projected, frames)
    hidden = torch.where(mask[..., None], model.masked_spec_embed.to(hidden.dtype), hidden)
    return model.encoder(hidden).last_hidden_state, normalised, mean_square


def scale_gradient(tensor: torch.Tensor, scale: float) -> torch.Tensor:
    """The very same values; in the backward pass, the gradient times `scale`.

    Examples:
        >>> x = torch.tensor([0.1, 3.0], requires_grad=True)
        >>> scaled = scale_gradient(x, 0.1)
        >>> scaled.sum().backward()
        >>> torch.equal(scaled, x), x.grad
        (True, tensor([0.1000, 0.1000]))
    """
    if scale == 1.0:
        return tensor
    held = tensor.detach()
    return held + scale * (tensor - held)
