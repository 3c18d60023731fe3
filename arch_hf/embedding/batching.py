"""Which segments go through the model together, and how: those of one length, one behind the other.

What goes together is planned: a pass costs something by itself, and so does padding. Batches of several lengths are in
`fast.mixed_lengths`; without that the plan never mixes lengths.
"""

import itertools
import math
from collections.abc import Sequence

import torch

from arch_hf.embedding.families import AudioTower
from arch_hf.embedding.inputs import Segment


class EqualLengths:
    """Runs batches of segments of one shape through an audio tower, which is just as transformers made it."""

    mixed = False

    def __init__(self, tower: AudioTower, device: torch.device, dtype: torch.dtype):
        self.tower = tower.to(device, dtype)
        self.device, self.dtype = device, dtype

    def compile(self) -> None:
        """Through torch.compile."""
        self.tower.encoder.compile(dynamic=True)

    def run(self, segments: Sequence[Segment], all_layers: bool) -> tuple[list[torch.Tensor], None]:
        """One batch through the encoder: hidden states [segments, frames, dim], of which all frames are the segments' own."""
        values = torch.stack([segment.values for segment in segments])
        return self.tower(values.to(self.device, self.dtype), all_layers), None


def plan(
    segments: Sequence[Segment], max_seconds: float, pass_seconds: float, rate: int, mixed: bool
) -> list[list[int]]:
    """Batches of segment numbers, the cheapest cut of the segments sorted by length.

    A batch costs its audio, padding counted, and for the pass through the weights as much as `pass_seconds` of audio.
    It holds up to `max_seconds`, padding counted (or one segment), and segments of one shape unless `mixed`.

    Examples:
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
        best = (math.inf, 0)
        for start in range(end - 1, -1, -1):
            room = (end - start) * longest
            if room > most and start < end - 1:
                break
            if cost[start] + room + per_pass < best[0]:
                best = (cost[start] + room + per_pass, start)
        cost.append(best[0])
        begin.append(best[1])
    batches, end = [], len(order)
    while end:
        batches.append(order[begin[end] : end])
        end = begin[end]
    return batches[::-1]
