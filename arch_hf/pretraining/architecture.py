"""A recipe's architecture in the classes of transformers, and the arithmetic of its frames."""

from typing import Any

from transformers import HubertConfig, Wav2Vec2Config, Wav2Vec2FeatureExtractor

from arch_hf.pretraining.recipes import CONV_KERNEL, CONV_STRIDE, SAMPLING_RATE, Recipe

FRAME_SAMPLES, FRAME_HOP = 400, 320  # what a frame sees (25 ms), and by how much the next one moves (20 ms)


def _common(recipe: Recipe) -> dict[str, Any]:
    """What both architectures have."""
    return {
        "hidden_size": recipe.hidden_size,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "intermediate_size": recipe.intermediate_size,
        "hidden_dropout": recipe.dropout,
        "attention_dropout": recipe.dropout,
        "activation_dropout": 0.0,
        "feat_proj_dropout": recipe.feature_dropout,
        "layerdrop": recipe.layer_drop,
        "conv_dim": recipe.conv_dim,
        "conv_kernel": CONV_KERNEL,
        "conv_stride": CONV_STRIDE,
        "conv_bias": recipe.layer_norm,
        "feat_extract_norm": "layer" if recipe.layer_norm else "group",
        "do_stable_layer_norm": recipe.pre_norm,
        "num_conv_pos_embeddings": recipe.positional_kernel,
        "num_conv_pos_embedding_groups": recipe.positional_groups,
    }


def hubert_config(recipe: Recipe) -> HubertConfig:
    """The configuration of a HuBERT encoder."""
    return HubertConfig(**_common(recipe))


def wav2vec2_config(recipe: Recipe) -> Wav2Vec2Config:
    """The configuration of a wav2vec 2.0 encoder with its quantiser."""
    return Wav2Vec2Config(
        **_common(recipe),
        feat_quantizer_dropout=recipe.feature_dropout,
        num_codevector_groups=recipe.codebooks,
        num_codevectors_per_group=recipe.codewords,
        codevector_dim=recipe.code_dim,
        proj_codevector_dim=recipe.projection_dim,
        num_negatives=recipe.negatives,
        contrastive_logits_temperature=recipe.logit_temperature,
        diversity_loss_weight=recipe.diversity_weight,
    )


def feature_extractor(recipe: Recipe) -> Wav2Vec2FeatureExtractor:
    """The feature extractor that a recipe's checkpoint is saved with: it prepares audio as pretraining did."""
    return Wav2Vec2FeatureExtractor(
        sampling_rate=SAMPLING_RATE, do_normalize=recipe.normalise, return_attention_mask=recipe.layer_norm
    )


def frames_of(samples: int) -> int:
    """Frames that the convolutions make of so many samples.

    Examples:
        >>> frames_of(16_000), frames_of(400), frames_of(399)
        (49, 1, 0)
    """
    return max(0, (samples - FRAME_SAMPLES) // FRAME_HOP + 1)
