"""Cells as a script: for a shell, for SLURM, or for Hugging Face Jobs. One cell a line, the baseline's first, and a report at the end.

Cells share one store and one folder of results, and may run side by side in any number and be killed at any time: what is done is passed over
when the script is run again. The scripts hold their cells themselves, and need nothing but this package on the machines where they run.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from arch_hf.job import Job
from arch_hf.scaling.cells import arguments
from arch_hf.scaling.cost import Cost
from arch_hf.scaling.jobs import PACKAGE, Order

LONGEST_ARRAY = 1000  # tasks; SLURM's MaxArraySize is 1001 unless the site has raised it
SAFETY = 2.0  # times the estimate, and LEAST_MINUTES at least, is a task's time limit
LEAST_MINUTES = 30
LIMITS = (30, 60, 120, 240, 480, 960, 1440, 2880)  # minutes: one array for each that is needed


@dataclass(frozen=True)
class Plan:
    """Cells with what each costs; `baselines` are those that come first. `command` made the plan, `machine` says for what, `extra` are arguments
    for every cell; the report goes to `report`."""

    baselines: Sequence[tuple[Job, Cost]]
    cells: Sequence[tuple[Job, Cost]]
    command: Sequence[str]
    machine: str
    extra: Sequence[str] = ()
    report: str = "report"

    @property
    def output_dir(self) -> str:
        return next(cell.output_dir for cell, _ in [*self.cells, *self.baselines])

    @property
    def seconds(self) -> float:
        return sum(cost.seconds for _, cost in [*self.baselines, *self.cells])

    def line(self, cell: Job) -> str:
        """The cell as a command."""
        return shlex.join(["arch-hf", "evaluate", *arguments(cell), *self.extra])

    def longest_first(self, cells: Sequence[tuple[Job, Cost]]) -> list[tuple[Job, Cost]]:
        """In the order in which they are best begun: the last ones to end are short."""
        return sorted(cells, key=lambda pair: -pair[1].seconds)

    @property
    def last_steps(self) -> list[str]:
        """The report, and what is missing in it."""
        again = [word for word in self.command if word != "--missing"]
        return [
            shlex.join(["arch-hf", "report", self.output_dir, "--output", self.report]),
            shlex.join([*again, "--missing", "--format", "table"]),
        ]

    @property
    def count(self) -> str:
        """How many cells; those of the baseline apart, as whoever counts the results counts the others alone."""
        return f"{len(self.cells)} cell{'' if len(self.cells) == 1 else 's'}" + (
            f" and {len(self.baselines)} of the baseline" if self.baselines else ""
        )

    def summary(self) -> str:
        n_known = sum(cost.measured for _, cost in [*self.baselines, *self.cells])
        known = f", {n_known} of them from speeds that were measured" if n_known else ""
        return f"{self.count}, about {show_time(self.seconds)} in all on {self.machine}, an estimate{known}"


def show_time(seconds: float) -> str:
    """
    Examples:
        >>> show_time(59), show_time(3600 * 2.5)
        ('1 min', '2 h 30 min')
    """
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


SHELL = """\
#!/bin/sh
# {summary}.
# Made by: {command}
#
#     sh THIS_FILE [WORKERS]    so many cells at a time (default: 1)
#
# Run it again after whatever stopped it: what is done is passed over. What a cell says goes to {logs}/MODEL_CORPUS-NUMBER.log;
# the report comes last, into {report_dir}/leaderboard.html, and then the cells that have no result are named.

if [ "$1" = cell ]; then
    name=$(printf '%s\\n' "$2" | sed 's/.*--model_id [./]*\\([^ ]*\\) .*--datasets [./]*\\([^ ]*\\).*/\\1_\\2/' | tr -c 'A-Za-z0-9.\\n-' _ | cut -c 1-150)
    log="$LOGS/$name-$(printf %s "$2" | cksum | cut -d ' ' -f 1).log"
    if sh -c "$2" >"$log" 2>&1 </dev/null; then echo "done    $2"; else echo "FAILED  $2    (see $log)"; exit 1; fi
    exit 0
fi

WORKERS=${{1:-1}}
export LOGS={logs}
mkdir -p "$LOGS"
run() {{ tr '\\n' '\\0' | xargs -0 -P "$WORKERS" -n 1 sh "$0" cell; }}
{sections}

{report}; whole=$?
{check} && exit $whole
"""


def shell_script(plan: Plan) -> str:
    """A script for one machine, or several that share a disk."""
    report, check = plan.last_steps
    parts = [
        ("The baseline, beside which every score stands.", plan.baselines),
        ("The cells, the longest first.", plan.cells),
    ]
    sections = [
        "\n".join(
            ["", f"# {title}", "run <<'CELLS'", *(plan.line(cell) for cell, _ in plan.longest_first(cells)), "CELLS"]
        )
        for title, cells in parts
        if cells
    ]
    return SHELL.format(
        summary=plan.summary(),
        command=shlex.join(plan.command),
        logs=shlex.quote(f"{plan.output_dir}/logs"),
        report_dir=shlex.quote(plan.report),
        sections="\n".join(sections),
        report=report,
        check=check,
    )


SLURM = """\
#!/bin/bash
# {summary}.
# Made by: {command}
#
#     bash THIS_FILE    submits everything
#
# Run it again after whatever stopped it: what is done is passed over within seconds. What a task says goes to {logs}/arch-hf-JOB_TASK.log;
# the report comes last, into {report_dir}/leaderboard.html, and its log names the cells that have no result.

set -euo pipefail

cells() {{  # the lines of an array
    case "$1" in
{arrays}
    esac
}}

if [ "${{1:-}}" = array ]; then  # a task: one line of its array
    exec bash -c "$(cells "$2" | sed -n "$((SLURM_ARRAY_TASK_ID + 1))p")"
elif [ "${{1:-}}" = report ]; then
    {report} && whole=0 || whole=$?
    {check}
    exit $whole
fi

mkdir -p {logs}
submit() {{ sbatch --parsable --job-name=arch-hf --output={logs}/%x-%A_%a.log {options}"$@" | cut -d ';' -f 1; }}
{submissions}
echo "submitted {count}; the report comes last, as job $last: squeue --me"
"""


def slurm_script(plan: Plan, options: str = "", at_once: int | None = None) -> str:
    """A script that submits arrays of cells, one for each time limit, and a report that waits for them.

    Args:
        options: of sbatch, as they are: "--partition=gpu --gres=gpu:1 --cpus-per-task=8".
        at_once: how many tasks of an array may run at a time.
    """
    report, check = plan.last_steps
    first = _arrays("baseline", plan, plan.baselines)
    then = _arrays("cells", plan, plan.cells)
    parts, submissions, waits = [], [], ""
    most = f"%{at_once}" if at_once else ""
    for arrays, what in ((first, "first"), (then, "then")):
        submissions.append(f"{what}=")
        for name, limit, lines in arrays:
            parts += [f"    {name}) cat <<'CELLS'", *lines, "CELLS", "    ;;"]
            submissions.append(
                f'{what}+=:$(submit --time={_clock(limit)} --array=0-{len(lines) - 1}{most}{waits} "$0" array {name})'
            )
        waits = ' ${first:+"--dependency=afterany$first"}'
    submissions.append('last=$(submit --time=00:30:00 --dependency="afterany$first$then" "$0" report)')
    return SLURM.format(
        summary=plan.summary(),
        command=shlex.join(plan.command),
        arrays="\n".join(parts),
        logs=shlex.quote(f"{plan.output_dir}/logs"),
        options=f"{options} " if options else "",
        submissions="\n".join(submissions),
        report_dir=shlex.quote(plan.report),
        report=report,
        check=check,
        count=plan.count,
    )


def _arrays(name: str, plan: Plan, cells: Sequence[tuple[Job, Cost]]) -> list[tuple[str, int, list[str]]]:
    """Arrays as (name, time limit in minutes, lines): cells of one limit together, no array longer than SLURM takes."""
    by_limit: dict[int, list[str]] = {}
    for cell, cost in plan.longest_first(cells):
        by_limit.setdefault(time_limit(cost), []).append(plan.line(cell))
    return [
        (f"{name}_{limit}_{start // LONGEST_ARRAY}", limit, lines[start : start + LONGEST_ARRAY])
        for limit, lines in by_limit.items()
        for start in range(0, len(lines), LONGEST_ARRAY)
    ]


def time_limit(cost: Cost) -> int:
    """Minutes after which a cell may be stopped: well above its estimate.

    Examples:
        >>> time_limit(Cost(60.0, True)), time_limit(Cost(3600.0, False)), time_limit(Cost(200_000.0, False))
        (30, 120, 7200)
    """
    minutes = max(LEAST_MINUTES, SAFETY * cost.seconds / 60)
    return next((limit for limit in LIMITS if minutes <= limit), 1440 * math.ceil(minutes / 1440))


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"


JOBS = """\
#!/bin/sh
# {summary}.
# {price}
# Made by: {command}
#
#     sh THIS_FILE    sends a job for each cell, waits for them, and fetches the results. Run it again after whatever stopped it: what is done
#                     is passed over, at the price of the minute in which a job sees that.

send() {{ arch-hf jobs run --flavor {flavor} --bucket {bucket} --plan {plan}{options} "$@"; }}

{cells}

arch-hf jobs wait {plan}{namespace}
hf buckets sync hf://buckets/{bucket}/results {output_dir}
{report}; whole=$?
{check} && exit $whole
"""


def jobs_script(plan: Plan, order: Order, price: float) -> str:
    """A script that sends each cell to Hugging Face Jobs. The baselines are cells like the others: one that finds none in the bucket yet
    computes its own."""
    report, check = plan.last_steps
    cells = plan.longest_first(plan.cells)
    most = sum(time_limit(cost) for _, cost in cells) / 60 * price
    options = [f" --package {shlex.quote(order.package)}"] if order.package != PACKAGE else []
    namespace = f" --namespace {order.namespace}" if order.namespace else ""
    return JOBS.format(
        summary=plan.summary(),
        price=f"At ${price:.2f} an hour about ${plan.seconds / 3600 * price:.2f}; by the time limits ${most:.2f} at most.",
        command=shlex.join(plan.command),
        flavor=order.flavor,
        bucket=order.bucket,
        plan=order.plan,
        options="".join([*options, namespace]),
        cells="\n".join(
            f"send --minutes {time_limit(cost)} {shlex.join([*arguments(cell), *plan.extra])}" for cell, cost in cells
        ),
        namespace=namespace,
        output_dir=shlex.quote(plan.output_dir),
        report=report,
        check=check,
    )
