"""The results under a folder: found, read, checked. What is not a result is named, with its reason, and left out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from arch_hf.errors import UserError
from arch_hf.results.result import ModelFacts, Result
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


def read_results(results_dir: str | Path) -> tuple[list[Filed], list[str]]:
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
            skipped.append(f"{path.relative_to(results_dir)}: {reason}")
    return results, skipped


def _read_tables(results_dir: Path) -> tuple[list[Filed], list[str]]:
    """The same of the tables of results (`arch_hf.results.rows`) under a folder; what two of them hold is there once."""
    results, skipped, seen = [], [], set()
    for table in sorted(path for path in results_dir.rglob("*.parquet") if is_rows(path)):
        try:
            for key, path, result in read_rows(table):
                if key in seen:
                    continue
                seen.add(key)
                if isinstance(result, UserError):
                    skipped.append(f"{table.relative_to(results_dir)}: {result}")
                else:
                    results.append(Filed(path, result))
        except UserError as error:
            skipped.append(str(error))
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


def layer_name(layer: int) -> str:
    """
    Examples:
        >>> layer_name(-1), layer_name(6)
        ('last layer', 'layer 6')
    """
    return "last layer" if layer == -1 else f"layer {layer}"
