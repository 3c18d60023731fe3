"""The critical-difference picture: which models the twelve corpora tell apart."""

from dataclasses import dataclass
from itertools import combinations

from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from arch_hf.probing.estimate import LEVEL, holm, over_units
from arch_hf.reports.columns import TWELVE_KEYS
from arch_hf.reports.plots_style import (
    COLOURS,
    axes_at,
    label,
    left_out,
    name_rows,
    plot_label,
    room_for,
    text_width,
    write_notes,
)
from arch_hf.reports.rows import Row, View

MOST_IN_RANKS = 24


@dataclass(frozen=True)
class ToldApart:
    """Models from the best mean over the twelve to the worst, and the pairs of places that are told apart."""

    rows: list[Row]
    pairs: set[tuple[int, int]]
    notes: list[str]


def tell_apart(view: View) -> ToldApart:
    """The test of `arch-hf compare`'s last line (the corpora are the units) for every pair, Holm-corrected for the number of pairs."""
    complete = sorted((row for row in view.rows if row.is_complete), key=lambda row: -(row.averages["all"] or 0.0))
    rows = complete[:MOST_IN_RANKS]
    pairs = list(combinations(range(len(rows)), 2))
    scores = [[row.cells[key].value for key in TWELVE_KEYS] for row in rows]
    estimates = [over_units([a - b for a, b in zip(scores[i], scores[j], strict=True)]) for i, j in pairs]
    corrected = holm([1.0 if estimate.p is None else estimate.p for estimate in estimates])
    notes = left_out([row for row in view.own_rows if not row.is_complete], "without comparable scores on all twelve")
    return ToldApart(
        rows=rows,
        pairs={pair for pair, p in zip(pairs, corrected, strict=True) if p < LEVEL},
        notes=notes + left_out(complete[MOST_IN_RANKS:], f"beyond the best {MOST_IN_RANKS}"),
    )


def critical_difference(view: View) -> Figure:
    """Each model at its mean over the twelve; beside it, a filled square under the number of every model that it is told apart from."""
    ranks = tell_apart(view)
    rows, size = ranks.rows, 0.22
    names = [f"{plot_label(row)}  {place + 1}" for place, row in enumerate(rows)]
    notes = [
        "A filled square: the two differ at 5% (paired t tests with the twelve corpora as units, Holm-corrected for all pairs). An open one: no difference shown.",
        *ranks.notes,
    ]
    below, left, height = room_for(notes), text_width(names, 9) + 0.3, size * len(rows)
    figure = Figure(figsize=(max(left + 4.3 + height, 8.8), 1.15 + height + below))
    axes = axes_at(figure, left, 0.55 + below, 3.9, height)
    for published, colour in ((True, COLOURS[0]), (False, COLOURS[1])):
        means = [
            (100 * (row.averages["all"] or 0.0), place) for place, row in enumerate(rows) if row.published == published
        ]
        if means:
            axes.plot(*zip(*means, strict=True), "o", color=colour, markerfacecolor="white" if published else colour)
    name_rows(axes, names, 9)
    axes.set_xlabel("Mean score over the twelve corpora (%)")
    axes.set_title(f"ARCH, {label(view.title)}", y=1 + 0.25 / height)
    _draw_pairs(axes_at(figure, left + 4.1, 0.55 + below, height, height), len(rows), ranks.pairs)
    write_notes(figure, notes)
    return figure


def _draw_pairs(axes, n_rows: int, pairs: set[tuple[int, int]]) -> None:
    """A square for every two models, in the line of each."""
    axes.set_axis_off()
    axes.set_xlim(-0.5, n_rows - 0.5)
    axes.set_ylim(n_rows - 0.5, -0.5)
    for filled in (True, False):
        squares = [
            Rectangle((j - 0.36, i - 0.36), 0.72, 0.72)
            for i in range(n_rows)
            for j in range(n_rows)
            if i != j and ((min(i, j), max(i, j)) in pairs) == filled
        ]
        axes.add_collection(
            PatchCollection(squares, facecolor="#333333" if filled else "white", edgecolor="#999999", linewidth=0.6)
        )
    for place in range(n_rows):
        axes.text(place, -0.7, str(place + 1), ha="center", va="bottom", size=7)
