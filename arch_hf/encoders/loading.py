"""A model id to an encoder in memory: the weights, the feature extractor, and the names under which both are known."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import AutoFeatureExtractor, AutoModel

from arch_hf.encoders.baselines import BASELINES, make_baseline
from arch_hf.errors import UserError


@dataclass
class Loaded:
    """What a model id turned out to be. `revision` is the commit of a model of the Hub, None for a folder."""

    model: nn.Module
    feature_extractor: object
    revision: str | None


def load(model_id: str, revision: str | None = None, trust_remote_code: bool = False) -> Loaded:
    if model_id in BASELINES:
        model, feature_extractor = make_baseline(model_id)
        return Loaded(model, feature_extractor, None)
    try:
        options = {"revision": revision, "trust_remote_code": trust_remote_code}
        feature_extractor = AutoFeatureExtractor.from_pretrained(model_id, **options)
        model = AutoModel.from_pretrained(model_id, dtype=torch.float32, **options).eval()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load {model_id}: {error}") from None
    commit = None if Path(model_id).is_dir() else getattr(model.config, "_commit_hash", None)
    return Loaded(model, feature_extractor, commit)


def parse_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    """
    Example:
        >>> parse_dtype("bfloat16"), parse_dtype(None)
        (torch.bfloat16, torch.float32)
    """
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    dtype = torch.float32 if dtype is None else names.get(dtype, dtype)
    if dtype not in names.values():
        raise UserError(f"dtype {dtype} is none of {', '.join(names)}")
    return dtype


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and float32 bytes of all weights and saved buffers, in the order of their names.

    Taken before any cast, so that the same checkpoint has the same hash at every dtype, as .bin or as .safetensors.

    Example:
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


def fold_weight_norm(model: nn.Module) -> None:
    """Replace every weight-norm parametrisation by the weight it computes: exact, and saves computing it each time."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
