"""Cards of the released checkpoints, one NAME.md per repository, and `template.md`, of which `arch-hf publish card` makes the card of any
other model."""
