"""Published scores of other benchmarks, to stand beside one's own as Table 2 does.

Sources: `published_maeb.csv` from github.com/embeddings-benchmark/results at f4cc6c8 (20 August 2026), every model with 18 or more of the 19 tasks of
"MAEB(v1, audio-only)", main scores averaged over splits and languages; `published_xares.csv` from the README of github.com/jimbozhang/xares
at 161f0ef (2 September 2025), its public tasks, the scores of its version 0.1.3. Both in percent.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

SOURCES = {
    "MTEB": "github.com/embeddings-benchmark/results, 20 August 2026",
    "X-ARES": "github.com/jimbozhang/xares, 2 September 2025",
}


@dataclass(frozen=True)
class PublishedModel:
    """One model's published `scores` (fractions by task) on a `benchmark`; `method` says which of the benchmark's classifiers gave them, `version` which of
    the benchmark's programs."""

    benchmark: str
    method: str
    version: str
    model_id: str
    revision: str | None
    scores: dict[str, float]


def published_models() -> list[PublishedModel]:
    """All rows of both tables.

    Examples:
        >>> found = published_models()
        >>> hubert = next(row for row in found if row.model_id == "facebook/hubert-base-ls960")
        >>> hubert.benchmark, round(hubert.scores["GTZANGenre"], 4), hubert.revision[:7]
        ('MTEB', 0.69, 'dba3bb0')
        >>> sorted({(row.benchmark, row.method) for row in found})
        [('MTEB', ''), ('X-ARES', 'MLP'), ('X-ARES', 'kNN')]
    """
    maeb = [
        PublishedModel("MTEB", "", row.pop("mteb_version"), row.pop("model_id"), row.pop("revision"), _fractions(row))
        for row in _rows("published_maeb.csv")
    ]
    xares = [
        PublishedModel("X-ARES", row.pop("method"), "0.1.3", row.pop("model_id"), None, _fractions(row))
        for row in _rows("published_xares.csv")
    ]
    return maeb + xares


def _rows(name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader((files("arch_hf.results") / name).read_text(encoding="utf-8").splitlines())


def _fractions(row: dict[str, str]) -> dict[str, float]:
    return {task: float(value) / 100 for task, value in row.items() if value}
