"""Streaming: the same numbers as from a copy on disk, without the copy; and what happens when the stream breaks."""

import io
import json

import datasets
import numpy as np
import pyarrow as pa
import pytest
import raw_trees
from accelerate import debug_launcher
from datasets import Audio, ClassLabel, Dataset, Features, Value
from ranks import one_of_two
from tiny_models import make_tiny

from arch_hf import evaluate as evaluation
from arch_hf.audio import encode_wav
from arch_hf.data import load_corpus
from arch_hf.data.clip_index import ClipIndex, read_clip_index
from arch_hf.data.streaming import ClipStream
from arch_hf.embedding import corpus as corpus_module
from arch_hf.embedding import plan, preparation
from arch_hf.embedding.plan import plan_batches
from arch_hf.errors import AudioError, UserError
from arch_hf.evaluate import evaluate_model
from arch_hf.files import audio_digest
from arch_hf.job import Job

CLASSES = ("cat", "dog", "owl")


def clip(i):
    """A hum whose pitch is its class, 0.2 to 0.6 s long."""
    random = np.random.default_rng(i)
    time = np.arange(int(random.uniform(0.2, 0.6) * 16000)) / 16000
    hum = np.sin(2 * np.pi * (300 + 150 * (i % len(CLASSES))) * time)
    return encode_wav((0.1 * hum + 0.1 * random.standard_normal(len(time))).astype(np.float32), 16000)


def rows(numbers, broken=()):
    """Clips as a dataset; `fold` interleaves the folds."""
    numbers = list(numbers)
    features = Features({"audio": Audio(), "label": ClassLabel(names=list(CLASSES)), "fold": Value("int64")})
    audio = [{"bytes": b"no audio" if i in broken else clip(i), "path": f"{i}.wav"} for i in numbers]
    data = {"audio": audio, "label": [i % len(CLASSES) for i in numbers], "fold": [i // 3 % 3 + 1 for i in numbers]}
    return Dataset(pa.Table.from_pydict(data, features.arrow_schema), info=datasets.DatasetInfo(features=features))


def parquet(numbers, group=10, **how):
    file = io.BytesIO()
    rows(numbers, **how).to_parquet(file, batch_size=group)
    return file.getvalue()


@pytest.fixture(scope="module")
def birds():
    """Two splits, of two files and one: 96 clips."""
    names = ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")
    parts = (range(36), range(36, 72), range(72, 96))
    return {f"data/{name}.parquet": parquet(part) for name, part in zip(names, parts, strict=True)}


@pytest.fixture
def online(hub, tmp_path, monkeypatch, birds):
    """The loopback Hub with a dataset of two splits, one of folds in a column, and nothing in any cache."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets_cache")
    monkeypatch.setattr(datasets.config, "STREAMING_READ_MAX_RETRIES", 1)
    monkeypatch.chdir(tmp_path)
    hub.create("datasets", "me/birds", birds)
    hub.create("datasets", "me/folds", {"data/train-00000-of-00001.parquet": parquet(range(60), broken=(7,))})
    return hub


def run(folder, name="me/birds", model="logmel", streaming=True, **more):
    settings = {"output_dir": str(folder / "results"), "cache_dir": str(folder / "cache"), "seeds": 1}
    (result,) = evaluate_model(model, [name], streaming=streaming, **settings | more)
    return result


def numbers(result):
    return {key: value for key, value in result.to_dict().items() if key not in ("timing", "environment", "created")}


def on_disk(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["me/birds", "me/folds"])
def test_the_result_is_that_of_a_copy_on_disk(online, tmp_path, name):
    streamed = run(tmp_path / "streamed", name)
    assert on_disk(tmp_path / "datasets_cache") + on_disk(tmp_path / "hf_home") < 20_000
    copied = run(tmp_path / "copied", name, streaming=False)
    assert on_disk(tmp_path / "datasets_cache") > 500_000
    assert numbers(streamed) == numbers(copied)
    assert streamed.metrics["accuracy"].mean > 1 / 3 and streamed.protocol["max_seconds"] == 1.0
    excluded = [clip.clip_id for clip in streamed.dataset.excluded_clips]
    assert excluded == ([] if name == "me/birds" else ["fold_3-000001"])  # the one that is no audio is named


@pytest.mark.parametrize("protocol", ["arch-v1", "strict"])
def test_so_are_the_embeddings_of_a_model_with_batches_of_its_own(online, tmp_path, monkeypatch, protocol):
    monkeypatch.setitem(plan.BATCH_SECONDS, "cpu", 2.0)  # some forty batches, in several windows
    monkeypatch.setattr(plan, "WINDOW_BATCHES", 3)
    model = make_tiny("hubert", tmp_path / "tiny")
    streamed = run(tmp_path / "streamed", model=str(model), protocol=protocol)
    copied = run(tmp_path / "copied", model=str(model), protocol=protocol, streaming=False)
    streamed, copied = numbers(streamed), numbers(copied)
    # Other clips share a batch, which may show in the last bits of a test clip's score.
    assert streamed.pop("predictions_sha256") and copied.pop("predictions_sha256")
    assert streamed == copied


def test_a_folder_of_audio_files_streams_too(online, tmp_path):
    files = {f"{'test' if i > 7 else 'train'}/{CLASSES[i % 3]}/{i}.wav": clip(i) for i in range(16)}
    online.create("datasets", "me/files", files)
    assert numbers(run(tmp_path / "a", "me/files")) == numbers(run(tmp_path / "b", "me/files", streaming=False))
    for path, content in files.items():
        raw_trees.write(tmp_path / "here" / path, content)
    here = run(tmp_path / "c", "here")
    assert here.dataset.n_clips == 16 and numbers(here) == numbers(run(tmp_path / "d", "here", streaming=False))
    assert (
        load_corpus("here", streaming=True).clips._fingerprint == load_corpus("here", streaming=True).clips._fingerprint
    )
    before = load_corpus("here", streaming=True).clips._fingerprint
    raw_trees.write(tmp_path / "here/train/cat/0.wav", clip(99))
    assert load_corpus("here", streaming=True).clips._fingerprint != before


def test_each_pass_reads_the_audio_once_and_the_columns_without_it(online, tmp_path, monkeypatch):
    online.create("datasets", "me/long", {"train.parquet": parquet(list(range(27)) * 30, group=270)})
    size = len(online.repo("datasets", "me/long").files()["train.parquet"])
    data = load_corpus("me/long", streaming=True)
    assert online.sent < size / 10
    assert list(data.table.split) == [f"fold_{k}" for k in (1, 2, 3) for _ in range(270)]
    assert data.order[:12] == [0, 1, 2, 270, 271, 272, 540, 541, 542, 3, 4, 5]
    online.sent = 0
    found = read_clip_index(data, tmp_path)
    assert size < online.sent < 1.3 * size and len(found.digests) == 810
    assert data.audio(540) == clip(6)  # back to an earlier clip


def test_a_second_run_reads_no_audio(online, tmp_path, monkeypatch):
    first = run(tmp_path, "me/folds")
    monkeypatch.setattr(ClipStream, "audio", lambda *_: pytest.fail("the audio was read again"))
    again = run(tmp_path, "me/folds", overwrite=True)
    assert numbers(again) == numbers(first) and again.timing.clips_per_s is None


def _rank(folder, out):
    plan.BATCH_SECONDS["cpu"] = 2.0
    job = Job(
        datasets=("me/birds",), streaming=True, output_dir=f"{folder}/results", cache_dir=f"{folder}/cache", seeds=1
    )
    ranks = one_of_two()
    (done,) = evaluation.run_jobs([job], ranks)
    if ranks.is_main:
        out.write_text(json.dumps(numbers(done.results[0])))


def test_two_processes_give_the_numbers_of_one(online, tmp_path):
    debug_launcher(_rank, (tmp_path / "two", tmp_path / "two.json"), num_processes=2)
    assert json.loads((tmp_path / "two.json").read_text()) == json.loads(json.dumps(numbers(run(tmp_path / "one"))))


def test_a_stream_that_breaks_is_told_in_one_line_and_goes_on_later(online, tmp_path, monkeypatch):
    monkeypatch.setitem(plan.BATCH_SECONDS, "cpu", 2.0)
    monkeypatch.setattr(plan, "WINDOW_BATCHES", 2)
    done, extract = [], corpus_module.extract

    def extract_and_cut(encoder, *args):
        if encoder.model_id == "logmel" and not done:
            online.fail("GET", "train-00001", times=10**6, cut="response")
        try:
            done.append(extract(encoder, *args))
        finally:
            online.faults.clear()
        return done[-1]

    run(tmp_path, model="mfcc")
    monkeypatch.setattr(corpus_module, "extract", extract_and_cut)
    with pytest.raises(UserError) as told:
        run(tmp_path)
    message = str(told.value)
    assert "\n" not in message and "Traceback" not in message
    assert message.startswith("me/birds: the stream of me/birds, split train, broke at clip 37 of 72 (")
    assert message.endswith("); start again to go on: embeddings stored so far are kept")
    done.append(None)  # nothing is cut from here on
    result = run(tmp_path)
    encoded = done[-1].clips
    assert 36 <= encoded < 60  # of the 60 clips before the break, test's 24 first, only those of the last window
    done.append(None)
    assert numbers(result) == numbers(run(tmp_path / "anew"))


def test_no_clip_is_dropped_or_taken_for_another_in_silence(monkeypatch):
    stream = {"train": rows(range(6)).to_iterable_dataset()}
    fewer, more = (ClipStream(stream, {"train": n}, "me/birds") for n in (7, 5))
    assert [fewer.audio(f"train/{i}/audio") for i in (0, 3, 1)] == [clip(0), clip(3), clip(1)]
    with pytest.raises(UserError, match="the stream of me/birds, split train, ended after 6 of 7 clips; start again"):
        fewer.audio("train/6/audio")
    with pytest.raises(UserError, match="the stream of me/birds, split train, holds more clips than"):
        more.audio("train/4/audio")
    nothing = rows(range(2)).remove_columns("audio").add_column("audio", [None] * 2, feature=Audio(decode=False))
    with pytest.raises(AudioError, match="no audio"):
        ClipStream({"train": nothing.to_iterable_dataset()}, {"train": 2}, "me/birds").audio("train/0/audio")
    passing = preparation.Passing(lambda i: b"a%d" % i, [audio_digest(b"a%d" % i) for i in (0, 1, 3)], [0, 1, 2])
    assert passing(1) == b"a1" and passing.held == {0: b"a0"}
    with pytest.raises(UserError, match="changed while it was read"):
        passing(2)


def test_a_plan_of_a_stream_keeps_to_its_windows(monkeypatch):
    monkeypatch.setattr(plan, "WINDOW_BATCHES", 2)
    seconds = np.random.default_rng(0).uniform(0.5, 3, 40)
    found = ClipIndex([b"%d" % (i % 36) for i in range(40)], seconds)
    order = np.random.default_rng(1).permutation(40).tolist()
    planned = plan_batches(found, found.seconds, 5.0, order)
    assert sorted(found.digests[i] for batch in planned for i in batch) == sorted(set(found.digests))  # each audio once
    assert all(len(batch) * seconds[batch].max() <= 5 for batch in planned if len(batch) > 1)
    turns = [order.index(i) for batch in planned for i in batch]
    ahead = [max(turns[: k + 1]) - turn for k, turn in enumerate(turns)]
    assert 3 < max(ahead) < 20  # longest first, but never far ahead
    assert planned != plan_batches(found, found.seconds, 5.0)


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_is_down_is_asked_again_and_a_copy_in_the_cache_will_do(online, naps, status):
    online.fail("GET", "/api/datasets/me/birds", status, times=1)
    copied = load_corpus("me/birds")
    assert naps == [1] and copied.notes[0].startswith("me/birds: audio from")
    online.fail("GET", "", status, times=10**6)
    online.fail("HEAD", "", status, times=10**6)
    again = load_corpus("me/birds")
    assert again.notes[0] == "me/birds: the Hub does not answer for me/birds: read from the cache"
    assert again.table == copied.table and again.audio(5) == copied.audio(5)


def test_audio_files_on_the_hub_that_would_be_left_out_are_not(online, tmp_path):
    files = {
        f"{CLASSES[i % 3]}/{'mic_test' if i > 7 else 'train' if i > 3 else 'clip'}_{i}.wav": clip(i) for i in range(12)
    }
    online.create("datasets", "me/guessed", files)
    for streaming in (False, True):
        with pytest.raises(
            UserError, match=r"me/guessed holds 12 audio files, its splits 8 clips: .* hf download .*me/guessed"
        ):
            load_corpus("me/guessed", streaming=streaming)
    for path, content in files.items():
        raw_trees.write(tmp_path / "here" / path, content)
    assert len(load_corpus("here")) == 12


def test_without_the_hub_there_is_nothing_to_stream(online, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="the Hub does not answer for me/birds: --streaming reads from there"):
        load_corpus("me/birds", streaming=True)
    assert load_corpus("synthetic_events", streaming=True).order is None  # made here, not loaded
