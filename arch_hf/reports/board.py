"""The leaderboard: results sorted into views, one row per model, the paper's rows beside those they compare with.

One view is one protocol (with its version) at one layer, so that a column never holds scores that cannot be compared. The paper's
Table 2 stands in the views that it belongs to: arch-v1, last layer.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from arch_hf.probing.protocols import get_protocol
from arch_hf.reports.columns import SIZES, columns_of, size_class
from arch_hf.reports.ranking import rank_view
from arch_hf.reports.rows import Board, Cell, OwnCell, Row, View
from arch_hf.results.folder import Filed, LeftOut, encoder_of, plain_first, stands_in_for
from arch_hf.results.table2 import DRAW_UNCERTAINTY, TABLE2_MODELS

PLAIN_DTYPE = "float32"


def build_board(results: Iterable[Filed], left_out: Sequence[LeftOut] = ()) -> Board:
    """Sort results into views, set the paper's rows beside those they compare with, and work out what is best. A score that stands where a damaged
    one would is marked, and what was left out since it is damaged is a note of the first view.

    Examples:
        >>> board = build_board([])
        >>> len(board.views), len(board.views[0].rows), board.views[0].rows[0].name
        (1, 16, 'W2V2')
        >>> [row.name for row in board.views[0].rows if row.cells["us8k"].best]
        ['HuBERT-AS']
    """
    results = list(results)
    reference = reference_protocol()
    groups: dict[tuple[str, str, int], list[Filed]] = {(*reference, -1): []}
    for filed in results:
        protocol = filed.result.protocol
        key = (protocol["name"], str(protocol["version"]), filed.result.layer)
        groups.setdefault(key, []).append(filed)
    found = _Found([], {line.damaged: line for line in left_out if line.damaged})
    order = sorted(groups, key=lambda key: (key[:2] != reference, key[0] != reference[0], key))
    views = [_build_view(*key, groups[key], found) for key in order]
    damaged = [str(line) for line in found.damaged.values()]
    views[0].notes += [f"left out, since it is damaged: {line}" for line in damaged]
    return Board(views, results, found.warnings, damaged=damaged)


class _Found(NamedTuple):
    """What is to be told of the files: `warnings`, and of each that is damaged its path and why."""

    warnings: list[str]
    damaged: dict[Path, LeftOut]


def reference_protocol() -> tuple[str, str]:
    """Name and version of the protocol that Table 2 belongs to."""
    protocol = get_protocol("arch-v1")
    return protocol.name, protocol.version


def _build_view(protocol: str, version: str, layer: int, filed: Sequence[Filed], found: _Found) -> View:
    by_encoder: dict[tuple, list[Filed]] = {}
    for each in filed:
        by_encoder.setdefault(encoder_of(each.result), []).append(each)
    own = [_own_row(of_encoder, found) for of_encoder in by_encoder.values()]
    own.sort(key=lambda row: ((*SIZES, "").index(row.size), row.model_id.lower(), row.model_id, row.revision or ""))
    published = published_rows() if (protocol, layer) == (reference_protocol()[0], -1) else []
    view = View(protocol, version, layer, columns_of(each.result for each in filed), own + published)
    _set_differences(view)
    rank_view(view)
    view.notes = _notes(view)
    return view


def published_rows() -> list[Row]:
    """The sixteen rows of Table 2."""
    return [
        Row(
            name=model.name,
            model_id=model.model_id,
            revision=None,
            size=model.size,
            audioset=model.audioset,
            published=True,
            n_parameters=model.n_parameters,
            gflop_per_second=model.gflop_per_second,
            page=f"https://huggingface.co/{model.model_id}",
            cells={corpus: Cell(score) for corpus, score in model.scores.items()},
        )
        for model in TABLE2_MODELS
    ]


def _own_row(filed: Sequence[Filed], found: _Found) -> Row:
    """One encoder with all its results of a view, under one of the names that it has."""
    first = _named_best(filed)
    model = first.result.model
    names = dict.fromkeys(each.result.model.id for each in filed)
    known = next((row for row in TABLE2_MODELS if row.model_id == model.id), None)
    dtype = first.result.environment.get("dtype", PLAIN_DTYPE)
    return Row(
        name=model.id,
        model_id=model.id,
        revision=model.revision,
        size=known.size if known else size_class(model.n_parameters),
        audioset=bool(known and known.audioset),
        published=False,
        n_parameters=model.n_parameters or None,
        gflop_per_second=model.gflop_per_second or (known.gflop_per_second if known else None),
        also=tuple(name for name in names if name != model.id),
        variant=None if dtype == PLAIN_DTYPE else str(dtype),
        page=f"https://huggingface.co/{model.id}" if known or model.revision else None,
        encoder=encoder_of(first.result),
        cells=dict(_own_cells(filed, found)),
    )


def _named_best(filed: Sequence[Filed]) -> Filed:
    """The result whose name the row takes: one of Table 2, one on the Hub, the commonest."""
    published, count = {row.model_id for row in TABLE2_MODELS}, Counter(each.result.model.id for each in filed)

    def order(each: Filed) -> tuple:
        model = each.result.model
        return (model.id not in published, model.revision is None, -count[model.id], model.id, model.revision or "")

    return min(filed, key=order)


def _own_cells(filed: Sequence[Filed], found: _Found) -> Iterable[tuple[str, Cell]]:
    by_corpus: dict[str, list[Filed]] = {}
    for each in filed:
        by_corpus.setdefault(each.result.corpus, []).append(each)
    for corpus, same in by_corpus.items():
        path, result = shown = min(
            same,
            key=lambda each: (not each.result.few_shot, plain_first(each)) if _agree(same) else plain_first(each),
        )
        yield corpus, OwnCell(result.headline.mean, result.caveat or _in_place(shown, found), result=result, path=path)
        found.warnings.extend(
            f"{each.path}: {path} holds the same model, corpus, protocol and layer"
            for each in same
            if each is not shown and each.result.metrics != result.metrics
        )


def _in_place(shown: Filed, found: _Found) -> str | None:
    """What is to be said of a score that stands where another would, if that were not damaged."""
    lost = stands_in_for(shown.path, found.damaged)
    seeds = shown.result.protocol.get("seeds")
    of = f" of {seeds} seed{'s' * (seeds != 1)}" if seeds else ""
    return f"the result{of} in {shown.path.name}, in place of {lost}, which is damaged" if lost else None


def _agree(same: Sequence[Filed]) -> bool:
    """Whether these results, of one encoder on one corpus, say the same: one question under two names, or asked once more with --shots."""
    return all(each.result.metrics == same[0].result.metrics and not each.result.caveat for each in same)


def _set_differences(view: View) -> None:
    published = {row.model_id: row for row in view.rows if row.published}
    for row in view.own_rows:
        for name in (row.model_id, *row.also):
            if name in published:
                for corpus, cell in row.cells.items():
                    reference = published[name].cells.get(corpus)
                    if reference and cell.caveat is None:
                        cell.delta, cell.uncertainty = cell.value - reference.value, DRAW_UNCERTAINTY.get(corpus)


def _notes(view: View) -> list[str]:
    """What a reader must know to trust a column."""
    notes = []
    for column in view.columns:
        cells = [row.own_cells[column.key] for row in view.own_rows if row.comparable(column.key) is not None]
        sizes = sorted({cell.result.dataset.n_clips for cell in cells})
        if len(sizes) > 1:
            notes.append(
                f"{column.title}: the scores come from different numbers of clips ({', '.join(map(str, sizes))})"
            )
        seeds = sorted({len({run.seed for run in cell.result.runs}) for cell in cells if cell.result.runs})
        if len(seeds) > 1:
            notes.append(
                f"{column.title}: the scores are means of different numbers of seeds ({', '.join(map(str, seeds))})"
            )
    notes += [
        f"{row.name}, {corpus}: {cell.caveat}"
        for row in view.own_rows
        for corpus, cell in row.own_cells.items()
        if cell.caveat != cell.result.caveat
    ]
    marked = sum(cell.caveat is not None for row in view.rows for cell in row.cells.values())
    if marked:
        notes.append(
            f"{marked} incomplete, limited or substituted result{'s' * (marked > 1)}: marked, and not ranked, averaged or best"
        )
    return notes
