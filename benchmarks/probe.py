"""How fast the probes of a corpus are, at the true sizes of three corpora.

    python benchmarks/probe.py arch-v1 [--sizes esc50 slurp fsd50k] [--epochs N] [--seeds 3] [--device cpu]
    python benchmarks/probe.py strict --against CHECKOUT [--sizes ...] [--epochs N]

`arch-v1`: all runs trained together, against a plain PyTorch loop over the same runs and batches. Both sides train every run for the same number of
epochs (by default all 200 for esc50, 1 for the two large ones, where a run is long). Prints both times, their ratio, the
largest difference of a weight, and the process's peak memory after the batched side, which comes first.

`strict`: the whole probe (every strength on every fold, and the last solution), against that of strict 1.0 (three seeds of five learning rates, 200
epochs, validated after each) in a checkout of arch-hf 0.1. Each is a process of its own, one after the other; strict 1.0 may be given fewer epochs, whose
time is then multiplied. Prints seconds by the clock and of the processor, their ratios, and the peak memory of each process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch

# clips, dim, classes, folds (or train and validation clips), multi-label, epochs of the comparison
SIZES = {
    "esc50": (2000, 768, 50, 5, False, 200),
    "slurp": (72396, 1024, 77, (50628, 8690), False, 1),
    "fsd50k": (51197, 1024, 200, (36796, 4170), True, 1),
}


def make(clips, dim, n_classes, folds, multi_label, _):
    """Embeddings whose spectrum falls as real ones' do, with classes that a probe finds in part; targets; and the parts of each fold."""
    rng = np.random.default_rng(0)
    spectrum = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    features = rng.standard_normal((clips, dim), dtype=np.float32) * spectrum
    if multi_label:
        loudness = features @ rng.standard_normal((dim, n_classes), dtype=np.float32) / np.linalg.norm(spectrum)
        loudness += rng.standard_normal(loudness.shape, dtype=np.float32)
        rates = rng.uniform(0.002, 0.1, n_classes)
        targets = (loudness > [np.quantile(c, 1 - rate) for c, rate in zip(loudness.T, rates, strict=True)]).astype(
            np.int64
        )
    else:
        targets = np.arange(clips) % n_classes
        features += 0.1 * (rng.standard_normal((n_classes, dim), dtype=np.float32) * spectrum)[targets]
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
    order = rng.permutation(clips)
    if isinstance(folds, tuple):
        train, validation, test = np.split(np.arange(clips), np.cumsum(folds))
        return features @ turn, targets, [("test", train, validation, test)]
    parts, plans = np.array_split(order, folds), []
    for k, test in enumerate(parts):
        rest = np.concatenate(parts[:k] + parts[k + 1 :])
        held_out = len(rest) // 5
        plans.append((f"fold_{k + 1}", np.sort(rest[held_out:]), np.sort(rest[:held_out]), np.sort(test)))
    return features @ turn, targets, plans


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def plain(features, targets, run, training, n_classes):
    """One run as anyone would write it, with the data on the device already."""
    from arch_hf.probing.adamw import initial_weights, learning_rate_factor, n_batches, run_generator

    generator, train = run_generator(run), torch.from_numpy(run.fold.train)
    layer = torch.nn.Linear(features.shape[1], n_classes)
    with torch.no_grad():
        layer.weight.data, layer.bias.data = initial_weights(features.shape[1], n_classes, generator)
    layer.to(features.device)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.0, weight_decay=training.weight_decay)
    cross_entropy = torch.nn.functional.cross_entropy
    loss_of = torch.nn.functional.binary_cross_entropy_with_logits if targets.ndim == 2 else cross_entropy
    step = 0
    for _ in range(training.epochs):
        order = train[torch.randperm(len(train), generator=generator)].to(features.device)
        for batch in order.split(training.batch_size):
            factor = learning_rate_factor(step, n_batches(run, training), training)
            optimiser.param_groups[0]["lr"] = training.learning_rate * factor
            optimiser.zero_grad()
            loss_of(layer(features[batch]), targets[batch]).backward()
            optimiser.step()
            step += 1
    return layer


def timed(function, device):
    start = time.perf_counter()
    result = function()
    if device == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def against_the_loop(name, args):
    from arch_hf.probing.adamw import ProbeData, train_probes
    from arch_hf.probing.protocols import AdamW
    from arch_hf.probing.task import Fold, RunKey

    features, targets, plans = make(*SIZES[name])
    n_clips, dim, n_classes, *_, epochs = SIZES[name]
    training = AdamW(epochs=args.epochs or epochs)
    runs = [RunKey(0, i, Fold(*plan), seed) for i, plan in enumerate(plans) for seed in range(args.seeds)]

    def batched():
        return train_probes(ProbeData([features], targets, n_classes, args.device), runs, training, progress=False)

    probes, ours = timed(batched, args.device)
    peak = peak_gigabytes()
    x, y = torch.from_numpy(features).to(args.device), torch.from_numpy(targets).to(args.device)
    y = y.float() if y.ndim == 2 else y
    layers, theirs = timed(lambda: [plain(x, y, run, training, n_classes) for run in runs], args.device)
    apart = max((probe.weight - layer.weight).abs().max().item() for probe, layer in zip(probes, layers, strict=True))
    print(
        f"{name}: {n_clips} x {dim}, {n_classes} classes, {len(runs)} runs, {training.epochs} epochs, "
        f"{torch.get_num_threads()} threads: plain {theirs:.1f} s, batched {ours:.1f} s, ratio {theirs / ours:.1f}; "
        f"weights differ by up to {apart:.1e}; peak memory {peak:.2f} GB",
        flush=True,
    )


def strict_2(features, targets, plans, n_classes, _):
    from arch_hf.probing.layers import Layers
    from arch_hf.probing.protocols import PROTOCOLS
    from arch_hf.probing.strict import fit_and_test
    from arch_hf.probing.task import Fold, RunKey

    runs = [RunKey(0, i, Fold(*plan), 0) for i, plan in enumerate(plans)]
    fit_and_test(
        Layers.of([features], targets, n_classes), runs, PROTOCOLS["strict"].training.strengths, progress=False
    )


def strict_1(features, targets, plans, n_classes, epochs):
    from arch_hf.probe import Bench, Stream, train_probes  # as arch-hf 0.1 has them
    from arch_hf.protocols import PROTOCOLS, Fold

    protocol = replace(PROTOCOLS["strict"], epochs=epochs)
    runs = [Stream(0, i, Fold(*plan), seed) for i, plan in enumerate(plans) for seed in range(3)]
    train_probes(Bench([features], targets, n_classes), runs, protocol, progress=False)


def measure(name, version, epochs):
    """In a process of its own: what one version takes. Making the data is not counted, but is in the memory of both alike."""
    features, targets, plans = make(*SIZES[name])
    start, before = time.perf_counter(), time.process_time()
    (strict_2 if version == 2 else strict_1)(features, targets, plans, SIZES[name][2], epochs)
    seconds = {"clock": time.perf_counter() - start, "processor": time.process_time() - before}
    print(json.dumps(seconds | {"peak": peak_gigabytes()}))


def against_strict_1(name, args):
    epochs = args.epochs or SIZES[name][-1]
    found = {}
    for version, folder in ((2, None), (1, args.against)):
        environment = os.environ | ({"PYTHONPATH": os.path.abspath(folder)} if folder else {})
        command = [sys.executable, os.path.abspath(__file__), "measure", name, str(version), str(epochs)]
        output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        found[version] = SimpleNamespace(**json.loads(output.splitlines()[-1]))
    ours, old, times = found[2], found[1], 200 / epochs
    print(
        f"{name}: strict 2.0 {ours.clock:.1f} s ({ours.processor:.1f} s of the processor, peak {ours.peak:.2f} GB); strict 1.0 "
        f"{old.clock * times:.1f} s ({old.processor * times:.1f} s, peak {old.peak:.2f} GB; {epochs} of 200 epochs run); "
        f"ratios {old.clock * times / ours.clock:.1f} and {old.processor * times / ours.processor:.1f}",
        flush=True,
    )


def main():
    if sys.argv[1:2] == ["measure"]:
        name, version, epochs = sys.argv[2:]
        return measure(name, int(version), int(epochs))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=("arch-v1", "strict"))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--against", help="a checkout of arch-hf 0.1, whose strict is 1.0")
    args = parser.parse_args()
    for name in args.sizes:
        (against_the_loop if args.protocol == "arch-v1" else against_strict_1)(name, args)


if __name__ == "__main__":
    main()
