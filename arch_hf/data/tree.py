"""The files below a folder, and by what a change of one is told."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from arch_hf.errors import UserError


def walk(
    folder: Path, look: Callable[[str, os.DirEntry], object] = lambda path, entry: None, hidden: bool = False
) -> Iterator[tuple[str, os.DirEntry]]:
    """What lies below a folder, sorted, without folders: the path relative to it, with "/" between its parts, and the entry.

    Links to folders are followed, but for those that lead back to a folder above them.

    Args:
        folder: where to begin.
        look: is shown each entry first, folders too, and may refuse it.
        hidden: hidden ones too, which are passed over otherwise.

    Raises:
        UserError: a folder cannot be read.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("owl/1.wav", "dog/2.wav", ".hidden"):
        ...     (folder / name).parent.mkdir(exist_ok=True)
        ...     _ = (folder / name).write_text("")
        >>> [path for path, entry in walk(folder)]
        ['dog/2.wav', 'owl/1.wav']
    """
    yield from _walk(str(folder), "", (os.path.realpath(folder),), look, hidden)


def _walk(
    folder: str, prefix: str, above: tuple[str, ...], look: Callable, hidden: bool
) -> Iterator[tuple[str, os.DirEntry]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from None
    for entry in entries:
        if not hidden and (entry.name.startswith(".") or entry.name == "__MACOSX"):
            continue
        look(prefix + entry.name, entry)
        if not os.path.isdir(entry.path):  # which a link that leads to itself is not
            yield prefix + entry.name, entry
        elif (real := os.path.realpath(entry.path)) not in above:
            yield from _walk(entry.path, f"{prefix}{entry.name}/", (*above, real), look, hidden)


def state_of_file(path: str, base: str | None = None) -> tuple[int, int, int] | None:
    """Size and dates of a file, by which a change is told; None if it is not there. Relative paths start from `base`.

    The date of its last change of any kind is among them: nobody can set it, while another file may be put in its place with the size and the
    date of this one (`mv`, `cp -p`: all clips of an archive often share both).
    """
    try:
        status = os.stat(os.path.join(base or "", path))
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
