"""Clips of any lengths in one batch, each with the hidden states that it has alone.

Two things in a waveform encoder see past the end of a clip although the attention is masked: the group norm of the
first convolution, whose statistics run over time, and convolutions over time that pad the sequence themselves. Here both
know where each clip ends.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from arch_hf.compat.transformers_internals import frames_of_samples
from arch_hf.embedding.families import AudioTower
from arch_hf.embedding.fast.convolutions import ClipEnds, WaveformConvolutions
from arch_hf.embedding.fast.fourier import FourierConvolution
from arch_hf.embedding.inputs import Segment

# The families in which a padded clip under an attention mask has the hidden states it has alone, once the group norm of
# the extractor and the convolutions over time know where the clip ends. The tests hold each to 1e-4.
# All others are batched with clips of the same length only: SEW pools frames in pairs, SeamlessM4T's and wav2vec2's
# adapters stride over the end, codecs reflect at it.
MASK_EXACT = (
    "wav2vec2",
    "hubert",
    "wavlm",
    "data2vec-audio",
    "unispeech",
    "unispeech-sat",
    "wav2vec2-conformer",
    "wav2vec2-bert",
)


class MixedLengths:
    """Runs batches through an audio tower whose convolutions it has replaced by faster ones; see `batching.EqualLengths` for the plain way.

    `mixed` says whether a batch may hold clips of several lengths: if nothing in the encoder depends on the padding.
    """

    def __init__(self, tower: AudioTower, device: torch.device, dtype: torch.dtype):
        fold_weight_norm(tower.encoder)
        self.tower = tower.to(device, dtype)
        self.device, self.dtype = device, dtype
        self.ends = ClipEnds()
        config: Any = tower.config
        self.mixed = config.model_type in MASK_EXACT and not getattr(config, "add_adapter", False)
        self._replace_convolutions()

    def _replace_convolutions(self) -> None:
        for parent in list(self.tower.modules()):
            for name, module in parent.named_children():
                if isinstance(module, nn.Conv1d) and module.padding != (0,):
                    if FourierConvolution.takes(module):
                        module = FourierConvolution(module)
                        setattr(parent, name, module)
                    module.register_forward_pre_hook(self.ends.silence_padding)
        extractor: Any = getattr(self.tower.encoder, "feature_extractor", None)
        if WaveformConvolutions.takes(extractor):
            self.tower.encoder.feature_extractor = WaveformConvolutions(extractor, self.ends)
        elif extractor is not None:  # of another make than its family's: it does not know where clips end
            self.mixed = False

    def compile(self) -> None:
        """Through torch.compile, but for the modules put in here: what they compute on depends on where the clips of a batch end."""
        for module in self.tower.modules():
            if isinstance(module, (WaveformConvolutions, FourierConvolution)):
                module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
        self.tower.encoder.compile(dynamic=True)

    def run(self, segments: Sequence[Segment], all_layers: bool) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """One batch through the encoder: hidden states [segments, frames, dim], and how many frames are each segment's own, int64 [segments]
        on the CPU, or None where all are."""
        values, lengths = [s.values for s in segments], torch.tensor([len(s.values) for s in segments])
        try:
            if (lengths == lengths[0]).all():
                self.ends.constant_from = max(segment.constant_from for segment in segments)
                return self.tower(torch.stack(values).to(self.device, self.dtype), all_layers), None
            batch = nn.utils.rnn.pad_sequence(values, batch_first=True).to(self.device, self.dtype)
            mask = (torch.arange(batch.shape[1]) < lengths[:, None]).long()
            frames = lengths
            if batch.ndim == 2:  # waveforms; a spectrogram's frames are the encoder's
                self.ends.samples = lengths.to(self.device)
                frames = frames_of_samples(self.tower.encoder, lengths)
            self.ends.frames = frames.to(self.device)
            return self.tower(batch, all_layers, attention_mask=mask.to(self.device)), frames
        finally:
            self.ends.samples = self.ends.frames = self.ends.constant_from = None


def fold_weight_norm(model: nn.Module) -> None:
    """Replace every weight-norm parametrisation by the weight it computes, which saves computing it each time.

    In double precision: in single precision the last bits of a norm depend on the number of threads that sum it up.
    """
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            dtype = next(module.parameters()).dtype
            module.double()
            parametrize.remove_parametrizations(module, "weight")
            module.to(dtype)
