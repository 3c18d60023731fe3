"""Processes of one run that do not see the same store: one sees late what the other wrote, or each has a cache of its own."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from accelerate import debug_launcher
from ranks import one_of_two, rank
from safetensors.numpy import load_file

from arch_hf.audio import encode_wav, load_audio
from arch_hf.data.clip_index import ClipIndex
from arch_hf.embedding import AudioEncoder, plan
from arch_hf.embedding.corpus import embed_corpus
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.evaluate import run_jobs
from arch_hf.files import audio_digest
from arch_hf.job import jobs_for


def held_back(seconds):
    """In this process, shards of others are not seen until they are so old: so does a network file system. Returns the names of its own shards, and
    of those that it did not see."""
    add, glob, own, late = EmbeddingStore.add, Path.glob, set(), set()

    def remember(self, *shard):
        before = set(self._shards)
        add(self, *shard)
        own.update(set(self._shards) - before)

    def seen(folder, pattern):
        for path in glob(folder, pattern):
            young = folder.parent.name == "embeddings" and time.time() - path.stat().st_mtime < seconds
            if young and path.name not in own:
                late.add(path.name)
            else:
                yield path

    EmbeddingStore.add, Path.glob = remember, seen
    return own, late


def jobs(folder, limit):
    options = {"limit": limit, "seeds": 1, "output_dir": str(folder / "results"), "cache_dir": str(folder / "cache")}
    return jobs_for(["mfcc"], ["strict"], datasets=("synthetic_events",), **options)


def answers(ranks, folder):
    """What the results say, but for when and how they came about."""
    runs = list(run_jobs(jobs(folder, 10), ranks))
    assert not any(run.error for run in runs), runs
    results = [json.loads(result.to_json()) for run in runs for result in run.results]
    apart = ("timing", "environment", "created", "checksum", "predictions_sha256")
    return [{key: value for key, value in result.items() if key not in apart} for result in results]


def _late_rank(folder, seconds):
    ranks = one_of_two()
    own, late = held_back(seconds) if ranks.rank == 1 else ([], [])
    said = answers(ranks, folder)
    (folder / f"rank{ranks.rank}.json").write_text(json.dumps([said, len(own), len(late)]))


@pytest.mark.parametrize("seconds", [0.5, 3600])
def test_a_process_that_sees_shards_late_changes_nothing(seconds, tmp_path, monkeypatch):
    """The second of two on one cache, from the main job's beginning to its results. What an earlier run has left is not seen either."""
    monkeypatch.setattr(plan, "BATCH_SECONDS", {"cpu": 0.1})  # a batch for each clip: some are stored as a whole
    for folder in (tmp_path / "one", tmp_path / "two"):
        assert not any(run.error for run in run_jobs(jobs(folder, 4), rank()))
    alone = answers(rank(), tmp_path / "one")
    debug_launcher(_late_rank, (tmp_path / "two", seconds), num_processes=2)
    for number in range(2):
        together, own, late = json.loads((tmp_path / f"two/rank{number}.json").read_text())
        assert together == alone
        assert (own > 0, late > 0) == (number == 1, number == 1)
    one, two = (sorted((tmp_path / run / "results").rglob("*.predictions.safetensors")) for run in ("one", "two"))
    for alone, together in zip(one, two, strict=True):
        np.testing.assert_allclose(load_file(together)["scores"], load_file(alone)["scores"], rtol=1e-3, atol=1e-3)


class Clips:
    """As much of a `CorpusData` as the extraction looks at."""

    def __init__(self, n=6):
        noise = np.random.default_rng(0).standard_normal((n, 4000)).astype(np.float32) / 10
        self.clips = [encode_wav(one, 16000) for one in noise]
        self.index = ClipIndex([audio_digest(clip) for clip in self.clips], np.full(n, 0.25))
        self.audio, self.order = self.clips.__getitem__, None
        self.table = self.clips


@pytest.mark.parametrize("having, deep", [((0,), False), ((1,), False), ((0, 1), True)])
def test_all_layers_stand_in_for_the_last_only_where_every_cache_has_them(having, deep, tiny, tmp_path):
    encoder = AudioEncoder.from_pretrained(tiny("hubert"))
    for number in having:
        embed_corpus(encoder, Clips(), EmbedSettings(tmp_path / f"machine {number}", "none", 30.0, "all"), rank())
    debug_launcher(_last_layer, (tiny("hubert"), tmp_path), num_processes=2)
    for number in range(2):
        said = json.loads((tmp_path / f"{number}.json").read_text())
        assert said == {"all_layers": deep, "encoded": 0 if deep else 6}
    mine, other = (np.load(tmp_path / f"{number}.npy") for number in range(2))
    np.testing.assert_array_equal(mine, other)
    right = encoder.embed([load_audio(clip, 16000) for clip in Clips().clips])
    np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-5)


def _last_layer(model, folder):
    """One of two processes with a cache each: the last layer of all clips, as the main job asks for it."""
    ranks = one_of_two()
    ranks.machine = f"machine {ranks.rank}"
    settings = EmbedSettings(Path(folder) / ranks.machine, "none", 30.0, "last")
    found = embed_corpus(AudioEncoder.from_pretrained(model), Clips(), settings, ranks)
    np.save(Path(folder) / f"{ranks.rank}.npy", found.read(-1))
    said = {"all_layers": found.all_layers, "encoded": found.work.clips}
    (Path(folder) / f"{ranks.rank}.json").write_text(json.dumps(said))
