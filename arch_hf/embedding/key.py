"""What an embedding depends on besides the audio: the name under which it is stored."""

import hashlib
import inspect
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from arch_hf.audio import DECODER

# Settings that say how a checkpoint was saved, where it lies or what the classes of a head are called. No hidden state of a class of transformers
# depends on one; a model's own code may look at all but the first two. Every other setting counts.
WITHOUT_EFFECT = frozenset({"_name_or_path", "transformers_version"})
WITHOUT_EFFECT_ON_TRANSFORMERS = WITHOUT_EFFECT | {"architectures", "dtype", "id2label", "label2id", "torch_dtype"}
# Variables that make products of float32 less exact.
_LESS_EXACT = ("NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")


@dataclass(frozen=True)
class EmbedSettings:
    """How clips are embedded: `padding`, `max_seconds` and `layers` as in `AudioEncoder.embed`, and the cache folder.

    Examples:
        >>> from types import SimpleNamespace
        >>> key = EmbedSettings(Path("cache"), "none", 30.0, "last").key(SimpleNamespace(identity={"weights_sha256": "ab"}))
        >>> sorted(key)
        ['decoder', 'layers', 'max_seconds', 'padding', 'weights_sha256']
    """

    cache: Path
    padding: Literal["none", "max_length"]
    max_seconds: float
    layers: Literal["last", "all"]

    @property
    def padded_seconds(self) -> float | None:
        """The length to which clips are padded, None where they are not."""
        return self.max_seconds if self.padding == "max_length" else None

    def key(self, encoder: Any) -> dict[str, Any]:
        """Everything besides the audio that what is stored depends on, as plain JSON values."""
        return {**self.key_of_vector(encoder), "layers": self.layers}

    def key_of_vector(self, encoder: Any) -> dict[str, Any]:
        """Everything besides the audio that the vector of one layer depends on: of the encoder its `identity`. Whether the other layers are
        stored beside it does not matter."""
        return {**encoder.identity, "decoder": DECODER, "padding": self.padding, "max_seconds": self.max_seconds}


def settings_of(config: Any, own_code: bool = False) -> dict[str, Any]:
    """All settings of a configuration or feature extractor that can have an effect, nested ones too, as plain JSON values; `own_code` if the model
    brings code of its own.

    Examples:
        >>> from types import SimpleNamespace
        >>> settings_of(SimpleNamespace(to_dict=lambda: {"hop": 2, "architectures": ["A"], "sub": {"dtype": "float32", "n": {3, 1}}}))
        {'hop': 2, 'sub': {'n': [1, 3]}}
    """
    return _plain(config.to_dict(), WITHOUT_EFFECT if own_code else WITHOUT_EFFECT_ON_TRANSFORMERS)


def _plain(value: Any, left_out: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part, left_out) for key, part in sorted(value.items(), key=str) if key not in left_out}
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(part, left_out) for part in value), key=str)
    if isinstance(value, (list, tuple)):
        return [_plain(part, left_out) for part in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), left_out)
    if hasattr(value, "to_dict"):
        return _plain(value.to_dict(), left_out)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def digest_of(settings: dict[str, Any]) -> str:
    """SHA-256 of settings, whatever their order.

    Examples:
        >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def code_of(*parts: object) -> str | None:
    """SHA-256 over the source of a model's own code: of every Python file beside those that define the classes of its parts. None where all
    are classes of transformers or of this package, whose versions the result states."""
    files: set[Path] = set()
    for kind in map(type, parts):
        if not kind.__module__.startswith(("transformers.", "arch_hf.")):
            path = Path(inspect.getfile(kind))
            # transformers copies what a model needs of its own code into a folder; of anybody's package only the module is looked at
            copied = kind.__module__.startswith("transformers_modules.")
            files |= set(path.parent.rglob("*.py")) if copied else {path}
    digest = hashlib.sha256()
    for content in sorted({path.name.encode() + b"\n" + path.read_bytes() for path in files}):
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest() if files else None


def float32_products() -> str:
    """How exactly float32 is multiplied: "highest", unless the process or its environment asks for less.

    Examples:
        >>> float32_products()
        'highest'
    """
    asked = [f"{name}={os.environ[name]}" for name in _LESS_EXACT if os.environ.get(name, "0") not in ("", "0")]
    return " ".join([torch.get_float32_matmul_precision(), *asked])


def facts_of(encoder: Any) -> dict[str, Any]:
    """The facts of the `model` block of a result, of any encoder that the pipeline takes; None where one does not have such a thing."""
    return {
        "id": encoder.model_id,
        "revision": encoder.revision,
        "weights_sha256": encoder.weights_sha256,
        "config_sha256": digest_of(encoder.config),
        "code_sha256": encoder.code_sha256,
        "class": encoder.model_class,
        "n_parameters": encoder.n_parameters,
        "sampling_rate": encoder.sampling_rate,
        "embedding_size": encoder.embedding_size,
        "n_layers": encoder.n_layers,
    }
