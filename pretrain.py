"""Pretraining, for `accelerate launch pretrain.py --objective ...`; the same as `arch-hf pretrain ...`."""

import sys
from pathlib import Path

# As in evaluate.py: this folder goes to the end of the path, where evaluate.py does not stand in for the `evaluate` library.
_HERE = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _HERE] + [str(_HERE)]

if __name__ == "__main__":
    from arch_hf.cli import main

    sys.exit(main(["pretrain", *sys.argv[1:]]))
