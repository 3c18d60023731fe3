"""What `prepare` has written: kept as `arch.json` in the prepared folder, and shown by its card."""

import collections
import json
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Features

from arch_hf.data.spec import Corpus

FACTS_FILE = "arch.json"  # what the Parquet cannot say: the corpus's facts, excluded and missing clips


@dataclass
class Prepared:
    """What was written: the JSON file `arch.json` of a prepared folder, and what the card shows."""

    corpus: Corpus  # with its classes, also where they come from the metadata
    features: Features
    sampling_rate: int | None = None  # None: the audio is as it came
    splits: dict[str, dict] = field(default_factory=dict)  # name -> {"clips", "bytes", "shards"}
    seconds: float = 0.0
    excluded: list[dict] = field(default_factory=list)  # [{"clip_id", "split", "reason"}]
    missing: list[str] = field(default_factory=list)  # ids of clips that the metadata lists and the folder lacks
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
        "missing_clips": prepared.missing,
        "unreadable_clips": prepared.unreadable,
        "credits": prepared.credits,
    }


def write_facts(folder: Path, prepared: Prepared) -> None:
    text = json.dumps(facts(prepared), indent=2, ensure_ascii=False)
    (folder / FACTS_FILE).write_text(text + "\n", encoding="utf-8")
