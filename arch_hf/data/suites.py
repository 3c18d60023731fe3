"""Suites: lists of datasets with a name, for `--suite NAME`, and the rows behind those that are not built in.

A row says which dataset of the Hub, at which commit, and what in it is what. `suites.csv` holds mteb's 50 audio classification tasks
("mteb-audio"), those of MAEB among them ("maeb"); a file of one's own has the same columns, of which only `id` must be there. The facts are
those of mteb's own task definitions (2.26.24), as the tests check where mteb is installed; where a task of mteb makes its labels anew as it
loads, the row names the column that it makes them from. ESC-50 and UrbanSound8K keep their authors' folds, which mteb does not.
"""

import csv
import difflib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from arch_hf.data.registry import CORPUS_NAMES, SYNTHETIC_NAMES
from arch_hf.errors import UserError

# The domains are those of the paper's Table 1.
BUILT_IN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "arch": CORPUS_NAMES,
        "events": ("esc50", "us8k", "fsd50k", "vivae"),
        "music": ("fma_small", "magnatagatune", "irmas", "medley_solos_db"),
        "speech": ("ravdess", "audio_mnist", "slurp", "emovo"),
        "synthetic": SYNTHETIC_NAMES,
    }
)
_TABLE = "suites.csv"
_CHOICES = {
    "task": ("", "single_label", "multi_label"),
    "metric": ("", "accuracy", "map_macro"),
    "domain": ("events", "music", "speech", "other"),
}


@dataclass(frozen=True)
class SuiteRow:
    """One dataset of a suite. What is empty is told from the data.

    Attributes:
        name: unique in the suite; by default the id.
        id: Hub id or folder.
        revision: its commit.
        configs: configurations, with spaces between; each is a dataset of its own.
        audio_column, label_column, fold_column, group_column, splits: as the flags of the main job.
        without_labels: labels whose clips are left out, with ";" between.
        task: "single_label" or "multi_label", checked against the data.
        metric: "accuracy" or "map_macro", that of its task.
        domain: "events", "music", "speech" or "other".
        licence: of the audio, as its source states it.
        suites: the names of the suites that it belongs to, with spaces between; `NAME:CONFIG` where one takes that configuration alone.
    """

    id: str
    name: str = ""
    revision: str = ""
    configs: str = ""
    audio_column: str = ""
    label_column: str = ""
    fold_column: str = ""
    group_column: str = ""
    splits: str = ""
    without_labels: str = ""
    task: str = ""
    metric: str = ""
    domain: Literal["events", "music", "speech", "other"] = "other"
    licence: str = ""
    suites: str = ""

    def configs_in(self, suite: str) -> tuple[str | None, ...]:
        """The configurations that one of its suites takes, (None,) where it has none; empty, if it does not belong to that suite.

        Examples:
            >>> row = SuiteRow("me/birds", configs="curated noisy", suites="all best:curated")
            >>> row.configs_in("all"), row.configs_in("best"), row.configs_in("other")
            (('curated', 'noisy'), ('curated',), ())
        """
        entries = [entry.partition(":") for entry in self.suites.split()]
        named = tuple(config for name, _, config in entries if name == suite)
        return (*self.configs.split(),) or (None,) if "" in named else named

    def options(self, config: str | None) -> dict[str, Any]:
        """What `load_corpus` takes to read it."""
        columns = ("audio_column", "label_column", "fold_column", "group_column", "splits", "without_labels")
        named = {column: getattr(self, column) for column in columns if getattr(self, column)}
        return named | ({"config": config} if config else {})


@dataclass(frozen=True)
class SuiteDataset:
    """A row under the name by which a run asks for it: `SUITE:ROW`, with `:CONFIG` where the row has several configurations. The suite is
    the first of the row's, so that one dataset has one name whatever suite asks for it."""

    name: str
    row: SuiteRow
    config: str | None


def suite_names() -> tuple[str, ...]:
    """The names of all suites that come with the package.

    Examples:
        >>> suite_names()
        ('arch', 'events', 'music', 'speech', 'synthetic', 'mteb-audio', 'maeb')
    """
    of_rows = dict.fromkeys(entry.partition(":")[0] for row in _shipped() for entry in row.suites.split())
    return (*BUILT_IN, *of_rows)


def suite_datasets(name: str) -> tuple[str, ...]:
    """The datasets of a suite, or of a file `path/to/suite.csv`, as names that `load_corpus` takes.

    Raises:
        UserError: there is no such suite, or its file is wrong; the message names the nearest, or the line.

    Examples:
        >>> suite_datasets("speech")
        ('ravdess', 'audio_mnist', 'slurp', 'emovo')
        >>> suite_datasets("maeb")[:2], len(suite_datasets("mteb-audio"))
        (('mteb-audio:CommonLanguageAgeDetection', 'mteb-audio:CREMA_D'), 169)
        >>> suite_datasets("speach")
        Traceback (most recent call last):
        arch_hf.errors.UserError: unknown suite 'speach'; did you mean 'speech'? There are arch, events, ..., or a file of your own: suite.csv
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    return tuple(_datasets_of(name))


def suite_dataset(name: str) -> SuiteDataset | None:
    """The dataset of a suite behind a name `SUITE:ROW[:CONFIG]`; None for any other name.

    Raises:
        UserError: the suite has no such row.

    Examples:
        >>> found = suite_dataset("mteb-audio:MInDS14:en-GB")
        >>> found.row.id, found.config, found.row.options(found.config)["label_column"]
        ('mteb/minds14-multilingual', 'en-GB', 'intent_class')
        >>> suite_dataset("esc50") is None
        True
    """
    file, of_file, _ = name.partition(".csv:")  # whose path may hold a colon itself
    suite = f"{file}.csv" if of_file else name.partition(":")[0]
    if ":" not in name or not (of_file or suite in suite_names()):
        return None
    datasets = _datasets_of(suite)
    if name not in datasets:
        near = difflib.get_close_matches(name, datasets, n=1)
        raise UserError(f"no {name} in the suite {suite}{f'; did you mean {near[0]}?' if near else ''}")
    return datasets[name]


def _datasets_of(suite: str) -> dict[str, SuiteDataset]:
    taken: list[tuple[SuiteRow, str, tuple[str | None, ...]]]
    if suite.endswith(".csv"):
        rows = tuple(_read(Path(suite)))
        if not rows:
            raise UserError(f"--suite {suite} has no dataset: below its line of columns, each line is one")
        taken = [(row, suite, tuple(row.configs.split()) or (None,)) for row in rows]
    else:
        taken = [
            (row, row.suites.partition(" ")[0], configs) for row in _shipped() if (configs := row.configs_in(suite))
        ]
        if not taken:
            near = difflib.get_close_matches(suite, suite_names(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            names = ", ".join(suite_names())
            raise UserError(f"unknown suite {suite!r}{hint} There are {names}, or a file of your own: suite.csv")
    datasets: dict[str, SuiteDataset] = {}
    for row, home, configs in taken:
        for config in configs:
            name = f"{home}:{row.name or row.id}" + (f":{config}" if len(row.configs.split()) > 1 else "")
            if name in datasets:
                raise UserError(f"{suite}: there are two datasets of the name {name.removeprefix(f'{home}:')}")
            datasets[name] = SuiteDataset(name, row, config)
    return datasets


@cache
def _shipped() -> tuple[SuiteRow, ...]:
    return tuple(_parse((files("arch_hf.data") / _TABLE).read_text(encoding="utf-8"), _TABLE))


def _read(path: Path) -> Iterator[SuiteRow]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"--suite {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"--suite {path} is no text in UTF-8") from None
    return _parse(text, str(path))


def _parse(text: str, path: str) -> Iterator[SuiteRow]:
    """The rows of a table.

    Raises:
        UserError: it has no `id`, a column that nobody knows, a column or a name twice, or a value that is none.
    """
    table = csv.DictReader(io.StringIO(text), strict=True)
    known = [field.name for field in fields(SuiteRow)]
    columns = list(table.fieldnames or ())
    if unknown := [name for name in columns if name not in known]:
        raise UserError(f"{path} has a column {unknown[0]!r}; there are {', '.join(known)}")
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise UserError(f"{path} has two columns {twice[0]!r}")
    seen = set()
    try:
        for values in table:
            where = f"{path}, line {table.line_num}"
            if None in values or None in values.values():
                raise UserError(f"{where} has not as many fields as there are columns")
            filled: dict[str, Any] = {key: value.strip() for key, value in values.items() if value.strip()}
            if "id" not in filled:
                raise UserError(f"{where} has no id: give the Hub id or the folder of the dataset")
            row = SuiteRow(**filled)
            for key, choices in _CHOICES.items():
                if getattr(row, key) not in choices:
                    raise UserError(
                        f"{where}: {key} is {getattr(row, key)!r}; choose of {', '.join(filter(None, choices))}"
                    )
            if (row.name or row.id) in seen:
                raise UserError(f"{where}: there are two rows of the name {row.name or row.id}")
            seen.add(row.name or row.id)
            yield row
    except csv.Error as error:
        raise UserError(f"{path}, line {table.line_num}: {error}") from None
