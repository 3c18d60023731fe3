"""The errors that a user can mend, and how a command tells them."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, a wrong flag.

    The message is one line that says what was wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 1; from Python it is an ordinary exception.

    Example:
        >>> raise UserError("--limit is 0, give 1 or more")
        Traceback (most recent call last):
        arch_hf.errors.UserError: --limit is 0, give 1 or more
    """


class AudioError(UserError):
    """A clip that cannot be used. The message is the reason alone, without the clip's name: the caller knows it."""


def run_kindly(run: Callable, args) -> int:
    """Run a command; a user's mistake becomes one line on stderr and status 1, never a traceback."""
    try:
        return run(args) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `arch-hf list corpora | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
