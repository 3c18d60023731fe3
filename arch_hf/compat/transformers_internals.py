"""What transformers knows of its models and keeps to itself."""

import torch
from torch import nn


def frames_of_samples(encoder: nn.Module, lengths: torch.Tensor) -> torch.Tensor:
    """How many frames an encoder of the wav2vec 2.0 kind makes of waveforms of so many samples: int64, as `lengths`.

    The models have a method for it, with a private name; its formula is that of convolutions without padding, and stands here for the day on
    which the method goes.

    Examples:
        >>> from transformers import HubertConfig, HubertModel
        >>> tiny = HubertModel(HubertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
        >>> frames_of_samples(tiny, torch.tensor([400, 719, 720])).tolist()
        [1, 1, 2]
    """
    method = getattr(encoder, "_get_feat_extract_output_lengths", None)
    if method is None:
        return frames_by_formula(encoder.config, lengths)
    return method(lengths).long()


def frames_by_formula(config, lengths: torch.Tensor) -> torch.Tensor:
    """The same from the configuration alone."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        lengths = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
    return lengths.long()


def attention_of(config) -> str | None:
    """Which implementation of attention a loaded model computes with: "sdpa", "eager" ...; None where it is not known.

    It is chosen while the model loads and stands in a private attribute of its configuration, and in those of its parts.
    """
    return getattr(config, "_attn_implementation", None)


def checkpoint_activations(model: nn.Module) -> None:
    """Compute a model's activations again in the backward pass instead of keeping them.

    transformers 5 renamed the method; the old name goes with version 6.
    """
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # type: ignore[operator]
