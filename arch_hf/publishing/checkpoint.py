"""A checkpoint onto the Hub, as safetensors and with its card, once it is proven to give the same embeddings."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from huggingface_hub import HfApi

from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.checkpoint import PREPROCESSORS
from arch_hf.errors import UserError
from arch_hf.hub import attempt
from arch_hf.publishing.card import copy_results, decode
from arch_hf.publishing.entries import NAMESPACE
from arch_hf.publishing.hub import Upload, check_repo_id, command_again, read_file
from arch_hf.publishing.own_card import plain_card
from arch_hf.publishing.released_cards import released_card, released_names
from arch_hf.terminal import say

# A tokenizer that strayed into an audio checkpoint is not on this list, nor is any Python file.
SOURCE_FILES = [
    "config.json",
    *PREPROCESSORS,
    "model*.safetensors*",
    "pytorch_model*.bin*",
    "README.md",
    "LICENSE*",
]
ONLY_FOR_TRAINING = {"masked_spec_embed"}  # the one weight that a checkpoint may lack: it replaces masked frames
PROBE_SECONDS = (0.3, 1.0, 2.5)  # of noise, to compare embeddings on


def publish_checkpoint(
    source: str,
    repo_id: str,
    *,
    revision: str | None = None,
    card: Path | None = None,
    private: bool = False,
    dry_run: bool = False,
) -> str:
    """Load a checkpoint, write it as safetensors, compare embeddings, add its card and upload it.

    Args:
        source: a folder or a Hub id. A pickled one (pytorch_model.bin) is read with weights_only: nothing in it runs.
        repo_id: where it goes, "arch/hubert-base-audioset".
        revision: of a Hub id.
        card: the card's file; by default for "arch/..." the one that `model_cards/` has for that name, else the source's own, else a plain one.
        private: create the repository as a private one.
        dry_run: do all of it but the upload, and say what would go there.

    Returns:
        The URL of the model, or that nothing was sent.

    Raises:
        UserError: the source cannot be loaded, lacks weights or changes its embeddings, or the Hub refuses.
    """
    check_repo_id(repo_id)
    with tempfile.TemporaryDirectory(prefix="arch-hf-") as stage:
        folder = fetch(source, revision, Path(stage) / "source")
        target = Path(stage) / repo_id.split("/")[-1]
        convert(folder, target, source)
        weights = compare(folder, target)
        text = find_card(repo_id, card, folder)

        def with_card() -> None:
            """The card on the Hub may hold results that were pushed since: they go into the new one, if they are of these weights."""
            there = read_file(repo_id, "README.md", "main") if HfApi().repo_exists(repo_id) else None
            (target / "README.md").write_text(
                copy_results(decode(there), text, weights) if there else text, encoding="utf-8"
            )

        flags = {"repo_id": repo_id, "revision": revision, "card": card, "private": private, "dry_run": dry_run}
        doing, again = f"publishing {source} to {repo_id}", command_again("checkpoint", source, **flags)
        attempt(with_card, doing, f"To go on: {again}")
        summary = "Weights as safetensors, and the card"
        upload = Upload(target, repo_id, "model", summary, private=private, dry_run=dry_run)
        return upload.send(safe=f"To go on: {again}")


def fetch(source: str, revision: str | None, folder: Path) -> Path:
    """The source as a local folder. Downloaded first and loaded from there, so that nothing but the listed files counts."""
    if Path(source).is_dir():
        if revision is not None:
            raise UserError(f"--revision {revision} is of a model on the Hub, but {source} is a folder: leave it out")
        folder = Path(source)
    elif Path(source).exists() or source.count("/") != 1:
        raise UserError(f"{source} is neither a folder with a checkpoint nor a model of the Hub (owner/name)")
    else:
        download = HfApi().snapshot_download
        attempt(
            lambda: download(source, revision=revision, local_dir=folder, allow_patterns=SOURCE_FILES),
            f"downloading {source}",
        )
    for names in (("config.json",), PREPROCESSORS):
        if not any((folder / name).is_file() for name in names):
            raise UserError(f"{source} has no {names[0]}: it is not an audio checkpoint of transformers")
    return folder


def convert(folder: Path, target: Path, source: str) -> None:
    """Write the checkpoint in `folder`, with the class that it was saved from, to `target` as safetensors.

    Raises:
        UserError: the class is unknown, the weights cannot be read safely, or some are missing.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = (config.get("architectures") or ["AutoModel"])[0]
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise UserError(f"{source} was saved from {name}, which transformers {transformers.__version__} does not have")
    try:
        model, report = model_class.from_pretrained(folder, dtype="auto", output_loading_info=True, weights_only=True)
    except Exception as error:  # a pickle that holds more than tensors, a truncated file, a config that does not fit
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{source} cannot be loaded as {name} without running code from it: {reason}") from None
    missing = sorted(key for key in report["missing_keys"] if key.split(".")[-1] not in ONLY_FOR_TRAINING)
    if missing or report["mismatched_keys"]:
        bad = missing or sorted(str(key) for key in report["mismatched_keys"])
        raise UserError(
            f"{source} lacks {len(bad)} weights of {name}, {bad[0]} first: they would be published as random numbers"
        )
    model.save_pretrained(target)
    for file in [*(folder / name for name in PREPROCESSORS if (folder / name).is_file()), *folder.glob("LICENSE*")]:
        shutil.copy(file, target)


def compare(folder: Path, target: Path) -> str:
    """Every layer's embedding of some noise, before and after: they must be the same to the last bit. Returns the SHA-256 of the weights.

    Raises:
        UserError: they are not.
    """
    before, after = (AudioEncoder.from_pretrained(str(path)) for path in (folder, target))
    generator = np.random.default_rng(0)
    waveforms = [
        generator.standard_normal(round(s * before.sampling_rate)).astype(np.float32) / 10 for s in PROBE_SECONDS
    ]
    with torch.inference_mode():
        old, new = before.embed(waveforms, layers="all"), after.embed(waveforms, layers="all")
    if not np.array_equal(old, new):
        raise UserError(
            f"the safetensors copy gives other embeddings (by up to {abs(old - new).max():.3g}): it was not published"
        )
    return after.weights_sha256


def find_card(repo_id: str, card: Path | None, folder: Path) -> str:
    """The card's text: the file named, else for a repository of the paper's authors the one that `model_cards/` has for the name, else the source's
    own, else a plain one that says what can be seen."""
    if card is not None:
        if not Path(card).is_file():
            raise UserError(f"no card {card}")
        return Path(card).read_text(encoding="utf-8")
    namespace, name = repo_id.split("/")
    if namespace == NAMESPACE and name in released_names():
        return released_card(name, repo_id)
    if (folder / "README.md").is_file():
        return (folder / "README.md").read_text(encoding="utf-8")
    say(
        f"{repo_id}: a plain card, which does not say what it was trained on, nor under which licence it is: add that",
        sys.stderr,
    )
    return plain_card(folder, AudioEncoder.from_pretrained(str(folder)).describe(), repo_id)
