"""Results into a dataset of results on the Hub: one row each, from which leaderboards are made.

A push adds a file of its own, named by what is in it. So any number of pushes may arrive at once without one losing another's rows, pull requests never
contradict each other, and the same push again is no push. When there are many files, a push of the owner's puts them together.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from arch_hf.errors import UserError
from arch_hf.hub import OVERTAKEN, attempt
from arch_hf.names import public_name
from arch_hf.publishing.entries import PAPER, damaged_beside, hub_dataset, why_held_back
from arch_hf.publishing.hub import NOTHING, check_repo_id, command_again, say_what_would_go
from arch_hf.results.folder import Filed, read_results
from arch_hf.results.rows import merge_rows, read_keys, row_of, write_rows
from arch_hf.terminal import say

FOLDER = "data"
MOST_FILES = 64  # of a dataset, before they are put together
CARD = f"""\
---
license: cc0-1.0
pretty_name: ARCH results
configs:
- config_name: default
  data_files: {FOLDER}/*.parquet
tags:
- leaderboard
- audio
---

# Results of frozen audio encoders

One row for each result of `arch-hf evaluate` ([ARCH]({PAPER})): the columns are for filters, `result` is the whole result file. Rows of the same numbers have the same `key`.

    arch-hf publish results RESULTS_DIR --dataset {{repo_id}}
"""


def push_to_dataset(
    results_dir: Path,
    repo_id: str,
    *,
    model_id: str | None = None,
    create_pr: bool = False,
    allow_incomplete: bool = False,
    dry_run: bool = False,
) -> str:
    """Add results to a dataset of results: by a pull request where it is somebody else's. What is there already is not added again.

    Args:
        results_dir: the main job's --output_dir, or any folder of results.
        repo_id: the dataset on the Hub, "arch/results"; one of your own is made if there is none.
        model_id: only this model's, as it was evaluated.
        create_pr: by a pull request also where it is yours.
        allow_incomplete: also results that lack clips (marked as such).
        dry_run: only say what would go there.

    Returns:
        The URL of the commit or pull request, or "nothing to change", or that nothing was sent.

    Raises:
        UserError: there is nothing fit to be published, the Hub cannot be reached or refuses, or some results were held back. What could be
            published is.
    """
    check_repo_id(repo_id)
    results, held_back = publishable(Path(results_dir), model_id, allow_incomplete)
    flags = {"create_pr": create_pr, "allow_incomplete": allow_incomplete, "dry_run": dry_run}
    again = command_again("results", results_dir, dataset=repo_id, model_id=model_id, **flags)
    safe, doing = f"The results are safe in {results_dir}; to go on: {again}", f"adding results to {repo_id}"
    rows = {row["key"]: row for row in (row_of(filed.result, filed.path.name) for filed in results)}
    api = HfApi()
    owned, is_new = attempt(lambda: _find(api, repo_id, dry_run), doing, safe)
    if not owned and not create_pr:
        say(f"{repo_id} is not yours: as a pull request", sys.stderr)
    push = _Push(repo_id, rows, create_pr or not owned, dry_run, is_new)
    url = attempt(lambda: push.once(api), doing, safe)
    if not push.create_pr and not dry_run:
        attempt(lambda: _put_together(api, repo_id), f"putting the files of {repo_id} together", safe)
    if held_back:
        raise UserError(f"not published: {'; '.join(held_back)}; the others: {url}")
    return url


def publishable(results_dir: Path, model_id: str | None, allow_incomplete: bool) -> tuple[list[Filed], list[str]]:
    """The results below a folder that are fit for a leaderboard, and why others are held back. Those whose data are not on the Hub are named on
    stderr and left out: nobody could check them.

    Raises:
        UserError: none is fit.
    """
    results, skipped = read_results(results_dir)
    for line in skipped:
        say(f"passed over: {line}", sys.stderr)
    if model_id is not None:
        results = [filed for filed in results if filed.result.model.id in (model_id, public_name(model_id))]
    damaged = [line.damaged for line in skipped if line.damaged]
    fit, held_back, off_hub = [], damaged_beside(results, damaged), []
    for filed in results:
        if hub_dataset(filed.result.dataset)[0] is None:
            off_hub.append(filed.path.name)
        elif reason := why_held_back(filed, damaged, allow_incomplete):
            held_back.append(f"{filed.path.name}: {reason}")
        else:
            fit.append(filed)
    if off_hub:
        say(f"left out, since their data are not on the Hub: {', '.join(sorted(set(off_hub)))}", sys.stderr)
    if not fit:
        whose = f" of {model_id}" if model_id else ""
        raise UserError(
            f"nothing to publish{whose} in {results_dir}: {'; '.join(held_back) or 'no result on data of the Hub'}"
        )
    return fit, held_back


@dataclass(frozen=True)
class _Push:
    """Results on their way: a row for each, by its key; whether as a pull request, whether it is only to be said what would go there, and whether
    there is no such dataset yet."""

    repo_id: str
    rows: Mapping[str, dict]
    create_pr: bool
    dry_run: bool = False
    is_new: bool = False

    def once(self, api: HfApi) -> str:
        """Add in one commit what is not there yet. It names no parent: whatever is committed in between takes nothing from it."""
        head, paths = ("main", []) if self.is_new else _files(api, self.repo_id)
        known = {key for path in paths for key in read_keys(_fetch(api, self.repo_id, path, head))}
        new = [row for key, row in self.rows.items() if key not in known]
        if not new:
            return NOTHING
        path = _name_of([row["key"] for row in new])
        if self.create_pr and not self.is_new and (url := self._open_pull_request(api, path)):
            return f"{NOTHING}: {url}"
        models = ", ".join(sorted({row["model_id"] for row in new}))
        what, content = f"{len(new)} result{'s' * (len(new) > 1)} of {models}", write_rows(new)
        if self.dry_run:
            how = f"{what}{', as a pull request' * self.create_pr}{', a new dataset' * self.is_new}"
            return say_what_would_go(self.repo_id, "dataset", how, {path: len(content)})
        commit = api.create_commit(
            self.repo_id,
            [CommitOperationAdd(path, content)],
            repo_type="dataset",
            commit_message=f"Add {what}"[:200],
            create_pr=self.create_pr,
        )
        return commit.pr_url or commit.commit_url

    def _open_pull_request(self, api: HfApi, path: str) -> str | None:
        """The open pull request that adds the same rows."""
        pulls = api.get_repo_discussions(
            self.repo_id, repo_type="dataset", discussion_type="pull_request", discussion_status="open"
        )
        same = (
            pull
            for pull in pulls
            if api.file_exists(self.repo_id, path, repo_type="dataset", revision=f"refs/pr/{pull.num}")
        )
        return next((pull.url for pull in same), None)


def _find(api: HfApi, repo_id: str, dry_run: bool) -> tuple[bool, bool]:
    """Whether the dataset is the user's, or an organisation's that the user belongs to, and whether it is still to be made: one of their own that is
    not there yet is made, with a card, unless it is a dry run."""
    who = api.whoami()
    owned = repo_id.split("/")[0] in {who["name"], *(org["name"] for org in who.get("orgs", ()))}
    is_new = owned and not api.repo_exists(repo_id, repo_type="dataset")
    if is_new and not dry_run:
        api.create_repo(repo_id, repo_type="dataset", exist_ok=True)
        card = CommitOperationAdd("README.md", CARD.format(repo_id=repo_id).encode())
        api.create_commit(repo_id, [card], repo_type="dataset", commit_message="Say what this is")
    return owned, is_new and dry_run


def _files(api: HfApi, repo_id: str) -> tuple[str, list[str]]:
    """The last commit of the dataset, and its files of rows."""
    info = api.dataset_info(repo_id)
    names = (file.rfilename for file in info.siblings or ())
    return info.sha or "main", sorted(
        name for name in names if name.startswith(f"{FOLDER}/") and name.endswith(".parquet")
    )


def _fetch(api: HfApi, repo_id: str, path: str, revision: str) -> Path:
    return Path(api.hf_hub_download(repo_id, path, repo_type="dataset", revision=revision))


def _name_of(keys: Iterable[str]) -> str:
    """The file of these rows."""
    return f"{FOLDER}/{hashlib.sha256(''.join(sorted(keys)).encode()).hexdigest()[:24]}.parquet"


def _put_together(api: HfApi, repo_id: str) -> None:
    """One file in place of many, once there are more than MOST_FILES; unless somebody commits meanwhile, whose push will do it."""
    head, paths = _files(api, repo_id)
    if len(paths) <= MOST_FILES:
        return
    local = [_fetch(api, repo_id, path, head) for path in paths]
    keys, content = merge_rows(local)
    target = _name_of(keys)
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(target, content),
        *(CommitOperationDelete(path) for path in paths if path != target),
    ]
    try:
        api.create_commit(
            repo_id,
            operations,
            repo_type="dataset",
            commit_message=f"Put {len(paths)} files together",
            parent_commit=head,
        )
    except HfHubHTTPError as error:
        if error.response.status_code not in OVERTAKEN:
            raise
