"""Corpora: what they are, how raw archives become Parquet, and how they load."""

from arch_hf.data.registry import CORPUS_NAMES, SYNTHETIC_NAMES, get_corpus

__all__ = ["CORPUS_NAMES", "SYNTHETIC_NAMES", "CorpusData", "get_corpus", "load_corpus"]


def __getattr__(name):  # `datasets` takes seconds to import: only those who load clips pay for it
    if name in ("CorpusData", "load_corpus"):
        from arch_hf.data import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
