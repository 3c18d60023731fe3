"""The leaderboard as CSV: one line per model, one column per protocol, layer and corpus."""

import csv
import io

from arch_hf.reports.board import SIZES, Board, Cell, Row, View, percent
from arch_hf.reports.escape import csv_text

FACTS = ("model", "name", "revision", "source", "size", "audioset", "parameters")


def render(board: Board) -> str:
    """The file's text. Column names are `PROTOCOL/LAYER/CORPUS` and, where there is something to say, that with `/ci95_low`,
    `/ci95_high`, `/delta` (ours minus published, in points) and `/incomplete` (why the score is not ranked)."""
    lines: dict[tuple, dict[str, object]] = {}
    names: list[str] = []
    for view in board.views:
        _add_names(names, view)
        for row in view.rows:
            lines.setdefault(_key(row), _facts(row)).update(_values(view, row))
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, fieldnames=[*FACTS, *(csv_text(name) for name in names)], restval="", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(lines[key] for key in sorted(lines, key=lambda key: key[0]))  # stable: by size, published first
    return buffer.getvalue()


def _key(row: Row) -> tuple:
    first = next(iter(row.cells.values())).result
    return (
        (*SIZES, "").index(row.size),
        row.published,
        row.model_id,
        row.revision,
        first.model.weights_sha256 if first else None,
    )


def _facts(row: Row) -> dict[str, object]:
    return {
        "model": csv_text(row.model_id),
        "name": csv_text(row.name),
        "revision": csv_text(row.revision or ""),
        "source": "published" if row.published else "evaluated",
        "size": row.size,
        "audioset": "yes" if row.audioset else "no",
        "parameters": row.n_parameters or "",
    }


def _add_names(names: list[str], view: View) -> None:
    cells = [(f"{_prefix(view)}/{corpus}", cell) for row in view.rows for corpus, cell in row.cells.items()]
    used = {name + suffix for name, cell in cells for suffix in _parts(cell)}
    for column in view.columns:
        for suffix in ("", "/ci95_low", "/ci95_high", "/delta", "/incomplete"):
            name = f"{_prefix(view)}/{column.key}{suffix}"
            if name in used:
                names.append(name)
    names += [f"{_prefix(view)}/{suffix}" for suffix in _SUMMARY if any(row.rank for row in view.rows)]


def _prefix(view: View) -> str:
    return f"{view.protocol} {view.version}/{'last' if view.layer == -1 else f'layer {view.layer}'}"


_SUMMARY = ("mean events", "mean music", "mean speech", "mean all", "mean rank", "rank")


def _parts(cell: Cell) -> dict[str, object]:
    """Column suffix to value, of one score."""
    parts: dict[str, object] = {"": f"{percent(cell.value):.2f}"}
    if cell.result and cell.result.headline.ci95:
        low, high = cell.result.headline.ci95
        parts |= {"/ci95_low": f"{percent(low):.2f}", "/ci95_high": f"{percent(high):.2f}"}
    if cell.delta is not None:
        parts["/delta"] = f"{percent(cell.delta):.2f}"
    if cell.caveat is not None:
        parts["/incomplete"] = csv_text(cell.caveat)
    return parts


def _values(view: View, row: Row) -> dict[str, object]:
    values = {
        csv_text(f"{_prefix(view)}/{corpus}{suffix}"): value
        for corpus, cell in row.cells.items()
        for suffix, value in _parts(cell).items()
    }
    if row.rank:
        averages = [f"{percent(row.averages[name]):.2f}" for name in ("events", "music", "speech", "all")]
        values |= dict(
            zip(
                (f"{_prefix(view)}/{name}" for name in _SUMMARY),
                (*averages, f"{row.mean_rank:.2f}", row.rank),
                strict=True,
            )
        )
    return values
