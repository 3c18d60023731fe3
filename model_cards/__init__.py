"""`audioset.md`, the template of the released checkpoints' cards, with what is particular to each in `audioset.yaml`; and `template.md`, of
which `arch-hf publish card` makes the card of any other model."""
