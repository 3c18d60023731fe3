"""The convolutions over a waveform as matrix products, each clip normalised by itself.

A convolution that pads nothing is one matrix product for every `stride` of its taps: that many neighbouring frames side by side
are a row of the matrix, as they lie in memory. The clips of a batch stand one behind the other on one axis of time,
each from a multiple of the hop on, so that their frames fall where they fall alone; those that see into the next clip are left out.

The group norm after the first convolution wants mean and variance of each channel over a clip. Both follow from those of
the windows that go in (ten numbers and their covariance), so the norm goes into the weights and no pass over the frames is needed.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.activations import GELUActivation

from arch_hf.compat.torch_internals import gelu_in_place


class ClipEnds:
    """What is known of the batch that an encoder has under way.

    Attributes:
        samples, frames: lengths of the clips, None while none is padded.
        constant_from: how many samples to look at, None for all: in each clip those behind have one and the same value, its last.
    """

    samples: torch.Tensor | None = None
    frames: torch.Tensor | None = None
    constant_from: int | None = None

    def silence_padding(self, _module: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        """As a hook before a module that takes hidden states [batch, channels, frames]: zeros behind each clip's frames."""
        if self.frames is None:
            return None
        (hidden,) = args
        inside = torch.arange(hidden.shape[-1], device=hidden.device) < self.frames[:, None]
        return (hidden * inside[:, None].to(hidden.dtype),)


class WaveformConvolutions(nn.Module):
    """A stack of convolutions over the waveform that gives each clip of a batch the frames that it has alone.

    Where the input is constant to the end in all clips, so are the frames, and the first of them stands for all: most of
    arch-v1's work where clips are short.

    Args:
        extractor: a feature extractor as of wav2vec 2.0, in the dtype to compute in; see `takes`.
        ends: what is known of the batch under way.

    Examples:
        >>> from transformers import HubertConfig, HubertModel
        >>> tiny = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
        >>> plain = HubertModel(HubertConfig(conv_dim=(8,) * 7, **tiny)).eval().feature_extractor
        >>> ends = ClipEnds()
        >>> convolutions = WaveformConvolutions(plain, ends)
        >>> padded = torch.zeros(2, 8000)
        >>> padded[0, :3000], padded[1, :5000] = torch.randn(3000), torch.randn(5000)
        >>> with torch.inference_mode():
        ...     ends.constant_from = 5000
        ...     torch.allclose(convolutions(padded), plain(padded), atol=1e-4)
        ...     ends.constant_from, ends.samples = None, torch.tensor([3000, 5000])
        ...     torch.allclose(convolutions(padded)[:1, :, :9], plain(padded[:1, :3000]), atol=1e-4)
        True
        True
    """

    def __init__(self, extractor: Any, ends: ClipEnds):
        super().__init__()
        self.ends = ends
        first, *others = extractor.conv_layers
        self.first = _FirstConvolution(first)
        self.others = nn.ModuleList(_Convolution(layer) for layer in others)
        self.field, self.hop = 1, 1  # samples that a frame sees, and between frames
        for layer in extractor.conv_layers:
            self.field += (layer.conv.kernel_size[0] - 1) * self.hop
            self.hop *= layer.conv.stride[0]

    @staticmethod
    def takes(extractor: nn.Module | None) -> bool:
        """Whether a module is such a stack: nothing is padded, and no norm but the first layer's runs over time."""
        layers = list(getattr(extractor, "conv_layers", ()))
        return bool(layers) and all(_is_plain(layer, first=layer is layers[0]) for layer in layers)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Input [batch, samples] to frames [batch, channels, frames]."""
        samples = values.shape[1]
        n_frames = seen = (samples - self.field) // self.hop + 1
        if self.ends.constant_from is not None:
            seen = min(n_frames, math.ceil(self.ends.constant_from / self.hop) + 1)
            values = values[:, : (seen - 1) * self.hop + self.field] if seen < n_frames else values
        weight = self.first.for_clips(values, samples, self.ends.samples)
        # A clip's room, in frames: none of its own sees the next clip.
        slots = seen - 1 + math.ceil(self.field / self.hop)
        time = values.new_zeros(len(values), slots * self.hop)
        time[:, : values.shape[1]] = values[:, : slots * self.hop]
        hidden = self.first(time, weight)
        for layer in self.others:
            hidden = layer(hidden)
        hidden = hidden.view(len(values), slots, -1)[:, :seen]
        if seen < n_frames:
            hidden = torch.cat([hidden, hidden[:, -1:].expand(-1, n_frames - seen, -1)], dim=1)
        return hidden.transpose(1, 2)


class _FirstConvolution(nn.Module):
    """From the waveform to channels. Its bias is one more tap, over ones; its group norm, if it has one, other weights for each clip."""

    weight: torch.Tensor

    def __init__(self, layer: Any):
        super().__init__()
        self.kernel: int = layer.conv.kernel_size[0]
        self.stride: int = layer.conv.stride[0]
        norm: nn.Module | None = getattr(layer, "layer_norm", None)
        self.over_time = norm if isinstance(norm, nn.GroupNorm) else None
        self.norm = None if isinstance(norm, nn.GroupNorm) else norm
        self.activation = _in_place(layer.activation)
        taps = layer.conv.weight[:, 0].T
        bias = torch.zeros_like(taps[0]) if layer.conv.bias is None else layer.conv.bias
        self.register_buffer("weight", torch.cat([taps, bias[None]]), persistent=False)

    def for_clips(self, used: torch.Tensor, samples: int, lengths: torch.Tensor | None) -> torch.Tensor:
        """Weights [batch or 1, taps + 1, channels], with the norm of each clip in them.

        `used` are the first of a clip's `samples`, those behind being constant; or its first `lengths` are its own.
        """
        if self.over_time is None:
            return self.weight[None]
        if used.device.type == "mps":  # which has no double precision
            used, lengths = used.cpu(), None if lengths is None else lengths.cpu()
        mean, covariance = self._moments(used, samples, lengths)
        taps, norm = self.weight[:-1].to(mean), self.over_time
        variance = (taps * (covariance @ taps)).sum(1).clamp_min(0)
        scale = norm.weight.to(mean) * torch.rsqrt(variance + norm.eps)
        bias = norm.bias.to(mean) - mean @ taps * scale
        return torch.cat([taps * scale[:, None], bias[:, None]], dim=1).to(self.weight)

    def _moments(
        self, used: torch.Tensor, samples: int, lengths: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean [batch, taps] and covariance [batch, taps, taps] of each clip's windows, in double precision: where a channel
        lets little of the sound pass, its variance is the small difference of large numbers."""
        windows = used.double().unfold(1, self.kernel, self.stride)
        n = windows.shape[1]
        if lengths is None:
            total = (samples - self.kernel) // self.stride + 1
            windows, last = windows.contiguous(), windows[:, -1]
            unseen = total - n  # windows like the last one
            mean = (windows.sum(1) + unseen * last) / total
            square = (windows.mT @ windows + unseen * last[:, :, None] * last[:, None]) / total
        else:
            totals = ((lengths - self.kernel) // self.stride + 1)[:, None]
            windows = windows * (torch.arange(n, device=used.device) < totals)[..., None]
            mean = windows.sum(1) / totals
            square = windows.mT @ windows / totals[..., None]
        return mean, square - mean[:, :, None] * mean[:, None]

    def forward(self, time: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Clips [batch, samples], a multiple of the stride, and their weights to hidden states [frames of all clips, channels].

        The last window of a clip reaches into the next clip, and that of the last clip into zeros.
        """
        batch, samples = time.shape
        time = functional.pad(time.flatten(), (0, self.kernel))
        windows = time.as_strided((batch, samples // self.stride, self.kernel), (samples, self.stride, 1))
        hidden = (functional.pad(windows, (0, 1), value=1.0) @ weight).flatten(0, 1)
        return self.activation(hidden if self.norm is None else self.norm(hidden))


class _Convolution(nn.Module):
    """One of the later convolutions: hidden states [frames, channels] to [frames / stride, channels]."""

    bias: torch.Tensor | None

    def __init__(self, layer: Any):
        super().__init__()
        conv, self.norm, self.activation = layer.conv, getattr(layer, "layer_norm", None), _in_place(layer.activation)
        self.stride: int = conv.stride[0]
        taps = conv.weight.permute(2, 1, 0)  # [kernel, in, out]
        groups = [taps[i : i + self.stride].flatten(0, 1) for i in range(0, len(taps), self.stride)]
        self.weights = nn.ParameterList(nn.Parameter(group.contiguous(), requires_grad=False) for group in groups)
        self.register_buffer("bias", conv.bias, persistent=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.view(len(hidden) // self.stride, -1)
        first, *later = self.weights
        out = (
            rows[:, : len(first)] @ first if self.bias is None else torch.addmm(self.bias, rows[:, : len(first)], first)
        )
        for i, weight in enumerate(later, start=1):
            out[:-i].addmm_(rows[i:, : len(weight)], weight)  # the last rows go without: they see beyond the last clip
        return self.activation(out if self.norm is None else self.norm(out))


def _in_place(activation: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """GELU as these encoders have it without a second array, which would not stay in the caches beside the first."""
    return gelu_in_place if isinstance(activation, GELUActivation) else activation


def _is_plain(layer: nn.Module, first: bool) -> bool:
    conv, norm = getattr(layer, "conv", None), getattr(layer, "layer_norm", None)
    if not isinstance(conv, nn.Conv1d) or not hasattr(layer, "activation"):
        return False
    if isinstance(norm, nn.GroupNorm) and not (first and norm.num_groups == norm.num_channels):
        return False
    plain = conv.padding == (0,) and conv.dilation == (1,) and conv.groups == 1 and (conv.in_channels == 1) == first
    return plain and isinstance(norm, (nn.GroupNorm, nn.LayerNorm, type(None)))
