"""The HEAR 2021 API (hearbenchmark.com) for any audio encoder: for HEAR's evaluation kit and whatever else speaks it.

    hear-validator arch_hf.integrations.hear -m facebook/hubert-base-ls960

The scene embedding of a sound is what `AudioEncoder.embed` gives, the timestamp embeddings are `AudioEncoder.frames`. HEAR's own programs
(hearvalidator, heareval) ask for Python 3.8 and older; this module needs nothing of theirs.
"""

import numpy as np
import torch

from arch_hf.errors import UserError
from arch_hf.integrations.module import EncoderModule, rows_of

RATES = (16000, 22050, 32000, 44100, 48000)  # that HEAR's audio comes at


class HearModel(EncoderModule):
    """What `load_model` returns.

    Attributes:
        sample_rate: in Hz, of the audio.
        scene_embedding_size, timestamp_embedding_size: of the vectors.
    """

    def __init__(self, model_id: str | None = None, **options):
        super().__init__(model_id, **options)
        self.sample_rate = self.encoder.sampling_rate
        self.scene_embedding_size = self.timestamp_embedding_size = self.encoder.embedding_size
        if self.sample_rate not in RATES:
            raise UserError(
                f"{self.encoder.model_id} takes audio at {self.sample_rate} Hz, which HEAR does not give: "
                f"{', '.join(map(str, RATES))}"
            )


def load_model(model_file_path: str = "", **options) -> HearModel:
    """The model of this Hub id, folder or baseline; where none is given, that of the environment variable ARCH_HF_MODEL_ID.

    Examples:
        >>> model = load_model("logmel")
        >>> model.sample_rate, model.scene_embedding_size
        (16000, 128)
    """
    return HearModel(model_file_path or None, **options)


def get_timestamp_embeddings(audio: torch.Tensor, model: HearModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings over time, and the middle of what each hears.

    Args:
        audio: float [sounds, samples] in [-1, 1], at the model's rate.
        model: of `load_model`.

    Returns:
        float32 [sounds, frames, dim] and the times in milliseconds, float32 [sounds, frames].

    Raises:
        UserError: there is no sound, or one has no samples.

    Examples:
        >>> embeddings, times = get_timestamp_embeddings(torch.zeros(2, 16000), load_model("logmel"))
        >>> embeddings.shape, times.tolist()
        (torch.Size([2, 1, 128]), [[500.0], [500.0]])
    """
    clips = model.encoder.frames(rows_of(audio))
    states = torch.from_numpy(np.stack([frames.states for frames in clips]))
    times = torch.from_numpy(np.stack([frames.times for frames in clips]).astype(np.float32) * 1000)
    return states.to(audio.device), times.to(audio.device)


def get_scene_embeddings(audio: torch.Tensor, model: HearModel) -> torch.Tensor:
    """One embedding a sound: float32 [sounds, dim].

    Examples:
        >>> get_scene_embeddings(torch.zeros(2, 16000), load_model("logmel")).shape
        torch.Size([2, 128])
    """
    return torch.from_numpy(model.encoder.embed(rows_of(audio))).to(audio.device)
