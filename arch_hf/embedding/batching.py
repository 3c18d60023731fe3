"""Clips of any lengths in one batch, each with the hidden states that it has alone.

Two things in a waveform encoder see past the end of a clip although the attention is masked: the group norm of the
first convolution, whose statistics run over time, and convolutions over time that pad the sequence themselves. Both
are told here where each clip ends. What goes together is planned: a pass costs something by itself, and so does padding.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from arch_hf.embedding.families import AudioTower
from arch_hf.embedding.fast.convolutions import ClipEnds, WaveformConvolutions
from arch_hf.embedding.fast.fourier import FourierConvolution
from arch_hf.embedding.inputs import Segment


def watch_clip_ends(tower: AudioTower) -> ClipEnds:
    """Tell the group norm and the padding convolutions of an encoder where clips end, through the object returned."""
    ends = ClipEnds()
    for parent in list(tower.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.Conv1d) and module.padding != (0,):
                if FourierConvolution.takes(module):
                    module = FourierConvolution(module)
                    setattr(parent, name, module)
                module.register_forward_pre_hook(ends.silence_padding)
    extractor = getattr(tower.encoder, "feature_extractor", None)
    if WaveformConvolutions.takes(extractor):
        tower.encoder.feature_extractor = WaveformConvolutions(extractor, ends)
    elif extractor is not None:  # of another make than its family's: it cannot be told
        tower.mask_exact = False
    return ends


def leave_as_it_is(tower: AudioTower) -> None:
    """Keep torch.compile away from the modules of our own: what they compute on depends on where the clips of a batch end."""
    for module in tower.modules():
        if isinstance(module, (WaveformConvolutions, FourierConvolution)):
            module.forward = torch.compiler.disable(module.forward)


def plan(
    segments: Sequence[Segment], max_seconds: float, pass_seconds: float, rate: int, mixed: bool
) -> list[list[int]]:
    """Batches of segment numbers, the cheapest cut of the segments sorted by length.

    A batch costs its audio, padding counted, and for the pass through the weights as much as `pass_seconds` of audio.
    It holds up to `max_seconds`, padding counted (or one segment), and segments of one shape unless `mixed`.

    Example:
        >>> segments = [Segment(torch.zeros(n), n, n) for n in (100, 300, 99, 300)]
        >>> plan(segments, 1.0, 0.1, 1000, mixed=True)
        [[2, 0], [1, 3]]
        >>> plan(segments, 1.0, 0.1, 1000, mixed=False)
        [[2], [0], [1, 3]]
    """

    def shape(i: int) -> tuple[int, ...]:
        return tuple(segments[i].values.shape)

    order = sorted(range(len(segments)), key=lambda i: (shape(i), i))
    groups = [order] if mixed else [list(group) for _, group in itertools.groupby(order, key=shape)]
    return [batch for group in groups for batch in _cut(group, segments, max_seconds * rate, pass_seconds * rate)]


def _cut(order: list[int], segments: Sequence[Segment], most: float, per_pass: float) -> list[list[int]]:
    """The cheapest cut of a sorted sequence into batches, by dynamic programming over where the last batch begins."""
    cost, begin = [0.0], [0]
    for end in range(1, len(order) + 1):
        longest = segments[order[end - 1]].total
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


def run(tower: AudioTower, ends: ClipEnds, segments: Sequence[Segment], device, dtype, all_layers: bool):
    """One batch through the encoder: hidden states [segments, frames, dim], and each segment's count of frames [segments] on the CPU, or
    None where all frames are every segment's."""
    values, lengths = (
        [segment.values for segment in segments],
        torch.tensor([len(segment.values) for segment in segments]),
    )
    try:
        if (lengths == lengths[0]).all():
            ends.moving = max(segment.moving for segment in segments)
            return tower(torch.stack(values).to(device, dtype), all_layers=all_layers), None
        values = nn.utils.rnn.pad_sequence(values, batch_first=True).to(device, dtype)
        mask = (torch.arange(values.shape[1]) < lengths[:, None]).long()
        frames = lengths
        if values.ndim == 2:  # waveforms; a spectrogram's frames are the encoder's
            ends.samples = lengths.to(device)
            frames = tower.encoder._get_feat_extract_output_lengths(lengths).long()
        ends.frames = frames.to(device)
        return tower(values, attention_mask=mask.to(device), all_layers=all_layers), frames
    finally:
        ends.samples = ends.frames = ends.moving = None
