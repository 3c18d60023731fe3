"""What a training step costs, and how it compares with transformers' own pretraining example.

    python benchmarks/pretraining_step.py side_by_side --audio FOLDER [--rounds 5] [--steps 40] [--seeds 3] [--learn 300]
    python benchmarks/pretraining_step.py profile [--size tiny]
    python benchmarks/pretraining_step.py memory [--sizes tiny base]
    python benchmarks/pretraining_step.py speed [--sizes tiny base] [--seconds 20] [--device cuda --bf16]

`side_by_side` trains the same wav2vec 2.0 (tiny) on the same clips for as many steps with `pretrain` and with a loop that does what
transformers' run_wav2vec2_pretraining_no_trainer.py does: clips decoded and normalised beforehand, its collator's padding, masks and
negatives, `Wav2Vec2ForPreTraining`'s own loss, gradients divided by the masked frames, AdamW, a linear schedule. It prints processor time
a step, the loss over several seeds, and the loss of both on one and the same batch.

`profile` prints where a step's time goes. `memory` compares the estimate of `--dry_run` with what a step takes. `speed` prints hours of audio
per hour of a training step, and the share of the device's matrix product peak, measured in the same run.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Dataset
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2ForPreTraining, get_linear_schedule_with_warmup
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

from arch_hf.audio import load_audio
from arch_hf.pretraining.architecture import feature_extractor, frames_of, wav2vec2_config
from arch_hf.pretraining.estimate import measure_cost
from arch_hf.pretraining.hubert import HubertObjective
from arch_hf.pretraining.loop import pretrain
from arch_hf.pretraining.masking import sample_negatives, span_mask
from arch_hf.pretraining.options import Options, recipe_of
from arch_hf.pretraining.recipes import SAMPLING_RATE, get_recipe
from arch_hf.pretraining.records import read_rows
from arch_hf.pretraining.targets import normalise
from arch_hf.pretraining.wav2vec2 import Wav2Vec2Objective

CLIP_SECONDS, BATCH = 2, 4
# One micro-batch a step: where it accumulates gradients, the example divides all that is accumulated by each micro-batch's masked frames.
SETTINGS = (
    "micro_batches=1",
    "max_gradient_norm=0",
    f"crop_seconds={CLIP_SECONDS}",
    f"micro_batch_seconds={CLIP_SECONDS * BATCH}",
)


def cut_clips(audio: Path, folder: Path, number: int) -> Path:
    """Clips of equal length, so that both loops hear the very same samples."""
    files, written = sorted(audio.rglob("*.wav")), 0
    for path in np.random.default_rng(0).permutation(files):
        samples = load_audio(str(path), SAMPLING_RATE)
        for at in range(0, len(samples) - CLIP_SECONDS * SAMPLING_RATE + 1, CLIP_SECONDS * SAMPLING_RATE):
            soundfile.write(
                folder / f"{written:05d}.wav", samples[at : at + CLIP_SECONDS * SAMPLING_RATE], SAMPLING_RATE
            )
            written += 1
            if written == number:
                return folder
    raise SystemExit(f"{audio} holds {written} clips of {CLIP_SECONDS} s only")


def ours(folder: Path, out: Path, seed: int, steps: int) -> list[float]:
    run = Options(
        "wav2vec2",
        "tiny",
        [str(folder)],
        out,
        seed=seed,
        max_steps=steps,
        overrides=SETTINGS,
        workers=0,
        log_every=1,
        save_every=10**9,
    )
    return [row["loss"] for row in read_rows(pretrain(run) / "metrics.jsonl")]


def prepare_example(folder: Path, recipe) -> Dataset:
    """The clips as the example maps them beforehand: decoded, normalised, lists of numbers."""
    extractor = feature_extractor(recipe)
    rows = []
    for path in sorted(folder.glob("*.wav")):
        samples = load_audio(str(path), SAMPLING_RATE)
        rows.append({"input_values": extractor(samples, sampling_rate=SAMPLING_RATE).input_values[0]})
    return Dataset.from_list(rows)


def example(clips: Dataset, seed: int, steps: int) -> list[float]:
    """The example's way, with the recipe's numbers."""
    recipe = recipe_of(Options("wav2vec2", "tiny", [], Path(), max_steps=steps, overrides=SETTINGS))
    config = wav2vec2_config(recipe)
    config.mask_time_prob, config.mask_time_length = recipe.mask_start * recipe.mask_length, recipe.mask_length
    extractor, accelerator = feature_extractor(recipe), Accelerator(cpu=True)
    set_seed(seed)
    model = Wav2Vec2ForPreTraining(config)

    def collate(rows):
        batch = extractor.pad(rows, padding="longest", return_tensors="pt")
        frames = int(model._get_feat_extract_output_lengths(batch["input_values"].shape[-1]))
        shape = (len(rows), frames)
        mask = _compute_mask_indices(shape, config.mask_time_prob, config.mask_time_length)
        negatives = _sample_negative_indices(shape, config.num_negatives, mask_time_indices=mask)
        batch.pop("attention_mask", None)
        return {
            **batch,
            "mask_time_indices": torch.tensor(mask, dtype=torch.long),
            "sampled_negative_indices": torch.tensor(negatives),
        }

    loader = DataLoader(clips, shuffle=True, collate_fn=collate, batch_size=BATCH, drop_last=True)
    optimizer = torch.optim.AdamW(
        list(model.parameters()),
        recipe.learning_rate,
        (recipe.beta1, recipe.beta2),
        recipe.adam_epsilon,
        recipe.weight_decay,
    )
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    schedule = get_linear_schedule_with_warmup(optimizer, round(recipe.warmup_fraction * steps), steps)
    losses, done = [], 0
    model.train()
    while done < steps:
        for batch in loader:
            n_masked = batch["mask_time_indices"].sum()
            outputs = model(**batch)
            accelerator.backward(outputs.loss)
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(1 / n_masked)
            sum(float(p.grad.norm(2)) ** 2 for p in model.parameters() if p.grad is not None) ** 0.5  # it logs the norm
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            model.set_gumbel_temperature(max(recipe.gumbel_start * recipe.gumbel_decay**done, recipe.gumbel_end))
            losses.append(float(outputs.contrastive_loss.detach() / n_masked))
            done += 1
            if done == steps:
                break
    return losses


def side_by_side(args) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "clips"
        folder.mkdir()
        cut_clips(args.audio, folder, args.clips)
        clips = prepare_example(folder, get_recipe("wav2vec2", "tiny", SETTINGS))
        ratios, number = [], 0
        ours(folder, Path(temporary) / "warm", 0, 2)
        example(clips, 0, 2)
        for _ in range(args.rounds):
            spent = {}
            for name in ("ours", "example"):
                times = []
                for steps in (
                    args.steps // 4,
                    args.steps,
                ):  # the difference is steps alone, without what comes before and after
                    number += 1
                    started = time.process_time()
                    ours(folder, Path(temporary) / f"run{number}", 0, steps) if name == "ours" else example(
                        clips, 0, steps
                    )
                    times.append(time.process_time() - started)
                spent[name] = (times[1] - times[0]) / (args.steps - args.steps // 4)
            ratios.append(spent["ours"] / spent["example"])
            print(
                f"a step: ours {1000 * spent['ours']:.0f} ms, the example {1000 * spent['example']:.0f} ms, ratio {ratios[-1]:.2f}",
                flush=True,
            )
        print(f"median ratio {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        curves = {"ours": [], "example": []}
        for seed in range(args.seeds):
            curves["ours"].append(ours(folder, Path(temporary) / f"learn{seed}", seed, args.learn))
            curves["example"].append(example(clips, seed, args.learn))
        for name, found in curves.items():
            tails = [np.mean(losses[-50:]) for losses in found]
            heads = [np.mean(losses[:10]) for losses in found]
            print(
                f"{name}: loss of the first 10 steps {np.mean(heads):.3f}, of the last 50 {np.mean(tails):.3f} (seeds {', '.join(f'{each:.3f}' for each in tails)})"
            )
    same_batch()


def same_batch() -> None:
    """Both losses on one batch, mask and set of negatives, the codewords chosen without noise."""
    recipe = get_recipe("wav2vec2", "tiny", SETTINGS)
    torch.manual_seed(0)
    objective = Wav2Vec2Objective(recipe).eval()
    waveforms, mask, masked, negatives = example_batch(recipe, BATCH)
    everywhere = torch.zeros(*mask.shape, recipe.negatives, dtype=torch.int64)
    everywhere[mask] = masked[negatives]
    with torch.no_grad():
        one = objective(waveforms, mask, masked, negatives)["loss"]
        other = objective.model(waveforms, mask_time_indices=mask, sampled_negative_indices=everywhere).contrastive_loss
    print(f"on one batch, without noise: ours {float(one):.4f}, transformers' {float(other):.4f}")


def example_batch(recipe, clips: int) -> tuple[torch.Tensor, ...]:
    """Noise as a micro-batch: waveforms, mask, masked, and negatives or labels."""
    generator = np.random.default_rng(0)
    waveforms = torch.from_numpy(
        generator.normal(size=(clips, int(recipe.crop_seconds * SAMPLING_RATE))).astype(np.float32)
    )
    mask = span_mask(
        generator, (clips, frames_of(waveforms.shape[1])), recipe.mask_start, recipe.mask_length, recipe.trim_masks
    )
    goal = np.zeros(mask.shape, np.int64)
    if recipe.objective == "wav2vec2":
        goal = sample_negatives(generator, mask, recipe.negatives)
    return waveforms, torch.from_numpy(mask), torch.from_numpy(np.flatnonzero(mask)), torch.from_numpy(goal)


def objective_of(recipe):
    return HubertObjective(recipe) if recipe.objective == "hubert" else Wav2Vec2Objective(recipe)


def profile_step(args) -> None:
    torch.set_num_threads(1)
    for name in ("wav2vec2", "hubert"):
        recipe = get_recipe(name, args.size)
        model = objective_of(recipe).train()
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        clips = max(1, int(args.seconds / recipe.crop_seconds))
        waveforms, *rest = example_batch(recipe, clips)

        def step(model=model, optimizer=optimizer, waveforms=waveforms, rest=rest):
            model(normalise(waveforms), *rest)["objective"].backward()
            optimizer.step()
            optimizer.zero_grad()

        step()
        with profile(activities=[ProfilerActivity.CPU]) as found:
            for _ in range(args.rounds):
                step()
        events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        print(
            f"{name} {args.size}, {clips} crops of {recipe.crop_seconds:g} s: {total / args.rounds / 1000:.0f} ms a step of one thread\n\n| operation | share |\n|---|---|"
        )
        for event in events[: args.lines]:
            print(f"| {event.key} | {100 * event.self_cpu_time_total / total:.1f} % |")
        print(
            f"| all others | {100 * sum(e.self_cpu_time_total for e in events[args.lines :]) / total:.1f} % |\n",
            flush=True,
        )


def memory(args) -> None:
    """Each in a process of its own: the memory that one clip's step takes, against the estimate."""
    if args.one:
        name, size = args.one
        recipe = get_recipe(name, size, ["layer_drop=0"])
        torch.set_num_threads(1)
        model = objective_of(recipe).train()
        waveforms, *rest = example_batch(recipe, 1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        value = model(waveforms, *rest)["objective"]
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        value.backward()
        print(
            f"{held * 1024 / 1e9:.3f} {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9:.3f}"
        )
        return
    print(
        "| model | estimated for the forward pass, fp32 | measured | the step's peak, gradients included |\n|---|---|---|---|"
    )
    for size in args.sizes:
        for name in ("wav2vec2", "hubert"):
            recipe = get_recipe(name, size, ["layer_drop=0"])
            estimate = measure_cost(recipe, low_precision=False).activation_bytes * recipe.crop_seconds / 1e9
            done = subprocess.run(
                [sys.executable, __file__, "memory", "--one", name, size], capture_output=True, text=True, check=True
            )
            held, peak = done.stdout.split()
            print(
                f"| {name} {size}, one crop of {recipe.crop_seconds:g} s | {estimate:.3f} GB | {held} GB | {peak} GB |",
                flush=True,
            )


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
            batch = [
                tensor.to(device) for tensor in example_batch(recipe, max(1, int(args.seconds / recipe.crop_seconds)))
            ]

            def step(model=model, waveforms=batch[0], rest=batch[1:]):
                with torch.autocast(device.type, dtype, enabled=args.bf16):
                    loss = model(normalise(waveforms), *rest)["objective"]
                loss.backward()
                model.zero_grad()

            with FlopCounterMode(display=False) as counter:
                step()
            seconds = measure(step)
            rate = counter.get_total_flops() / seconds
            hours = batch[0].numel() / SAMPLING_RATE / seconds
            print(f"| {name} | {size} | {hours:.1f} | {rate / 1e9:.1f} | {100 * rate / peak:.0f}% |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(required=True)
    beside = modes.add_parser("side_by_side")
    beside.add_argument("--audio", type=Path, required=True)
    beside.add_argument("--clips", type=int, default=200)
    beside.add_argument("--rounds", type=int, default=5)
    beside.add_argument("--steps", type=int, default=80)
    beside.add_argument("--seeds", type=int, default=3)
    beside.add_argument("--learn", type=int, default=300, help="steps of the runs whose losses are compared")
    beside.set_defaults(run=side_by_side)
    parts = modes.add_parser("profile")
    parts.add_argument("--size", default="tiny")
    parts.add_argument("--seconds", type=float, default=8, help="of audio per step")
    parts.add_argument("--rounds", type=int, default=5)
    parts.add_argument("--lines", type=int, default=12)
    parts.set_defaults(run=profile_step)
    room = modes.add_parser("memory")
    room.add_argument("--sizes", nargs="+", default=["tiny", "base"])
    room.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    room.set_defaults(run=memory)
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
