"""The leaderboard as Markdown: for a README or a model card."""

from collections.abc import Sequence

from arch_hf.reports import escape
from arch_hf.reports.board import (
    PAPER,
    Board,
    Cell,
    Column,
    Row,
    View,
    layer_name,
    layer_tables,
    percent,
)


def render(board: Board) -> str:
    """The whole document."""
    parts = ["# ARCH leaderboard", "", *_legend(), ""]
    for view in board.views:
        if view.layer == -1:
            parts += _view(view)
    parts += _differences(board.views[0])
    parts += _layers(board)
    return "\n".join(parts).rstrip() + "\n"


def _legend() -> list[str]:
    return [
        "Scores in percent: accuracy; macro mAP where the column says mAP. **Bold**: best of its size class (B, L, XL). ★: best of all. "
        f"◇: pre-trained on AudioSet. *published*: from {PAPER}. †: incomplete, not ranked. "
        "Averages and ranks are of models with all twelve corpora; the rank is by mean rank over the twelve."
    ]


def _view(view: View) -> list[str]:
    columns = [
        column
        for column in view.columns
        if column.domain != "other" or any(column.key in row.cells for row in view.rows)
    ]
    head = ["Model", "Size", *(_title(column) for column in columns), "Events", "Music", "Speech", "All", "Rank"]
    lines = [f"## {escape.markdown(view.title)}", "", _line(head), _line(["---", ":-:", *["--:"] * (len(head) - 2)])]
    lines += [
        _line([_name(row), row.size or "–", *(_cell(row.cells.get(c.key)) for c in columns), *_summary(row)])
        for row in view.rows
    ]
    lines += ["", *(f"- {escape.markdown(note)}" for note in view.notes)]
    return [*lines, ""] if view.notes else lines


def _title(column: Column) -> str:
    return escape.markdown(column.title) + (" (mAP)" if column.metric == "map_macro" else "")


def _name(row: Row) -> str:
    name = escape.markdown(row.name)
    if row.revision:
        name += f" ({escape.markdown(row.revision[:12])})"
    return name + (" ◇" if row.audioset else "") + (" *published*" if row.published else "")


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    text = f"{percent(cell.value):.2f}"
    if cell.caveat is not None:
        return f"{text}†"
    return (f"**{text}**" if cell.best_of_size else text) + (" ★" if cell.best else "")


def _summary(row: Row) -> list[str]:
    averages = [row.averages[key] for key in ("events", "music", "speech", "all")]
    return [*("–" if value is None else f"{percent(value):.2f}" for value in averages), str(row.rank or "–")]


def _differences(view: View) -> list[str]:
    rows = [row for row in view.own_rows if any(cell.delta is not None for cell in row.cells.values())]
    if not rows:
        return []
    columns = [column for column in view.columns if column.domain != "other"]
    lines = ["## Ours minus published, in points", "", _line(["Model", *(f"Δ {column.title}" for column in columns)])]
    lines.append(_line(["---", *["--:"] * len(columns)]))
    lines += [_line([_name(row), *(_delta(row.cells.get(column.key)) for column in columns)]) for row in rows]
    return [*lines, ""]


def _delta(cell: Cell | None) -> str:
    return "–" if cell is None or cell.delta is None else f"{percent(cell.delta):+.2f}"


def _layers(board: Board) -> list[str]:
    """One table per model and protocol, a column per layer."""
    lines: list[str] = []
    for table in layer_tables(board):
        lines += [f"## Layers of {escape.markdown(table.model_id)}, {escape.markdown(table.protocol)}", ""]
        lines += [
            _line(["Corpus", *(layer_name(layer) for layer in table.layers)]),
            _line(["---", *["--:"] * len(table.layers)]),
        ]
        for column in table.columns:
            cells = [table.cells.get((column.key, layer)) for layer in table.layers]
            best = max((percent(cell.value) for cell in cells if cell and cell.caveat is None), default=None)
            lines.append(_line([_title(column), *(_layer_cell(cell, best) for cell in cells)]))
        lines.append("")
    return lines


def _layer_cell(cell: Cell | None, best: float | None) -> str:
    if cell is None:
        return "–"
    text = f"{percent(cell.value):.2f}" + ("†" if cell.caveat is not None else "")
    return f"**{text}**" if cell.caveat is None and percent(cell.value) == best else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
