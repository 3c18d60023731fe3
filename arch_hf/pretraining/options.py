"""What the command line says of a run; `arch_hf.pretraining.command` tells what each flag means."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from arch_hf.errors import UserError
from arch_hf.pretraining.recipes import Recipe, get_recipe

# The numbers of a recipe that steer the optimisation: they may change when a run goes on. All others define the model and the data.
STEERING = (
    "learning_rate", "warmup_fraction", "max_steps", "max_gradient_norm", "weight_decay", "beta1", "beta2", "adam_epsilon",
)  # fmt: skip


TWO_WAYS = {"max_steps": "max_steps", "target_layer": "layer"}  # a recipe's numbers that have a flag of their own


@dataclass(frozen=True)
class Settings:
    """What a run keeps from one start to the next unless it is told otherwise, and what it is at first."""

    save_every: int = 1000
    keep_checkpoints: int = 2
    log_every: int = 10
    export_every: int | None = None
    valid: list[str] | None = None
    valid_every: int = 1000
    probe: list[str] | None = None
    targets_from: str | None = None
    gradient_checkpointing: bool = False
    # These are part of what defines a run.
    seed: int = 0
    cache_targets: bool = False


DEFINING = ("seed", "cache_targets")


@dataclass
class Options:
    """None: as it was before in a run that goes on, else the default."""

    objective: str
    size: str
    audio: list[str]
    output_dir: Path
    max_steps: int | None = None
    resume: bool = False
    targets_from: str | None = None
    layer: int | None = None
    cache_targets: bool | None = None
    segments: list[str] | None = None
    audio_config: str | None = None
    audio_split: str | None = None
    seed: int | None = None
    overrides: tuple[str, ...] = ()
    workers: int | None = None
    save_every: int | None = None
    keep_checkpoints: int | None = None
    log_every: int | None = None
    export_every: int | None = None
    valid: list[str] | None = None
    valid_every: int | None = None
    probe: list[str] | None = None
    log_with: tuple[str, ...] = ()
    gradient_checkpointing: bool | None = None

    def check(self) -> None:
        """Raise UserError for numbers that make no sense, and flags that do not go together."""
        least = {"workers": 0, "save_every": 1, "keep_checkpoints": 1, "log_every": 1, "layer": 1, "seed": 0}
        least |= {"max_steps": 1, "valid_every": 1, "export_every": 1}
        for name, smallest in least.items():
            if getattr(self, name) is not None and getattr(self, name) < smallest:
                raise UserError(f"--{name} {getattr(self, name)}: must be {smallest} or more")
        if self.seed is not None and self.seed >= 1 << 32:
            raise UserError(f"--seed {self.seed}: must be below {1 << 32}")
        if self.objective != "hubert":
            for name in ("targets_from", "layer", "cache_targets"):
                if getattr(self, name):
                    raise UserError(f"--{name} goes with --objective hubert: wav2vec2 has no targets")

    def settings(self, before: dict | None = None) -> Settings:
        """What these options and, where they leave it open, the run `before` say."""
        names = [field.name for field in dataclasses.fields(Settings)]
        told = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return Settings(**{**{name: before[name] for name in names if before and name in before}, **told})


def recipe_of(options: Options) -> Recipe:
    """The recipe by its name, with what the options change of it."""
    if options.layer is not None and not options.targets_from:
        raise UserError("--layer goes with --targets_from: the model whose layer is clustered")
    recipe = get_recipe(options.objective, options.size, overrides_of(options), bool(options.targets_from))
    if options.objective == "hubert" and bool(recipe.target_layer) != bool(options.targets_from):
        raise UserError(
            f"--set target_layer={recipe.target_layer}: give --targets_from CHECKPOINT --layer N, or none of both"
        )
    return recipe


def overrides_of(options: Options) -> tuple[str, ...]:
    """What the options change of a recipe, each as "name=value"."""
    flags = {name: getattr(options, flag) for name, flag in TWO_WAYS.items()}
    return (*options.overrides, *(f"{name}={value}" for name, value in flags.items() if value is not None))


def advice(recipe: Recipe) -> list[str]:
    """What a person who knows the papers would ask about these targets."""
    if recipe.objective != "hubert" or recipe.size == "tiny":
        return []
    usual = 9 if recipe.size == "large" else 6
    if recipe.size == "large" and not recipe.target_layer:
        return [
            "HuBERT large was made from 500 clusters of layer 9 of a second-iteration base model; without --targets_from it learns "
            f"{recipe.clusters} clusters of MFCC, which the paper did for the first iteration of base only"
        ]
    if recipe.target_layer and recipe.target_layer != usual:
        return [f"the paper clusters layer {usual} for HuBERT {recipe.size}, not layer {recipe.target_layer} (--layer)"]
    return []
