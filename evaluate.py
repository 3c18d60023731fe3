"""The main job, for `accelerate launch evaluate.py --model_id ...`; the same as `arch-hf evaluate ...`."""

import sys
from pathlib import Path

# Python puts this script's folder first on sys.path, where this very file would stand in for the `evaluate` library. At the end of
# the path the library comes first, and the package is found even where it was not installed.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE] + [str(_HERE)]

if __name__ == "__main__":
    from arch_hf.cli import main

    sys.exit(main(["evaluate", *sys.argv[1:]]))
