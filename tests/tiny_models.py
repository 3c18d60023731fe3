"""Small random models of every family, saved to a folder with their feature extractor, as a checkpoint would be.

Kernels, strides and windows are those of the real checkpoints, so that frames fall where they do there; widths and
depths are tiny.
"""

from pathlib import Path

import torch
import transformers as hf
from transformers.utils import logging

_WIDTHS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
_POSITIONS = {"num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 2}
_CONV = {"conv_dim": [16] * 7, "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_kernel": [10, 3, 3, 3, 3, 2, 2]}
_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_SEW = {"conv_dim": [8] * 13, "squeeze_factor": 2}
_CLAP_AUDIO = {
    "patch_embeds_hidden_size": 8,
    "hidden_size": 64,
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 1, 2],
    "projection_dim": 16,
}
_CLAP_TEXT = {**_WIDTHS, "vocab_size": 50, "projection_dim": 16}
_WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "vocab_size": 60,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_SEAMLESS = {
    "vocab_size": 60,
    "t2u_vocab_size": 60,
    "char_vocab_size": 60,
    "hidden_size": 32,
    "encoder_layers": 1,
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_layers": 1,
    "decoder_ffn_dim": 16,
    "decoder_attention_heads": 2,
    "max_position_embeddings": 64,
    "speech_encoder_layers": 2,
    "speech_encoder_attention_heads": 2,
    "speech_encoder_intermediate_size": 48,
    "t2u_encoder_layers": 1,
    "t2u_encoder_ffn_dim": 16,
    "t2u_encoder_attention_heads": 2,
    "t2u_decoder_layers": 1,
    "t2u_decoder_ffn_dim": 16,
    "t2u_decoder_attention_heads": 2,
    "t2u_max_position_embeddings": 64,
    "t2u_variance_predictor_embed_dim": 32,
    "t2u_variance_predictor_hidden_dim": 8,
    "upsample_initial_channel": 32,
    "unit_hifi_gan_vocab_size": 60,
    "unit_embed_dim": 8,
    "lang_embed_dim": 8,
    "spkr_embed_dim": 8,
}
_ENCODEC = {"num_filters": 2, "hidden_size": 8, "codebook_size": 16, "num_lstm_layers": 1}
_ENCODEC_48K = {
    **_ENCODEC,
    "sampling_rate": 48000,
    "audio_channels": 2,
    "normalize": True,
    "chunk_length_s": 1.0,
    "overlap": 0.01,
    "norm_type": "time_group_norm",
    "use_causal_conv": False,
    "target_bandwidths": [3.0],
}
_MIMI = {**_WIDTHS, "num_key_value_heads": 2, "num_filters": 4, "codebook_size": 16, "num_quantizers": 2}
_MIMI |= {"codebook_dim": 8, "vector_quantization_hidden_dimension": 8, "upsample_groups": 32}


def _waveform(model: str, **settings):
    """Group-norm extractors go with no attention mask, layer-norm ones with one, as in the released checkpoints."""
    masked = settings.get("feat_extract_norm") == "layer" or model == "Data2VecAudio"
    extractor = hf.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=masked)
    return f"{model}Model", {**_WIDTHS, **_POSITIONS, **_CONV, **settings}, lambda: extractor


# Family: the model's class, its configuration, its feature extractor.
FAMILIES = {
    "wav2vec2": _waveform("Wav2Vec2"),
    "wav2vec2-large": _waveform("Wav2Vec2", **_LARGE),  # also XLS-R
    "wav2vec2-adapter": _waveform("Wav2Vec2", **_LARGE, add_adapter=True),
    "wav2vec2-conformer": _waveform("Wav2Vec2Conformer", feat_extract_norm="layer", conv_bias=True),
    "wav2vec2-conformer-rope": _waveform("Wav2Vec2Conformer", position_embeddings_type="rotary"),
    "hubert": _waveform("Hubert"),
    "hubert-large": _waveform("Hubert", **_LARGE),
    "wavlm": _waveform("WavLM"),
    "wavlm-large": _waveform("WavLM", **_LARGE),
    "data2vec-audio": _waveform("Data2VecAudio", num_conv_pos_embeddings=5),
    "unispeech": _waveform("UniSpeech"),
    "unispeech-sat": _waveform("UniSpeechSat"),
    "sew": ("SEWModel", {**_WIDTHS, **_POSITIONS, **_SEW}, hf.Wav2Vec2FeatureExtractor),
    "sew-d": ("SEWDModel", {**_WIDTHS, **_POSITIONS, **_SEW, "position_buckets": 8}, hf.Wav2Vec2FeatureExtractor),
    "ast": ("ASTModel", _WIDTHS, hf.ASTFeatureExtractor),
    "wav2vec2-bert": ("Wav2Vec2BertModel", _WIDTHS, hf.SeamlessM4TFeatureExtractor),
    "whisper": ("WhisperModel", _WHISPER, hf.WhisperFeatureExtractor),
    "clap": (
        "ClapModel",
        {"text_config": _CLAP_TEXT, "audio_config": _CLAP_AUDIO, "projection_dim": 16},
        lambda: hf.ClapFeatureExtractor(truncation="rand_trunc"),
    ),
    "clap-fused": (
        "ClapModel",
        {
            "text_config": _CLAP_TEXT,
            "audio_config": {**_CLAP_AUDIO, "enable_fusion": True, "fusion_type": "aff_2d"},
            "projection_dim": 16,
        },
        lambda: hf.ClapFeatureExtractor(truncation="fusion"),
    ),
    "seamless-m4t-v2": ("SeamlessM4Tv2Model", _SEAMLESS, hf.SeamlessM4TFeatureExtractor),
    "encodec": ("EncodecModel", _ENCODEC, lambda: hf.EncodecFeatureExtractor(sampling_rate=24000)),
    "encodec-48k": (
        "EncodecModel",
        _ENCODEC_48K,
        lambda: hf.EncodecFeatureExtractor(feature_size=2, sampling_rate=48000, chunk_length_s=1.0, overlap=0.01),
    ),
    "dac": (
        "DacModel",
        {"encoder_hidden_size": 4, "decoder_hidden_size": 16, "n_codebooks": 2, "codebook_size": 16},
        hf.DacFeatureExtractor,
    ),
    "mimi": ("MimiModel", _MIMI, lambda: hf.EncodecFeatureExtractor(sampling_rate=24000)),
}


def make_tiny(family: str, folder, seed: int = 0) -> Path:
    """Save a small random model of `family` (a key of FAMILIES) into `folder`; the same seed gives the same weights."""
    model_class, settings, extractor = FAMILIES[family]
    model_class = getattr(hf, model_class)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(model_class.config_class(**settings)).eval()
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    extractor().save_pretrained(folder)
    return Path(folder)
