"""Our encoder and store in other benchmarks' own programs, so that their numbers are theirs to the letter.

    mteb    MTEB and its audio benchmark MAEB: its evaluator, our vectors from the store
    xares   X-ARES: an encoder class for its runner
    hear    HEAR 2021: a module with its API

No code of theirs is in here, and each is an optional extra: what needs one imports it when it runs.
"""

import importlib
from types import ModuleType

from arch_hf.errors import UserError


def library(name: str) -> ModuleType:
    """Another benchmark's package, or one of its modules.

    Raises:
        UserError: it is not installed; the message says how to install it.

    Examples:
        >>> library("json").__name__
        'json'
        >>> library("no_such_benchmark")
        Traceback (most recent call last):
        arch_hf.errors.UserError: no_such_benchmark is not installed: pip install "arch-hf[no_such_benchmark]"
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise UserError(f"{package} needs {error.name}, which is not installed: pip install {error.name}") from None
        raise UserError(f'{package} is not installed: pip install "arch-hf[{package}]"') from None
