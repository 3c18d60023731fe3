"""The leaderboard as one HTML file: styles, scripts and data inlined, nothing fetched."""

from importlib.resources import files
from itertools import chain

from arch_hf.reports.board import DOMAINS, PAPER, SIZE_NAMES, Board, Cell, Row, View, percent
from arch_hf.reports.escape import json_in_html, visible
from arch_hf.results.result import Result

SCRIPTS = ("data.js", "table.js", "panels.js", "main.js")
CONFUSION_BUDGET = 600_000  # characters of confusion matrices in the page; more are left to the plots


def render(board: Board) -> str:
    """The page. Names reach it only as JSON that the scripts set as text, never as HTML."""
    page = _asset("page.html")
    parts = {
        "style": _asset("page.css"),
        "script": "\n".join(_asset(name) for name in SCRIPTS),
        "data": json_in_html(page_data(board)),
    }
    for name, text in parts.items():
        page = page.replace(f"/*{name}*/", text, 1)
    return page


def _asset(name: str) -> str:
    return (files("arch_hf.reports.page") / name).read_text(encoding="utf-8")


def page_data(board: Board) -> dict:
    """What the scripts draw, in percent. Lists instead of objects where there are many: the field names are in `data.js`."""
    pool = _Pool()
    views = [_view(view, pool) for view in board.views]
    return {
        "paper": PAPER,
        "domains": DOMAINS,
        "sizes": SIZE_NAMES,
        "views": views,
        "classes": pool.classes,
        "details": pool.details,
    }


class _Pool:
    """Class names, written once per set, and the details (class scores, confusion) that cells point to by number."""

    def __init__(self):
        self.classes: list[list[str]] = []
        self.details: list[list] = []
        self._numbers: dict[tuple[str, ...], int] = {}
        self._budget = CONFUSION_BUDGET

    def add(self, result: Result) -> int | None:
        """The number of the result's details; None where it has none."""
        if not result.class_names:
            return None
        if result.class_names not in self._numbers:
            self._numbers[result.class_names] = len(self.classes)
            self.classes.append([visible(name) for name in result.class_names])
        scores = [None if score is None else round(1000 * score) for score in result.class_scores]
        detail = [self._numbers[result.class_names], scores]
        if result.confusion and self._budget > 0:
            counts = _sparse(result.confusion)
            self._budget -= sum(len(str(count)) + 1 for count in counts)
            if self._budget >= 0:
                detail.append(counts)
        self.details.append(detail)
        return len(self.details) - 1


def _sparse(matrix) -> list[float]:
    """Row-major counts to one decimal, each run of n zeros as -n.

    Example:
        >>> _sparse(((5, 0), (0, 7)))
        [5, -2, 7]
    """
    flat: list[float] = []
    for count in chain.from_iterable(matrix):
        if count >= 0.05:
            flat.append(int(count) if count == int(count) else round(count, 1))
        elif flat and flat[-1] < 0:
            flat[-1] -= 1
        else:
            flat.append(-1)
    return flat


def _view(view: View, pool: _Pool) -> dict:
    return {
        "protocol": visible(f"{view.protocol} {view.version}"),
        "layer": view.layer,
        "columns": [[visible(c.key), visible(c.title), c.domain, c.metric] for c in view.columns],
        "rows": [_row(row, view, pool) for row in view.rows],
        "notes": [visible(note) for note in view.notes],
    }


def _row(row: Row, view: View, pool: _Pool) -> list:
    averages = [row.averages[name] for name in ("events", "music", "speech", "all")]
    return [
        visible(row.name),
        visible(row.model_id),
        visible(row.revision) if row.revision else None,
        row.size,
        int(row.audioset),
        int(row.published),
        row.n_parameters,
        row.gflop_per_second,
        [None if value is None else percent(value) for value in averages],
        row.mean_rank and round(row.mean_rank, 2),
        row.rank,
        [_cell(row.cells.get(column.key), view, pool) for column in view.columns],
    ]


def _cell(cell: Cell | None, view: View, pool: _Pool) -> list | int:
    """[score, marks, difference, low, high, std, rank, caveat, clips, runs, majority, details], cut after the last that is known."""
    if cell is None:
        return 0
    result = cell.result
    values = [
        percent(cell.value),
        cell.best_of_size + 2 * cell.best,
        None if cell.delta is None else percent(cell.delta),
    ]
    values += [percent(bound) for bound in result.headline.ci95] if result and result.headline.ci95 else [None, None]
    if view.layer == -1:
        values += [
            percent(result.headline.std_folds) if result and result.headline.std_folds is not None else None,
            cell.rank,
            _text(cell.caveat),
        ]
        if result:
            majority = result.baselines.get("majority", {}).get(result.metric)
            majority = None if majority is None else percent(majority)
            values += [result.dataset.n_clips, len(result.runs), majority, pool.add(result)]
    else:
        values += [None, None, _text(cell.caveat)]
    while values[-1] is None:
        values.pop()
    return values


def _text(text: str | None) -> str | None:
    return None if text is None else visible(text)
