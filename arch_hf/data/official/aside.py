"""A folder that is written beside its place, and takes it when it is whole."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from arch_hf.data.official.prepared import FACTS_FILE
from arch_hf.errors import UserError
from arch_hf.terminal import say


def old_copies(output_dir: Path) -> list[Path]:
    """What was a prepared folder before it was replaced: left where the process was killed in the midst of that. The newest comes first."""
    try:
        folders = [path for path in output_dir.parent.glob(f".{output_dir.name}.*.old") if path.is_dir()]
    except (OSError, ValueError):
        return []
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)


def check_target(output_dir: Path, overwrite: bool) -> None:
    """Refuse a target before the work starts: it must be new, or a prepared folder and `overwrite` asked for.

    Where an earlier run was killed between taking the old folder away and putting the new one there, the old one is put back.
    """
    if not output_dir.exists() and (old := old_copies(output_dir)):
        old[0].rename(output_dir)
        say(f"an interrupted run had taken {output_dir} away: its old copy is put back", file=sys.stderr)
    if output_dir.is_dir() and not any(output_dir.iterdir()):
        return
    if output_dir.exists():
        if not (output_dir / FACTS_FILE).is_file():
            raise UserError(f"--output_dir {output_dir} exists and was not made by prepare; give another")
        if not overwrite:
            raise UserError(f"--output_dir {output_dir} exists already; give --overwrite to make it anew")


@contextlib.contextmanager
def written_aside(output_dir: Path) -> Iterator[Path]:
    """A new folder beside `output_dir`, which becomes `output_dir` at the end, or vanishes if the work fails."""
    try:
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.", suffix=".incomplete", dir=output_dir.parent))
    except OSError as error:
        raise UserError(f"cannot write to {output_dir.parent}: {error.strerror}") from None
    left = [path for path in output_dir.parent.glob(f".{output_dir.name}.*.incomplete") if path != aside]
    if names := [str(path) for path in (*left, *old_copies(output_dir))]:
        say(
            f"left by an interrupted run, unless another is at work: {', '.join(names)}; you may delete it",
            file=sys.stderr,
        )
    try:
        aside.chmod(0o755)
        yield aside
        if output_dir.exists():
            old = aside.with_suffix(".old")
            output_dir.rename(old)
            aside.rename(output_dir)
            shutil.rmtree(old)
        else:
            aside.rename(output_dir)
    except OSError as error:
        raise UserError(f"cannot write {output_dir}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
