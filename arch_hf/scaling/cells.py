"""Cells: one model on one dataset under one protocol, each of them a command of its own."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields, replace

from arch_hf.job import Job
from arch_hf.names import public_name
from arch_hf.results.result import Result

MANY = ("model_id", "model_name", "protocol")  # of one command


def cells_of(jobs: Sequence[Job]) -> list[Job]:
    """The jobs cut into cells: one dataset each, each cell once.

    Examples:
        >>> [(cell.model_id, *cell.datasets) for cell in cells_of([Job("mfcc", ("esc50", "us8k", "esc50"))])]
        [('mfcc', 'esc50'), ('mfcc', 'us8k')]
    """
    return [replace(job, datasets=(name,)) for job in jobs for name in dict.fromkeys(job.corpora)]


def baselines_of(cells: Sequence[Job]) -> list[Job]:
    """The cells of the baseline beside which the others stand: where they come first, no two of the others compute the same one.

    Examples:
        >>> cells = cells_of([Job("logmel", ("esc50",)), Job("hubert", ("esc50",), revision="main")])
        >>> [(cell.model_id, *cell.datasets) for cell in baselines_of(cells)]
        [('mfcc', 'esc50')]
    """
    baselines: list[Job] = []
    for cell in cells:
        baseline = cell.baseline()
        if baseline not in baselines:
            baselines.append(baseline)
    return baselines


def arguments(*jobs: Job) -> list[str]:
    """One job, or several that differ in model and protocol alone, as arguments of `arch-hf evaluate`: what is not the default.

    Examples:
        >>> arguments(Job("me/model", ("esc50",), protocol="strict", shots=(1, 5), streaming=True))
        ['--model_id', 'me/model', '--datasets', 'esc50', '--protocol', 'strict', '--streaming', '--shots', '1', '5']
        >>> arguments(Job("me/one"), Job("me/two"))
        ['--model_id', 'me/one', 'me/two']
    """
    words = []
    for field in fields(Job):
        values = (
            list(dict.fromkeys(getattr(job, field.name) for job in jobs))
            if field.name in MANY
            else [getattr(jobs[0], field.name)]
        )
        value = values[0]
        if field.name == "dataset_options":
            for name, column in sorted(value.items()):
                words += [f"--{name}", str(column)]
        elif (
            len(values) > 1
            or field.name == "model_id"
            or value != (None if field.default is MISSING else field.default)
        ):
            listed = value if isinstance(value, tuple) else values
            words += [f"--{field.name}", *([] if value is True else map(str, listed))]
    return words


def missing(cells: Sequence[Job], results: Iterable[Result]) -> list[Job]:
    """The cells of which there is no complete result. Whether one is of the same weights and data, the cell itself sees when it runs.

    Examples:
        >>> missing([Job("mfcc", ("esc50",))], [])[0].datasets
        ('esc50',)
    """
    done = {
        (result.model.id, result.dataset.id.removeprefix("arch/"), result.protocol["name"], result.dataset.limit)
        for result in results
        if result.complete
    }
    return [cell for cell in cells if not _names(cell) & done]


def _names(cell: Job) -> set[tuple[str, str, str, int | None]]:
    """The model, dataset, protocol and limit of a cell, as a result may name them: a folder by its path or by the name that may be shown."""
    (dataset,) = cell.datasets
    protocol = cell.protocol + ("" if cell.probe == "linear" else f"-{cell.probe}")
    shown = {name.removeprefix("arch/") for name in (dataset, public_name(dataset))}
    return {(cell.shown_name, name, protocol, cell.limit) for name in shown}
