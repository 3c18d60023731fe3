"""Many models on many machines: what a big evaluation costs, cut into cells that run anywhere, side by side.

cells (which) -> cost (how long, on which machine) -> scripts (for a shell, for SLURM, for Hugging Face Jobs) and jobs (sent to the Hub)
"""
