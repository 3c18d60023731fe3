"""HuBERT's targets: the cluster of each frame, of its MFCC in the first iteration, of a model's layer in later ones.

Labels are computed for each crop as it is trained on, on the training device, or once for all clips (see `labels`). Clips of one batch
have equal length, so no padding enters.
"""

import hashlib
import math
import os
from functools import cache

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoFeatureExtractor, AutoModel
from transformers.audio_utils import mel_filter_bank, window_function

from arch_hf.errors import UserError
from arch_hf.pretraining.architecture import FRAME_HOP, frames_of
from arch_hf.pretraining.recipes import SAMPLING_RATE

MFCC_WINDOW, MFCC_HOP, FFT = 400, 160, 512  # 25 ms and 10 ms at 16 kHz
MEL_BANDS, COEFFICIENTS, LIFTER = 23, 13, 22


@cache
def _mfcc_tables() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    window = window_function(MFCC_WINDOW, "povey", periodic=False)
    mel = mel_filter_bank(
        FFT // 2 + 1,
        MEL_BANDS,
        20.0,
        SAMPLING_RATE / 2,
        SAMPLING_RATE,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    band, coefficient = np.arange(MEL_BANDS), np.arange(COEFFICIENTS)[:, None]
    cosines = np.sqrt(2 / MEL_BANDS) * np.cos(np.pi / MEL_BANDS * (band + 0.5) * coefficient)
    cosines[0] /= math.sqrt(2)
    cosines *= 1 + LIFTER / 2 * np.sin(np.pi * coefficient / LIFTER)
    tables = [torch.from_numpy(np.asarray(table, dtype=np.float32)) for table in (window, mel, cosines.T)]
    return tables[0], tables[1], tables[2]


def mfcc(waveforms: torch.Tensor) -> torch.Tensor:
    """39 values per 10 ms: 13 MFCC, their slopes, and the slopes' slopes. [clips, samples] at 16 kHz → [clips, frames, 39].

    Kaldi's definition, which HuBERT used through torchaudio (25 ms povey windows without padding, pre-emphasis 0.97, 23 mel bands,
    lifter 22, no energy); slopes over two frames to either side.

    Examples:
        >>> mfcc(torch.zeros(1, 16000)).shape
        torch.Size([1, 98, 39])
    """
    window, mel, cosines = (table.to(waveforms.device) for table in _mfcc_tables())
    frames = waveforms.float().unfold(-1, MFCC_WINDOW, MFCC_HOP)
    frames = frames - frames.mean(dim=-1, keepdim=True)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    power = torch.fft.rfft((frames - 0.97 * previous) * window, n=FFT).abs().square()
    cepstra = (power @ mel).clamp(min=torch.finfo(torch.float32).eps).log() @ cosines
    slopes = _slopes(cepstra)
    return torch.cat([cepstra, slopes, _slopes(slopes)], dim=-1)


def _slopes(values: torch.Tensor) -> torch.Tensor:
    index = torch.arange(values.shape[1], device=values.device)
    near = [values[:, (index + shift).clamp(0, len(index) - 1)] for shift in (-2, -1, 1, 2)]
    return (2 * (near[3] - near[0]) + near[2] - near[1]) / 10


class MfccFrames:
    """The first iteration's frames: MFCC. k-means sees all of them; a label is wanted for every second one (20 ms)."""

    step = FRAME_HOP // MFCC_HOP
    description = "39 MFCC values"
    fingerprint = "mfcc"

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        return mfcc(waveforms)


class LayerFrames:
    """A later iteration's frames: the output of Transformer block `layer` (from 1) of an earlier model; 0 is the first block's input."""

    step = 1

    def __init__(self, checkpoint: str, layer: int, device: torch.device | str = "cpu"):
        try:
            model = AutoModel.from_pretrained(checkpoint)
            self.normalise = AutoFeatureExtractor.from_pretrained(checkpoint).do_normalize
        except (OSError, ValueError, SafetensorError) as error:
            raise UserError(
                f"--targets_from {checkpoint}: no checkpoint could be read there ({str(error).splitlines()[0]})"
            ) from None
        depth = getattr(model.config, "num_hidden_layers", 0)
        hop = math.prod(getattr(model.config, "conv_stride", [0]))
        if hop != FRAME_HOP or not hasattr(model, "encoder"):
            raise UserError(
                f"--targets_from {checkpoint}: a wav2vec 2.0 or HuBERT model with a frame every 20 ms is needed"
            )
        if not 0 <= layer <= depth:
            raise UserError(f"--layer {layer}: {checkpoint} has layers 0 to {depth}")
        model.encoder.layers = model.encoder.layers[: max(layer, 1)]  # the blocks above are never needed
        self.layer = layer
        self.model = model.to(device).eval().requires_grad_(False)
        self.description = f"layer {layer} of {os.path.basename(checkpoint.rstrip('/'))}"
        self.fingerprint = _fingerprint(model)

    @torch.no_grad()
    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        if self.normalise:
            waveforms = normalise(waveforms)
        return self.model(waveforms, output_hidden_states=True).hidden_states[self.layer].float()


def _fingerprint(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def normalise(waveforms: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance per clip, as `Wav2Vec2FeatureExtractor` does. [clips, samples]."""
    mean = waveforms.mean(dim=-1, keepdim=True)
    return (waveforms - mean) / torch.sqrt(waveforms.var(dim=-1, unbiased=False, keepdim=True) + 1e-7)


class ClusterTargets:
    """Labels for crops: the nearest of the `centroids` [clusters, dim] to each frame."""

    def __init__(self, frames: MfccFrames | LayerFrames, centroids: torch.Tensor):
        self.frames = frames
        self.centroids = centroids

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Waveforms [clips, samples] → int64 [clips, frames], one label per 20 ms frame of the model."""
        frames = self.frames(waveforms)[:, :: self.frames.step][:, : frames_of(waveforms.shape[-1])]
        self.centroids = centroids = self.centroids.to(frames.device)
        # argmin ‖x − c‖² = argmin ‖c‖² − 2 x·c
        return (centroids.square().sum(dim=-1) - 2 * frames @ centroids.T).argmin(dim=-1)
