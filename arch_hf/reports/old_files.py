"""The files of an earlier report in the same folder that the new one has not, of which nothing else tells that they are old."""

import contextlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path

MARK = "arch-hf report"  # in every file that not every report has, by which it is known as ours
_NAME = re.compile(
    r"(intervals|radar|accuracy_vs_(gflop|parameters)|critical_difference|layers|confusion)(_[\w.-]+)?\.(png|svg)|benchmarks\.html"
)
_HEAD = 4096  # bytes, within which the mark stands


def remove_old_files(folder: Path, written: Collection[Path]) -> Iterator[str]:
    """Remove the plots and pages that a report has written and the new one has not, and say so in a line; what only bears the name of one is named
    in another, and left.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "radar.png").write_bytes(MARK.encode()), (folder / "layers_mine.png").write_bytes(b"")
        >>> list(remove_old_files(folder, []))
        ['of an earlier report, and removed: radar.png', 'of an earlier report, by the name, and still there: layers_mine.png']
    """
    old = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path not in written)
    removed = [path.name for path in old if _remove_ours(path)]
    left = [path.name for path in old if path.name not in removed]
    for names, what in ((removed, "and removed"), (left, "by the name, and still there")):
        if names:
            yield f"of an earlier report, {what}: {', '.join(names)}"


def _remove_ours(path: Path) -> bool:
    with contextlib.suppress(OSError):
        with open(path, "rb") as file:
            is_ours = MARK.encode() in file.read(_HEAD)
        if is_ours:
            path.unlink()
            return True
    return False
