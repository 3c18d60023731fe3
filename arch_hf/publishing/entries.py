"""A model's results, as the Hub takes them: which are fit to be published, which are not and why, and the two forms of each."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from arch_hf.data.registry import CORPUS_NAMES, SYNTHETIC_NAMES, get_corpus
from arch_hf.errors import UserError
from arch_hf.publishing.card import BENCHMARK, claim, rank
from arch_hf.results.folder import Filed, result_paths, stands_in_for
from arch_hf.results.result import DatasetFacts, ModelFacts, Result, may_be_damaged
from arch_hf.terminal import say

NAMESPACE = "arch"  # of the corpora on the Hub
PAPER = "https://arxiv.org/abs/2405.00934"
TASK = ("audio-classification", "Audio classification")
METRICS = {"accuracy": ("accuracy", "Accuracy"), "map_macro": ("map_macro", "Macro mAP")}


@dataclass(frozen=True)
class Entry:
    """One result, ready for the Hub in both forms. `args` say how the number came about."""

    dataset_id: str
    corpus: str | None  # None: a data set that is not one of the twelve
    task_id: str
    result: EvalResult
    args: dict[str, Any]
    source: Result

    @property
    def name(self) -> str:
        return f"{self.corpus or self.dataset_id} ({self.args['protocol']})"

    @property
    def claim(self) -> tuple:
        """What it is about; on a page there is one number for each."""
        dataset = {"type": self.dataset_id, "config": self.result.dataset_config}
        return claim(dataset, {"args": self.args}) or ()

    @property
    def is_plain(self) -> bool:
        """Whether it is in float32, by the protocol's own probe, and of the columns that everybody would take: what a leaderboard compares."""
        return not {"dtype", "probe", "options"} & self.args.keys()

    @property
    def eval_file(self) -> str:
        return f".eval_results/{self.dataset_id.replace('/', '_')}.yaml"

    def as_eval_result(self) -> dict:
        """The entry of a file in `.eval_results`."""
        args = self.args
        low, high = args.get("ci95", (None, None))
        notes = f"protocol {args['protocol']} version {args['protocol_version']}, {args.get('probe', 'linear')} probe on frozen embeddings"
        notes += f", 95% interval {low:.4f} to {high:.4f}" if low is not None else ""
        notes += f", model revision {args['revision']}" if "revision" in args else ""
        notes += f", incomplete: {args['incomplete']}" if "incomplete" in args else ""
        entry = EvalResultEntry(
            dataset_id=self.dataset_id,
            task_id=self.task_id,
            value=self.result.metric_value,
            dataset_revision=self.result.dataset_revision,
            source_url=PAPER,
            source_name=BENCHMARK,
            notes=notes,
        )
        return eval_result_entries_to_yaml([entry])[0] | {
            "evaluation_framework": BENCHMARK
        }  # as in the corpus's eval.yaml


WHAT_COUNTS = "put them there and evaluate them by their id, or evaluate one of the twelve corpora"


def collect(
    results_dir: Path, who: str, is_theirs: Callable[[ModelFacts], bool], allow_incomplete: bool = False
) -> tuple[list[Entry], list[str]]:
    """The publishable results of one model below a folder, in the order of Table 1, and why others of it are held back.

    Args:
        results_dir: any folder; what a result is about is read in it, not in its name.
        who: the model, for messages.
        is_theirs: whether a result's `model` block is the model's.
        allow_incomplete: do not hold back what lacks clips.

    Raises:
        UserError: there is no such folder, or no result of the model.
    """
    if not Path(results_dir).is_dir():
        raise UserError(f"no folder {results_dir}: give the --output_dir of the evaluation")
    results, others, damaged = [], set(), []
    for path in result_paths(results_dir):
        try:
            result = Result.read(path)
        except UserError as error:
            say(f"passed over: {error}", sys.stderr)
            damaged += [path] if may_be_damaged(error) else []
            continue
        if not is_theirs(result.model):
            others.add(result.model.id)
        elif result.layer == -1:
            results.append(Filed(path, result))
    if not results:
        hint = f"; there are results of {', '.join(sorted(others))}" if others else ""
        raise UserError(f"no result of {who} on its last layer in {results_dir}{hint}")
    entries, off_hub = [], []
    held_back = damaged_beside(results, damaged)
    for filed in results:
        if hub_dataset(filed.result.dataset)[0] is None:
            off_hub.append(filed.path.name)
        elif reason := why_held_back(filed, damaged, allow_incomplete):
            held_back.append(f"{filed.path.name}: {reason}")
        else:
            entries.append(entry_of(filed.result))
    if off_hub:
        note = f"{', '.join(off_hub)}: their data are not on the Hub, so that nobody could check the numbers"
        if not entries and not held_back:
            return [], [f"{note}; {WHAT_COUNTS}"]
        say(f"left out: {note}", sys.stderr)
    return sorted(entries, key=_order), held_back


def one_for_each_claim(entries: Iterable[Entry]) -> list[Entry]:
    """Of several results about the same (with more or fewer seeds or shots, from two revisions) the one that is worth most; the others are
    named on stderr."""
    chosen: dict[tuple, Entry] = {}
    for entry in entries:
        rival = chosen.setdefault(entry.claim, entry)
        if rival is not entry:
            better, other = (entry, rival) if _worth(entry) > _worth(rival) else (rival, entry)
            chosen[entry.claim] = better
            what = [
                f"{which.args['protocol_version']}, {which.args.get('seeds', '?')} seeds" for which in (other, better)
            ]
            say(f"left out: {other.name} {what[0]}, where there is one of {what[1]}", sys.stderr)
    return list(chosen.values())


def _worth(entry: Entry) -> tuple:
    return rank(entry.args), entry.args.get("seeds") or 0, entry.source.created or ""


def _order(entry: Entry) -> tuple:
    place = CORPUS_NAMES.index(entry.corpus) if entry.corpus else len(CORPUS_NAMES)
    return place, entry.dataset_id, entry.args["protocol"], entry.args.get("dtype", "")


def damaged_beside(results: Iterable[Filed], damaged: Iterable[Path]) -> list[str]:
    """A line for each damaged file in a folder of these results: it may be one of theirs."""
    folders = {filed.path.parent for filed in results}
    return [
        f"{path.name}: it is damaged: evaluate again, or move it away" for path in damaged if path.parent in folders
    ]


def why_held_back(filed: Filed, damaged: Iterable[Path], allow_incomplete: bool) -> str | None:
    """What is wrong with a result that nobody should take for a whole one, or for the one that is damaged."""
    result = filed.result
    if lost := stands_in_for(filed.path, damaged):
        return f"it would stand in the place of {lost}, which is damaged"
    if result.caveat and not allow_incomplete and (not result.complete or result.dataset.limit):
        return f"{result.caveat}; evaluate again, or publish it as it is with --allow_incomplete"
    return None


def hub_dataset(dataset: DatasetFacts) -> tuple[str | None, str | None]:
    """The data set's id on the Hub (None if it is not there), and its name if it is one of the twelve.

    Examples:
        >>> hub_dataset(DatasetFacts(id="arch/esc50", task="single_label", n_clips=2000))
        ('arch/esc50', 'esc50')
        >>> hub_dataset(DatasetFacts(id="me/birds", task="single_label", n_clips=9, revision="a1b2"))
        ('me/birds', None)
    """
    name, revision = dataset.id, dataset.revision
    corpus = name.removeprefix(f"{NAMESPACE}/")
    if corpus in CORPUS_NAMES:
        return f"{NAMESPACE}/{corpus}", corpus
    if name in SYNTHETIC_NAMES or not revision or name.startswith("./"):
        return None, None
    return name, None


def entry_of(result: Result) -> Entry:
    """One result in the Hub's forms."""
    dataset, protocol = result.dataset, result.protocol
    dataset_id, corpus = hub_dataset(dataset)
    if dataset_id is None:
        raise ValueError(f"{dataset.id} is not on the Hub")
    (metric, metric_name), args = METRICS[result.metric], _args(result)
    remarks = [f"{protocol['name']} {protocol['version']}", args.get("dtype"), "incomplete" if result.caveat else None]
    return Entry(
        dataset_id=dataset_id,
        corpus=corpus,
        task_id=task_id(corpus or dataset_id, protocol["name"]),
        result=EvalResult(
            task_type=TASK[0],
            task_name=TASK[1],
            dataset_type=dataset_id,
            dataset_name=get_corpus(corpus).title if corpus else dataset_id,
            dataset_config=dataset.config or "default",
            dataset_split=_split(result),
            dataset_revision=dataset.revision,
            metric_type=metric,
            metric_value=result.headline.mean,
            metric_name=f"{metric_name} ({', '.join(filter(None, remarks))})",
            metric_args=args,
            source_url=PAPER,
            source_name=BENCHMARK,
        ),
        args=args,
        source=result,
    )


def _args(result: Result) -> dict[str, Any]:
    """How the number came about: what is not known is not said."""
    args = {
        "benchmark": BENCHMARK,
        "protocol": result.protocol["name"],
        "protocol_version": str(result.protocol["version"]),
        "seeds": result.protocol.get("seeds"),
        "revision": result.model.revision,
        "weights_sha256": result.model.weights_sha256,
        "dataset_fingerprint": result.dataset.fingerprint,
        "identity": result.identity,
        "ci95": list(result.headline.ci95) if result.headline.ci95 else None,
        "incomplete": result.caveat,
    } | _beyond_plain(result)
    return {key: value for key, value in args.items() if value is not None}


def _beyond_plain(result: Result) -> dict[str, Any]:
    """What was asked beyond the plain case: all that the name of the result's file says, but for what stands elsewhere in an entry (corpus,
    configuration, protocol, seeds, revision)."""
    protocol, dtype = result.protocol, result.environment.get("dtype")
    return {
        "probe": None if protocol.get("probe", "linear") == "linear" else protocol["probe"],
        "shots": protocol.get("shots"),
        "also": protocol.get("also"),
        "limit": result.dataset.limit,
        "options": result.dataset.options or None,
        "dtype": None if dtype == "float32" else dtype,
    }


def task_id(corpus: str, protocol: str) -> str:
    """The task in the data set's eval.yaml: the corpus's name under arch-v1, and one of its own for every other protocol.

    Examples:
        >>> task_id("esc50", "arch-v1"), task_id("esc50", "strict")
        ('esc50', 'esc50_strict')
    """
    return corpus if protocol == "arch-v1" else f"{corpus}_{protocol}"


def _split(result: Result) -> str:
    """What was tested on, as `load_dataset(split=...)` writes it: "test", or every fold in turn, "fold_1+fold_2+..."."""
    folds = dict.fromkeys(run.fold for run in result.runs)
    return "+".join(sorted(folds, key=lambda name: (len(name), name))) or "test"
