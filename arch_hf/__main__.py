"""`python -m arch_hf …` and `accelerate launch -m arch_hf …`: the `arch-hf` command."""

import sys

from arch_hf.cli import main

if __name__ == "__main__":
    sys.exit(main())
