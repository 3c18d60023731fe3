"""Results onto a model's page: one `model-index` entry per corpus and protocol, and one `.eval_results/*.yaml` per corpus.

Both forms carry the fraction of the result file, unrounded. The newer one (https://huggingface.co/docs/hub/eval-results) also feeds the
leaderboard on the corpus's own page. The date is left to the commit, so that a second push of the same results is the same push.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from huggingface_hub import HfApi
from huggingface_hub.utils import yaml_dump

from arch_hf.errors import UserError
from arch_hf.hub import attempt
from arch_hf.names import public_name
from arch_hf.publishing.card import decode, merge_results, published, rank
from arch_hf.publishing.entries import PAPER, Entry, collect, one_for_each_claim
from arch_hf.publishing.hub import NOTHING, Head, check_repo_id, command_again, edit_files
from arch_hf.publishing.weights import Branch

SUMMARY = "Add ARCH benchmark results"
README = "README.md"
BASELINES = ("logmel", "mfcc")


def push_results(
    results_dir: Path,
    model_id: str,
    *,
    create_pr: bool = False,
    allow_incomplete: bool = False,
    repo_id: str | None = None,
    dry_run: bool = False,
) -> str:
    """Put a model's results on its page of the Hub, in one commit.

    Args:
        results_dir: the main job's --output_dir, or any folder above or at the model's results.
        model_id: the model as it was evaluated.
        create_pr: open a pull request instead, for a model that one does not own.
        allow_incomplete: also results that lack clips (marked as such).
        repo_id: the model's repository, where it is not `model_id` (a local folder was evaluated).
        dry_run: only say what would change there.

    Returns:
        The URL of the commit or pull request, or "nothing to change", or that nothing was sent.

    Raises:
        UserError: no results, the Hub cannot be reached or refuses, or some results were held back: they lack clips, the page has better ones,
            or the branch holds other weights than those that were measured. What could be published is.
    """
    results_dir, repo_id = Path(results_dir), repo_id or model_id
    _check_has_page(repo_id)
    names = {model_id, public_name(model_id)}
    entries, held_back = collect(results_dir, model_id, lambda model: model.id in names, allow_incomplete)
    where = {"model_id": model_id, "repo_id": repo_id if repo_id != model_id else None}
    flags = {"create_pr": create_pr, "allow_incomplete": allow_incomplete, "dry_run": dry_run}
    again = command_again("results", results_dir, **where, **flags)
    if not entries:
        raise UserError(f"nothing was published: {'; '.join(held_back)}")
    page = _Page(repo_id, entries)
    url = edit_files(
        repo_id,
        page.edit,
        SUMMARY,
        description=f"Linear probes on frozen embeddings, [ARCH]({PAPER}), measured with arch-hf.",
        create_pr=create_pr,
        dry_run=dry_run,
        safe=f"The results are safe in {results_dir}; once that is mended: {again}",
    )
    if held_back := held_back + page.held_back:
        done = "nothing else had changed" if url.startswith(NOTHING) else f"the others: {url}"
        raise UserError(f"not published: {'; '.join(held_back)}; {done}")
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


@dataclass
class _Page:
    """A model's page with results put on it; `held_back` says why some were not, at the last commit that was looked at."""

    repo_id: str
    entries: Sequence[Entry]
    held_back: list[str] = field(default_factory=list)

    def edit(self, head: Head) -> dict[str, bytes]:
        """The files of the model's repository with the entries merged in."""
        self.held_back.clear()
        text = decode(head.read(README) or _new_card(self.repo_id))
        bom = "\ufeff" if text.startswith("\ufeff") else ""
        card = text.removeprefix("\ufeff")
        chosen = self._choose(published(card), Branch(self.repo_id, head.commit))
        if not chosen:
            return {}
        merged = merge_results(card, [entry.result for entry in chosen], self.repo_id.split("/")[-1])
        files = {README: (bom + merged).encode()}
        on_boards = [entry for entry in chosen if entry.corpus and entry.is_plain]
        for path in dict.fromkeys(entry.eval_file for entry in on_boards):
            own = [entry.as_eval_result() for entry in on_boards if entry.eval_file == path]
            files[path] = _merge_eval_results(head.read(path), own)
        return files

    def _choose(self, there: dict[tuple, dict], branch: Branch) -> list[Entry]:
        """The entries that belong on the page: of the branch's own weights, and no worse than what the page has."""
        own = []
        for entry in self.entries:
            if reason := branch.why_not(entry.source.model):
                self.held_back.append(f"{entry.name}: {reason}")
            else:
                own.append(entry)
        if len({entry.source.model.weights_sha256 for entry in own}) > 1:  # the branch has none to compare them with
            first, second = ({entry.source.model.weights_sha256: entry.name for entry in own}).values()
            raise UserError(
                f"{first} and {second} were measured on different weights: publish the results of one of them alone"
            )
        chosen = []
        for entry in one_for_each_claim(own):
            has = there.get(entry.claim)
            if has and rank(has) > rank(entry.args):
                what = f"protocol version {has.get('protocol_version')}{', incomplete' if 'incomplete' in has else ''}"
                self.held_back.append(f"{entry.name}: the page has a better one already ({what})")
            else:
                chosen.append(entry)
        return chosen


def _merge_eval_results(old: bytes | None, own: list[dict]) -> bytes:
    """An `.eval_results` file with our entries in place of earlier ones of the same task and source; others stay."""
    try:
        there = (yaml.safe_load(old) if old else None) or []
        ours = {(entry["dataset"]["task_id"], entry["source"]["name"]) for entry in own}
        kept = [e for e in there if (e["dataset"]["task_id"], (e.get("source") or {}).get("name")) not in ours]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError("a file of .eval_results/ on the Hub cannot be read: mend or remove it there first") from None
    entries = sorted(kept + own, key=lambda entry: entry["dataset"]["task_id"])
    if old and entries == there:
        return old
    return yaml_dump(entries, sort_keys=False).encode()


def _new_card(repo_id: str) -> bytes:
    name = repo_id.split("/")[-1]
    text = f"---\nlibrary_name: transformers\ntags:\n- audio\n---\n\n# {name}\n\nResults: see the metadata, measured with arch-hf.\n"
    return text.encode()
