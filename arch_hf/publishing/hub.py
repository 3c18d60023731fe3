"""Writing to the Hub: commits that never overwrite another's, and uploads that go on where they stopped."""

import functools
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.errors import RemoteEntryNotFoundError
from huggingface_hub.utils import DEFAULT_IGNORE_PATTERNS, filter_repo_objects

from arch_hf.errors import UserError
from arch_hf.hub import attempt
from arch_hf.terminal import say

NOTHING = "nothing to change"
NOT_SENT = "nothing was sent (--dry_run)"


def say_what_would_go(
    repo_id: str, repo_type: str, how: str, files: Mapping[str, int], removed: Collection[str] = ()
) -> str:
    """Say where files would go, each with its bytes, and which would be removed there: all of a push but the push. Returns that nothing was sent.

    Examples:
        >>> say_what_would_go("me/esc50", "dataset", "a new repository", {"README.md": 1200})  # doctest: +ELLIPSIS
        would go to https://.../datasets/me/esc50, a new repository:
          README.md  1,200 bytes
        'nothing was sent (--dry_run)'
    """
    place = f"{constants.ENDPOINT}/{constants.REPO_TYPES_URL_PREFIXES.get(repo_type, '')}{repo_id}"
    say(f"would go to {place}, {how}:")
    for path, size in files.items():
        say(f"  {path}  {size:,} bytes")
    for path in removed:
        say(f"  {path}  removed")
    return NOT_SENT


def command_again(*words: object, **flags: object) -> str:
    """The command to give once a fault is mended, with every flag that it was given: without --private or --dry_run it would publish what was not meant to be.

    Examples:
        >>> command_again("dataset", "my birds", repo_id="me/birds", private=True, dry_run=False, revision=None)
        "arch-hf publish dataset 'my birds' --repo_id me/birds --private"
    """
    line = ["arch-hf", "publish", *map(str, words)]
    for name, value in flags.items():
        if value is not None and value is not False:
            line += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return shlex.join(line)


def check_repo_id(repo_id: str) -> None:
    """A repository is named owner/name.

    Raises:
        UserError: this is not of that form.
    """
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo_id):
        raise UserError(f"{repo_id} is no repository of the Hub (owner/name): say which one with --repo_id")


def read_file(repo_id: str, path: str, revision: str, repo_type: str = "model") -> bytes | None:
    """A file of a repository, None if there is none of that name."""
    try:
        return Path(HfApi().hf_hub_download(repo_id, path, revision=revision, repo_type=repo_type)).read_bytes()
    except RemoteEntryNotFoundError:
        return None


@dataclass
class Head:
    """The last commit of a model's repository, at one moment."""

    repo_id: str
    commit: str

    def __post_init__(self):
        self.read = functools.cache(self._read)

    def _read(self, path: str) -> bytes | None:
        """A file of it, None if there is none of that name."""
        return read_file(self.repo_id, path, self.commit)


def edit_files(
    repo_id: str,
    edit: Callable[[Head], Mapping[str, bytes]],
    summary: str,
    *,
    description: str = "",
    create_pr: bool = False,
    dry_run: bool = False,
    safe: str = "",
) -> str:
    """Change small files of a model repository in one commit, on top of what is there at that moment.

    Args:
        edit: takes the last commit and returns the wanted content of each file. It is called anew when somebody else commits in between, so it
            must merge, not overwrite.
        create_pr: open a pull request; one that is open already with the same content is left alone.
        dry_run: say what would change, and change nothing.

    Returns:
        The URL of the commit or pull request, or that there is nothing to change, or that nothing was sent.

    Raises:
        UserError: as `attempt`.
    """
    api = HfApi()

    def once() -> str:
        head = Head(repo_id, api.repo_info(repo_id).sha or "main")
        changed = {path: data for path, data in edit(head).items() if data != head.read(path)}
        if not changed:
            return NOTHING
        if create_pr and (url := _open_pull_request(api, repo_id, summary, changed)):
            return f"{NOTHING}: {url}"
        if dry_run:
            sizes = {path: len(data) for path, data in changed.items()}
            return say_what_would_go(repo_id, "model", "as a pull request" if create_pr else "in one commit", sizes)
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(path, data) for path, data in changed.items()],
            commit_message=summary,
            commit_description=description,
            parent_commit=head.commit,
            create_pr=create_pr,
        )
        return commit.pr_url or commit.commit_url

    return attempt(once, f"publishing results to {repo_id}", safe)


def _open_pull_request(api: HfApi, repo_id: str, title: str, files: Mapping[str, bytes]) -> str | None:
    """The open pull request that already makes these changes."""
    for pull in api.get_repo_discussions(repo_id, discussion_type="pull_request", discussion_status="open"):
        if pull.title == title and pull.is_pull_request:
            revision = f"refs/pr/{pull.num}"
            if all(read_file(repo_id, path, revision) == data for path, data in files.items()):
                return pull.url
    return None


@dataclass(frozen=True)
class Upload:
    """A folder on its way to a repository of type "model", "dataset" or "space"; `only` and `delete` are patterns of the files that are sent, and of
    those that are removed where the folder does not hold them. With `dry_run` it is only said what would go there."""

    folder: Path
    repo_id: str
    repo_type: str
    summary: str
    private: bool = False
    space_sdk: str | None = None
    only: list[str] | None = None
    delete: list[str] | None = None
    dry_run: bool = False

    def send(self, safe: str = "") -> str:
        """Make the repository if there is none and bring it to the folder's content. Run again, it goes on where it stopped: what
        the Hub has already is not sent twice, and nothing is committed when nothing differs.

        Returns:
            The repository's URL, or that nothing was sent.

        Raises:
            UserError: as `attempt`; or the repository is public and should be private.
        """
        check_repo_id(self.repo_id)
        doing = f"publishing {self.folder.name} to {self.repo_id}"
        return attempt(lambda: self._once(doing), doing, safe)

    def _once(self, doing: str) -> str:
        api, kind = HfApi(), self.repo_type
        if self.dry_run:
            return self._say_what_would_go(api, doing)
        url = api.create_repo(
            self.repo_id, repo_type=kind, private=self.private, space_sdk=self.space_sdk, exist_ok=True
        )
        self._check_private(api, doing)
        api.upload_folder(
            repo_id=self.repo_id,
            repo_type=kind,
            folder_path=self.folder,
            commit_message=self.summary,
            allow_patterns=self.only,
            delete_patterns=self.delete,
        )
        return str(url)

    def _check_private(self, api: HfApi, doing: str) -> None:
        if self.private and not api.repo_info(self.repo_id, repo_type=self.repo_type).private:
            raise UserError(
                f"{doing}: that repository is public; make it private on the Hub first, or take another --repo_id"
            )

    def _say_what_would_go(self, api: HfApi, doing: str) -> str:
        kind, removed = self.repo_type, set()
        is_new = not api.repo_exists(self.repo_id, repo_type=kind)
        found = {p.relative_to(self.folder).as_posix(): p for p in sorted(self.folder.rglob("*")) if p.is_file()}
        chosen = filter_repo_objects(found, allow_patterns=self.only, ignore_patterns=DEFAULT_IGNORE_PATTERNS)
        files = {name: found[name].stat().st_size for name in chosen}
        if not is_new:
            self._check_private(api, doing)
            if self.delete:
                there = api.list_repo_files(self.repo_id, repo_type=kind)
                removed = {*filter_repo_objects(there, allow_patterns=self.delete)} - files.keys()
        how = f"a new {'private ' if self.private else ''}repository" if is_new else "what is there already is not sent"
        return say_what_would_go(self.repo_id, kind, how, files, sorted(removed))
