"""Plots that look inside: intervals by corpus, curves over the layers, confusion matrices."""

from collections.abc import Callable, Iterator

from matplotlib.figure import Figure

from arch_hf.reports.board import TWELVE_KEYS, Board, Column, LayerTable, Row, View, layer_name, layer_tables
from arch_hf.reports.plots_style import (
    COLOURS,
    DASHES,
    MARKERS,
    MOST_IN_RADAR,
    axes_at,
    label,
    name_rows,
    panel_grid,
    row_label,
    safe_name,
    text_width,
)
from arch_hf.results.result import Result

MOST_IN_INTERVALS = 10
MOST_CONFUSIONS = 6


def intervals(view: View) -> Figure:
    """One panel per corpus: our scores with their 95% intervals, best first, and the same models' published scores as rings."""
    columns = [column for column in view.columns if any(column.key in row.cells for row in view.own_rows)]
    rows = {column.key: _interval_rows(view, column) for column in columns}
    titles = [
        f"{label(column.title)} ({'mAP' if column.metric == 'map_macro' else 'accuracy'}, %)" for column in columns
    ]
    left = 0.3 + text_width({row_label(row) for chosen in rows.values() for row in chosen}, 7)
    width = max(2.4, text_width(titles, 9))
    heights = [0.16 * max(3, len(rows[column.key])) for column in columns]
    figure, panels = panel_grid(left, width, heights)
    published = {row.model_id: row for row in view.rows if row.published}
    for column, title, axes in zip(columns, titles, panels, strict=True):
        _draw_intervals(axes, rows[column.key], column, published)
        name_rows(axes, [row_label(row) for row in rows[column.key]], 7)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(title, fontsize=9)
    figure.suptitle(f"ARCH, {label(view.title)}: 95% intervals; ring: published; grey: incomplete")
    return figure


def _interval_rows(view: View, column: Column) -> list[Row]:
    rows = [row for row in view.own_rows if column.key in row.cells]
    return sorted(rows, key=lambda row: -row.cells[column.key].value)[:MOST_IN_INTERVALS]


def _draw_intervals(axes, rows: list[Row], column: Column, published: dict[str, Row]) -> None:
    for ranked, colour in ((True, COLOURS[0]), (False, "#999999")):
        chosen = [(place, row.cells[column.key]) for place, row in enumerate(rows)]
        chosen = [(place, cell) for place, cell in chosen if (cell.caveat is None) == ranked]
        bars = [(place, *cell.result.headline.ci95) for place, cell in chosen if cell.result.headline.ci95]
        if bars:
            places, lows, highs = zip(*bars, strict=True)
            axes.hlines(
                places, [100 * v for v in lows], [100 * v for v in highs], color=colour, linewidth=2.4, alpha=0.55
            )
        axes.plot(
            [100 * cell.value for _, cell in chosen], [place for place, _ in chosen], "o", color=colour, markersize=5
        )
    rings = [
        (place, published[row.model_id].cells.get(column.key))
        for place, row in enumerate(rows)
        if row.model_id in published
    ]
    rings = [(100 * cell.value, place) for place, cell in rings if cell]
    if rings:
        axes.plot(*zip(*rings, strict=True), "o", markerfacecolor="none", color="black", markersize=8)


def layer_plots(board: Board) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """One figure per protocol: a panel per corpus, a line per model."""
    tables = layer_tables(board)
    for protocol in dict.fromkeys(table.protocol for table in tables):
        chosen = [table for table in tables if table.protocol == protocol][:MOST_IN_RADAR]
        yield f"layers_{safe_name(protocol)}", lambda chosen=chosen, protocol=protocol: layer_curves(chosen, protocol)


def layer_curves(tables: list[LayerTable], protocol: str) -> Figure:
    """Score by layer with its 95% band. The last layer stands at the right end, apart from the numbered ones."""
    columns = list(dict.fromkeys(column for table in tables for column in table.columns if _is_layered(table, column)))
    columns.sort(key=lambda column: TWELVE_KEYS.index(column.key) if column.key in TWELVE_KEYS else len(TWELVE_KEYS))
    layers = sorted({layer for table in tables for layer in table.layers}, key=lambda layer: (layer == -1, layer))
    figure, panels = panel_grid(0.55, 3.0, [1.9] * len(columns), below=0.35)
    step = -(-len(layers) // 9)
    ticks = [
        place for place, layer in enumerate(layers) if layer == -1 or (place % step == 0 and place < len(layers) - 2)
    ]
    for column, axes in zip(columns, panels, strict=True):
        for index, table in enumerate(tables):
            _draw_layers(axes, table, column, layers, index)
        axes.set_xticks(ticks, ["last" if layers[place] == -1 else str(layers[place]) for place in ticks])
        axes.set_title(label(column.title), fontsize=9)
    figure.suptitle(f"ARCH, {label(protocol)}, score (%) by layer (band: 95% interval)")
    handles = {
        name: handle for axes in figure.axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=min(len(panels), 3, len(handles)))
    return figure


def _is_layered(table: LayerTable, column: Column) -> bool:
    return sum((column.key, layer) in table.cells for layer in table.layers) > 1


def _draw_layers(axes, table: LayerTable, column: Column, layers: list[int], index: int) -> None:
    found = [
        (layers.index(layer), table.cells[column.key, layer])
        for layer in table.layers
        if (column.key, layer) in table.cells
    ]
    if not found:
        return
    places = [place for place, _ in found]
    look = {"color": COLOURS[index], "linestyle": DASHES[index], "marker": MARKERS[index]}
    name = label(table.model_id) + (f" @ {table.revision[:7]}" if table.revision else "")
    axes.plot(places, [100 * cell.value for _, cell in found], markersize=3.5, linewidth=1.5, label=name, **look)
    bands = [(place, *cell.result.headline.ci95) for place, cell in found if cell.result.headline.ci95]
    if bands:
        at, low, high = zip(*bands, strict=True)
        axes.fill_between(
            at, [100 * v for v in low], [100 * v for v in high], color=COLOURS[index], alpha=0.13, linewidth=0
        )


def confusion_plots(board: Board) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """The matrices of our best-ranked models at the last layer, a dozen at most."""
    found: dict[str, Result] = {}
    for view in board.views:
        rows = sorted(view.own_rows, key=lambda row: (row.rank is None, row.rank or 0)) if view.layer == -1 else []
        for row in rows:
            for cell in row.cells.values():
                result = cell.result
                if result.confusion and len(found) < MOST_CONFUSIONS:
                    parts = [result.model.id, result.corpus] + (
                        [result.protocol["name"]] if result.protocol["name"] != "arch-v1" else []
                    )
                    name = "confusion_" + "_".join(map(safe_name, parts))
                    while name in found:
                        name += "_"
                    found[name] = result
    for name, result in found.items():
        yield name, lambda result=result: confusion(result)


def confusion(result: Result) -> Figure:
    """Rows are the truth, each adds up to 100%. Cividis grows lighter evenly, so that it reads in grey and for any colour vision."""
    n = len(result.per_class)
    shares = [[100 * count / (sum(row) or 1) for count in row] for row in result.confusion]
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
