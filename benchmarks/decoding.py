"""How fast audio is decoded, against a plain way in the same run: soundfile's whole read, numpy's mean, soxr, then the cut.

    python benchmarks/decoding.py [--rounds 7] [--before FILE]     clips in memory, one core
    python benchmarks/decoding.py hours FOLDER             the main job on a day of FLAC (59 MB) against half a minute, in processes of their own

The plain way is what the package did before it looked at containers; `--before` times the `arch_hf/audio.py` of an older version instead. The first prints milliseconds of processor time per clip, alternating, the least of the
rounds, and checks that both give the same samples. The second writes two small datasets below FOLDER and prints processor time and
peak memory of `arch-hf evaluate`.
"""

import argparse
import importlib.util
import io
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr

from arch_hf.audio import load_audio

RATE = 16000
KINDS = (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"))
CLIPS = ((16000, 1, 5), (44100, 1, 5), (48000, 2, 10), (44100, 2, 30))  # Hz, channels, seconds


def plain_way(content: bytes) -> np.ndarray:
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        samples, rate = file.read(dtype="float32", always_2d=True), file.samplerate
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE, quality="HQ")


def clip(container: str, subtype: str, rate: int, channels: int, seconds: float) -> bytes:
    walk = np.random.default_rng(0).standard_normal((round(rate * seconds), channels)).cumsum(0)
    walk -= walk.mean(0)
    out = io.BytesIO()
    soundfile.write(out, (walk / abs(walk).max() / 2).astype(np.float32), rate, format=container, subtype=subtype)
    return out.getvalue()


def milliseconds(ways: dict, content: bytes, rounds: int) -> dict[str, float]:
    least = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way(content)
            least[name] = min(least[name], 1e3 * (time.process_time() - start))
    return least


def of_older_version(path: Path):
    """`load_audio` of an older `audio.py`, at the rate of all."""
    spec = importlib.util.spec_from_file_location("older_audio", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses ask for it
    spec.loader.exec_module(module)
    return lambda content: module.load_audio(content, RATE)


def decode(rounds: int, before: Path | None) -> None:
    plain = of_older_version(before) if before else plain_way
    ways = {
        "plain": plain,
        "whole": lambda content: load_audio(content, RATE),
        "first 5 s": lambda content: load_audio(content, RATE, 5.0),
    }
    print(f"{'container':<10} {'clip':<24} {'plain ms':>9} {'ours ms':>9} {'times':>6} {'first 5 s':>10}")
    for container, subtype in KINDS:
        for rate, channels, seconds in CLIPS:
            content = clip(container, subtype, rate, channels, seconds)
            expected = plain(content)
            if not np.array_equal(expected, load_audio(content, RATE)):
                sys.exit(f"{container} at {rate} Hz: other samples")
            if not np.array_equal(expected[: 5 * RATE], load_audio(content, RATE, 5.0)):
                sys.exit(f"{container} at {rate} Hz: other samples in the first 5 s")
            ms = milliseconds(ways, content, rounds)
            kind = f"{seconds} s, {rate} Hz, {'stereo' if channels == 2 else 'mono'}"
            times = ms["plain"] / ms["whole"]
            print(
                f"{container:<10} {kind:<24} {ms['plain']:>9.2f} {ms['whole']:>9.2f} {times:>6.2f} {ms['first 5 s']:>10.2f}"
            )


def dataset(folder: Path, hours: float) -> Path:
    for split, clips in (("train", 8), ("test", 6)):
        for label, hertz in (("low", 300), ("high", 900)):
            (folder / split / label).mkdir(parents=True)
            for i in range(clips):
                tone = 0.3 * np.sin(2 * np.pi * (hertz + 20 * i) * np.arange(RATE) / RATE)
                soundfile.write(folder / split / label / f"{i}.wav", tone, RATE)
    with soundfile.SoundFile(folder / "train/low/long.flac", "w", RATE, 1, "PCM_16") as file:
        block = np.zeros(RATE * 30, np.float32)
        block[::RATE] = 0.1
        for _ in range(round(hours * 120)):
            file.write(block)
    return folder


def hours(folder: Path) -> None:
    datasets = {name: dataset(folder / name, length) for name, length in (("half_a_minute", 1 / 120), ("a_day", 24))}
    for protocol in ("strict", "arch-v1"):
        for name, path in datasets.items():
            command = [sys.executable, __file__, "one", str(path), "--protocol", protocol]
            print(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]
                + f"  {protocol} {name}"
            )


def one(folder: Path, protocol: str) -> None:
    from arch_hf.cli import main

    start = time.process_time()
    flags = ["--output_dir", f"{folder}.{protocol}.results", "--cache_dir", f"{folder}.{protocol}.cache"]
    main(
        ["evaluate", "--model_id", "logmel", "--seeds", "1", "--protocol", protocol, "--datasets", str(folder), *flags]
    )
    peak, of_child = (
        resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"{time.process_time() - start:.1f} s of processor time, peak {peak:.0f} MB (of a child {of_child:.0f} MB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="decode", choices=["decode", "hours", "one"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--protocol", default="strict")
    args = parser.parse_args()
    if args.what == "decode":
        decode(args.rounds, args.before)
    elif args.what == "hours":
        hours(args.folder)
    else:
        one(args.folder, args.protocol)


if __name__ == "__main__":
    main()
