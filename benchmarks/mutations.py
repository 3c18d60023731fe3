"""Random damage to small audio files: nothing crashes or hangs, and what is accepted is as long as ffmpeg makes it.

    python benchmarks/mutations.py [--trials 1000] [--seed 0] [--ffmpeg PATH] [--keep FOLDER]

Each trial cuts, splices, swaps or extends a file, or changes bytes or sizes of its header, and lets the package decode it in another process,
which a crash would end and a hang would keep. What is accepted is decoded by ffmpeg too, which shares no code with libsndfile. Without an ffmpeg
(`pip install imageio-ffmpeg` brings one) only crashes, hangs and disagreements of `audio_info` and `decode` are looked for. Files that are
accepted with another length are kept in FOLDER; the exit status says whether there were any.
"""

import argparse
import collections
import io
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import soundfile

from arch_hf.audio import audio_info, decode, load_audio
from arch_hf.errors import AudioError

RATE, SECONDS = 16000, 0.7
SECONDS_TO_ANSWER = 20
WRITTEN = """WAV PCM_16, WAV PCM_24 stereo, WAV FLOAT, WAV ULAW, WAV PCM_U8, WAV IMA_ADPCM, WAV MS_ADPCM, WAV GSM610, WAV PCM_16 BIG, WAVEX PCM_16 stereo,
RF64 PCM_16, W64 PCM_16, AIFF PCM_16, AIFF ULAW, AU PCM_16, AU ULAW, CAF PCM_16, FLAC PCM_16, FLAC PCM_24 stereo, OGG VORBIS, OGG OPUS, MP3 MPEG_LAYER_III,
NIST PCM_16, VOC PCM_16, IRCAM PCM_16, SVX PCM_16, AVR PCM_16, PVF PCM_16, PAF PCM_16"""  # by libsndfile: container, subtype and what else
MADE_BY_FFMPEG = {
    "MP2": "-f mp2", "MP3 of variable bit rate": "-q:a 5 -f mp3", "MP3 without a header": "-q:a 5 -write_xing 0 -f mp3", "WAV to a pipe": "-f wav",
    "FLAC to a pipe": "-f flac", "AU to a pipe": "-f au", "CAF to a pipe": "-f caf", "Ogg Vorbis, ffmpeg's": "-c:a libvorbis -f ogg",
    "Ogg Opus, ffmpeg's": "-c:a libopus -f ogg", "Ogg FLAC": "-c:a flac -f ogg", "VOC, ffmpeg's": "-f voc",
}  # fmt: skip
# Frames of compressed audio may be counted with the encoder's delay or without, and the last block of ADPCM and GSM with its filling.
TOLERANCE = {"VORBIS": 512, "OPUS": 320, "MP3": 2400, "MP2": 1152, "IMA_ADPCM": 505, "MS_ADPCM": 500, "GSM610": 320}
SIZES = (0, 1, 5, 1000, RATE, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 2_000_000_000, 0xFFFFFFFF)


def originals(ffmpeg: str | None) -> dict[str, bytes]:
    """Name -> a whole file of 0.7 s."""
    random = np.random.default_rng(0)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(SECONDS * RATE)) / RATE)
    stereo = (tone[:, None] + 0.05 * random.standard_normal((len(tone), 2))).astype(np.float32)
    files = {}
    for name in WRITTEN.replace("\n", " ").split(", "):
        container, subtype, *rest = name.split()
        out, samples = io.BytesIO(), stereo if "stereo" in rest else stereo[:, 0]
        endian = "BIG" if "BIG" in rest else "FILE"
        soundfile.write(out, samples, RATE, format=container, subtype=subtype, endian=endian)
        files[name] = out.getvalue()
    if ffmpeg:
        source = [ffmpeg, "-v", "error", "-f", "f32le", "-ar", str(RATE), "-ac", "1", "-i", "-"]
        for name, flags in MADE_BY_FFMPEG.items():
            done = subprocess.run(
                [*source, *flags.split(), "-"], input=stereo[:, 0].tobytes(), capture_output=True, check=False
            )
            if done.stdout:  # it was built with that encoder
                files[name] = done.stdout
    return files


def mutated(content: bytes, others: list[bytes], random: np.random.Generator) -> tuple[bytes, str]:
    """The content with one kind of damage, and the kind."""
    changed = bytearray(content)
    first, last = sorted(random.integers(0, len(content), 2).tolist())
    how = random.integers(8)
    if how == 0:
        return content[: random.integers(1, len(content))], "cut"
    if how == 1:
        return content[:first] + content[last:], "a stretch removed"
    if how == 2:
        place = int(random.integers(len(content)))
        return content[:place] + content[first:last] + content[place:], "a stretch doubled"
    if how == 3:
        return content + others[random.integers(len(others))], "another file behind"
    if how == 4:
        return content[:64] + content[last:] + content[64:last], "parts swapped"
    if how == 5:
        place, order = int(random.integers(0, 60)), "little" if random.random() < 0.5 else "big"
        sizes = (*SIZES, len(content), 2 * len(content))
        changed[place : place + 4] = sizes[random.integers(len(sizes))].to_bytes(4, order)
        return bytes(changed), "a size in the header"
    for _ in range(random.integers(1, 6)):
        changed[random.integers(64 if how == 6 else len(changed))] = random.integers(256)
    return bytes(changed), "bytes of the header" if how == 6 else "bytes"


def ours(content: bytes) -> tuple[int, int, int] | str:
    """Samples that `decode` gives, that `audio_info` tells, and the rate; or why the clip is named."""
    try:
        samples, rate = decode(content)
    except AudioError as error:
        return str(error)
    try:
        load_audio(content, RATE, 0.2)
        frames = audio_info(content).frames
    except AudioError as error:
        return -1, len(samples), str(error)  # accepted by one, named by the other
    return len(samples), frames, rate


def theirs(ffmpeg: str, path: Path) -> int:
    """Samples that ffmpeg gives; 0 where it gives none."""
    command = [ffmpeg, "-v", "quiet", "-i", str(path), "-map", "0:a:0", "-af", "pan=mono|c0=c0", "-f", "f32le", "-"]
    return len(subprocess.run(command, capture_output=True, timeout=60, check=False).stdout) // 4


class Decoder:
    """`ours` in another process, which is started again when it crashes or hangs."""

    def __init__(self):
        self._pool = ProcessPoolExecutor(1)

    def __call__(self, content: bytes) -> tuple[int, int, int] | str | None:
        """None for a crash or a hang."""
        try:
            return self._pool.submit(ours, content).result(SECONDS_TO_ANSWER)
        except (BrokenProcessPool, TimeoutError):
            for process in (self._pool._processes or {}).values():
                process.kill()
            self._pool = ProcessPoolExecutor(1)
            return None

    def close(self) -> None:
        self._pool.shutdown()


def verdict(answer: tuple[int, int, int] | str | None, reference: int, name: str, how: str) -> str:
    if answer is None:
        return "CRASH OR HANG"
    if isinstance(answer, str):
        return "named"
    n_samples, told, _ = answer
    tolerance = next((samples for word, samples in TOLERANCE.items() if word in name.upper()), 16)
    if abs(told - n_samples) > tolerance:
        return "TWO LENGTHS"
    whole = round(SECONDS * RATE)
    if reference == 0:
        return "refused by ffmpeg, as long as it was" if abs(whole - n_samples) <= tolerance else "REFUSED BY FFMPEG"
    if abs(reference // (3 if "OPUS" in name.upper() else 1) - n_samples) <= tolerance:
        return "as ffmpeg"
    if "OGG" in name.upper() and how == "another file behind" and abs(2 * whole - n_samples) <= tolerance:
        return "a chain, whose second stream ffmpeg's program leaves out"
    return "DIFFERS"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"))
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    random, decoder = np.random.default_rng(args.seed), Decoder()
    whole = originals(args.ffmpeg)
    counts: collections.Counter = collections.Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        for trial in range(args.trials):
            name = list(whole)[trial % len(whole)]
            content, how = mutated(whole[name], list(whole.values()), random)
            path.write_bytes(content)
            start = time.perf_counter()
            answer = decoder(content)
            slowest = max(slowest, time.perf_counter() - start)
            reference = theirs(args.ffmpeg, path) if args.ffmpeg and isinstance(answer, tuple) else 0
            outcome = verdict(answer, reference, name, how)
            counts[outcome] += 1
            if outcome.isupper():
                print(f"{outcome}: trial {trial}, {name}, {how}: ours {answer}, ffmpeg's {reference}")
                if args.keep:
                    args.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, args.keep / f"{args.seed}_{trial}_{name.replace(' ', '_')}")
    decoder.close()
    print(f"{args.trials} mutations of {len(whole)} kinds of files: {dict(counts)}; slowest {slowest:.1f} s")
    return 1 if any(outcome.isupper() for outcome in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
