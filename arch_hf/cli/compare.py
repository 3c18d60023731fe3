"""`arch-hf compare A B`: is A better than B, on one corpus or over all?"""

import sys
from pathlib import Path

from arch_hf.cli.damaged import status_of
from arch_hf.errors import UserError
from arch_hf.terminal import say


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="is one result, or one model, better than another?",
        example="arch-hf compare results/me__new results/me__old",
        description="Paired test of two result files on the same dataset under the same protocol, or of two folders of results, each of one "
        "model: per corpus, per domain and over all (status 1 if a result is damaged, and so not in it). "
        "The units are speakers, recordings or albums where they are known, else clips.",
    )
    parser.add_argument(
        "first", metavar="A", help="a result file, with its .predictions.safetensors beside it, or a folder of them"
    )
    parser.add_argument("second", metavar="B")
    parser.set_defaults(run=run)


def run(args) -> int:
    for path in (args.first, args.second):
        if not Path(path).exists():
            raise UserError(f"no result or folder of results at {path}")
    folders = [Path(path).is_dir() for path in (args.first, args.second)]
    if any(folders) and not all(folders):
        raise UserError(f"{args.first} and {args.second}: give two result files, or two folders")
    if all(folders):
        return _run_folders(args)
    from arch_hf.results.comparison import compare
    from arch_hf.results.comparison_table import comparison_text

    say(comparison_text(compare(args.first, args.second)))
    return 0


def _run_folders(args) -> int:
    from arch_hf.results.comparison_table import folders_text
    from arch_hf.results.folder import LeftOut
    from arch_hf.results.folder_comparison import compare_folders

    tables, notes = compare_folders(args.first, args.second)
    say("\n\n".join(map(folders_text, tables)))
    for note in notes:
        say(note, file=sys.stderr)
    damaged = sum(isinstance(note, LeftOut) and note.damaged is not None for note in notes)
    return status_of(damaged, "the verdict over all may lack corpora")
