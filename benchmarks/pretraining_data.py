"""How fast audio becomes shards and shards become micro-batches, and what AudioSet would be on 8 and 32 GPUs.

    python benchmarks/pretraining_data.py make --audio FOLDER --output_dir PILE [--clips 200]
    python benchmarks/pretraining_data.py prepare --pile PILE --output_dir OUT
    python benchmarks/pretraining_data.py killed --pile PILE --output_dir OUT [--kills 10]
    python benchmarks/pretraining_data.py read --shards OUT
    python benchmarks/pretraining_data.py plan [--clips 1800000]

`make` writes clips as AudioSet has them, 10 s of 48 kHz stereo FLAC, from the recordings in a folder. `prepare` prepares them in one process
and compares every sample with a plain decoding and resampling. `killed` does so again and again with SIGKILL at random instants, and compares
the shards. `read` reads shards in order, and as training does. `plan` plans epochs of as many clips as AudioSet has, none of them real.

Rates are over processor time, so that other work on the machine hardly moves them.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from arch_hf.audio import load_audio, resample
from arch_hf.embedding.workers import keep_freed_memory
from arch_hf.pretraining import shards
from arch_hf.pretraining.batching import Batches, Plan
from arch_hf.pretraining.clips import Clip, Clips, fingerprint_of, write_index
from arch_hf.pretraining.estimate import GPUS, gpu_hours, measure_cost, memory_of, simulate
from arch_hf.pretraining.prepare_audio import Source, prepare_audio
from arch_hf.pretraining.recipes import get_recipe

RATE, SECONDS = 48_000, 10


def make(args) -> None:
    """Recordings end to end, from two places at once for two channels."""
    rng = np.random.default_rng(0)
    files = sorted(path for path in args.audio.rglob("*.wav"))
    sounds = [resample(*_mono(path), RATE) for path in rng.permutation(files)[:120]]
    tape = np.concatenate(sounds)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for number in range(args.clips):
        left, right = rng.integers(0, len(tape) - RATE * SECONDS, size=2)
        stereo = np.stack([tape[at : at + RATE * SECONDS] for at in (left, right)], axis=1)
        soundfile.write(args.output_dir / f"{number:05d}.flac", stereo, RATE, subtype="PCM_16")
    size = sum(path.stat().st_size for path in args.output_dir.glob("*.flac"))
    print(f"{args.clips} clips of {SECONDS} s, {RATE} Hz, stereo: {size / args.clips / 1e6:.2f} MB each")


def _mono(path: Path) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return samples.mean(axis=1), rate


def prepare(args) -> None:
    shutil.rmtree(args.output_dir, ignore_errors=True)
    started = time.process_time()
    manifest = prepare_audio(Source((str(args.pile),)), args.output_dir, workers=1)
    spent = time.process_time() - started
    clips = Clips([args.output_dir])
    names = {path.name: path for path in args.pile.iterdir()}
    wrong, plain = 0, 0.0
    for number in range(len(clips)):
        clip = clips[number]
        started = time.process_time()
        samples = load_audio(str(names[clip.name]), 16_000)
        plain += time.process_time() - started
        rounded = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.float32) / 32768
        wrong += int((shards.decode(clips.read(clip), clip) != rounded).sum())
    per_second = manifest["bytes"] / manifest["hours"] / 3600
    print(
        f"{len(clips) / spent:.1f} clips/s a core ({len(clips) * SECONDS / spent:.0f} s of audio a second); decoding and resampling alone {len(clips) / plain:.1f}"
    )
    print(
        f"{wrong} of {int(clips.samples.sum())} samples differ from a plain decoding and resampling, rounded to 16 bits"
    )
    print(
        f"{per_second / 1e3:.1f} kB a second of audio: {per_second * 1.77e6 * 10 / 1e12:.2f} TB for 1.77 M clips of 10 s; {1.77e6 / (len(clips) / spent) / 3600:.1f} core-hours"
    )


def killed(args) -> None:
    expected = {path.name: path.read_bytes() for path in sorted(args.output_dir.iterdir())}
    rng = random.Random(args.seed)
    code = "import sys; from arch_hf.cli import main; sys.exit(main(sys.argv[1:]))"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [
            sys.executable,
            "-c",
            code,
            "prepare-audio",
            str(args.pile),
            "--output_dir",
            str(out),
            "--workers",
            "2",
        ]
        kills, starts, half_written = 0, 0, 0
        while True:
            starts += 1
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            if kills == args.kills:
                code = process.wait()
                break
            before = len(list(out.glob("*.json")))
            while process.poll() is None and len(list(out.glob("*.json"))) == before and not list(out.glob(".shard*")):
                time.sleep(0.02)  # until it works on a shard
            time.sleep(rng.uniform(0, args.longest))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                half_written += bool(list(out.glob(".shard*")))
        found = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
    same = found == expected
    print(
        f"killed {kills} times in {starts} starts, {half_written} of them in the middle of a shard; exit status {code}; the same files: {same}"
    )


def read(args) -> None:
    keep_freed_memory()  # as a decoding process does
    clips = Clips([args.shards])
    seconds = clips.samples.sum() / 16_000

    def in_order() -> float:
        for number in range(len(clips)):
            clip = clips[number]
            shards.decode(clips.read(clip), clip)
        return seconds

    def as_training(objective: str) -> float:
        recipe = get_recipe(objective, "base")
        batches, heard = Batches(clips, recipe), 0.0
        for planned in Plan(clips, recipe, 0):
            if planned.key[1] > 0:
                return heard
            heard += batches[planned].seconds
        return heard

    for name, work in {
        "in order": in_order,
        "shuffled, cropped and masked for HuBERT": lambda: as_training("hubert"),
        "and with negatives, for wav2vec 2.0": lambda: as_training("wav2vec2"),
    }.items():
        rates = []
        for _ in range(args.rounds):
            started = time.process_time()
            heard = work()
            rates.append(heard / (time.process_time() - started))
        print(f"{name}: {np.median(rates):.0f} s of audio a second and core (best {max(rates):.0f})")


def plan(args) -> None:
    """AudioSet's lengths, as far as they are known: nearly all clips have 10 s, the others less."""
    rng = np.random.default_rng(0)
    samples = np.full(args.clips, 160_000)
    short = rng.random(args.clips) < args.shorter
    samples[short] = (rng.uniform(1, 10, size=int(short.sum())) * 16_000).astype(int)
    with tempfile.TemporaryDirectory() as folder:
        rows = (Clip(f"{i:011d}", f"shard-{i // 2000:05d}.tar", 0, 1, int(n)) for i, n in enumerate(samples))
        marks = ((str(i), int(n)) for i, n in enumerate(samples))
        write_index(Path(folder) / "clips.arrow", rows, fingerprint_of(marks))
        print(
            f"{args.clips} clips, {samples.sum() / 16_000 / 3600:.0f} h; an index of {(Path(folder) / 'clips.arrow').stat().st_size / 1e6:.0f} MB"
        )
        _memory(folder)
        print(
            "| recipe | steps | epochs | micro-batches | cropped away | GB on a GPU | GPU-hours, h100 at 40 % | 8 GPUs | 32 GPUs | read by 8 | by 32 |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|---|")
        for objective, size, later in [
            ("wav2vec2", "base", 0),
            ("hubert", "base", 0),
            ("hubert", "base", 1),
            ("wav2vec2", "large", 0),
            ("hubert", "large", 1),
        ]:
            recipe = get_recipe(objective, size, later_iteration=bool(later))
            cost, clips = measure_cost(recipe), Clips([Path(folder)])
            started = time.process_time()
            schedule = simulate(clips, recipe, 0, cost)
            spent = time.process_time() - started
            hours, _ = gpu_hours(recipe, schedule, GPUS["h100"])
            rate = recipe.max_steps * recipe.micro_batches * schedule.mean_seconds / hours / 3600
            epochs = recipe.max_steps * recipe.micro_batches / schedule.micro_batches
            name = f"{objective} {size}" + (", later" if later else "")
            print(
                f"| {name} | {recipe.max_steps:,} of {recipe.micro_batches} × {schedule.mean_seconds:.1f} s | {epochs:.1f} | {schedule.micro_batches:,} | "
                f"{100 * schedule.cropped:.2f} % | {memory_of(recipe, schedule, cost):.1f} | {hours:,.0f} | {hours / 8:.1f} h | {hours / 32:.1f} h | "
                f"{rate * 8 * args.bytes / 1e9:.2f} GB/s | {rate * 32 * args.bytes / 1e9:.2f} GB/s |",
                flush=True,
            )
        print(f"an epoch is planned in {spent:.1f} s of one core")


def _memory(folder: str) -> None:
    """What the plan costs a process: each of eight, forked, goes through a tenth of an epoch."""
    readers = []
    for rank in range(8):
        out, into = os.pipe()
        if (child := os.fork()) == 0:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            clips = Clips([Path(folder)])
            recipe = get_recipe("hubert", "base")
            taken = 0
            for planned in Plan(clips, recipe, 0, rank, 8):
                taken += len(planned.clips)
                if taken * 8 > len(clips) / 10:
                    break
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            os.write(into, f"{grown / 1e3:.0f}".encode())
            os._exit(0)
        os.close(into)
        readers.append((child, out))
    grown = []
    for child, out in readers:
        os.waitpid(child, 0)
        grown.append(os.read(out, 100).decode())
    print(f"memory that planning adds to each of 8 ranks, the mapped index included: {', '.join(grown)} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(required=True)
    for work in (make, prepare, killed, read, plan):
        mode = modes.add_parser(work.__name__)
        mode.set_defaults(run=work)
        if work is make:
            mode.add_argument("--audio", type=Path, required=True)
        if work in (prepare, killed):
            mode.add_argument("--pile", type=Path, required=True)
        if work in (make, prepare, killed):
            mode.add_argument("--output_dir", type=Path, required=True)
        if work in (make, plan):
            mode.add_argument("--clips", type=int, default=200 if work is make else 1_800_000)
    modes.choices["killed"].add_argument("--kills", type=int, default=10)
    modes.choices["killed"].add_argument("--longest", type=float, default=1.5, help="seconds into a shard, at most")
    modes.choices["killed"].add_argument("--seed", type=int, default=0)
    modes.choices["read"].add_argument("--shards", type=Path, required=True)
    modes.choices["read"].add_argument("--rounds", type=int, default=5)
    modes.choices["plan"].add_argument("--shorter", type=float, default=0.04, help="the share of clips below 10 s")
    modes.choices["plan"].add_argument("--bytes", type=float, default=18_700, help="of a second of prepared audio")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
