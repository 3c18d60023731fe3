"""A model id to a model in memory: found, recognised before it is downloaded, and complete.

Whatever can be wrong with a checkpoint is one `UserError` that says what was looked for and what to do.
"""

import contextlib
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_MAPPING
from transformers.utils import logging

from arch_hf.embedding.baselines import BASELINES, make_baseline
from arch_hf.embedding.checkpoint import PREPROCESSORS, Checkpoint
from arch_hf.embedding.download import fetch_settings, fetch_weights
from arch_hf.embedding.families import AUDIO_INPUTS
from arch_hf.embedding.weights import check_complete, check_depth
from arch_hf.errors import UserError, one_line
from arch_hf.terminal import say

_RATES = (1000, 384_000)  # Hz: below lies no audio, above no recording


@dataclass
class Loaded:
    """What a model id turned out to be. `revision` is the commit of a model of the Hub, None for a folder."""

    model: nn.Module
    feature_extractor: Any
    revision: str | None = None


def load(model_id: str, revision: str | None = None, trust_remote_code: bool = False) -> Loaded:
    """Load a model in float32 with its feature extractor; see `AudioEncoder.from_pretrained`.

    Raises:
        UserError: see above.
    """
    if model_id in BASELINES:
        if revision is not None:
            raise UserError(f"--revision {revision} is of a model on the Hub, but {model_id} is built in: leave it out")
        return Loaded(*make_baseline(model_id))
    checkpoint = find(model_id, revision)
    code = checkpoint.config().get("auto_map") or {}
    if code and trust_remote_code:
        say(f"{model_id}: running the model's own code, as --trust_remote_code asks", sys.stderr)
    options = {
        "revision": checkpoint.revision,
        "trust_remote_code": trust_remote_code,
        "local_files_only": not any("--" in str(name) for name in code.values()),  # code in another repository
    }
    with _quiet():
        config = _load_config(checkpoint, bool(code), options)
        feature_extractor = _load_feature_extractor(checkpoint, options)
        _check_rate(model_id, feature_extractor, config)
        fetch_weights(checkpoint)
        checkpoint.check_weights()
        check_depth(checkpoint)
        model = _load_model(checkpoint, config, options)
    _note_pickle(checkpoint)
    return Loaded(model.eval(), feature_extractor, checkpoint.revision)


def find(model_id: str, revision: str | None) -> Checkpoint:
    """The folder of that name, or the model of the Hub, without its weights where they are still to be fetched."""
    path = Path(model_id)
    try:
        is_folder = path.is_dir()
    except OSError as error:  # a name that is too long
        raise UserError(
            f"{model_id[:100]} ... is no folder ({error.strerror}), nor the id of a model on the Hub"
        ) from None
    if not is_folder:
        return fetch_settings(model_id, revision)
    if revision is not None:
        raise UserError(f"--revision {revision} is of a model on the Hub, but {model_id} is a folder: leave it out")
    if not (path / "config.json").is_file():
        raise UserError(f"{model_id} has no config.json: it is not a folder that save_pretrained wrote")
    return Checkpoint(model_id, path)


def _load_config(checkpoint: Checkpoint, own_code: bool, options: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration; refuses a model that takes no audio before its weights are downloaded."""
    model_id = checkpoint.model_id
    try:
        config = AutoConfig.from_pretrained(model_id, **options)
    except Exception as error:
        if own_code and not options["trust_remote_code"]:
            raise UserError(
                f"{model_id} brings its own code, which is not run unasked: read it, then pass --trust_remote_code"
            ) from None
        raise UserError(f"{model_id}: config.json cannot be used: {one_line(error)}") from None
    for part in (config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", ()))):
        if isinstance(part, PreTrainedConfig):
            part.return_dict = True  # how the outputs are handed over, not what they are
    listed = MODEL_MAPPING.get(type(config), None)
    model_class: Any = listed[0] if isinstance(listed, (list, tuple)) else listed
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


def _load_feature_extractor(checkpoint: Checkpoint, options: Mapping[str, Any]) -> Any:
    model_id = checkpoint.model_id
    if checkpoint.preprocessor is None:
        raise UserError(
            f"{model_id} has no feature extractor: {PREPROCESSORS[0]} is missing, which says how audio goes in; save one "
            "beside the model with its feature extractor's save_pretrained"
        )
    checkpoint.check_settings()
    try:
        extractor = AutoFeatureExtractor.from_pretrained(model_id, **options)
    except Exception as error:
        raise UserError(f"{model_id}: its feature extractor cannot be loaded: {one_line(error)}") from None
    if not hasattr(extractor, "sampling_rate") and not hasattr(extractor, "feature_size"):
        raise UserError(f"{model_id} is no audio model: its feature extractor is {type(extractor).__name__}")
    return extractor


def _load_model(checkpoint: Checkpoint, config: PreTrainedConfig, options: Mapping[str, Any]) -> nn.Module:
    model_id = checkpoint.model_id
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
        if "all_tied_weights_keys" in str(error):
            raise UserError(
                f"{model_id}: its own code lacks a call of self.post_init() at the end of the model's __init__, without which "
                "transformers 5 loads no model"
            ) from None
        raise UserError(f"{model_id}: its weights cannot be loaded: {one_line(error)}") from None
    check_complete(checkpoint, model, report)
    return model


def _note_pickle(checkpoint: Checkpoint) -> None:
    if checkpoint.weights is not None and checkpoint.weights.name.startswith("pytorch_model"):
        say(
            f"{checkpoint.model_id}: pickled weights (pytorch_model.bin), read with weights_only: tensors, and no code is run",
            sys.stderr,
        )


def _check_rate(model_id: str, extractor: Any, config: PreTrainedConfig) -> None:
    rate = getattr(extractor, "sampling_rate", None)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not math.isfinite(rate) or rate != int(rate):
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
        say(
            f"{model_id}: {PREPROCESSORS[0]} says {rate} Hz, where {config.model_type} models are at home at 16000 Hz; if "
            "this one is not of another rate, its scores will be wrong",
            sys.stderr,
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
    Examples:
        >>> parse_dtype("bfloat16"), parse_dtype(None)
        (torch.bfloat16, torch.float32)
    """
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    chosen = torch.float32 if dtype is None else names.get(str(dtype).removeprefix("torch."))
    if chosen is None:
        raise UserError(f"dtype {dtype} is none of {', '.join(names)}")
    return chosen


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
