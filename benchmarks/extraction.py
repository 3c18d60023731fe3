"""How fast the extraction is, against what it could be and against a plain loop.

    python benchmarks/extraction.py peak  --clips 24 --seconds 5         # HuBERT-base: end to end / bare model / matrix peak
    python benchmarks/extraction.py decode --audio FOLDER                # decode + resample against soundfile alone
    python benchmarks/extraction.py loop --data arch/audio_mnist --model FOLDER   # against one clip at a time, once per fold
    python benchmarks/extraction.py scale --clips 1000 10000 100000      # time and memory by the number of clips

Each prints a ratio against a baseline that was measured in the same run. Models have random weights: speed does not depend on them.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile
import torch

from arch_hf.audio import encode_wav, load_audio
from arch_hf.data.clip_index import read_clip_index
from arch_hf.distributed import Ranks
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.corpus import embed_corpus
from arch_hf.embedding.fast.mixed_lengths import fold_weight_norm
from arch_hf.embedding.key import EmbedSettings

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def wav(seconds: float, seed: int, rate: int = 44100) -> bytes:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    return encode_wav(samples.astype(np.float32), rate)


def corpus(clips: list[bytes]):
    """As much of a CorpusData as the extraction looks at."""
    return SimpleNamespace(
        clips=SimpleNamespace(_fingerprint=str(id(clips))), table=clips, audio=lambda i: clips[i], order=None
    )  # fmt: skip


def end_to_end(encoder, data, padding: str, max_seconds: float) -> float:
    """Seconds from encoded audio to stored embeddings, the clip index included, with nothing in the cache."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        data.index = read_clip_index(data, Path(folder))
        settings = EmbedSettings(Path(folder), padding, max_seconds, "last")
        done = embed_corpus(encoder, data, settings, Ranks.launched()).work
        assert done.clips == len(set(data.index.digests)) and not done.failures
        return time.perf_counter() - start


def matrix_peak(dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """The best of a few square matrix products, in GFLOP/s."""
    a, b = torch.randn(2, size, size).to(dtype)
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def hubert_base(folder: Path) -> Path:
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    HubertModel(HubertConfig()).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder


def peak(args) -> None:
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModel

    rows = {}
    clips = [wav(args.seconds, seed) for seed in range(args.clips)]
    with tempfile.TemporaryDirectory() as folder:
        path = hubert_base(Path(folder))
        for name in args.dtypes:
            encoder = AudioEncoder.from_pretrained(str(path), dtype=DTYPES[name])
            waveform = torch.from_numpy(load_audio(clips[0], 16000))[None].to(DTYPES[name])
            model = AutoModel.from_pretrained(path, dtype=DTYPES[name]).eval()  # as transformers has it,
            fold_weight_norm(model)  # but for this, which the counter below cannot read
            with FlopCounterMode(display=False) as counter, torch.inference_mode():
                model(waveform)
            gflop = counter.get_total_flops() / 1e9
            bare, whole, top = [], [], []
            for _ in range(args.rounds):  # in turns, so that a drift of the machine's speed hits all alike
                top.append(matrix_peak(DTYPES[name]))
                start = time.perf_counter()
                with torch.inference_mode():
                    for _ in range(args.clips):
                        model(waveform)
                bare.append(args.clips / (time.perf_counter() - start))
                whole.append(args.clips / end_to_end(encoder, corpus(clips), "max_length", args.seconds))
            bare, whole, top = map(np.median, (bare, whole, top))
            rows[name] = whole
            print(
                f"{name}: end to end {whole:.2f} clips/s, bare model {bare:.2f} ({whole / bare:.0%}); "
                f"{whole * gflop:.0f} of {top:.0f} GFLOP/s of the matrix peak ({whole * gflop / top:.0%})"
            )
    if len(rows) == 2:
        print(f"bf16 / fp32: {rows['bf16'] / rows['fp32']:.2f}")


def decode(args) -> None:
    torch.set_num_threads(1)
    paths = sorted(p for p in Path(args.audio).rglob("*") if p.suffix.lower() in (".wav", ".flac", ".mp3", ".ogg"))
    contents = [path.read_bytes() for path in paths[: args.clips]]
    import io

    def alone(content):
        return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)

    ours, theirs = [], []
    for _ in range(args.rounds):
        for times, work in ((theirs, alone), (ours, lambda content: load_audio(content, 16000))):
            start = time.perf_counter()
            for content in contents:
                work(content)
            times.append(len(contents) / (time.perf_counter() - start))
    ours, theirs = np.median(ours), np.median(theirs)
    print(
        f"decode + mono + 16 kHz: {ours:.0f} clips/s a core; soundfile alone, native rate: {theirs:.0f} ({ours / theirs:.0%})"
    )


def plain_loop(model_dir: str, data, clips: list[int], seconds: float) -> float:
    """Clips per second of the loop that one would write first: one clip at a time through AutoModel, padded."""
    from transformers import AutoFeatureExtractor, AutoModel

    model, extractor = AutoModel.from_pretrained(model_dir).eval(), AutoFeatureExtractor.from_pretrained(model_dir)
    length = round(seconds * 16000)
    start = time.perf_counter()
    with torch.inference_mode():
        for i in clips:
            samples = load_audio(data.audio(i), 16000)[:length]
            inputs = extractor(
                [samples], sampling_rate=16000, padding="max_length", max_length=length, return_tensors="pt"
            )
            model(inputs.input_values).last_hidden_state.mean(1)
    return len(clips) / (time.perf_counter() - start)


def loop(args) -> None:
    from arch_hf.data import load_corpus
    from arch_hf.probing.protocols import get_protocol

    data = load_corpus(args.data)
    n_folds = len(data.corpus.splits)
    some = np.random.default_rng(0).choice(len(data.table), min(args.clips, len(data.table)), replace=False).tolist()
    settings = [(name, get_protocol(protocol)) for name in args.dtypes for protocol in ("arch-v1", "strict")]
    encoders = {name: AudioEncoder.from_pretrained(args.model, dtype=DTYPES[name]) for name in args.dtypes}
    plain, ours = [], {(name, protocol.name): [] for name, protocol in settings}
    for _ in range(args.rounds):  # in turns, so that a drift of the machine's speed hits all alike
        plain.append(plain_loop(args.model, data, some, data.corpus.max_seconds))
        for name, protocol in settings:
            wall = end_to_end(encoders[name], data, protocol.padding, protocol.max_seconds_for(data.corpus))
            ours[name, protocol.name].append(len(data.table) / wall)
    once = float(np.median(plain))
    print(
        f"plain loop: {once:.1f} clips/s on {len(some)} clips, so {once / n_folds:.1f} over {n_folds} folds (each embeds every clip again)"
    )
    for (name, protocol), speeds in ours.items():
        ratios = [speed / theirs * n_folds for speed, theirs in zip(speeds, plain, strict=True)]
        print(
            f"{protocol} {name}: {np.median(speeds):.1f} clips/s, {np.median(ratios):.1f} times the loop "
            f"({min(ratios):.1f} to {max(ratios):.1f} over {args.rounds} rounds)"
        )


def scale(args) -> None:
    """Distinct tiny clips through the log-mel baseline: what the engine itself costs."""
    encoder = AudioEncoder.from_pretrained("logmel")
    first = None
    for n_clips in args.clips:
        data = SimpleNamespace(
            clips=SimpleNamespace(_fingerprint=f"scale {n_clips}"),
            table=range(n_clips),
            audio=lambda i: wav(0.1, i, 16000),
        )
        wall = end_to_end(encoder, data, "none", 30.0)
        first = first or wall / n_clips
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{n_clips} clips: {wall:.1f} s, {n_clips / wall:.0f} clips/s, {wall / n_clips / first:.2f} times the first per clip, peak {memory:.2f} GB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(required=True)
    for function, clips in ((peak, 24), (decode, 200), (loop, 200)):
        sub = what.add_parser(function.__name__)
        sub.add_argument("--clips", type=int, default=clips)
        sub.add_argument("--rounds", type=int, default=3)
        sub.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["fp32"])
        sub.set_defaults(run=function)
        if function is peak:
            sub.add_argument("--seconds", type=float, default=5.0)
        if function is decode:
            sub.add_argument("--audio", required=True, help="a folder of audio files")
        if function is loop:
            sub.add_argument("--data", required=True, help="a prepared corpus, e.g. arch/audio_mnist")
            sub.add_argument("--model", required=True, help="folder of a small HuBERT")
    sub = what.add_parser("scale")
    sub.add_argument("--clips", type=int, nargs="+", default=[1000, 10000, 100000])
    sub.set_defaults(run=scale)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
