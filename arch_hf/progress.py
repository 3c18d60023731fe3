"""What a long job shows while it works."""

import sys
from collections.abc import Iterable

from tqdm.auto import tqdm


def progress_bar(label: str, n_clips: int, shown: bool, clips: Iterable[int] | None = None) -> tqdm:
    """A progress bar on a terminal; a line every half minute in a log file."""
    interval = 0.1 if sys.stderr.isatty() else 30
    return tqdm(clips, desc=label, total=n_clips, unit="clip", mininterval=interval, disable=not shown, leave=False)
