"""The score over the layers: a panel per corpus, a line per model, models of different depth on one relative axis."""

from functools import partial

from matplotlib.figure import Figure

from arch_hf.reports.columns import TWELVE_KEYS, Column
from arch_hf.reports.layers import LayerTable, layer_tables
from arch_hf.reports.plots_detail import Plan
from arch_hf.reports.plots_style import (
    COLOURS,
    DASHES,
    MARKERS,
    MOST_IN_RADAR,
    entitle,
    label,
    left_out,
    panel_grid,
    plot_label,
    room_for,
    safe_name,
    write_notes,
)
from arch_hf.reports.rows import Board


def layer_plots(board: Board) -> list[Plan]:
    """One figure per protocol."""
    tables = layer_tables(board)
    protocols = dict.fromkeys(table.protocol for table in tables)
    plans: list[Plan] = []
    for protocol in protocols:
        chosen = [table for table in tables if table.protocol == protocol]
        if any(_on_axis(table) for table in chosen):
            plans.append((f"layers_{safe_name(protocol)}", partial(layer_curves, chosen, protocol)))
    return plans


def _on_axis(table: LayerTable) -> bool:
    """Whether it is known where its layers lie."""
    return all(table.depth(layer) is not None for layer in table.layers)


def layer_curves(tables: list[LayerTable], protocol: str) -> Figure:
    """Score by depth with its 95% band: 0 is the output of the convolutions or patches, 1 the last layer."""
    placed = [table for table in tables if _on_axis(table)]
    shown = placed[:MOST_IN_RADAR]
    notes = left_out(
        [table.row for table in tables if not _on_axis(table)], "the number of layers is not in the results"
    )
    notes += left_out([table.row for table in placed[MOST_IN_RADAR:]], f"beyond {MOST_IN_RADAR} lines")
    columns = list(dict.fromkeys(column for table in shown for column in table.columns if _is_layered(table, column)))
    columns.sort(key=lambda column: TWELVE_KEYS.index(column.key) if column.key in TWELVE_KEYS else len(TWELVE_KEYS))
    legend_lines = -(-len(shown) // min(max(len(columns), 1), 3))
    below = room_for(notes)
    figure, panels = panel_grid(0.55, 3.0, [1.9] * len(columns), below=0.35 + 0.2 * legend_lines + below)
    for column, axes in zip(columns, panels, strict=True):
        for index, table in enumerate(shown):
            _draw_layers(axes, table, column, index)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "last"])
        axes.set_title(label(column.title), fontsize=9)
    entitle(figure, f"ARCH, {label(protocol)}, score (%) by relative depth (band: 95% interval)")
    names = {
        name: handle for axes in figure.axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    place = (0.5, (0.05 + below) / figure.get_figheight())
    figure.legend(
        names.values(), names.keys(), loc="lower center", bbox_to_anchor=place, ncols=min(len(panels), 3, len(names))
    )
    write_notes(figure, notes)
    return figure


def _is_layered(table: LayerTable, column: Column) -> bool:
    return sum((column.key, layer) in table.cells for layer in table.layers) > 1


def _draw_layers(axes, table: LayerTable, column: Column, index: int) -> None:
    found = [
        (table.depth(layer), table.cells[column.key, layer])
        for layer in table.layers
        if (column.key, layer) in table.cells
    ]
    if not found:
        return
    look = {"color": COLOURS[index], "linestyle": DASHES[index], "marker": MARKERS[index]}
    name = plot_label(table.row) + (f", {table.n_layers} layers" if table.n_layers else "")
    scores = [100 * cell.value for _, cell in found]
    axes.plot([depth for depth, _ in found], scores, markersize=3.5, linewidth=1.5, label=name, **look)
    bands = [(depth, *cell.result.headline.ci95) for depth, cell in found if cell.result.headline.ci95]
    if bands:
        at, low, high = zip(*bands, strict=True)
        edges = [100 * v for v in low], [100 * v for v in high]
        axes.fill_between(at, *edges, color=COLOURS[index], alpha=0.13, linewidth=0)
