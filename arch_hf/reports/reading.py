"""Result files as a report needs them: found, read, checked. What is not a result is named, with its reason, and left out."""

from pathlib import Path
from typing import NamedTuple

from arch_hf.errors import UserError
from arch_hf.results.result import Result


class Filed(NamedTuple):
    """A result and the file that holds it."""

    path: Path
    result: Result


def read_results(results_dir: str | Path) -> tuple[list[Filed], list[str]]:
    """All results under a folder, in the order of their paths, and one line for each JSON file that is none.

    Raises:
        UserError: if the folder does not exist.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "notes.json").write_text("[1, 2]")
        >>> read_results(folder)
        ([], ['notes.json: not an arch-hf result'])
    """
    results_dir = Path(results_dir)
    if not results_dir.is_dir():
        raise UserError(f"no folder {results_dir}: give the folder that the main job wrote its results to")
    results, skipped = [], []
    for path in sorted(results_dir.rglob("*.json")):
        try:
            results.append(Filed(path, Result.read(path)))
        except UserError as error:
            reason = str(error).removeprefix(str(path)).removeprefix(" is").strip(" :")
            skipped.append(f"{path.relative_to(results_dir)}: {reason}")
    return results, skipped
