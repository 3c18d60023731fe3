"""Which of our models differ: every pair of a view, by the same test as `arch-hf compare`, where the predictions lie beside the results."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

from arch_hf.errors import UserError
from arch_hf.probing.estimate import Estimate, mean_estimate, over_units
from arch_hf.probing.statistics import Jackknife, difference, jackknife
from arch_hf.progress import progress_bar
from arch_hf.reports.columns import AVERAGES, Column
from arch_hf.reports.rows import MOST_COMPARED, OwnCell, Pairs, Row, View
from arch_hf.results.predictions import PredictedClips


class Tested(NamedTuple):
    """One score without each unit in turn, and what it was tested on: only what agrees in that can be paired."""

    data: str
    jackknife: Jackknife


def compare_rows(view: View, warnings: list[str]) -> Pairs | None:
    """The differences of every two of our models that have predictions; what cannot be read becomes a warning."""
    cells = {id(row): _cells_with_predictions(row) for row in view.own_rows}
    rows = [row for row in view.own_rows if cells[id(row)]]
    if len(rows) < 2:
        return None
    rows.sort(key=lambda row: (row.rank is None, row.rank or 0, -len(cells[id(row)]), row.name))
    if len(rows) > MOST_COMPARED:
        names = ", ".join(row.name for row in rows[MOST_COMPARED : MOST_COMPARED + 3])
        warnings.append(
            f"paired differences on the page ({view.title}) of {len(rows) - MOST_COMPARED} models ({names} ...): arch-hf compare has them"
        )
    chosen = rows[:MOST_COMPARED]
    todo = [(row, corpus, cell) for row in chosen for corpus, cell in cells[id(row)].items()]
    tested: dict[int, dict[str, Tested]] = {id(row): {} for row in chosen}
    for number in progress_bar("comparing models", len(todo), True, range(len(todo)), unit="result"):
        row, corpus, cell = todo[number]
        try:
            tested[id(row)][corpus] = _test(cell)
        except UserError as error:
            warnings.append(f"paired differences of {row.name} on {corpus}: {error}")
    pairs = combinations(range(len(chosen)), 2)
    sides = [tested[id(row)] for row in chosen]
    return Pairs(tuple(chosen), {(i, j): _differences(sides[i], sides[j], view.columns) for i, j in pairs})


def _cells_with_predictions(row: Row) -> dict[str, OwnCell]:
    return {c: cell for c, cell in row.own_cells.items() if cell.caveat is None and cell.has_predictions}


def _test(cell: OwnCell) -> Tested:
    clips = PredictedClips(cell.path, cell.result)
    tests = clips.test_sets(clips.rows(sorted(clips.clip_ids)))
    return Tested(f"{cell.result.dataset.fingerprint} {clips.fingerprint()}", jackknife(tests)[cell.result.metric])


def _differences(
    first: Mapping[str, Tested], second: Mapping[str, Tested], columns: tuple[Column, ...]
) -> dict[str, Estimate]:
    """By corpus, then the means over those corpora of each domain and over all of them, and what another corpus would give."""
    found: dict[str, Estimate] = {}
    for column in columns:
        one, other = first.get(column.key), second.get(column.key)
        if one and other and one.data == other.data:
            found[column.key] = difference(one.jackknife, other.jackknife)
    means = {}
    for name in AVERAGES:
        of_group = [found[c.key] for c in columns if c.key in found and name in (c.domain, "all")]
        if len(of_group) > 1:
            means[name] = mean_estimate(of_group)
    if len(found) > 1:
        means["elsewhere"] = over_units([estimate.value for estimate in found.values()])
    return found | means
