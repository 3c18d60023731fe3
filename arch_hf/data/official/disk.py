"""What downloads and extraction share: free space, a full disk, and one writer at a time in a folder."""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from arch_hf.errors import UserError

FULL_DISK = {errno.ENOSPC, errno.EDQUOT}


def human_size(n_bytes: int) -> str:
    """A number of bytes as people write it, in decimal units.

    Examples:
        >>> human_size(208_468_073), human_size(40), human_size(6_023_741_708)
        ('208.5 MB', '40 B', '6.0 GB')
    """
    if n_bytes < 1000:
        return f"{n_bytes} B"
    size = float(n_bytes)
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def check_free_space(folder: Path, needed: int, purpose: str) -> None:
    """Raise UserError unless the disk that holds `folder` has `needed` free bytes. `purpose`: "to download x.zip"."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"not enough disk space {purpose}: {human_size(needed)} needed in {folder}, {human_size(free)} free; "
            "free some space or choose another folder"
        )


@contextmanager
def report_write_errors(folder: Path, doing: str, needed: Callable[[], int | None] = lambda: None) -> Iterator[None]:
    """Turn a failed write below `folder` into one line. `doing`: "downloading x.zip"; `needed()`: bytes to come, or None."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            missing = needed()
            asks = f"{human_size(missing)} more needed" if missing else "more space needed"
            free = human_size(shutil.disk_usage(folder).free)
            raise UserError(
                f"disk full while {doing}: {asks} in {folder}, {free} free; free some space and run the same command"
            ) from None
        where = f" ({error.filename})" if error.filename else ""
        raise UserError(f"error while {doing} in {folder}: {error.strerror or error}{where}") from None


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; UserError when another one downloads or extracts there.

    The lock ends with the process, however that ends.
    """
    with report_write_errors(folder, "preparing to write"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".arch-hf.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another arch-hf is downloading or extracting in {folder}: wait for it to finish"
            ) from None
    try:
        yield
    finally:
        lock.release()
