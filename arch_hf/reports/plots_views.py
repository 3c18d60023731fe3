"""Plots of a whole view: all corpora around a circle, score against cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import FuncFormatter

from arch_hf.reports.columns import DOMAINS, SIZES, TWELVE, Column
from arch_hf.reports.plots_style import (
    COLOURS,
    DASHES,
    MARKERS,
    MOST_IN_RADAR,
    PLAIN,
    SIZE_MARKERS,
    axes_at,
    label,
    left_out,
    plot_label,
    room_for,
    write_notes,
)
from arch_hf.reports.rows import Row, View

MOST_NAMED = 24  # of the points of a plot; where there are more, only those on the front are

# Radar ---------------------------------------------------------------------------------------------------------------


def radar_rows(view: View) -> tuple[list[Row], list[str]]:
    """Ours, best first, then the paper's best rows, with scores on three corpora or more; and what is left out, and why."""
    rows = [row for row in view.rows if sum(row.comparable(column.key) is not None for column in TWELVE) > 2]
    few = [row for row in view.own_rows if row not in rows]
    rows.sort(key=lambda row: (row.published, row.rank or math.inf, row.name))
    notes = left_out(few, "with comparable scores on fewer than three of the twelve")
    return rows[:MOST_IN_RADAR], notes + left_out(
        rows[MOST_IN_RADAR:], f"beyond {MOST_IN_RADAR} lines, ours and the best first"
    )


def radar(view: View) -> Figure:
    """Twelve corpora around a circle, each axis from 0 to 100%; a corpus without a score breaks the line."""
    rows, notes = radar_rows(view)
    below = room_for(notes)
    figure = Figure(figsize=(12.5, 6.4 + below))
    axes = axes_at(figure, 0.2, 0.1 + below, 6, 6)  # plain axes: matplotlib's polar ones take four times as long
    axes.set_axis_off()
    axes.set_xlim(-150, 150)
    axes.set_ylim(-150, 150)
    angles = [2 * math.pi * index / len(TWELVE) for index in range(len(TWELVE))]
    for radius in (20, 40, 60, 80, 100):
        axes.add_patch(
            Circle((0, 0), radius, fill=False, edgecolor="#BBBBBB" if radius == 100 else "#DDDDDD", zorder=1)
        )
        look = {"ha": "center", "va": "center", "size": 8, "color": "#555555", "bbox": PLAIN, "zorder": 3}
        axes.text(*_on_circle(math.pi / 12, radius), "100%" if radius == 100 else str(radius), **look)
    spokes = [[(0, 0), _on_circle(angle, 100)] for angle in angles]
    axes.add_collection(LineCollection(spokes, colors="#DDDDDD", linewidths=0.8, zorder=1))
    for index, row in enumerate(rows):
        scores = [row.comparable(column.key) for column in TWELVE]
        values = [math.nan if score is None else 100 * score for score in scores]
        points = [_on_circle(angle, value) for angle, value in zip(angles, values, strict=True)]
        look = {"color": COLOURS[index], "linestyle": DASHES[index], "marker": MARKERS[index]}
        axes.plot(*zip(*points, points[0], strict=True), markersize=4, linewidth=1.6, label=plot_label(row), **look)
    for angle, column in zip(angles, TWELVE, strict=True):
        _text_around(axes, angle, 113, column.title)
    for number, domain in enumerate(("events", "music", "speech")):
        of_domain = angles[4 * number : 4 * number + 4]
        arc = [_on_circle(angle, 107) for angle in _arc(of_domain)]
        axes.plot(*zip(*arc, strict=True), color="#777777", linewidth=3, solid_capstyle="butt")
        _text_around(axes, sum(of_domain) / 4, 132, DOMAINS[domain], fontweight="bold", color="#333333")
    middle = (3.1 + below) / (6.4 + below)
    figure.legend(*axes.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(6.2 / 12.5, middle))
    axes.set_title(f"ARCH, {label(view.title)}", y=0.93)
    write_notes(figure, notes)
    return figure


def _on_circle(angle: float, radius: float) -> tuple[float, float]:
    """Clockwise from the top."""
    return radius * math.sin(angle), radius * math.cos(angle)


def _text_around(axes, angle: float, radius: float, text: str, **look) -> None:
    """Text that starts at a point of the circle and leads away from its centre."""
    x, y = _on_circle(angle, 1)
    side = "left" if x > 0.3 else "right" if x < -0.3 else "center"
    axes.text(
        radius * x, radius * y, text, ha=side, va="bottom" if y > 0.9 else "top" if y < -0.9 else "center", **look
    )


def _arc(angles: Sequence[float], n_points: int = 20) -> list[float]:
    """Angles from a little before the first to a little after the last."""
    low, high = min(angles) - 0.2, max(angles) + 0.2
    return [low + (high - low) * index / (n_points - 1) for index in range(n_points)]


# Score against cost --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CostPoints:
    """The models of a plot of score against cost: (row, cost, mean score in percent); over which corpora; and who is left out, and why."""

    points: list[tuple[Row, float, float]]
    columns: list[Column]
    notes: list[str]


def cost_points(view: View, field: str) -> CostPoints:
    """The mean is over all twelve corpora where one of our rows has them or we have none, else over those that all our rows share; a row that
    shares none with those of more corpora is left out."""
    own = [row for row in view.own_rows if getattr(row, field)]
    columns = list(TWELVE)
    if not any(row.is_complete for row in own):
        scored = [{column.key for column in TWELVE if row.comparable(column.key) is not None} for row in own]
        for keys in sorted(scored, key=len, reverse=True):
            columns = [column for column in columns if column.key in keys] or columns
    points, without = [], []
    for row in view.rows:
        scores = [score for score in (row.comparable(column.key) for column in columns) if score is not None]
        if getattr(row, field) and scores and len(scores) == len(columns):
            points.append((row, float(getattr(row, field)), 100 * sum(scores) / len(scores)))
        elif getattr(row, field):
            without.append(row)
    unknown = [row for row in view.rows if not getattr(row, field)]
    notes = left_out(unknown, "of unknown cost" if field == "gflop_per_second" else "without parameters")
    return CostPoints(
        points, columns, notes + left_out(without, "without comparable scores on every corpus of the mean")
    )


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats at the same or lower cost, by rising cost.

    Examples:
        >>> pareto([(1, 50), (2, 40), (3, 60), (1, 45)])
        [(1, 50), (3, 60)]
    """
    front: list[tuple[float, float]] = []
    for cost_, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost_, score))
    return front


def cost(view: View, field: str) -> Figure:
    """Mean score against what a model costs, on a logarithmic axis, with the Pareto front."""
    costs = cost_points(view, field)
    points, below = costs.points, room_for(costs.notes)
    figure = Figure(figsize=(9, 5 + below))
    axes = axes_at(figure, 0.8, 0.7 + below, 6, 3.8)
    front = pareto([(x, y) for _, x, y in points])
    steps = [*front, (max(x for _, x, _ in points) * 1.15, front[-1][1])]
    axes.step(*zip(*steps, strict=True), where="post", color="#888888", linewidth=1.2, zorder=1, label="Pareto front")
    crowded = len(points) > MOST_NAMED
    _draw_points(axes, points, crowded)
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(FuncFormatter(_plain_tick))
    _label_points(axes, points if not crowded else [point for point in points if point[1:] in front])
    axes.set_xlabel("GFLOP per second of audio" if field == "gflop_per_second" else "Parameters")
    which = ", ".join(column.title for column in costs.columns)
    which = "all twelve corpora" if len(costs.columns) == len(TWELVE) else which
    short = which if len(which) < 50 else f"{len(costs.columns)} corpora"
    axes.set_ylabel(f"Mean score (%) over {short}")
    axes.set_title(f"ARCH, {label(view.title)}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    write_notes(figure, costs.notes)
    return figure


def _draw_points(axes, points, crowded: bool) -> None:
    """A mark per model, its form by size class, its colour by source."""
    for size in (*SIZES, ""):
        for published in (False, True):
            chosen = [(x, y) for row, x, y in points if row.size == size and row.published == published]
            if chosen:
                face = "white" if published else COLOURS[1]
                edge = COLOURS[0] if published else "#80380088" if crowded else "black"
                name = f"{size or 'no class'}, {'paper' if published else 'evaluated'}"
                look = {"marker": SIZE_MARKERS[size], "facecolor": face, "edgecolor": edge, "linewidth": 1.3, "s": 42}
                if crowded and not published:
                    look |= {"linewidth": 0.6, "s": 26}
                axes.scatter(*zip(*chosen, strict=True), label=name, zorder=3, **look)


def _plain_tick(value: float, _position=None) -> str:
    """20, 100 M, 1 G; only 1, 2 and 5 of each decade."""
    if f"{value:.0e}"[0] not in "125":
        return ""
    scale, unit = (1e9, " G") if value >= 1e9 else (1e6, " M") if value >= 1e6 else (1, "")
    return f"{value / scale:g}{unit}"


def _label_points(axes, points) -> None:
    """A name beside each point, a little above its height (clear of the front's line), on the side where there is room."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    by_cost: dict[float, list] = {}
    for point in sorted(points, key=lambda point: point[2]):
        by_cost.setdefault(round(math.log10(point[1]), 1), []).append(point)
    links = []
    for column in by_cost.values():
        heights = spread([score + 0.018 * (high - low) for _, _, score in column], 0.036 * (high - low))
        for (row, at, score), height in zip(column, heights, strict=True):
            name = f"{row.name}{' ◇' if row.audioset else ''}" if row.published else label(row.name, 26)
            is_right = math.log(at / left) > 0.7 * math.log(right / left)
            start = at * (right / left) ** (-0.025 if is_right else 0.025)
            look = {"size": 7, "fontweight": "normal" if row.published else "bold", "bbox": PLAIN, "zorder": 4}
            axes.text(start, height, name, ha="right" if is_right else "left", va="center", **look)
            links.append([(at, score), (start, height)])
    axes.add_collection(LineCollection(links, colors="#AAAAAA", linewidths=0.6, zorder=2), autolim=False)


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Rising values moved apart to at least `gap`, each group of neighbours about its own mean.

    Examples:
        >>> spread([1.0, 1.0, 5.0], 1.0)
        [0.5, 1.5, 5.0]
    """
    groups: list[list[float]] = []
    for index, value in enumerate(values):
        groups.append([value - index * gap])
        while len(groups) > 1 and sum(groups[-2]) / len(groups[-2]) > sum(groups[-1]) / len(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    means = [sum(group) / len(group) for group in groups for _ in group]
    return [mean + index * gap for index, mean in enumerate(means)]
