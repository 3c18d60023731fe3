"""What the plots share: colours, the style, names as text, places in inches. They read without colour too: markers, dashes and direct
labels tell things apart."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from arch_hf.reports.rows import Row
from arch_hf.terminal import visible

# Okabe and Ito's colours (jfly.uni-koeln.de/color), told apart with any colour vision; the yellow is left out, too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (7, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SIZE_MARKERS = {"B": "o", "L": "s", "XL": "^", "": "v"}
PLAIN = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
DPI = 150
# Laying out text is what takes the time. So the font is one that comes with matplotlib (no search, and the same everywhere), unhinted;
# titles stay where they are put; and in an SVG text stays text, which can also be searched and read aloud.
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.hinting": "none",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.titley": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "arch-hf",
    "figure.dpi": DPI,
}
MOST_IN_RADAR = 5  # models, each with a colour, a dash and a marker


def safe_name(text: str) -> str:
    """A part of a file name: letters, digits, dot, dash and underscore only.

    Examples:
        >>> safe_name("../a b/<c>")
        'a_b_c'
    """
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("._")[:80] or "unnamed"


def label(text: str, longest: int = 34) -> str:
    """A name as a plot prints it: long ones cut in the middle."""
    text = visible(text)
    if len(text) > longest:
        text = text[: longest // 2 - 1] + "…" + text[-(longest // 2) :]
    return text


def plot_label(row: Row) -> str:
    """A model's name beside its mark."""
    if row.published:
        return f"{row.name} {row.size}{' ◇' if row.audioset else ''} (paper)"
    name = label(row.name) + (f" @ {label(row.revision[:7])}" if row.revision else "")
    return f"{name} [{label(row.variant)}]" if row.variant else name


def left_out(rows: Sequence[Row], why: str) -> list[str]:
    """A note on the models that a plot does not show; none where it shows all.

    Examples:
        >>> left_out([], "no scores")
        []
    """
    if not rows:
        return []
    names = [plot_label(row) for row in rows[:3]]
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return [f"Left out, {why}: {', '.join(names)}{more}."]


NOTE_SIZE, NOTE_HEIGHT = 7, 0.15  # points, inches


def room_for(notes: Sequence[str]) -> float:
    """The inches that notes take below a plot."""
    return NOTE_HEIGHT * len(notes) + 0.12 if notes else 0.0


def write_notes(figure: Figure, notes: Sequence[str]) -> None:
    """What a reader must know, in small print at the foot of the figure."""
    wide, high = figure.get_size_inches()
    for place, note in enumerate(reversed(notes)):
        figure.text(
            0.08 / wide, (0.05 + NOTE_HEIGHT * place) / high, note, size=NOTE_SIZE, color="#555555", va="bottom"
        )


def text_width(texts: Iterable[str], size: float) -> float:
    """Of the widest text, in inches."""
    font = FontProperties(size=size)
    return max(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] for text in texts) / 72


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float):
    """Axes at a place given in inches."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, bottom / high, width / wide, height / high))


def panel_grid(left: float, width: float, heights: list[float], below: float = 0.1) -> tuple[Figure, list]:
    """A figure with a panel for each height, three in a line, each with `left` and `below` inches for what stands beside it."""
    lines = [heights[start : start + 3] for start in range(0, len(heights), 3)]
    size = len(lines[0]) * (left + width) + 0.2, 0.4 + below + sum(max(line) + 0.6 for line in lines)
    figure, panels, top = Figure(figsize=size), [], size[1] - 0.4
    for line in lines:
        panels += [
            axes_at(figure, left + place * (left + width), top - 0.25 - height, width, height)
            for place, height in enumerate(line)
        ]
        top -= max(line) + 0.6
    return figure, panels


def entitle(figure: Figure, title: str) -> None:
    """A title over the figure, as small as it must be to fit its width."""
    size = 12.0
    figure.suptitle(title, fontsize=size * min(1.0, 0.95 * figure.get_figwidth() / text_width([title], size)))


def name_rows(axes, names: Sequence[str], size: float) -> None:
    """One name left of each row, the first on top."""
    axes.yaxis.set_visible(False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    width = axes.get_window_extent().width / DPI
    for place, name in enumerate(names):
        axes.text(
            -0.08 / width,
            place,
            name,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center_baseline",
            size=size,
        )
