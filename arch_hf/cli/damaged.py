"""What a command says in the end of results that it had to leave out."""

import sys

from arch_hf.terminal import say


def status_of(n_damaged: int, lacks: str) -> int:
    """Say that so many files were left out as damaged, and what may lack something for it. Returns the exit status: 1 if there are any.

    Examples:
        >>> status_of(0, "the report may have holes")
        0
    """
    if n_damaged:
        files = f"{n_damaged} file{'s' * (n_damaged > 1)}"
        say(f"error: {files} left out as damaged, so {lacks}: evaluate again, or remove them", sys.stderr)
    return int(n_damaged > 0)
