"""Where a number comes from: the versions, the machine and the command that made it."""

import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from arch_hf.distributed import Ranks
from arch_hf.errors import redacted

LIBRARIES = ("arch_hf", "torch", "transformers", "datasets")


def environment(ranks: Ranks, dtype: str) -> dict[str, Any]:
    """The `environment` block of a result."""
    return {
        **{name: version(name.replace("_", "-")) for name in LIBRARIES},
        "python": ".".join(map(str, sys.version_info[:3])),
        "device": ranks.device.type,
        "dtype": dtype,
        "n_processes": ranks.size,
        "command": redacted(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
    }
