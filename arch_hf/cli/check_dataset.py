"""`arch-hf check-dataset`: what would be read of a dataset, and what is wrong with it."""

import sys

from arch_hf.cli.reading import add_reading_arguments, reading_arguments
from arch_hf.terminal import say


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "check-dataset",
        help="say how a dataset of one's own would be read, and what is wrong with it",
        description="Read a dataset as evaluate would: its columns, splits, classes, lengths and copies, and all that is wrong, at once. "
        "Status 1 if something is.",
        example="arch-hf check-dataset my/recordings --label_column species",
    )
    parser.add_argument(
        "dataset", metavar="ID", help="Hub dataset id, folder, or file (csv, tsv, jsonl, Parquet, zip, tar)"
    )
    parser.add_argument("--data_dir", help="look for DATA_DIR/ID first")
    parser.add_argument("--streaming", action="store_true", help="read from the Hub in passing, without a copy on disk")
    add_reading_arguments(parser)
    parser.set_defaults(run=run)


def run(args) -> int:
    from arch_hf.data.check import check_dataset, report
    from arch_hf.data.custom.options import ReadingOptions

    options = ReadingOptions(**reading_arguments(args))
    check = check_dataset(args.dataset, args.data_dir, options, streaming=args.streaming, progress=sys.stderr.isatty())
    say(report(check))
    return 0 if check.is_fine else 1
