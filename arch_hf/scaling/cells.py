"""Cells: one model on one dataset under one protocol, each of them a command of its own."""

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields, replace

from arch_hf.job import BASELINE_MODEL, Job
from arch_hf.names import public_name
from arch_hf.results.folder import Filed
from arch_hf.results.question import Question
from arch_hf.results.result import DatasetFacts, ModelFacts

MANY = ("model_id", "model_name", "protocol")  # of one command


def cells_of(jobs: Sequence[Job]) -> list[Job]:
    """The jobs cut into cells: one dataset each, each cell once.

    Examples:
        >>> [(cell.model_id, *cell.datasets) for cell in cells_of([Job("mfcc", ("esc50", "us8k", "esc50"))])]
        [('mfcc', 'esc50'), ('mfcc', 'us8k')]
    """
    return [replace(job, datasets=(name,)) for job in jobs for name in dict.fromkeys(job.corpora)]


def in_order(cells: Sequence[Job]) -> tuple[list[Job], list[Job]]:
    """The cells of the baseline beside which the others stand, and the rest: where they come first, no two of the others compute the same one.
    A cell that gives what one of them would is taken in its place.

    Examples:
        >>> first, rest = in_order(cells_of([Job("logmel", ("esc50",)), Job("hubert", ("esc50",), revision="main")]))
        >>> [cell.model_id for cell in first], [cell.model_id for cell in rest]
        (['mfcc'], ['logmel', 'hubert'])
        >>> first, rest = in_order(cells_of([Job("logmel", ("esc50",)), Job("mfcc", ("esc50",), layers="all")]))
        >>> [(cell.model_id, cell.layers) for cell in first], [cell.model_id for cell in rest]
        ([('mfcc', 'all')], ['logmel'])
    """
    baselines: list[Job] = []
    for baseline in (cell.baseline() for cell in cells if cell.model_id != BASELINE_MODEL):
        if baseline not in baselines:
            baselines.append(baseline)
    first = [next((cell for cell in cells if _gives(cell, baseline)), baseline) for baseline in baselines]
    return first, [cell for cell in cells if cell not in first]


def _gives(cell: Job, baseline: Job) -> bool:
    """Whether the result of this cell is what the baseline's would be: of the same question, in the same file."""
    same = cell.model_id == BASELINE_MODEL == cell.shown_name and cell.revision is None and not cell.also
    return same and cell.dtype in (None, "float32") and cell.layers in ("last", "all") and cell.baseline() == baseline


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


def missing(cells: Sequence[Job], filed: Iterable[Filed]) -> list[Job]:
    """The cells of which there is no complete result of every layer that is asked for. Whether one is of the same weights and data, the cell itself
    sees when it runs.

    Examples:
        >>> missing([Job("mfcc", ("esc50",))], [])[0].datasets
        ('esc50',)
    """
    done, depth = set(), {}
    for one in filed:
        if one.result.complete:
            done.add((one.result.model.id, one.path.name))
            depth[one.result.model.id] = one.result.model.n_layers
    return [cell for cell in cells if not all(names & done for names in _names(cell, depth.get(cell.shown_name)))]


def _names(cell: Job, n_layers: int | None) -> list[set[tuple[str, str]]]:
    """For each layer of a cell the model and the names that its file of results may have: that of a folder says its path, or the name that may be
    shown. How many layers the model has is only known from another result of it; until then none is there."""
    (dataset,) = cell.datasets
    if cell.layers != "last" and n_layers is None:
        return [set()]
    protocol = cell.protocol + ("" if cell.probe == "linear" else f"-{cell.probe}")
    suite = dataset if ":" in dataset else None

    def file_name(name: str, layer: int) -> str:
        facts = DatasetFacts(
            id=name,
            suite=suite,
            config=cell.dataset_options.get("config"),
            task="single_label",
            n_clips=0,
            limit=cell.limit,
        )
        question = Question(
            model=ModelFacts(id=cell.shown_name),
            dataset=facts,
            protocol={"name": protocol},
            layer=layer,
            embedding={},
            asked=cell.asked(cell.dtype or "float32"),
        )
        return question.file_name

    layers = [-1] if n_layers is None else cell.chosen_layers(n_layers)
    return [{(cell.shown_name, file_name(name, layer)) for name in (dataset, public_name(dataset))} for layer in layers]
