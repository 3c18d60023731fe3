"""`arch-hf jobs`: an evaluation on the Hub's own machines."""

import sys

from arch_hf.cli.evaluate import add_machine, add_question, jobs_of
from arch_hf.cli.parser import whole_number
from arch_hf.cli.plan import add_order
from arch_hf.errors import UserError, all_of
from arch_hf.terminal import say


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "jobs",
        help="run an evaluation on Hugging Face Jobs, or wait for some that run",
        description="Hugging Face Jobs: rented machines, billed by the minute. Embeddings and results are kept in a bucket, so that the next job goes on from there.",
        epilog="See docs/scaling.md.",
        example="arch-hf jobs run --flavor a10g-small --bucket me/arch --model_id facebook/hubert-base-ls960 --datasets esc50",
    )
    kinds = parser.add_subparsers(title="what to do", metavar="WHAT", required=True)
    send = kinds.add_parser(
        "run",
        help="send one job",
        description="Say what it costs, and send it. Takes the flags of evaluate.",
        example="arch-hf jobs run --flavor a10g-small --bucket me/arch --model_id facebook/hubert-base-ls960 --datasets esc50",
        usage="%(prog)s --flavor NAME --bucket NAMESPACE/NAME [--minutes N] [the flags of evaluate]",
    )
    group = send.add_argument_group("job")
    add_order(group, required=True)
    group.add_argument("--minutes", type=whole_number(1), metavar="N", help="stop it after so many (default: twice the estimate, 30 at least)")  # fmt: skip
    group.add_argument("--plan", default="single", metavar="NAME", help="the label by which `jobs wait` finds it")
    group.add_argument("--dry_run", action="store_true", help="say what it would cost, and send nothing")
    add_question(send)
    add_machine(send)
    send.set_defaults(run=run, check=check)
    wait = kinds.add_parser(
        "wait",
        help="wait for all jobs of a plan",
        description="Wait until all jobs of a plan are over. Status 1 if one of them failed.",
        example="arch-hf jobs wait 3f9a10",
    )
    wait.add_argument("plan", metavar="PLAN", help="the label that `arch-hf plan --format jobs` gave them")
    wait.add_argument("--namespace", help="the organisation that pays (default: you)")
    wait.set_defaults(run=run_wait)


def check(args) -> None:
    def store() -> None:
        if args.cache_dir:
            raise UserError("--cache_dir is of this machine: a job keeps its embeddings in --bucket")

    all_of(store, lambda: jobs_of(args))


def run(args) -> None:
    from arch_hf.scaling.cells import arguments, cells_of
    from arch_hf.scaling.jobs import PACKAGE, Order, flavor_machine, submit
    from arch_hf.scaling.scripts import show_time

    machine, jobs, minutes = flavor_machine(args.flavor, args.dtype), jobs_of(args), args.minutes
    if minutes is None:
        from arch_hf.scaling.cost import Cost, estimate_all
        from arch_hf.scaling.scripts import time_limit

        seconds = sum(cost.seconds for cost in estimate_all(cells_of(jobs), machine))
        minutes = time_limit(Cost(seconds, False))
        say(f"about {show_time(seconds)} on {args.flavor}, ${seconds / 3600 * machine.price:.2f}: an estimate")
    most = minutes / 60 * machine.price
    say(f"${machine.price:.2f} an hour, stopped after {show_time(60 * minutes)}: ${most:.2f} at most")
    if args.dry_run:
        return
    words = [*arguments(*jobs), *(["--device", args.device] if args.device else [])]
    order = Order(args.flavor, args.bucket, minutes, args.package or PACKAGE, args.namespace, args.plan)
    say(f"sent: {submit(words, order).url}")
    say(f"when it is done: hf buckets sync hf://buckets/{args.bucket}/results {args.output_dir}")


def run_wait(args) -> int:
    from arch_hf.scaling.jobs import wait

    jobs = wait(args.plan, args.namespace)
    failed = [job for job in jobs if job.status.stage != "COMPLETED"]
    for job in failed:
        say(f"error: {job.url} ended as {job.status.stage}: {job.status.message or 'see its log'}", file=sys.stderr)
    say(f"{len(jobs) - len(failed)} of {len(jobs)} jobs are done")
    return int(bool(failed))
