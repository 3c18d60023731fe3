"""See `arch_hf.corpora`."""

from arch_hf.data.spec import Clip, Corpus, Source

__all__ = ["Clip", "Corpus", "Source"]
