"""The `arch-hf` command. Each area of the package has one module here with `add_parser(subparsers)`."""

import importlib

from arch_hf import __version__
from arch_hf.cli.parser import Parser
from arch_hf.errors import run_command

# One module per area; each adds its subcommands, each with an example, and sets `run`, a function of the parsed arguments that returns the
# exit status, and maybe `check`, which raises what is wrong with them. Modules import what is heavy inside of these two, so that
# `arch-hf --help` answers at once.
AREAS = (
    "evaluate",
    "mteb",
    "plan",
    "jobs",
    "check_dataset",
    "corpora",
    "listing",
    "encoders",
    "cache",
    "doctor",
    "compare",
    "report",
    "publish",
    "prepare_audio",
    "pretrain",
    "completion",
)


def build_parser() -> Parser:
    parser = Parser(
        prog="arch-hf",
        description="Evaluate frozen audio encoders on the ARCH benchmark.",
        example="arch-hf evaluate --datasets synthetic_events",
    )
    parser.add_argument("--version", action="version", version=f"arch-hf {__version__}")
    parser.set_defaults(root=parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for area in AREAS:
        importlib.import_module(f"arch_hf.cli.{area}").add_parser(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return run_command(args.run, args)
