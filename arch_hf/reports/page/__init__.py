"""The leaderboard as one HTML file: styles, scripts and data inlined, nothing fetched."""

from importlib.resources import files
from itertools import chain
from typing import Any

import numpy as np

from arch_hf.probing.estimate import FEWEST_UNITS, half_width, two_sided_p
from arch_hf.reports.columns import AVERAGE_NAMES, DOMAINS, PAPER, SIZE_NAMES
from arch_hf.reports.escape import json_in_html
from arch_hf.reports.rows import MOST_COMPARED, Board, Cell, OwnCell, Pairs, Row, View
from arch_hf.reports.tables import few_units
from arch_hf.results.result import Result
from arch_hf.results.text import hundredths
from arch_hf.terminal import visible

SCRIPTS = ("data.js", "table.js", "intervals.js", "compare.js", "classes.js", "layers.js", "main.js", "address.js")
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
        "fewest_units": FEWEST_UNITS,
        "most_compared": MOST_COMPARED,
        "views": views,
        "classes": pool.classes,
        "details": pool.details,
    }


class _Pool:
    """The numbers of encoders; class names, written once per set, and the details (class scores, confusion) that cells point to by number."""

    def __init__(self) -> None:
        self.classes: list[list[str]] = []
        self.details: list[list] = []
        self._numbers: dict[tuple[str, ...], int] = {}
        self._encoders: dict[tuple, int] = {}
        self._budget = CONFUSION_BUDGET

    def number(self, encoder: tuple) -> int:
        """The same for a model in every view."""
        return self._encoders.setdefault(encoder, len(self._encoders))

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

    Examples:
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
        "protocol": visible(view.protocol_title),
        "layer": view.layer,
        "columns": [[visible(c.key), visible(c.title), c.domain, c.metric] for c in view.columns],
        "rows": [_row(row, view, pool) for row in view.rows],
        "notes": [visible(note) for note in view.notes],
        "pairs": _pairs(view.pairs, view) if view.pairs else None,
    }


def _row(row: Row, view: View, pool: _Pool) -> list:
    layers = [cell.result.model.n_layers for cell in row.own_cells.values()]
    values: list[Any] = [
        visible(row.name),
        visible(row.model_id),
        _text(row.revision),
        row.size,
        int(row.audioset),
        int(row.published),
        row.n_parameters,
        row.gflop_per_second,
        [_percent(row.averages[name]) for name in AVERAGE_NAMES],
        row.mean_rank and round(row.mean_rank, 2),
        row.rank,
        [_cell(row.cells.get(column.key), view, pool) for column in view.columns],
        _text(row.page),
        _text(", ".join(row.also) or None),
        _text(row.variant),
        next(filter(None, layers), None),
        pool.number(row.encoder) if row.encoder else None,
    ]
    while values[-1] is None:
        values.pop()
    return values


def _cell(cell: Cell | None, view: View, pool: _Pool) -> list | int:
    """The fields of `CELL` in `data.js`, cut after the last that is known; 0 where there is no score."""
    if cell is None:
        return 0
    values: list[Any] = [hundredths(cell.value), cell.best_of_size + 2 * cell.best, _percent(cell.delta)]
    if isinstance(cell, OwnCell):
        score, result = cell.result.headline, cell.result
        values += [_percent(bound) for bound in score.ci95 or (None, None)]
        values += [_percent(score.std_folds), _percent(score.std_seeds), _text(cell.caveat)]
        if view.layer == -1:
            values += [cell.rank, result.dataset.n_clips, _folds_and_seeds(result)]
            values += [_percent(result.baselines.get(name, {}).get(result.metric)) for name in ("majority", "mfcc")]
            values += [pool.add(result), _few_shot(result), _percent(cell.uncertainty), few_units(result)]
    elif view.layer == -1:
        values += [None] * 5 + [cell.rank]
    while values[-1] is None:
        values.pop()
    return values


def _folds_and_seeds(result: Result) -> list[int]:
    return [len({run.fold for run in result.runs}), len({run.seed for run in result.runs})]


def _few_shot(result: Result) -> list[list[float]] | None:
    """[shots, mean, std over draws] each."""
    found = {shots: block.metrics.get(result.metric) for shots, block in result.few_shot.items()}
    return [[int(n), hundredths(m["mean"]), hundredths(m["std"])] for n, m in found.items() if m] or None


def _pairs(pairs: Pairs, view: View) -> dict:
    """The places of the compared rows; and for each two of them, in order, what is in `keys`: [difference, half of the interval, p, units], the
    middle two null where no verdict is possible, or 0 where there is no such pair."""
    keys = [*(column.key for column in view.columns), *AVERAGE_NAMES, "elsewhere"]
    estimates = [estimate for found in pairs.found.values() for estimate in found.values()]
    value, error, df = (np.array([getattr(e, name) for e in estimates]) for name in ("value", "standard_error", "df"))
    halves, ps = half_width(error, df), two_sided_p(value, error, df)
    packed = {
        id(estimate): [
            round(100 * estimate.value, 2),
            *([_round(100 * half), float(f"{p:.2g}")] if estimate.has_verdict else [None, None]),
            estimate.n_units,
        ]
        for estimate, half, p in zip(estimates, halves.tolist(), ps.tolist(), strict=True)
    }
    places = {id(row): place for place, row in enumerate(view.rows)}
    return {
        "rows": [places[id(row)] for row in pairs.rows],
        "keys": [visible(key) for key in keys],
        "found": [[packed[id(found[key])] if key in found else 0 for key in keys] for found in pairs.found.values()],
    }


def _round(points: float) -> float:
    """To a hundredth, no more than all."""
    return round(min(points, 100.0), 2)


def _percent(value: float | None) -> float | None:
    return None if value is None else hundredths(value)


def _text(text: str | None) -> str | None:
    return None if text is None else visible(text)
