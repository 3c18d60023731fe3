"""Clips of any lengths in one batch, each with the hidden states that it has alone.

Two things in a waveform encoder see past the end of a clip although the attention is masked: the group norm of the
first convolution, whose statistics run over time, and convolutions over time that pad the sequence themselves. Both
are told here where each clip ends. What goes together is planned: a pass costs something by itself, and so does padding.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from arch_hf.encoders.families import AudioHalf
from arch_hf.encoders.inputs import Piece, hop, receptive_field


class ClipEnds:
    """Lengths of the clips in the batch under way, in samples and in frames; None while nothing is padded. `whole` is the length
    in samples of a batch of which only the beginning goes through the convolutions (`ConstantTail`), else None."""

    samples: torch.Tensor | None = None
    frames: torch.Tensor | None = None
    whole: int | None = None


class ClipGroupNorm(nn.Module):
    """The group norm after the first convolution, with statistics over each clip alone, not over its padding.

    Example:
        >>> norm, ends = nn.GroupNorm(4, 4), ClipEnds()
        >>> clip_norm = ClipGroupNorm(norm, nn.Conv1d(1, 4, kernel_size=10, stride=5), ends)
        >>> clip, padded = torch.randn(1, 4, 19), torch.randn(2, 4, 50)
        >>> padded[0, :, :19] = clip[0]
        >>> ends.samples = torch.tensor([100, 255])  # 19 and 50 frames
        >>> torch.allclose(clip_norm(padded)[0, :, :19], norm(clip)[0], atol=1e-6)
        True
    """

    def __init__(self, norm: nn.GroupNorm, conv: nn.Conv1d, ends: ClipEnds):
        super().__init__()
        self.norm = norm
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.ends = ends

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states [batch, channels, frames], normalised; zero behind the end of a clip."""
        if self.ends.whole is not None:
            weights = torch.ones(1, 1, hidden.shape[-1], device=hidden.device)
            weights[..., -1] += (self.ends.whole - self.kernel) // self.stride + 1 - hidden.shape[-1]
            return self._weighted(hidden, weights)
        if self.ends.samples is None:
            return self.norm(hidden)
        frames = (self.ends.samples - self.kernel) // self.stride + 1
        if hidden.is_cuda:  # a kernel per clip would cost more than a few passes over all of them
            inside = torch.arange(hidden.shape[-1], device=hidden.device) < frames[:, None]
            return self._weighted(hidden, inside[:, None].float())
        # In place and one clip after the other: on a CPU as fast as the norm itself.
        for i, n in enumerate(frames.tolist()):
            hidden[i, :, :n] = self.norm(hidden[i : i + 1, :, :n])[0]
            hidden[i, :, n:] = 0
        return hidden

    def _weighted(self, hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Normalised with statistics in which a frame counts as often as `weights` [batch or 1, 1, frames] says; zero where that is 0."""
        values, n = hidden.float(), weights.sum(-1, keepdim=True)
        centred = values - (values * weights).sum(-1, keepdim=True) / n
        variance = (centred.square() * weights).sum(-1, keepdim=True) / n
        scale = torch.rsqrt(variance + self.norm.eps) * self.norm.weight.float()[:, None]
        return ((centred * scale + self.norm.bias.float()[:, None]) * (weights > 0)).to(hidden.dtype)


class ConstantTail(nn.Module):
    """The convolutions over the waveform, spared the padding: where the input is constant to the end in all clips of a batch, so
    are the frames, and the first of them stands for all. Exact, and most of arch-v1's work where clips are short.

    Example:
        >>> from transformers import HubertConfig, HubertModel
        >>> tiny = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
        >>> config = HubertConfig(conv_dim=(8,) * 7, **tiny)
        >>> model, ends = HubertModel(config).eval(), ClipEnds()
        >>> values = torch.zeros(2, 16000)
        >>> values[:, :3000] = torch.randn(2, 3000)
        >>> with torch.inference_mode():
        ...     whole = model.feature_extractor(values)
        ...     layer = model.feature_extractor.conv_layers[0]
        ...     layer.layer_norm = ClipGroupNorm(layer.layer_norm, layer.conv, ends)
        ...     spared = ConstantTail(model.feature_extractor, 400, 320, ends)(values)
        >>> spared.shape == whole.shape, torch.allclose(spared, whole, atol=1e-4)
        (True, True)
    """

    def __init__(self, extractor: nn.Module, field: int, hop: int, ends: ClipEnds):
        super().__init__()
        self.extractor, self.field, self.hop, self.ends = extractor, field, hop, ends

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Input [batch, samples] to frames [batch, channels, frames]."""
        if self.ends.samples is not None:  # told already where each clip ends
            return self.extractor(values)
        samples = values.shape[1]
        n_frames = (samples - self.field) // self.hop + 1
        moving = (values != values[:, -1:]).any(0).nonzero()
        first_still = -(-(int(moving[-1]) + 1) // self.hop) if len(moving) else 0
        if first_still + 1 > 0.9 * n_frames:
            return self.extractor(values)
        self.ends.whole = samples
        try:
            frames = self.extractor(values[:, : first_still * self.hop + self.field])
        finally:
            self.ends.whole = None
        return torch.cat([frames, frames[..., -1:].expand(-1, -1, n_frames - frames.shape[-1])], dim=-1)


def watch_clip_ends(half: AudioHalf) -> ClipEnds:
    """Tell the group norm and the padding convolutions of an encoder where clips end, through the object returned."""
    ends = ClipEnds()

    def silence_padding(module, args):
        if ends.frames is None:
            return None
        (hidden,) = args
        inside = torch.arange(hidden.shape[-1], device=hidden.device) < ends.frames[:, None]
        return (hidden * inside[:, None].to(hidden.dtype),)

    for module in list(half.modules()):
        norm, conv = getattr(module, "layer_norm", None), getattr(module, "conv", None)
        if isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels and isinstance(conv, nn.Conv1d):
            module.layer_norm = ClipGroupNorm(norm, conv, ends)
        if isinstance(module, nn.Conv1d) and module.padding != (0,):
            module.register_forward_pre_hook(silence_padding)
    extractor = getattr(half.encoder, "feature_extractor", None)
    convs = [layer.conv for layer in getattr(extractor, "conv_layers", ())]
    if convs and all(conv.padding == (0,) and conv.dilation == (1,) for conv in convs):
        config = half.encoder.config
        half.encoder.feature_extractor = ConstantTail(extractor, receptive_field(config), hop(config), ends)
    return ends


def plan(pieces: Sequence[Piece], max_seconds: float, pass_seconds: float, rate: int, mixed: bool) -> list[list[int]]:
    """Batches of piece numbers, the cheapest cut of the pieces sorted by length.

    A batch costs its audio, padding counted, and for the pass through the weights as much as `pass_seconds` of audio.
    It holds up to `max_seconds`, padding counted (or one piece), and pieces of one shape unless `mixed`.

    Example:
        >>> pieces = [Piece(i, torch.zeros(n), n, n) for i, n in enumerate([100, 300, 99, 300])]
        >>> plan(pieces, 1.0, 0.1, 1000, mixed=True)
        [[2, 0], [1, 3]]
        >>> plan(pieces, 1.0, 0.1, 1000, mixed=False)
        [[2], [0], [1, 3]]
    """

    def shape(i: int) -> tuple[int, ...]:
        return tuple(pieces[i].values.shape)

    order = sorted(range(len(pieces)), key=lambda i: (shape(i), i))
    groups = [order] if mixed else [list(group) for _, group in itertools.groupby(order, key=shape)]
    return [batch for group in groups for batch in _cut(group, pieces, max_seconds * rate, pass_seconds * rate)]


def _cut(order: list[int], pieces: Sequence[Piece], most: float, per_pass: float) -> list[list[int]]:
    """The cheapest cut of a sorted sequence into batches, by dynamic programming over where the last batch begins."""
    cost, begin = [0.0], [0]
    for end in range(1, len(order) + 1):
        longest = pieces[order[end - 1]].total
        best = None
        for start in range(end - 1, -1, -1):
            room = (end - start) * longest
            if room > most and start < end - 1:
                break
            if best is None or cost[start] + room + per_pass < best[0]:
                best = (cost[start] + room + per_pass, start)
        cost.append(best[0])
        begin.append(best[1])
    batches, end = [], len(order)
    while end:
        batches.append(order[begin[end] : end])
        end = begin[end]
    return batches[::-1]


def run(half: AudioHalf, ends: ClipEnds, pieces: Sequence[Piece], device, dtype, all_layers: bool):
    """One batch through the encoder: hidden states [pieces, frames, dim], and each piece's count of frames or None."""
    lengths = [piece.values.shape[0] for piece in pieces]
    if len(set(lengths)) == 1:
        values = torch.stack([piece.values for piece in pieces])
        return half(values.to(device, dtype), all_layers=all_layers), None
    values = nn.utils.rnn.pad_sequence([piece.values for piece in pieces], batch_first=True).to(device, dtype)
    lengths = torch.tensor(lengths, device=device)
    mask = (torch.arange(values.shape[1], device=device) < lengths[:, None]).long()
    frames = lengths
    if values.ndim == 2:  # waveforms; a spectrogram's frames are the encoder's
        ends.samples = lengths
        frames = half.encoder._get_feat_extract_output_lengths(lengths).long()
    ends.frames = frames
    try:
        return half(values, attention_mask=mask, all_layers=all_layers), frames
    finally:
        ends.samples = ends.frames = None
