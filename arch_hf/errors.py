"""The errors that a user can mend, how all others are reported, and how a command ends."""

import errno
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from arch_hf.terminal import say, visible


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, a wrong flag.

    The message is one line that says what was wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 1; from Python it is an ordinary exception. No message holds a token, or a character that would
    steer a terminal.

    Examples:
        >>> raise UserError("--limit is 0, give 1 or more")
        Traceback (most recent call last):
        arch_hf.errors.UserError: --limit is 0, give 1 or more
    """

    def __init__(self, message: str = ""):
        super().__init__(visible(redacted(message)))


class UserErrors(UserError):
    """Several mistakes at once; `problems` holds the line of each, and the message is all of them.

    Examples:
        >>> raise UserErrors(["--limit is 0, give 1 or more", "unknown protocol 'x'"])
        Traceback (most recent call last):
        arch_hf.errors.UserErrors: --limit is 0, give 1 or more; unknown protocol 'x'
    """

    def __init__(self, problems: Sequence[str]):
        super().__init__("; ".join(problems))
        self.problems = tuple(visible(redacted(problem)) for problem in problems)


def problems_of(error: UserError) -> tuple[str, ...]:
    """The lines to tell a user: one for each mistake."""
    return error.problems if isinstance(error, UserErrors) else (str(error),)


def all_of(*checks: Callable[[], object]) -> None:
    """Make all checks, also after one has failed.

    Raises:
        UserError: what they raised: the one, or all of them in a `UserErrors`, each once.

    Examples:
        >>> all_of(lambda: int("3"))
    """
    problems: dict[str, None] = {}
    for check in checks:
        try:
            check()
        except UserError as error:
            problems |= dict.fromkeys(problems_of(error))
    if problems:
        raise UserErrors([*problems]) if len(problems) > 1 else UserError(*problems)


class AudioError(UserError):
    """A clip that cannot be used. The message is the reason alone, without the clip's name: the caller knows it."""


def run_command(run: Callable, args) -> int:
    """Run a command: each thing that is wrong becomes one line on stderr, with status 1, never a traceback."""
    try:
        return run(args) or 0
    except KeyboardInterrupt:
        say("interrupted", sys.stderr)
        return 130
    except BrokenPipeError:  # `arch-hf list corpora | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        for problem in problems_of(as_user_error(error)):
            say(f"error: {problem}", sys.stderr)
        return 1


# What a token of the Hub looks like, a request's header that holds one, and a name with a password before a host.
_SECRETS = re.compile(r"\bhf_[A-Za-z0-9]{16,}|(?<=Bearer )[^\s'\",;]+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
_TOKEN_NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def redacted(text: str) -> str:
    """A text without the token of the Hub, or any other, also where a server or a library has sent it back.

    Examples:
        >>> redacted("PUT https://me:secret@example.org: 'Authorization: Bearer abc' is no token, hf_" + "x" * 34 + " is one")
        "PUT https://***@example.org: 'Authorization: Bearer ***' is no token, *** is one"
    """
    text = _SECRETS.sub("***", str(text))
    tokens = [os.environ.get(name) for name in _TOKEN_NAMES]
    if (hub := sys.modules.get("huggingface_hub")) is not None:  # also one that `hf auth login` has put into a file
        tokens.append(hub.get_token())
    for token in tokens:
        text = text.replace(token, "***") if token and len(token) > 3 else text
    return text


def as_user_error(error: Exception) -> UserError:
    """The error itself if a user can mend it; any other as one line that names a log file with its traceback.

    Examples:
        >>> as_user_error(UserError("mend this"))
        UserError('mend this')
        >>> try:
        ...     {}["key"]
        ... except KeyError as error:
        ...     str(as_user_error(error)).startswith("KeyError: 'key' (a fault of arch-hf or of a library; its traceback: ")
        True
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        name = str(error.filename or "")
        return UserError(f"a name is too long for a file or folder: {name[:60]}... ({len(name)} characters)")
    what = f"{type(error).__name__}: {one_line(error)} (a fault of arch-hf or of a library"
    try:
        return UserError(f"{what}; its traceback: {write_traceback(error)})")
    except OSError as problem:
        return UserError(f"{what}; its traceback could not be written: {one_line(problem)})")


def write_traceback(error: BaseException) -> Path:
    """Write an error's traceback into a log file of the system's folder for temporary files; returns its path."""
    text = redacted("".join(traceback.format_exception(error)))
    prefix = f"arch-hf-{time.strftime('%Y%m%d-%H%M%S')}-"
    with tempfile.NamedTemporaryFile("w", prefix=prefix, suffix=".log", delete=False, encoding="utf-8") as file:
        file.write(text)
    return Path(file.name)


def about(name: str | None, error: object) -> str:
    """What is wrong with a thing, as a line that names it, and once: most messages do so themselves. A name that is an ordinary word is looked for in
    quotation marks, before a colon, or at the beginning.

    Examples:
        >>> about("esc-50", "unknown corpus 'esc-50'"), about("audio", "no audio in it"), about("esc50", "arch/esc50 is no folder")
        ("unknown corpus 'esc-50'", 'audio: no audio in it', 'arch/esc50 is no folder')
    """
    text = str(error)
    if not name:
        return text
    word = re.escape(name)
    as_name = rf"^(?:[\w.~-]*/)*{word}(?!\w)|(?<![\w-]){word}(?=['\":])|(?<=the dataset ){word}(?!\w)" + (
        "" if name.isalpha() else rf"|(?<![\w-]){word}(?![\w-])"
    )
    return text if re.search(as_name, text) else f"{name}: {text}"


def one_line(error: BaseException) -> str:
    """What an error says, on one line of at most 300 characters.

    Examples:
        >>> one_line(ValueError("no\\n\\n  such  thing"))
        'no such thing'
    """
    return " ".join(str(error).split())[:300] or type(error).__name__
