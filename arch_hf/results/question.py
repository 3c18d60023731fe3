"""The question that a result answers: all that its numbers depend on, as one value with one hash and one file name."""

import hashlib
import json
from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins

from arch_hf.errors import UserError
from arch_hf.names import as_file_name
from arch_hf.results.result import DatasetFacts, ModelFacts, Result

PLAIN_PROTOCOL = "arch-v1"
PLAIN_DTYPE = "float32"


class Question(Struct, frozen=True, kw_only=True):
    """Which model, data, protocol and layer.

    `embedding` is what an embedding depends on (see `arch_hf.embedding.key`); `protocol` holds every number, the probe, the seeds and the shots;
    `asked` are the options that are not in the plain case (revision, dtype, limit, columns ...), for the name of the file.
    """

    model: ModelFacts
    dataset: DatasetFacts
    protocol: dict[str, Any]
    layer: int
    embedding: dict[str, Any]
    asked: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """SHA-256 over all that the numbers depend on: not over ids, which may be two names of one thing."""
        parts = [
            self.embedding,
            self.dataset.fingerprint,
            self.dataset.task,
            self.dataset.limit,
            self.protocol,
            self.layer,
        ]
        return hashlib.sha256(json.dumps(to_builtins(parts), sort_keys=True).encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """`<corpus>.json` for the plain case, with all that differs from it in between.

        Example:
            >>> facts = dict(model=ModelFacts(id="m"), embedding={}, layer=-1)
            >>> esc50 = DatasetFacts(id="arch/esc50", task="single_label", n_clips=9)
            >>> Question(dataset=esc50, protocol={"name": "arch-v1"}, **facts).file_name
            'esc50.json'
            >>> birds = DatasetFacts(id="user/birds", task="single_label", n_clips=9, limit=10)
            >>> Question(dataset=birds, protocol={"name": "strict"}, **(facts | {"layer": 6}), asked=("bfloat16",)).file_name
            'user__birds.strict.layer6.limit10.bfloat16.json'
        """
        dataset = self.dataset
        parts = [as_file_name(dataset.id.removeprefix("arch/").strip("/"))]
        parts += [as_file_name(dataset.config)] if dataset.config not in (None, "default") else []
        parts += [self.protocol["name"]] if self.protocol["name"] != PLAIN_PROTOCOL else []
        parts += [f"layer{self.layer}"] if self.layer != -1 else []
        parts += [f"limit{dataset.limit}"] if dataset.limit else []
        return ".".join([*parts, *map(as_file_name, self.asked)]) + ".json"

    def path(self, output_dir: str | Path) -> Path:
        """Where its result lies: `OUTPUT_DIR/<model>/<corpus>.json`."""
        return Path(output_dir) / as_file_name(self.model.id) / self.file_name

    def answer(self, output_dir: str | Path) -> Result | None:
        """The complete result that lies there already, if it answers this very question."""
        try:
            result = Result.read(self.path(output_dir))
        except UserError:
            return None  # none, damaged or of somebody else: it is computed, and what lies there is kept aside
        return result if result.identity == self.identity and result.complete else None


def make_room(path: Path, identity: str) -> Path | None:
    """Move what lies under a result's name aside unless it answers the same question; returns its new name, if it was moved.

    No result ever replaces one that answers another question (other weights under the same id, other data under the same name, an older protocol).
    """
    if not path.is_file():
        return None
    try:
        other = Result.read(path).identity
    except UserError:
        other = None
    if other == identity:
        return None
    tag = (other or hashlib.sha256(path.read_bytes()).hexdigest())[:8]
    aside = path.with_name(f"{path.stem}.was-{tag}.json")
    try:
        for suffix in (".predictions.safetensors", ".json"):  # the result last: while it is here, it is whole
            old = path.with_suffix(suffix)
            if old.is_file():
                old.replace(aside.with_suffix(suffix))
    except OSError as error:
        raise UserError(
            f"cannot rename {path} ({error.strerror}), which answers another question: move it away"
        ) from None
    return aside
