"""The weights of an encoder: whether a checkpoint holds all of them and no others, and their hash."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from arch_hf.embedding.checkpoint import Checkpoint
from arch_hf.embedding.families import audio_tower
from arch_hf.errors import UserError

# A parameter of every waveform encoder that only pretraining uses; many checkpoints come without it.
_HARMLESS = ("masked_spec_embed",)


def check_depth(checkpoint: Checkpoint) -> None:
    """Refuse a configuration with more layers than the checkpoint has weights, before a model of them is built, which may take for ever."""
    names = checkpoint.tensor_names()
    if names is None:
        return
    for name, value in _numbers(checkpoint.config()):
        if "layers" in name and value > len(names):
            raise UserError(
                f"{checkpoint.model_id}: config.json says {name} = {value:,}, but there are {len(names)} weights in all: it "
                "belongs to another checkpoint"
            )


def _numbers(settings: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, (int, float)):
            yield str(name), int(value) if abs(value) < 1e18 else 10**18


def check_complete(checkpoint: Checkpoint, model: nn.Module, report: Mapping[str, Any]) -> None:
    """Refuse an encoder with weights that the checkpoint lacks, or the other way round.

    Args:
        checkpoint: where the weights come from.
        model: as transformers has loaded it.
        report: what transformers says of missing, unexpected and mismatched weights.

    Raises:
        UserError: some of the encoder's would be random, or have no place in it.
    """
    model_id = checkpoint.model_id
    tower, prefix = audio_tower(model)
    other = sorted(str(entry[0]) for entry in report["mismatched_keys"])
    if other:
        raise UserError(f"{model_id} holds weights of another shape than config.json says: {_some(other)}")
    missing = sorted(key for key in report["missing_keys"] if key.startswith(prefix) and not key.endswith(_HARMLESS))
    if missing:
        raise UserError(
            f"{model_id} lacks weights of the encoder, which would be random: {_some(missing)}; the checkpoint is "
            "incomplete, or config.json belongs to another"
        )
    inside = tuple(f"{prefix}{name}." for name, _ in tower.named_children())
    unexpected = sorted(
        key
        for key in _of_the_model(checkpoint, model, report["unexpected_keys"])
        if key.startswith(inside) and not key.endswith(_HARMLESS)
    )
    if unexpected:
        raise UserError(
            f"{model_id} holds weights for which the encoder has no place: {_some(unexpected)}; config.json belongs to "
            "another checkpoint"
        )


def _of_the_model(checkpoint: Checkpoint, model: Any, keys: Iterator[str]) -> list[str]:
    """Of some names of weights those of the model, named as it names them. In a checkpoint with a head for another task these have
    its prefix ("wav2vec2."), and what has none is of the head, whose layers may be called as the model's are."""
    start = f"{model.base_model_prefix}."
    if any(name.startswith(start) for name in checkpoint.tensor_names() or ()):
        return [key.removeprefix(start) for key in keys if key.startswith(start)]
    return list(keys)


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and float32 bytes of all weights and saved buffers, in the order of their names.

    Taken before any cast, so that the same checkpoint has the same hash at every dtype, as .bin or as .safetensors.

    Examples:
        >>> a, b = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> _ = b.load_state_dict(a.state_dict())
        >>> hash_weights(a) == hash_weights(b)
        True
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _some(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
