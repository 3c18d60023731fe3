"""The parts of a leaderboard: cells, rows, views."""

from dataclasses import dataclass, field
from pathlib import Path

from arch_hf.probing.estimate import Estimate
from arch_hf.reports.columns import DOMAINS, TWELVE_KEYS, Column
from arch_hf.results.answer import predictions_path
from arch_hf.results.benchmark import BenchmarkScore
from arch_hf.results.folder import Filed, layer_name
from arch_hf.results.result import Result

MOST_COMPARED = 24  # models in pairs: a page that holds more would be large, and slow to make


@dataclass
class Cell:
    """One score (a fraction). `caveat` set: shown and marked, never ranked, averaged or best. `delta`: ours minus published,
    `uncertainty` the standard deviation that the paper's unknown draw gives it."""

    value: float
    caveat: str | None = None
    delta: float | None = None
    uncertainty: float | None = None
    best_of_size: bool = False
    best: bool = False
    rank: float | None = None


@dataclass
class OwnCell(Cell):
    """A score of ours: with its result, and the file that holds it."""

    result: Result = field(kw_only=True)
    path: Path = field(kw_only=True)

    @property
    def has_predictions(self) -> bool:
        return predictions_path(self.path).is_file()


@dataclass
class Row:
    """One model in one view: published (from the paper) or ours. `size` is "B", "L", "XL" or "".

    A model of ours stands once, whatever it is called: `also` are its other names. `variant` says how it was run, where that is not the plain
    case; `page` is its address on the Hub.
    """

    name: str
    model_id: str
    revision: str | None
    size: str
    audioset: bool
    published: bool
    n_parameters: int | None = None
    gflop_per_second: float | None = None
    also: tuple[str, ...] = ()
    variant: str | None = None
    page: str | None = None
    encoder: tuple[str | None, ...] = ()
    cells: dict[str, Cell] = field(default_factory=dict)
    averages: dict[str, float | None] = field(default_factory=dict)  # by domain, and "all" twelve
    mean_rank: float | None = None
    rank: int | None = None

    @property
    def own_cells(self) -> dict[str, OwnCell]:
        """Those with a result; all of them for a row of ours, none for a published one."""
        return {corpus: cell for corpus, cell in self.cells.items() if isinstance(cell, OwnCell)}

    def comparable(self, column: str) -> float | None:
        """The score where it may be ranked, else None."""
        cell = self.cells.get(column)
        return cell.value if cell and cell.caveat is None else None

    @property
    def is_complete(self) -> bool:
        """Whether all twelve corpora have a score that may be ranked."""
        return all(self.comparable(column) is not None for column in TWELVE_KEYS)

    @property
    def has_delta(self) -> bool:
        """Whether a published score stands beside one of its own."""
        return any(cell.delta is not None for cell in self.cells.values())


@dataclass(frozen=True)
class Pairs:
    """Paired differences between rows of ours: `rows` are those that have predictions, and `found` holds (place, later place) among them ->
    column, domain, "all" or "elsewhere" -> first minus second (see `arch_hf.results.folder_comparison`)."""

    rows: tuple[Row, ...]
    found: dict[tuple[int, int], dict[str, Estimate]]


@dataclass
class View:
    """One protocol at one layer: the rows and columns of one table."""

    protocol: str
    version: str
    layer: int
    columns: tuple[Column, ...]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    pairs: Pairs | None = None

    @property
    def protocol_title(self) -> str:
        return f"{self.protocol} {self.version}"

    @property
    def title(self) -> str:
        return f"{self.protocol_title}, {layer_name(self.layer)}"

    @property
    def shown_columns(self) -> list[Column]:
        """Those with a score, domain by domain, the paper's corpora before the others of a domain."""
        scored = [column for column in self.columns if any(column.key in row.cells for row in self.rows)]
        return sorted(scored, key=lambda column: [*DOMAINS].index(column.domain))

    @property
    def own_rows(self) -> list[Row]:
        return [row for row in self.rows if not row.published]

    @property
    def n_with_predictions(self) -> int:
        """How many of our models can be compared pair by pair on some corpus."""
        return sum(any(cell.has_predictions for cell in row.own_cells.values()) for row in self.own_rows)


@dataclass
class Board:
    """Everything a report shows. `views[0]` is the reference protocol at the last layer; the others follow by protocol, then layer. `benchmarks` are
    scores by other benchmarks' own programs. `damaged` are lines about files that are left out and may have been results: the report may have holes."""

    views: list[View]
    results: list[Filed]
    warnings: list[str]
    benchmarks: list[BenchmarkScore] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def last_layer_views(self) -> list[View]:
        return [view for view in self.views if view.layer == -1]
