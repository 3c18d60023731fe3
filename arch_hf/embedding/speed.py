"""What a model costs, and how fast a machine is: for plans of long runs, and for `arch-hf doctor`."""

import statistics
import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from arch_hf.embedding.encoder import AudioEncoder
from arch_hf.embedding.loading import Loaded, parse_dtype

SECONDS = 5.0  # of the clips that are timed, and on which operations are counted: attention grows with length
CLIPS = {"cpu": 1, "cuda": 64}  # in a pass: a GPU needs many to be busy
ROUNDS = 3


def gflop_per_second(encoder: AudioEncoder) -> float:
    """Operations of an encoder per second of audio, in units of 1e9; a multiplication and an addition count as two.

    Those that torch's counter sees: Fourier transforms and a CPU's fused attention are left out, some 6% of a base-size model.
    """
    with FlopCounterMode(display=False) as counter:
        encoder.embed([_noise(encoder)])
    return counter.get_total_flops() / SECONDS / 1e9


def audio_seconds_per_second(encoder: AudioEncoder) -> float:
    """How much audio the encoder takes in a second: the median of a few passes over clips of SECONDS seconds of noise."""
    clips = [_noise(encoder)] * CLIPS["cpu" if encoder.device.type == "cpu" else "cuda"]
    encoder.embed(clips)
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        encoder.embed(clips)
        times.append(time.perf_counter() - start)
    return SECONDS * len(clips) / statistics.median(times)


def _noise(encoder: AudioEncoder) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(round(SECONDS * encoder.sampling_rate)).astype(np.float32) / 10


def small_encoder(device: str | torch.device = "cpu", dtype: str | None = None) -> AudioEncoder:
    """A wav2vec2 with the convolutions and two of the twelve layers of the base size, and random weights."""
    model = Wav2Vec2Model(Wav2Vec2Config(num_hidden_layers=2)).eval()
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=False)
    return AudioEncoder(Loaded(model, extractor), "small-wav2vec2", parse_dtype(dtype), device)


def machine_gflops(device: str | torch.device = "cpu", dtype: str | None = None) -> float:
    """Operations per second that the device does of the kind that encoders ask for, in units of 1e9.

    Examples:
        >>> machine_gflops() > 1
        True
    """
    encoder = small_encoder(device, dtype)
    return audio_seconds_per_second(encoder) * gflop_per_second(encoder)
