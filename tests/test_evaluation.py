"""The main job as a whole: against a plain computation, over two processes, resumed, repeated, layer by layer."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from accelerate import debug_launcher
from ranks import one_of_two, rank
from safetensors.numpy import load_file
from tiny_models import make_tiny

from arch_hf.audio import encode_wav, load_audio
from arch_hf.data import load_corpus
from arch_hf.data.clip_index import read_clip_index
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding import corpus as corpus_module
from arch_hf.embedding.exchange import bring_from_other_machines
from arch_hf.embedding.extraction import extract
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.errors import UserError
from arch_hf.evaluate import evaluate_model
from arch_hf.probing.adamw import initial_weights, run_generator
from arch_hf.probing.protocols import get_protocol
from arch_hf.probing.scoring import Probes, score_layers
from arch_hf.probing.splits import plan_folds
from arch_hf.probing.task import ProbeTask, RunKey

EVALUATE = Path(__file__).parents[1] / "evaluate.py"


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    return str(make_tiny("hubert", tmp_path_factory.mktemp("models") / "tiny-hubert"))


def options(folder, **more):
    return {"output_dir": str(folder / "results"), "cache_dir": str(folder / "cache"), "limit": 10, "seeds": 2, **more}


def numbers(result):
    """All of a result that must not differ between two runs."""
    return {key: value for key, value in result.to_dict().items() if key not in ("timing", "environment", "created")}


def plain_scores(folder, data, seed):
    """The paper's protocol as one would write it down: transformers, torch and scikit-learn, one clip and one probe at a time."""
    from sklearn.metrics import accuracy_score
    from transformers import AutoFeatureExtractor, AutoModel, get_linear_schedule_with_warmup

    model, extractor = AutoModel.from_pretrained(folder).eval(), AutoFeatureExtractor.from_pretrained(folder)
    length, embeddings = round(data.corpus.max_seconds * 16000), []
    for i in range(len(data)):
        clip = load_audio(data.audio(i), 16000)[:length]
        inputs = extractor([clip], sampling_rate=16000, padding="max_length", max_length=length, return_tensors="pt")
        with torch.inference_mode():
            embeddings.append(model(inputs.input_values).last_hidden_state.mean(1)[0])
    x, y = torch.stack(embeddings), torch.from_numpy(data.targets())
    scores = []
    for index, fold in enumerate(plan_folds(get_protocol("arch-v1"), data.corpus, data.table)):
        generator = run_generator(RunKey(0, index, fold, seed))  # the same draws, so that the scores are to be equal
        layer = torch.nn.Linear(x.shape[1], len(data.corpus.classes))
        for parameter, start in zip(
            layer.parameters(), initial_weights(*reversed(layer.weight.shape), generator), strict=True
        ):
            parameter.data = start
        optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-3)
        train = torch.from_numpy(fold.train)
        steps = 200 * -(-len(train) // 32)
        schedule = get_linear_schedule_with_warmup(optimiser, int(0.1 * steps), steps)
        for _ in range(200):
            for batch in train[torch.randperm(len(train), generator=generator)].split(32):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(layer(x[batch]), y[batch]).backward()
                optimiser.step()
                schedule.step()
            schedule.step()  # once more after each epoch, as the paper's program has it
        with torch.inference_mode():
            scores.append(accuracy_score(y[fold.test], layer(x[fold.test]).argmax(1)))
    return float(np.mean(scores))


def test_the_score_is_that_of_a_plain_computation(hubert, tmp_path):
    (result,) = evaluate_model(hubert, ["synthetic_events"], **options(tmp_path, limit=None, seeds=1))
    data = load_corpus("synthetic_events")
    assert result.metrics["accuracy"].mean == pytest.approx(plain_scores(hubert, data, seed=0), abs=0.005)
    assert result.metrics["accuracy"].mean > result.baselines["majority"]["accuracy"] + 0.05


def _rank(model, folder, queue_path):
    from arch_hf.evaluate import run_jobs
    from arch_hf.job import Job

    ranks = one_of_two()
    job = Job(model_id=model, datasets=("synthetic_events", "synthetic_music"), **options(folder))
    outcomes = {run.corpus: [numbers(result) for result in run.results] for run in run_jobs([job], ranks)}
    if ranks.is_main:
        Path(queue_path).write_text(json.dumps(outcomes))


def test_two_processes_give_the_scores_of_one(hubert, tmp_path):
    names = ["synthetic_events", "synthetic_music"]
    alone = evaluate_model(hubert, names, **options(tmp_path / "one"))
    out = tmp_path / "two.json"
    debug_launcher(_rank, (hubert, tmp_path / "two", out), num_processes=2)
    together = json.loads(out.read_text())
    for one, name in zip(alone, names, strict=True):
        (two,) = together[name]
        one = json.loads(json.dumps(numbers(one)))
        assert two["metrics"].keys() == one["metrics"].keys()
        for metric, value in one["metrics"].items():
            assert two["metrics"][metric]["mean"] == pytest.approx(value["mean"], abs=1e-9)
            assert two["metrics"][metric]["ci95"] == pytest.approx(value["ci95"], abs=1e-9)
        assert two["dataset"] == one["dataset"] and two["model"] == one["model"]


def test_torchrun_starts_one_job_not_two(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(EVALUATE)]
    flags = ["--datasets", "synthetic_events", "--limit", "4", "--seeds", "1", "--cache_dir", "cache"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, *flags], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.count("95% interval") == 1
    result = json.loads((tmp_path / "results/logmel/synthetic_events.limit4.seeds1.json").read_text())
    assert result["complete"] and result["environment"]["n_processes"] == 2


def test_a_second_run_reads_back_and_overwrite_scores_again_to_the_same(hubert, tmp_path, monkeypatch):
    (first,) = evaluate_model(hubert, ["synthetic_events"], **options(tmp_path))
    written = next((tmp_path / "results").rglob("tiny-hubert*/synthetic_events.limit10.seeds2.json")).stat().st_mtime_ns
    (again,) = evaluate_model(hubert, ["synthetic_events"], **options(tmp_path))
    assert again == first
    (anew,) = evaluate_model(hubert, ["synthetic_events"], **options(tmp_path, overwrite=True))
    assert numbers(anew) == numbers(first) and anew.timing.clips_per_s is None  # all from the store
    other = evaluate_model(hubert, ["synthetic_events"], **options(tmp_path, seeds=1))[0]
    assert len(other.runs) == len(first.runs) / 2
    assert written


def test_a_damaged_result_or_shard_is_made_again(hubert, tmp_path):
    (first,) = evaluate_model(hubert, ["synthetic_events"], **options(tmp_path))
    path = next((tmp_path / "results").glob("tiny-hubert*/synthetic_events.limit10.seeds2.json"))
    path.write_text(path.read_text()[:500])
    for shard in (tmp_path / "cache").glob("embeddings/*/*.safetensors"):
        shard.write_bytes(shard.read_bytes()[:-8])
    (again,) = evaluate_model(hubert, ["synthetic_events"], **options(tmp_path))
    assert numbers(again) == numbers(first) and again.timing.clips_per_s is not None


def test_every_layer_from_one_pass(hubert, tmp_path):
    results = evaluate_model(hubert, ["synthetic_events"], layers="all", **options(tmp_path))
    assert [r.layer for r in results] == [0, 1, -1]
    last = evaluate_model(hubert, ["synthetic_events"], **options(tmp_path / "other"))[0]
    (stored,) = evaluate_model(hubert, ["synthetic_events"], **options(tmp_path, overwrite=True))
    assert stored.timing.clips_per_s is None  # the last of all layers is the last layer
    assert results[-1].metrics["accuracy"].mean == pytest.approx(last.metrics["accuracy"].mean, abs=1e-9)
    curve = results[0].layer_curve
    assert set(curve.validation) == {"0", "1", "-1"} and curve.best in (0, 1, -1)
    names = sorted(path.name for path in (tmp_path / "results").glob("tiny-hubert*/*.json"))
    assert names == [
        "synthetic_events.layer0.limit10.seeds2.json",
        "synthetic_events.layer1.limit10.seeds2.json",
        "synthetic_events.limit10.seeds2.json",
    ]


def test_every_layer_is_scored_on_its_own_vectors(hubert, tmp_path):
    """The predictions of each layer are those of probes on what `embed` gives of this layer."""
    results = evaluate_model(hubert, ["synthetic_events"], layers="all", **options(tmp_path))
    encoder, data = AudioEncoder.from_pretrained(hubert), load_corpus("synthetic_events", limit=10)
    waveforms = [load_audio(data.audio(i), 16000) for i in range(len(data))]
    every = encoder.embed(waveforms, "max_length", data.corpus.max_seconds, layers="all")
    protocol = get_protocol("arch-v1")
    folds = plan_folds(protocol, data.corpus, data.table, data.targets())
    task = ProbeTask("events", "accuracy", data.table, data.targets(), data.class_names(), folds)
    layers = [np.ascontiguousarray(every[:, layer]) for layer in range(3)]
    expected = [scores for _, scores in score_layers(layers, task, protocol, Probes(seeds=2), rank(), progress=False)]
    for result, right in zip(results, expected, strict=True):
        name = "" if result.layer == -1 else f".layer{result.layer}"
        (path,) = (tmp_path / "results").glob(
            f"tiny-hubert*/synthetic_events{name}.limit10.seeds2.predictions.safetensors"
        )
        np.testing.assert_allclose(load_file(path)["scores"], right["scores"], rtol=1e-3, atol=1e-3)
    assert not np.allclose(expected[0]["scores"], expected[1]["scores"], rtol=1e-3, atol=1e-3)


def test_the_baseline_beside_a_score_is_its_own_result(hubert, tmp_path):
    (result,) = evaluate_model(hubert, ["synthetic_events"], **options(tmp_path))
    (mfcc,) = evaluate_model("mfcc", ["synthetic_events"], **options(tmp_path))
    assert result.baselines["mfcc"] == {name: score.mean for name, score in mfcc.metrics.items()}
    assert "mfcc" not in mfcc.baselines and mfcc.created <= result.created
    assert result.environment["embedded_by"][0].startswith("arch_hf ")


def test_the_baseline_is_of_the_same_protocol(tmp_path):
    both = {**options(tmp_path, seeds=1), "protocol": ["arch-v1", "strict"]}
    results = evaluate_model("logmel", ["synthetic_events"], **both)
    floors = evaluate_model("mfcc", ["synthetic_events"], **both)
    for result, floor in zip(results, floors, strict=True):
        assert result.baselines["mfcc"] == {name: score.mean for name, score in floor.metrics.items()}


def test_other_probes_are_results_of_their_own(hubert, tmp_path):
    for probe in ("knn", "weighted_sum"):
        (result,) = evaluate_model(hubert, ["synthetic_events"], probe=probe, **options(tmp_path, seeds=1))
        assert result.protocol["name"] == f"arch-v1-{probe}" and result.published is None
    few = {"shots": (1, 5), **options(tmp_path, seeds=1)}
    (result,) = evaluate_model(hubert, ["synthetic_events"], **few)
    assert set(result.few_shot) == {"1", "5"}
    names = {path.name for path in (tmp_path / "results").glob("tiny-hubert*/*.json")}
    assert names == {
        f"synthetic_events{kind}.json"
        for kind in (".limit10.seeds1.shots1-5", ".arch-v1-knn.limit10", ".arch-v1-weighted_sum.limit10")
    }


def test_strict_pads_nothing_and_keeps_groups_apart(hubert, tmp_path):
    (result,) = evaluate_model(hubert, ["synthetic_speech"], protocol="strict", **options(tmp_path, seeds=1))
    assert result.protocol["padding"] == "none" and result.protocol["max_seconds"] == 30.0
    strengths = result.protocol["strengths"]
    assert all(run.strength in strengths and run.n_train == 20 for run in result.runs) and len(result.runs) == 1
    assert "to choose the strength" in result.validation_use and result.protocol["seeds"] == 1
    assert list((tmp_path / "results").glob("tiny-hubert*/synthetic_speech.strict.limit10.json")), (
        "no seeds, whatever is asked"
    )


def tones(folder, pitches):
    rng = np.random.default_rng(0)
    for label, pitch in pitches.items():
        for split, n in (("train", 6), ("test", 4)):
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                samples = np.sin(2 * np.pi * pitch * np.arange(4000) / 16000) + 0.1 * rng.standard_normal(4000)
                (folder / split / label / f"{i}.wav").write_bytes(encode_wav(0.5 * samples.astype(np.float32), 16000))
    return folder


def test_data_changed_in_place_is_noticed(tmp_path):
    folder = tones(tmp_path / "tones", {"low": 200, "high": 2000})
    few = options(tmp_path, limit=None, seeds=1)
    (before,) = evaluate_model("logmel", [str(folder)], **few)
    tones(folder, {"high": 200})  # now both classes sound alike
    (after,) = evaluate_model("logmel", [str(folder)], **few)
    assert after.dataset.fingerprint != before.dataset.fingerprint
    assert before.metrics["accuracy"].mean == 1.0 and after.metrics["accuracy"].mean < 1.0


def test_a_clip_that_cannot_be_used_shifts_nobodys_label(tmp_path):
    folder = tones(tmp_path / "tones", {"low": 200, "high": 2000})
    for path in ("train/high/2.wav", "test/high/1.wav", "test/high/2.wav"):
        (folder / path).write_bytes(b"no sound")
    (result,) = evaluate_model("logmel", [str(folder)], **options(tmp_path, limit=None, seeds=1))
    assert not result.complete and len(result.dataset.excluded_clips) == 3 and result.dataset.n_clips == 17
    assert result.metrics["accuracy"].mean == 1.0 and [run.n_test for run in result.runs] == [6]


def test_what_is_removed_during_a_run_is_one_line(hubert, tmp_path, monkeypatch):
    def removed(*arguments):
        done = extract(*arguments)
        shutil.rmtree(tmp_path / "cache" / "embeddings")
        return done

    monkeypatch.setattr(corpus_module, "extract", removed)
    with pytest.raises(
        UserError, match=r"synthetic_events: \d+ embeddings in .* were removed while this run was at work: start"
    ):
        evaluate_model("mfcc", ["synthetic_events"], **options(tmp_path))


def test_a_cache_that_is_not_shared_is_passed_around(tmp_path):
    data = load_corpus("synthetic_events", limit=8)
    digests = read_clip_index(data, tmp_path).digests
    debug_launcher(_lonely_rank, (tmp_path, digests), num_processes=2)


def _lonely_rank(folder, digests):
    """Each rank has half of the embeddings, in a cache of its own; afterwards each has all."""
    ranks = one_of_two()
    ranks.machine = f"machine {ranks.rank}"
    store = EmbeddingStore(folder / f"machine{ranks.rank}", {"recipe": 1})
    vectors = np.arange(len(digests) * 3, dtype=np.float32).reshape(-1, 3)
    store.add(digests[ranks.rank :: 2], vectors[ranks.rank :: 2])
    bring_from_other_machines(store, digests, ranks)
    again = EmbeddingStore(folder / f"machine{ranks.rank}", {"recipe": 1})
    np.testing.assert_array_equal(again.read(digests), vectors)


def test_two_runs_at_once_on_one_store(hubert, tmp_path):
    shared = options(tmp_path)
    torch.multiprocessing.start_processes(_own_run, (hubert, shared), nprocs=2, start_method="fork")
    scores = [json.loads((tmp_path / f"metrics{i}.json").read_text()) for i in range(2)]
    shutil.rmtree(tmp_path / "cache")
    (alone,) = evaluate_model(hubert, ["synthetic_events"], **shared)
    assert scores[0] == scores[1] == json.loads(msgspec.json.encode(alone.metrics))


def _own_run(number, model, shared):
    """One of two runs that know nothing of each other but share the cache."""
    folder = f"{shared['output_dir']}{number}"
    (result,) = evaluate_model(model, ["synthetic_events"], **{**shared, "output_dir": folder})
    (Path(shared["output_dir"]).parent / f"metrics{number}.json").write_bytes(msgspec.json.encode(result.metrics))
