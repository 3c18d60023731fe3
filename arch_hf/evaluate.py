"""The main job: one model on some corpora, from audio files to result files.

    load the corpus -> embed every clip -> plan the folds -> train and test the probes -> write the results

Every process runs every step; together they share out the batches of the extraction and the runs of the probes, and the
main process alone writes results and prints.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from safetensors.numpy import save

from arch_hf.data import CorpusData, load_corpus
from arch_hf.distributed import Ranks
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.corpus import CorpusEmbeddings, embed_corpus, plan_embedding
from arch_hf.embedding.key import EmbedSettings
from arch_hf.errors import UserError, as_user_error
from arch_hf.files import write_atomically
from arch_hf.job import BASELINE_MODEL, DEFAULT_MODEL, Job
from arch_hf.probing.record import Scores
from arch_hf.probing.scoring import Predictions, score_layers
from arch_hf.probing.splits import plan_folds
from arch_hf.probing.task import ProbeTask
from arch_hf.results.question import Question, make_room
from arch_hf.results.result import DatasetFacts, ExcludedClip, LayerCurve, ModelFacts, Result, Timing, dataset_id
from arch_hf.results.table2 import beside_published
from arch_hf.results.trace import environment


@dataclass(frozen=True)
class CorpusRun:
    """What became of one corpus: a result per layer with the file of each, or the error that stopped it; `notes` are for the reader."""

    corpus: str
    results: tuple[Result, ...] = ()
    paths: tuple[Path, ...] = ()
    error: UserError | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CorpusPlan:
    """What a corpus would cost: how many `clips`, `stored` among them, `hours` of audio as the encoder would take it, `gigabytes` that the
    embeddings take on disk; or the error that would stop it."""

    corpus: str
    clips: int = 0
    stored: int = 0
    hours: float = 0.0
    gigabytes: float = 0.0
    error: UserError | None = None


def evaluate_model(model_id: str = DEFAULT_MODEL, datasets: Sequence[str] | None = None, **options) -> list[Result]:
    """Evaluate one frozen encoder; returns its results, one per corpus and layer.

    Args:
        model_id: a Hub id, a local folder, or a built-in baseline ("logmel", "mfcc").
        datasets: corpus names, Hub dataset ids or folders; by default all twelve, for "logmel" the embedded three.
        **options: the other fields of `Job`.

    Raises:
        UserError: if the model cannot be loaded, or, after all others were done, if a corpus failed.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> result, = evaluate_model(
        ...     "logmel", ["synthetic_events"], limit=6, seeds=1, output_dir=folder, cache_dir=folder)
        >>> result.dataset.id, result.layer, 0 <= result.headline.mean <= 1
        ('synthetic_events', -1, True)
    """
    job = Job(model_id=model_id, datasets=tuple(datasets or ()), **options)
    runs = list(run_job(job, Ranks.launched()))
    if failed := [f"{run.corpus}: {run.error}" for run in runs if run.error]:
        raise UserError("; ".join(failed))
    return [result for run in runs for result in run.results]


def run_job(job: Job, ranks: Ranks) -> Iterator[CorpusRun]:
    """Run the job corpus by corpus. Whatever stops one corpus does not stop the others.

    Raises:
        UserError: if the model cannot be loaded or has no such layer.
    """
    encoder = load_encoder(job, job.model_id, ranks)
    layers = job.chosen_layers(encoder.n_layers)
    baseline = None if job.model_id == BASELINE_MODEL else load_encoder(job, BASELINE_MODEL, ranks)
    for name in job.corpora:
        try:
            corpus = load_clips(job, name, ranks)
            floors = {}
            if baseline is not None:
                (floor,) = evaluate_corpus(job, baseline, corpus, [-1], ranks).results
                floors = {BASELINE_MODEL: {metric: score.mean for metric, score in floor.metrics.items()}}
            yield replace(evaluate_corpus(job, encoder, corpus, layers, ranks, floors), corpus=name)
        except UserError as error:
            yield CorpusRun(name, error=error)
        except Exception as error:
            yield CorpusRun(name, error=as_user_error(error))


def evaluate_corpus(
    job: Job, encoder: AudioEncoder, corpus: CorpusData, layers: list[int], ranks: Ranks, baselines: dict | None = None
) -> CorpusRun:
    """One encoder on one corpus: a result per layer. What is there already, from the same inputs, is read back."""
    questions = {layer: ask(job, encoder, corpus, layer) for layer in layers}
    answers = {} if job.overwrite else {layer: q.answer(job.output_dir) for layer, q in questions.items()}
    answers = {layer: answer for layer, answer in ranks.from_main(answers).items() if answer is not None}
    notes = []
    todo = [layer for layer in layers if layer not in answers]
    if todo:
        embeddings = embed_corpus(encoder, corpus, settings_for(job, corpus, layers), ranks)
        task = plan_task(job, corpus, embeddings)
        features = (embeddings.read(layer) for layer in (todo if job.probe != "weighted_sum" else ["all"]))
        scored = score_layers(features, task, job.rules, job.probes, ranks)
        for layer in todo:
            start = time.perf_counter()
            scores, predictions = ranks.together(lambda: next(scored))
            probe_s = time.perf_counter() - start
            answers[layer] = assemble(questions[layer], embeddings, scores, probe_s, ranks, baselines or {})
            # together: a full disk of the main process stops all of them at the same place
            write = partial(write_answer, job, questions[layer], answers[layer], task, predictions, ranks)
            notes += ranks.together(write)
    results = ranks.together(lambda: with_layer_curve(job, questions, answers, ranks))
    paths = tuple(question.path(job.output_dir) for question in questions.values())
    return CorpusRun(corpus.id, tuple(results[layer] for layer in layers), paths, notes=tuple(notes))


def load_encoder(job: Job, model_id: str, ranks: Ranks) -> AudioEncoder:
    """The frozen encoder, on this process's device."""
    own = {}
    if model_id == job.model_id:
        dtype = {"fp16": "float16", "bf16": "bfloat16"}.get(ranks.accelerator.mixed_precision)
        own = {"revision": job.revision, "dtype": dtype, "trust_remote_code": job.trust_remote_code}
    return ranks.together(
        lambda: AudioEncoder.from_pretrained(model_id, device=ranks.device, **own),
        main_first=True,  # one process downloads, the others find it in the cache
    )


def load_clips(job: Job, name: str, ranks: Ranks) -> CorpusData:
    """The corpus with its clips measured: the digest and the length of each."""
    options = {"limit": job.limit, "streaming": job.streaming, **job.dataset_options}
    corpus = ranks.together(lambda: load_corpus(name, data_dir=job.data_dir, **options), main_first=True)
    return ranks.together(lambda: corpus.measured(job.cache, progress=ranks.is_local_main), main_first=True)


def settings_for(job: Job, corpus: CorpusData, layers: list[int]) -> EmbedSettings:
    """How the protocol wants this corpus embedded."""
    protocol = job.rules
    depth = "last" if job.takes_last_only(layers) else "all"
    return EmbedSettings(job.cache, protocol.padding, protocol.max_seconds_for(corpus.corpus), depth)


def ask(job: Job, encoder: AudioEncoder, corpus: CorpusData, layer: int) -> Question:
    """The question that this job asks of the encoder on the corpus at one layer."""
    facts = corpus.corpus
    names = corpus.class_names(job.rules.label_column)
    settings = settings_for(job, corpus, [layer])
    return Question(
        model=msgspec.convert(encoder.describe(), ModelFacts),
        dataset=DatasetFacts(
            id=dataset_id(facts.name, corpus.id),
            config=corpus.config,
            revision=corpus.revision,
            fingerprint=corpus.fingerprint(names),
            domain=facts.domain,
            task=facts.task,
            n_clips=len(corpus.table),
            n_clips_expected=sum(facts.splits.values()) if job.limit is None else None,
            n_classes=len(names),
            limit=job.limit,
            excluded_clips=tuple(ExcludedClip(clip["clip_id"], clip["reason"]) for clip in corpus.excluded),
            missing_clips=tuple(corpus.missing),
        ),
        protocol=job.protocol_block(facts),
        layer=layer,
        embedding={**encoder.identity, "padding": settings.padding, "max_seconds": settings.max_seconds},
        asked=job.asked(encoder.dtype_name),
    )


def plan_task(job: Job, corpus: CorpusData, embeddings: CorpusEmbeddings) -> ProbeTask:
    """Who trains, who tests, and on which labels, of the clips that have an embedding."""
    protocol, table = job.rules, corpus.table.select(embeddings.usable)
    targets = corpus.targets(protocol.label_column)[embeddings.usable]
    return ProbeTask(
        name=corpus.corpus.name,
        metric=corpus.corpus.metric,
        table=table,
        targets=targets,
        class_names=corpus.class_names(protocol.label_column),
        folds=plan_folds(protocol, corpus.corpus, table, targets),
        human_accuracy=corpus.corpus.human_accuracy,
    )


def assemble(
    question: Question, embeddings: CorpusEmbeddings, scores: Scores, probe_s: float, ranks: Ranks, baselines: dict
) -> Result:
    """The whole result: the question, the scores, the clips that failed, and how it was made."""
    names, work, dataset = embeddings.corpus.table.clip_id, embeddings.work, question.dataset
    failed = tuple(ExcludedClip(names[i], reason) for i, reason in sorted(embeddings.failures.items()))
    rate = work.extract_s if work.clips else None
    fields = {name: getattr(scores, name) for name in scores.__struct_fields__}
    result = Result(
        **fields | {"baselines": scores.baselines | baselines},
        complete=not failed,
        model=question.model,
        dataset=msgspec.structs.replace(
            dataset, n_clips=dataset.n_clips - len(failed), excluded_clips=dataset.excluded_clips + failed
        ),
        protocol=question.protocol,
        layer=question.layer,
        timing=Timing(
            decode_s=round(work.decode_s, 3),
            extract_s=round(work.extract_s, 3),
            probe_s=round(probe_s, 3),
            clips_per_s=round(work.clips / rate, 2) if rate else None,
            audio_s_per_s=round(work.audio_s / rate, 2) if rate else None,
        ),
        identity=question.identity,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=environment(ranks, question.embedding["dtype"]),
    )
    return msgspec.structs.replace(result, published=beside_published(result))


def write_answer(
    job: Job, question: Question, answer: Result, task: ProbeTask, predictions: Predictions, ranks: Ranks
) -> list[str]:
    """Write the result and the predictions beside it; returns what the reader should know."""
    if not ranks.is_main:
        return []
    path = question.path(job.output_dir)
    moved = make_room(path, question.identity)
    metadata = {"clip_ids": json.dumps(task.table.clip_id)}
    write_atomically(path.with_suffix(".predictions.safetensors"), save(predictions, metadata))
    answer.write(path)
    return (
        []
        if moved is None
        else [f"{path} answered another question (other weights, data or protocol): it is now {moved.name}"]
    )


def with_layer_curve(
    job: Job, questions: dict[int, Question], answers: dict[int, Result], ranks: Ranks
) -> dict[int, Result]:
    """The results, each with the curve over all layers if there are several."""
    if len(questions) == 1:
        return answers
    curve = layer_curve({layer: answers[layer] for layer in questions})
    for layer, question in questions.items():
        if answers[layer].layer_curve != curve:
            answers[layer] = msgspec.structs.replace(answers[layer], layer_curve=curve)
            if ranks.is_main:
                answers[layer].write(question.path(job.output_dir))
    return answers


def layer_curve(results: dict[int, Result]) -> LayerCurve:
    """Each layer's mean validation score, and the layer that it chooses: the test set has no say. Ties go to the deeper layer."""
    means = {}
    for layer, result in results.items():
        values = [run.validation for run in result.runs if run.validation is not None]
        means[layer] = float(np.mean(values)) if values else None
    known = [layer for layer, mean in means.items() if mean is not None]
    depth = {layer: position for position, layer in enumerate(results)}
    best = max(known, key=lambda layer: (means[layer], depth[layer])) if known else None
    validation = {str(layer): mean for layer, mean in means.items()}
    return LayerCurve(by="mean validation score", best=best, validation=validation)


def plan_job(job: Job) -> Iterator[CorpusPlan]:
    """What the job would have to do, without doing it.

    Raises:
        UserError: if the model cannot be loaded.
    """
    ranks = Ranks.launched()
    encoder = load_encoder(job, job.model_id, ranks)
    layers = job.chosen_layers(encoder.n_layers)
    for name in job.corpora:
        try:
            corpus = load_clips(job, name, ranks)
        except UserError as error:
            yield CorpusPlan(name, error=error)
            continue
        yield CorpusPlan(name, **plan_embedding(encoder, corpus, settings_for(job, corpus, layers)))
