"""`arch-hf publish`: results, corpora, checkpoints, cards, the leaderboard and the metrics onto the Hub."""

import argparse
from pathlib import Path

from arch_hf.errors import UserError
from arch_hf.terminal import say


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "publish",
        example="arch-hf publish results results --model_id me/model --create_pr",
        help="put results, corpora, checkpoints, the leaderboard or metrics on the Hub",
        description="Publish on the Hugging Face Hub. The token is read from HF_TOKEN or `hf auth login`, never from a flag.",
    )
    kinds = parser.add_subparsers(title="what to publish", metavar="WHAT", required=True)

    for add in (_add_results, _add_dataset, _add_checkpoint, _add_leaderboard, _add_metrics):
        add(kinds).add_argument(
            "--dry_run", action="store_true", help="say what would go where, and send nothing to the Hub"
        )
    _add_card(kinds)


def _add_results(kinds) -> argparse.ArgumentParser:
    parser = kinds.add_parser(
        "results",
        example="arch-hf publish results results --model_id me/model",
        help="a model's results, onto its page",
        description=_RESULTS,
    )
    parser.add_argument("results_dir", type=Path, metavar="RESULTS_DIR", help="the --output_dir of the evaluation")
    parser.add_argument("--model_id", help="the model as it was evaluated; needed for its page")
    parser.add_argument(
        "--dataset",
        metavar="REPO_ID",
        help="not onto the model's page, but a row each into this dataset, from which a leaderboard is made",
    )
    parser.add_argument("--repo_id", help="the model's repository, if it was evaluated from a folder")
    parser.add_argument("--create_pr", action="store_true", help="as a pull request, for a model that is not yours")
    parser.add_argument("--allow_incomplete", action="store_true", help="also results that lack clips, marked as such")
    parser.set_defaults(run=run_results, check=check_results)
    return parser


def _add_dataset(kinds) -> argparse.ArgumentParser:
    parser = kinds.add_parser(
        "dataset",
        example="arch-hf publish dataset arch/esc50 --repo_id me/esc50",
        help="a prepared corpus",
        description="Upload a folder that `arch-hf prepare` made.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--repo_id", required=True, help="where to: arch/CORPUS")
    parser.add_argument(
        "--private", action="store_true", help="only for you; needed where the licence forbids publishing again"
    )
    parser.set_defaults(run=run_dataset)
    return parser


def _add_checkpoint(kinds) -> argparse.ArgumentParser:
    parser = kinds.add_parser(
        "checkpoint",
        example="arch-hf publish checkpoint ./model --repo_id me/model",
        help="a model, as safetensors and with its card",
        description=_CHECKPOINT,
    )
    parser.add_argument("source", metavar="FOLDER_OR_ID")
    parser.add_argument(
        "--repo_id", required=True, help="where to: arch/NAME; a released NAME has its card in model_cards/"
    )
    parser.add_argument("--revision", help="branch, tag or commit of the source")
    parser.add_argument("--card", type=Path, help="another card")
    parser.add_argument("--private", action="store_true")
    parser.set_defaults(run=run_checkpoint)
    return parser


def _add_card(kinds) -> None:
    parser = kinds.add_parser(
        "card",
        example="arch-hf publish card ./model --results results --repo_id me/model",
        help="write the card of your own model",
        description="Write FOLDER/README.md. Sends nothing.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the checkpoint")
    parser.add_argument("--results", type=Path, required=True, metavar="DIR", help="the --output_dir of its evaluation")
    parser.add_argument("--repo_id", help="the repository that the card's examples name")
    parser.add_argument("--allow_incomplete", action="store_true", help="also results that lack clips, marked as such")
    parser.set_defaults(run=run_card)


def _add_leaderboard(kinds) -> argparse.ArgumentParser:
    parser = kinds.add_parser(
        "leaderboard",
        example="arch-hf publish leaderboard report --repo_id me/leaderboard",
        help="a report, as a static Space",
        description="Upload a report as a static Space.",
    )
    parser.add_argument("report_dir", type=Path, metavar="REPORT_DIR", help="the --output of `arch-hf report`")
    parser.add_argument("--repo_id", required=True, help="where to: arch/leaderboard")
    parser.set_defaults(run=run_leaderboard)
    return parser


def _add_metrics(kinds) -> argparse.ArgumentParser:
    parser = kinds.add_parser(
        "metrics",
        example="arch-hf publish metrics --namespace me",
        help="the metrics, for evaluate.load",
        description="Upload each metric as a Space.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--namespace", required=True, help="user or organisation")
    parser.set_defaults(run=run_metrics)
    return parser


_RESULTS = (
    "Onto the model's page: one model-index entry per corpus and protocol in its card, and one .eval_results file per corpus. "
    "Or with --dataset into a dataset of results, as a pull request where it is not yours."
)
_CHECKPOINT = "Convert to safetensors, check that the embeddings are the same, add the card, upload."


def check_results(args) -> None:
    if args.dataset is None and args.model_id is None:
        raise UserError("give --model_id for the model's page, or --dataset for a dataset of results")
    if args.dataset is not None and args.repo_id is not None:
        raise UserError("--repo_id is the model's page, and --dataset a dataset of results: give one of them")


def run_results(args) -> None:
    options = {"create_pr": args.create_pr, "allow_incomplete": args.allow_incomplete, "dry_run": args.dry_run}
    if args.dataset:
        from arch_hf.publishing.results_dataset import push_to_dataset

        say(push_to_dataset(args.results_dir, args.dataset, model_id=args.model_id, **options))
        return
    from arch_hf.publishing.results import push_results

    say(
        push_results(
            args.results_dir,
            args.model_id,
            repo_id=args.repo_id,
            **options,
        )
    )


def run_dataset(args) -> None:
    from arch_hf.publishing.dataset import push_dataset

    say(push_dataset(args.folder, args.repo_id, private=args.private, dry_run=args.dry_run))


def run_checkpoint(args) -> None:
    from arch_hf.publishing.checkpoint import publish_checkpoint

    options = {"revision": args.revision, "card": args.card, "private": args.private, "dry_run": args.dry_run}
    say(publish_checkpoint(args.source, args.repo_id, **options))


def run_card(args) -> None:
    from arch_hf.publishing.own_card import write_card

    say(write_card(args.folder, args.results, repo_id=args.repo_id, allow_incomplete=args.allow_incomplete))


def run_leaderboard(args) -> None:
    from arch_hf.publishing.spaces import push_leaderboard

    say(push_leaderboard(args.report_dir, args.repo_id, args.dry_run))


def run_metrics(args) -> None:
    from arch_hf.publishing.spaces import push_metrics

    for url in push_metrics(args.namespace, args.names, args.dry_run):
        say(url)
