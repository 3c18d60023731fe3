"""What a leaderboard's columns are: the corpora in the paper's order, their domains, the size classes of models."""

from collections.abc import Iterable
from dataclasses import dataclass

from arch_hf.results.result import Result

DOMAINS = {"events": "Acoustic events", "music": "Music", "speech": "Speech", "other": "Other corpora"}
SIZES = ("B", "L", "XL")
SIZE_NAMES = {"B": "Base", "L": "Large", "XL": "Extra large", "": "No size class"}
# Between the paper's sizes: its base models have 90 to 95 million parameters, large ones about 315, extra large ones about 960.
SIZE_LIMITS = {"B": 200e6, "L": 600e6, "XL": float("inf")}
PAPER = "arXiv 2405.00934, Table 2"


@dataclass(frozen=True)
class Column:
    """One corpus. `title` is short, as in the paper's table; `metric` is "accuracy" or "map_macro"."""

    key: str
    title: str
    domain: str
    metric: str


# The twelve in the order, under the names and with the metrics of the paper's Table 2.
TWELVE = tuple(
    Column(key, title, domain, "map_macro" if key in ("fsd50k", "magnatagatune", "irmas") else "accuracy")
    for key, title, domain in (
        ("esc50", "ESC-50", "events"),
        ("us8k", "US8K", "events"),
        ("fsd50k", "FSD50K", "events"),
        ("vivae", "VIVAE", "events"),
        ("fma_small", "FMA", "music"),
        ("magnatagatune", "MTT", "music"),
        ("irmas", "IRMAS", "music"),
        ("medley_solos_db", "MS-DB", "music"),
        ("ravdess", "RAVDESS", "speech"),
        ("audio_mnist", "A-MNIST", "speech"),
        ("slurp", "SLURP", "speech"),
        ("emovo", "EMOVO", "speech"),
    )
)
TWELVE_KEYS = tuple(column.key for column in TWELVE)
# What is averaged: the corpora of each of the paper's domains, and all twelve.
AVERAGES = {
    **{domain: tuple(c.key for c in TWELVE if c.domain == domain) for domain in ("events", "music", "speech")},
    "all": TWELVE_KEYS,
}
AVERAGE_NAMES = {**{key: DOMAINS[key] for key in ("events", "music", "speech")}, "all": "All twelve"}


def columns_of(results: Iterable[Result]) -> tuple[Column, ...]:
    """The twelve, then whatever else was evaluated, by name, each under the domain that its results tell."""
    others = {result.corpus: result for result in results if result.corpus not in TWELVE_KEYS}
    return TWELVE + tuple(Column(key, key, _domain(others[key]), others[key].metric) for key in sorted(others))


def _domain(result: Result) -> str:
    return result.dataset.domain if result.dataset.domain in DOMAINS else "other"


def size_class(n_parameters: int | None) -> str:
    """The paper's size class for a number of parameters; "" where it is not known or there are none.

    Examples:
        >>> size_class(94_371_712), size_class(315_438_720), size_class(962_000_000), size_class(None)
        ('B', 'L', 'XL', '')
    """
    if not n_parameters:
        return ""
    return next(size for size, limit in SIZE_LIMITS.items() if n_parameters < limit)
