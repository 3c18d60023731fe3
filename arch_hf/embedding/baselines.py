"""Two encoders that need no download and learn nothing: the floor under every score.

Both are ordinary `PreTrainedModel`s with a feature extractor, registered with AutoConfig, AutoModel and
AutoFeatureExtractor, so that they are saved, loaded, published and evaluated like any other model. They return one
frame per clip, the statistics of the whole clip: the mean over frames that every encoder gets leaves it as it is.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
)
from transformers.modeling_outputs import BaseModelOutput

_FLOOR = 1e-10  # power below which a logarithm is cut off (-100 dB)


def mel_filters(n_fft: int, n_mels: int, sampling_rate: int) -> torch.Tensor:
    """Triangular mel filters on Slaney's scale, each of unit area: float32 [n_fft // 2 + 1, n_mels].

    Slaney's scale is linear up to 1 kHz (200/3 Hz a mel) and logarithmic above (27 mels for a factor of 6.4), see
    Slaney, "Auditory Toolbox", Interval Research 1998-010; the default of librosa.

    Examples:
        >>> mel_filters(512, 40, 16000).shape
        torch.Size([257, 40])
    """
    step = math.log(6.4) / 27
    top_hz = sampling_rate / 2
    top = 15 + math.log(top_hz / 1000) / step if top_hz > 1000 else top_hz * 3 / 200
    mels = torch.linspace(0, top, n_mels + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp(step * (mels - 15)))
    bins = torch.linspace(0, top_hz, n_fft // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * 2 / (edges[2:] - edges[:-2])).float()


def cosine_basis(n_mels: int, n_coefficients: int) -> torch.Tensor:
    """Orthonormal DCT-II without its 0th row: float32 [n_mels, n_coefficients].

    Examples:
        >>> basis = cosine_basis(40, 12)
        >>> torch.allclose(basis.T @ basis, torch.eye(12), atol=1e-6)
        True
    """
    n = torch.arange(n_mels, dtype=torch.float64)[:, None] + 0.5
    k = torch.arange(1, n_coefficients + 1, dtype=torch.float64)
    return (torch.cos(math.pi / n_mels * n * k) * math.sqrt(2 / n_mels)).float()


class LogMelConfig(PreTrainedConfig):
    """Configuration of `LogMelModel`: frames of 25 ms every 10 ms at 16 kHz (in samples), 64 mel filters."""

    model_type = "arch_logmel"

    def __init__(self, n_fft=400, hop_length=160, n_mels=64, sampling_rate=16000, **kwargs):
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.sampling_rate = sampling_rate
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        return 2 * self.n_mels


class MfccConfig(PreTrainedConfig):
    """Configuration of `MfccModel`: librosa's default frames (2048 samples every 512) and 128 filters, at 44.1 kHz."""

    model_type = "arch_mfcc"

    def __init__(self, n_fft=2048, hop_length=512, n_mels=128, sampling_rate=44100, n_coefficients=12, **kwargs):
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.sampling_rate = sampling_rate
        self.n_coefficients = n_coefficients
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        return 2 * (self.n_coefficients + 1)


class _SpectralModel(PreTrainedModel):
    """Frames of a clip to the mean and standard deviation of each of their features."""

    main_input_name = "input_values"
    input_modalities = "audio"
    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, config):
        super().__init__(config)
        # Saved with the model: what a checkpoint computes is in the checkpoint.
        self.register_buffer("window", torch.hann_window(config.n_fft))
        self.register_buffer("filters", mel_filters(config.n_fft, config.n_mels, config.sampling_rate))

    @property
    def dtype(self) -> torch.dtype:  # PreTrainedModel asks the first parameter, and there is none
        return self.window.dtype

    def _init_weights(self, module: nn.Module) -> None:
        pass

    def mel_power(self, input_values: torch.Tensor) -> torch.Tensor:
        """Waveforms [batch, samples] to mel power [batch, frames, n_mels]; frames are centred, edges padded with zeros."""
        spectrum = torch.stft(
            input_values.float(),
            self.config.n_fft,
            self.config.hop_length,
            window=self.window.float(),
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.abs().square().transpose(1, 2) @ self.filters.float()

    def features(self, input_values: torch.Tensor) -> list[torch.Tensor]:
        """Waveforms [batch, samples] to features over time, [batch, frames, number] each, not all of the same frames."""
        raise NotImplementedError

    def forward(self, input_values: torch.Tensor, output_hidden_states: bool = False, **_: Any) -> BaseModelOutput:
        """Waveforms float [batch, samples] to `last_hidden_state` float [batch, 1, hidden_size]: means, then deviations."""
        features = self.features(input_values)
        means, deviations = [f.mean(1) for f in features], [f.std(1, correction=0) for f in features]
        summary = torch.cat([*means, *deviations], dim=1)[:, None].to(self.dtype)
        return BaseModelOutput(summary, hidden_states=(summary,) if output_hidden_states else None)


class LogMelModel(_SpectralModel):
    """Mean and standard deviation over time of the log-mel spectrogram, in nepers of power.

    Examples:
        >>> model = LogMelModel(LogMelConfig())
        >>> model(torch.zeros(2, 16000)).last_hidden_state.shape
        torch.Size([2, 1, 128])
    """

    config_class = LogMelConfig

    def __init__(self, config):
        super().__init__(config)
        self.post_init()

    def features(self, input_values: torch.Tensor) -> list[torch.Tensor]:
        return [self.mel_power(input_values).clamp(min=_FLOOR).log()]


class MfccModel(_SpectralModel):
    """Mean and standard deviation of 12 MFCCs (without the 0th) and the zero-crossing rate: 26 values a clip.

    The features of the baseline of the ESC-50 paper (Piczak, "ESC: Dataset for Environmental Sound Classification",
    ACM MM 2015), whose linear SVM reached 39.6% on ESC-50.

    Examples:
        >>> model = MfccModel(MfccConfig())
        >>> model(torch.zeros(2, 44100)).last_hidden_state.shape
        torch.Size([2, 1, 26])
    """

    config_class = MfccConfig
    cosines: torch.Tensor

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("cosines", cosine_basis(config.n_mels, config.n_coefficients))
        self.post_init()

    def features(self, input_values: torch.Tensor) -> list[torch.Tensor]:
        decibels = 10 * self.mel_power(input_values).clamp(min=_FLOOR).log10()
        # librosa's power_to_db cuts off 80 dB below the clip's loudest bin
        decibels = decibels.maximum(decibels.amax((1, 2), keepdim=True) - 80)
        return [decibels @ self.cosines.float(), zero_crossing_rates(input_values, self.config.hop_length)]


def zero_crossing_rates(input_values: torch.Tensor, frame: int) -> torch.Tensor:
    """Share of neighbouring samples in a frame between which the sign changes: float32 [batch, frames, 1] of waveforms [batch, samples].

    As the program of the ESC-50 paper counts: frames lie side by side, the last one as short as it is; from zero or to zero is half a change; what
    happens between two frames belongs to neither. (librosa's `zero_crossing_rate` has overlapping frames, centred and padded.)

    Examples:
        >>> zero_crossing_rates(torch.tensor([[1.0, -1.0, 1.0, 1.0, -1.0, 0.0]]), frame=4)
        tensor([[[0.6667],
                 [0.5000]]])
    """
    samples = input_values.shape[1]
    changes = 0.5 * input_values.float().sign().diff(dim=1).abs()
    n_frames = max(1, -(-(samples - 1) // frame))  # a last frame of a single sample has no neighbours
    changes = (
        nn.functional.pad(changes, (0, n_frames * frame - changes.shape[1]))
        if samples > 1
        else changes.new_zeros(len(changes), frame)
    )
    inside = changes[:, : n_frames * frame].view(-1, n_frames, frame)[..., : frame - 1]
    counted = torch.full((n_frames,), frame - 1.0, device=changes.device)
    counted[-1] = max(1, min(frame, samples - (n_frames - 1) * frame) - 1)
    return (inside.sum(2) / counted)[..., None]


BASELINES: dict[str, Any] = {"logmel": LogMelModel, "mfcc": MfccModel}


def make_baseline(name: str) -> tuple[PreTrainedModel, Wav2Vec2FeatureExtractor]:
    """A built-in encoder and its feature extractor, which hands waveforms on as they are and zero-pads at the end.

    Examples:
        >>> model, feature_extractor = make_baseline("logmel")
        >>> feature_extractor.sampling_rate
        16000
    """
    model = BASELINES[name]
    config = model.config_class()
    extractor = Wav2Vec2FeatureExtractor(
        sampling_rate=config.sampling_rate, do_normalize=False, return_attention_mask=False
    )
    return model(config).eval(), extractor


for _model in BASELINES.values():
    AutoConfig.register(_model.config_class.model_type, _model.config_class)
    AutoModel.register(_model.config_class, _model)
    AutoFeatureExtractor.register(_model.config_class, Wav2Vec2FeatureExtractor)
