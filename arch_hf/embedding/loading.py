"""A model id to a model in memory: found, recognised before it is downloaded, and complete.

Whatever can be wrong with a checkpoint is one `UserError` that says what was looked for and what to do.
"""

import contextlib
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import logging

from arch_hf.embedding.baselines import BASELINES, make_baseline
from arch_hf.embedding.families import AUDIO_INPUTS, audio_tower
from arch_hf.errors import UserError, one_line

PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
# A parameter of every waveform encoder that only pretraining uses; many checkpoints come without it.
_HARMLESS = ("masked_spec_embed",)
_RATES = (1000, 384_000)  # Hz: below lies no audio, above no recording


@dataclass
class Loaded:
    """What a model id turned out to be. `revision` is the commit of a model of the Hub, None for a folder."""

    model: nn.Module
    feature_extractor: object
    revision: str | None = None


def load(model_id: str, revision: str | None = None, trust_remote_code: bool = False) -> Loaded:
    """Load a model in float32 with its feature extractor; see `AudioEncoder.from_pretrained`.

    Raises:
        UserError: see above.
    """
    if model_id in BASELINES:
        return Loaded(*make_baseline(model_id))
    folder, commit, online = _locate(model_id, revision)
    own_code = bool(_read_json(folder / "config.json", model_id).get("auto_map"))
    if own_code and trust_remote_code:
        print(f"{model_id}: running the model's own code, as --trust_remote_code asks", file=sys.stderr)
    options = {"revision": commit, "trust_remote_code": trust_remote_code, "local_files_only": not online}
    with _quiet():
        config = _load_config(model_id, own_code, options)
        feature_extractor = _load_feature_extractor(model_id, folder, options)
        model = _load_model(model_id, config, options)
    _note_pickle(model_id, folder)
    _check_rate(model_id, feature_extractor, config)
    return Loaded(model.eval(), feature_extractor, commit)


def _locate(model_id: str, revision: str | None) -> tuple[Path, str | None, bool]:
    """The folder in which config.json lies (the user's, or of the Hub's cache), the commit, and whether the Hub answers."""
    path = Path(model_id)
    if path.is_dir():
        if revision is not None:
            raise UserError(f"--revision {revision} is of a model on the Hub, but {model_id} is a folder: leave it out")
        if not (path / "config.json").is_file():
            raise UserError(f"{model_id} has no config.json: it is not a folder that save_pretrained wrote")
        return path, None, False
    online = True
    try:
        HfApi().model_info(model_id, revision=revision)  # asks once, where a download tries for half a minute
    except GatedRepoError:
        raise _gated(model_id) from None
    except RevisionNotFoundError:
        raise UserError(f"{model_id} has no revision {revision}") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"unknown model {model_id}: no folder of that name, and none on the Hub (a private one needs `hf auth login` "
            "or HF_TOKEN)"
        ) from None
    except HFValidationError:
        raise UserError(f"no folder {model_id}, nor is that the id of a model on the Hub (NAMESPACE/NAME)") from None
    except HfHubHTTPError as error:
        raise UserError(f"the Hub does not give {model_id}: {one_line(error)}") from None
    except Exception:  # no connection, in whatever words the HTTP client has for it: a copy in the cache will do
        online = False
    try:
        file = hf_hub_download(model_id, "config.json", revision=revision, local_files_only=not online)
    except GatedRepoError:
        raise _gated(model_id) from None
    except LocalEntryNotFoundError:
        raise UserError(
            f"no folder {model_id}, it is not in the Hub's cache, and the Hub cannot be reached to look for it there"
        ) from None
    except EntryNotFoundError:
        raise UserError(f"{model_id} has no config.json on the Hub: it is not a model of transformers") from None
    except OSError as error:
        raise UserError(f"the Hub does not give {model_id}: {one_line(error)}") from None
    return Path(file).parent, Path(file).parent.name, online


def _gated(model_id: str) -> UserError:
    return UserError(
        f"{model_id} is gated: accept its terms at https://huggingface.co/{model_id}, then run `hf auth login` or set "
        "HF_TOKEN"
    )


def _load_config(model_id: str, own_code: bool, options: dict):
    """The configuration; refuses a model that takes no audio before its weights are downloaded."""
    try:
        config = AutoConfig.from_pretrained(model_id, **options)
    except Exception as error:
        if own_code and not options["trust_remote_code"]:
            raise UserError(
                f"{model_id} brings its own code, which is not run unasked: read it, then pass --trust_remote_code"
            ) from None
        raise UserError(f"{model_id}: config.json cannot be used: {one_line(error)}") from None
    model_class = MODEL_MAPPING.get(type(config), None)
    model_class = model_class[0] if isinstance(model_class, (list, tuple)) else model_class
    if model_class is None:
        if not own_code or "AutoModel" not in getattr(config, "auto_map", {}):
            raise UserError(f"{model_id}: transformers has no AutoModel for model_type {config.model_type!r}")
        return config
    modalities = model_class.input_modalities
    modalities = (modalities,) if isinstance(modalities, str) else modalities
    if model_class.main_input_name not in AUDIO_INPUTS and "audio" not in modalities:
        raise UserError(
            f"{model_id} is no audio model: {model_class.__name__} takes {' and '.join(modalities)} "
            f"({model_class.main_input_name})"
        )
    return config


def _load_feature_extractor(model_id: str, folder: Path, options: dict):
    missing = UserError(
        f"{model_id} has no feature extractor: {PREPROCESSORS[0]} is missing, which says how audio goes in; save one "
        "beside the model with its feature extractor's save_pretrained"
    )
    is_folder = options["revision"] is None
    if is_folder and not any((folder / name).is_file() for name in PREPROCESSORS):
        raise missing
    try:
        extractor = AutoFeatureExtractor.from_pretrained(model_id, **options)
    except Exception as error:
        if not any((folder / name).is_file() for name in PREPROCESSORS):
            raise missing from None
        raise UserError(f"{model_id}: its feature extractor cannot be loaded: {one_line(error)}") from None
    if not hasattr(extractor, "sampling_rate") and not hasattr(extractor, "feature_size"):
        raise UserError(f"{model_id} is no audio model: its feature extractor is {type(extractor).__name__}")
    return extractor


def _load_model(model_id: str, config, options: dict) -> nn.Module:
    try:
        model, report = AutoModel.from_pretrained(
            model_id,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    except Exception as error:
        if "weights_only" in str(error).lower() or "unpickl" in type(error).__name__.lower():
            raise UserError(
                f"{model_id}: its pickled weights hold more than tensors, and are not loaded: convert them to safetensors"
            ) from None
        raise UserError(f"{model_id}: its weights cannot be loaded: {one_line(error)}") from None
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
        for key in report["unexpected_keys"]
        if key.removeprefix(f"{model.base_model_prefix}.").startswith(inside) and not key.endswith(_HARMLESS)
    )
    if unexpected:
        raise UserError(
            f"{model_id} holds weights for which the encoder has no place: {_some(unexpected)}; config.json belongs to "
            "another checkpoint"
        )
    return model


def _note_pickle(model_id: str, folder: Path) -> None:
    if any(folder.glob("pytorch_model*.bin*")) and not any(folder.glob("*.safetensors*")):
        print(
            f"{model_id}: pickled weights (pytorch_model.bin), read with weights_only: tensors, and no code is run",
            file=sys.stderr,
        )


def _check_rate(model_id: str, extractor, config) -> None:
    rate = getattr(extractor, "sampling_rate", None)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or rate != int(rate):
        raise UserError(
            f"{model_id}: sampling_rate in {PREPROCESSORS[0]} is {rate!r}, not a number of samples a second"
        )
    if not _RATES[0] <= rate <= _RATES[1]:
        raise UserError(f"{model_id}: sampling_rate in {PREPROCESSORS[0]} is {rate} Hz, which no audio has")
    trained = getattr(config, "sampling_rate", None)
    if isinstance(trained, int) and trained != rate:
        raise UserError(
            f"{model_id}: sampling_rate is {rate} Hz in {PREPROCESSORS[0]} but {trained} Hz in config.json: correct the "
            "wrong one"
        )
    if config.model_type in _AT_16_KHZ and rate != 16000:
        print(
            f"{model_id}: {PREPROCESSORS[0]} says {rate} Hz, where {config.model_type} models are at home at 16000 Hz; if "
            "this one is not of another rate, its scores will be wrong",
            file=sys.stderr,
        )


_AT_16_KHZ = (
    "wav2vec2",
    "wav2vec2-conformer",
    "hubert",
    "wavlm",
    "data2vec-audio",
    "unispeech",
    "unispeech-sat",
    "sew",
    "sew-d",
)


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


def _some(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _read_json(path: Path, model_id: str) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{model_id}: config.json is not readable JSON ({one_line(error)})") from None
    if not isinstance(found, dict):
        raise UserError(f"{model_id}: config.json holds no settings")
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' loading reports: what matters in them is checked here, and said in one line.

    Also without its thread that asks a bot of the Hub to convert the weights of a pickled checkpoint.
    """
    conversion = os.environ.get("DISABLE_SAFETENSORS_CONVERSION")
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
        if conversion is None:
            del os.environ["DISABLE_SAFETENSORS_CONVERSION"]
        else:
            os.environ["DISABLE_SAFETENSORS_CONVERSION"] = conversion
