"""The tables of a report as values: what stands in them, and which marks. Markdown and LaTeX only print them.

A cell's words (a score, a difference, a spread) are made here and nowhere else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from arch_hf.probing.estimate import FEWEST_UNITS
from arch_hf.reports.columns import AVERAGE_NAMES, DOMAINS, PAPER, TWELVE_KEYS, Column
from arch_hf.reports.layers import LayerTable, layer_tables
from arch_hf.reports.rows import Board, Cell, OwnCell, Row, View
from arch_hf.results.folder import layer_name
from arch_hf.results.result import Result
from arch_hf.results.text import hundredths, percent

NONE = "–"
MOST_DETAILED = 12  # models of ours whose results are printed one by one; the csv holds all
SHORT_REVISION = 12
TOO_FEW = "too few"


class Entry(NamedTuple):
    """A cell's text and its marks: best of its size class, best of all, incomplete."""

    text: str = NONE
    best_of_size: bool = False
    best: bool = False
    incomplete: bool = False


class Label(NamedTuple):
    """What names a line."""

    text: str
    audioset: bool = False
    published: bool = False


class Head(NamedTuple):
    """The head of a column, and the domain that it stands under."""

    text: str
    domain: str | None = None


class Line(NamedTuple):
    """One line; a rule stands where `group` changes."""

    label: Label
    entries: tuple[Entry, ...]
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table of text. `notes` are sentences for below it."""

    title: str
    heads: tuple[Head, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    @property
    def entries(self) -> Iterable[Entry]:
        return (entry for line in self.lines for entry in line.entries)


def report_tables(board: Board) -> list[Table]:
    """All tables of a report, in order; those with nothing to show are left out."""
    tables: list[Table] = []
    for view in board.last_layer_views:
        tables += [score_table(view), mean_table(view), detail_table(view), difference_table(view)]
    tables += map(layers_table, layer_tables(board))
    return [table for table in tables if table.lines]


def signed(value: float | None) -> str:
    """A difference in points.

    Examples:
        >>> signed(0.011), signed(-0.0005), signed(None)
        ('+1.10', '-0.05', '–')
    """
    return NONE if value is None else f"{hundredths(value):+.2f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """
    Examples:
        >>> interval((0.4, 0.51))
        '40.00 – 51.00'
    """
    return NONE if bounds is None else f"{percent(bounds[0])} – {percent(bounds[1])}"


def row_label(row: Row) -> Label:
    """The model's name with all that tells it from its namesakes."""
    name = row.name + (f" ({row.revision[:SHORT_REVISION]})" if row.revision else "")
    name += f" [{row.variant}]" if row.variant else ""
    name += f", also {', '.join(row.also)}" if row.also else ""
    return Label(name, row.audioset, row.published)


def score_entry(cell: Cell | None) -> Entry:
    if cell is None:
        return Entry()
    if cell.caveat is not None:
        return Entry(percent(cell.value), incomplete=True)
    return Entry(percent(cell.value), cell.best_of_size, cell.best)


def score_head(column: Column) -> Head:
    return Head(column.title + (" (mAP)" if column.metric == "map_macro" else ""), column.domain)


def _group(row: Row) -> str:
    return f"{row.published} {row.size}"


def _size(row: Row) -> Entry:
    return Entry(row.size or NONE)


def score_table(view: View) -> Table:
    """Every model on every corpus that one of them has a score on."""
    columns = view.shown_columns
    lines = [
        Line(row_label(row), (_size(row), *(score_entry(row.cells.get(c.key)) for c in columns)), _group(row))
        for row in view.rows
    ]
    return Table(view.title, (Head("Size"), *map(score_head, columns)), tuple(lines), tuple(view.notes))


def mean_table(view: View) -> Table:
    """Means over the corpora of a domain and over all twelve, and ranks, of the models that have them."""
    rows = [row for row in view.rows if any(value is not None for value in row.averages.values())]
    lines = [Line(row_label(row), (_size(row), *_means(row)), _group(row)) for row in rows]
    heads = (Head("Size"), *map(Head, AVERAGE_NAMES.values()), Head("Mean rank"), Head("Rank"))
    return Table(f"Means and ranks, {view.title}", heads, tuple(lines))


def _means(row: Row) -> list[Entry]:
    ranks = [NONE if row.mean_rank is None else f"{row.mean_rank:.2f}", str(row.rank or NONE)]
    return [Entry(text) for text in (*(percent(row.averages[name]) for name in AVERAGE_NAMES), *ranks)]


def difference_table(view: View) -> Table:
    """Ours minus published, of the models that the paper has too; ± where the paper's draw is not known."""
    columns = [column for column in view.columns if column.key in TWELVE_KEYS]
    lines = [
        Line(row_label(row), tuple(difference_entry(row.cells.get(column.key)) for column in columns))
        for row in view.own_rows
        if row.has_delta
    ]
    title = f"Ours minus published ({PAPER}), {view.title}, in points"
    return Table(title, tuple(Head(f"Δ {column.title}", column.domain) for column in columns), tuple(lines))


def difference_entry(cell: Cell | None) -> Entry:
    if cell is None or cell.uncertainty is None:
        return Entry(signed(cell.delta if cell else None))
    return Entry(f"{signed(cell.delta)} ± {hundredths(cell.uncertainty):.1f}")


def detail_table(view: View) -> Table:
    """Each of our results with its interval, its spread over folds and over seeds apart, its baselines and its few-shot scores."""
    title, rows = f"Our results one by one, {view.title}", view.own_rows
    if len(rows) > MOST_DETAILED:
        note = f"{len(rows)} models are too many to print one by one: leaderboard.csv has their intervals and spreads."
        return Table(title, (Head("Models"),), (Line(Label("ours"), (Entry(str(len(rows))),)),), (note,))
    shots = sorted(
        {shots for row in rows for cell in row.own_cells.values() for shots in cell.result.few_shot}, key=int
    )
    heads = ("Corpus", "Score", "95% interval", "Units", "std folds", "std seeds", "Majority", "MFCC")
    lines = [
        Line(row_label(row), _detail(column, row.own_cells[column.key], shots), row.model_id)
        for row in rows
        for column in view.shown_columns
        if column.key in row.own_cells
    ]
    notes = ["Few-shot: mean over folds and draws ± standard deviation over draws."] if shots else []
    if any(few_units(cell.result) is not None for row in rows for cell in row.own_cells.values()):
        what = (
            f"an interval drawn from fewer than {FEWEST_UNITS} units says little of how far others would move the score"
        )
        notes.append(f"{TOO_FEW}: {what}.")
    return Table(
        title, (*map(Head, heads), *(Head(f"{n}-shot") for n in shots), Head("Clips")), tuple(lines), tuple(notes)
    )


def few_units(result: Result) -> int | None:
    """From how many units an interval is drawn, where they are too few to say much."""
    units = result.bootstrap.get("n_units", FEWEST_UNITS)
    return units if result.headline.ci95 and units < FEWEST_UNITS else None


def _units(result: Result) -> str:
    """How many groups (speakers, recordings ...) or clips an interval is drawn from."""
    known = "n_units" in result.bootstrap
    return f"{result.bootstrap['n_units']}{f', {TOO_FEW}' if few_units(result) is not None else ''}" if known else NONE


def _detail(column: Column, cell: OwnCell, shots: Sequence[str]) -> tuple[Entry, ...]:
    result, score = cell.result, cell.result.headline
    baselines = [percent(result.baselines.get(name, {}).get(result.metric)) for name in ("majority", "mfcc")]
    spreads = [percent(score.std_folds), percent(score.std_seeds)]
    texts = [
        interval(score.ci95),
        _units(result),
        *spreads,
        *baselines,
        *(few_shot(cell, n) for n in shots),
        str(result.dataset.n_clips),
    ]
    return (Entry(column.title), score_entry(cell), *map(Entry, texts))


def few_shot(cell: OwnCell, shots: str) -> str:
    """The headline metric on so many clips per class."""
    few_shot = cell.result.few_shot.get(shots)
    block = few_shot.metrics.get(cell.result.metric) if few_shot else None
    return NONE if block is None else f"{percent(block['mean'])} ± {percent(block['std'])}"


def layers_table(layers: LayerTable) -> Table:
    """One model at each layer, a line per corpus."""
    lines = []
    for column in layers.columns:
        cells = [layers.cells.get((column.key, layer)) for layer in layers.layers]
        there = [cell for cell in cells if cell]
        alike = (
            len({cell.caveat for cell in there}) == 1
        )  # all layers of the same part of a corpus are fair to each other
        fair = there if alike else [cell for cell in there if cell.caveat is None]
        best = max((hundredths(cell.value) for cell in fair), default=None)
        lines.append(
            Line(Label(column.title), tuple(_layer_entry(cell, best if cell in fair else None) for cell in cells))
        )
    heads = tuple(Head(layer_name(layer)) for layer in layers.layers)
    return Table(f"Layers of {row_label(layers.row).text}, {layers.protocol}", heads, tuple(lines))


def _layer_entry(cell: Cell | None, best: float | None) -> Entry:
    if cell is None:
        return Entry()
    return Entry(percent(cell.value), best_of_size=hundredths(cell.value) == best, incomplete=cell.caveat is not None)


def domain_title(domain: str) -> str:
    return DOMAINS.get(domain, DOMAINS["other"])
