"""`arch-hf report`: a page, tables and plots from a folder of results."""

import gc
import sys
from pathlib import Path

from arch_hf.cli.damaged import status_of
from arch_hf.errors import UserError
from arch_hf.terminal import say

RESULTS = "results"  # the main job's default --output_dir


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "report",
        help="make a leaderboard page, tables and plots from results",
        example="arch-hf report results --output report",
        description="Write leaderboard.html, .md, .csv, .tex and plots (PNG and SVG), with the paper's Table 2 beside the results; "
        "benchmarks.html too where `arch-hf mteb` has left scores. Status 1 if a result is damaged, and so not in it.",
    )
    parser.add_argument(
        "results_dir",
        nargs="?",
        metavar="RESULTS_DIR",
        help=f"folder of results (default: {RESULTS}, where evaluate writes; Table 2 alone where there is none)",
    )
    parser.add_argument("--output", default="report", metavar="DIR", help="where to write (default: report)")
    parser.set_defaults(run=run)


def run(args) -> int:
    gc.disable()  # thousands of results, hardly a cycle: the collector would walk them all again and again
    try:
        return _report(args)
    finally:
        gc.enable()


def _report(args) -> int:
    from arch_hf.reports import load_board, write_report

    board = load_board(args.results_dir or (RESULTS if Path(RESULTS).is_dir() else None))
    if args.results_dir and not (board.results or board.benchmarks or board.damaged):
        raise UserError(f"no results in {args.results_dir}: give the folder that the main job wrote its results to")
    paths = []
    try:
        for path in write_report(board, args.output):
            paths.append(path)
            say(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot write to {args.output}: {error.strerror}; free some room or choose another --output"
        ) from None
    for warning in board.warnings:
        say(f"left out: {warning}", file=sys.stderr)
    say(f"the page: {paths[0]}")
    return status_of(len(board.damaged), "the report may have holes")
