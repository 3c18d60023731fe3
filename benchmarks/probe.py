"""How fast all runs of a corpus train together, against a plain PyTorch loop over the same runs and batches.

    python benchmarks/probe.py [--sizes esc50 slurp fsd50k] [--epochs N] [--seeds 3] [--device cpu]

Random embeddings of the corpora's true sizes. Both sides train every run for the same number of epochs (by default all 200 for
esc50, 1 for the two large ones, where a run is long); nothing is extrapolated. Prints both times, their ratio, the
largest difference of a weight, and the process's peak memory after the batched side, which comes first.
"""

import argparse
import resource
import time
from dataclasses import replace

import numpy as np
import torch

from arch_hf.probing.linear import (
    ProbeData,
    RunKey,
    initial_weights,
    learning_rate_factor,
    n_steps,
    run_generator,
    train_probes,
)
from arch_hf.probing.protocols import PROTOCOLS
from arch_hf.probing.task import Fold

# clips, dim, classes, folds (or train and validation clips), multi-label, epochs
SIZES = {
    "esc50": (2000, 768, 50, 5, False, 200),
    "slurp": (72396, 1024, 77, (50628, 8690), False, 1),
    "fsd50k": (51197, 1024, 200, (36796, 4170), True, 1),
}


def make(clips, dim, n_classes, folds, multi_label):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((clips, dim), dtype=np.float32)
    targets = (rng.random((clips, n_classes)) < 0.02).astype(np.int64) if multi_label else np.arange(clips) % n_classes
    order = rng.permutation(clips)
    if isinstance(folds, tuple):
        return features, targets, [Fold("test", *(np.sort(part) for part in np.split(order, np.cumsum(folds))))]
    parts = np.array_split(order, folds)
    plans = []
    for k, test in enumerate(parts):
        rest = np.concatenate(parts[:k] + parts[k + 1 :])
        held_out = len(rest) // 5
        plans.append(Fold(f"fold_{k + 1}", np.sort(rest[held_out:]), np.sort(rest[:held_out]), np.sort(test)))
    return features, targets, plans


def plain(features, targets, run, protocol, n_classes):
    """One run as anyone would write it, with the data on the device already."""
    generator, train = run_generator(run), torch.from_numpy(run.fold.train)
    layer = torch.nn.Linear(features.shape[1], n_classes)
    with torch.no_grad():
        layer.weight.data, layer.bias.data = initial_weights(features.shape[1], n_classes, generator)
    layer.to(features.device)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.0, weight_decay=protocol.weight_decay)
    cross_entropy = torch.nn.functional.cross_entropy
    loss_of = torch.nn.functional.binary_cross_entropy_with_logits if targets.ndim == 2 else cross_entropy
    step, total = 0, n_steps(run, protocol)
    for _ in range(protocol.epochs):
        order = train[torch.randperm(len(train), generator=generator)].to(features.device)
        for batch in order.split(protocol.batch_size):
            rate = protocol.learning_rates[0] * learning_rate_factor(step, total, protocol.warmup_fraction)
            optimiser.param_groups[0]["lr"] = rate
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    for name in args.sizes:
        *shape, epochs = SIZES[name]
        features, targets, folds = make(*shape)
        n_classes = shape[2]
        protocol = replace(PROTOCOLS["arch-v1"], epochs=args.epochs or epochs)
        runs = [RunKey(0, index, fold, seed) for index, fold in enumerate(folds) for seed in range(args.seeds)]

        def batched(features=features, targets=targets, n_classes=n_classes, runs=runs, protocol=protocol):
            return train_probes(ProbeData([features], targets, n_classes, args.device), runs, protocol, progress=False)

        probes, ours = timed(batched, args.device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        x, y = torch.from_numpy(features).to(args.device), torch.from_numpy(targets).to(args.device)
        y = y.float() if y.ndim == 2 else y
        layers, theirs = timed(
            lambda x=x, y=y, n=n_classes, some=runs, p=protocol: [plain(x, y, run, p, n) for run in some],
            args.device,
        )
        pairs = zip(probes, layers, strict=True)
        apart = max((probe.weight - layer.weight).abs().max().item() for probe, layer in pairs)
        print(
            f"{name}: {shape[0]} x {shape[1]}, {n_classes} classes, {len(runs)} runs, {protocol.epochs} epochs, "
            f"{torch.get_num_threads()} threads: plain {theirs:.1f} s, batched {ours:.1f} s, ratio {theirs / ours:.1f}; "
            f"weights differ by up to {apart:.1e}; peak memory {peak:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
