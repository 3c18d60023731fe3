"""Small random models of every family, saved to a folder with their feature extractor, as a checkpoint would be."""

from pathlib import Path

import torch
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)
from transformers.utils import logging

_TRANSFORMER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
# The real kernels and strides (receptive field 400 samples, hop 320), with few channels.
_CONV = {"conv_dim": [16] * 7, "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_kernel": [10, 3, 3, 3, 3, 2, 2]}
_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def _waveform(model_class, config_class, **settings):
    """Group-norm extractors go with no attention mask, layer-norm ones with one, as in the released checkpoints."""
    masked = settings.get("feat_extract_norm") == "layer" or config_class is Data2VecAudioConfig
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=masked)
    return lambda: (model_class(config_class(**_TRANSFORMER, **_CONV, **settings)), extractor)


BUILDERS = {
    "wav2vec2": _waveform(Wav2Vec2Model, Wav2Vec2Config),
    "wav2vec2-large": _waveform(Wav2Vec2Model, Wav2Vec2Config, **_LARGE),
    "hubert": _waveform(HubertModel, HubertConfig),
    "hubert-large": _waveform(HubertModel, HubertConfig, **_LARGE),
    "wavlm": _waveform(WavLMModel, WavLMConfig),
    "wavlm-large": _waveform(WavLMModel, WavLMConfig, **_LARGE),
    "data2vec-audio": _waveform(Data2VecAudioModel, Data2VecAudioConfig),
}


def make_tiny(family: str, folder, seed: int = 0) -> Path:
    """Save a small random model of `family` (a key of BUILDERS) into `folder`; the same seed gives the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, extractor = BUILDERS[family]()
    logging.disable_progress_bar()
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    return Path(folder)
