"""Pretraining: from a pile of audio to a checkpoint that `AutoModel.from_pretrained` loads.

Data flows one way: `sources` (where clips lie) → `batching` (which clips make which step) → `masking` (what is hidden) → `targets`
and the two objectives, `wav2vec2` and `hubert` (what is learnt) → `loop` (the training loop, read this first) → `checkpoints`, `card`.
"""
