"""AudioEncoder: any audio model of transformers as a function from clips to vectors."""

import numpy as np
import torch

from arch_hf.encoders.loading import load
from arch_hf.errors import UserError

# Part of the name under which embeddings are cached: raise it when the same weights and settings give other vectors.
POOLING_VERSION = "mean-1"

# Seconds of audio that go through the model at once. A CPU gains nothing from large batches and loses its caches.
_BATCH_SECONDS = {"cpu": 20, "cuda": 480}


class NonFiniteError(UserError):
    """The model gave NaN or infinity for clip number `index` of those handed to `embed`, first in `layer`."""

    def __init__(self, message: str, index: int, layer: int):
        super().__init__(message)
        self.index = index
        self.layer = layer


class AudioEncoder:
    """A frozen audio encoder: clips in, one vector per clip out.

    Example:
        >>> encoder = AudioEncoder.from_pretrained("logmel")
        >>> encoder.embed([np.zeros(16000, np.float32), np.zeros(400, np.float32)]).shape
        (2, 128)
    """

    def __init__(
        self, model, feature_extractor, model_id, revision=None, weights_sha256=None, dtype=None, device="cpu"
    ):
        self.model_id = str(model_id)
        self.revision = revision
        self.weights_sha256 = weights_sha256
        self.feature_extractor = feature_extractor
        self.dtype = dtype or torch.float32
        self.device = torch.device(device)
        self.model_class = type(model).__name__
        self.n_parameters = sum(p.numel() for p in model.parameters())
        self.sampling_rate = int(feature_extractor.sampling_rate)
        self._model = model.eval().requires_grad_(False).to(self.device, self.dtype)
        states = self._hidden_states(self._prepare(np.zeros(self.sampling_rate, np.float32), "none", None))
        self.n_layers = len(states)
        self.embedding_size = states[-1].shape[-1]

    @classmethod
    def from_pretrained(cls, model_id, revision=None, dtype=None, *, device="cpu", trust_remote_code=False):
        """Load a model by its Hub id or from a folder, or the built-in "logmel" or "mfcc".

        `dtype`: None (float32), a torch.dtype or its name.
        """
        if isinstance(dtype, str):
            dtype = getattr(torch, dtype)
        loaded = load(str(model_id), revision, trust_remote_code)
        return cls(
            loaded.model,
            loaded.feature_extractor,
            model_id,
            loaded.revision,
            loaded.weights_sha256,
            dtype,
            device,
        )

    @property
    def preprocessing(self) -> str:
        """All but the weights that an embedding depends on, as one stable line."""
        settings = {k: v for k, v in sorted(self.feature_extractor.to_dict().items()) if k != "processor_class"}
        return f"{settings} pooling={POOLING_VERSION}"

    def describe(self) -> dict:
        """The `model` block of a result."""
        return {
            "id": self.model_id,
            "revision": self.revision,
            "weights_sha256": self.weights_sha256,
            "class": self.model_class,
            "n_parameters": self.n_parameters,
            "sampling_rate": self.sampling_rate,
            "embedding_size": self.embedding_size,
        }

    def embed(self, waveforms, padding="none", max_seconds=None, layers="last") -> np.ndarray:
        """Waveforms, a list of float32 [samples] at `sampling_rate`, to float32 [clips, dim] or [clips, layers, dim].

        `padding="max_length"` cuts each clip to `max_seconds` and zero-pads it to that, without an attention mask;
        `padding="none"` leaves it as long as it is. `layers="all"` gives every hidden state, the last one last.
        """
        if padding == "max_length" and max_seconds is None:
            raise ValueError('padding="max_length" needs max_seconds')
        inputs = [self._prepare(waveform, padding, max_seconds) for waveform in waveforms]
        out = np.empty((len(inputs), self.n_layers, self.embedding_size), np.float32)
        for batch in self._batches(inputs):
            states = self._hidden_states(torch.cat([inputs[i] for i in batch]))
            pooled = torch.stack([state.float().mean(1) for state in states], dim=1)
            out[batch] = pooled.cpu().numpy()
        for index, layer in np.argwhere(~np.isfinite(out).all(-1))[:1]:
            raise NonFiniteError(
                f"clip {index}: layer {layer} of {self.model_id} is not finite in {self.dtype}", int(index), int(layer)
            )
        return out if layers == "all" else out[:, -1]

    def _prepare(self, waveform, padding, max_seconds) -> torch.Tensor:
        options = {}
        if padding == "max_length":
            length = round(max_seconds * self.sampling_rate)
            waveform = waveform[:length]
            options = {"padding": "max_length", "max_length": length}
        # A list: handed a 2-D array, feature extractors take the batch for one clip.
        features = self.feature_extractor(
            [np.asarray(waveform, np.float32)], sampling_rate=self.sampling_rate, return_tensors="pt", **options
        )
        return features[self._model.main_input_name]

    def _batches(self, inputs) -> list[list[int]]:
        by_length: dict[tuple, list[int]] = {}
        for i, tensor in enumerate(inputs):
            by_length.setdefault(tuple(tensor.shape), []).append(i)
        batches = []
        for shape, indices in by_length.items():
            seconds = shape[-1] / self.sampling_rate
            size = max(1, int(_BATCH_SECONDS.get(self.device.type, 480) / seconds))
            batches += [indices[i : i + size] for i in range(0, len(indices), size)]
        return batches

    @torch.inference_mode()
    def _hidden_states(self, values: torch.Tensor) -> list[torch.Tensor]:
        output = self._model(values.to(self.device, self.dtype), output_hidden_states=True)
        return [*output.hidden_states[:-1], output.last_hidden_state]
