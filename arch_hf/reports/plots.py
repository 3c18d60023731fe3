"""The plots of a report, each as PNG and SVG. They read without colour too: markers, dashes and direct labels tell things apart."""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import NormalDist

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from arch_hf.reports import escape
from arch_hf.reports.board import DOMAINS, SIZES, TWELVE, Board, Column, Row, View, mean_rank_of
from arch_hf.store import write_atomically

# Okabe and Ito's colours (jfly.uni-koeln.de/color), told apart with any colour vision; the yellow is left out, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (7, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SIZE_MARKERS = {"B": "o", "L": "s", "XL": "^", "": "v"}
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "arch-hf",
    "figure.dpi": 100,
}
MOST_IN_RADAR = 5
MOST_IN_RANKS = 24
MOST_IN_INTERVALS = 12
MOST_CONFUSIONS = 6


def write_plots(board: Board, output_dir: Path) -> Iterator[Path]:
    """Draw what the board has the scores for; yields each file when it is there."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a script that the font lacks: boxes, not noise
        for name, draw in planned_plots(board):
            for kind, image in render(draw()):
                path = output_dir / f"{name}.{kind}"
                write_atomically(path, image)
                yield path


def render(figure: Figure) -> Iterator[tuple[str, bytes]]:
    """The figure as PNG and as SVG, cut to what is drawn. Measured once for both: measuring takes as long as drawing."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    box = figure.get_tightbbox().padded(0.08)
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else None  # the same scores give the same file
        figure.savefig(buffer, format=kind, dpi=150, bbox_inches=box, metadata=metadata)
        yield kind, buffer.getvalue()


def planned_plots(board: Board) -> list[tuple[str, Callable[[], Figure]]]:
    """File name (without its ending) and drawing function of each plot that there are scores for."""
    from arch_hf.reports import plots_detail as detail

    plots: list[tuple[str, Callable[[], Figure]]] = []
    for view in board.views:
        if view.layer != -1:
            continue
        end = "" if view is board.views[0] else "_" + safe_name(f"{view.protocol}_{view.version}")
        if radar_rows(view):
            plots.append(("radar" + end, lambda view=view: radar(view)))
        for field, stem in (("gflop_per_second", "accuracy_vs_gflop"), ("n_parameters", "accuracy_vs_parameters")):
            if len(cost_points(view, field)[0]) > 1:
                plots.append((stem + end, lambda view=view, field=field: cost(view, field)))
        if len(rank_rows(view)) > 2:
            plots.append(("critical_difference" + end, lambda view=view: critical_difference(view)))
        if any(cell.result and cell.result.interval for row in view.own_rows for cell in row.cells.values()):
            plots.append(("intervals" + end, lambda view=view: detail.intervals(view)))
    plots += [(name, draw) for name, draw in detail.layer_plots(board)]
    plots += [(name, draw) for name, draw in detail.confusion_plots(board)]
    return plots


def safe_name(text: str) -> str:
    """A part of a file name: letters, digits, dot, dash and underscore only.

    Example:
        >>> safe_name("../a b/<c>")
        'a_b_c'
    """
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("._")[:80] or "unnamed"


def label(text: str, longest: int = 34) -> str:
    """A name as matplotlib prints it: no mathematics, long ones cut in the middle."""
    text = escape.visible(text)
    if len(text) > longest:
        text = text[: longest // 2 - 1] + "…" + text[-(longest // 2) :]
    return text.replace("$", r"\$")


def row_label(row: Row) -> str:
    if row.published:
        return f"{row.name} {row.size}{' ◇' if row.audioset else ''} (paper)"
    return label(row.name) + (f" @ {label(row.revision[:7])}" if row.revision else "")


# Radar ---------------------------------------------------------------------------------------------------------------


def radar_rows(view: View) -> list[Row]:
    """Ours, best first, then the paper's best rows, with scores on three corpora or more."""
    rows = [row for row in view.rows if sum(row.comparable(column.key) is not None for column in TWELVE) > 2]
    rows.sort(key=lambda row: (row.published, row.rank or math.inf, row.name))
    return rows[:MOST_IN_RADAR]


def radar(view: View) -> Figure:
    """Twelve corpora around a circle, each axis from 0 to 100%; a corpus without a score breaks the line."""
    figure = Figure(figsize=(8.2, 5.6))
    axes = figure.add_subplot(projection="polar")
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    angles = [2 * math.pi * index / len(TWELVE) for index in range(len(TWELVE))]
    for index, row in enumerate(radar_rows(view)):
        scores = [row.comparable(column.key) for column in TWELVE]
        values = [math.nan if score is None else 100 * score for score in scores]
        look = {"color": COLOURS[index], "linestyle": DASHES[index], "marker": MARKERS[index]}
        axes.plot([*angles, angles[0]], [*values, values[0]], markersize=4, linewidth=1.6, label=row_label(row), **look)
    axes.set_ylim(0, 100)
    axes.set_yticks([20, 40, 60, 80, 100], ["20", "40", "60", "80", "100%"], color="#555555", fontsize=8)
    axes.set_rlabel_position(15)
    axes.set_xticks(angles, [column.title for column in TWELVE])
    axes.tick_params(axis="x", pad=16)
    axes.spines["polar"].set_color("#BBBBBB")
    for number, domain in enumerate(("events", "music", "speech")):
        of_domain = angles[4 * number : 4 * number + 4]
        axes.plot(_arc(of_domain), [104] * 20, color="#777777", linewidth=3, clip_on=False)
        middle = sum(of_domain) / 4
        side = "left" if math.sin(middle) > 0.3 else "right" if math.sin(middle) < -0.3 else "center"
        axes.text(middle, 138, DOMAINS[domain], ha=side, va="center", fontweight="bold", color="#333333")
    figure.legend(*axes.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.9, 0.5))
    axes.set_title(f"ARCH, {label(view.title)}", pad=58)
    return figure


def _arc(angles: Sequence[float], n_points: int = 20) -> list[float]:
    """Angles from a little before the first to a little after the last."""
    low, high = min(angles) - 0.2, max(angles) + 0.2
    return [low + (high - low) * index / (n_points - 1) for index in range(n_points)]


# Score against cost --------------------------------------------------------------------------------------------------


def cost_points(view: View, field: str) -> tuple[list[tuple[Row, float, float]], list[Column]]:
    """(row, cost, mean score in percent) of each row that has them, and the corpora of the mean: all twelve where one of our rows
    has them or we have none, else those that all our rows share."""
    own = [row for row in view.own_rows if getattr(row, field)]
    columns = list(TWELVE)
    if own and not any(row.is_complete for row in own):
        columns = [column for column in TWELVE if all(row.comparable(column.key) is not None for row in own)]
    points = []
    for row in view.rows:
        scores = [row.comparable(column.key) for column in columns]
        if getattr(row, field) and scores and None not in scores:
            points.append((row, float(getattr(row, field)), 100 * sum(scores) / len(scores)))
    return points, columns


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats at the same or lower cost, by rising cost.

    Example:
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
    points, columns = cost_points(view, field)
    figure = Figure(figsize=(7.6, 4.8))
    axes = figure.add_subplot()
    front = pareto([(x, y) for _, x, y in points])
    steps = [*front, (max(x for _, x, _ in points) * 1.15, front[-1][1])]
    axes.step(*zip(*steps, strict=True), where="post", color="#888888", linewidth=1.2, zorder=1, label="Pareto front")
    for size in (*SIZES, ""):
        for published in (False, True):
            chosen = [(x, y) for row, x, y in points if row.size == size and row.published == published]
            if chosen:
                face = "white" if published else COLOURS[1]
                edge = COLOURS[0] if published else "black"
                name = f"{size or 'no class'}, {'paper' if published else 'evaluated'}"
                look = {"marker": SIZE_MARKERS[size], "facecolor": face, "edgecolor": edge, "linewidth": 1.3, "s": 42}
                axes.scatter(*zip(*chosen, strict=True), label=name, zorder=3, **look)
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(FuncFormatter(_plain_tick))
    _label_points(axes, points, front)
    axes.set_xlabel("GFLOP per second of audio" if field == "gflop_per_second" else "Parameters")
    which = "all twelve corpora" if len(columns) == len(TWELVE) else ", ".join(column.title for column in columns)
    axes.set_ylabel(
        f"Mean score (%) over {which}" if len(which) < 50 else f"Mean score (%) over {len(columns)} corpora"
    )
    axes.set_title(f"ARCH, {label(view.title)}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _plain_tick(value: float, _position=None) -> str:
    """20, 100 M, 1 G; only 1, 2 and 5 of each decade."""
    if f"{value:.0e}"[0] not in "125":
        return ""
    scale, unit = (1e9, " G") if value >= 1e9 else (1e6, " M") if value >= 1e6 else (1, "")
    return f"{value / scale:g}{unit}"


def _label_points(axes, points, front) -> None:
    """Names beside the points: all of them while they are few, else those on the front."""
    shown = points if len(points) <= 24 else [point for point in points if point[1:] in front]
    low, high = axes.get_ylim()
    by_cost: dict[float, list] = {}
    for point in sorted(shown, key=lambda point: point[2]):
        by_cost.setdefault(round(math.log10(point[1]), 1), []).append(point)
    for column in by_cost.values():
        heights = spread([score for _, _, score in column], 0.036 * (high - low))
        for (row, at, score), height in zip(column, heights, strict=True):
            name = f"{row.name}{' ◇' if row.audioset else ''}" if row.published else label(row.name, 26)
            weight = "normal" if row.published else "bold"
            link = {"arrowstyle": "-", "color": "#AAAAAA", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
            look = {"fontsize": 7, "va": "center", "fontweight": weight, "zorder": 4, "arrowprops": link}
            axes.annotate(name, (at, score), xytext=(at * 1.07, height), bbox=_PLAIN, **look)


_PLAIN = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Rising values moved apart to at least `gap`, each group of neighbours about its own mean.

    Example:
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


# Ranks ---------------------------------------------------------------------------------------------------------------


def rank_rows(view: View) -> list[Row]:
    """The best rows that have all twelve corpora."""
    return sorted((row for row in view.rows if row.is_complete), key=lambda row: row.mean_rank)[:MOST_IN_RANKS]


def nemenyi(n_models: int, n_corpora: int) -> float:
    """The critical difference of mean ranks at 5% (Nemenyi's test, as in Demšar, JMLR 7, 2006): q * sqrt(k (k + 1) / 6N).

    Example:
        >>> round(nemenyi(4, 14), 2)  # Demšar's example: q = 2.569
        1.25
    """
    low, high = 0.0, 20.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _range_below(middle, n_models) < 0.95 else (low, middle)
    return low / math.sqrt(2) * math.sqrt(n_models * (n_models + 1) / (6 * n_corpora))


def _range_below(q: float, n: int) -> float:
    """The probability that n standard normal numbers lie within q of each other: n * integral of phi(z) (Phi(z + q) - Phi(z))^(n - 1)
    over z, the lowest of them (the studentized range for infinitely many degrees of freedom)."""
    grid = [-8 + index / 50 for index in range(801)]
    normal = NormalDist()
    return n / 50 * math.fsum(normal.pdf(z) * (normal.cdf(z + q) - normal.cdf(z)) ** (n - 1) for z in grid)


def critical_difference(view: View) -> Figure:
    """Mean rank of each model over the twelve, with half the critical difference to each side: where two bars do not overlap, the
    models differ at 5%."""
    rows = rank_rows(view)
    ranks = mean_rank_of(rows, [column.key for column in TWELVE])
    half = nemenyi(len(rows), len(TWELVE)) / 2
    figure = Figure(figsize=(7.2, 1.1 + 0.25 * len(rows)))
    axes = figure.add_subplot()
    for place, (row, rank) in enumerate(sorted(zip(rows, ranks, strict=True), key=lambda pair: pair[1])):
        colour = COLOURS[0] if row.published else COLOURS[1]
        face = "white" if row.published else colour
        axes.errorbar(
            rank, place, xerr=half, fmt="o", color=colour, markerfacecolor=face, capsize=3, markersize=6, linewidth=1.4
        )
    order = sorted(range(len(rows)), key=lambda index: ranks[index])
    axes.set_yticks(range(len(rows)), [row_label(rows[index]) for index in order])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"Mean rank over the twelve corpora (1 is best); critical difference at 5%: {2 * half:.2f}")
    axes.set_title(f"ARCH, {label(view.title)}")
    return figure
