"""`arch-hf list corpora|suites|models|protocols`: what is built in."""

from arch_hf.terminal import say

MOST_NAMES = 12  # of a suite's datasets; its table is arch_hf/data/suites.csv


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "list", help="list the corpora, suites, models or protocols that are built in", example="arch-hf list corpora"
    )
    parser.add_argument("what", choices=["corpora", "suites", "models", "protocols"])
    parser.set_defaults(run=run)


def run(args) -> None:
    say({"corpora": _corpora, "suites": _suites, "models": _models, "protocols": _protocols}[args.what]())


def _corpora() -> str:
    from arch_hf.data import CORPUS_NAMES, get_corpus
    from arch_hf.results.text import align

    rows = [["corpus", "domain", "task", "clips", "classes", "splits", "licence"]]
    for corpus in map(get_corpus, CORPUS_NAMES):
        splits = f"{len(corpus.splits)} folds" if corpus.is_cross_validated else ", ".join(corpus.splits)
        clips = f"{sum(corpus.splits.values()):,}"
        task = corpus.task.replace("_", " ")
        rows.append(
            [corpus.name, corpus.domain, task, clips, str(len(corpus.classes) or "in data"), splits, corpus.licence]
        )
    return align(rows)


def _suites() -> str:
    from arch_hf.data.suites import suite_datasets, suite_names
    from arch_hf.results.text import align

    rows = [["suite", "datasets", "which"]]
    for name in suite_names():
        datasets = suite_datasets(name)
        more = f" and {len(datasets) - MOST_NAMES} more" if len(datasets) > MOST_NAMES else ""
        rows.append([name, str(len(datasets)), " ".join(datasets[:MOST_NAMES]) + more])
    return align(rows)


def _models() -> str:
    from arch_hf.results.table2 import render_models

    return render_models()


def _protocols() -> str:
    from arch_hf.probing.protocols import render_protocols

    return render_protocols()
