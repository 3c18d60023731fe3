"""What is best, averages and ranks of one view. Only scores that may be compared count: a cell with a caveat is shown and nothing else."""

from collections import Counter
from collections.abc import Sequence

from arch_hf.reports.columns import AVERAGES, SIZES, TWELVE_KEYS
from arch_hf.reports.rows import Cell, Row, View
from arch_hf.results.text import hundredths


def rank_view(view: View) -> None:
    """Set the marks, averages and ranks of the view's rows and cells."""
    _mark_best(view)
    _average(view)
    _rank(view)


def _mark_best(view: View) -> None:
    """Best of each size class, and best of all, among comparable scores as shown: equal percentages share the mark."""
    for column in view.columns:
        scored = [(row, row.cells[column.key]) for row in view.rows if row.comparable(column.key) is not None]
        for size in SIZES:
            for cell in _highest([cell for row, cell in scored if row.size == size]):
                cell.best_of_size = True
        for cell in _highest([cell for _, cell in scored]):
            cell.best = True


def _highest(cells: Sequence[Cell]) -> list[Cell]:
    top = max((hundredths(cell.value) for cell in cells), default=None)
    return [cell for cell in cells if hundredths(cell.value) == top]


def _average(view: View) -> None:
    """Plain means over the corpora of a domain, and over the twelve; None unless every one of them has a comparable score."""
    for row in view.rows:
        for name, corpora in AVERAGES.items():
            scores = [row.comparable(corpus) for corpus in corpora]
            known = [score for score in scores if score is not None]
            row.averages[name] = sum(known) / len(known) if len(known) == len(scores) else None


def _rank(view: View) -> None:
    """Rank in each column (1 is best, ties share their mean rank); over all, by mean rank, the rows that have all twelve."""
    for column in view.columns:
        cells = [row.cells[column.key] for row in view.rows if row.comparable(column.key) is not None]
        for cell, rank in zip(cells, tied_ranks([hundredths(cell.value) for cell in cells]), strict=True):
            cell.rank = rank
    complete = [row for row in view.rows if row.is_complete]
    mean_ranks = mean_rank_of(complete, TWELVE_KEYS)
    for row, mean_rank in zip(complete, mean_ranks, strict=True):
        row.mean_rank = mean_rank
        row.rank = 1 + sum(other < mean_rank for other in mean_ranks)


def tied_ranks(scores: Sequence[float]) -> list[float]:
    """Ranks from the highest score down, 1 first; ties share the mean of their places.

    Examples:
        >>> tied_ranks([0.9, 0.5, 0.9])
        [1.5, 3.0, 1.5]
    """
    counts, ranks, place = Counter(scores), {}, 0
    for score in sorted(counts, reverse=True):
        ranks[score] = place + (counts[score] + 1) / 2
        place += counts[score]
    return [ranks[score] for score in scores]


def mean_rank_of(rows: Sequence[Row], corpora: Sequence[str]) -> list[float]:
    """Each row's rank among these rows, averaged over the corpora; every row must have a score for each."""
    if not rows:
        return []
    ranks = [tied_ranks([hundredths(row.cells[corpus].value) for row in rows]) for corpus in corpora]
    return [sum(of_row) / len(corpora) for of_row in zip(*ranks, strict=True)]
