"""Every benchmark's numbers of each model on one page: a row per model, a group of columns per benchmark and protocol.

Nothing is averaged or ranked across groups: each says whose protocol it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from arch_hf.reports.old_files import MARK
from arch_hf.reports.rows import Board, Row
from arch_hf.results.benchmark import BenchmarkScore
from arch_hf.results.folder import which_encoder
from arch_hf.results.published_benchmarks import SOURCES, published_models
from arch_hf.results.text import percent
from arch_hf.terminal import visible

STYLE = """
main { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .55rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th[scope=row] { text-align: left; position: sticky; left: 0; background: var(--card); font-weight: 500; }
thead th { background: var(--faint); } th.group { text-align: center; border-left: 2px solid var(--line); }
tr.own th[scope=row] { color: var(--own); font-weight: 600; } td.first { border-left: 2px solid var(--line); }
"""


@dataclass
class Group:
    """The columns of one benchmark: `tasks` -> what each asks."""

    title: str
    tasks: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class ModelRow:
    """One model: (group, task) -> its score as text, with what is said of it where one points."""

    name: str
    own: bool
    cells: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)


@dataclass
class BenchmarkTable:
    groups: dict[str, Group]
    rows: list[ModelRow]


def benchmark_table(board: Board) -> BenchmarkTable:
    """The scores of a board: our protocols at the last layer, then other benchmarks' own; our models before published ones."""
    groups: dict[str, Group] = {}
    rows: dict[tuple, ModelRow] = {}
    for view in board.last_layer_views:
        if view.own_rows:
            group = groups.setdefault(view.title, Group(f"ARCH, {view.protocol_title}"))
            group.notes.append("of this package: see leaderboard.html for intervals and floors; † is incomplete")
            for row in view.own_rows:
                _add_ours(groups[view.title], view.title, row, rows)
    for score in sorted(board.benchmarks, key=lambda score: score.created or ""):  # the newest is shown
        _add_theirs(groups, score, rows)
    _add_published(groups, rows)
    return BenchmarkTable(groups, sorted(rows.values(), key=lambda row: (not row.own, row.name.lower(), row.name)))


def _add_ours(group: Group, key: str, row: Row, rows: dict[tuple, ModelRow]) -> None:
    named = row.name + (f" ({row.variant})" if row.variant else "")
    line = rows.setdefault(row.encoder, ModelRow(named, own=True))
    for corpus, cell in row.own_cells.items():
        group.tasks.setdefault(corpus, cell.result.metric.replace("_", " "))
        line.cells[key, corpus] = percent(cell.value) + ("†" if cell.caveat else ""), cell.caveat or ""


def _add_theirs(groups: dict[str, Group], score: BenchmarkScore, rows: dict[tuple, ModelRow]) -> None:
    group = groups.setdefault(score.benchmark, Group(score.benchmark, notes=["by its own program, under its protocol"]))
    group.tasks[score.task] = f"{score.kind}, {score.metric}: {score.protocol}"
    line = rows.setdefault(which_encoder(score.model, score.environment), ModelRow(score.model.id, own=True))
    said, before = f"{score.benchmark} {score.version}", line.cells.get((score.benchmark, score.task))
    if before and before != (percent(score.score), said):
        said += f"; before: {before[0]}, {before[1]}"
    line.cells[score.benchmark, score.task] = percent(score.score), said


def _add_published(groups: dict[str, Group], rows: dict[tuple, ModelRow]) -> None:
    for model in published_models():
        key = f"{model.benchmark}, {model.method}" if model.method else model.benchmark
        group = groups.setdefault(key, Group(key, notes=["by its own program, under its protocol"]))
        source = f"published rows: {SOURCES[model.benchmark]}"
        if source not in group.notes:
            group.notes.append(source)
        line = rows.setdefault(("published", model.model_id), ModelRow(model.model_id, own=False))
        for task, value in model.scores.items():
            group.tasks.setdefault(task, "")
            said = f"{model.benchmark} {model.version}" + (f", revision {model.revision}" if model.revision else "")
            line.cells[key, task] = percent(value), said


def render(board: Board) -> str:
    """The page, one HTML file that fetches nothing and needs no script."""
    table = benchmark_table(board)
    style = (files("arch_hf.reports.page") / "page.css").read_text(encoding="utf-8") + STYLE
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="generator" content="{MARK}">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>Benchmarks</title><style>{style}</style></head><body>",
            '<header class="top"><div><h1>Every benchmark\'s numbers</h1><p class="lead">Percent. Each group of columns has a protocol of its own: '
            "compare within a group, never across. Rows marked “published” are others' tables.</p></div></header><main><table>",
            *_head(table),
            "<tbody>",
            *(_line(table, row) for row in table.rows),
            "</tbody></table><ul>",
            *(f"<li>{_text(group.title)}: {_text('; '.join(group.notes))}</li>" for group in table.groups.values()),
            "</ul></main></body></html>\n",
        ]
    )


def _head(table: BenchmarkTable) -> Iterator[str]:
    groups = [group for group in table.groups.values() if group.tasks]
    names = "".join(
        f'<th class="group" scope="colgroup" colspan="{len(g.tasks)}">{_text(g.title)}</th>' for g in groups
    )
    tasks = "".join(
        f'<th scope="col" title="{_text(what)}">{_text(task)}</th>' for g in groups for task, what in g.tasks.items()
    )
    yield f'<thead><tr><th scope="row" rowspan="2">Model</th>{names}</tr><tr>{tasks}</tr></thead>'


def _line(table: BenchmarkTable, row: ModelRow) -> str:
    cells = []
    for key, group in table.groups.items():
        for i, task in enumerate(group.tasks):
            text, said = row.cells.get((key, task), ("–", ""))
            edge = ' class="first"' if i == 0 else ""
            cells.append(f'<td{edge} title="{_text(said)}">{_text(text)}</td>' if said else f"<td{edge}>{text}</td>")
    name = _text(row.name) + ("" if row.own else " (published)")
    return f'<tr{" class=own" if row.own else ""}><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _text(text: str) -> str:
    return escape(visible(text))
