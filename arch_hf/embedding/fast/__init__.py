"""What is only there for speed: the plain path gives the same embeddings without it (see `arch_hf.embedding`)."""
