"""The results under a folder: found, read, checked. What is not a result is named, with its reason, and left out."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from arch_hf.errors import UserError
from arch_hf.results.result import ModelFacts, Result, may_be_damaged
from arch_hf.results.rows import is_rows, read_rows

BENCHMARK_SUFFIX = ".benchmark.json"  # of the scores of other benchmarks (see `arch_hf.results.benchmark`)
SUPERSEDED = ".was-"  # in the name of a result in whose place another question was answered


def result_paths(folder: str | Path) -> list[Path]:
    """The result files under a folder, without those that were superseded and the scores of other benchmarks, in the order of their paths. Other JSON files are among them.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("esc50.json", "esc50.was-1a2b3c4d.json", "esc50.txt"):
        ...     _ = (folder / name).write_text("")
        >>> [path.name for path in result_paths(folder)]
        ['esc50.json']
    """
    paths = sorted(Path(folder).rglob("*.json"))
    return [path for path in paths if SUPERSEDED not in path.name and not path.name.endswith(BENCHMARK_SUFFIX)]


class Filed(NamedTuple):
    """A result and the file that holds it."""

    path: Path
    result: Result


class LeftOut(str):
    """Why a file is not among the results, as a line; `damaged` is its path where it may have been one (cut short, changed, of a newer version).

    Examples:
        >>> LeftOut("notes.json: not an arch-hf result"), LeftOut("a.json: cut", Path("a.json")).damaged.name
        ('notes.json: not an arch-hf result', 'a.json')
    """

    damaged: Path | None

    def __new__(cls, line: str, damaged: Path | None = None) -> "LeftOut":
        left_out = super().__new__(cls, line)
        left_out.damaged = damaged
        return left_out


def read_results(results_dir: str | Path) -> tuple[list[Filed], list[LeftOut]]:
    """All results under a folder, and one line for each JSON file that is none: those of tables of results, then files in the order of their paths.

    Raises:
        UserError: if the folder does not exist.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "notes.json").write_text("[1, 2]")
        >>> read_results(folder)
        ([], ['notes.json: not an arch-hf result'])
    """
    results_dir = Path(results_dir)
    if not results_dir.is_dir():
        raise UserError(f"no folder {results_dir}: give the folder that the main job wrote its results to")
    results, skipped = _read_tables(results_dir)
    for path in result_paths(results_dir):
        try:
            results.append(Filed(path, Result.read(path)))
        except UserError as error:
            reason = str(error).removeprefix(str(path)).removeprefix(" is").strip(" :")
            damaged = path if may_be_damaged(error) else None
            skipped.append(LeftOut(f"{path.relative_to(results_dir)}: {reason}", damaged))
    return results, skipped


def _read_tables(results_dir: Path) -> tuple[list[Filed], list[LeftOut]]:
    """The same of the tables of results (`arch_hf.results.rows`) under a folder; what two of them hold is there once."""
    results: list[Filed] = []
    skipped: list[LeftOut] = []
    seen = set()
    for table in sorted(path for path in results_dir.rglob("*.parquet") if is_rows(path)):
        try:
            for key, path, result in read_rows(table):
                if key in seen:
                    continue
                seen.add(key)
                if isinstance(result, UserError):
                    skipped.append(LeftOut(f"{table.relative_to(results_dir)}: {result}", path))
                else:
                    results.append(Filed(path, result))
        except UserError as error:
            skipped.append(LeftOut(str(error), table))
    return results, skipped


def encoder_of(result: Result) -> tuple[str | None, ...]:
    """Which encoder made a result, whatever it is called: its weights, configuration and code, as it was run. Where the weights are not
    known (schema 1 did not always say), its id and revision stand for them.

    Examples:
        >>> from arch_hf.results.result import DatasetFacts, ModelFacts
        >>> facts = dict(complete=True, dataset=DatasetFacts(id="d", task="single_label", n_clips=1), protocol={}, layer=-1, metrics={})
        >>> one, other = (Result(model=ModelFacts(id=name, weights_sha256="ab"), **facts) for name in ("me/model", "you/copy"))
        >>> encoder_of(one) == encoder_of(other)
        True
    """
    return which_encoder(result.model, result.environment)


def which_encoder(model: ModelFacts, environment: Mapping[str, Any]) -> tuple[str | None, ...]:
    """The same, from these two blocks of a result."""
    dtype = environment.get("dtype", "float32")
    if model.weights_sha256 is None:
        return (model.id, model.revision, dtype)
    return (model.weights_sha256, model.config_sha256, model.code_sha256, dtype)


def plain_first(filed: Filed) -> tuple:
    """Orders the results of one question so that the one to show comes first: a whole one, then that with the shorter name, for a file's name
    says what was asked beyond the plain case."""
    return (filed.result.caveat is not None, len(filed.path.name), filed.path)


def stands_in_for(shown: Path, damaged: Iterable[Path]) -> str | None:
    """The name of a damaged result that would be shown in a result's place if it were whole, for it is of the same model, corpus, protocol, layer,
    revision and dtype, and nearer to the plain case.

    Examples:
        >>> stands_in_for(Path("m/esc50.seeds1.json"), [Path("m/esc50.layer6.json"), Path("m/us8k.json"), Path("m/esc50.json")])
        'esc50.json'
        >>> stands_in_for(Path("m/esc50.json"), [Path("m/esc50.seeds1.json")]) is None
        True
    """
    rivals = [
        path
        for path in damaged
        if (path.parent, _what(path)) == (shown.parent, _what(shown))
        and (len(path.name), path) < (len(shown.name), shown)
    ]
    return min(rivals, key=lambda path: (len(path.name), path)).name if rivals else None


_WITHIN_A_CELL = re.compile(r"(seeds|limit)\d+|shots[\d-]+|also-.*")  # parts of a file's name


def _what(path: Path) -> list[str]:
    """What a result is about, by its file's name: all but how many seeds, shots and clips."""
    return [part for part in path.name.split(".") if not _WITHIN_A_CELL.fullmatch(part)]


def layer_name(layer: int) -> str:
    """
    Examples:
        >>> layer_name(-1), layer_name(6)
        ('last layer', 'layer 6')
    """
    return "last layer" if layer == -1 else f"layer {layer}"
