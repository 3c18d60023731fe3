"""The result of one model on one corpus at one layer: what it holds, its file, and the one check that every reader shares.

A result file is strict JSON, written whole or not at all, and ends with a checksum of itself. The types below are its schema
(`json_schema`): a file that does not fit them is not a result, whoever reads it.
"""

import html
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from arch_hf.data.registry import CORPUS_NAMES
from arch_hf.data.spec import HEADLINE, Corpus
from arch_hf.errors import UserError
from arch_hf.files import write_atomically
from arch_hf.names import public_name
from arch_hf.probing.protocols import PUBLISHED_SPLITS
from arch_hf.probing.record import ClassScore, Count, FewShot, Fraction, Run, Score
from arch_hf.results import schema1
from arch_hf.results.sealed import NO_SEAL, seal, why_not_sealed
from arch_hf.results.text import METRIC_NAMES, percent
from arch_hf.terminal import visible

SCHEMA_VERSION = 2


class ModelFacts(Struct, frozen=True, kw_only=True, rename={"class_name": "class"}):
    """The encoder. `weights_sha256`, `config_sha256` and `code_sha256` (null without remote code) say which one, whatever its id;
    `gflop_per_second` is of audio."""

    id: str
    revision: str | None = None
    weights_sha256: str | None = None
    config_sha256: str | None = None
    code_sha256: str | None = None
    class_name: str | None = None
    n_parameters: Count | None = None
    sampling_rate: Count | None = None
    embedding_size: Count | None = None
    n_layers: Count | None = None
    gflop_per_second: float | None = None


class ExcludedClip(Struct, frozen=True):
    """A clip that could not be used as it is."""

    clip_id: str
    reason: str


class DatasetFacts(Struct, frozen=True, kw_only=True):
    """The data. `fingerprint` covers every clip's id, audio, split, group and labels; `n_clips` were scored, of `n_clips_expected` in
    the full corpus; `suite` is the name by which a suite knows it; `options` are the columns and splits that were named; `excluded_clips` are all that were left out, with the reason,
    `missing_clips` those of them that were not there when the corpus was prepared."""

    id: str
    task: Literal["single_label", "multi_label"]
    n_clips: Count
    suite: str | None = None
    config: str | None = None
    revision: str | None = None
    fingerprint: str | None = None
    domain: str = "other"
    n_clips_expected: Count | None = None
    n_classes: Count | None = None
    limit: int | None = None
    options: dict[str, str] = {}
    excluded_clips: tuple[ExcludedClip, ...] = ()
    missing_clips: tuple[str, ...] = ()


class Published(Struct, frozen=True, kw_only=True):
    """The published score beside ours; `delta` is ours minus theirs.

    `uncertainty` is the standard deviation that a difference has for one reason alone: the paper drew its split in an order that nobody can know.
    Null where the split is known.

    Examples:
        >>> Published(value=0.5, source="a paper", delta=0.02, uncertainty=0.039).is_decided
        False
    """

    value: Fraction
    source: str
    delta: float
    uncertainty: float | None = None

    @property
    def is_decided(self) -> bool:
        """Whether the difference is more than the unknown draw makes by itself."""
        return self.uncertainty is None or abs(self.delta) > self.uncertainty


class LayerCurve(Struct, frozen=True, kw_only=True):
    """Each layer's mean validation score, and the layer that it chooses."""

    by: str
    best: int | None
    validation: dict[str, Fraction | None]


class Timing(Struct, frozen=True, kw_only=True):
    """What the run took. Rates are null where everything was stored already."""

    decode_s: float | None = None
    extract_s: float | None = None
    probe_s: float | None = None
    clips_per_s: float | None = None
    audio_s_per_s: float | None = None


class Result(Struct, frozen=True, kw_only=True):
    """One model on one corpus under one protocol at one layer: the content of a result file. Scores are fractions in [0, 1].

    `identity` is the hash of all that the numbers depend on, `predictions_sha256` that of the file beside it; `protocol` holds its name, its version and every number of it; `layer` is -1 for
    the last, else the index of a hidden state; `baselines` are scores without the encoder: name -> metric -> fraction; `complete` says
    that every clip could be used.

    Examples:
        >>> result = Result(
        ...     complete=True, model=ModelFacts(id="me/model"), layer=-1, protocol={"name": "arch-v1", "version": "2.0"},
        ...     dataset=DatasetFacts(id="arch/esc50", task="single_label", n_clips=2000),
        ...     metrics={"accuracy": Score(mean=0.5, ci95=(0.45, 0.55))})
        >>> result
        me/model on esc50, arch-v1 2.0, last layer: accuracy 50.00 (45.00 to 55.00)
        >>> result.headline.mean, result.to_dict()["dataset"]["n_clips"]
        (0.5, 2000)
    """

    schema_version: int = SCHEMA_VERSION
    complete: bool
    model: ModelFacts
    dataset: DatasetFacts
    protocol: dict[str, Any]
    layer: Annotated[int, Meta(ge=-1)]
    metrics: dict[str, Score]
    runs: tuple[Run, ...] = ()
    validation: dict[str, Fraction] | None = None
    validation_use: str | None = None
    baselines: dict[str, dict[str, Fraction]] = {}
    published: Published | None = None
    per_class: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[float, ...], ...] | None = None
    classes_without_positives: dict[str, tuple[str, ...]] = {}
    left_out_for_leakage: Count = 0
    split_notes: tuple[str, ...] = ()
    split_digest: str | None = None
    probe_notes: tuple[str, ...] = ()
    bootstrap: dict[str, Any] = {}
    few_shot: dict[str, FewShot] = {}
    training_free: dict[str, dict[str, Score]] = {}
    layer_curve: LayerCurve | None = None
    timing: Timing = Timing()
    identity: str | None = None
    predictions_sha256: str | None = None
    created: str | None = None
    environment: dict[str, Any] = {}

    @property
    def metric(self) -> str:
        """The name of the headline metric."""
        return HEADLINE[self.dataset.task]

    @property
    def headline(self) -> Score:
        return self.metrics[self.metric]

    @property
    def corpus(self) -> str:
        """The corpus as tables name it: as its suite does, else without the namespace `arch/`, with the config of a dataset that has several."""
        if self.dataset.suite:
            return self.dataset.suite
        name, config = self.dataset.id.removeprefix("arch/"), self.dataset.config
        return f"{name} ({config})" if config and config != "default" and "/" in name else name

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of `per_class` and `confusion`; none where the result does not list them."""
        return tuple(score.class_name for score in self.per_class)

    @property
    def class_scores(self) -> tuple[float | None, ...]:
        """Of each class the recall, or the average precision; None where no test clip is of it."""
        name = "average_precision" if self.metric == "map_macro" else "recall"
        return tuple(getattr(score, name) if score.n_test else None for score in self.per_class)

    @property
    def protocol_title(self) -> str:
        return f"{self.protocol['name']} {self.protocol['version']}"

    @property
    def caveat(self) -> str | None:
        """Why the score must not stand beside published numbers, or None when it may."""
        dataset = self.dataset
        if not self.complete:
            return "incomplete: some clips could not be used"
        if dataset.limit:
            return f"limited to {dataset.limit} clips per split"
        unusable = sum(clip.clip_id not in dataset.missing_clips for clip in dataset.excluded_clips)
        if dataset.n_clips_expected and dataset.n_clips + unusable < dataset.n_clips_expected:
            return f"holds {dataset.n_clips} of {dataset.n_clips_expected} clips"
        published = PUBLISHED_SPLITS.get(self.corpus) if self.protocol["name"] == "arch-v1" else None
        if self.split_digest and published and self.split_digest != published:
            return "its split is not the published one: prepare the corpus again"
        return None

    def to_dict(self) -> dict[str, Any]:
        """The content of the result file as plain values."""
        return msgspec.to_builtins(self)

    def to_json(self) -> bytes:
        """The content of the result file: strict JSON, with a checksum of itself at its end.

        Raises:
            ValueError: a number is not finite or out of its range.
        """
        data = seal(self.to_dict())
        _parse(data)
        return data

    def write(self, path: str | Path) -> None:
        """Write the file atomically.

        Raises:
            UserError: the folder cannot be written.
            ValueError: as `to_json`: nothing is written.
        """
        write_atomically(Path(path), self.to_json())

    @classmethod
    def read(cls, path: str | Path) -> "Result":
        """Read one result, of this or an older schema.

        Raises:
            UserError: if the file is no result, was changed after it was written, or is of a newer schema than this package knows.
        """
        try:
            return cls.parse(Path(path).read_bytes(), str(path))
        except FileNotFoundError:
            raise UserError(f"no result at {path}") from None
        except (OSError, ValueError) as error:  # a name with a null byte
            raise UserError(f"{path} {_reason(error)}") from None

    @classmethod
    def parse(cls, data: bytes, name: str) -> "Result":
        """A result from the content of its file; `name` is what a message calls it.

        Raises:
            UserError: as `read`.
        """
        try:
            return _parse(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, msgspec.MsgspecError) as error:
            raise UserError(f"{name} {_reason(error)}") from None

    def __repr__(self) -> str:
        layer = "last layer" if self.layer == -1 else f"layer {self.layer}"
        score, ci = self.headline, self.headline.ci95
        interval = f" ({percent(ci[0])} to {percent(ci[1])})" if ci else ""
        caveat = f" [{self.caveat}]" if self.caveat else ""
        where = f"{self.model.id} on {self.corpus}, {self.protocol_title}, {layer}"
        return visible(f"{where}: {METRIC_NAMES[self.metric]} {percent(score.mean)}{interval}{caveat}")

    def _repr_html_(self) -> str:
        """The same line in a notebook."""
        where, _, score = repr(self).partition(": ")
        return f"{html.escape(where)}: <b>{html.escape(score)}</b>"


_FOREIGN = "is not an arch-hf result"  # of a file that is another thing; one that is damaged has its reason in brackets
_ROUNDING = 1e-6  # of a sum in another order
_decoder = msgspec.json.Decoder(Result)


def _parse(data: bytes) -> Result:
    """A result from the bytes of its file.

    Raises:
        ValueError, msgspec.MsgspecError: it is none; the message says why.
    """
    version, problem = re.search(rb'"schema_version":\s*(-?\d+)', data), why_not_sealed(data)
    if problem == NO_SEAL and (version is None or int(version[1]) == 1):
        raw = json.loads(data)
        if not isinstance(raw, dict) or not {"schema_version", "model", "dataset", "metrics"} <= raw.keys():
            raise ValueError(_FOREIGN)
        if type(raw["schema_version"]) is not int or raw["schema_version"] != 1:
            raise ValueError(f"is not an arch-hf result (schema_version is {raw['schema_version']!r})")
        return check(msgspec.convert(schema1.upgrade(raw), Result))
    if version is not None and int(version[1]) > SCHEMA_VERSION:
        raise ValueError(f"has schema version {int(version[1])}, this arch-hf knows {SCHEMA_VERSION}: upgrade arch-hf")
    if problem == NO_SEAL:
        _decoder.decode(data)  # what is wrong with it otherwise comes first
        raise ValueError(problem)
    if problem:
        raise ValueError(f"{problem}: evaluate again with --overwrite")
    return check(_decoder.decode(data))


def may_be_damaged(error: UserError) -> bool:
    """Whether a file that `Result.read` refuses may have been a result, cut short, changed or of a newer version, and is no other thing.

    Examples:
        >>> may_be_damaged(UserError("notes.json is not an arch-hf result")), may_be_damaged(UserError("a.json: is cut short"))
        (False, True)
    """
    return not str(error).endswith(_FOREIGN)


def check(result: Result) -> Result:
    """The result itself, if its parts fit together.

    Raises:
        ValueError: they do not.
    """
    if result.metric not in result.metrics:
        raise ValueError(f"has no {result.metric}, the metric of a {result.dataset.task} corpus")
    if not all(isinstance(result.protocol.get(key), str) for key in ("name", "version")):
        raise ValueError("names no protocol with its version")
    for name, score in result.metrics.items():
        values = [run.metrics[name] for run in result.runs if name in run.metrics]
        if len(values) == len(result.runs) > 0 and abs(sum(values) / len(values) - score.mean) > _ROUNDING:
            raise ValueError(f"has a mean {name} of {score.mean}, which is not that of its runs")
    published = result.published
    if published and abs(result.headline.mean - published.value - published.delta) > _ROUNDING:
        raise ValueError(f"has a difference of {published.delta} to the published {published.value}, which it has not")
    classes = len(result.per_class)
    if result.confusion and classes and {len(result.confusion), *map(len, result.confusion)} != {classes}:
        raise ValueError(f"has a confusion matrix that is not of its {classes} classes")
    if result.confusion and not all(map(math.isfinite, map(sum, result.confusion))):
        raise ValueError("has a confusion matrix with numbers that are not finite")
    return result


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, (OSError, UnicodeDecodeError, json.JSONDecodeError)):
        return f"cannot be read as JSON ({text})"
    if isinstance(error, msgspec.ValidationError):
        return f"is not an arch-hf result ({text})"
    if isinstance(error, KeyError):
        return f"is not an arch-hf result (a part has no {text})"
    if isinstance(error, (TypeError, AttributeError)):
        return f"is not an arch-hf result (a part of it has another form: {text})"
    if isinstance(error, (msgspec.DecodeError, RecursionError)):
        return f"cannot be read as JSON ({text})"
    return text


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a result file.

    Examples:
        >>> sorted(json_schema()["$defs"]["Score"]["required"])
        ['mean']
    """
    return msgspec.json.schema(Result)


def dataset_id(corpus: Corpus, shown: str) -> str:
    """`arch/<corpus>` for the twelve, wherever the folder lies (the fingerprint says whether it is the same data); else the name under which
    it may be shown, and never that of one of the twelve.

    Examples:
        >>> from arch_hf.data.registry import get_corpus
        >>> from dataclasses import replace
        >>> esc50 = get_corpus("esc50")
        >>> dataset_id(esc50, "/data/esc50"), dataset_id(replace(esc50, read=None), "arch/esc50"), dataset_id(replace(esc50, read=None), "me/esc50")
        ('arch/esc50', './arch/esc50', 'me/esc50')
    """
    if corpus.read is not None and corpus.name in CORPUS_NAMES:
        return f"arch/{corpus.name}"
    name = public_name(shown)
    return f"./{name}" if name.removeprefix("arch/") in CORPUS_NAMES else name
