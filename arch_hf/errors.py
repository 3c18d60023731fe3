"""The errors that a user can mend."""


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
