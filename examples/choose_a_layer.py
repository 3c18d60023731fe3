"""A score for each layer, and the layer that the validation clips choose."""

import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from arch_hf import evaluate_model

torch.manual_seed(0)
config = HubertConfig(
    initializer_range=0.2,
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=128,
    conv_dim=[32] * 7,
)
HubertModel(config).save_pretrained("my-hubert")
Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained("my-hubert")

# One pass over the audio gives all layers. The test clips have no say in the choice.
results = evaluate_model("my-hubert", ["synthetic_speech"], protocol="strict", layers="all")
for result in results:
    print(result)
print(results[-1].layer_curve)
