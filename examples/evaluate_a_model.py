"""Evaluate a checkpoint of one's own, from a folder, under both protocols.

A small HuBERT with random weights stands for the model that you have trained.
"""

import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from arch_hf import evaluate_model

torch.manual_seed(0)
config = HubertConfig(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, conv_dim=[32] * 7
)
HubertModel(config).save_pretrained("my-hubert")
# How audio goes into the model is part of it: save the feature extractor that you trained with.
Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained("my-hubert")

for result in evaluate_model("my-hubert", ["synthetic_events"], protocol=["arch-v1", "strict"]):
    print(result)
    print(f"   without the encoder: {result.baselines}")
