"""Pretraining, for `accelerate launch pretrain.py …`; the work is in arch_hf/pretraining."""

import sys

from arch_hf.pretraining.command import main

if __name__ == "__main__":
    sys.exit(main())
