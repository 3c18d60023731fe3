"""What a long job shows while it works."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm.auto import tqdm
from tqdm.std import tqdm as PlainBar

LOG_INTERVAL = 30  # seconds between the lines in a log file; what ends within a tenth of it says nothing there


def progress_bar(
    label: str, total: int | None, shown: bool, items: Iterable[Any] | None = None, unit: str = "clip"
) -> PlainBar:
    """A progress bar on a terminal or in a notebook; in a log file a line every half minute, and one at the end.

    Args:
        total: how many there are.
        shown: False for a bar that nobody sees: on all ranks but one.
        items: what to iterate over; None where `update` is called.
    """
    options: dict[str, Any] = {"desc": label, "total": total, "unit": unit, "disable": not shown}
    in_notebook = tqdm.status_printer is not PlainBar.status_printer
    if sys.stderr.isatty() or in_notebook:
        return tqdm(items, leave=False, **options)
    return _LogLines(items, mininterval=LOG_INTERVAL, delay=LOG_INTERVAL / 10, leave=True, **options)


class _LogLines(PlainBar):
    """A bar whose every state is a line of its own: a log file has no cursor to move back."""

    monitor_interval = 0  # no thread that draws between the updates

    @staticmethod
    def status_printer(file: TextIO):
        """The function that writes one state."""
        lines = 0

        def write(state: str) -> None:
            nonlocal lines
            file.write(("\n" if lines else "") + state)
            file.flush()
            lines += 1

        return write
