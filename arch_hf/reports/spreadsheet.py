"""The leaderboard as CSV: one line per model, one column per protocol, layer and corpus."""

import csv
import io

from arch_hf.reports.columns import AVERAGE_NAMES, SIZES
from arch_hf.reports.escape import csv_text
from arch_hf.reports.rows import Board, Cell, OwnCell, Row, View
from arch_hf.reports.tables import NONE
from arch_hf.results.text import percent

FACTS = ("model", "name", "also", "revision", "variant", "source", "size", "audioset", "parameters")
MEANS = (*(f"mean {name}" for name in AVERAGE_NAMES), "mean rank", "rank")


def render(board: Board) -> str:
    """The file's text. Column names are `PROTOCOL/LAYER/CORPUS` and, where there is something to say, that with `/ci95_low`, `/ci95_high`, `/std_folds`,
    `/std_seeds`, `/shots_N` and `/shots_N_std` (over draws), `/delta` (ours minus published, in points), `/delta_uncertainty` (what the paper's unknown draw alone makes) and `/incomplete` (why the score is
    not ranked)."""
    lines: dict[tuple, dict[str, object]] = {}
    names: dict[str, None] = {}
    for view in board.views:
        found = [(_line(lines, row), _values(view, row)) for row in view.rows]
        names |= dict.fromkeys(_ordered(view, {name for _, values in found for name in values}))
        for line, values in found:
            line.update(values)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=[*FACTS, *names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines[key] for key in sorted(lines, key=lambda key: key[0]))  # stable: ours first, by size
    return buffer.getvalue()


def _line(lines: dict[tuple, dict[str, object]], row: Row) -> dict[str, object]:
    """The line of a model, the same in every view."""
    key = ((row.published, (*SIZES, "").index(row.size)), row.encoder or row.model_id)
    facts: dict[str, object] = {
        "model": csv_text(row.model_id),
        "name": csv_text(row.name),
        "also": csv_text(" ".join(row.also)),
        "revision": csv_text(row.revision or ""),
        "variant": csv_text(row.variant or ""),
        "source": "published" if row.published else "evaluated",
        "size": row.size,
        "audioset": "yes" if row.audioset else "no",
        "parameters": row.n_parameters or "",
    }
    return lines.setdefault(key, facts)


def _name(view: View, part: str) -> str:
    return csv_text(f"{view.protocol_title}/{'last' if view.layer == -1 else f'layer {view.layer}'}/{part}")


def _values(view: View, row: Row) -> dict[str, object]:
    """Column name to value, of one model in one view."""
    values: dict[str, object] = {
        _name(view, corpus + suffix): value
        for corpus, cell in row.cells.items()
        for suffix, value in _parts(cell).items()
    }
    means = [
        *(percent(row.averages[name]) for name in AVERAGE_NAMES),
        row.mean_rank and f"{row.mean_rank:.2f}",
        row.rank,
    ]
    known = {name: mean for name, mean in zip(MEANS, means, strict=True) if mean not in (None, NONE)}
    return values | {_name(view, name): mean for name, mean in known.items()}


def _parts(cell: Cell) -> dict[str, object]:
    """Column suffix to value, of one score."""
    parts: dict[str, object] = {"": percent(cell.value)}
    if isinstance(cell, OwnCell):
        score = cell.result.headline
        low, high = score.ci95 or (None, None)
        parts |= {"/ci95_low": percent(low), "/ci95_high": percent(high)}
        parts |= {"/std_folds": percent(score.std_folds), "/std_seeds": percent(score.std_seeds)}
        for shots, found in cell.result.few_shot.items():
            block = found.metrics.get(cell.result.metric, {})
            parts |= {f"/shots_{shots}": percent(block.get("mean")), f"/shots_{shots}_std": percent(block.get("std"))}
    parts |= {"/delta": percent(cell.delta), "/delta_uncertainty": percent(cell.uncertainty)}
    known = {suffix: value for suffix, value in parts.items() if value != NONE}
    return known | ({} if cell.caveat is None else {"/incomplete": csv_text(cell.caveat)})


def _ordered(view: View, used: set[str]) -> list[str]:
    """The names that are used: corpus by corpus, each score before what belongs to it; then the means."""
    cells = [cell for row in view.rows for cell in row.own_cells.values()]
    shots = sorted({shots for cell in cells for shots in cell.result.few_shot}, key=int)
    suffixes = ["", "/ci95_low", "/ci95_high", "/std_folds", "/std_seeds"]
    suffixes += [f"/shots_{n}{end}" for n in shots for end in ("", "_std")] + [
        "/delta",
        "/delta_uncertainty",
        "/incomplete",
    ]
    parts = [column.key + suffix for column in view.columns for suffix in suffixes]
    return [name for name in (_name(view, part) for part in (*parts, *MEANS)) if name in used]
