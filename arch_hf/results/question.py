"""The question that a result answers: all that its numbers depend on, as one value with one hash and one file name."""

import hashlib
import json
from pathlib import Path
from typing import Any

from msgspec import Struct, to_builtins

from arch_hf.names import as_file_name, short_hash
from arch_hf.probing.summary import SCORING_VERSION
from arch_hf.results.result import DatasetFacts, ModelFacts

PLAIN_PROTOCOL = "arch-v1"
LONGEST_NAME = 180  # characters of a result's name without its ending: beside it lie longer ones, and a file system takes 255 bytes


class Question(Struct, frozen=True, kw_only=True):
    """Which model, data, protocol and layer.

    `embedding` is what a vector depends on (see `arch_hf.embedding.key`); `protocol` holds every number, the probe, the seeds and the shots;
    `beside` is what stands in the result beside the model's own scores: of each baseline the identity, the published score. `asked` are the
    options that are not in the plain case (revision, dtype, limit, columns ...), for the name of the file.
    """

    model: ModelFacts
    dataset: DatasetFacts
    protocol: dict[str, Any]
    layer: int
    embedding: dict[str, Any]
    beside: dict[str, Any] = {}
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
            self.beside,
            SCORING_VERSION,
        ]
        return hashlib.sha256(json.dumps(to_builtins(parts), sort_keys=True).encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """`<corpus>.json` for the plain case, with all that differs from it in between.

        Examples:
            >>> facts = dict(model=ModelFacts(id="m"), embedding={}, layer=-1)
            >>> esc50 = DatasetFacts(id="arch/esc50", task="single_label", n_clips=9)
            >>> Question(dataset=esc50, protocol={"name": "arch-v1"}, **facts).file_name
            'esc50.json'
            >>> birds = DatasetFacts(id="user/birds", task="single_label", n_clips=9, limit=10)
            >>> Question(dataset=birds, protocol={"name": "strict"}, **(facts | {"layer": 6}), asked=("bfloat16",)).file_name
            'user__birds.strict.layer6.limit10.bfloat16.json'
        """
        dataset = self.dataset
        if dataset.suite:
            parts = [_part(dataset.suite.replace(":", "/"))]
        else:
            parts = [_part(dataset.id.removeprefix("arch/").strip("/"))]
            parts += [_part(f"config-{dataset.config}")] if dataset.config not in (None, "default") else []
        parts += [self.protocol["name"]] if self.protocol["name"] != PLAIN_PROTOCOL else []
        parts += [f"layer{self.layer}"] if self.layer != -1 else []
        parts += [f"limit{dataset.limit}"] if dataset.limit else []
        name = ".".join([*parts, *map(_part, self.asked)])
        if len(name) > LONGEST_NAME:
            name = f"{name[:LONGEST_NAME]}-{short_hash(name)}"
        return f"{name}.json"

    def path(self, output_dir: str | Path) -> Path:
        """Where its result lies: `OUTPUT_DIR/<model>/<corpus>.json`."""
        return Path(output_dir) / as_file_name(self.model.id) / self.file_name


def _part(text: str) -> str:
    """A text as one part of the name, between dots: one with a dot of its own ends with a hash, so that a dataset called `birds.strict` is
    not taken for `birds` under strict.

    Examples:
        >>> _part("user/birds"), _part("birds.strict")
        ('user__birds', 'birds.strict-9ab31d')
    """
    name = as_file_name(text)
    return f"{name}-{short_hash(text)}" if "." in name and name == text.replace("/", "__") else name
