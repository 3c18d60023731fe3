"""`arch-hf evaluate`: the main job."""

import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from arch_hf.cli.parser import positive, whole_number
from arch_hf.cli.reading import add_reading_arguments, reading_arguments
from arch_hf.errors import UserError, about, all_of
from arch_hf.terminal import say, times_said, visible


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="evaluate frozen encoders: embed every clip, train linear probes, write results",
        description="Evaluate frozen audio encoders. With no arguments, a baseline on corpora that the package synthesises.",
        epilog="The example needs no data and no network. A model of the Hub on ESC-50: arch-hf prepare esc50 --raw_dir raw/esc50 --download, then "
        "arch-hf evaluate --model_id facebook/hubert-base-ls960 --datasets esc50. Many GPUs: accelerate launch evaluate.py, or torchrun ... "
        "evaluate.py, with the same flags. Many machines: arch-hf plan.",
        example="arch-hf evaluate --model_id logmel --datasets synthetic_events",
        usage="%(prog)s [--model_id ID ...] [--datasets NAME_OR_ID ...] [--protocol NAME ...] [options]",
    )
    add_question(parser)
    add_machine(parser)
    add = parser.add_argument_group("what to do").add_argument
    add("--dry_run", action="store_true", help="say what there is to do, how much of it is stored already, and stop")
    add("--push_to_hub", action="store_true", help="put the results on the model's page")
    add("--results_dataset", metavar="REPO_ID", help="add the results to this dataset of the Hub, a row each")
    add("--create_pr", action="store_true", help="both as a pull request: for a model or a dataset that is not yours")
    parser.set_defaults(run=run, check=check)


def add_question(parser) -> None:
    """The flags that say what is asked: which models, on what, scored how."""
    _add_models(parser)
    _add_data(parser)
    _add_scoring(parser)
    add_reading_arguments(parser)


def _add_models(parser) -> None:
    add = parser.add_argument_group("models").add_argument
    add(
        "--model_id",
        nargs="+",
        default=["logmel"],
        metavar="ID",
        help="Hub ids, local folders, or built-in baselines: logmel (default), mfcc",
    )
    add("--revision", help="branch, tag or commit of the model")
    add(
        "--model_name",
        nargs="+",
        default=[],
        metavar="NAME",
        help="what the results call each model (default: its id; of a folder, its path)",
    )
    add("--trust_remote_code", action="store_true", help="run the model's own code from the Hub")


def _add_data(parser) -> None:
    add = parser.add_argument_group("data").add_argument
    add(
        "--datasets",
        nargs="+",
        default=[],
        metavar="NAME_OR_ID",
        help="corpora, Hub dataset ids or folders (default: all twelve)",
    )
    add(
        "--suite",
        nargs="+",
        default=[],
        metavar="NAME",
        help="named lists of datasets: arch (the twelve), maeb, mteb-audio, events ..., or a file of your own: suite.csv; see: arch-hf list suites",
    )
    add("--data_dir", metavar="DIR", help="look for DIR/CORPUS before the Hub's arch/CORPUS")
    add("--limit", type=whole_number(1), metavar="N", help="at most N clips per split: a quick look, not a score")
    add("--streaming", action="store_true", help="read datasets from the Hub in passing, without a copy on disk")


def _add_scoring(parser) -> None:
    add = parser.add_argument_group("scoring").add_argument
    add(
        "--protocol",
        nargs="+",
        default=["arch-v1"],
        metavar="NAME",
        help="arch-v1 (default; the paper's), strict, or both; see: arch-hf list protocols",
    )
    add("--layers", default="last", help="last (default), all, or indices of hidden states: 0,6,12")
    add("--probe", default="linear", help="linear (default; the protocol's), knn, or weighted_sum (of all layers)")
    add(
        "--shots",
        type=whole_number(1),
        nargs="+",
        default=[],
        metavar="N",
        help="also score the probe on N clips per class: --shots 1 5 10",
    )
    add(
        "--also",
        nargs="+",
        default=[],
        metavar="KIND",
        help="also ask the vectors themselves, without training: retrieval clustering pairs",
    )
    add(
        "--seeds",
        type=whole_number(1),
        default=3,
        metavar="N",
        help="probes per fold, each with its own seed (default: 3)",
    )


def add_machine(parser) -> None:
    """The flags that say where it is computed and kept."""
    add = parser.add_argument_group("machine").add_argument
    add("--device", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    add("--dtype", help="float32 (default), bfloat16 or float16; a launcher's --mixed_precision says the same")
    add(
        "--batch_seconds",
        type=positive,
        metavar="S",
        help="seconds of audio that go through the model at once (default: what suits the device)",
    )
    add("--output_dir", default="results", metavar="DIR", help="where the result files go (default: results)")
    add(
        "--cache_dir",
        metavar="DIR",
        help="where embeddings are kept (default: $ARCH_HF_CACHE or ~/.cache/huggingface/arch_hf)",
    )
    add("--overwrite", action="store_true", help="score again what has a complete result already")


def jobs_of(args) -> list:
    """The jobs that the flags ask for.

    Raises:
        UserError: something about them is wrong; all that is.
    """
    from arch_hf.data.suites import suite_datasets
    from arch_hf.job import JobOptions, as_fields, jobs_for

    all_of(
        *(lambda flag=flag: _check_values(flag, getattr(args, flag)) for flag in ("model_id", "datasets", "protocol"))
    )
    datasets = [*args.datasets, *(name for suite in args.suite for name in suite_datasets(suite))]
    flags = {name: getattr(args, name) for name in JobOptions.__annotations__ if name != "dataset_options"}
    fields = as_fields(flags | {"dataset_options": reading_arguments(args)})
    return jobs_for(args.model_id, args.protocol, args.model_name, datasets=tuple(dict.fromkeys(datasets)), **fields)


def _check_values(flag: str, values: list[str]) -> None:
    """See that several values are not written as one, nor a suite as a dataset.

    Raises:
        UserError: they are.
    """
    from arch_hf.data.suites import suite_names

    for value in values:
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if "," in value and not Path(value).exists():
            raise UserError(f"--{flag} {value}: several are parted by spaces: --{flag} {' '.join(parts)}")
        if flag == "datasets" and value in suite_names() and not Path(value).exists():
            raise UserError(f"--datasets {value}: that is a suite: --suite {value}")


def check(args) -> None:
    def push() -> None:
        if args.create_pr and not (args.push_to_hub or args.results_dataset):
            raise UserError("--create_pr goes with --push_to_hub or --results_dataset")

    all_of(push, lambda: jobs_of(args))


def run(args) -> int:
    for flag in ("output_dir", "cache_dir"):
        if folder := getattr(args, flag):
            check_writable(Path(folder), flag)
    from arch_hf.cli.asked_before import AskedBefore

    jobs, said = jobs_of(args), times_said()
    asked = AskedBefore.of(args, jobs)
    if asked is not None and (answers := asked.answers()) is not None:
        return int(not _tell(jobs, answers, say)[1])
    from arch_hf.distributed import Ranks
    from arch_hf.evaluate import run_jobs

    ranks = Ranks.launched(args.device)
    if args.dry_run:
        return _dry_run(jobs, ranks)
    if args.push_to_hub and ranks.is_main:
        _warn_before_push(dict.fromkeys(job.shown_name for job in jobs))
    try:
        runs = run_jobs(jobs, ranks)
        if asked is not None and ranks.size == 1 and times_said() == said:
            runs = asked.noting(runs)
        pushable, good = _tell(jobs, runs, say if ranks.is_main else (lambda *_, **__: None))
    finally:
        ranks.end()
    if ranks.is_main:
        good = _publish(args, pushable) and good
    return int(not good)


def _tell(jobs: list, all_runs: Iterable, tell: Callable[..., None]) -> tuple[list[str], bool]:
    """Say what comes of each run; returns the names of the models that have results, and whether all went well."""
    from arch_hf.job import remarks_on

    pushable, good = [], True
    for remark in remarks_on(jobs):
        tell(f"note: {remark}", file=sys.stderr)
    for _, runs in itertools.groupby(all_runs, key=lambda run: run.job.model_id):
        by_protocol: dict[str, list] = {}
        for run in runs:
            for note in (*run.notes, *run.moved):
                tell(f"note: {note}", file=sys.stderr)
            if run.error:
                tell(visible(f"error: {about(run.corpus, run.error)}"), file=sys.stderr)
            else:
                by_protocol.setdefault(run.job.protocol, []).extend(run.results)
                tell(f"{run.corpus}: done, {', '.join(map(str, run.paths))}", file=sys.stderr)
            good = good and not run.error and all(result.complete for result in run.results)
            name = run.job.shown_name
        for protocol, results in by_protocol.items():
            tell(_table(name, results[0].protocol["name"] if results else protocol, results))  # strict-knn, not strict
        pushable += [name] if by_protocol else []
    return pushable, good


def _table(name: str, protocol: str, results: list) -> str:
    from arch_hf.results.table import remarks, results_table

    lines = dict.fromkeys(line for result in results for line in remarks(result))
    return "\n".join([f"\n{name}, protocol {protocol}, percent\n", results_table(results), *lines])


def _warn_before_push(names: Iterable[str]) -> None:
    from arch_hf.publishing.results import why_not_pushable

    for name in names:
        if problem := why_not_pushable(name):
            text = f"warning: --push_to_hub is going to fail: {problem}; going on, the results will be on disk"
            say(text, file=sys.stderr)


def _publish(args, names: Iterable[str]) -> bool:
    """Put the results where they are wanted on the Hub; returns whether all are there."""
    if not (args.push_to_hub or args.results_dataset):
        return True
    from arch_hf.publishing.results import push_results
    from arch_hf.publishing.results_dataset import push_to_dataset

    folder, good = Path(args.output_dir), True
    for name in names:
        pushes = [lambda name=name: push_results(folder, name, create_pr=args.create_pr)] if args.push_to_hub else []
        if args.results_dataset:
            pushes.append(
                lambda name=name: push_to_dataset(folder, args.results_dataset, model_id=name, create_pr=args.create_pr)
            )
        for push in pushes:
            try:
                say(push())
            except UserError as error:
                say(f"error: {error}", file=sys.stderr)
                good = False
    return good


def _dry_run(jobs, ranks) -> int:
    from arch_hf.dry_run import plan_jobs
    from arch_hf.results.text import align

    rows, failed = [["model", "protocol", "corpus", "clips", "stored", "hours", "GB"]], False
    for plan in plan_jobs(jobs, ranks):
        if plan.cost is None or plan.corpus is None:
            say(f"error: {about(plan.corpus, plan.error)}", file=sys.stderr)
            failed = True
        else:
            what, cost = [plan.job.shown_name, plan.job.protocol, plan.corpus], plan.cost
            rows.append([*what, str(cost.clips), str(cost.stored), f"{cost.hours:.2f}", f"{cost.gigabytes:.3f}"])
    if len(rows) > 1:
        say(align(rows))
    return int(failed)


def check_writable(folder: Path, flag: str = "output_dir") -> None:
    """Make the folder, and see that results can be written there before hours are spent on them.

    Raises:
        UserError: if it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--{flag} {folder} cannot be written ({error.strerror}): choose another") from None
