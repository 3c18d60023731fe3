"""How fast `arch-hf prepare` is when the audio is tiny, and how much memory it takes: full-size trees, generated.

    python benchmarks/prepare.py FOLDER [--corpora fsd50k slurp audio_mnist]

Generates raw trees of 51,197, 72,396 and 30,000 clips of 0.02 s below FOLDER (about 1.5 GB on most file systems, removed at the
end), prepares each in a process of its own on one core and prints clips per second (and per second
of processor time, which a busy machine does not change), peak memory, and the ratio to the baseline: reading the same files and
writing their bytes into one file, which no preparation can beat.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from arch_hf.audio import encode_flac, encode_wav
from arch_hf.data import get_corpus


def sound(rate: int, encode) -> bytes:
    return encode(np.random.default_rng(0).uniform(-0.5, 0.5, rate // 50).astype(np.float32), rate)


def write(path: Path, content: bytes | str) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def fsd50k(root: Path) -> int:
    classes = get_corpus("fsd50k").classes
    audio = sound(44100, encode_wav)
    for folder in ("FSD50K.dev_audio", "FSD50K.eval_audio", "FSD50K.ground_truth"):
        (root / folder).mkdir(parents=True)
    tables = {"dev": ["fname,labels,mids,split"], "eval": ["fname,labels,mids"]}
    for i in range(51197):
        table = "dev" if i < 40966 else "eval"
        labels = ",".join(classes[(i * 7 + j * 31) % 200] for j in range(1 + i % 4))
        split = ("," + ("train" if i < 36796 else "val")) if table == "dev" else ""
        tables[table].append(f'{i},"{labels}","/m/0"{split}')
        write(root / f"FSD50K.{table}_audio/{i}.wav", audio)
    for table, lines in tables.items():
        write(root / f"FSD50K.ground_truth/{table}.csv", "\n".join(lines))
    return 51197


def slurp(root: Path) -> int:
    audio = sound(16000, encode_flac)
    (root / "slurp_real").mkdir(parents=True)
    scenarios = ("alarm", "music", "qa", "weather")
    clip = 0
    for name, size in (("train", 50628), ("devel", 8690), ("test", 13078)):
        lines = []
        while size:
            files = [f"audio-{clip + j}{'-headset' if j % 2 else ''}.flac" for j in range(min(6, size))]
            clip, size = clip + len(files), size - len(files)
            scenario, action = scenarios[clip % 4], f"action{clip % 15}"
            record = {"slurp_id": clip, "scenario": scenario, "action": action, "intent": f"{scenario}_{action}"}
            lines.append(json.dumps({**record, "recordings": [{"file": file} for file in files]}))
            for file in files:
                write(root / "slurp_real" / file, audio)
        write(root / f"{name}.jsonl", "\n".join(lines))
    return clip


def audio_mnist(root: Path) -> int:
    audio = sound(48000, encode_wav)
    for speaker in range(1, 61):
        (root / f"data/{speaker:02d}").mkdir(parents=True)
        for i in range(500):
            write(root / f"data/{speaker:02d}/{i // 50}_{speaker:02d}_{i % 50}.wav", audio)
    return 30000


BUILDERS = {"fsd50k": fsd50k, "slurp": slurp, "audio_mnist": audio_mnist}


def copy_bytes(raw: Path, target: Path) -> None:
    """The baseline: every audio file read, its bytes written."""
    with open(target, "wb") as out:
        for folder, _, files in os.walk(raw):
            for name in files:
                out.write(Path(folder, name).read_bytes())


def run_prepare(name: str, raw: Path, target: Path, queue) -> None:
    from arch_hf.data.official.prepare import prepare

    start, cpu = time.perf_counter(), time.process_time()
    prepared = prepare(get_corpus(name), raw, target)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    queue.put((prepared.clips, seconds, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpora", nargs="+", choices=list(BUILDERS), default=list(BUILDERS))
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    context = multiprocessing.get_context("spawn")
    print(
        f"{'corpus':<12} {'clips':>6} {'seconds':>8} {'clips/s':>8} {'clips/CPU s':>11} {'peak MB':>8} {'of the baseline':>16}"
    )
    for name in args.corpora:
        raw = args.folder / f"raw_{name}"
        try:
            clips = BUILDERS[name](raw)
            start = time.perf_counter()
            copy_bytes(raw, args.folder / "bytes")
            baseline = time.perf_counter() - start
            queue = context.Queue()
            process = context.Process(target=run_prepare, args=(name, raw, args.folder / name, queue))
            process.start()
            done, seconds, cpu, peak = queue.get(timeout=600)
            process.join()
            if done != clips:
                sys.exit(f"{name}: {done} of {clips} clips prepared")
            print(
                f"{name:<12} {clips:>6} {seconds:>8.1f} {clips / seconds:>8.0f} {clips / cpu:>11.0f} {peak:>8.0f} {seconds / baseline:>15.1f}x",
                flush=True,
            )
        finally:
            for leftover in (raw, args.folder / name):
                shutil.rmtree(leftover, ignore_errors=True)
            (args.folder / "bytes").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
