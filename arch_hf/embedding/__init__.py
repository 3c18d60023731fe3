"""Audio encoders: any audio model of transformers becomes one vector per clip, and nothing else of it matters here."""

import importlib
from typing import Any

_HOMES = {
    "AudioEncoder": "encoder",
    "Encoder": "interface",
    "Frames": "pooling",
    "NonFiniteError": "encoder",
    "as_encoder": "interface",
}
__all__ = ["AudioEncoder", "Encoder", "Frames", "NonFiniteError", "as_encoder"]


def __getattr__(
    name: str,
) -> Any:  # torch and transformers take seconds to import: the registry beside them must not pay for it
    if name in _HOMES:
        return getattr(importlib.import_module(f"arch_hf.embedding.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
