"""Plots that look inside: intervals by corpus, confusion matrices."""

from collections.abc import Callable
from functools import partial

from matplotlib.figure import Figure

from arch_hf.reports.columns import Column
from arch_hf.reports.plots_style import (
    COLOURS,
    axes_at,
    entitle,
    label,
    name_rows,
    panel_grid,
    plot_label,
    safe_name,
    text_width,
)
from arch_hf.reports.rows import Board, OwnCell, Row, View
from arch_hf.results.folder import layer_name
from arch_hf.results.result import Result

MOST_IN_INTERVALS = 10
MOST_CONFUSIONS = 6


def intervals(view: View) -> Figure:
    """One panel per corpus: our scores with their 95% intervals, best first, and the same models' published scores as rings."""
    columns = [column for column in view.columns if any(column.key in row.cells for row in view.own_rows)]
    rows = {column.key: _interval_rows(view, column) for column in columns}
    titles = [_interval_title(column, view) for column in columns]
    left = 0.3 + text_width({plot_label(row) for chosen in rows.values() for row in chosen}, 7)
    width = max(2.4, text_width(titles, 9))
    heights = [0.16 * max(3, len(rows[column.key])) for column in columns]
    figure, panels = panel_grid(left, width, heights)
    published = {row.model_id: row for row in view.rows if row.published}
    for column, title, axes in zip(columns, titles, panels, strict=True):
        _draw_intervals(axes, rows[column.key], column, published)
        name_rows(axes, [plot_label(row) for row in rows[column.key]], 7)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(title, fontsize=9)
    entitle(figure, f"ARCH, {label(view.title)}: 95% intervals; ring: published; grey: incomplete")
    return figure


def _interval_rows(view: View, column: Column) -> list[Row]:
    rows = [row for row in view.own_rows if column.key in row.cells]
    return sorted(rows, key=lambda row: -row.cells[column.key].value)[:MOST_IN_INTERVALS]


def _interval_title(column: Column, view: View) -> str:
    """The corpus, and how many models there are beyond those that are shown."""
    n_rows = sum(column.key in row.cells for row in view.own_rows)
    shown = f"; best {MOST_IN_INTERVALS} of {n_rows}" if n_rows > MOST_IN_INTERVALS else ""
    return f"{label(column.title)} ({'mAP' if column.metric == 'map_macro' else 'accuracy'}, %{shown})"


def _draw_intervals(axes, rows: list[Row], column: Column, published: dict[str, Row]) -> None:
    cells = [row.own_cells[column.key] for row in rows]
    for ranked, colour in ((True, COLOURS[0]), (False, "#999999")):
        chosen = [(place, cell) for place, cell in enumerate(cells) if (cell.caveat is None) == ranked]
        bars = [(place, cell.result.headline.ci95) for place, cell in chosen]
        for place, bounds in bars:
            if bounds:
                axes.hlines(place, 100 * bounds[0], 100 * bounds[1], color=colour, linewidth=2.4, alpha=0.55)
        axes.plot(
            [100 * cell.value for _, cell in chosen], [place for place, _ in chosen], "o", color=colour, markersize=5
        )
    for place, row in enumerate(rows):
        ring = published[row.model_id].cells.get(column.key) if row.model_id in published else None
        if ring:
            axes.plot(100 * ring.value, place, "o", markerfacecolor="none", color="black", markersize=8)


Plan = tuple[str, Callable[[], Figure]]  # the name of a plot's files, and what draws it


def confusion_plots(board: Board) -> tuple[list[Plan], list[str]]:
    """The matrices of our best-ranked models at the last layer, a few at most; and a line about those that are left out."""
    cells = [cell for view in board.last_layer_views for row in _by_rank(view) for cell in row.own_cells.values()]
    with_matrix = [cell for cell in cells if cell.result.confusion]
    found: dict[str, Result] = {}
    for cell in with_matrix[:MOST_CONFUSIONS]:
        name = _confusion_name(cell)
        while name in found:
            name += "_"
        found[name] = cell.result
    more = len(with_matrix) - len(found)
    notes = (
        [f"{more} confusion matrices, beyond the {MOST_CONFUSIONS} of the best-ranked models; the page has them"]
        if more > 0
        else []
    )
    return [(name, partial(confusion, result)) for name, result in found.items()], notes


def _by_rank(view: View) -> list[Row]:
    return sorted(view.own_rows, key=lambda row: (row.rank is None, row.rank or 0))


def _confusion_name(cell: OwnCell) -> str:
    result, protocol = cell.result, cell.result.protocol["name"]
    parts = [result.model.id, result.corpus, *([protocol] if protocol != "arch-v1" else [])]
    return "confusion_" + "_".join(map(safe_name, parts))


def confusion(result: Result) -> Figure:
    """Rows are the truth, each adds up to 100%. Cividis grows lighter evenly, so that it reads in grey and for any colour vision."""
    n = len(result.per_class)
    shares = [[100 * count / (sum(row) or 1) for count in row] for row in result.confusion or ()]
    names = [label(name, 24) for name in result.class_names]
    size, cell = (8, 0.32) if n <= 20 else (6, 0.17) if n <= 60 else (4.5, min(0.11, 13 / n))
    side, room = max(2.6, cell * n), text_width(names, size) + 0.5
    figure = Figure(figsize=(room + side + 3, room + side + 0.8))
    axes = axes_at(figure, room, room, side, side)
    axes.set_axis_off()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100, interpolation="nearest")
    name_rows(axes, names, size)
    for place, name in enumerate(names):
        axes.text(place, n - 0.5 + 0.08 * n / side, name, rotation=90, ha="center", va="top", size=size)
    if n <= 12:
        for truth, row in enumerate(shares):
            for guess, share in enumerate(row):
                if share >= 0.5:
                    colour = "black" if share > 55 else "white"
                    axes.text(guess, truth, f"{share:.0f}", ha="center", va="center", size=7, color=colour)
    figure.text(
        0.15 / figure.get_figwidth(), (room + side / 2) / figure.get_figheight(), "Truth", rotation=90, va="center"
    )
    figure.text((room + side / 2) / figure.get_figwidth(), 0.15 / figure.get_figheight(), "Guess", ha="center")
    axes.set_title(
        f"{label(result.model.id, 48)}\n{label(result.corpus)}, {label(result.protocol['name'])}, {layer_name(result.layer)}"
    )
    figure.colorbar(image, cax=axes_at(figure, room + side + 0.15, room, 0.16, side), label="Share of the row (%)")
    return figure
