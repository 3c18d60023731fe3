"""Reports: from a folder of results to a page, tables and plots.

results --board--> Board (views, one row per model) --ranking, pairs--> marks, averages, ranks, paired differences
        --tables--> markdown, latex;  --> page, spreadsheet, benchmarks, plots
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path

from arch_hf.errors import UserError
from arch_hf.files import write_atomically
from arch_hf.reports import benchmarks, latex, markdown, page, spreadsheet
from arch_hf.reports.board import build_board
from arch_hf.reports.old_files import remove_old_files
from arch_hf.reports.rows import Board
from arch_hf.results.benchmark import read_benchmarks
from arch_hf.results.folder import read_results

TEXT_FORMATS = {"html": page.render, "md": markdown.render, "csv": spreadsheet.render, "tex": latex.render}

__all__ = ["load_board", "write_report"]


def load_board(results_dir: str | Path | None) -> Board:
    """The leaderboard of a folder of results; of the paper's Table 2 alone where `results_dir` is None.

    `board.warnings` names each JSON file that was left out, with the reason, `board.damaged` those that may have been results.
    """
    results, skipped = ([], []) if results_dir is None else read_results(results_dir)
    board = build_board(results, skipped)
    board.warnings[:0] = skipped
    if results_dir is not None:
        board.benchmarks, damaged = read_benchmarks(results_dir)
        board.warnings += damaged
        board.damaged += damaged
    views = [view for view in board.last_layer_views if view.n_with_predictions > 1]
    if views:
        from arch_hf.reports.pairs import (
            compare_rows,  # heavy: the metrics need torch, and a page of results alone does not
        )

        for view in views:
            view.pairs = compare_rows(view, board.warnings)
    return board


def write_report(board: Board, output_dir: str | Path) -> Iterator[Path]:
    """Write `leaderboard.html`, `.md`, `.csv` and `.tex`, then `benchmarks.html` where there are scores of other benchmarks, then the plots;
    yields each file when it is there. In the end, what an earlier report has written and this one has not is removed, which is one of `board.warnings`.

    Without matplotlib there are no plots, which is one of `board.warnings`.

    Raises:
        UserError: if the folder cannot be written.

    Examples:
        >>> import tempfile
        >>> files = write_report(load_board(None), tempfile.mkdtemp())
        >>> [next(files).name for _ in range(4)]
        ['leaderboard.html', 'leaderboard.md', 'leaderboard.csv', 'leaderboard.tex']
    """
    output_dir = Path(output_dir)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {output_dir} ({error.strerror})") from None
    with _drawing(board) as plots:
        tables = ((f"leaderboard.{suffix}", render(board).encode("utf-8")) for suffix, render in TEXT_FORMATS.items())
        pages = [("benchmarks.html", benchmarks.render(board).encode("utf-8"))] if board.benchmarks else []
        written = []
        for name, content in chain(tables, pages, plots):
            write_atomically(output_dir / name, content)
            written.append(output_dir / name)
            yield output_dir / name
    board.warnings += remove_old_files(output_dir, written)


def _drawing(board: Board) -> AbstractContextManager[Iterable[tuple[str, bytes]]]:
    """The plots being drawn; none without matplotlib."""
    try:
        from arch_hf.reports.plots import drawing
    except ImportError:
        board.warnings.append("the plots, since matplotlib is not installed: pip install 'arch-hf[plots]'")
        return nullcontext(())
    return drawing(board)
