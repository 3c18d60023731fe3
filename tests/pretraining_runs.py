"""What several test files of pretraining share: a very small model, a little audio, and a run's options and curve."""

import json
from unittest import mock

import numpy as np
import torch
from accelerate.state import AcceleratorState
from threadpoolctl import threadpool_limits

from arch_hf.audio import encode_wav
from arch_hf.pretraining import loop
from arch_hf.pretraining.options import Options

SMALL = (
    "hidden_size=16", "layers=2", "heads=2", "intermediate_size=24", "conv_dim=8,8,8,8,8,8,8", "positional_kernel=4",
    "positional_groups=2", "codewords=6", "code_dim=8", "projection_dim=8", "negatives=5", "clusters=6", "kmeans_frames=500",
    "kmeans_starts=1", "micro_batch_seconds=2", "micro_batches=2", "crop_seconds=1", "learning_rate=3e-3", "warmup_fraction=0.1",
)  # fmt: skip
NOISY = (*SMALL, "dropout=0.1", "feature_dropout=0.1", "layer_drop=0.3")  # with all that is drawn at random


def fresh() -> None:
    """As a new process would begin: without accelerate's state of the run before."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)


def make_audio(folder, clips=12, seed=0):
    """Clips of tones that come and go, 0.5 s and longer."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for number in range(clips):
        time = np.arange(int(16000 * (0.5 + 0.1 * (number % 12)))) / 16000
        tone = np.sin(2 * np.pi * time * generator.choice([300, 700, 1500])) * (np.sin(2 * np.pi * time * 4) > 0)
        samples = (0.3 * tone + 0.01 * generator.normal(size=len(time))).astype(np.float32)
        (folder / f"{number:02}.wav").write_bytes(encode_wav(samples, 16000))
    return folder


def options(audio, out, objective="hubert", **changes) -> Options:
    changes = {"workers": 0, "log_every": 1, "save_every": 5, "max_steps": 10, "seed": 1, "overrides": SMALL, **changes}
    return Options(objective, "tiny", [str(audio)], out, **changes)


def train(run: Options):
    """One thread in every process: with two, the order of a sum, and so its last digits, would be another machine's."""
    fresh()
    with mock.patch.object(loop, "share_cores"), threadpool_limits(1):
        return loop.pretrain(run)


def rows_of(out) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def curve(out) -> list[tuple]:
    names = ("step", "loss", "accuracy", "codebook_perplexity", "gradient_norm", "skipped")
    return [tuple(row[name] for name in names) for row in rows_of(out) if "loss" in row]


def assert_nearly_the_same(one, other) -> None:
    """Two curves of which only the order of sums differs: that grows as training goes on, and a frame here and there is named differently."""
    ours, theirs = np.array(curve(one)), np.array(curve(other))
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours[:, [0, 5]], theirs[:, [0, 5]])  # step, skipped
    np.testing.assert_allclose(ours[:4, [1, 4]], theirs[:4, [1, 4]], rtol=1e-3)  # loss, gradient norm
    np.testing.assert_allclose(ours[:, 1], theirs[:, 1], rtol=0.02)
    np.testing.assert_allclose(ours[:, 2], theirs[:, 2], atol=0.05)  # accuracy


def history(out) -> list[dict]:
    return json.loads((out / "run.json").read_text())["history"]
