"""Audio encoders: any audio model of transformers becomes one vector per clip, and nothing else of it matters here."""

__all__ = ["AudioEncoder", "NonFiniteError"]


def __getattr__(name):  # torch and transformers take seconds to import: the registry beside them must not pay for it
    if name in __all__:
        from arch_hf.embedding import encoder

        return getattr(encoder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
