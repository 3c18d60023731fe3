"""A model of the Hub into the Hub's cache: asked for once, fetched where it is not there, read from there when the Hub does not answer."""

import sys
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo

from arch_hf.embedding.checkpoint import CONFIG, PREPROCESSORS, WEIGHTS, Checkpoint
from arch_hf.errors import UserError, one_line
from arch_hf.hub import attempt, passing_fault
from arch_hf.terminal import say

ANSWER = 10.0  # seconds within which the Hub should answer a question
ATTEMPTS = 4


def fetch_settings(model_id: str, revision: str | None) -> Checkpoint:
    """A model's files in the Hub's cache, its weights excepted where they are not there yet: see `fetch_weights`. What is there already of
    a commit is not asked for.

    Raises:
        UserError: there is no such model or revision, it may not be read, it is no model of transformers, or it is not in the cache and the
            Hub does not answer.
    """
    cached = cached_model(model_id, revision)
    if cached is not None and revision == cached.revision:
        return cached
    try:
        info = _look_up(model_id, revision)
    except (HTTPError, OSError, ValueError) as error:
        fault = passing_fault(error)
        offline = isinstance(error, OfflineModeIsEnabled)
        if fault is None and not offline:
            raise UserError(f"the Hub does not give {model_id}: {one_line(error)}") from None
        if cached is not None:
            if not offline:
                say(f"{model_id}: {fault}: read from the cache, commit {cached.revision}", sys.stderr)
            return cached
        if offline:
            raise UserError(
                f"no folder {model_id}, and it is not in the Hub's cache, where HF_HUB_OFFLINE says to look"
            ) from None
        doing = f"looking for {model_id}, which is no folder and not in the Hub's cache"
        info = attempt(lambda: _look_up(model_id, revision), doing, attempts=ATTEMPTS)
    return _download(model_id, revision, info)


def cached_model(model_id: str, revision: str | None) -> Checkpoint | None:
    """A complete copy in the Hub's cache, of that branch, tag or commit as it was when it was fetched."""
    try:
        file = try_to_load_from_cache(model_id, CONFIG, revision=revision or "main")
    except HFValidationError:
        return None
    if not isinstance(file, str):
        return None
    folder = Path(file).parent
    checkpoint = Checkpoint(model_id, folder, folder.name)
    return checkpoint if checkpoint.is_complete else None


def _look_up(model_id: str, revision: str | None) -> ModelInfo:
    """What the Hub knows of a model, asked once.

    Raises:
        UserError: there is none that may be read.
    """
    try:
        return HfApi().model_info(model_id, revision=revision, timeout=ANSWER)
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


def _download(model_id: str, revision: str | None, info: ModelInfo) -> Checkpoint:
    """All but the weights."""
    names = [sibling.rfilename for sibling in info.siblings or ()]
    if CONFIG not in names:
        raise UserError(f"{model_id} has no config.json on the Hub: it is not a model of transformers")
    # By the name of the branch, so that the cache knows what it was; all else by its commit.
    folder = _file(model_id, CONFIG, revision).parent
    wanted = [name for name in PREPROCESSORS if name in names]
    wanted += [name for name in names if name.endswith(".py")]  # the model's own code, if it has any: not run unasked
    for name in wanted:
        _file(model_id, name, folder.name)
    return Checkpoint(model_id, folder, folder.name, tuple(name for name in WEIGHTS if name in names)[:1])


def fetch_weights(checkpoint: Checkpoint) -> None:
    """The weights into the cache, if they are still to be fetched.

    Raises:
        UserError: the Hub does not give them.
    """
    for name in checkpoint.to_fetch:
        _file(checkpoint.model_id, name, checkpoint.revision)
    if checkpoint.to_fetch:
        for file in checkpoint.weight_files():  # the shards, where that was an index
            _file(checkpoint.model_id, file.name, checkpoint.revision)


def _file(model_id: str, name: str, revision: str | None) -> Path:
    def download() -> str:
        try:
            return hf_hub_download(model_id, name, revision=revision, etag_timeout=ANSWER)
        except GatedRepoError:
            raise _gated(model_id) from None

    return Path(attempt(download, f"fetching {name} of {model_id}", attempts=2))  # of which each asks several times


def _gated(model_id: str) -> UserError:
    return UserError(
        f"{model_id} is gated: accept its terms at https://huggingface.co/{model_id}, then run `hf auth login` or set "
        "HF_TOKEN"
    )
