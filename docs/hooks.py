"""Pages that are made from the code when the site is built: the help of every command, and the schema of a result file."""

import json
from collections.abc import Iterator

from mkdocs.structure.files import File

from arch_hf.cli import build_parser
from arch_hf.results.result import json_schema


def on_files(files, config):
    """Add the generated pages to those that lie in the folder."""
    files.append(File.generated(config, "commands.md", content=commands_page()))
    files.append(File.generated(config, "result.schema.json", content=json.dumps(json_schema(), indent=1)))
    return files


def commands_page() -> str:
    """The help of `arch-hf` and of each of its commands, as they print it."""
    parts = ["# Command line\n\nWhat `arch-hf COMMAND --help` prints, for every command."]
    for name, parser in commands(build_parser(), "arch-hf"):
        parts.append(f"## {name}\n\n```text\n{parser.format_help().strip()}\n```")
    return "\n\n".join(parts) + "\n"


def commands(parser, name: str) -> Iterator[tuple]:
    """Every command with its parser, in the order of the help."""
    yield name, parser
    for action in parser._subparsers._group_actions if parser._subparsers else ():
        for choice, command in action.choices.items():
            yield from commands(command, f"{name} {choice}")
