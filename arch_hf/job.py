"""What the main job is asked to do."""

import inspect
import operator
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, TypedDict, get_args

import numpy as np

from arch_hf.data.custom.options import ReadingOptions
from arch_hf.data.registry import CORPUS_NAMES, SYNTHETIC_NAMES
from arch_hf.errors import UserError, all_of
from arch_hf.files import default_cache_dir
from arch_hf.names import public_name
from arch_hf.probing.protocols import Probes, Protocol, get_protocol, has_seeds
from arch_hf.probing.record import KINDS
from arch_hf.results.result import Result

DEFAULT_MODEL = "logmel"
BASELINE_MODEL = "mfcc"
DEFAULT_SEEDS = 3
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Job:
    """What was asked for of one model under one protocol; each field is a flag of the main job.

    `model_name` is what results call the model, by default its id; `dtype` None is what the launcher's `--mixed_precision` says, else float32;
    `also` are questions of the vectors as they are (see `arch_hf.probing.training_free`); `batch_seconds` is the audio that goes through the model at once, None what suits the device. `dataset_options` name the columns and splits of
    a dataset that is not built in (see `load_corpus`).
    """

    model_id: str = DEFAULT_MODEL
    datasets: tuple[str, ...] = ()
    revision: str | None = None
    model_name: str | None = None
    data_dir: str | None = None
    protocol: str = "arch-v1"
    layers: str = "last"
    seeds: int = DEFAULT_SEEDS
    output_dir: str = "results"
    cache_dir: str | None = None
    limit: int | None = None
    streaming: bool = False
    overwrite: bool = False
    trust_remote_code: bool = False
    probe: str = "linear"
    shots: tuple[int, ...] = ()
    also: tuple[str, ...] = ()
    dtype: str | None = None
    batch_seconds: float | None = None
    dataset_options: dict = field(default_factory=dict)

    def __post_init__(self):
        all_of(
            self._check_numbers,
            lambda: self.rules,
            lambda: self.probes,
            self._check_layers,
            self._check_also,
            self._check_dtype,
        )

    def _check_numbers(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit is {self.limit}: give the number of clips per split, 1 or more")
        if self.batch_seconds is not None and not self.batch_seconds > 0:
            raise UserError(f"--batch_seconds is {self.batch_seconds}: give seconds of audio, more than 0")

    def _check_layers(self) -> None:
        if self.probe == "weighted_sum" and self.layers != "last":
            raise UserError("--probe weighted_sum takes all layers together: leave out --layers")
        self._layer_numbers()

    def _check_also(self) -> None:
        if unknown := [kind for kind in self.also if kind not in KINDS]:
            hint = ", parted by spaces" * ("," in unknown[0])
            raise UserError(f"unknown --also {unknown[0]!r}: choose of {', '.join(KINDS)}{hint}")
        if self.also and self.probe == "weighted_sum":
            raise UserError("--also looks at the vectors of one layer, --probe weighted_sum takes all together")

    def _check_dtype(self) -> None:
        if self.dtype not in (None, *DTYPES):
            raise UserError(f"unknown --dtype {self.dtype!r}: choose one of {', '.join(DTYPES)}")

    @property
    def rules(self) -> Protocol:
        """The protocol of that name."""
        return get_protocol(self.protocol)

    @property
    def probes(self) -> Probes:
        """Which probes are trained on each fold.

        Raises:
            UserError: there is no such probe, or what is asked of it does not go together.
        """
        return Probes(self.probe, self.seeds, self.shots)

    @property
    def has_seeds(self) -> bool:
        """Whether there is anything random in the probe; the others are trained once on each fold, whatever `seeds` says."""
        return has_seeds(self.rules.training_of(self.probe))

    @property
    def remarks(self) -> list[str]:
        """What was asked for and has no effect here.

        Examples:
            >>> Job(protocol="strict", seeds=5).remarks, Job(seeds=5).remarks
            (['--seeds 5: nothing is random in the linear probe of strict, which is trained once on each fold'], [])
        """
        lines = []
        if self.seeds != DEFAULT_SEEDS and not self.has_seeds:
            probe = f"the {self.probe} probe of {self.protocol}"
            lines.append(f"--seeds {self.seeds}: nothing is random in {probe}, which is trained once on each fold")
        if self.data_dir is not None and all(name in SYNTHETIC_NAMES for name in self.corpora):
            lines.append(
                f"--data_dir {self.data_dir}: {', '.join(self.corpora)} are made by this package, and not looked for"
            )
        return lines

    @property
    def corpora(self) -> tuple[str, ...]:
        """The corpora asked for: by default all twelve, or the embedded ones for the embedded model."""
        if self.datasets:
            return self.datasets
        return SYNTHETIC_NAMES if self.model_id == DEFAULT_MODEL else CORPUS_NAMES

    @property
    def shown_name(self) -> str:
        """What the results call the model."""
        return self.model_name or public_name(self.model_id)

    def baseline(self) -> "Job":
        """The same question asked of the baseline, beside whose score every other one stands."""
        return replace(
            self,
            model_id=BASELINE_MODEL,
            model_name=None,
            revision=None,
            layers="last",
            dtype="float32",
            batch_seconds=None,
            trust_remote_code=False,
            also=(),
        )

    @property
    def cache(self) -> Path:
        return Path(self.cache_dir) if self.cache_dir else default_cache_dir()

    def protocol_block(self, corpus) -> dict:
        """Every number of the protocol, for the result."""
        block = self.rules.as_dict(corpus, self.probe) | {"seeds": self.seeds if self.has_seeds else 1}
        block |= {"shots": list(self.shots)} if self.shots else {}
        return block | ({"also": list(self.also)} if self.also else {})

    def takes_last_only(self, layers: list[int]) -> bool:
        """Whether these layers can be scored from the last hidden state alone."""
        return layers == [-1] and self.probe != "weighted_sum"

    def chosen_layers(self, n_layers: int) -> list[int]:
        """The layers to score: indices of hidden states, the last one always as -1."""
        if self.layers in ("last", "all"):
            return [-1] if self.layers == "last" else [*range(n_layers - 1), -1]
        chosen = self._layer_numbers()
        wrong = [layer for layer in chosen if not -1 <= layer < n_layers]
        if wrong:
            raise UserError(f"--layers names {wrong[0]}, but {self.model_id} has layers 0 to {n_layers - 1}")
        return [*dict.fromkeys(-1 if layer == n_layers - 1 else layer for layer in chosen)]

    def _layer_numbers(self) -> list[int]:
        if self.layers in ("last", "all"):
            return []
        try:
            return [int(part) for part in self.layers.split(",")]
        except ValueError:
            raise UserError(f"--layers is '{self.layers}': give last, all, or numbers such as 0,6,12") from None

    def asked(self, dtype: str) -> tuple[str, ...]:
        """The options that are not the plain case's, as parts of a result's file name."""
        parts = [] if self.revision is None else [f"rev-{self.revision}"]
        parts += [] if dtype == "float32" else [dtype]
        parts += [f"seeds{self.seeds}"] if self.has_seeds and self.seeds != DEFAULT_SEEDS else []
        parts += [f"shots{'-'.join(map(str, self.shots))}"] if self.shots else []
        parts += [f"also-{'-'.join(self.also)}"] if self.also else []
        return (*parts, *(f"{key}-{value}" for key, value in self.named_columns.items()))

    @property
    def named_columns(self) -> dict[str, str]:
        """The columns and splits that were named instead of told from the data."""
        options = {key: value for key, value in self.dataset_options.items() if key != "config"}
        return {key.removesuffix("_column"): str(value) for key, value in sorted(options.items())}


@dataclass(frozen=True)
class CorpusRun:
    """What became of one corpus in one job: a result per layer with the file of each, or the error that stopped it.

    `notes` are for the reader, of the corpus; `moved` of results that made room for these. `named_files` are the audio files that the dataset
    names by path. Where the model could not be used, `corpus` is None.
    """

    job: Job
    corpus: str | None
    results: tuple[Result, ...] = ()
    paths: tuple[Path, ...] = ()
    error: UserError | None = None
    notes: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    named_files: tuple[str, ...] = ()


def texts_of(what: str, values: Any) -> tuple[str, ...]:
    """One text, or several: at least one, since none at all would quietly mean something else.

    Raises:
        UserError: there is none, or something that is no text.

    Examples:
        >>> texts_of("protocol", "strict"), texts_of("datasets", [Path("sounds")])
        (('strict',), ('sounds',))
    """
    try:
        texts = [values] if isinstance(values, (str, Path)) else list(values)
    except TypeError:
        texts = [values]
    if wrong := [text for text in texts if not isinstance(text, (str, Path)) or text == ""]:
        raise UserError(f"{what} has {reprlib.repr(wrong[0])}, which is no name")
    if not texts:
        raise UserError(f"{what} is empty: name at least one, or leave it out")
    return tuple(map(str, texts))


class JobOptions(TypedDict, total=False):
    """What may be asked of every job, in the forms in which Python code has it; the meanings are those of `Job`'s fields."""

    layers: str | Sequence[int]
    output_dir: str | Path
    cache_dir: str | Path | None
    dtype: str | None
    batch_seconds: float | None
    revision: str | None
    data_dir: str | Path | None
    seeds: int
    probe: str
    shots: Sequence[int]
    also: Sequence[str]
    limit: int | None
    streaming: bool
    overwrite: bool
    trust_remote_code: bool
    dataset_options: Mapping[str, str] | None


def as_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options in the form that `Job` keeps.

    Raises:
        UserError: there is no such option, and all that are not there are named; or a value is of another kind than the option takes.

    Examples:
        >>> as_fields({"layers": [0, 6], "shots": [5], "cache_dir": None})
        {'layers': '0,6', 'shots': (5,), 'cache_dir': None}
    """
    if unknown := [name for name in options if name not in JobOptions.__annotations__]:
        raise UserError(f"no option {', '.join(unknown)}: there are {', '.join(JobOptions.__annotations__)}")
    fields: dict[str, Any] = {}
    all_of(*(lambda name=name: fields.update({name: _as_field(name, options[name])}) for name in options))
    return fields


def _as_field(name: str, value: Any) -> Any:
    form, words = _FORMS.get(name, (None, ""))
    if form is None or (value is None and type(None) in get_args(JobOptions.__annotations__[name])):
        return {} if name == "dataset_options" else value
    try:
        return form(value)
    except (TypeError, ValueError):
        raise UserError(f"{name} is {reprlib.repr(value)}: give {words}") from None


def _whole(value: Any) -> int:
    """A whole number, also one of numpy."""
    return operator.index(_no(value, bool, np.bool_))


def _no(value: Any, *types: type) -> Any:
    if isinstance(value, types):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


def _layers(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(str(_whole(layer)) for layer in _no(value, bytes))


def _options(value: Any) -> dict[str, Any]:
    options = dict(value)
    if not options.keys() <= {known.name for known in dataclass_fields(ReadingOptions)}:
        raise ValueError
    return options


_PATH = (lambda value: value if isinstance(value, str) else str(Path(value)), "a path")
_WHOLE, _FLAG = (_whole, "a whole number"), (_flag, "True or False")
_FORMS: dict[str, tuple[Callable, str]] = {
    "layers": (_layers, "'last', 'all', or a list of numbers"),
    "output_dir": _PATH,
    "cache_dir": _PATH,
    "data_dir": _PATH,
    "batch_seconds": (lambda value: float(_no(value, str, bytes, bool, np.bool_)), "a number of seconds"),
    "seeds": _WHOLE,
    "limit": _WHOLE,
    "shots": (lambda value: tuple(map(_whole, _no(value, bytes))), "a list of whole numbers"),
    "also": (lambda value: tuple(_no(value, str, bytes)), f"a list of {', '.join(KINDS)}"),
    "streaming": _FLAG,
    "overwrite": _FLAG,
    "trust_remote_code": _FLAG,
    "dataset_options": (_options, f"a dict of {', '.join(known.name for known in dataclass_fields(ReadingOptions))}"),
}


def with_options(function: Callable) -> inspect.Signature:
    """The signature of a function whose `**options` are `JobOptions`, with each of them and its default spelled out."""
    plain, job = inspect.signature(function), Job()
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(job, name), annotation=annotation)
        for name, annotation in JobOptions.__annotations__.items()
    ]
    named = [value for value in plain.parameters.values() if value.kind is not inspect.Parameter.VAR_KEYWORD]
    return plain.replace(parameters=[*named, *options])


def jobs_for(
    model_ids: Sequence[str], protocols: Sequence[str], model_names: Sequence[str] = (), **options: Any
) -> list[Job]:
    """A job for each model under each protocol, model by model.

    Args:
        model_names: what the results call the models, in their order; none for their ids.
        **options: the other fields of `Job`.

    Raises:
        UserError: something about them is wrong; all that is.

    Examples:
        >>> [(job.model_id, job.protocol) for job in jobs_for(["logmel", "mfcc"], ["arch-v1", "strict"])]
        [('logmel', 'arch-v1'), ('logmel', 'strict'), ('mfcc', 'arch-v1'), ('mfcc', 'strict')]
    """
    if model_names and len(model_names) != len(model_ids):
        raise UserError(f"--model_name gives {len(model_names)} names for {len(model_ids)} models: one for each")
    if len(set(model_names)) < len(model_names):
        raise UserError(f"--model_name gives one name twice: {', '.join(model_names)}")
    if model_names and len(set(model_ids)) < len(model_ids):
        raise UserError(f"--model_name names a model twice, of {', '.join(model_ids)}: give each model once")
    names = dict(zip(model_ids, model_names, strict=False))
    pairs = [(model, protocol) for model in dict.fromkeys(model_ids) for protocol in dict.fromkeys(protocols)]
    jobs: list[Job] = []
    all_of(
        *(
            lambda model=model, protocol=protocol: jobs.append(
                Job(model_id=model, model_name=names.get(model), protocol=protocol, **options)
            )
            for model, protocol in pairs
        )
    )
    return jobs


def by_model(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs of each model."""
    return [
        [job for job in jobs if job.model_id == model_id] for model_id in dict.fromkeys(job.model_id for job in jobs)
    ]


def remarks_on(jobs: Sequence[Job]) -> list[str]:
    """What was asked for of the jobs and has no effect, each once."""
    return [*dict.fromkeys(remark for job in jobs for remark in job.remarks)]
