"""Pretraining: from a pile of audio to a checkpoint that `AutoModel.from_pretrained` loads.

Data flows one way: `sources` (where audio comes from) → `prepare_audio`, `shards` (audio that is read fast) → `clips` (where each clip lies) →
`batching`, `masking`, `loading` (which clips make which step, and which frames are masked) → `targets`, `kmeans`, `labels` and the two
objectives, `wav2vec2` and `hubert` (what is learnt) → `step` → `loop` (the story of a run, read this first). A run on disk: `runs`,
`checkpoints`, `records`, `recorder`, `export`, `card`. Beforehand: `recipes`, `options`, `estimate`.
"""
