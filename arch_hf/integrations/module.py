"""An encoder as a PyTorch module, the form in which other benchmarks take a model."""

import os

import numpy as np
import torch

from arch_hf import embedding
from arch_hf.errors import UserError

MODEL_ID = "ARCH_HF_MODEL_ID"  # environment variable: which model a benchmark's own command runs
REVISION = "ARCH_HF_REVISION"


class EncoderModule(torch.nn.Module):
    """Holds an `AudioEncoder`; frozen, and moved by `to` as modules are.

    Args:
        model_id: Hub id, folder, or a built-in baseline; None for what the environment variable ARCH_HF_MODEL_ID names.
        revision: commit, branch or tag of a Hub model; None for ARCH_HF_REVISION, if it is set.
        **options: the other arguments of `AudioEncoder.from_pretrained`.

    Raises:
        UserError: no model is named, or it cannot be loaded.

    Examples:
        >>> EncoderModule("logmel").encoder.embedding_size
        128
    """

    def __init__(self, model_id: str | None = None, revision: str | None = None, **options):
        super().__init__()
        model_id = model_id or os.environ.get(MODEL_ID)
        if not model_id:
            raise UserError(f"no model is named: give its id, or set {MODEL_ID}=facebook/hubert-base-ls960")
        self._asked = model_id, revision or os.environ.get(REVISION) or None
        self._options = {"device": "cuda" if torch.cuda.is_available() else "cpu"} | options
        self.encoder = self._load()

    def _load(self):
        return embedding.AudioEncoder.from_pretrained(*self._asked, **self._options)

    def to(self, *args, **kwargs) -> "EncoderModule":
        """Move to a device; other arguments (a dtype) are not taken: the encoder computes as it was loaded."""
        device = _device(kwargs.get("device", args[0] if args else None))
        if device is not None and device.type != self.encoder.device.type:
            self._options["device"] = device
            self.encoder = self._load()
        return self


def rows_of(audio: torch.Tensor) -> np.ndarray:
    """A batch of sounds [sounds, samples] as a float32 array.

    Raises:
        ValueError: it has not two dimensions.
        UserError: there is no sound in it, or its sounds have no samples.

    Examples:
        >>> rows_of(torch.zeros(2, 0))
        Traceback (most recent call last):
        arch_hf.errors.UserError: sounds 0 to 1 have no samples (the batch is of shape [2, 0]): leave out empty clips
    """
    if audio.ndim != 2:
        raise ValueError(f"audio is [sounds, samples], not of {audio.ndim} dimensions")
    n_sounds, n_samples = audio.shape
    if not (n_sounds and n_samples):
        which = f"sounds 0 to {n_sounds - 1} have" if n_sounds > 1 else "sound 0 has"
        what = f"{which} no samples" if n_sounds else "there is no sound"
        raise UserError(f"{what} (the batch is of shape [{n_sounds}, {n_samples}]): leave out empty clips")
    return audio.detach().float().cpu().numpy()


def _device(value: object) -> torch.device | None:
    """The device that one of the forms of `torch.nn.Module.to` names; None where it names a dtype."""
    if isinstance(value, torch.Tensor):
        return value.device
    return torch.device(value) if isinstance(value, (str, int, torch.device)) else None
