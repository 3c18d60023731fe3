"""`arch-hf plan`: a big evaluation cut into cells, as a script that runs anywhere."""

import sys

from arch_hf.cli.evaluate import add_machine, add_question, jobs_of
from arch_hf.cli.parser import whole_number
from arch_hf.errors import UserError, all_of
from arch_hf.terminal import say

FORMATS = ("table", "shell", "slurm", "jobs")


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "plan",
        help="cut an evaluation of many models into cells, as a script for a shell, SLURM or Hugging Face Jobs",
        description="Cut an evaluation into cells (a model on a dataset under a protocol), say what each costs, and write a script that runs them side by "
        "side and reports at the end. Takes the flags of evaluate.",
        epilog="See docs/scaling.md.",
        example="arch-hf plan --model_id facebook/hubert-base-ls960 microsoft/wavlm-base --suite speech --format slurm",
        usage="%(prog)s [--format table|shell|slurm|jobs] [--machine NAME] [the flags of evaluate]",
    )
    add = parser.add_argument_group("plan").add_argument
    add("--format", choices=FORMATS, default="table", help="what to print (default: a table of the cells)")
    add("--machine", default="here", metavar="NAME", help="where the cells run, for the estimates: here (default; it is measured), or an accelerator: t4, a10g, l4, l40s, a100, h100, h200")  # fmt: skip
    add(
        "--missing",
        action="store_true",
        help="only the cells of which there is no complete result; status 1 if there are any",
    )
    add("--report", metavar="DIR", help="where the last step writes its report (default: report)")
    add(
        "--sbatch",
        default="",
        metavar="OPTIONS",
        help='slurm: options of sbatch, as "--partition=gpu --gres=gpu:1 --cpus-per-task=8"',
    )
    add("--at_once", type=whole_number(1), metavar="N", help="slurm: so many tasks of an array at a time")
    add_order(parser.add_argument_group("jobs"), required=False)
    add_question(parser)
    add_machine(parser)
    parser.set_defaults(run=run, check=check)


def add_order(group, required: bool) -> None:
    """The flags of Hugging Face Jobs."""
    add = group.add_argument
    add("--flavor", required=required, help="the Hub's machine, as a10g-small (hf jobs hardware lists them)")
    add(
        "--bucket",
        required=required,
        metavar="NAMESPACE/NAME",
        help="where the store and the results are kept; made if there is none",
    )
    add(
        "--package",
        metavar="REQUIREMENT",
        help="what a job installs (default: arch-hf of this version from PyPI; or git+https://...)",
    )
    add("--namespace", help="the organisation that pays (default: you)")


def check(args) -> None:
    def jobs() -> None:
        if args.format == "jobs" and not (args.flavor and args.bucket):
            raise UserError("--format jobs needs --flavor and --bucket (hf jobs hardware lists the flavors)")

    all_of(jobs, lambda: _check_format(args), lambda: jobs_of(args))


# The flags that one format of the plan, or some, have a use for.
_OF_FORMAT = {
    "machine": ("table", "shell", "slurm"),
    "report": ("shell", "slurm", "jobs"),
    "sbatch": ("slurm",),
    "at_once": ("slurm",),
    "flavor": ("jobs",),
    "bucket": ("jobs",),
    "package": ("jobs",),
    "namespace": ("jobs",),
    "cache_dir": ("table", "shell", "slurm"),
}


def _check_format(args) -> None:
    """Refuse what the format has no use for. What is only to name the missing cells is the last line of a script, with the flags of its plan."""
    if args.missing and args.format == "table":
        return
    unlike = {"machine": "here"}
    for name, formats in _OF_FORMAT.items():
        if args.format not in formats and getattr(args, name) not in (None, "", unlike.get(name)):
            raise UserError(
                f"--{name} goes with --format {' or '.join(formats)}: --format {args.format} has no use for it"
            )


def run(args) -> int:
    from arch_hf.scaling.cells import cells_of, in_order, missing
    from arch_hf.scaling.cost import accelerator, estimate_all, this_machine
    from arch_hf.scaling.jobs import flavor_machine

    cells = cells_of(jobs_of(args))
    filed = _filed(args.output_dir)
    results = [one.result for one in filed]
    wanted = missing(cells, filed) if args.missing else cells
    if args.missing and args.format == "table":
        return _say_missing(cells, wanted)
    if args.format == "jobs":
        machine = flavor_machine(args.flavor, args.dtype)
    else:
        machine = (
            this_machine(args.device, args.dtype) if args.machine == "here" else accelerator(args.machine, args.dtype)
        )
    first, rest = in_order(wanted)
    if args.format == "jobs":  # a job for each cell that was asked for, in any order
        first, rest = [cell for cell in first if cell not in wanted], wanted
    costs = estimate_all([*first, *rest], machine, results)
    pairs = list(zip([*first, *rest], costs, strict=True))
    _print_plan(args, pairs[: len(first)], pairs[len(first) :], machine)
    return int(args.missing and bool(wanted))


def _filed(output_dir: str) -> list:
    from pathlib import Path

    from arch_hf.results.folder import read_results

    return read_results(output_dir)[0] if Path(output_dir).is_dir() else []


def _say_missing(cells: list, wanted: list) -> int:
    for cell in wanted:
        say(f"missing: {cell.shown_name} on {cell.datasets[0]}, {cell.protocol}", file=sys.stderr)
    say(f"{len(cells) - len(wanted)} of {len(cells)} cells have a result")
    return int(bool(wanted))


def _print_plan(args, baselines: list, cells: list, machine) -> None:
    from arch_hf.names import short_hash
    from arch_hf.results.text import align
    from arch_hf.scaling.jobs import PACKAGE, Order
    from arch_hf.scaling.scripts import Plan, jobs_script, shell_script, show_time, slurm_script

    extra = ["--device", args.device] if args.device else []
    plan = Plan(baselines, cells, ["arch-hf", *args.argv], machine.name, extra, args.report or "report")
    if args.format == "shell":
        say(shell_script(plan).rstrip())
    elif args.format == "slurm":
        say(slurm_script(plan, args.sbatch, args.at_once).rstrip())
    elif args.format == "jobs":
        name = short_hash("\n".join(plan.line(cell) for cell, _ in cells))
        order = Order(args.flavor, args.bucket, 0, args.package or PACKAGE, args.namespace, name)
        say(jobs_script(plan, order, machine.price).rstrip())
    else:
        rows = [["model", "dataset", "protocol", "time", "known from"]]
        for cell, cost in [*baselines, *cells]:
            known = "a result" if cost.measured else "operations"
            rows.append([cell.shown_name, cell.datasets[0], cell.protocol, show_time(cost.seconds), known])
        say(f"{align(rows)}\n\n{plan.summary()}")
