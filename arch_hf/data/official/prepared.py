"""What `prepare` has written: kept as `arch.json` in the prepared folder, and shown by its card."""

import collections
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from datasets import Features

from arch_hf.data.spec import Corpus
from arch_hf.errors import UserError

FACTS_FILE = "arch.json"  # what the Parquet cannot say: the corpus's facts, excluded and missing clips


@dataclass
class Prepared:
    """What was written: the JSON file `arch.json` of a prepared folder, and what the card shows."""

    corpus: Corpus  # with its classes, also where they come from the metadata
    features: Features
    sampling_rate: int | None = None  # None: the audio is as it came
    splits: dict[str, dict] = field(default_factory=dict)  # name -> {"clips", "bytes", "shards"}
    shards: dict[str, dict] = field(default_factory=dict)  # path in the folder -> {"bytes", "sha256"}
    seconds: float = 0.0
    excluded: list[dict] = field(default_factory=list)  # [{"clip_id", "split", "reason"}]
    missing: dict[str, str] = field(
        default_factory=dict
    )  # id -> split of clips that the metadata lists and the folder lacks
    credits: list[str] = field(
        default_factory=list
    )  # files of the archive copied beside the data, as its licence wants
    missing_credits: list[str] = field(default_factory=list)
    unreadable: list[dict] = field(
        default_factory=list
    )  # [{"clip_id", "reason"}]: kept, but their header does not read

    @property
    def short_splits(self) -> dict[str, int]:
        """Splits with fewer clips than the full corpus has: name -> clips of the full corpus that could be used."""
        bad = collections.Counter(clip["split"] for clip in self.excluded)
        bad.update(split for clip_id, split in self.missing.items() if clip_id in self.corpus.known_missing)
        sizes = {name: n - bad[name] for name, n in self.corpus.splits.items()}
        return {name: n for name, n in sizes.items() if self.splits.get(name, {"clips": 0})["clips"] < n}

    @property
    def clips(self) -> int:
        return sum(split["clips"] for split in self.splits.values())


def facts(prepared: Prepared) -> dict:
    """The content of `arch.json`."""
    corpus = prepared.corpus
    return {
        "corpus": corpus.name,
        "title": corpus.title,
        "version": corpus.version,
        "domain": corpus.domain,
        "task": corpus.task,
        "max_seconds": corpus.max_seconds,
        "licence": corpus.licence,
        "homepage": corpus.homepage,
        "citation": corpus.citation,
        "rehost": corpus.rehost,
        "rehost_reason": corpus.rehost_reason,
        "sampling_rate": prepared.sampling_rate,
        "splits": {name: split["clips"] for name, split in prepared.splits.items()},
        "seconds": round(prepared.seconds, 3),
        "excluded_clips": prepared.excluded,
        "missing_clips": list(prepared.missing),
        "unreadable_clips": prepared.unreadable,
        "credits": prepared.credits,
        "shards": prepared.shards,
    }


def write_facts(folder: Path, prepared: Prepared) -> None:
    text = json.dumps(facts(prepared), indent=2, ensure_ascii=False)
    (folder / FACTS_FILE).write_text(text + "\n", encoding="utf-8")


def read_facts(folder: Path) -> dict:
    """The content of a folder's `arch.json`, or nothing where it has none: `prepare` did not make it.

    Raises:
        UserError: if it cannot be read, or lacks what every corpus has.
    """
    path = folder / FACTS_FILE
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); prepare the corpus again") from None
    return checked_facts(facts, str(path))


def checked_facts(facts: object, path: str) -> dict:
    """The same, if it has what every corpus has.

    Raises:
        UserError: if not.
    """
    if not isinstance(facts, dict):
        raise UserError(f"{path} is no JSON object; prepare the corpus again")
    wanted: dict[str, Any] = {"corpus": str, "task": str, "max_seconds": (int, float)}
    wrong = [name for name, kind in wanted.items() if not isinstance(facts.get(name), kind)]
    if wrong or facts["task"] not in ("single_label", "multi_label"):
        raise UserError(f"{path} does not say {', '.join(wrong) or 'which task it is'}; prepare the corpus again")
    return facts


def corpus_of_facts(facts: Mapping, splits: Mapping[str, int]) -> Corpus:
    """The facts of a corpus that `prepare` made from a user's own file."""
    return Corpus(
        name=facts["corpus"],
        title=facts.get("title", facts["corpus"]),
        domain=facts.get("domain", "other"),
        task=facts["task"],
        classes=(),
        splits=splits,
        max_seconds=facts["max_seconds"],
        licence=facts.get("licence", ""),
        citation=facts.get("citation", ""),
        homepage=facts.get("homepage", ""),
        read=None,
        rehost=facts.get("rehost", "public"),
        rehost_reason=facts.get("rehost_reason", ""),
        known_bad={clip["clip_id"]: clip["reason"] for clip in facts.get("excluded_clips", ())},
        version=facts.get("version", "1.0.0"),
    )


def changed_shards(folder: Path, facts: Mapping) -> list[str]:
    """What is wrong with the Parquet files of a prepared folder: each that is missing, or is not what `prepare` wrote, byte for byte.
    Nothing where `arch.json` is of a version that noted no checksums."""
    wrong = []
    for name, noted in facts.get("shards", {}).items():
        try:
            with open(folder / name, "rb") as file:
                sha256 = _sha256(file)
        except OSError as error:
            wrong.append(f"{name} cannot be read ({error.strerror})")
            continue
        if sha256 != noted["sha256"]:
            wrong.append(f"{name} is not what prepare wrote: its bytes have changed")
    return wrong


def _sha256(file: BinaryIO) -> str:
    sha = hashlib.sha256()
    while block := file.read(1 << 20):
        sha.update(block)
    return sha.hexdigest()
