"""The baselines are known to AutoConfig, AutoModel and AutoFeatureExtractor as soon as transformers is there.

`import arch_hf` must cost nothing, and transformers takes seconds. So where it is not imported yet, a finder waits until
the module of AutoModel is, and registers then. (The module of AutoConfig would be too early: it is imported in the midst
of what the baselines are made of.)
"""

import importlib
import importlib.abc
import importlib.util
import sys

_AWAITED = "transformers.models.auto.modeling_auto"
_BASELINES = "arch_hf.embedding.baselines"


def register_with_transformers() -> None:
    if _AWAITED in sys.modules:
        importlib.import_module(_BASELINES)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != _AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        load = spec.loader.exec_module

        def load_and_register(module):
            load(module)
            importlib.import_module(_BASELINES)

        spec.loader.exec_module = load_and_register  # type: ignore[method-assign]
        return spec
