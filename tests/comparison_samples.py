"""Results with predictions, made by hand: two models whose difference is known."""

import json

import numpy as np
from safetensors.numpy import save_file

from arch_hf.probing.record import Score
from arch_hf.probing.statistics import TestSet, jackknife
from arch_hf.results.answer import predictions_path
from arch_hf.results.result import DatasetFacts, ModelFacts, Result


def classified(accuracy, n_units=12, per_unit=10, seed=0, folds=2, seeds=1):
    """Predictions of two classes: clips in units of one size, dealt to folds unit by unit; `accuracy` by unit or for all."""
    rng = np.random.default_rng(seed)
    n = n_units * per_unit
    unit = np.repeat(np.arange(n_units), per_unit)
    target = np.arange(n) % 2
    right = rng.random((seeds, n)) < np.broadcast_to(accuracy, n_units)[unit]
    scores = np.eye(2, dtype=np.float32)[np.where(right, target, 1 - target)]
    return {"clip": np.arange(n), "fold": unit % folds, "unit": unit, "target": target, "scores": scores}


def tagged(skill, n_units=12, per_unit=10, seed=0, classes=3):
    """Predictions of several labels a clip: the score of a label that is there is higher by `skill`."""
    rng = np.random.default_rng([7, seed])
    n = n_units * per_unit
    unit = np.repeat(np.arange(n_units), per_unit)
    target = (np.random.default_rng(3).random((n, classes)) < 0.3).astype(np.uint8)
    scores = (rng.standard_normal((1, n, classes)) + skill * target).astype(np.float32)
    return {"clip": np.arange(n), "fold": np.zeros(n, int), "unit": unit, "target": target, "scores": scores}


def write_sample(folder, predictions, model="us/ours", corpus="esc50", keep=None, name=None, **changes):
    """The result file and its predictions under `folder/<model>/`; `keep` are the rows that are stored. Returns the path of the result."""
    arrays = predictions
    if keep is not None:
        arrays = {key: value[:, keep] if key == "scores" else value[keep] for key, value in arrays.items()}
    tests = [
        TestSet(arrays["scores"][:, chosen], arrays["target"][chosen], arrays["unit"][chosen])
        for chosen in (arrays["fold"] == fold for fold in np.unique(arrays["fold"]))
    ]
    metrics = {key: Score(mean=min(1.0, found.value)) for key, found in jackknife(tests).items()}
    facts = {"weights_sha256": f"weights of {model}", "config_sha256": "c"} | changes.pop("facts", {})
    data = {"fingerprint": "f", "domain": "events"} | changes.pop("dataset", {})
    result = Result(
        **{"complete": True, "layer": -1, "protocol": {"name": "arch-v1", "version": "2.0"}, "metrics": metrics}
        | changes,
        model=ModelFacts(id=model, **facts),
        dataset=DatasetFacts(
            id=f"arch/{corpus}",
            task="multi_label" if arrays["target"].ndim == 2 else "single_label",
            n_clips=len(arrays["clip"]),
            **data,
        ),
    )
    path = folder / model.replace("/", "__") / f"{name or corpus}.json"
    result.write(path)
    names = {"clip_ids": json.dumps([f"clip{i}" for i in range(len(predictions["clip"]))])}
    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, predictions_path(path), names)
    return path
