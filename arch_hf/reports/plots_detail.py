"""Plots that look inside: intervals by corpus, curves over the layers, confusion matrices."""

from collections.abc import Callable, Iterator

from matplotlib.figure import Figure

from arch_hf.reports.board import TWELVE_KEYS, Board, Column, LayerTable, Row, View, layer_name, layer_tables
from arch_hf.reports.plots import (
    COLOURS,
    DASHES,
    MARKERS,
    MOST_CONFUSIONS,
    MOST_IN_INTERVALS,
    MOST_IN_RADAR,
    label,
    row_label,
    safe_name,
)
from arch_hf.reports.reading import Result


def intervals(view: View) -> Figure:
    """One panel per corpus: our scores with their 95% intervals, best first, and the same models' published scores as rings."""
    columns = [column for column in view.columns if any(column.key in row.cells for row in view.own_rows)]
    rows = {column.key: _interval_rows(view, column) for column in columns}
    wide = min(3, len(columns))
    deep = -(-len(columns) // wide)
    tallest = max(len(chosen) for chosen in rows.values())
    width, height = 4.4 * wide, 0.7 + deep * (0.8 + 0.22 * tallest)
    figure = Figure(figsize=(width, height))
    panels = figure.subplots(deep, wide, squeeze=False).flat
    # Room for the names left of each panel, set by hand: a layout that measures every name takes seconds.
    figure.subplots_adjust(left=2.1 / width, right=1 - 0.15 / width, top=1 - 0.75 / height, bottom=0.35 / height)
    figure.subplots_adjust(wspace=2.15 / (4.4 - 2.2), hspace=0.65 / (0.15 + 0.22 * tallest))
    published = {row.model_id: row for row in view.rows if row.published}
    for column, axes in zip(columns, panels, strict=False):
        _draw_intervals(axes, rows[column.key], column, published)
        axes.set_yticks(range(len(rows[column.key])), [row_label(row) for row in rows[column.key]], fontsize=7)
        axes.set_ylim(len(rows[column.key]) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_title(
            f"{label(column.title)} ({'mAP' if column.metric == 'map_macro' else 'accuracy'}, %)", fontsize=9
        )
    for axes in panels:
        axes.set_visible(False)
    figure.suptitle(f"ARCH, {label(view.title)}: 95% intervals; ring: published; grey: incomplete")
    return figure


def _interval_rows(view: View, column: Column) -> list[Row]:
    rows = [row for row in view.own_rows if column.key in row.cells]
    return sorted(rows, key=lambda row: -row.cells[column.key].value)[:MOST_IN_INTERVALS]


def _draw_intervals(axes, rows: list[Row], column: Column, published: dict[str, Row]) -> None:
    for ranked, colour in ((True, COLOURS[0]), (False, "#999999")):
        chosen = [(place, row.cells[column.key]) for place, row in enumerate(rows)]
        chosen = [(place, cell) for place, cell in chosen if (cell.caveat is None) == ranked]
        bars = [(place, *cell.result.interval) for place, cell in chosen if cell.result.interval]
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
    wide = min(3, len(columns))
    deep = -(-len(columns) // wide)
    figure = Figure(figsize=(1.2 + 3.4 * wide, 1.0 + 2.3 * deep), layout="constrained")
    panels = figure.subplots(deep, wide, squeeze=False).flat
    for column, axes in zip(columns, panels, strict=False):
        for index, table in enumerate(tables):
            _draw_layers(axes, table, column, layers, index)
        step = -(-len(layers) // 9)
        ticks = [place for place, layer in enumerate(layers) if layer == -1 or place % step == 0]
        axes.set_xticks(ticks, ["last" if layers[place] == -1 else str(layers[place]) for place in ticks])
        axes.set_title(label(column.title), fontsize=9)
    for axes in panels:
        axes.set_visible(False)
    figure.supylabel("Score (%)")
    figure.suptitle(f"ARCH, {label(protocol)}, score by layer (band: 95% interval)")
    handles = {
        name: handle for axes in figure.axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(3, len(handles)))
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
    bands = [(place, *cell.result.interval) for place, cell in found if cell.result.interval]
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
                    parts = [result.model_id, result.corpus] + (
                        [result.protocol] if result.protocol != "arch-v1" else []
                    )
                    name = "confusion_" + "_".join(map(safe_name, parts))
                    while name in found:
                        name += "_"
                    found[name] = result
    for name, result in found.items():
        yield name, lambda result=result: confusion(result)


def confusion(result: Result) -> Figure:
    """Rows are the truth, each adds up to 100%. Cividis grows lighter evenly, so that it reads in grey and for any colour vision."""
    n = len(result.classes)
    shares = [[100 * count / (sum(row) or 1) for count in row] for row in result.confusion]
    side = max(3.6, min(13.0, 1.6 + 0.24 * n))
    figure = Figure(figsize=(side + 1.6, side + 0.6))
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100)
    size = 8 if n <= 20 else 6 if n <= 60 else 4.5
    axes.set_xticks(range(n), [label(name, 24) for name in result.classes], rotation=90, fontsize=size)
    axes.set_yticks(range(n), [label(name, 24) for name in result.classes], fontsize=size)
    axes.grid(False)
    axes.tick_params(length=0)
    if n <= 12:
        for truth, row in enumerate(shares):
            for guess, share in enumerate(row):
                if share >= 0.5:
                    axes.text(
                        guess,
                        truth,
                        f"{share:.0f}",
                        ha="center",
                        va="center",
                        fontsize=7,
                        color="black" if share > 55 else "white",
                    )
    axes.set_xlabel("Guess")
    axes.set_ylabel("Truth")
    axes.set_title(
        f"{label(result.model_id, 48)}\n{label(result.corpus)}, {label(result.protocol)}, {layer_name(result.layer)}"
    )
    figure.colorbar(image, ax=axes, label="Share of the row (%)", fraction=0.046, pad=0.03)
    return figure
