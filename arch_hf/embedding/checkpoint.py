"""The files of a checkpoint: which there are, and whether they are what their names say."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from arch_hf.errors import UserError, one_line

CONFIG = "config.json"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
# In the order in which transformers looks for them; an index names the shards.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model in it: the user's, or one of the Hub's cache, where `revision` is the commit and `to_fetch` what is still missing."""

    model_id: str
    folder: Path
    revision: str | None = None
    to_fetch: tuple[str, ...] = ()

    def config(self) -> dict[str, Any]:
        """config.json as it is."""
        return self._read_json(self.folder / CONFIG)

    @property
    def weights(self) -> Path | None:
        """The file, or index of files, that transformers reads the weights from."""
        return next((self.folder / name for name in WEIGHTS if (self.folder / name).is_file()), None)

    @property
    def preprocessor(self) -> Path | None:
        """The file that says how audio goes in."""
        return next((self.folder / name for name in PREPROCESSORS if (self.folder / name).is_file()), None)

    @property
    def is_complete(self) -> bool:
        """Whether all files are there that loading takes."""
        try:
            return (
                (self.folder / CONFIG).is_file()
                and self.preprocessor is not None
                and all(file.is_file() for file in self.weight_files())
                and self.weights is not None
            )
        except UserError:
            return False

    def check_settings(self) -> None:
        """See that the files that say how audio goes in can be read.

        Raises:
            UserError: one is a Git LFS pointer, an HTML page, or no JSON.
        """
        for name in PREPROCESSORS:
            if (self.folder / name).is_file():
                self._read_json(self.folder / name)

    def check_weights(self) -> None:
        """See that there are weights, and that no file of them is something else.

        Raises:
            UserError: one is missing, a Git LFS pointer or an HTML page.
        """
        weights = self.weights
        if weights is None:
            raise UserError(f"{self.model_id} has no weights: there is no file named {', '.join(WEIGHTS)}")
        for file in self.weight_files():
            if not file.is_file():
                raise UserError(f"{self.model_id} is incomplete: {weights.name} names {file.name}, which is not there")
            self._refuse_stand_ins(file)

    def tensor_names(self) -> list[str] | None:
        """The names of all weights; None where the files do not tell: loading them will say why."""
        try:
            return [name for file in self.weight_files() for name in _names_in(file)]
        except Exception:  # a damaged file, or a pickle that is none, fails in many ways
            return None

    def weight_files(self) -> list[Path]:
        """The files that hold weights, whether they are there or not."""
        weights = self.weights
        if weights is None or weights.suffix != ".json":
            return [] if weights is None else [weights]
        shards = self._read_json(weights).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise UserError(f"{self.model_id}: {weights.name} names no files")
        return [self.folder / str(name) for name in dict.fromkeys(shards.values())]

    def _read_json(self, path: Path) -> dict[str, Any]:
        self._refuse_stand_ins(path)
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.model_id}: {path.name} is not readable JSON ({one_line(error)})") from None
        except RecursionError:
            raise UserError(f"{self.model_id}: {path.name} is nested too deep to be one of transformers") from None
        if not isinstance(settings, dict):
            raise UserError(f"{self.model_id}: {path.name} holds no settings")
        return settings

    def _refuse_stand_ins(self, file: Path) -> None:
        """Refuse what a download or a clone left in a file's place."""
        try:
            with file.open("rb") as stream:
                start = stream.read(512).lstrip().lower()
        except OSError as error:
            raise UserError(f"{self.model_id}: {file.name} cannot be read ({error.strerror})") from None
        if start.startswith(b"version https://git-lfs"):
            raise UserError(
                f"{self.model_id}: {file.name} is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository"
            )
        if start.startswith((b"<!doctype html", b"<html")):
            raise UserError(
                f"{self.model_id}: {file.name} is an HTML page (of a login, or of an error), not the file itself: download it again"
            )


def _names_in(file: Path) -> Iterator[str]:
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as tensors:
            yield from tensors.keys()
    else:
        try:
            yield from torch.load(file, map_location="meta", weights_only=True, mmap=True)
        except RuntimeError:  # of the format before torch 1.6
            yield from torch.load(file, map_location="meta", weights_only=True)
