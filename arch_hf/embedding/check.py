"""Is an encoder fit to be evaluated? Its sizes, and what was measured: batch invariance, bfloat16, speed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from arch_hf.embedding.encoder import AudioEncoder
from arch_hf.embedding.timing import FrameGrid, receptive_field
from arch_hf.errors import UserError

INVARIANCE_LIMIT = 1e-4  # relative, float32
CLIP_SECONDS = (0.5, 5, 10)
COSINE_LIMIT = 0.999  # below it bfloat16 is advised against


@dataclass
class Check:
    """Lines to print, and what is wrong: nothing, if the encoder is ready."""

    lines: list[tuple[str, str]]
    problems: list[str]


def sample_clip(seconds: float, rate: int, seed: int) -> np.ndarray:
    """Noise with a gliding tone, float32 [samples]: something of a spectrum, the same on every machine."""
    rng = np.random.default_rng(seed)
    n = max(1, round(seconds * rate))
    phase = 2 * np.pi * np.cumsum(np.linspace(rng.uniform(80, 400), rng.uniform(400, 3000), n)) / rate
    noise, level = rng.standard_normal(n), rng.uniform(0.02, 0.4)
    return (level * (np.sin(phase) * rng.uniform(0.2, 1) + 0.3 * noise)).astype(np.float32)


def batch_invariance(encoder: AudioEncoder, lengths: list[int]) -> float:
    """Largest |in a batch - alone| / |alone| over clips of these lengths in samples, and over all hidden states.

    Examples:
        >>> batch_invariance(AudioEncoder.from_pretrained("logmel"), [400, 16000, 15999]) < 1e-4
        True
    """
    rate = encoder.sampling_rate
    clips = [sample_clip(n / rate, rate, seed) for seed, n in enumerate(lengths)]
    together = encoder.embed(clips, layers="all")
    alone = np.concatenate([encoder.embed([clip], layers="all") for clip in clips])
    return float((np.linalg.norm(together - alone, axis=-1) / np.linalg.norm(alone, axis=-1)).max())


def speed(encoder: AudioEncoder, seconds: float = 5, clips: int = 4) -> float:
    """Seconds of audio embedded per second."""
    batch = [sample_clip(seconds, encoder.sampling_rate, seed) for seed in range(clips)]
    encoder.embed(batch[:1])
    start = time.perf_counter()
    encoder.embed(batch)
    return seconds * clips / (time.perf_counter() - start)


def seconds_per_clip(encoder: AudioEncoder, seconds: float) -> float:
    """How long one clip takes by itself."""
    clip = [sample_clip(seconds, encoder.sampling_rate, 0)]
    encoder.embed(clip)
    start = time.perf_counter()
    encoder.embed(clip)
    return time.perf_counter() - start


def frames_of(encoder: AudioEncoder) -> list[tuple[str, str]]:
    """How the encoder cuts time: from the configuration where it says so, else measured."""
    inputs, rate, timing = encoder.inputs, encoder.sampling_rate, encoder.timing
    lines = []
    if inputs.window:
        lines.append(
            (
                "window",
                f"{inputs.window / rate:g} s, {encoder.n_frames(rate)} frames: a shorter clip costs as much, a longer one is taken in windows",
            )
        )
    if timing is None:
        lines.append(("hop", "none: one frame a clip"))
    else:
        lines.append(("hop", _hop(timing.final, rate)))
        if timing.between.hop != timing.final.hop:
            lines.append(("hop between layers", _hop(timing.between, rate)))
    field = receptive_field(encoder.tower.config)
    if field:
        lines.append(("receptive field", f"{field} samples, {1000 * field / rate:g} ms"))
    lines.append(("shortest clip", f"{inputs.minimum()} samples; shorter ones are zero-padded to it"))
    return lines


def _hop(grid: FrameGrid, rate: int) -> str:
    return f"{grid.hop:g} samples, {rate / grid.hop:g} frames a second"


def check_encoder(
    model_id: str, revision: str | None = None, device: str = "cpu", trust_remote_code: bool = False
) -> Check:
    """Load an encoder and measure it. Takes a minute for a base model on a CPU.

    Raises:
        UserError: if it cannot be loaded.

    Examples:
        >>> check_encoder("mfcc").problems
        []
    """
    options: dict[str, Any] = {"revision": revision, "device": device, "trust_remote_code": trust_remote_code}
    encoder = AudioEncoder.from_pretrained(model_id, **options)
    rate = encoder.sampling_rate
    lines = [
        ("model", encoder.model_id + (f" at {encoder.revision}" if encoder.revision else "")),
        ("weights", encoder.weights_sha256),
        ("encoder", f"{encoder.model_class}, {encoder.n_parameters:,} parameters"),
        ("input", f"{encoder.inputs.kind} at {rate} Hz"),
        ("embedding", f"{encoder.embedding_size} values"),
        ("hidden states", f"{encoder.n_layers}, layers 0 to {encoder.n_layers - 1}"),
        *frames_of(encoder),
    ]
    problems = []
    lengths = [400, rate // 10, rate, rate + 1, int(1.03 * rate), 2 * rate, int(3.7 * rate), int(9.9 * rate)]
    error = batch_invariance(encoder, lengths)
    lines.append(("batch invariance", f"{error:.1e} relative, over {len(lengths)} clips of 400 samples to 9.9 s"))
    if not error <= INVARIANCE_LIMIT:
        problems.append(f"embeddings depend on batch mates ({error:.1e}, at most {INVARIANCE_LIMIT:g} is allowed)")
    costs = ", ".join(f"{1000 * seconds_per_clip(encoder, n):.0f} ms for {n:g} s" for n in CLIP_SECONDS)
    lines.append(("a clip by itself", f"{costs} on {encoder.device.type}"))
    clips = [sample_clip(seconds, rate, 100 + i) for i, seconds in enumerate((0.5, 1, 2, 4))]
    full, fast = encoder.embed(clips), speed(encoder)
    lines.append(("speed, float32", f"{fast:.1f} s of audio per second on {encoder.device.type}"))
    lines.append(("bfloat16", _bfloat16(model_id, options, clips, full, fast)))
    return Check(lines, problems)


def _bfloat16(model_id: str, options: dict, clips: Sequence[np.ndarray], full: np.ndarray, fast: float) -> str:
    try:
        encoder = AudioEncoder.from_pretrained(model_id, dtype=torch.bfloat16, **options)
        short = encoder.embed(clips)
    except (UserError, RuntimeError) as error:
        return f"does not run ({str(error).splitlines()[0]}): use float32"
    cosine = float(((short * full).sum(1) / np.linalg.norm(short, axis=1) / np.linalg.norm(full, axis=1)).min())
    advice = "" if cosine >= COSINE_LIMIT else f"; below {COSINE_LIMIT}: use float32"
    return f"cosine to float32 {cosine:.6f} at least, speed x {speed(encoder) / fast:.2f}{advice}"
