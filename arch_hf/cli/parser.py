"""The parser of every command: an example first, one line for each mistake, and all of them at once."""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterator

from arch_hf.errors import UserError, problems_of


class Mistake(str):
    """A flag's value that cannot be used, as what to say of it. Parsing goes on, so that the next mistake is seen too."""


class Parser(argparse.ArgumentParser):
    """An `argparse` parser whose help begins with an example.

    A subcommand may set `check`, a function of the parsed arguments that raises a `UserError` for what no single flag can know.

    Examples:
        >>> parser = Parser(prog="count", example="count --limit 3")
        >>> _ = parser.add_argument("--limit", type=whole_number(1))
        >>> print(parser.format_help().splitlines()[0])
        Example: count --limit 3
        >>> parser.parse_args(["--limit", "3"]).limit
        3
    """

    def __init__(self, *, example: str, **options):
        super().__init__(**options, allow_abbrev=False)
        self.example = example
        self.set_defaults(parser=self)

    def format_help(self) -> str:
        return f"Example: {self.example}\n\n{super().format_help()}"

    def error(self, message: str):
        if wrong := re.match(
            r"argument (COMMAND|WHAT|what): invalid choice: '(.*?)' \(choose from (.*)\)$", message, re.S
        ):
            kind = "list of" if wrong[1] == "what" else "command"
            flags = ["--help", *(["--version"] if wrong[1] == "COMMAND" else [])]
            near = _nearest(wrong[2], [*re.findall(r"[\w-]+", wrong[3]), *flags])
            message = f"no {kind} '{wrong[2]}'" + (f"; did you mean {near}?" if near else f": there are {wrong[3]}")
        elif missing := re.search(r"are required: (COMMAND|WHAT|what|action|shell)$", message):
            choices = (action.choices for action in self._actions if missing[1] in (action.metavar, action.dest))
            command = self.prog.split()[-1]
            what = (
                "for which shell"
                if missing[1] == "shell"
                else f"what to {command if command in ('publish', 'list') else 'do'}"
            )
            message = f"say {what}: {', '.join(choice for names in choices for choice in names or ())}"
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")

    def parse_args(self, args=None, namespace=None):
        words = list(sys.argv[1:] if args is None else args)
        if self._subparsers and words and words[0].startswith("-") and words[0] not in self._option_string_actions:
            self.error(f"a command comes before {words[0]}; did you mean {self.prog} evaluate?")
        parsed, unknown = self.parse_known_args(args, namespace)
        parsed.argv = words
        command = parsed.parser
        problems = [*_mistakes(parsed, command), *([_unknown(unknown, command)] if unknown else [])]
        status = 2 if problems else 1
        try:
            if check := getattr(parsed, "check", None):
                check(parsed)
        except UserError as error:
            problems += problems_of(error)
        if problems:
            help_line = f" (see {command.prog} --help)" if status == 2 else ""
            self.exit(status, "".join(f"error: {problem}{help_line}\n" for problem in problems))
        return parsed


def _mistakes(parsed: argparse.Namespace, command: argparse.ArgumentParser) -> Iterator[str]:
    """What is wrong with single values; each is replaced by the flag's default, for the checks that follow."""
    for name, value in vars(parsed).items():
        for part in value if isinstance(value, list) and name != "argv" else [value]:
            # Paths and ids would take an empty text for the current folder. What the command itself means by one is none of the user's.
            action = command._option_string_actions.get(f"--{name}")
            empty = part == "" and "" not in (command.get_default(name), action and action.const)
            if empty or isinstance(part, Mistake):
                setattr(parsed, name, command.get_default(name))
                yield f"{f'--{name}' if action else name} {part or 'is empty: give it a value, or leave it out'}"
                break


def _unknown(unknown: list[str], command: argparse.ArgumentParser) -> str:
    known = re.findall(r"(?<![\w-])--\w+", command.format_help())
    flags = [word.split("=")[0] for word in unknown if word.startswith("-")]
    near = list(filter(None, (_nearest(flag, known) for flag in flags or unknown[:1])))
    if not flags and {"--model_id", "--datasets"} <= {*known}:
        near = [_flag_of(unknown[0])]
    hint = f"; did you mean {' and '.join(near)}?" if near else ""
    shown = " ".join(word or repr(word) for word in unknown)
    return f"unknown argument {shown}{hint}" + (SEEDS if "--seed" in flags and "--seeds" in known else "")


def _flag_of(word: str) -> str:
    """What was meant by a word that belongs to no flag."""
    from arch_hf.data.registry import CORPUS_NAMES, SYNTHETIC_NAMES
    from arch_hf.job import BASELINE_MODEL, DEFAULT_MODEL

    flags = ["--model_id"] if word in (BASELINE_MODEL, DEFAULT_MODEL) else ["--model_id", "--datasets"]
    if word in (*CORPUS_NAMES, *SYNTHETIC_NAMES):
        flags = ["--datasets"]
    return " or ".join(f"{flag} {word}" for flag in flags)


# What mteb, lighteval and lm-eval call it.
ELSEWHERE = {
    "run": "evaluate",
    "eval": "evaluate",
    "accelerate": "evaluate",
    "ls": "list",
    "tasks": "list",
    "available-tasks": "list",
    "available_tasks": "list",
    "available-benchmarks": "list",
    "available_benchmarks": "list",
    "leaderboard": "report",
    "create-meta": "publish",
    "create_meta": "publish",
    "create-model-results": "publish",
    "create_model_results": "publish",
    "-m": "--model_id",
    "--model": "--model_id",
    "--model_name_or_path": "--model_id",
    "--model_args": "--model_id",
    "--pretrained": "--model_id",
    "--fp16": "--dtype",
    "--bf16": "--dtype",
    "--half": "--dtype",
    "--precision": "--dtype",
    "-t": "--datasets",
    "--tasks": "--datasets",
    "--dataset": "--datasets",
    "--output_path": "--output_dir",
    "--output_folder": "--output_dir",
    "--batch_size": "--batch_seconds",
    "--num_fewshot": "--shots",
    "help": "--help",
    "version": "--version",
}
LISTS = {"tasks": "corpora", "datasets": "corpora", "benchmarks": "suites"}  # of arch-hf list
NOTHING_LIKE = ("--seed", "--verbose", "--num_workers")  # of which the likest flag is another thing
SEEDS = ": seeds count from 0, and --seeds says how many probes each fold has"


def _nearest(word: str, known: list[str]) -> str | None:
    """What was probably meant."""
    if word in NOTHING_LIKE:
        return None
    others = [other for other in (ELSEWHERE.get(word), LISTS.get(word)) if other in known]
    return next(iter([*others, *difflib.get_close_matches(word, known, n=1)]), None)


def whole_number(at_least: int) -> Callable[[str], int | Mistake]:
    """The type of a flag that takes a whole number.

    Examples:
        >>> whole_number(1)("3"), str(whole_number(1)("0"))
        (3, 'is 0: give 1 or more')
    """

    def read(text: str) -> int | Mistake:
        try:
            number = int(text)
        except ValueError:
            return Mistake(f"is '{text}': give a whole number, {at_least} or more")
        return number if number >= at_least else Mistake(f"is {number}: give {at_least} or more")

    return read


def positive(text: str) -> float | Mistake:
    """The type of a flag that takes a number above 0.

    Examples:
        >>> positive("2.5"), str(positive("-1"))
        (2.5, "is '-1': give a number above 0")
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    return number if 0 < number < float("inf") else Mistake(f"is '{text}': give a number above 0")
