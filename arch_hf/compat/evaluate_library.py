"""Finds the evaluate library, although the main job's script `evaluate.py` may stand before it on sys.path."""

import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType


def find_evaluate() -> ModuleType:
    """The evaluate library, imported. The script is a module, the library a package: that tells them apart.

    Python puts a script's folder first on sys.path, so `import evaluate` in anything that `python evaluate.py`, torchrun or
    `python -m pytest` starts would find the script. If the script was imported under that name already, the name goes to the library.

    Raises:
        ModuleNotFoundError: the library is not installed.

    Examples:
        >>> find_evaluate().Metric.__name__
        'Metric'
    """
    loaded = sys.modules.get("evaluate")
    if loaded is not None and hasattr(loaded, "__path__"):
        return loaded
    for folder in sys.path:
        spec = PathFinder.find_spec("evaluate", [folder])
        if spec is not None and spec.submodule_search_locations and spec.loader is not None:
            library = importlib.util.module_from_spec(spec)
            sys.modules["evaluate"] = library
            try:
                spec.loader.exec_module(library)
            except BaseException:
                del sys.modules["evaluate"]
                if loaded is not None:
                    sys.modules["evaluate"] = loaded
                raise
            return library
    raise ModuleNotFoundError("the evaluate library is not installed: pip install evaluate", name="evaluate")
