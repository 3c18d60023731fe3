"""The `arch-hf` command. Each area of the package has one module here with `add_parser(subparsers)`."""

import argparse
import difflib
import importlib

from arch_hf.errors import run_command

# One module per area; each adds its subcommands and sets `run`, a function of the parsed arguments that returns the exit status.
# Modules import what is heavy inside `run`, so that `arch-hf --help` answers at once.
AREAS = ("evaluate", "corpora", "listing", "encoders", "cache", "doctor", "compare", "report", "publish")


class _Parser(argparse.ArgumentParser):
    """A wrong flag is one line, like every other mistake."""

    def __init__(self, **options):
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str):
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")

    def parse_args(self, args=None, namespace=None):
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = parsed.parser
            near = difflib.get_close_matches(unknown[0].split("=")[0], command._option_string_actions, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            command.error(f"unknown argument {' '.join(unknown)}{hint}")
        return parsed


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="arch-hf", description="Evaluate frozen audio encoders on the ARCH benchmark.")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for area in AREAS:
        importlib.import_module(f"arch_hf.cli.{area}").add_parser(subparsers)
    for command in subparsers.choices.values():
        command.set_defaults(parser=command)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    return run_command(args.run, args)
