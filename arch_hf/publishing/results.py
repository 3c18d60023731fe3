"""Results onto a model's page: one `model-index` entry per corpus and protocol, and one `.eval_results/*.yaml` per corpus.

Both forms carry the fraction of the result file, unrounded. The newer one (https://huggingface.co/docs/hub/eval-results) also feeds the
leaderboard on the corpus's own page. The date is left to the commit, so that a second push of the same results is the same push.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, HfApi, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump

from arch_hf.data.registry import CORPUS_NAMES, SYNTHETIC_NAMES, get_corpus
from arch_hf.errors import UserError
from arch_hf.publishing.card import BENCHMARK, decode, merge_results, published, rank
from arch_hf.publishing.hub import NOTHING, attempt, check_repo_id, edit_files
from arch_hf.results.result import DatasetFacts, ModelFacts, Result

NAMESPACE = "arch"  # of the corpora on the Hub
PAPER = "https://arxiv.org/abs/2405.00934"
TASK = ("audio-classification", "Audio classification")
METRICS = {"accuracy": ("accuracy", "Accuracy"), "map_macro": ("map_macro", "Macro mAP")}
SUMMARY = "Add ARCH benchmark results"
README = "README.md"
BASELINES = ("logmel", "mfcc")


@dataclass(frozen=True)
class Entry:
    """One result, ready for the Hub in both forms. `args` say how the number came about."""

    dataset_id: str
    corpus: str | None  # None: a data set that is not one of the twelve
    task_id: str
    result: EvalResult
    args: dict

    @property
    def name(self) -> str:
        return f"{self.corpus or self.dataset_id} ({self.args['protocol']})"

    @property
    def eval_file(self) -> str:
        return f".eval_results/{self.dataset_id.replace('/', '_')}.yaml"

    def as_eval_result(self) -> dict:
        low, high = self.args.get("ci95", (None, None))
        notes = f"protocol {self.args['protocol']} version {self.args['protocol_version']}, linear probe on frozen embeddings"
        notes += f", 95% interval {low:.4f} to {high:.4f}" if low is not None else ""
        notes += f", incomplete: {self.args['incomplete']}" if "incomplete" in self.args else ""
        entry = EvalResultEntry(
            dataset_id=self.dataset_id,
            task_id=self.task_id,
            value=self.result.metric_value,
            dataset_revision=self.result.dataset_revision,
            source_url=PAPER,
            source_name=BENCHMARK,
            notes=notes,
        )
        return eval_result_entries_to_yaml([entry])[0]


def push_results(
    results_dir: Path,
    model_id: str,
    *,
    create_pr: bool = False,
    allow_incomplete: bool = False,
    repo_id: str | None = None,
) -> str:
    """Put a model's results on its page of the Hub, in one commit.

    Args:
        results_dir: the main job's --output_dir, or any folder above or at the model's results.
        model_id: the model as it was evaluated.
        create_pr: open a pull request instead, for a model that one does not own.
        allow_incomplete: also results that lack clips (marked as such).
        repo_id: the model's repository, where it is not `model_id` (a local folder was evaluated).

    Returns:
        The URL of the commit or pull request, or "nothing to change".

    Raises:
        UserError: no results, the Hub cannot be reached or refuses, or some results were held back. What could be published is.
    """
    results_dir, repo_id = Path(results_dir), repo_id or model_id
    _check_has_page(repo_id)
    entries, held_back = collect(results_dir, model_id, lambda model: model.id == model_id, allow_incomplete)
    again = f"arch-hf publish results {results_dir} --model_id {model_id}"
    again += f" --repo_id {repo_id}" if repo_id != model_id else ""
    again += " --create_pr" if create_pr else ""
    if not entries:
        raise UserError(f"nothing was published: {'; '.join(held_back)}")
    better: list[str] = []

    def edit(read: Callable[[str], bytes | None]) -> dict[str, bytes]:
        better.clear()
        return _merge_all(read, entries, repo_id, better)

    url = edit_files(
        repo_id,
        edit,
        SUMMARY,
        description=f"Linear probes on frozen embeddings, [ARCH]({PAPER}), measured with arch-hf.",
        create_pr=create_pr,
        doing=f"publishing results to {repo_id}",
        safe=f"The results are safe in {results_dir}; once that is mended: {again}",
    )
    if held_back or better:
        done = "nothing else had changed" if url.startswith(NOTHING) else f"the others are published: {url}"
        raise UserError(f"not published: {'; '.join(held_back + better)}; {done}")
    return url


def why_not_pushable(repo_id: str) -> str | None:
    """What would keep results from the model's page, asked once and before the work starts: a push at its end should not fail on a
    token that expired long ago. None if nothing is known to."""
    try:
        _check_has_page(repo_id)
        api = HfApi()
        attempt(lambda: (api.whoami(), api.repo_info(repo_id)), f"looking up {repo_id}", attempts=1)
    except UserError as error:
        return str(error)
    return None


def _check_has_page(repo_id: str) -> None:
    if repo_id in BASELINES:
        raise UserError(f"{repo_id} is built into arch-hf and has no page on the Hub")
    check_repo_id(repo_id)


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
        UserError: there is no such folder, no result of the model, or there are results of two sets of weights.
    """
    if not Path(results_dir).is_dir():
        raise UserError(f"no folder {results_dir}: give the --output_dir of the evaluation")
    found, others, weights = [], set(), {}
    for path in sorted(Path(results_dir).rglob("*.json")):
        try:
            result = Result.read(path)
        except UserError as error:
            print(f"passed over: {error}", file=sys.stderr)
            continue
        if not is_theirs(result.model):
            others.add(result.model.id)
        elif result.layer == -1:
            found.append((path, result))
            weights.setdefault(result.model.weights_sha256, path)
    if not found:
        hint = f"; there are results of {', '.join(sorted(others))}" if others else ""
        raise UserError(f"no result of {who} on its last layer in {results_dir}{hint}")
    if len(weights) > 1:
        first, second, *_ = weights.values()
        raise UserError(f"{first} and {second} are of different weights: evaluate the model again with --overwrite")
    entries, held_back, off_hub = [], [], []
    for path, result in found:
        if hub_dataset(result.dataset)[0] is None:
            off_hub.append(path.name)
        elif reason := _why_held_back(result, allow_incomplete):
            held_back.append(f"{path.name}: {reason}")
        else:
            entries.append(_entry(result))
    if off_hub:
        note = f"{', '.join(off_hub)}: their data are not on the Hub, so that nobody could check the numbers"
        if not entries and not held_back:
            raise UserError(f"nothing to publish: {note}")
        print(f"left out: {note}", file=sys.stderr)
    return sorted(entries, key=_order), held_back


def _order(entry: Entry) -> tuple:
    place = CORPUS_NAMES.index(entry.corpus) if entry.corpus else len(CORPUS_NAMES)
    return place, entry.dataset_id, entry.args["protocol"]


def _why_held_back(result: Result, allow_incomplete: bool) -> str | None:
    if result.caveat and not allow_incomplete and (not result.complete or result.dataset.limit):
        return f"{result.caveat}; evaluate again, or publish it as it is with --allow_incomplete"
    return None


def hub_dataset(dataset: DatasetFacts) -> tuple[str | None, str | None]:
    """The data set's id on the Hub (None if it is not there), and its name if it is one of the twelve.

    Example:
        >>> hub_dataset(DatasetFacts(id="arch/esc50", task="single_label", n_clips=2000))
        ('arch/esc50', 'esc50')
        >>> hub_dataset(DatasetFacts(id="me/birds", task="single_label", n_clips=9, revision="a1b2"))
        ('me/birds', None)
    """
    name, revision = dataset.id, dataset.revision
    corpus = name.removeprefix(f"{NAMESPACE}/")
    if corpus in CORPUS_NAMES:
        return f"{NAMESPACE}/{corpus}", corpus
    if name in SYNTHETIC_NAMES or not revision:
        return None, None
    return name, None


def _entry(result: Result) -> Entry:
    dataset, protocol = result.dataset, result.protocol
    dataset_id, corpus = hub_dataset(dataset)
    score, (metric, metric_name) = result.headline, METRICS[result.metric]
    doubt = result.caveat
    args = {
        "benchmark": BENCHMARK,
        "protocol": protocol["name"],
        "protocol_version": str(protocol["version"]),
        "weights_sha256": result.model.weights_sha256,
    }
    if dataset.fingerprint:
        args["dataset_fingerprint"] = dataset.fingerprint
    if score.ci95:
        args["ci95"] = list(score.ci95)
    if doubt:
        args["incomplete"] = doubt
    name = f"{metric_name} ({protocol['name']} {protocol['version']}{', incomplete' if doubt else ''})"
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
            metric_value=score.mean,
            metric_name=name,
            metric_args=args,
            source_url=PAPER,
            source_name=BENCHMARK,
        ),
        args=args,
    )


def task_id(corpus: str, protocol: str) -> str:
    """The task in the data set's eval.yaml: the corpus's name under arch-v1, and one of its own for every other protocol.

    Example:
        >>> task_id("esc50", "arch-v1"), task_id("esc50", "strict")
        ('esc50', 'esc50_strict')
    """
    return corpus if protocol == "arch-v1" else f"{corpus}_{protocol}"


def _split(result: Result) -> str:
    """What was tested on, as `load_dataset(split=...)` writes it: "test", or every fold in turn, "fold_1+fold_2+..."."""
    folds = dict.fromkeys(run.fold for run in result.runs)
    return "+".join(sorted(folds, key=lambda name: (len(name), name))) or "test"


def _merge_all(read: Callable, entries: Sequence[Entry], repo_id: str, better: list[str]) -> dict[str, bytes]:
    """The files of the model's repository with the entries merged in; `better` collects those that the page outranks."""
    old = read(README)
    text = decode(old or _new_card(repo_id))
    bom = "\ufeff" if text.startswith("\ufeff") else ""
    card = text.removeprefix("\ufeff")
    there = published(card)
    chosen = []
    for entry in entries:
        has = there.get((entry.dataset_id, entry.args["protocol"]))
        if has and rank(has) > rank(entry.args):
            what = f"protocol version {has.get('protocol_version')}{', incomplete' if 'incomplete' in has else ''}"
            better.append(f"{entry.name}: the page has a better one already ({what})")
        else:
            chosen.append(entry)
    if not chosen:
        return {}
    merged = merge_results(card, [entry.result for entry in chosen], repo_id.split("/")[-1])
    files = {README: (bom + merged).encode()}
    for path in dict.fromkeys(entry.eval_file for entry in chosen if entry.corpus):
        own = [entry.as_eval_result() for entry in chosen if entry.eval_file == path]
        files[path] = _merge_eval_results(read(path), own)
    return files


def _merge_eval_results(old: bytes | None, own: list[dict]) -> bytes:
    """An `.eval_results` file with our entries in place of earlier ones of the same task and source; others stay."""
    try:
        there = (yaml.safe_load(old) if old else None) or []
        ours = {(entry["dataset"]["task_id"], entry["source"]["name"]) for entry in own}
        kept = [e for e in there if (e["dataset"]["task_id"], (e.get("source") or {}).get("name")) not in ours]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise UserError("a file of .eval_results/ on the Hub cannot be read: mend or remove it there first") from None
    entries = sorted(kept + own, key=lambda entry: entry["dataset"]["task_id"])
    if old and entries == there:
        return old
    return yaml_dump(entries, sort_keys=False).encode()


def _new_card(repo_id: str) -> bytes:
    name = repo_id.split("/")[-1]
    text = f"---\nlibrary_name: transformers\ntags:\n- audio\n---\n\n# {name}\n\nResults: see the metadata, measured with arch-hf.\n"
    return text.encode()
