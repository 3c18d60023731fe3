"""`arch-hf mteb`: MTEB's own evaluator with our encoder and store."""

import sys
from pathlib import Path

from arch_hf.errors import UserError, about
from arch_hf.terminal import say

MAEB = "MAEB(v1, audio-only)"


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "mteb",
        help="score a model by MTEB's own evaluator, on MAEB or any of its audio tasks",
        description="Run MTEB's own tasks, classifiers and metrics on our vectors, each encoded once. Its result files go where it keeps them "
        "($MTEB_CACHE or ~/.cache/mteb); the scores are also written beside our results, for the report. No torchcodec, torchaudio or FFmpeg.",
        epilog='Needs MTEB: pip install "arch-hf[mteb]"',
        example=f'arch-hf mteb --model_id facebook/hubert-base-ls960 --benchmark "{MAEB}"',
    )
    add = parser.add_argument
    add("--model_id", required=True, metavar="ID", help="Hub id, local folder, or a built-in baseline: logmel, mfcc")
    add("--revision", help="branch, tag or commit of the model")
    add("--tasks", nargs="+", default=[], metavar="NAME", help="MTEB's names of tasks: ESC50 FSDD ...")
    add("--benchmark", metavar="NAME", help=f"all tasks of one of MTEB's benchmarks (default, without --tasks: {MAEB})")
    add("--device", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    add("--dtype", help="float32 (default), bfloat16 or float16; a launcher's --mixed_precision says the same")
    add("--output_dir", default="results", metavar="DIR", help="where our results are (default: results)")
    add("--cache_dir", metavar="DIR", help="where embeddings are kept (default: as of arch-hf evaluate)")
    add("--overwrite", action="store_true", help="score again what has a result already")
    add("--trust_remote_code", action="store_true", help="run the model's own code from the Hub")
    parser.set_defaults(run=run, check=check)


def check(args) -> None:
    if args.tasks and args.benchmark:
        raise UserError("--tasks and --benchmark both name tasks: give one of them")


def run(args) -> int:
    from arch_hf.cli.evaluate import check_writable
    from arch_hf.distributed import Ranks
    from arch_hf.embedding import AudioEncoder
    from arch_hf.integrations.mteb import MtebEncoder, find_tasks, run_tasks
    from arch_hf.results.text import align, percent

    check_writable(Path(args.output_dir))
    tasks = find_tasks(args.tasks, None if args.tasks else args.benchmark or MAEB)
    ranks = Ranks.launched(args.device)
    if ranks.size > 1:
        raise UserError("arch-hf mteb runs in one process: start it without a launcher")
    options = {"device": ranks.device, "trust_remote_code": args.trust_remote_code}
    encoder = AudioEncoder.from_pretrained(args.model_id, args.revision, args.dtype or ranks.dtype, **options)
    model = MtebEncoder(encoder, args.cache_dir, ranks)
    rows, versions, failed = [["task", "kind", "metric", "draws", "score"]], set(), []
    for outcome in run_tasks(model, tasks, args.overwrite):
        score = outcome.score
        if score is None:
            say(f"error: {about(outcome.name, outcome.error)}", file=sys.stderr)
            failed.append(outcome.name)
            continue
        say(f"{outcome.name}: done, {score.file}, {score.write(args.output_dir)}", file=sys.stderr)
        draws = f"{percent(min(score.single))} to {percent(max(score.single))}" if score.single else ""
        versions.add(score.version)
        rows.append([score.task, score.kind, score.metric, draws, percent(score.score)])
    if versions:
        say(f"\n{encoder.model_id}, MTEB {', '.join(sorted(versions))}, percent\n\n{align(rows)}")
    if failed:
        say(f"{len(failed)} of {len(tasks)} tasks failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))
