"""How long does a report of many results take, and how large is the page?

    python benchmarks/report.py [--models 500] [--predictions 0] [--folder DIR]

Makes results of N models on the twelve corpora (as large as real ones: runs, scores by class, confusion matrices) in DIR, or
in a temporary folder, and prints the processor time of each step alone, then by the clock that of the whole command, which
draws while it writes tables. The baseline is the parsing of the same JSON files alone. So many models as --predictions says also have
predictions, as large as real ones, and are compared pair by pair.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from safetensors.numpy import save_file

from arch_hf import cli
from arch_hf.reports import TEXT_FORMATS, build_board, read_results
from arch_hf.reports.board import reference_protocol
from arch_hf.reports.columns import TWELVE
from arch_hf.reports.plots import draw_files, planned_plots
from arch_hf.results import result as results
from arch_hf.results import schema1
from arch_hf.results.answer import predictions_path

N_CLASSES = dict(zip((column.key for column in TWELVE), (50, 10, 200, 6, 8, 50, 11, 8, 8, 10, 77, 7), strict=True))
N_FOLDS = {"esc50": 5, "us8k": 10, "vivae": 11, "audio_mnist": 5, "emovo": 6}


N_TESTED = (2000, 8732, 10231, 1085, 800, 5329, 2874, 12236, 1440, 30000, 13078, 588)
N_TESTED = dict(zip((column.key for column in TWELVE), N_TESTED, strict=True))


def make_results(folder: Path, n_models: int, n_predicted: int, seeds: int = 3) -> None:
    """Result files of invented models, with invented scores; the first of them with predictions."""
    results.write_atomically = lambda path, data: path.write_bytes(data)  # nobody waits for the disk here
    generator = random.Random(0)
    for number in range(n_models):
        model_id = f"laboratory-{number % 40}/encoder-{number:03d}"
        target = folder / model_id.replace("/", "__")
        target.mkdir(parents=True, exist_ok=True)
        parameters = generator.choice((94_000_000, 315_000_000, 960_000_000))
        for column in TWELVE:
            result = make_result(model_id, column, parameters, seeds, generator)
            msgspec.convert(schema1.upgrade(result), results.Result).write(target / f"{column.key}.json")
            if number < n_predicted:
                make_predictions(target / f"{column.key}.json", column, seeds, np.random.default_rng(number))


def make_predictions(path: Path, column, seeds: int, rng: np.random.Generator) -> None:
    n, n_classes = N_TESTED[column.key], N_CLASSES[column.key]
    shared = np.random.default_rng(0)
    single = column.metric == "accuracy"
    target = shared.integers(0, n_classes, n) if single else (shared.random((n, n_classes)) < 0.05).astype(np.uint8)
    hot = np.eye(n_classes, dtype=np.uint8)[target] if single else target
    scores = rng.standard_normal((seeds, n, n_classes), dtype=np.float32) + hot
    fold = np.arange(n) % N_FOLDS.get(column.key, 1)
    arrays = {"clip": np.arange(n), "fold": fold, "unit": np.arange(n), "target": target, "scores": scores}
    save_file(arrays, predictions_path(path), {"clip_ids": json.dumps([f"clip{i}" for i in range(n)])})


def make_result(model_id, column, parameters, seeds, generator) -> dict:
    n_classes, score = N_CLASSES[column.key], generator.uniform(0.2, 0.95)
    scores = [min(1.0, max(0.0, generator.gauss(score, 0.1))) for _ in range(n_classes)]
    runs = [
        {
            "fold": f"fold_{fold}",
            "seed": seed,
            "n_train": 1280,
            "n_validation": 320,
            "n_test": 400,
            "metrics": {column.metric: score},
        }
        for fold in range(1, N_FOLDS.get(column.key, 1) + 1)
        for seed in range(seeds)
    ]
    single = column.metric == "accuracy"
    result = {
        "schema_version": 1,
        "complete": True,
        "model": {"id": model_id, "revision": None, "weights_sha256": None, "class": "HubertModel", "n_parameters": parameters,
                  "sampling_rate": 16000, "embedding_size": 768},
        "dataset": {"id": column.key, "config": None, "revision": None, "fingerprint": "0" * 16, "domain": column.domain,
                    "task": "single_label" if single else "multi_label", "n_clips": 2000, "n_classes": n_classes, "excluded_clips": []},
        "protocol": {"name": "arch-v1", "version": reference_protocol()[1], "epochs": 200},
        "layer": -1,
        "metrics": {column.metric: {"mean": score, "std": 0.01, "ci95": [max(0, score - 0.02), min(1, score + 0.02)]}},
        "runs": runs,
        "baselines": {"majority": {column.metric: 1 / n_classes}},
        "published": None,
        "per_class": [
            {"class": f"class {number}", "recall" if single else "average_precision": value} for number, value in enumerate(scores)
        ],
    }  # fmt: skip
    if single:
        result["confusion"] = [
            [
                round(40 * scores[row]) if row == column_ else int(generator.random() < 0.1)
                for column_ in range(n_classes)
            ]
            for row in range(n_classes)
        ]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--predictions", type=int, default=0, help="of how many models (default: none; 50 MB each)")
    parser.add_argument("--folder", type=Path, help="where to put the results (default: a temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        make_results(folder / "results", args.models, args.predictions)
        measure(folder / "results", folder / "report")


def measure(results_dir: Path, output_dir: Path) -> None:
    start = time.process_time()
    files = [path.read_bytes() for path in sorted(results_dir.rglob("*.json"))]
    for file in files:
        json.loads(file)
    baseline = time.process_time() - start
    print(f"{len(files)} results, {sum(map(len, files)) / 1e6:.1f} MB; parsing alone {baseline:.2f} s")
    start = time.process_time()
    found, skipped = read_results(results_dir)
    assert not skipped, skipped[0]
    report("read", start, baseline)
    start = time.process_time()
    board = build_board(found)
    report("board", start, baseline)
    for suffix, render in TEXT_FORMATS.items():
        start = time.process_time()
        text = render(board).encode()
        report(f"{suffix} ({len(text) / 1e6:.2f} MB)", start, baseline)
    start = time.process_time()
    files = [file for name, draw in planned_plots(board) for file in draw_files(name, draw)]
    report(f"{len(files)} plot files, in turn", start, baseline)
    del found, board, files
    start = time.perf_counter()
    cli.main(["report", str(results_dir), "--output", str(output_dir)])
    print(f"{'the command, by the clock':26}{time.perf_counter() - start:6.2f} s, imports apart")


def report(what: str, start: float, baseline: float) -> None:
    seconds = time.process_time() - start
    print(f"{what:26}{seconds:6.2f} s  {seconds / baseline:5.1f} x parsing")


if __name__ == "__main__":
    main()
