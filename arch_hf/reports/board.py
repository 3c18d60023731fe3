"""The leaderboard as data: rows, columns, what is best, averages, ranks, differences. Every output format prints this.

One view is one protocol (with its version) at one layer, so that a column never holds scores that cannot be compared. The paper's
Table 2 stands in the view that it belongs to: arch-v1, last layer.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arch_hf.probing.protocols import get_protocol
from arch_hf.results.folder import Filed
from arch_hf.results.result import Result
from arch_hf.results.table2 import TABLE2_MODELS

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


@dataclass
class Cell:
    """One score (a fraction). `caveat` set: shown and marked, never ranked, averaged or best. `delta`: ours minus published."""

    value: float
    caveat: str | None = None
    delta: float | None = None
    best_of_size: bool = False
    best: bool = False
    rank: float | None = None
    result: Result | None = None  # None: published
    path: Path | None = None  # of the result's file


@dataclass
class Row:
    """One model in one view: published (from the paper) or ours. `size` is "B", "L", "XL" or ""."""

    name: str
    model_id: str
    revision: str | None
    size: str
    audioset: bool
    published: bool
    n_parameters: int | None = None
    gflop_per_second: float | None = None
    cells: dict[str, Cell] = field(default_factory=dict)
    averages: dict[str, float | None] = field(default_factory=dict)  # by domain, and "all" twelve
    mean_rank: float | None = None
    rank: int | None = None

    def comparable(self, column: str) -> float | None:
        """The score where it may be ranked, else None."""
        cell = self.cells.get(column)
        return cell.value if cell and cell.caveat is None else None

    @property
    def is_complete(self) -> bool:
        """Whether all twelve corpora have a score that may be ranked."""
        return all(self.comparable(column) is not None for column in TWELVE_KEYS)


@dataclass
class View:
    """One protocol at one layer: the rows and columns of one table."""

    protocol: str
    version: str
    layer: int
    columns: tuple[Column, ...]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return f"{self.protocol} {self.version}, {layer_name(self.layer)}".replace(" ,", ",")

    @property
    def slug(self) -> str:
        """The view's name in one word, for column names: `arch-v1/last`."""
        return f"{self.protocol}/{'last' if self.layer == -1 else f'layer{self.layer}'}"

    @property
    def own_rows(self) -> list[Row]:
        return [row for row in self.rows if not row.published]


@dataclass
class Board:
    """Everything a report shows. `views[0]` is arch-v1 at the last layer; the others follow by protocol, then layer."""

    views: list[View]
    results: list[Filed]
    warnings: list[str]


def layer_name(layer: int) -> str:
    return "last layer" if layer == -1 else f"layer {layer}"


def size_class(n_parameters: int | None) -> str:
    """The paper's size class for a number of parameters; "" where it is not known or there are none.

    Example:
        >>> size_class(94_371_712), size_class(315_438_720), size_class(962_000_000), size_class(None)
        ('B', 'L', 'XL', '')
    """
    if not n_parameters:
        return ""
    return next(size for size, limit in SIZE_LIMITS.items() if n_parameters < limit)


def percent(value: float) -> float:
    """A fraction as the percentage that tables show: two decimals. Ties are decided on this.

    Example:
        >>> percent(0.58904)
        58.9
    """
    return round(100 * value + 1e-9, 2)


def build_board(results: Iterable[Filed]) -> Board:
    """Sort results into views, set the paper's rows beside those they compare with, and work out what is best.

    Example:
        >>> board = build_board([])
        >>> board.views[0].title, len(board.views[0].rows), board.views[0].rows[0].name
        ('arch-v1 1.0, last layer', 16, 'W2V2')
        >>> [row.name for row in board.views[0].rows if row.cells["us8k"].best]
        ['HuBERT-AS']
    """
    results = list(results)
    groups: dict[tuple[str, str, int], list[Filed]] = {(*reference_protocol(), -1): []}
    for filed in results:
        protocol = filed.result.protocol
        key = (protocol["name"], str(protocol["version"]), filed.result.layer)
        groups.setdefault(key, []).append(filed)
    warnings: list[str] = []
    views = [
        _build_view(*key, groups[key], warnings)
        for key in sorted(groups, key=lambda key: (key[0] != "arch-v1", key[0], key[1], key[2]))
    ]
    return Board(views, results, warnings)


def reference_protocol() -> tuple[str, str]:
    """Name and version of the protocol that Table 2 belongs to."""
    protocol = get_protocol("arch-v1")
    return protocol.name, protocol.version


def _build_view(protocol: str, version: str, layer: int, filed: Sequence[Filed], warnings: list[str]) -> View:
    published = published_rows() if (protocol, layer) == ("arch-v1", -1) else []
    own: dict[tuple, Row] = {}
    for path, result in filed:
        model = result.model
        row = own.setdefault((model.id, model.revision, model.weights_sha256), _own_row(result))
        if result.corpus in row.cells:
            kept = row.cells[result.corpus].path
            warnings.append(f"{path}: left out, {kept} holds the same model, corpus, protocol and layer")
            continue
        row.cells[result.corpus] = Cell(result.headline.mean, result.caveat, result=result, path=path)
    rows = published + sorted(own.values(), key=lambda row: (row.model_id.lower(), row.model_id, row.revision or ""))
    rows.sort(key=lambda row: (*SIZES, "").index(row.size))  # stable: by size, published first
    view = View(protocol, version, layer, _columns(result for _, result in filed), rows)
    _set_differences(view)
    _mark_best(view)
    _average(view)
    _rank(view)
    view.notes = _notes(view)
    return view


def published_rows() -> list[Row]:
    """The sixteen rows of Table 2."""
    return [
        Row(
            name=model.name,
            model_id=model.model_id,
            revision=None,
            size=model.size,
            audioset=model.audioset,
            published=True,
            n_parameters=model.n_parameters,
            gflop_per_second=model.gflop_per_second,
            cells={corpus: Cell(score) for corpus, score in model.scores.items()},
        )
        for model in TABLE2_MODELS
    ]


def _own_row(result: Result) -> Row:
    model = result.model
    known = next((row for row in TABLE2_MODELS if row.model_id == model.id), None)
    return Row(
        name=model.id,
        model_id=model.id,
        revision=model.revision,
        size=known.size if known else size_class(model.n_parameters),
        audioset=bool(known and known.audioset),
        published=False,
        n_parameters=model.n_parameters or None,
        gflop_per_second=model.gflop_per_second or (known.gflop_per_second if known else None),
    )


def _columns(results: Iterable[Result]) -> tuple[Column, ...]:
    """The twelve, then whatever else was evaluated, by name."""
    others = {result.corpus: result for result in results if result.corpus not in TWELVE_KEYS}
    return TWELVE + tuple(Column(key, key, "other", others[key].metric) for key in sorted(others))


def _set_differences(view: View) -> None:
    published = {row.model_id: row for row in view.rows if row.published}
    for row in view.own_rows:
        if row.model_id in published:
            for corpus, cell in row.cells.items():
                reference = published[row.model_id].cells.get(corpus)
                if reference and cell.caveat is None:
                    cell.delta = cell.value - reference.value


def _mark_best(view: View) -> None:
    """Best of each size class, and best of all, among comparable scores as shown: equal percentages share the mark."""
    for column in view.columns:
        scored = [(row, row.cells[column.key]) for row in view.rows if row.comparable(column.key) is not None]
        for size in SIZES:
            for cell in _highest([cell for row, cell in scored if row.size == size]):
                cell.best_of_size = True
        for cell in _highest([cell for _, cell in scored]):
            cell.best = True


def _highest(cells: Sequence[Cell]) -> list[Cell]:
    top = max((percent(cell.value) for cell in cells), default=None)
    return [cell for cell in cells if percent(cell.value) == top]


def _average(view: View) -> None:
    """Plain means over the corpora of a domain, and over the twelve; None unless every one of them has a comparable score."""
    groups = {domain: [c.key for c in TWELVE if c.domain == domain] for domain in ("events", "music", "speech")}
    for row in view.rows:
        for name, corpora in {**groups, "all": list(TWELVE_KEYS)}.items():
            scores = [row.comparable(corpus) for corpus in corpora]
            row.averages[name] = None if None in scores else sum(scores) / len(scores)


def _rank(view: View) -> None:
    """Rank in each column (1 is best, ties share their mean rank); over all, by mean rank, the rows that have all twelve."""
    for column in view.columns:
        cells = [row.cells[column.key] for row in view.rows if row.comparable(column.key) is not None]
        for cell, rank in zip(cells, tied_ranks([percent(cell.value) for cell in cells]), strict=True):
            cell.rank = rank
    complete = [row for row in view.rows if row.is_complete]
    mean_ranks = mean_rank_of(complete, TWELVE_KEYS)
    for row, mean_rank in zip(complete, mean_ranks, strict=True):
        row.mean_rank = mean_rank
        row.rank = 1 + sum(other < mean_rank for other in mean_ranks)


def tied_ranks(scores: Sequence[float]) -> list[float]:
    """Ranks from the highest score down, 1 first; ties share the mean of their places.

    Example:
        >>> tied_ranks([0.9, 0.5, 0.9])
        [1.5, 3.0, 1.5]
    """
    counts, ranks, place = Counter(scores), {}, 0
    for score in sorted(counts, reverse=True):
        ranks[score] = place + (counts[score] + 1) / 2
        place += counts[score]
    return [ranks[score] for score in scores]


def mean_rank_of(rows: Sequence[Row], corpora: Sequence[str]) -> list[float]:
    """Each row's rank among these rows, averaged over the corpora; every row must have a score for each."""
    if not rows:
        return []
    ranks = [tied_ranks([percent(row.cells[corpus].value) for row in rows]) for corpus in corpora]
    return [sum(of_row) / len(corpora) for of_row in zip(*ranks, strict=True)]


def _notes(view: View) -> list[str]:
    """What a reader must know to trust a column."""
    notes = []
    for column in view.columns:
        results = [row.cells[column.key].result for row in view.own_rows if row.comparable(column.key) is not None]
        sizes = sorted({result.dataset.n_clips for result in results})
        if len(sizes) > 1:
            notes.append(
                f"{column.title}: the scores come from different numbers of clips ({', '.join(map(str, sizes))})"
            )
    marked = sum(cell.caveat is not None for row in view.rows for cell in row.cells.values())
    if marked:
        notes.append(
            f"{marked} incomplete or limited result{'s' * (marked > 1)}: marked, and not ranked, averaged or best"
        )
    return notes


@dataclass
class LayerTable:
    """One model under one protocol at every layer that was evaluated; `cells` by (corpus, layer). The last layer (-1) comes last."""

    model_id: str
    revision: str | None
    protocol: str
    n_layers: int | None
    layers: list[int]
    columns: tuple[Column, ...]
    cells: dict[tuple[str, int], Cell]


def layer_tables(board: Board) -> list[LayerTable]:
    """A table for each of our models that has scores at two layers or more, in the order of the views."""
    tables: dict[tuple, LayerTable] = {}
    for view in board.views:
        for row in view.own_rows:
            first = next(iter(row.cells.values())).result.model
            key = (first.id, first.revision, first.weights_sha256, view.protocol, view.version)
            table = tables.get(key)
            if table is None:
                name = f"{view.protocol} {view.version}"
                table = tables[key] = LayerTable(row.model_id, row.revision, name, first.n_layers, [], (), {})
            table.layers.append(view.layer)
            table.cells.update({(corpus, view.layer): cell for corpus, cell in row.cells.items()})
            table.columns = tuple(c for c in view.columns if c.key in row.cells or c in table.columns)
    found = [table for table in tables.values() if len(table.layers) > 1]
    for table in found:
        table.layers.sort(key=lambda layer: (layer == -1, layer))
    return found
