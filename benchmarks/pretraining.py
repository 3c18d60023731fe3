"""Does pretraining learn, and how fast does it run?

    python benchmarks/pretraining.py digits --recordings FOLDER --speakers NAME ... --output_dir CORPUS [--longest 0.5]
    python benchmarks/pretraining.py learn --audio FOLDER ... --corpus CORPUS --output_dir OUT [--seeds 0 1 2] [--max_steps N]
    python benchmarks/pretraining.py speed [--sizes tiny base] [--seconds 20]

`digits` makes a corpus of the Free Spoken Digit Dataset's files ({digit}_{speaker}_{take}.wav): one fold per speaker, clips of at most
`--longest` seconds.

`learn` pretrains the tiny size on the folders with each objective and seed (HuBERT twice, the second time on a layer of the first
model), and scores each checkpoint and its own random initialisation with the main job's arch-v1 on a corpus whose clips and
speakers are in none of the folders; it prints the accuracies and their differences, and draws the curves into OUT/curves.svg. Started again, it goes on where it stopped.

`speed` prints hours of audio per hour of a training step, and the share of the device's matrix product peak, measured in the same run.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from datasets import Audio, ClassLabel, Dataset, Features, Value
from matplotlib import pyplot
from torch.utils.flop_counter import FlopCounterMode

from arch_hf.audio import audio_info
from arch_hf.evaluate import evaluate_model
from arch_hf.pretraining.hubert import HubertObjective
from arch_hf.pretraining.loop import pretrain
from arch_hf.pretraining.masking import sample_negatives, span_mask
from arch_hf.pretraining.preparation import Options, recipe_of
from arch_hf.pretraining.recipes import SAMPLING_RATE, feature_extractor, frames_of, get_recipe
from arch_hf.pretraining.targets import normalise
from arch_hf.pretraining.wav2vec2 import Wav2Vec2Objective


def digits(args) -> None:
    """Folds are speakers, so no speaker is in both training and test."""
    rows = []
    for path in sorted(args.recordings.rglob("*.wav")):
        digit, speaker, _ = path.stem.split("_")
        if speaker in args.speakers and audio_info(path).seconds <= args.longest:
            rows.append((path.stem, {"bytes": path.read_bytes(), "path": path.name}, digit, speaker))
    features = Features(
        {
            "clip_id": Value("string"),
            "audio": {"bytes": Value("binary"), "path": Value("string")},
            "label": ClassLabel(names=[str(digit) for digit in range(10)]),
            "group": Value("string"),
        }
    )
    for fold, speaker in enumerate(args.speakers, start=1):
        part = [dict(zip(features, row, strict=True)) for row in rows if row[3] == speaker]
        (args.output_dir / "data").mkdir(parents=True, exist_ok=True)
        part = Dataset.from_list(part, features=features).cast_column("audio", Audio(decode=False))
        part.to_parquet(args.output_dir / f"data/fold_{fold}-00000-of-00001.parquet")
        print(f"fold_{fold}: speaker {speaker}, {len(part)} clips")


def objective_of(recipe):
    return HubertObjective(recipe, recipe.clusters) if recipe.objective == "hubert" else Wav2Vec2Objective(recipe)


def save_initial(options: Options, folder: Path) -> Path:
    """The weights that a run of these options starts from."""
    recipe = recipe_of(options)
    set_seed(options.seed)
    objective_of(recipe).model.save_pretrained(folder)
    feature_extractor(recipe).save_pretrained(folder)
    return folder


def accuracy(model: Path, args) -> float:
    result, *_ = evaluate_model(
        str(model), [args.corpus], output_dir=str(args.output_dir / "results"), cache_dir=str(args.output_dir / "cache")
    )
    return 100 * result["metrics"]["accuracy"]["mean"]


def train(name: str, objective: str, seed: int, args, **more) -> Path:
    out = args.output_dir / f"{name}-seed{seed}"
    run = Options(
        objective,
        "tiny",
        args.audio,
        out,
        seed=seed,
        max_steps=args.max_steps,
        resume=True,
        overrides=tuple(args.overrides),
        workers=args.workers,
        save_every=100,
        keep_checkpoints=1,
        **more,
    )
    if not (out / "README.md").exists():  # the card is written last
        pretrain(run)
    initial = args.output_dir / f"{name}-seed{seed}-initial"
    if "targets_from" not in more and not (initial / "preprocessor_config.json").exists():
        save_initial(run, initial)
    return out


def learn(args) -> None:
    rows = {}
    for seed in args.seeds:
        found = {}
        for name in args.objectives:
            folder = train(name, name, seed, args)
            found[f"{name} initial"] = accuracy(folder.with_name(f"{folder.name}-initial"), args)
            found[name] = accuracy(folder, args)
            if name == "hubert":
                second = train("hubert2", "hubert", seed, args, targets_from=str(folder), layer=args.layer)
                found["hubert second iteration"] = accuracy(second, args)
        rows[seed] = found
        print(json.dumps({"seed": seed, **found}), flush=True)
    plot(args)
    names = list(next(iter(rows.values())))
    print(f"\n| seed | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for seed, found in rows.items():
        print(f"| {seed} | {' | '.join(f'{found[name]:.2f}' for name in names)} |")
    print(f"| mean | {' | '.join(f'{np.mean([found[name] for found in rows.values()]):.2f}' for name in names)} |")
    for name in args.objectives:
        gains = [found[name] - found[f"{name} initial"] for found in rows.values()]
        print(
            f"{name}: {np.mean(gains):+.2f} points over its random initialisation ({min(gains):+.2f} to {max(gains):+.2f})"
        )
    if "hubert second iteration" in names:
        gains = [found["hubert second iteration"] - found["hubert"] for found in rows.values()]
        print(f"second iteration: {np.mean(gains):+.2f} points over the first ({min(gains):+.2f} to {max(gains):+.2f})")


def plot(args) -> None:
    """Loss and accuracy over steps of every run, one line a seed."""
    names = [*args.objectives, *(["hubert2"] if "hubert" in args.objectives else [])]
    figure, axes = pyplot.subplots(2, len(names), figsize=(3 * len(names), 4), layout="constrained", squeeze=False)
    for column, name in enumerate(names):
        for seed in args.seeds:
            lines = (args.output_dir / f"{name}-seed{seed}" / "metrics.jsonl").read_text().splitlines()
            rows = [json.loads(line) for line in lines]
            for axis, value in zip(axes[:, column], ("loss", "accuracy"), strict=True):
                axis.plot(
                    [row["step"] for row in rows], [row[value] for row in rows], linewidth=0.8, label=f"seed {seed}"
                )
                axis.set(ylabel=value)
        axes[0, column].set(title={"hubert2": "hubert, second iteration"}.get(name, name))
        axes[1, column].set(xlabel="step")
    axes[0, 0].legend(fontsize="small")
    figure.savefig(args.output_dir / "curves.svg", metadata={"Date": None})


def speed(args) -> None:
    device = torch.device(args.device)
    dtype = torch.bfloat16 if args.bf16 else torch.float32

    def measure(function, repeats=3) -> float:
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return float(np.median(times[1:]))

    side = 8192 if device.type == "cuda" else 2048
    square = torch.randn(side, side, device=device, dtype=dtype)
    peak = 2 * side**3 / measure(lambda: square @ square)
    print(f"matrix product peak: {peak / 1e9:.0f} GFLOP/s ({device}, {dtype}, {torch.get_num_threads()} threads)")
    print("| objective | size | hours of audio per hour | GFLOP/s | share of the peak |\n|---|---|---|---|---|")
    for size in args.sizes:
        for name in ("wav2vec2", "hubert"):
            recipe = get_recipe(name, size)
            model = objective_of(recipe).to(device).train()
            clips = max(1, int(args.seconds / recipe.crop_seconds))
            waveforms = torch.randn(clips, int(recipe.crop_seconds * SAMPLING_RATE), device=device)
            generator = np.random.default_rng(0)
            mask = span_mask(generator, clips, frames_of(waveforms.shape[1]), recipe.mask_start, recipe.mask_length)
            goal = (
                sample_negatives(generator, mask, recipe.negatives)
                if name == "wav2vec2"
                else np.zeros(mask.shape, np.int64)
            )
            goal, mask = torch.from_numpy(goal).to(device), torch.from_numpy(mask).to(device)

            def step(model=model, waveforms=waveforms, mask=mask, goal=goal):
                with torch.autocast(device.type, dtype, enabled=args.bf16):
                    loss = model(normalise(waveforms), mask, goal)["objective"]
                loss.backward()
                model.zero_grad()

            with FlopCounterMode(display=False) as counter:
                step()
            seconds = measure(step)
            rate = counter.get_total_flops() / seconds
            hours = waveforms.numel() / SAMPLING_RATE / seconds
            print(f"| {name} | {size} | {hours:.1f} | {rate / 1e9:.1f} | {100 * rate / peak:.0f}% |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(required=True)
    corpus = modes.add_parser("digits")
    corpus.add_argument("--recordings", type=Path, required=True)
    corpus.add_argument("--speakers", nargs="+", required=True)
    corpus.add_argument("--longest", type=float, default=0.5)
    corpus.add_argument("--output_dir", type=Path, required=True)
    corpus.set_defaults(run=digits)
    learning = modes.add_parser("learn")
    learning.add_argument("--audio", nargs="+", required=True, help="folders to pretrain on")
    learning.add_argument(
        "--corpus", required=True, help="a prepared corpus that shares no clip and no speaker with them"
    )
    learning.add_argument("--output_dir", type=Path, required=True)
    learning.add_argument("--objectives", nargs="+", default=["wav2vec2", "hubert"])
    learning.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    learning.add_argument("--max_steps", type=int)
    learning.add_argument(
        "--layer", type=int, default=2, help="whose output is clustered for HuBERT's second iteration"
    )
    learning.add_argument("--workers", type=int, default=0)
    learning.add_argument("--set", nargs="+", default=[], dest="overrides")
    learning.set_defaults(run=learn)
    pace = modes.add_parser("speed")
    pace.add_argument("--sizes", nargs="+", default=["tiny", "base"])
    pace.add_argument("--seconds", type=float, default=20, help="of audio per micro-batch")
    pace.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    pace.add_argument("--bf16", action="store_true")
    pace.set_defaults(run=speed)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
