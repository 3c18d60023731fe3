"""From embeddings to scores: who trains and who tests, the probes, the metrics and their intervals."""
