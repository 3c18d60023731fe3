"""Talking to the Hub: bounded retries, one clear line for each way to fail, and commits that never overwrite another's."""

import functools
import itertools
import random
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the HTTP library that huggingface_hub is built on: every failed request is one
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers

from arch_hf.errors import UserError, redacted
from arch_hf.terminal import say

NOTHING = "nothing to change"
ATTEMPTS = 5  # on top of the six that huggingface_hub itself makes of an upload's parts
ATTEMPTS_OVERTAKEN = 20  # each of which somebody else's commit succeeded: a dozen jobs may end at once
LONGEST_BACKOFF = 8.0  # seconds
LONGEST_WAIT = 300.0  # seconds; a Hub that asks for more is left in peace, and the user is told
PASSING = {408, 429, 500, 502, 503, 504}
OVERTAKEN = {409, 412}  # somebody else committed in between: read again, merge again

T = TypeVar("T")


def attempt(action: Callable[[], T], doing: str, safe: str = "", attempts: int = ATTEMPTS) -> T:
    """Run `action`, again after a passing fault, at most `attempts` times.

    Args:
        action: does the whole of it, from reading to writing, so that a second run starts from what the Hub holds by then.
        doing: what is being done, for messages: "publishing results to arch/x".
        safe: what is not lost and how to go on, for the end of an error.

    Raises:
        UserError: one line with the reason and what to do. It never holds the token.

    Example:
        >>> attempt(lambda: 3, "counting")
        3
    """
    for number in itertools.count(1):
        try:
            return action()
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            cause = _hub_error(error)
            if cause is None and isinstance(error, OSError):  # of this machine: no right to write, a full disk
                raise UserError(_one_line(f"{doing}: {error}", safe)) from None
            if cause is None:
                raise
            wait = _seconds_to_wait(cause, number)
            last = ATTEMPTS_OVERTAKEN if _status(cause) in OVERTAKEN else attempts
            if wait is None or wait > LONGEST_WAIT or number >= last:
                raise UserError(_one_line(f"{doing}: {_explain(cause, wait)}", safe)) from None
            note = f"{doing}: {_short(cause)}; trying again in {wait:g} s ({number} of {last - 1})"
            say(redacted(_one_line(note)), sys.stderr)
            time.sleep(wait)
    raise AssertionError("unreachable")


def _hub_error(error: BaseException | None) -> BaseException | None:
    """What the Hub or the network did, from below whatever it was wrapped in; None if this is no such error."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, (HTTPError, ConnectionError, TimeoutError, LocalTokenNotFoundError, HFValidationError)):
            return error
        if type(error).__module__ == "hf_xet" or isinstance(error, JSONDecodeError):  # (a proxy's page instead of JSON)
            return error
        if isinstance(error, ValueError) and str(error).startswith(("Invalid metadata in README.md", "LFS batch API")):
            return error
        error = error.__cause__ or error.__context__
    return None


def _status(error: BaseException) -> int | None:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code
    found = re.search(r"status (?:client|server) error \((\d{3})", str(error)) if isinstance(error, OSError) else None
    return int(found[1]) if found else None  # hf_xet, which uploads large files, says it in words only


def _seconds_to_wait(error: BaseException, number: int) -> float | None:
    """None: trying again would not help."""
    status = _status(error)
    backoff = min(2.0 ** (number - 1), LONGEST_BACKOFF)
    if status is None:
        passing = isinstance(error, (HTTPError, ConnectionError, TimeoutError, JSONDecodeError))
        return backoff if passing and not isinstance(error, OfflineModeIsEnabled) else None
    if status in OVERTAKEN:
        return round(backoff * random.uniform(0.2, 1), 1)  # so that two do not meet again and again
    if status not in PASSING:
        return None
    headers = error.response.headers if isinstance(error, HfHubHTTPError) else {}
    limit = parse_ratelimit_headers(headers) if status == 429 else None
    asked = headers.get("Retry-After", "")
    if asked.isdigit():
        return max(float(asked), backoff)
    return max(float(limit.reset_in_seconds), backoff) if limit and limit.remaining == 0 else backoff


def _short(error: BaseException) -> str:
    status = _status(error)
    return f"the Hub answers {status}" if status else f"no answer ({type(error).__name__})"


def _explain(error: BaseException, wait: float | None) -> str:
    status = _status(error)
    said = getattr(error, "server_message", None)
    said = f" ({said})" if said else ""
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing may be sent: unset it"
    if isinstance(error, LocalTokenNotFoundError) or status == 401:
        if get_token() is None:
            return "the Hub does not know who you are: run `hf auth login` or set HF_TOKEN"
        return "the Hub does not accept your token, or hides this repository from it: run `hf auth login` or set HF_TOKEN anew"
    if type(error).__name__ == "XetAuthenticationError":
        return "the Hub's storage does not accept your token: run `hf auth login` or set HF_TOKEN anew"
    if isinstance(error, ValueError) and not status and not isinstance(error, JSONDecodeError):
        return str(error)
    if status == 403:
        settings = f"{constants.ENDPOINT}/settings/tokens"
        return f"your token may not write there{said}: take one that may ({settings}); for somebody else's model, --create_pr"
    if status == 404:
        return f"no such repository, or your token cannot see it{said}: check the id and the token"
    if status in OVERTAKEN:
        return f"others changed the repository each time in between{said}: try again later"
    if status == 429:
        return f"too many requests{said}: the Hub asks for {wait:g} s of patience; try again after that"
    if status in PASSING:
        return f"the Hub answers {status}{said} again and again: try later"
    if status:
        return f"the Hub refuses with {status}{said or f' ({error})'}"
    return f"no connection to {constants.ENDPOINT} ({error or type(error).__name__}): check the network and HF_ENDPOINT"


def _one_line(text: str, safe: str = "") -> str:
    text = " ".join(text.split())
    return (text[:500] + " ..." if len(text) > 500 else text) + (f". {safe}" if safe else "")


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
    doing: str,
    safe: str = "",
) -> str:
    """Change small files of a model repository in one commit, on top of what is there at that moment.

    Args:
        edit: takes the last commit and returns the wanted content of each file. It is called anew when somebody else commits in between, so it
            must merge, not overwrite.
        create_pr: open a pull request; one that is open already with the same content is left alone.

    Returns:
        The URL of the commit or pull request, or "nothing to change".

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
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(path, data) for path, data in changed.items()],
            commit_message=summary,
            commit_description=description,
            parent_commit=head.commit,
            create_pr=create_pr,
        )
        return commit.pr_url or commit.commit_url

    return attempt(once, doing, safe)


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
    those that are removed where the folder does not hold them."""

    folder: Path
    repo_id: str
    repo_type: str
    summary: str
    private: bool = False
    space_sdk: str | None = None
    only: list[str] | None = None
    delete: list[str] | None = None

    def send(self, safe: str = "") -> str:
        """Make the repository if there is none and bring it to the folder's content. Run again, it goes on where it stopped: what
        the Hub has already is not sent twice, and nothing is committed when nothing differs.

        Returns:
            The repository's URL.

        Raises:
            UserError: as `attempt`; or the repository is public and should be private.
        """
        check_repo_id(self.repo_id)
        doing = f"publishing {self.folder.name} to {self.repo_id}"
        return attempt(lambda: self._once(doing), doing, safe)

    def _once(self, doing: str) -> str:
        api, kind = HfApi(), self.repo_type
        url = api.create_repo(
            self.repo_id, repo_type=kind, private=self.private, space_sdk=self.space_sdk, exist_ok=True
        )
        if self.private and not api.repo_info(self.repo_id, repo_type=kind).private:
            raise UserError(
                f"{doing}: that repository is public; make it private on the Hub first, or take another --repo_id"
            )
        api.upload_folder(
            repo_id=self.repo_id,
            repo_type=kind,
            folder_path=self.folder,
            commit_message=self.summary,
            allow_patterns=self.only,
            delete_patterns=self.delete,
        )
        return str(url)
