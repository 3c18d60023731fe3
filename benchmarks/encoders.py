"""How fast clips of mixed lengths are embedded, against clips of one length with as many seconds of audio in all.

    python benchmarks/encoders.py [--model_id ID ...] [--seconds 60] [--device cpu] [--dtype float32] [--audio FOLDER]

Prints, per model, the speed on mixed lengths over the speed on equal lengths (1.00 is full speed) for three ways to
batch: as the package does (close lengths together, ends of clips told to the model), same lengths only, and the common
way of padding everything to the longest. With --audio, a folder of sound files, also bfloat16 against float32: cosine
per clip and speed. Without --model_id: HuBERT-base (group norm) and the same with layer norm, with random weights.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from arch_hf.audio import load_audio
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding import encoder as encoder_module
from arch_hf.embedding.loading import Loaded, parse_dtype

LENGTHS = {"0.3 to 2 s": (0.3, 2), "1 to 10 s": (1, 10), "0.03 to 30 s": (0.03, 30)}


def make_encoder(name: str, dtype, device) -> AudioEncoder:
    random = {"hubert-base (group norm)": "group", "hubert-base (layer norm)": "layer"}
    if name not in random:
        return AudioEncoder.from_pretrained(name, dtype=dtype, device=device)
    torch.manual_seed(0)
    model = HubertModel(HubertConfig(feat_extract_norm=random[name])).eval()
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=random[name] == "layer")
    return AudioEncoder(Loaded(model, extractor, None), name, parse_dtype(dtype), device)


def clips(rate: int, low: float, high: float, total: float, equal: bool) -> list[np.ndarray]:
    """Noise: log-uniform lengths between `low` and `high` seconds, `total` in all; or as many of the mean length."""
    rng = np.random.default_rng(0)
    seconds = []
    while sum(seconds) < total:
        seconds.append(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    if equal:
        seconds = [sum(seconds) / len(seconds)] * len(seconds)
    return [rng.standard_normal(max(400, int(s * rate))).astype(np.float32) for s in seconds]


def interleaved(functions: dict, repeats: int = 3) -> dict[str, float]:
    """Median seconds of each function, called in turn so that a busy machine slows all of them alike."""
    times = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def in_this_way(encoder: AudioEncoder, waveforms, pass_seconds: float | None = None) -> None:
    """Embed as the package does, or with another price of a pass: 0 for same lengths only, huge for batches of 16."""
    saved = encoder_module._PASS_SECONDS, encoder_module._BATCH_SECONDS
    size = len(waveforms)
    try:
        if pass_seconds is not None:
            encoder_module._PASS_SECONDS = dict.fromkeys(saved[0], pass_seconds)
        if pass_seconds:
            encoder_module._BATCH_SECONDS, size = dict.fromkeys(saved[1], 1e9), 16
        for i in range(0, len(waveforms), size):
            encoder.embed(waveforms[i : i + size])
    finally:
        encoder_module._PASS_SECONDS, encoder_module._BATCH_SECONDS = saved


def mixed_lengths(encoder: AudioEncoder, total: float) -> None:
    for label, (low, high) in LENGTHS.items():
        equal, mixed = (clips(encoder.sampling_rate, low, high, total, e) for e in (True, False))
        in_this_way(encoder, mixed[:2])
        times = interleaved(
            {
                "equal": lambda e=equal: in_this_way(encoder, e),
                "package": lambda m=mixed: in_this_way(encoder, m),
                "same lengths only": lambda m=mixed: in_this_way(encoder, m, 0),
                "pad to the longest": lambda m=mixed: in_this_way(encoder, m, 1e9),
            }
        )
        audio, baseline = sum(map(len, mixed)) / encoder.sampling_rate, times.pop("equal")
        ratios = ", ".join(f"{way} {baseline / seconds:.2f}" for way, seconds in times.items())
        print(
            f"  {label:>12}, {len(mixed):3d} clips, equal {audio / baseline:6.1f} x real time; mixed: {ratios}",
            flush=True,
        )


def low_precision(name: str, device: str, folder: Path, limit: int) -> None:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".wav", ".flac", ".ogg", ".mp3"))
    files = files[:: max(1, len(files) // limit)][:limit]
    encoders = {dtype: make_encoder(name, dtype, device) for dtype in ("float32", "bfloat16")}
    waveforms = [load_audio(path, encoders["float32"].sampling_rate) for path in files]
    embedded = {dtype: encoder.embed(waveforms) for dtype, encoder in encoders.items()}
    times = interleaved({dtype: lambda e=e: e.embed(waveforms[:8]) for dtype, e in encoders.items()})
    a, b = embedded.values()
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    speed = times["float32"] / times["bfloat16"]
    print(f"  bfloat16 on {len(files)} clips: cosine to float32 {cosine.min():.6f} at least, speed x {speed:.2f}")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if device == "cpu" and flags and "avx512_bf16" not in flags and "amx_bf16" not in flags:
        print("  (this CPU has no instructions for bf16: the speed says nothing of one that has)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_id", nargs="+", default=["hubert-base (group norm)", "hubert-base (layer norm)"])
    parser.add_argument("--seconds", type=float, default=60, help="of audio per measurement")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--audio", type=Path, help="folder of sound files, for bfloat16 against float32")
    parser.add_argument("--limit", type=int, default=40, help="clips of it to use")
    args = parser.parse_args()
    for name in args.model_id:
        print(name, args.device, args.dtype, f"{torch.get_num_threads()} threads")
        mixed_lengths(make_encoder(name, args.dtype, args.device), args.seconds)
        if args.audio:
            low_precision(name, args.device, args.audio, args.limit)


if __name__ == "__main__":
    main()
