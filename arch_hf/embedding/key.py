"""What an embedding depends on besides the audio: the name under which it is stored."""

import hashlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from arch_hf.audio import DECODER

# Settings that say how a checkpoint was saved or what a head of it is called; no hidden state depends on one. All others count.
WITHOUT_EFFECT = frozenset(
    {"_name_or_path", "architectures", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version"}
)


@dataclass(frozen=True)
class EmbedSettings:
    """How clips are embedded: `padding`, `max_seconds` and `layers` as in `AudioEncoder.embed`, and the cache folder.

    Example:
        >>> from types import SimpleNamespace
        >>> key = EmbedSettings(Path("cache"), "none", 30.0, "last").key(SimpleNamespace(identity={"weights_sha256": "ab"}))
        >>> sorted(key)
        ['decoder', 'layers', 'max_seconds', 'padding', 'weights_sha256']
    """

    cache: Path
    padding: Literal["none", "max_length"]
    max_seconds: float
    layers: Literal["last", "all"]

    def key(self, encoder) -> dict[str, Any]:
        """Everything besides the audio that an embedding depends on, as plain JSON values: of the encoder its `identity`."""
        how = {"padding": self.padding, "max_seconds": self.max_seconds, "layers": self.layers}
        return {**encoder.identity, "decoder": DECODER, **how}


def settings_of(config) -> dict[str, Any]:
    """All settings of a configuration or feature extractor that can have an effect, nested ones too, as plain JSON values.

    Example:
        >>> from types import SimpleNamespace
        >>> settings_of(SimpleNamespace(to_dict=lambda: {"hop": 2, "architectures": ["A"], "sub": {"dtype": "float32", "n": 1}}))
        {'hop': 2, 'sub': {'n': 1}}
    """
    return _plain(config.to_dict())


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in sorted(value.items(), key=str) if key not in WITHOUT_EFFECT}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def digest_of(settings: dict[str, Any]) -> str:
    """SHA-256 of settings, whatever their order.

    Example:
        >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def code_of(model) -> str | None:
    """SHA-256 over the source of a model's own code: of every Python file beside the one that defines it. None for a class of transformers or
    of this package, whose version the result states."""
    if type(model).__module__.startswith(("transformers.", "arch_hf.")):
        return None
    digest = hashlib.sha256()
    for path in sorted(Path(inspect.getfile(type(model))).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()
