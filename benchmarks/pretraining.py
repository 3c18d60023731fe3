"""Does pretraining learn?

    python benchmarks/pretraining.py digits --recordings FOLDER --speakers NAME ... --output_dir CORPUS [--longest 0.5]
    python benchmarks/pretraining.py targets --output_dir OUT --recordings FOLDER ... [--seeds 0 1]
    python benchmarks/pretraining.py learn --audio FOLDER ... --valid FOLDER ... --corpus CORPUS --output_dir OUT [--seeds 0 1 2 3 4]

`digits` makes a corpus of the Free Spoken Digit Dataset's files ({digit}_{speaker}_{take}.wav): one fold per speaker, clips of at most
`--longest` seconds.

`learn` pretrains the tiny size on the folders with each objective and seed (HuBERT once more on each of `--layers` of the first model), and
scores each checkpoint and its own random initialisation with the main job's arch-v1 on a corpus whose clips and speakers are in none of the
folders. It prints the accuracies, what is held out, and the differences, and draws the curves into OUT/curves.svg. Started again, it goes on where
it stopped.

`targets` says how good the targets of each iteration are: how much the cluster of a frame says of what is spoken in it, as in the paper's section
V-C (there of phones, here of the digit and the fifth of the clip, in the digits' files), for MFCC and for the layers of the models that `learn` left in OUT.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from datasets import Audio, ClassLabel, Dataset, Features, Value
from matplotlib import pyplot
from sklearn.metrics import mutual_info_score, pairwise_distances_argmin

from arch_hf.audio import audio_info, load_audio
from arch_hf.evaluate import evaluate_model
from arch_hf.pretraining.export import save_encoder
from arch_hf.pretraining.hubert import HubertObjective
from arch_hf.pretraining.kmeans import fit_centroids
from arch_hf.pretraining.loop import pretrain
from arch_hf.pretraining.options import Options, recipe_of
from arch_hf.pretraining.recipes import SAMPLING_RATE
from arch_hf.pretraining.targets import LayerFrames, MfccFrames
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


FIFTHS = 5


def targets(args) -> None:
    """Mutual information of target and label, as a share of the label's entropy."""
    torch.set_num_threads(1)
    files = sorted(path for folder in args.recordings for path in folder.rglob("*.wav"))
    files = sorted(files, key=lambda path: audio_info(path).seconds)
    for seed in args.seeds:
        first = args.output_dir / f"hubert-seed{seed}"
        kinds = {"MFCC": MfccFrames()}
        for layer in args.layers:
            kinds[f"layer {layer} as it begins"] = LayerFrames(f"{first}-initial", layer, torch.device("cpu"))
            kinds[f"layer {layer} of the first iteration"] = LayerFrames(str(first), layer, torch.device("cpu"))
        for name, frames in kinds.items():
            found, labels = _labelled(frames, files)
            centroids = fit_centroids(found, args.clusters, seed, starts=5)
            clusters = pairwise_distances_argmin(found, centroids)
            share = mutual_info_score(labels, clusters) / mutual_info_score(labels, labels)
            print(f"seed {seed}, {name}: {share:.3f} ({len(labels)} frames)", flush=True)


def _labelled(frames, files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Frames of the files, ten of like length at a time, with their labels."""
    found, labels = [], []
    for at in range(0, len(files), 10):
        group = files[at : at + 10]
        waveforms = [load_audio(str(path), SAMPLING_RATE) for path in group]
        shortest = min(map(len, waveforms))
        with torch.no_grad():
            rows = frames(torch.from_numpy(np.stack([waveform[:shortest] for waveform in waveforms])))
        fifths = FIFTHS * np.arange(rows.shape[1]) // rows.shape[1]
        found.append(rows.flatten(0, 1).float().numpy())
        labels += [int(path.name[0]) * FIFTHS + fifths for path in group]
    return np.concatenate(found), np.concatenate(labels)


def save_initial(options: Options, folder: Path) -> Path:
    """The weights that a run of these options starts from."""
    recipe = recipe_of(options)
    set_seed(options.seed)
    objective = HubertObjective(recipe) if recipe.objective == "hubert" else Wav2Vec2Objective(recipe)
    save_encoder(objective, recipe, folder)
    return folder


def accuracy(model: Path, args) -> float:
    (result,) = evaluate_model(
        str(model), [args.corpus], output_dir=str(args.output_dir / "results"), cache_dir=str(args.output_dir / "cache")
    )
    return 100 * result.headline.mean


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
        valid=args.valid,
        valid_every=50,
        **more,
    )
    if not (out / "README.md").exists():  # the card is written last
        pretrain(run)
    initial = args.output_dir / f"{name}-seed{seed}-initial"
    if "targets_from" not in more and not (initial / "preprocessor_config.json").exists():
        save_initial(run, initial)
    return out


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def learn(args) -> None:
    rows = {}
    for seed in args.seeds:
        found = {}
        for name in args.objectives:
            folder = train(name, name, seed, args)
            found[f"{name} initial"] = accuracy(folder.with_name(f"{folder.name}-initial"), args)
            found[name] = accuracy(folder, args)
            for layer in args.layers if name == "hubert" else ():
                second = train(f"hubert2-layer{layer}", "hubert", seed, args, targets_from=str(folder), layer=layer)
                found[f"2nd, of layer {layer}"] = accuracy(second, args)
        rows[seed] = found
        print(json.dumps({"seed": seed, **found}), flush=True)
    plot(args)
    table("seed", rows)
    gains = {}
    for name in args.objectives:
        gains[f"{name} over its random initialisation"] = [f[name] - f[f"{name} initial"] for f in rows.values()]
    for layer in args.layers if "hubert" in args.objectives else ():
        gains[f"second iteration, of layer {layer}, over the first"] = [
            found[f"2nd, of layer {layer}"] - found["hubert"] for found in rows.values()
        ]
    for name, differences in gains.items():
        error = np.std(differences, ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else float("nan")
        told = ", ".join(f"{each:+.2f}" for each in differences)
        print(f"{name}: {np.mean(differences):+.2f} points, standard error {error:.2f} ({told})")
    held_out(args)


def table(first: str, rows: dict) -> None:
    names = list(next(iter(rows.values())))
    print(f"\n| {first} | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for seed, found in rows.items():
        print(f"| {seed} | {' | '.join(f'{found[name]:.2f}' for name in names)} |")
    print(f"| mean | {' | '.join(f'{np.mean([found[name] for found in rows.values()]):.2f}' for name in names)} |\n")


def runs(args) -> list[str]:
    return [*args.objectives, *(f"hubert2-layer{layer}" for layer in args.layers if "hubert" in args.objectives)]


def held_out(args) -> None:
    """Curves, averaged over the seeds: loss and accuracy in training and on held-out clips."""
    names = runs(args)
    print(f"\n| step | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for step in (step for step in args.steps if step <= args.max_steps):
        cells = []
        for name in names:
            values = []
            for seed in args.seeds:
                rows = rows_of(args.output_dir / f"{name}-seed{seed}")
                trained = next(row for row in rows if row["step"] == step and "loss" in row)
                valid = next(row for row in rows if row["step"] == step and "valid_loss" in row)
                values.append([trained["loss"], valid["valid_loss"], trained["accuracy"], valid["valid_accuracy"]])
            loss, valid_loss, correct, valid_correct = np.mean(values, axis=0)
            cells.append(f"{loss:.2f} / {valid_loss:.2f}, {100 * correct:.0f} / {100 * valid_correct:.0f} %")
        print(f"| {step} | {' | '.join(cells)} |")


def plot(args) -> None:
    """Loss and accuracy over steps of every run, one line a seed, dashed on held-out clips."""
    names = runs(args)
    figure, axes = pyplot.subplots(2, len(names), figsize=(3 * len(names), 4), layout="constrained", squeeze=False)
    for column, name in enumerate(names):
        for seed in args.seeds:
            rows = rows_of(args.output_dir / f"{name}-seed{seed}")
            for axis, value in zip(axes[:, column], ("loss", "accuracy"), strict=True):
                for prefix, style in (("", "-"), ("valid_", "--")):
                    points = [(row["step"], row[prefix + value]) for row in rows if prefix + value in row]
                    axis.plot(*zip(*points, strict=True), style, linewidth=0.8, color=f"C{seed}")
                axis.set(ylabel=value)
        axes[0, column].set(title=name)
        axes[1, column].set(xlabel="step")
    figure.savefig(args.output_dir / "curves.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(required=True)
    corpus = modes.add_parser("digits")
    corpus.add_argument("--recordings", type=Path, required=True)
    corpus.add_argument("--speakers", nargs="+", required=True)
    corpus.add_argument("--longest", type=float, default=0.5)
    corpus.add_argument("--output_dir", type=Path, required=True)
    corpus.set_defaults(run=digits)
    quality = modes.add_parser("targets")
    quality.add_argument("--output_dir", type=Path, required=True, help="that of learn")
    quality.add_argument("--recordings", type=Path, nargs="+", required=True)
    quality.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    quality.add_argument("--layers", type=int, nargs="+", default=[1, 2])
    quality.add_argument("--clusters", type=int, default=50)
    quality.set_defaults(run=targets)
    learning = modes.add_parser("learn")
    learning.add_argument("--audio", nargs="+", required=True, help="folders to pretrain on")
    learning.add_argument("--valid", nargs="+", required=True, help="folders that are held out")
    learning.add_argument("--corpus", required=True, help="a prepared corpus without any of their clips and speakers")
    learning.add_argument("--output_dir", type=Path, required=True)
    learning.add_argument("--objectives", nargs="+", default=["wav2vec2", "hubert"])
    learning.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    learning.add_argument("--max_steps", type=int, default=800)
    learning.add_argument(
        "--layers", type=int, nargs="+", default=[1, 2], help="whose output the second iteration clusters"
    )
    learning.add_argument(
        "--steps", type=int, nargs="+", default=[50, 100, 200, 400, 600, 800], help="lines of the table of curves"
    )
    learning.add_argument("--workers", type=int, default=0)
    learning.add_argument("--set", nargs="+", default=[], dest="overrides")
    learning.set_defaults(run=learn)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
