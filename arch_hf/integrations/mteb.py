"""MTEB's own evaluator with our encoder: its tasks, its draws, its classifiers, its result files; our vectors, each encoded once.

Its audio benchmark is MAEB (arXiv 2602.16008). Nothing here needs torchcodec, torchaudio or FFmpeg: audio columns are read undecoded, and
decoded by us.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from datasets.exceptions import DatasetNotFoundError

from arch_hf.distributed import Ranks
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.key import digest_of
from arch_hf.errors import UserError, as_user_error, one_line
from arch_hf.files import default_cache_dir
from arch_hf.integrations import library
from arch_hf.integrations.audio_columns import clips_of, decoded_by_us
from arch_hf.integrations.clips import StoredEncoder
from arch_hf.names import as_file_name
from arch_hf.results.benchmark import BenchmarkScore
from arch_hf.results.result import ModelFacts
from arch_hf.results.trace import environment


class MtebEncoder:
    """Any audio encoder as mteb wants one (its EncoderProtocol): `mteb.evaluate(MtebEncoder(encoder), tasks)`.

    A clip's vector is the mean over its own frames, of the whole clip; it does not depend on `batch_size`.

    Attributes:
        mteb_model_meta: what mteb files the scores under. The name and the revision are the model's on the Hub; of a folder, "local/<name>"
            and the beginning of the weights' hash. Its `experiment_kwargs` hold a hash of all that a vector depends on, so that
            no two checkpoints and no two ways to encode share a file of scores: mteb's own wrapper of the same model neither.
        stored: the encoder with its store; `stored.encoded` counts the clips that went through the model.

    Examples:
        >>> import mteb  # doctest: +SKIP
        >>> encoder = MtebEncoder(AudioEncoder.from_pretrained("facebook/hubert-base-ls960"))  # doctest: +SKIP
        >>> mteb.evaluate(encoder, mteb.get_tasks(tasks=["FSDD"]))  # doctest: +SKIP
    """

    def __init__(self, encoder: AudioEncoder, cache_dir: str | Path | None = None, ranks: Ranks | None = None):
        self.stored = StoredEncoder(encoder, Path(cache_dir) if cache_dir else default_cache_dir(), ranks)
        self.mteb_model_meta = _model_meta(encoder, digest_of(self.stored.key)[:12])

    def encode(self, inputs, *, task_metadata, hf_split: str, hf_subset: str, prompt_type=None, **kwargs) -> np.ndarray:
        """The clips of a DataLoader of mteb, float32 [clips, dim].

        Raises:
            UserError: the task has no audio, or a clip cannot be used; the message names it.
        """
        rows = inputs.dataset
        where = f"{task_metadata.name}, split {hf_split}" + (f" of {hf_subset}" if hf_subset != "default" else "")
        features = getattr(rows, "features", None)
        if features is not None and "audio" not in features:
            raise UserError(f"{where}: has no audio but {', '.join(features)}, and an audio encoder takes audio alone")
        return self.stored.embed(clips_of(rows, "audio", where))

    def similarity(self, embeddings1, embeddings2):
        """Cosines, by mteb's own function: [clips1, clips2]."""
        return library("mteb.similarity_functions").cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1, embeddings2):
        """Cosines of pairs, by mteb's own function: [pairs]."""
        return library("mteb.similarity_functions").pairwise_cos_sim(embeddings1, embeddings2)


def _model_meta(encoder: AudioEncoder, fingerprint: str) -> Any:
    """mteb's own record of the model, if it has one, with what was measured here."""
    mteb = library("mteb")
    on_hub = encoder.revision is not None
    name = encoder.model_id if on_hub else f"local/{as_file_name(encoder.model_id)}"
    known = {
        "name": name,
        "revision": encoder.revision or encoder.weights_sha256[:12],
        "n_parameters": encoder.n_parameters,
        "embed_dim": encoder.embedding_size,
        "modalities": ["audio"],
        "framework": ["PyTorch"],
        "similarity_fn_name": mteb.models.model_meta.ScoringFunction.COSINE,
        "use_instructions": False,
        "loader": None,
        "experiment_kwargs": {"arch_hf": fingerprint},
    }
    if not on_hub:
        return mteb.models.ModelMeta.create_empty(overwrites=known)
    try:
        return mteb.get_model_meta(name).model_copy(update=known)
    except KeyError:
        known["reference"] = f"https://huggingface.co/{name}"
        return mteb.models.ModelMeta.create_empty(overwrites=known)


@dataclass(frozen=True)
class TaskOutcome:
    """What became of one task of mteb: its score, or the error that stopped it."""

    name: str
    score: BenchmarkScore | None = None
    error: UserError | None = None


def find_tasks(names: Sequence[str] = (), benchmark: str | None = None) -> list[Any]:
    """mteb's tasks of these names, or those of one of its benchmarks.

    Raises:
        UserError: it has none of one or more of these names, or a task that is not of audio alone; the message names them all.
    """
    mteb = library("mteb")
    tasks, unknown = [], []
    for name in [benchmark] if benchmark else dict.fromkeys(names):
        try:
            tasks += mteb.get_benchmark(name).tasks if benchmark else mteb.get_tasks(tasks=[name])
        except KeyError:
            unknown.append(name)
    if unknown and benchmark:
        known = [
            each.name for each in mteb.get_benchmarks() if any("audio" in t.metadata.modalities for t in each.tasks)
        ]
    elif unknown:
        of_audio = mteb.get_tasks(modalities=["audio"], exclusive_modality_filter=True, exclude_superseded=False)
        known = [task.metadata.name for task in of_audio]
    if unknown:
        raise UserError(f"mteb has no {'benchmark' if benchmark else 'task'} {', '.join(_with_near(unknown, known))}")
    if other := [task.metadata.name for task in tasks if set(task.metadata.modalities) != {"audio"}]:
        raise UserError(f"mteb: {', '.join(other)}: not of audio alone; name the tasks that are, with --tasks")
    return tasks


def _with_near(unknown: Sequence[str], known: Sequence[str]) -> list[str]:
    """
    Examples:
        >>> _with_near(["esc-50", "zzz"], ["ESC50", "FSDD"])
        ["'esc-50' (did you mean ESC50?)", "'zzz'"]
    """
    lowered = {name.lower(): name for name in known}
    near = [difflib.get_close_matches(name.lower(), lowered, n=1) for name in unknown]
    return [
        repr(name) + (f" (did you mean {lowered[hit[0]]}?)" if hit else "")
        for name, hit in zip(unknown, near, strict=True)
    ]


def run_tasks(model: MtebEncoder, tasks: Sequence[Any], overwrite: bool = False) -> Iterator[TaskOutcome]:
    """Run mteb's evaluator on each task. Its result files go where it always puts them: `$MTEB_CACHE` or `~/.cache/mteb`, below
    `results/<model>/<revision>/experiments/`. What has a result there already is read back, unless `overwrite`.

    One task failing, for whatever reason, does not stop the others.
    """
    mteb = library("mteb")
    cache = mteb.ResultCache()
    for task in tasks:
        name = task.metadata.name
        try:
            with decoded_by_us():
                outcome = mteb.evaluate(
                    model,
                    task,
                    cache=cache,
                    co2_tracker=False,
                    overwrite_strategy="always" if overwrite else "only-missing",
                    show_progress_bar=False,
                )
            path = cache.get_task_result_path(name, model.mteb_model_meta)
            yield TaskOutcome(name, _score(model, task, outcome.task_results[0], path))
        except Exception as error:
            yield TaskOutcome(name, error=_explained(error))


def _explained(error: Exception) -> UserError:
    """Also a dataset that the Hub did not give is something that the user can mend."""
    if isinstance(error, DatasetNotFoundError):
        return UserError(f"{one_line(error)}: check that your token may read it, and that its terms are accepted")
    if isinstance(error, ConnectionError):
        return UserError(f"{one_line(error)}: check the network, HF_ENDPOINT and HF_HUB_OFFLINE")
    return as_user_error(error)


def _score(model: MtebEncoder, task: Any, result: Any, path: Path) -> BenchmarkScore:
    """mteb's result of a task as a score of ours to show."""
    encoder, metadata = model.stored.encoder, task.metadata
    parts = {(split, scores["hf_subset"]): scores for split, of_split in result.scores.items() for scores in of_split}
    several = {"/".join(key): float(scores["main_score"]) for key, scores in parts.items()} if len(parts) > 1 else {}
    draws = [] if several else next(iter(parts.values())).get("scores_per_experiment", [])
    single = tuple(float(draw[metadata.main_score]) for draw in draws)
    if not np.isfinite([result.get_score(), *single, *several.values()]).all():
        raise UserError(f"its {metadata.main_score} is no number: see {path}")
    return BenchmarkScore(
        benchmark="MTEB",
        version=result.mteb_version or version("mteb"),
        task=metadata.name,
        kind=metadata.type,
        metric=metadata.main_score,
        protocol=_protocol(task),
        score=float(result.get_score()),
        single=single,
        subsets=several,
        model=msgspec.convert(encoder.describe(), ModelFacts),
        encoder=digest_of(model.stored.key),
        dataset=metadata.dataset["path"],
        dataset_revision=result.dataset_revision,
        file=str(path),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=environment(model.stored.ranks, encoder.dtype_name),
    )


def _protocol(task: Any) -> str:
    """What mteb does in a task of this kind, in a few words."""
    if task.metadata.type in ("AudioClassification", "AudioMultilabelClassification"):
        each = getattr(task.evaluator_model, "estimator", None)  # of a MultiOutputClassifier: one for each label
        kind = type(each or task.evaluator_model).__name__
        classifier = {"LogisticRegression": "logistic regression", "KNeighborsClassifier": "nearest neighbours"}.get(
            kind, kind
        )
        drawn = f"{task.n_splits} random folds" if task.is_cross_validation else f"{task.n_experiments} draws"
        return f"{classifier}{' of each label' if each else ''} on {task.samples_per_label} clips per class, {drawn}"
    return {
        "AudioClustering": "mini-batch k-means",
        "AudioPairClassification": "similarity of pairs, best over four similarities",
    }.get(task.metadata.type, "cosine similarity")
