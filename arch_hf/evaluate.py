"""The main job: one model on some corpora, from audio files to result files.

    load the corpus -> embed every clip -> plan the folds -> train and test the probes -> write the results

Every process runs every step; together they share out the batches of the extraction and the runs of the probes, and the
main process alone writes results and prints.
"""

import copy
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec
from safetensors.numpy import save

from arch_hf.data import CorpusData, load_corpus
from arch_hf.distributed import Ranks
from arch_hf.embedding import AudioEncoder, Encoder
from arch_hf.embedding.corpus import CorpusEmbeddings, embed_corpus
from arch_hf.embedding.interface import AnyEncoder, check_loaded, names_and_objects
from arch_hf.embedding.key import EmbedSettings
from arch_hf.errors import UserError, UserErrors
from arch_hf.job import (
    BASELINE_MODEL,
    DEFAULT_MODEL,
    CorpusRun,
    Job,
    as_fields,
    by_model,
    jobs_for,
    remarks_on,
    texts_of,
    with_options,
)
from arch_hf.probing.record import Scores
from arch_hf.probing.scoring import score_layers, score_vectors
from arch_hf.probing.splits import plan_folds
from arch_hf.probing.task import ProbeTask
from arch_hf.results.filing import file_answer, find_answer, rewrite
from arch_hf.results.layers import with_layer_curve
from arch_hf.results.question import Question
from arch_hf.results.result import DatasetFacts, ExcludedClip, ModelFacts, Result, Timing, dataset_id
from arch_hf.results.table2 import DRAW_UNCERTAINTY, beside_published, published_score
from arch_hf.results.trace import environment
from arch_hf.terminal import say

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from arch_hf.job import JobOptions


def evaluate_model(
    model_id: str | Path | Encoder | Sequence[str | Path | Encoder] = DEFAULT_MODEL,
    datasets: Sequence[str | Path] | None = None,
    *,
    protocol: str | Sequence[str] = "arch-v1",
    model_name: str | Sequence[str] | None = None,
    device: str | None = None,
    **options: "Unpack[JobOptions]",
) -> list[Result]:
    """Evaluate frozen encoders; returns the results, one per model, corpus, protocol and layer. They are also written to `output_dir`.

    Args:
        model_id: a Hub id, a local folder, a built-in baseline ("logmel", "mfcc"), or an encoder of your own (see
            `arch_hf.embedding.Encoder`); or several of them.
        datasets: corpus names, Hub dataset ids or folders; by default all twelve, for "logmel" the embedded three.
        protocol: "arch-v1" (the paper's), "strict" (what one should report today), or both.
        layers: "last", "all", or indices of hidden states: [0, 6, 12] or "0,6,12".
        output_dir: results that answer the same question are read from there instead of computed again.
        cache_dir: where embeddings are kept; by default $ARCH_HF_CACHE or ~/.cache/huggingface/arch_hf.
        device: "cpu", "cuda", "cuda:1", "mps"; by default the best there is.
        dtype: "float32", "bfloat16" or "float16"; by default float32, or what a launcher was told.
        batch_seconds: seconds of audio that go through the model at once; by default what suits the device.
        revision: branch, tag or commit of the model.
        model_name: what the results call the model, one for each model; by default its id, or a name made from the folder's path.
        data_dir: the twelve are looked for in data_dir/CORPUS before the Hub's arch/CORPUS.
        seeds: probes per fold, each with its own seed.
        probe: "linear" (the protocol's), "knn", or "weighted_sum" (of all layers).
        shots: also score the probe on so many clips per class.
        also: questions of the vectors as they are, without training: "retrieval", "clustering", "pairs".
        limit: at most so many clips per split: a quick look, not a score.
        streaming: read datasets from the Hub in passing, without a copy on disk.
        overwrite: compute again what there is a result of already.
        trust_remote_code: run the model's own code from the Hub.
        dataset_options: columns and splits of a dataset that is not built in, where they cannot be told apart: see `load_corpus`.

    Raises:
        UserError: an argument is wrong (all that are, at once); or, after all others were done, a model or a corpus failed.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> result, = evaluate_model(
        ...     "logmel", ["synthetic_events"], limit=6, seeds=1, output_dir=folder, cache_dir=folder)
        >>> result.dataset.id, result.layer, 0 <= result.headline.mean <= 1
        ('synthetic_events', -1, True)
        >>> evaluate_model("logmel", "synthetic_events")
        Traceback (most recent call last):
        arch_hf.errors.UserError: datasets is the text 'synthetic_events': give a list, ['synthetic_events']
    """
    if isinstance(datasets, (str, Path)):
        raise UserError(f"datasets is the text {str(datasets)!r}: give a list, [{str(datasets)!r}]")
    fields = {"datasets": () if datasets is None else texts_of("datasets", datasets), **as_fields(options)}
    ids, own = names_and_objects(model_id)
    names = () if model_name is None else texts_of("model_name", model_name)
    jobs = jobs_for(ids, texts_of("protocol", protocol), names, **fields)
    check_loaded(own, fields, device)
    runs = list(run_jobs(jobs, _launched(jobs, device), own))
    if failed := [f"{run.corpus}: {run.error}" if run.corpus else str(run.error) for run in runs if run.error]:
        raise UserErrors(failed) if len(failed) > 1 else UserError(*failed)
    return [result for run in runs for result in run.results]


# So that help() and an editor name them all, with what they are by default.
evaluate_model.__signature__ = with_options(evaluate_model)  # type: ignore[attr-defined]


def _launched(jobs: Sequence[Job], device: str | None) -> Ranks:
    ranks = Ranks.launched(device)
    for remark in remarks_on(jobs) if ranks.is_main else ():
        say(f"note: {remark}", sys.stderr)
    return ranks


def run_jobs(
    jobs: Sequence[Job], ranks: Ranks, own: Mapping[str, AnyEncoder] = MappingProxyType({})
) -> Iterator[CorpusRun]:
    """Run the jobs, model by model and corpus by corpus: each model is loaded once, and the baseline is scored once on each corpus under each
    protocol. Whatever stops one corpus, or one model, does not stop the others. `own` are encoders that are loaded already, by model id."""
    baselines = Baselines(ranks)
    for its_jobs in by_model(jobs):
        yield from run_model(its_jobs, baselines, ranks, own.get(its_jobs[0].model_id))


def run_model(
    jobs: Sequence[Job], baselines: "Baselines", ranks: Ranks, own: AnyEncoder | None = None
) -> Iterator[CorpusRun]:
    """One model on all corpora, under the protocol of each job."""
    try:
        encoder = load_encoder(jobs[0], ranks) if own is None else named(own, jobs[0])
        layers = jobs[0].chosen_layers(encoder.n_layers)
    except Exception as error:
        yield CorpusRun(jobs[0], None, error=ranks.tell(error))
        return
    for name in jobs[0].corpora:
        yield from run_corpus(jobs, name, encoder, layers, baselines, ranks)


def run_corpus(
    jobs: Sequence[Job], name: str, encoder: AnyEncoder, layers: list[int], baselines: "Baselines", ranks: Ranks
) -> Iterator[CorpusRun]:
    """One encoder on one corpus, under the protocol of each job."""
    corpus = None
    for number, job in enumerate(jobs):
        notes: tuple[str, ...] = ()
        try:
            if corpus is None:
                corpus = load_clips(job, name, ranks)
                notes = tuple(corpus.notes)
            baseline = None if job.model_id == BASELINE_MODEL else baselines.result(job, corpus)
            run = evaluate_corpus(job, encoder, corpus, layers, ranks, baseline, coming=jobs[number + 1 :])
            run = replace(run, corpus=name, notes=notes, named_files=tuple(corpus.named_files))
            ranks.wait()  # nobody begins the next before all have ended this one
        except Exception as error:
            run = CorpusRun(job, name, error=ranks.tell(error))
        yield run


class Baselines:
    """The results of the baseline encoder beside which every other one stands: computed once for each corpus and protocol."""

    def __init__(self, ranks: Ranks):
        self.ranks = ranks
        self.encoder: AnyEncoder | None = None
        self.known: dict[str, Result] = {}

    def result(self, job: Job, corpus: CorpusData) -> Result:
        """The baseline's answer to what the job asks."""
        own = job.baseline()
        self.encoder = self.encoder or load_encoder(own, self.ranks)
        identity = ask(own, self.encoder, corpus, [-1])[-1].identity
        if identity not in self.known:
            (self.known[identity],) = evaluate_corpus(own, self.encoder, corpus, [-1], self.ranks).results
        return self.known[identity]


def evaluate_corpus(
    job: Job,
    encoder: AnyEncoder,
    corpus: CorpusData,
    layers: list[int],
    ranks: Ranks,
    baseline: Result | None = None,
    coming: Sequence[Job] = (),
) -> CorpusRun:
    """One encoder on one corpus: a result per layer. What is there already, as the answer to the same question, is read back.

    Where the model sees the same under the protocols of the jobs that are `coming`, the clips go through it once for all.
    """
    questions = ask(job, encoder, corpus, layers, baseline)
    ranks.agree("model and data", tuple(question.identity for question in questions.values()))
    answers = ranks.on_main(partial(stored_answers, job, questions))
    moved: list[str] = []
    todo = [layer for layer in layers if layer not in answers]
    if todo:
        others = [settings_for(other, corpus, layers) for other in coming]
        embeddings = embed_corpus(encoder, corpus, settings_for(job, corpus, layers), ranks, others)
        task = plan_task(job, corpus, embeddings)
        read: list[int | Literal["all"]] = ["all"] if job.probe == "weighted_sum" else [*todo]
        features = map(embeddings.read, read)
        scored = score_layers(features, task, job.rules, job.probes, ranks)
        for layer in todo:
            start = time.perf_counter()
            scores, predictions = ranks.together(lambda: next(scored))
            probe_s = time.perf_counter() - start
            answer = assemble(questions[layer], embeddings, scores, probe_s, ranks, baseline)
            untrained = score_vectors(job.also, partial(embeddings.read, layer), task, ranks)
            answer = msgspec.structs.replace(answer, training_free=untrained)
            content = save(predictions, {"clip_ids": json.dumps(task.table.clip_id)})
            answers[layer], note = ranks.on_main(
                partial(file_answer, questions[layer], answer, content, job.output_dir)
            )
            moved += [note] if note else []
    results = with_layer_curve({layer: answers[layer] for layer in layers})
    changed = [(questions[layer], result) for layer, result in results.items() if result != answers[layer]]
    ranks.on_main(partial(rewrite, changed, job.output_dir))
    paths = tuple(question.path(job.output_dir) for question in questions.values())
    return CorpusRun(job, corpus.id, tuple(results.values()), paths, moved=tuple(moved))


def stored_answers(job: Job, questions: dict[int, Question]) -> dict[int, Result]:
    """By layer the results that are there already and need not be computed."""
    answers = {} if job.overwrite else {layer: find_answer(q, job.output_dir) for layer, q in questions.items()}
    return {layer: answer for layer, answer in answers.items() if answer is not None}


def load_encoder(job: Job, ranks: Ranks) -> AnyEncoder:
    """The job's frozen encoder, on this process's device."""
    encoder = ranks.together(
        lambda: AudioEncoder.from_pretrained(
            job.model_id,
            job.revision,
            job.dtype or ranks.dtype,
            device=ranks.device,
            trust_remote_code=job.trust_remote_code,
        ),
        main_first=True,  # one process downloads, the others find it in the cache
    )
    return named(encoder, job)


def named(encoder: AnyEncoder, job: Job) -> AnyEncoder:
    """The encoder under the name and with the batches that the job asks for; the one that was given stays as it is."""
    encoder = copy.copy(encoder)
    encoder.model_id = job.model_name or encoder.model_id
    encoder.batch_seconds = job.batch_seconds or encoder.batch_seconds
    return encoder


def load_clips(job: Job, name: str, ranks: Ranks) -> CorpusData:
    """The corpus with its clips measured: the digest and the length of each."""
    options = {"limit": job.limit, "streaming": job.streaming, **job.dataset_options}
    corpus = ranks.together(lambda: load_corpus(name, data_dir=job.data_dir, **options), main_first=True)
    return ranks.together(lambda: corpus.measured(job.cache, progress=ranks.is_local_main), main_first=True)


def settings_for(job: Job, corpus: CorpusData, layers: list[int]) -> EmbedSettings:
    """How the protocol wants this corpus embedded."""
    protocol, longest = job.rules, job.rules.max_seconds_for(corpus.corpus)
    assert longest is not None  # where nobody states it, it has been measured
    depth: Literal["last", "all"] = "last" if job.takes_last_only(layers) else "all"
    return EmbedSettings(job.cache, protocol.padding, longest, depth)


def ask(
    job: Job, encoder: AnyEncoder, corpus: CorpusData, layers: Sequence[int], baseline: Result | None = None
) -> dict[int, Question]:
    """The question that this job asks of the encoder on the corpus, at each layer."""
    facts, shown = corpus.corpus, dataset_id(corpus.corpus, corpus.id)
    names = corpus.class_names(job.rules.label_column)
    settings = settings_for(job, corpus, [*layers])
    question = Question(
        model=msgspec.convert(encoder.describe(), ModelFacts),
        dataset=DatasetFacts(
            id=shown,
            suite=corpus.suite,
            config=corpus.config,
            revision=corpus.revision,
            fingerprint=corpus.fingerprint(names),
            domain=facts.domain,
            task=facts.task,
            n_clips=len(corpus.table),
            n_clips_expected=corpus.n_expected if job.limit is None else None,
            n_classes=len(names),
            limit=job.limit,
            options=job.named_columns,
            excluded_clips=tuple(ExcludedClip(clip["clip_id"], clip["reason"]) for clip in corpus.excluded),
            missing_clips=tuple(corpus.missing),
        ),
        protocol=job.protocol_block(facts),
        layer=layers[0],
        embedding=settings.key_of_vector(encoder),
        beside={
            BASELINE_MODEL: baseline.identity if baseline else None,
            "published": published_score(encoder.model_id, shown.removeprefix("arch/")),
            "published_uncertainty": DRAW_UNCERTAINTY.get(shown.removeprefix("arch/")),
        },
        asked=job.asked(encoder.dtype_name),
    )
    return {layer: msgspec.structs.replace(question, layer=layer) for layer in layers}


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
    question: Question,
    embeddings: CorpusEmbeddings,
    scores: Scores,
    probe_s: float,
    ranks: Ranks,
    baseline: Result | None,
) -> Result:
    """The whole result: the question, the scores, the clips that failed, and how it was made."""
    names, work, dataset = embeddings.corpus.table.clip_id, embeddings.work, question.dataset
    failed = tuple(ExcludedClip(names[i], reason) for i, reason in sorted(embeddings.failures.items()))
    seconds = work.extract_s if work.clips else None
    fields = {name: getattr(scores, name) for name in scores.__struct_fields__}
    if baseline is not None:
        floor = {metric: score.mean for metric, score in baseline.metrics.items()}
        fields["baselines"] = scores.baselines | {BASELINE_MODEL: floor}
    result = Result(
        **fields,
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
            clips_per_s=round(work.clips / seconds, 2) if seconds else None,
            audio_s_per_s=round(work.audio_s / seconds, 2) if seconds else None,
        ),
        identity=question.identity,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=environment(ranks, question.embedding["dtype"]) | {"embedded_by": embeddings.made_by},
    )
    return msgspec.structs.replace(result, published=beside_published(result))
