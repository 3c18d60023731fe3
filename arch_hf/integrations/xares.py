"""X-ARES's own runner (github.com/jimbozhang/xares) with our encoder, for any model id without a file per model:

    ARCH_HF_MODEL_ID=facebook/hubert-base-ls960 python -m xares.run arch_hf/integrations/xares.py src/tasks/*.py

X-ARES pads the clips of a batch with zeros and does not tell an encoder where they end; this one is told, so that a clip's frames are those
that it has alone. X-ARES stores what an encoder gives and averages it over time: behind a clip's own frames stands their mean, which
leaves their average as it is. The class of the encoder is named after a hash of all that its frames depend on, because X-ARES keeps its
files and scores under that name.
"""

import re
import sys
from typing import Any

import numpy as np
import torch

from arch_hf.embedding.key import digest_of
from arch_hf.integrations.module import EncoderModule, rows_of

PIECE_SECONDS = 30.0  # longer clips are taken in pieces of equal length, each no longer than this

# X-ARES's runner wants a module with one name that ends with "Encoder".


class FrozenEncoder(EncoderModule):
    """An encoder as X-ARES takes it: `FrozenEncoder("facebook/hubert-base-ls960")`.

    Attributes:
        sampling_rate: in Hz, of the audio.
        output_dim: of a frame.
        hop_size_in_ms: from frame to frame; 10,000 over the frames of 10 s for an encoder that makes one of a whole clip.

    Examples:
        >>> encoder = FrozenEncoder("logmel")
        >>> type(encoder).__name__.startswith("logmel_"), type(encoder).__name__.endswith("_Encoder")
        (True, True)
        >>> encoder(torch.zeros(2, 16000)).shape
        torch.Size([2, 1, 128])
    """

    def __init__(self, model_id: str | None = None, revision: str | None = None, **options):
        super().__init__(model_id, revision, **options)
        encoder = self.encoder
        self.sampling_rate = encoder.sampling_rate
        self.output_dim = encoder.embedding_size
        grid = encoder.timing and encoder.timing.final
        self.hop_size_in_ms = 1000 * grid.hop / encoder.sampling_rate if grid else 10_000.0
        name = re.sub(r"\W+", "_", encoder.model_id).strip("_")[-60:]
        self.__class__ = type(f"{name}_{digest_of(encoder.identity)[:12]}_Encoder", (type(self),), {})
        _watch_padding()

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Frames float32 [clips, frames, dim] of audio [clips, samples] (or [samples], one clip)."""
        rows = rows_of(torch.atleast_2d(audio))
        clips = [self._frames(row[:n]) for row, n in zip(rows, _lengths(rows), strict=True)]
        longest = max(map(len, clips))
        padded = [torch.cat([own, own.mean(0, keepdim=True).expand(longest - len(own), -1)]) for own in clips]
        return torch.stack(padded).to(audio.device)

    def _frames(self, waveform: np.ndarray) -> torch.Tensor:
        n_pieces = -(-len(waveform) // round(PIECE_SECONDS * self.sampling_rate))
        frames = self.encoder.frames(np.array_split(waveform, n_pieces))
        return torch.from_numpy(np.concatenate([piece.states for piece in frames]))


def _watch_padding() -> None:
    """Have X-ARES pad with -0.0, which is 0 to every encoder, and which no decoder gives: so it is known where a clip ends, also where it ends
    in silence, and whichever process has padded."""
    module: Any = sys.modules.get("xares.audiowebdataset")
    original = getattr(module, "pad", None)
    if original is None or _is_watched():
        return

    def pad(tensors, padding_value=0.0):
        return original(tensors, -0.0 if padding_value == 0 else padding_value)

    pad.watched = True  # type: ignore[attr-defined]
    module.pad = pad


def _is_watched() -> bool:
    return hasattr(getattr(sys.modules.get("xares.audiowebdataset"), "pad", None), "watched")


def _lengths(rows: np.ndarray) -> list[int]:
    """Samples of each clip of a batch [clips, samples] without its padding. Where X-ARES's own function did not pad it, a clip ends with its
    last sample that is not zero."""
    own = (rows != 0) | ~np.signbit(rows) if _is_watched() else rows != 0
    return [int(row.nonzero()[0][-1]) + 1 if row.any() else 1 for row in own]
