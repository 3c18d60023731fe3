"""The recipes as data: every number of an architecture and its training, with its source.

A recipe fixes the *mathematics* of a step: `micro_batches` micro-batches of `micro_batch_seconds` each, the published number of
GPUs and what each one held. How many processes share them does not change the result: 64 micro-batches are one each on 64 GPUs,
eight each on 8, and 64 in turn on one.
"""

import dataclasses
import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from arch_hf.errors import UserError

SAMPLING_RATE = 16_000  # Hz, of every recipe
CONV_KERNEL = (10, 3, 3, 3, 3, 2, 2)  # of every recipe: a frame sees 400 samples (25 ms) and moves by 320 (20 ms)
CONV_STRIDE = (5, 2, 2, 2, 2, 2, 2)

_W2V2 = "Baevski et al. 2020 (arXiv 2006.11477), section 4.2, and fairseq's {}"
_HUBERT = "Hsu et al. 2021 (arXiv 2106.07447), section IV, and fairseq's {}"


@dataclass(frozen=True)
class Recipe:
    """One row of the table below. Durations in seconds, probabilities and fractions in [0, 1]."""

    objective: str  # "wav2vec2" or "hubert"
    size: str  # "tiny", "base" or "large"
    source: str

    # Architecture
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    intermediate_size: int = 3072
    conv_dim: tuple[int, ...] = (512,) * 7
    positional_kernel: int = 128
    positional_groups: int = 16
    layer_norm: bool = False  # in every convolution; False: one group norm after the first
    pre_norm: bool = False  # normalise before each block's parts rather than after
    normalise: bool = False  # waveforms to zero mean and unit variance

    # Regularisation
    dropout: float = 0.1  # hidden states and attention
    feature_dropout: float = 0.1  # into the Transformer, and into wav2vec 2.0's quantiser
    layer_drop: float = 0.05
    feature_gradient_scale: float = 0.1  # slows the convolutions' learning
    feature_penalty: float = 10.0  # weight of the mean square of the convolutions' output

    # Masking
    mask_start: float = 0.065  # share of frames that start a span; spans may overlap
    mask_length: int = 10  # frames
    trim_masks: bool = True  # every clip of a micro-batch keeps as many masked frames as the one that has fewest

    # wav2vec 2.0
    codebooks: int = 2
    codewords: int = 320  # per codebook
    code_dim: int = 256  # of the codebooks together
    negatives: int = 100
    diversity_weight: float = 0.1
    gumbel_start: float = 2.0
    gumbel_end: float = 0.5
    gumbel_decay: float = 0.999995  # per step

    # HuBERT
    target_layer: int = 0  # whose output is clustered; 0: MFCC, the first iteration
    clusters: int = 100
    kmeans_share: float = 1.0  # of the audio that is heard for the clustering
    kmeans_frames: int = 4_000_000  # drawn evenly from what is heard, to be clustered
    kmeans_starts: int = 20

    # Both
    projection_dim: int = 256
    logit_temperature: float = 0.1

    # Data
    crop_seconds: float = 15.625  # 250,000 samples
    min_seconds: float = 2.0
    micro_batch_seconds: float = 87.5  # 1,400,000 samples
    micro_batch_clips: int = 0  # at most so many clips in it; 0: as many as fit
    micro_batches: int = 64  # per step, over all processes

    # Optimisation: AdamW, rate rising linearly, then falling linearly to 0
    max_steps: int = 400_000
    learning_rate: float = 5e-4
    warmup_fraction: float = 0.08
    beta1: float = 0.9
    beta2: float = 0.98
    adam_epsilon: float = 1e-6
    weight_decay: float = 0.01
    max_gradient_norm: float = 0.0  # 0: no clipping


_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "layers": 24,
    "heads": 16,
    "intermediate_size": 4096,
    "layer_norm": True,
    "pre_norm": True,
    "normalise": True,
    "dropout": 0.0,
    "feature_dropout": 0.0,
    "layer_drop": 0.0,
    "feature_gradient_scale": 1.0,
    "projection_dim": 768,
}
# Ours, to learn something from an hour of audio on a laptop's CPU within minutes. No published counterpart.
_TINY: dict[str, Any] = {
    "hidden_size": 64,
    "layers": 2,
    "heads": 4,
    "intermediate_size": 256,
    "conv_dim": (8, 16, 32, 64, 64, 64, 64),
    "positional_kernel": 32,
    "positional_groups": 4,
    "layer_norm": True,
    "pre_norm": True,
    "normalise": True,
    "dropout": 0.0,
    "feature_dropout": 0.0,
    "layer_drop": 0.0,
    "feature_gradient_scale": 1.0,
    "feature_penalty": 0.0,
    "mask_length": 5,
    "trim_masks": False,
    "codewords": 32,
    "code_dim": 64,
    "negatives": 20,
    "gumbel_decay": 0.999,
    "clusters": 50,
    "kmeans_frames": 100_000,
    "projection_dim": 32,
    "crop_seconds": 2.0,
    "min_seconds": 0.2,
    "micro_batch_seconds": 8.0,
    "micro_batches": 2,
    "max_steps": 500,
    "learning_rate": 3e-3,
    "max_gradient_norm": 10.0,
}

RECIPES: dict[tuple[str, str], Recipe] = {
    (recipe.objective, recipe.size): recipe
    for recipe in (
        Recipe("wav2vec2", "tiny", "this project's own", **{**_TINY, "mask_start": 0.1}),
        Recipe("wav2vec2", "base", _W2V2.format("wav2vec2_base_librispeech.yaml")),
        # The LV-60k model.
        Recipe(
            "wav2vec2",
            "large",
            _W2V2.format("wav2vec2_large_librivox.yaml"),
            **_LARGE,
            feature_penalty=0.0,
            code_dim=768,
            gumbel_end=0.1,
            crop_seconds=20.0,
            micro_batch_seconds=75.0,
            micro_batch_clips=4,
            micro_batches=128,
            max_steps=1_000_000,
            learning_rate=3e-4,
            warmup_fraction=0.032,
        ),
        Recipe("hubert", "tiny", "this project's own", **{**_TINY, "mask_start": 0.12}),
        Recipe(
            "hubert",
            "base",
            _HUBERT.format("hubert_base_librispeech.yaml"),
            mask_start=0.08,
            micro_batches=32,
            max_steps=250_000,
            max_gradient_norm=10.0,
        ),
        Recipe(
            "hubert",
            "large",
            _HUBERT.format("hubert_large_librivox.yaml"),
            **_LARGE,
            mask_start=0.08,
            micro_batch_seconds=56.25,
            micro_batches=128,
            learning_rate=1.5e-3,
            max_gradient_norm=1.0,
        ),
    )
}


# HuBERT's later iterations: the targets are clusters of a layer of an earlier model (section IV-B; 10 % of the audio is clustered).
_OF_A_LAYER = {"clusters": 500, "kmeans_share": 0.1, "kmeans_frames": 1_000_000, "max_steps": 400_000}
LATER_ITERATIONS: dict[str, dict] = {
    "tiny": {"target_layer": 2},
    "base": {"target_layer": 6, **_OF_A_LAYER},
    "large": {"target_layer": 9, **_OF_A_LAYER},  # of the second iteration's base model
}


class Difference(NamedTuple):
    """A number on which the sources of a recipe do not agree: what stands above and why, what others say and where."""

    objective: str
    size: str
    number: str
    here: str
    other: str


_FIRST_COMMAND = "the command that came with the paper (fairseq commit 621e8341)"
DIFFERENCES = (
    Difference(
        "wav2vec2", "base", "trim_masks", "true, as the released code does: 45 to 46 % of the frames are masked",
        "the paper's 49 % (section 4.2) are those before the code trims",
    ),
    Difference(
        "wav2vec2", "large", "trim_masks", "true, as the released code does", "the paper's 49 % are those before the code trims"
    ),
    Difference("hubert", "base", "trim_masks", "true, as the released code does", "the paper's p = 8 % (56.6 % masked) is before"),
    Difference("hubert", "large", "trim_masks", "true, as the released code does", "the paper's p = 8 % (56.6 % masked) is before"),
    Difference(
        "wav2vec2", "large", "micro_batch_clips", "4, the released configuration's batch_size",
        "the paper: 1.2 M samples a GPU, however many clips (set 0)",
    ),
    Difference(
        "wav2vec2", "large", "learning_rate", f"3e-4, the paper's and that of {_FIRST_COMMAND}",
        "5e-3 in the released configuration since November 2020",
    ),
    Difference("wav2vec2", "large", "max_steps", "1,000,000, the released configuration's", f"600,000 in {_FIRST_COMMAND}"),
    Difference(
        "wav2vec2", "large", "feature_gradient_scale", "1, the released configuration's", f"0.03 in {_FIRST_COMMAND}"
    ),
    Difference("wav2vec2", "large", "feature_dropout", "0, the released configuration's", f"0.1 in {_FIRST_COMMAND}"),
    Difference(
        "hubert", "base", "max_steps", "250,000 for the first iteration, the paper's; 400,000 for later ones",
        "400,000 in the released configuration, which is that of the second iteration",
    ),
)  # fmt: skip


def differences(recipe: Recipe) -> list[Difference]:
    """What the sources of a recipe do not agree on.

    Examples:
        >>> [difference.number for difference in differences(get_recipe("hubert", "base"))]
        ['trim_masks', 'max_steps']
    """
    return [d for d in DIFFERENCES if (d.objective, d.size) == (recipe.objective, recipe.size)]


def get_recipe(
    objective: str, size: str, overrides: list[str] | tuple[str, ...] = (), later_iteration: bool = False
) -> Recipe:
    """The recipe of that name, or that of HuBERT's later iterations, with `overrides` like "learning_rate=3e-4" applied.

    Raises:
        UserError: if an override names no number of the recipe, or its value does not read as one.

    Examples:
        >>> get_recipe("hubert", "base", ["micro_batches=8"]).micro_batches
        8
        >>> get_recipe("hubert", "base", later_iteration=True).clusters
        500
    """
    return override(_published(objective, size, later_iteration), overrides)


def _published(objective: str, size: str, later_iteration: bool) -> Recipe:
    recipe = RECIPES[objective, size]
    later = LATER_ITERATIONS[size] if later_iteration and objective == "hubert" else {}
    return dataclasses.replace(recipe, **later)


def override(recipe: Recipe, overrides: list[str] | tuple[str, ...]) -> Recipe:
    """A recipe with numbers changed, each as "name=value".

    Raises:
        UserError: if one names no number of a recipe, or its value does not read as one.
    """
    fixed = ("objective", "size", "source")
    fields = {field.name: field for field in dataclasses.fields(Recipe) if field.name not in fixed}
    changes = {}
    for text in overrides:
        name, _, value = text.partition("=")
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            raise UserError(
                f"--set {text}: no number called {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
        changes[name] = _parse(text, value, getattr(recipe, name))
    recipe = dataclasses.replace(recipe, **changes)
    _check(recipe)
    return dataclasses.replace(recipe, source=_source(recipe, fields))


def _source(recipe: Recipe, names: Iterable[str]) -> str:
    """Where a recipe's numbers come from, and each that is another than there."""
    published = _published(recipe.objective, recipe.size, bool(recipe.target_layer))
    changed = [f"{name} {getattr(recipe, name)}" for name in names if getattr(recipe, name) != getattr(published, name)]
    return published.source + (f", changed: {', '.join(changed)}" if changed else "")


def _parse(text: str, value: str, like):
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(like, tuple):
            return tuple(int(part) for part in value.split(","))
        return type(like)(value)
    except (KeyError, ValueError):
        raise UserError(f"--set {text}: expected a value like {like}") from None


_MAY_BE_0 = (
    "feature_gradient_scale", "feature_penalty", "mask_start", "diversity_weight", "target_layer", "min_seconds",
    "micro_batch_clips", "warmup_fraction", "adam_epsilon", "weight_decay", "max_gradient_norm",
)  # fmt: skip
_AT_MOST_1 = ("mask_start", "kmeans_share", "warmup_fraction", "gumbel_decay")
_BELOW_1 = ("dropout", "feature_dropout", "layer_drop", "beta1", "beta2")  # and may be 0
_MOST_SECONDS = 86_400.0  # of a crop or a micro-batch: a day


def _check(recipe: Recipe) -> None:
    for field in dataclasses.fields(recipe):
        name, value = field.name, getattr(recipe, field.name)
        if isinstance(value, bool | str):
            continue
        problem = _beyond(name, value)
        if problem:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise UserError(f"--set {name}={shown}: must be {problem}")
    if len(recipe.conv_dim) != len(CONV_KERNEL):
        raise UserError(f"--set conv_dim: {len(CONV_KERNEL)} widths are needed, {len(recipe.conv_dim)} were given")
    if recipe.hidden_size % recipe.heads:
        raise UserError(f"hidden_size {recipe.hidden_size} does not divide into {recipe.heads} heads")
    if recipe.hidden_size % recipe.positional_groups:
        raise UserError(
            f"hidden_size {recipe.hidden_size} does not divide into {recipe.positional_groups} positional_groups"
        )
    if recipe.code_dim % recipe.codebooks:
        raise UserError(f"code_dim {recipe.code_dim} does not divide into {recipe.codebooks} codebooks")
    if recipe.crop_seconds < recipe.min_seconds:
        raise UserError(f"crop_seconds {recipe.crop_seconds} is below min_seconds {recipe.min_seconds}")


def _beyond(name: str, value) -> str | None:
    """What a number must be and is not, or None."""
    if isinstance(value, tuple):
        return None if all(part > 0 for part in value) else "above 0 each"
    if not math.isfinite(value):
        return "finite"
    if name in _BELOW_1:
        return None if 0 <= value < 1 else "0 or more and below 1"
    if name in _MAY_BE_0 and value < 0:
        return "0 or more"
    if name not in _MAY_BE_0 and value <= 0:
        return "above 0"
    if name in _AT_MOST_1 and value > 1:
        return "at most 1"
    if name.endswith("_seconds") and value > _MOST_SECONDS:
        return f"at most {_MOST_SECONDS:g}"
    return None
