"""Putting things on the Hub: results, data sets, checkpoints, cards, the leaderboard, metrics. All of it through huggingface_hub, which
reads HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE itself."""
