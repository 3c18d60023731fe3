"""Where a number comes from: the versions, the machine and the command that made it."""

import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import arch_hf
from arch_hf.distributed import Ranks
from arch_hf.errors import redacted

LIBRARIES = ("torch", "transformers", "datasets")


def environment(ranks: Ranks, dtype: str) -> dict[str, Any]:
    """The `environment` block of a result."""
    return {
        "arch_hf": arch_hf.__version__,  # of a checkout that was never installed, too
        **{name: version(name) for name in LIBRARIES},
        "python": ".".join(map(str, sys.version_info[:3])),
        "device": ranks.device.type,
        "dtype": dtype,
        "n_processes": ranks.size,
        "command": redacted(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
    }
