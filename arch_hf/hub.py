"""Asking the Hub: again after a passing fault, within bounds, and one clear line for each way to fail."""

import itertools
import random
import re
import sys
import time
from collections.abc import Callable
from json import JSONDecodeError
from typing import TypeVar

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the HTTP library that huggingface_hub is built on: every failed request is one
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import parse_ratelimit_headers

from arch_hf.errors import UserError, redacted
from arch_hf.terminal import say

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

    Examples:
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


def passing_fault(error: BaseException) -> str | None:
    """What kept the Hub from answering for the moment ("the Hub answers 503"); None if asking again would not help.

    Examples:
        >>> passing_fault(ConnectionError("refused")), passing_fault(KeyError("name"))
        ('no answer (ConnectionError)', None)
    """
    cause = _hub_error(error)
    return None if cause is None or _seconds_to_wait(cause, 1) is None else _short(cause)


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
    status = re.search(r"status (?:client|server) error \((\d{3})", str(error)) if isinstance(error, OSError) else None
    return int(status[1]) if status else None  # hf_xet, which uploads large files, says it in words only


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
