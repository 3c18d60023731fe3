"""The convolutions over a waveform as matrix products, for training on a CPU.

transformers lays hidden states out as [clips, channels, time], where a layer norm over channels means two transpositions and GELU runs over
memory that is not contiguous. Here they lie as [time, channels], and a convolution that pads nothing is one matrix product for every
`stride` of its taps: neighbouring frames lie side by side in memory as they are. The same numbers up to rounding; a test compares values and
gradients. On a GPU, and in other precisions, transformers' own modules are used.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import GELUActivation

HOP, FIELD = 320, 400  # samples between frames, and those that a frame sees


def convolve(extractor: nn.Module, waveforms: torch.Tensor) -> torch.Tensor:
    """A feature extractor of transformers on waveforms [clips, samples] → frames [clips, frames, channels].

    Examples:
        >>> from arch_hf.pretraining.architecture import hubert_config
        >>> from arch_hf.pretraining.recipes import get_recipe
        >>> from transformers import HubertModel
        >>> extractor = HubertModel(hubert_config(get_recipe("hubert", "tiny"))).feature_extractor
        >>> waveforms = torch.randn(2, 8000)
        >>> torch.allclose(convolve(extractor, waveforms), extractor(waveforms).transpose(1, 2), atol=1e-5)
        True
    """
    if not _as_products(extractor, waveforms):
        return extractor(waveforms).transpose(1, 2)
    clips, samples = waveforms.shape
    frames = (samples - FIELD) // HOP + 1
    # All clips stand on one axis of time, each from a multiple of the hop on, so that its frames fall where they fall alone; the last
    # of its places sees into the next clip and is left out. One place more than needed: every layer leaves out a little at the end.
    places = frames + 1
    time = waveforms.new_zeros(clips * places + 1, HOP)
    kept = waveforms[:, : places * HOP]
    time[:-1].view(clips, -1)[:, : kept.shape[1]] = kept
    layers: Any = extractor.conv_layers
    first, *others = layers
    kernel, stride = first.conv.kernel_size[0], first.conv.stride[0]
    windows = time.view(-1)[:-stride].unfold(0, kernel, stride)
    hidden = _finish(first, F.linear(windows, first.conv.weight[:, 0], first.conv.bias))
    for layer in others:
        hidden = hidden[:-1] if len(hidden) % 2 else hidden
        hidden = _finish(layer, _Convolution.apply(hidden, layer.conv.weight, layer.conv.bias))
    return hidden.view(clips, places, -1)[:, :frames]


def _finish(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    return layer.activation(layer.layer_norm(hidden))


def _as_products(extractor: nn.Module, waveforms: torch.Tensor) -> bool:
    layers: Any = extractor.conv_layers
    plain = all(
        isinstance(getattr(layer, "layer_norm", None), nn.LayerNorm) and isinstance(layer.activation, GELUActivation)
        for layer in layers
    )
    strides = [layer.conv.stride[0] for layer in layers]
    on_cpu = waveforms.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return plain and on_cpu and strides == [5, 2, 2, 2, 2, 2, 2] and not extractor.gradient_checkpointing


class _Convolution(torch.autograd.Function):
    """A convolution of two or three taps and stride 2: hidden states [2 n, in] → [n, out], or [n − 1, out] with three taps."""

    @staticmethod
    def forward(ctx, hidden, weight, bias):
        pair, third = _taps(weight)
        rows = hidden.view(len(hidden) // 2, -1)
        ctx.save_for_backward(hidden, weight)
        if third is None:
            return torch.addmm(bias, rows, pair)
        out = torch.addmm(bias, rows[:-1], pair)
        return out.addmm_(rows[1:, : len(third)], third)

    @staticmethod
    def backward(ctx, gradient):
        hidden, weight = ctx.saved_tensors
        pair, third = _taps(weight)
        gradient = gradient.contiguous()
        rows = hidden.view(len(hidden) // 2, -1)
        of_rows = torch.zeros_like(rows) if third is not None else torch.empty_like(rows)
        used = rows[: len(gradient)]
        torch.mm(gradient, pair.T, out=of_rows[: len(gradient)])
        of_weight = [(used.T @ gradient).view(2, -1, weight.shape[0])]
        if third is not None:
            of_rows[1:, : len(third)].addmm_(gradient, third.T)
            of_weight.append((rows[1:, : len(third)].T @ gradient)[None])
        return of_rows.view_as(hidden), torch.cat(of_weight).permute(2, 1, 0), gradient.sum(dim=0)


def _taps(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A kernel [out, in, taps] as matrices of the first two taps together [2 in, out] and of the third [in, out]."""
    taps = weight.permute(2, 1, 0)
    return taps[:2].flatten(0, 1), taps[2] if len(taps) > 2 else None
