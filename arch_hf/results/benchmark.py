"""The score of one model on one task of another benchmark, by that benchmark's own program: what it holds, and its file.

It is theirs, under their protocol, and stands beside our results, never among them.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from arch_hf.errors import UserError
from arch_hf.files import write_atomically
from arch_hf.names import as_file_name
from arch_hf.results.folder import BENCHMARK_SUFFIX, which_encoder
from arch_hf.results.result import ModelFacts
from arch_hf.results.sealed import seal, why_not_sealed


class BenchmarkScore(Struct, frozen=True, kw_only=True):
    """`benchmark` with its `version` says whose program it was, `protocol` in a few words what that does; `score` is of its own main `metric`,
    `single` are the scores of its draws or folds, `subsets` those of its languages. `encoder` is a hash of all that a vector depends on,
    `file` the benchmark's own file of results.

    Examples:
        >>> score = BenchmarkScore(benchmark="MTEB", version="2.26.24", task="ESC50", kind="classification", metric="accuracy",
        ...     protocol="8 clips per class", score=0.724, model=ModelFacts(id="me/model"), encoder="ab")
        >>> score.path("results").as_posix()
        'results/me__model/MTEB.ESC50.benchmark.json'
    """

    format: Literal["arch-hf benchmark score 1"] = "arch-hf benchmark score 1"
    benchmark: str
    version: str
    task: str
    kind: str
    metric: str
    protocol: str
    score: float
    single: tuple[float, ...] = ()
    subsets: dict[str, float] = {}
    model: ModelFacts
    encoder: str
    dataset: str | None = None
    dataset_revision: str | None = None
    file: str | None = None
    created: str | None = None
    environment: dict[str, Any] = {}

    def path(self, output_dir: str | Path) -> Path:
        """Where it lies: `OUTPUT_DIR/<model>/<benchmark>.<task>.benchmark.json`."""
        name = f"{as_file_name(self.benchmark)}.{as_file_name(self.task)}{BENCHMARK_SUFFIX}"
        return Path(output_dir) / as_file_name(self.model.id) / name

    def write(self, output_dir: str | Path) -> Path:
        """Write its file, whole or not at all; returns its path. Where the score of another encoder lies there (another commit, another dtype),
        the name says `encoder` too: none takes the place of another's.

        Raises:
            UserError: the folder cannot be written.
        """
        path = self.path(output_dir)
        try:
            there = BenchmarkScore.read(path)
        except UserError:
            there = self
        if which_encoder(there.model, there.environment) != which_encoder(self.model, self.environment):
            path = path.with_name(path.name.removesuffix(BENCHMARK_SUFFIX) + f".{self.encoder[:12]}{BENCHMARK_SUFFIX}")
        write_atomically(path, seal(msgspec.to_builtins(self)))
        return path

    @classmethod
    def read(cls, path: str | Path) -> "BenchmarkScore":
        """
        Raises:
            UserError: the file is none, or was changed after it was written.
        """
        try:
            data = Path(path).read_bytes()
            score = msgspec.json.decode(data, type=cls)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})") from None
        except msgspec.MsgspecError as error:
            raise UserError(f"{path} is no score of a benchmark ({error})") from None
        if problem := why_not_sealed(data):
            raise UserError(f"{path} {problem}")
        return score


def read_benchmarks(results_dir: str | Path) -> tuple[list[BenchmarkScore], list[str]]:
    """All scores of benchmarks under a folder, in the order of their paths, and one line for each file that is damaged."""
    scores, skipped = [], []
    for path in sorted(Path(results_dir).rglob(f"*{BENCHMARK_SUFFIX}")):
        try:
            scores.append(BenchmarkScore.read(path))
        except UserError as error:
            skipped.append(str(error))
    return scores, skipped
