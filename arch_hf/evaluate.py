"""The main job: one model on some corpora, from audio files to result files.

    load corpus -> read catalogue -> extract embeddings -> plan folds -> train and score probes -> write result

Every process runs every step; together they share out the batches of the extraction and the runs of the probe, and the
main process alone writes results and prints.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from safetensors.numpy import save

from arch_hf.data import CorpusData, load_corpus
from arch_hf.data.clip_index import Catalogue, read_catalogue
from arch_hf.distributed import make_accelerator, together
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.extraction import Extraction, extract, recipe
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.errors import UserError
from arch_hf.files import write_atomically
from arch_hf.job import DEFAULT_MODEL, FLOOR_MODEL, Job
from arch_hf.probing.protocols import get_protocol, plan_folds
from arch_hf.probing.scoring import score_corpus, score_layers
from arch_hf.results.result import assemble, head_of, model_folder, read_if_same, result_name, write_result


def evaluate_model(model_id: str = DEFAULT_MODEL, datasets: Sequence[str] | None = None, **options) -> list[dict]:
    """Evaluate one frozen encoder; returns its results, one dict per corpus and layer: the JSON of the result files.

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
        >>> result["dataset"]["id"], result["layer"], 0 <= result["metrics"]["accuracy"]["mean"] <= 1
        ('synthetic_events', -1, True)
    """
    job = Job(model_id=model_id, datasets=tuple(datasets or ()), **options)
    results, errors = [], []
    for name, outcome in run_job(job, make_accelerator()):
        if isinstance(outcome, UserError):
            errors.append(f"{name}: {outcome}")
        else:
            results += outcome
    if errors:
        raise UserError("; ".join(errors))
    return results


def run_job(job: Job, accelerator: Accelerator) -> Iterator[tuple[str, list[dict] | UserError]]:
    """Run the job corpus by corpus: yields each corpus's name with its results (one per layer), or with what stopped it.

    Raises:
        UserError: if the model cannot be loaded or has no such layer.
    """
    encoder = _load_encoder(job, job.model_id, accelerator)
    layers = job.chosen_layers(encoder.n_layers)
    floor = None if job.model_id == FLOOR_MODEL else _load_encoder(job, FLOOR_MODEL, accelerator)
    for name in job.corpora:
        try:
            data = together(
                accelerator,
                lambda name=name: _load_corpus(job, name),
                main_first=True,
            )
            found = together(
                accelerator,
                lambda data=data: read_catalogue(data, job.cache, accelerator.is_local_main_process, order=data.order),
                main_first=True,
            )
            data = data.measured(found.seconds.max())
            floors = {}
            if floor is not None:
                result = _evaluate(job, floor, [-1], data, found, accelerator, {})[0]
                floors = {FLOOR_MODEL: {metric: value["mean"] for metric, value in result["metrics"].items()}}
            yield name, _evaluate(job, encoder, layers, data, found, accelerator, floors)
        except UserError as error:
            yield name, error


def plan_job(job: Job) -> Iterator[tuple[str, dict | UserError]]:
    """What the job would have to do, without doing it: per corpus the number of `clips`, `stored` among them, `hours` of audio (as the
    encoder would see it), and `gigabytes` that the embeddings take on disk.

    Raises:
        UserError: if the model cannot be loaded.
    """
    encoder = AudioEncoder.from_pretrained(job.model_id, revision=job.revision, trust_remote_code=job.trust_remote_code)
    protocol = get_protocol(job.protocol)
    depth = "last" if job.takes_last_only(job.chosen_layers(encoder.n_layers)) else "all"
    for name in job.corpora:
        try:
            data = _load_corpus(job, name)
            found = read_catalogue(data, job.cache, progress=True, order=data.order)
            data = data.measured(found.seconds.max())
        except UserError as error:
            yield name, error
            continue
        seconds = protocol.max_seconds_for(data.corpus)
        settings = {"padding": protocol.padding, "max_seconds": seconds, "layers": depth}
        store = EmbeddingStore(job.cache, recipe(encoder, **settings))
        audio = (
            len(data.table) * seconds if protocol.padding == "max_length" else np.minimum(found.seconds, seconds).sum()
        )
        width = encoder.embedding_size * (encoder.n_layers if depth == "all" else 1)
        yield (
            name,
            {
                "clips": len(data.table),
                "stored": sum(digest in store for digest in found.digests),
                "hours": float(audio) / 3600,
                "gigabytes": len(data.table) * width * 4 / 1e9,
            },
        )


def _load_corpus(job: Job, name: str) -> CorpusData:
    options = {"limit": job.limit, "streaming": job.streaming, **job.dataset_options}
    return load_corpus(name, data_dir=job.data_dir, **options)


def _load_encoder(job: Job, model_id: str, accelerator: Accelerator) -> AudioEncoder:
    own = {}
    if model_id == job.model_id:
        own = {
            "revision": job.revision,
            "dtype": {"fp16": "float16", "bf16": "bfloat16"}.get(accelerator.mixed_precision),
            "trust_remote_code": job.trust_remote_code,
        }
    return together(
        accelerator,
        lambda: AudioEncoder.from_pretrained(model_id, device=accelerator.device, **own),
        main_first=True,  # one process downloads, the others find it in the cache
    )


def _evaluate(
    job: Job,
    encoder: AudioEncoder,
    layers: list[int],
    data: CorpusData,
    found: Catalogue,
    accelerator: Accelerator,
    floors: dict,
) -> list[dict]:
    """One encoder on one corpus: a result per layer. What is there already, from the same inputs, is read back."""
    heads = {layer: head_of(job, encoder, data, found, layer) for layer in layers}
    folder = model_folder(job.output_dir, encoder.model_id)
    paths = {layer: folder / result_name(head) for layer, head in heads.items()}
    results = {layer: None if job.overwrite else read_if_same(paths[layer], heads[layer]) for layer in layers}
    results = broadcast_object_list([results])[0] if accelerator.num_processes > 1 else results
    todo = [layer for layer in layers if results[layer] is None]
    if not todo:
        return list(results.values())

    protocol = get_protocol(job.protocol)
    settings = {"padding": protocol.padding, "max_seconds": protocol.max_seconds_for(data.corpus)}
    last_only = job.takes_last_only(layers)
    depth = "last" if last_only and not _all_layers_are_stored(job, encoder, found, settings, accelerator) else "all"
    settings["layers"] = depth
    store, done = _embed_corpus(job, encoder, data, found, settings, accelerator)
    failures = found.failures | {i: done.failures[d] for i, d in enumerate(found.digests) if d in done.failures}
    usable = [i for i in range(len(data.table)) if i not in failures]
    if not usable:
        first = next(iter(failures.values()))
        raise UserError(f"none of the {len(data.table)} clips could be used; the first: {first}")
    digests, table = [found.digests[i] for i in usable], data.table.select(usable)
    if job.probe == "weighted_sum":
        features = [store.read(digests)]  # [clips, layers, dim], one score for all
    else:
        features = (store.read(digests, layer if depth == "all" else None) for layer in todo)
    scores = _scores(job, features, data, usable, table, accelerator)
    for layer in todo:
        start = time.perf_counter()
        body, predictions = together(accelerator, lambda: next(scores))
        body["baselines"] |= floors
        probe_s = time.perf_counter() - start
        results[layer] = assemble(heads[layer], body, data, failures, done, probe_s, encoder, accelerator)
        if accelerator.is_main_process:
            metadata = {"clip_ids": json.dumps(table.clip_id)}
            write_atomically(paths[layer].with_suffix(".predictions.safetensors"), save(predictions, metadata))
            write_result(paths[layer], results[layer])
    if len(layers) > 1:
        curve = layer_curve(results)
        for layer, result in results.items():
            result["layer_curve"] = curve
            if accelerator.is_main_process:
                write_result(paths[layer], result)
    return list(results.values())


def _all_layers_are_stored(job: Job, encoder: AudioEncoder, found: Catalogue, settings: dict, accelerator) -> bool:
    """Whether an earlier run over all layers has left what a run over the last one needs."""
    store = EmbeddingStore(job.cache, recipe(encoder, **settings, layers="all"))
    complete = all(digest in store for i, digest in enumerate(found.digests) if i not in found.failures)
    return all(gather_object([complete])) if accelerator.num_processes > 1 else complete


def _scores(
    job: Job, features: Iterable[np.ndarray], data: CorpusData, usable: list[int], table, accelerator
) -> Iterator:
    """Train and test the probes on each of the feature arrays: yields (block, predictions), one after the other."""
    protocol = get_protocol(job.protocol)
    targets, names = data.targets(protocol.label_column)[usable], data.class_names(protocol.label_column)
    folds = plan_folds(protocol, data.corpus, table, targets)
    common = (targets, names, folds, protocol, data.corpus, table)
    shared = {"seeds": job.seeds, "device": accelerator.device, "accelerator": accelerator}
    if job.probe == "linear":
        yield from score_layers(features, *common, **shared, shots=job.shots)
    else:
        for array in features:
            yield score_corpus(array, *common, **shared, probe=job.probe)


def layer_curve(results: dict[int, dict]) -> dict:
    """Each layer's mean validation score, and the layer that it chooses: the test set has no say. Ties go to the deeper layer.

    Example:
        >>> runs = lambda value: {"runs": [{"validation": value}]}
        >>> layer_curve({0: runs(0.5), 6: runs(0.7), -1: runs(0.6)})["best"]
        6
    """
    means = {}
    for layer, result in results.items():
        values = [run["validation"] for run in result["runs"] if run["validation"] is not None]
        means[layer] = float(np.mean(values)) if values else None
    known = [layer for layer, mean in means.items() if mean is not None]
    depth = {layer: position for position, layer in enumerate(results)}
    best = max(known, key=lambda layer: (means[layer], depth[layer])) if known else None
    return {
        "by": "mean validation score",
        "best": best,
        "validation": {str(layer): mean for layer, mean in means.items()},
    }


def _embed_corpus(
    job: Job, encoder: AudioEncoder, data: CorpusData, found: Catalogue, settings: dict, accelerator: Accelerator
) -> tuple[EmbeddingStore, Extraction]:
    """Bring every clip's embedding into the store; returns it, with what all processes did together."""

    def work():
        store = EmbeddingStore(job.cache, recipe(encoder, **settings), warn=accelerator.print)
        rank, n_ranks = accelerator.process_index, accelerator.num_processes
        return store, extract(
            encoder, data.audio, found, store,
            **settings, order=data.order, rank=rank, n_ranks=n_ranks, progress=accelerator.is_main_process,
        )  # fmt: skip

    store, mine = together(accelerator, work)
    everyone = gather_object([mine]) if accelerator.num_processes > 1 else [mine]
    store.refresh()
    _bring_from_other_machines(store, found, everyone, accelerator)
    return store, Extraction.merge(everyone)


def _bring_from_other_machines(
    store: EmbeddingStore, found: Catalogue, everyone: list[Extraction], accelerator
) -> None:
    """Where the processes do not share one cache folder, pass around what some have and others lack."""
    if accelerator.num_processes == 1:
        return
    failed = set().union(*(extraction.failures for extraction in everyone))
    lacking = [d for d in dict.fromkeys(found.digests) if d not in store and d not in failed]
    wanted = list(dict.fromkeys(d for rank in gather_object([lacking]) for d in rank))
    if not wanted:
        return
    have = [d for d in wanted if d in store]
    for digests, vectors in gather_object([(have, store.read(have) if have else np.empty(0))]):
        new = [row for row, digest in enumerate(digests) if digest not in store]
        if new and accelerator.is_local_main_process:
            store.add([digests[row] for row in new], vectors[new])
    accelerator.wait_for_everyone()
    store.refresh()
