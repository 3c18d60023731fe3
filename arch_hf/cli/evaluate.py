"""`arch-hf evaluate`: the main job."""

import sys
import tempfile
from pathlib import Path

from arch_hf.errors import UserError


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="evaluate a frozen encoder: embed every clip, train linear probes, write results",
        description="Evaluate a frozen audio encoder. With no arguments, a baseline on corpora that the package synthesises.",
        epilog="Many GPUs: accelerate launch evaluate.py, or torchrun ... evaluate.py, with the same flags.",
    )
    add = parser.add_argument
    add("--model_id", default="logmel", help="Hub id, local folder, or a built-in baseline: logmel (default), mfcc")
    add("--revision", help="branch, tag or commit of the model")
    add(
        "--datasets",
        nargs="+",
        default=[],
        metavar="NAME_OR_ID",
        help="corpora, Hub dataset ids or folders (default: all twelve)",
    )
    add("--data_dir", help="look for DATA_DIR/CORPUS before the Hub's arch/CORPUS")
    add("--protocol", default="arch-v1", help="arch-v1 (default; the paper's) or strict; see: arch-hf list protocols")
    add("--layers", default="last", help="last (default), all, or indices of hidden states: 0,6,12")
    add("--probe", default="linear", help="linear (default; the protocol's), knn, or weighted_sum (of all layers)")
    add(
        "--shots",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="also score the probe on N clips per class: --shots 1 5 10",
    )
    add("--seeds", type=int, default=3, metavar="N", help="probes per fold, each with its own seed (default: 3)")
    add("--output_dir", default="results", help="where the result files go (default: results)")
    add("--cache_dir", help="where embeddings are kept (default: $ARCH_HF_CACHE or ~/.cache/huggingface/arch_hf)")
    add("--limit", type=int, metavar="N", help="at most N clips per split: a quick look, not a score")
    add("--streaming", action="store_true", help="read datasets from the Hub in passing, without a copy on disk")
    add("--overwrite", action="store_true", help="score again what has a complete result already")
    add("--dry_run", action="store_true", help="say what there is to do, how much of it is stored already, and stop")
    add("--push_to_hub", action="store_true", help="put the results on the model's page")
    add("--create_pr", action="store_true", help="with --push_to_hub: as a pull request, for a model that is not yours")
    add("--trust_remote_code", action="store_true", help="run the model's own code from the Hub")
    columns = parser.add_argument_group("a dataset that is not built in", "only where the columns cannot be told apart")
    columns.add_argument("--config", help="configuration of the dataset")
    columns.add_argument("--audio_column", help="column of the audio")
    columns.add_argument("--label_column", help="column of the label or labels")
    columns.add_argument("--fold_column", help="column of the fold")
    columns.add_argument("--splits", metavar="train=NAME,test=NAME", help="which of its splits train and test")
    columns.add_argument("--group_column", help="column of what must not cross train and test (speaker, recording)")
    parser.set_defaults(run=run)


COLUMNS = ("config", "audio_column", "label_column", "fold_column", "group_column", "splits")
FIELDS = (
    "model_id",
    "revision",
    "data_dir",
    "protocol",
    "layers",
    "seeds",
    "output_dir",
    "cache_dir",
    "limit",
    "probe",
)
SWITCHES = ("streaming", "overwrite", "trust_remote_code")


def run(args) -> int:
    if args.create_pr and not args.push_to_hub:
        raise UserError("--create_pr goes with --push_to_hub")
    check_writable(Path(args.output_dir))
    from arch_hf.distributed import Ranks
    from arch_hf.job import Job

    job = Job(
        **{name: getattr(args, name) for name in (*FIELDS, *SWITCHES)},
        datasets=tuple(args.datasets),
        shots=tuple(args.shots),
        dataset_options={name: getattr(args, name) for name in COLUMNS if getattr(args, name)},
    )
    if args.dry_run:
        return _dry_run(job)
    ranks = Ranks.launched()
    if args.push_to_hub and ranks.is_main:
        _warn_before_push(args.model_id)
    try:
        results, failed = _run_and_tell(job, ranks)
    finally:
        ranks.end()
    if args.push_to_hub and results and ranks.is_main:
        from arch_hf.publishing.results import push_results

        print(push_results(Path(job.output_dir), job.model_id, create_pr=args.create_pr))
    return int(failed or not all(result.complete for result in results))


def _run_and_tell(job, ranks) -> tuple[list, bool]:
    """Run the job and say what comes of each corpus; returns the results, and whether a corpus failed."""
    from arch_hf.evaluate import run_job
    from arch_hf.results.table import remarks, results_table

    say = print if ranks.is_main else (lambda *_, **__: None)
    results, failed = [], False
    for run in run_job(job, ranks):
        for note in run.notes:
            say(f"note: {note}", file=sys.stderr)
        if run.error:
            say(f"error: {run.corpus}: {run.error}", file=sys.stderr)
            failed = True
        else:
            results += run.results
            say(f"{run.corpus}: done, {', '.join(map(str, run.paths))}", file=sys.stderr)
    if results:
        say(f"\n{job.model_id}, protocol {job.protocol}, percent\n\n{results_table(results)}")
        for line in dict.fromkeys(line for result in results for line in remarks(result)):
            say(line)
    return results, failed


def _warn_before_push(model_id: str) -> None:
    from arch_hf.publishing.results import why_not_pushable

    if problem := why_not_pushable(model_id):
        text = f"warning: --push_to_hub is going to fail: {problem}; going on, the results will be on disk"
        print(text, file=sys.stderr)


def _dry_run(job) -> int:
    from arch_hf.evaluate import plan_job
    from arch_hf.results.text import align

    rows, failed = [["corpus", "clips", "stored", "hours", "GB"]], False
    for plan in plan_job(job):
        if plan.error:
            print(f"error: {plan.corpus}: {plan.error}", file=sys.stderr)
            failed = True
        else:
            cost = f"{plan.hours:.2f}", f"{plan.gigabytes:.3f}"
            rows.append([plan.corpus, str(plan.clips), str(plan.stored), *cost])
    print(align(rows))
    return int(failed)


def check_writable(folder: Path) -> None:
    """Make the folder, and see that results can be written there before hours are spent on them.

    Raises:
        UserError: if it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--output_dir {folder} cannot be written ({error.strerror}): choose another") from None
