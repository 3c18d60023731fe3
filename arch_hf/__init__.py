"""arch-hf: how much does a frozen audio encoder know?

Names are imported on first use, so that `import arch_hf` costs nothing.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version

from arch_hf.compat.auto_classes import register_with_transformers

_HOMES = {
    "AudioEncoder": "arch_hf.embedding",
    "Clip": "arch_hf.data.spec",
    "Corpus": "arch_hf.data.spec",
    "Result": "arch_hf.results.result",
    "evaluate_model": "arch_hf.evaluate",
    "load_corpus": "arch_hf.data",
}
__all__ = ["AudioEncoder", "Clip", "Corpus", "Result", "__version__", "evaluate_model", "load_corpus"]

try:
    __version__ = version("arch-hf")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'arch_hf' has no attribute '{name}'")


register_with_transformers()  # AutoModel knows the built-in baselines, whenever transformers is imported
