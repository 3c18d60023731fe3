"""The extraction: planned from the clips alone, each clip once, nothing lost, nothing dropped in silence."""

import os
import signal
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ranks import rank
from tiny_models import make_tiny
from torch.utils.data._utils.pin_memory import pin_memory

from arch_hf import distributed
from arch_hf.audio import audio_info, encode_wav, load_audio
from arch_hf.data.clip_index import ClipIndex, read_clip_index
from arch_hf.embedding import AudioEncoder, extraction, plan, preparation
from arch_hf.embedding.corpus import embed_corpus
from arch_hf.embedding.encoder import NonFiniteError
from arch_hf.embedding.extraction import extract
from arch_hf.embedding.inputs import Segment, unpack
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.plan import ExtractionPlan, plan_batches
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.errors import AudioError, UserError
from arch_hf.files import audio_digest


@dataclass
class Clips:
    """As much of a CorpusData as the extraction looks at."""

    clips: list[bytes]
    fingerprint: str = "f"
    table: list = field(init=False)

    def __post_init__(self):
        self.table = self.clips

    def audio(self, i):
        return self.clips[i]

    @property
    def _fingerprint(self):
        return self.fingerprint


def noise(seconds, seed, rate=16000):
    return encode_wav(0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate)).astype(np.float32), rate)


@pytest.fixture(scope="module")
def encoder():
    return AudioEncoder.from_pretrained("logmel")


@pytest.fixture
def clips():
    lengths = np.random.default_rng(0).uniform(0.1, 2.0, 20)
    return [noise(seconds, seed) for seed, seconds in enumerate(lengths)]


def settings(folder):
    return EmbedSettings(folder, "none", 30.0, "last")


def corpus_of(clips, order=None):
    """As much of a `CorpusData` as the extraction looks at."""
    table = SimpleNamespace(clip_id=[f"clip-{i}" for i in range(len(clips))])
    return SimpleNamespace(audio=clips.__getitem__, index=index_of(clips), order=order, table=table)


def index_of(clips):
    found = ClipIndex([audio_digest(clip) for clip in clips], np.zeros(len(clips)))
    for i, clip in enumerate(clips):
        try:
            found.seconds[i] = audio_info(clip).seconds
        except AudioError as error:
            found.failures[i] = str(error)
    return found


def run(encoder, clips, folder, order=None):
    store, corpus = EmbeddingStore(folder, settings(folder).key(encoder)), corpus_of(clips, order)
    planned = ExtractionPlan.of(encoder, corpus, settings(folder))
    return store, extract(encoder, corpus, store, planned, rank())


def test_each_clip_gets_its_own_embedding(encoder, clips, tmp_path):
    store, done = run(encoder, clips, tmp_path)
    alone = [encoder.embed([load_audio(clip, encoder.sampling_rate)])[0] for clip in clips]
    np.testing.assert_allclose(store.read([audio_digest(c) for c in clips]), alone, atol=1e-4)
    assert done.clips == 20 and not done.failures


@pytest.mark.parametrize("padding", ["none", "max_length"])
def test_clips_are_cut_to_the_seconds_of_the_protocol(padding, encoder, tmp_path):
    clips = [noise(1.0, 0), noise(0.3, 1), noise(0.45, 2)]
    cut = EmbedSettings(tmp_path, padding, 0.4, "last")
    store, corpus = EmbeddingStore(tmp_path, cut.key(encoder)), corpus_of(clips)
    extract(encoder, corpus, store, ExtractionPlan.of(encoder, corpus, cut), rank())
    waveforms = [load_audio(clip, 16000)[:6400] for clip in clips]
    right = encoder.embed(waveforms, padding, 0.4)
    np.testing.assert_allclose(store.read([audio_digest(clip) for clip in clips]), right, atol=1e-4)


def test_a_second_run_and_equal_audio_cost_nothing(encoder, clips, tmp_path):
    _, first = run(encoder, clips + clips[:5], tmp_path)
    _, second = run(encoder, clips + clips[:5], tmp_path)
    assert (first.clips, second.clips) == (20, 0)


def test_a_run_killed_anywhere_continues_to_the_same_bits(encoder, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "BATCH_SECONDS", {"cpu": 3.0})
    monkeypatch.setattr(extraction, "FLUSH_SECONDS", -1)
    keys = [audio_digest(clip) for clip in clips]
    undisturbed = run(encoder, clips, tmp_path / "whole")[0].read(keys)
    add = EmbeddingStore.add
    for survivors in range(4):
        left = iter(range(survivors))

        def dies(self, *shard, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            add(self, *shard)

        folder = tmp_path / str(survivors)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(EmbeddingStore, "add", dies)
            run(encoder, clips, folder)
        store, again = run(encoder, clips, folder)
        assert again.clips < 20 or survivors == 0
        np.testing.assert_array_equal(store.read(keys), undisturbed)


def test_what_was_encoded_is_stored_before_a_polite_end(encoder, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "BATCH_SECONDS", {"cpu": 3.0})
    calls = iter(range(100))

    def ends_at_the_third(encoder, clips, layers):
        if next(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return list(encoder.embed_segments(clips, layers))

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(extraction, "_embed", ends_at_the_third)
        run(encoder, clips, tmp_path)
    assert signal.getsignal(signal.SIGTERM) == before
    assert 0 < len(EmbeddingStore(tmp_path, settings(tmp_path).key(encoder))) < 20


@pytest.mark.parametrize(
    ("family", "layers", "n_again"),
    [("ast", "all", 2), ("whisper", "last", 2), ("clap", "last", 2), ("hubert", "last", 6)],
)
def test_a_pass_through_a_window_serves_both_protocols(family, layers, n_again, tmp_path, monkeypatch):
    """To the last bit what each has alone, whichever is asked first; of an encoder that sees the padding, and of what is cut, nothing."""
    encoder = AudioEncoder.from_pretrained(make_tiny(family, tmp_path / "model"))
    lengths = (0.3, 0.5, 1.0, 1.0, 1.25, 2.0)  # the last two, a batch of their own, are cut under arch-v1
    clips = [noise(seconds, seed, encoder.sampling_rate) for seed, seconds in enumerate(lengths)]
    monkeypatch.setattr(plan, "BATCH_SECONDS", {"cpu": 2.0 * (encoder.inputs.window or 1) / encoder.inputs.rate})
    corpus = SimpleNamespace(**vars(corpus_of(clips)) | {"table": clips})
    keys = [audio_digest(clip) for clip in clips]

    def of(folder, name):
        return EmbedSettings(
            tmp_path / folder, *{"strict": ("none", 30.0), "arch-v1": ("max_length", 1.0)}[name], layers
        )

    whole = {
        name: embed_corpus(encoder, corpus, of("alone", name), rank()).store.read(keys)
        for name in ("strict", "arch-v1")
    }
    for first, second in (("strict", "arch-v1"), ("arch-v1", "strict")):
        one = embed_corpus(encoder, corpus, of(first, first), rank(), also=[of(first, second)])
        other = embed_corpus(encoder, corpus, of(first, second), rank())
        np.testing.assert_array_equal(one.store.read(keys), whole[first])
        np.testing.assert_array_equal(other.store.read(keys), whole[second])
        assert one.work.clips == 6
        assert other.work.clips == n_again
    assert not np.array_equal(whole["strict"], whole["arch-v1"])


def test_ranks_share_the_work_without_overlap(encoder, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "BATCH_SECONDS", {"cpu": 2.0})
    keys = [audio_digest(clip) for clip in clips]
    whole = run(encoder, clips, tmp_path / "one")[0].read(keys)
    corpus, two = corpus_of(clips), settings(tmp_path / "two")
    stores = [EmbeddingStore(two.cache, two.key(encoder)) for _ in range(2)]
    planned = ExtractionPlan.of(encoder, corpus, two)
    done = [extract(encoder, corpus, stores[number], planned, rank(number, 2)) for number in range(2)]
    assert done[0].clips + done[1].clips == 20 and min(done[0].clips, done[1].clips) >= 6
    stores[0].refresh()
    np.testing.assert_array_equal(stores[0].read(keys), whole)


def test_broken_clips_are_named_and_the_rest_goes_on(encoder, clips, tmp_path):
    clips = [*clips[:3], b"", b"no audio", noise(0.5, 99)[:4000]]
    data = Clips(clips)
    found = read_clip_index(View(data), tmp_path)
    store = EmbeddingStore(tmp_path, settings(tmp_path).key(encoder))
    corpus = SimpleNamespace(audio=data.audio, index=found, order=None, table=clips)
    done = extract(encoder, corpus, store, ExtractionPlan.of(encoder, corpus, settings(tmp_path)), rank())
    reasons = found.failures | {i: done.failures[d] for i, d in enumerate(found.digests) if d in done.failures}
    assert sorted(reasons) == [3, 4, 5]
    assert "0 bytes" in reasons[3] and "not audio" in reasons[4] and "truncated" in reasons[5]
    assert done.clips == 3
    whole = embed_corpus(encoder, corpus, settings(tmp_path), rank())
    assert whole.failures == reasons and whole.usable == [0, 1, 2]
    found.failures[1] = "it has no label"  # though its vector is there
    assert embed_corpus(encoder, corpus, settings(tmp_path), rank()).usable == [0, 2]


def test_any_other_fault_names_its_clip(encoder, clips, tmp_path, monkeypatch):
    index = index_of(clips)

    def breaks(audio, *settings):
        if audio is clips[7]:
            raise ZeroDivisionError("of the decoder")
        return load_audio(audio, *settings)

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "load_audio", breaks)
        with pytest.raises(UserError, match=r"clip clip-7: ZeroDivisionError: of the decoder .*traceback: .*\.log"):
            run(encoder, clips, tmp_path)
    embed, seconds = type(encoder).embed_segments, index.seconds[5]

    def model_breaks(self, segments, layers):
        if any(abs(segment.samples / 16000 - seconds) < 1e-3 for (segment,) in segments):
            raise RuntimeError("of the model")
        return embed(self, segments, layers)

    monkeypatch.setattr(type(encoder), "embed_segments", model_breaks)
    with pytest.raises(UserError, match=r"clip clip-5: RuntimeError: of the model .*traceback"):
        run(encoder, clips, tmp_path / "other")


class View:
    """As much of a `CorpusData` as the index is read from."""

    flaws, order, check_source = {}, None, staticmethod(lambda: None)

    def __init__(self, data):
        self.audio, self.key, self.n_clips = data.audio, data.fingerprint, len(data.table)

    def __len__(self):
        return self.n_clips

    def audio_key(self):
        return self.key


def test_the_clip_index_is_remembered_until_the_data_changes(clips, tmp_path):
    reads = []
    data = Clips(clips)
    view = View(data)
    view.audio = lambda i: reads.append(i) or clips[i]
    first = read_clip_index(view, tmp_path)
    again = read_clip_index(view, tmp_path)
    assert len(reads) == 20 and again.digests == first.digests
    np.testing.assert_array_equal(again.seconds, first.seconds)
    view.key = "changed"
    read_clip_index(view, tmp_path)
    assert len(reads) == 40


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_a_damaged_clip_index_is_made_anew(clips, tmp_path, damage):
    view = View(Clips(clips))
    first = read_clip_index(view, tmp_path)
    (path,) = tmp_path.glob("clip_index/*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    again = read_clip_index(view, tmp_path)
    assert again.digests == first.digests and list(again.seconds) == list(first.seconds)
    view.audio = lambda i: pytest.fail("what was made anew is not remembered")
    assert read_clip_index(view, tmp_path).digests == first.digests


class Faulty:
    """An encoder that gives NaN for some clips, or runs out of memory on large batches."""

    device, dtype, sampling_rate = torch.device("cpu"), torch.float16, 16000

    def __init__(self, largest=99, bad_lengths=()):
        self.largest, self.bad_lengths, self.calls = largest, bad_lengths, []

    def embed_segments(self, clips, layers):
        self.calls.append(len(clips))
        if len(clips) > self.largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        for i, (segment,) in enumerate(clips):
            if segment.samples in self.bad_lengths:
                raise NonFiniteError("not finite", i, 3)
        return np.array([[segment.samples] for (segment,) in clips], np.float32)


def test_out_of_memory_halves_the_batch():
    clips = [[Segment(torch.zeros(n), n, n)] for n in range(1, 12)]
    encoder = Faulty(largest=3)
    assert [int(v[0]) for v in extraction._embed(encoder, clips, "last")] == list(range(1, 12))
    with pytest.raises(UserError, match="out of memory on one clip"):
        extraction._embed(Faulty(largest=0), clips, "last")


def test_an_embedding_that_is_not_finite_is_named_never_zero():
    clips = [[Segment(torch.zeros(n), n, n)] for n in range(1, 8)]
    vectors = extraction._embed(Faulty(bad_lengths=(1, 4, 7)), clips, "last")
    for n, vector in enumerate(vectors, start=1):
        if n in (1, 4, 7):
            assert "not finite at layer 3 in torch.float16" in vector
        else:
            assert vector[0] == n


def test_batches_do_not_depend_on_order_or_duplicates():
    rng = np.random.default_rng(0)
    digests, seconds = [bytes([i]) for i in range(50)], rng.uniform(0.1, 5, 50)
    expected = [[digests[i] for i in batch] for batch in plan_batches(ClipIndex(digests, seconds), seconds, 10)]
    shuffle = rng.permutation(np.concatenate([np.arange(50), np.arange(10)]))
    mixed = ClipIndex([digests[i] for i in shuffle], seconds[shuffle])
    assert [[mixed.digests[i] for i in batch] for batch in plan_batches(mixed, mixed.seconds, 10)] == expected
    assert all(len(batch) == 2 for batch in plan_batches(ClipIndex(digests, seconds), np.full(50, 5), 10))


def test_threads_and_worker_processes_give_what_one_thread_gives(encoder, tmp_path, monkeypatch):
    clips = [noise(seconds, seed) for seed, seconds in enumerate(np.random.default_rng(1).uniform(0.1, 1.0, 70))]
    keys = [audio_digest(clip) for clip in clips]
    monkeypatch.setattr(plan, "BATCH_SECONDS", {"cpu": 2.0, "gpu": 2.0})
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)  # it would outlast the test
    vectors = {}
    for name, n_threads, order, room in (
        ("one thread", 1, None, True),
        ("threads", 4, None, True),
        ("tensors from a worker", 4, range(70), True),
        ("arrays from a worker", 4, range(70), False),
    ):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        monkeypatch.setattr(preparation, "shared_memory_holds", lambda n_bytes, room=room: room)
        store, done = run(encoder, clips, tmp_path / name, order=order)
        assert done.clips == 70 and done.audio_s == pytest.approx(sum(index_of(clips).seconds))
        vectors[name] = store.read(keys)
    for name, found in vectors.items():
        np.testing.assert_allclose(found, vectors["one thread"], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("family", ["hubert", "whisper", "ast", "clap", "wav2vec2-bert", "encodec"])
def test_feature_extractors_work_in_worker_processes(family, tmp_path, monkeypatch):
    """Some compute on several threads, of which a forked process has none left."""
    encoder = AudioEncoder.from_pretrained(make_tiny(family, tmp_path))
    encoder.embed([np.ones(encoder.sampling_rate, np.float32)])
    clips = [noise(0.05, seed, encoder.sampling_rate) for seed in range(64)]
    prepared = preparation.Prepare(
        np.arange(64).reshape(8, 8).tolist(), clips.__getitem__, encoder.inputs.without_model(), settings(tmp_path)
    )
    monkeypatch.setattr(plan, "BATCH_SECONDS", {"gpu": 1.0})
    for i, item in enumerate(preparation.decoded_ahead(prepared, workers=2)):
        for (there,), (here,) in zip(unpack(*item().packed), unpack(*prepared[i].packed), strict=True):
            assert (there.samples, there.total, there.constant_from) == (here.samples, here.total, here.constant_from)
            torch.testing.assert_close(there.values, here.values)


@pytest.mark.parametrize("as_array", [False, True])
def test_a_batch_is_pinned_as_the_loader_pins_it(as_array, encoder, tmp_path, monkeypatch):
    """Without a GPU there is no such memory: what the loader's thread does to a batch, with a copy in its place."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor.clone())
    inputs, clips = encoder.inputs.without_model(), [noise(0.1, 0), b"no sound", noise(0.2, 1)]
    prepared = preparation.Prepare([[0, 1, 2]], clips.__getitem__, inputs, settings(tmp_path))
    prepared.as_array = as_array
    batch = pin_memory(prepared[0])
    assert len(pinned) == 1 and batch.positions == [0, 2] and batch.failures.keys() == {1}
    for (there,), (here,) in zip(
        unpack(*batch.packed),
        map(inputs.segments, [load_audio(clip, inputs.rate) for clip in clips[::2]], [None] * 2),
        strict=True,
    ):
        torch.testing.assert_close(there.values, here.values)


@pytest.mark.parametrize(
    ("launcher", "threads", "processes", "expected"),
    [
        ("ACCELERATE_MIXED_PRECISION", 1, 1, 6),  # `accelerate launch` sets OMP_NUM_THREADS to 1
        ("TORCHELASTIC_RUN_ID", 1, 2, 3),
        ("TORCHELASTIC_RUN_ID", 1, 8, 1),
        ("TORCHELASTIC_RUN_ID", 4, 2, None),  # as it was told
        (None, 1, 1, None),
    ],
)
def test_cores_are_shared_out_among_launched_processes(launcher, threads, processes, expected, monkeypatch):
    told = []
    for name in distributed.LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    if launcher:
        monkeypatch.setenv(launcher, "x")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(6), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    distributed.share_cores(processes)
    assert told == ([] if expected is None else [expected])
