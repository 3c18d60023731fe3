"""The scores against scikit-learn's, and the modules of the evaluate library."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

import arch_hf.probing.metrics
from arch_hf.compat.evaluate_library import find_evaluate
from arch_hf.probing.metrics.scores import RankedClasses, accuracy_and_macro_f1, average_precision, count_columns, score

FOLDER = Path(arch_hf.probing.metrics.__file__).parent


def multi_label(n, n_classes, seed, ties):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, n_classes)) < 0.2).astype(np.int64)
    targets[0] = 1  # each class has a positive
    scores = (rng.standard_normal((n, n_classes)) + targets).astype(np.float32)
    return (np.round(scores) if ties else scores), targets


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "n_classes"), [(1, 1), (2, 3), (17, 5), (400, 20)])
def test_average_precision_is_scikit_learns(n, n_classes, ties):
    scores, targets = multi_label(n, n_classes, n, ties)
    expected = [average_precision_score(targets[:, c], scores[:, c]) for c in range(n_classes)]
    ours = average_precision(torch.from_numpy(scores), torch.from_numpy(targets))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)
    found = score(scores, targets)
    assert found["map_macro"] == pytest.approx(average_precision_score(targets, scores), abs=1e-12)
    weighted = average_precision_score(targets, scores, average="weighted")
    assert found["map_weighted"] == pytest.approx(weighted, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_under_weights_is_scikit_learns(ties):
    scores, targets = multi_label(120, 6, 3, ties)
    targets[:, 4] = 0
    weights = np.random.default_rng(0).integers(0, 4, (5, 120)).astype(np.float32)
    weights[:, 0] = 1
    ours = RankedClasses(scores, targets).average_precision(weights)
    for i, c in np.ndindex(ours.shape):
        expected = average_precision_score(targets[:, c], scores[:, c], sample_weight=weights[i]) if c != 4 else 0
        assert ours[i, c] == pytest.approx(expected, abs=1e-6)


def test_a_class_without_positives_is_left_out():
    scores, targets = multi_label(50, 4, 1, False)
    targets[:, 2] = 0
    rest = [0, 1, 3]
    assert score(scores, targets)["map_macro"] == pytest.approx(
        np.mean([average_precision_score(targets[:, c], scores[:, c]) for c in rest])
    )
    assert score(scores, np.ones_like(targets)) == {"map_macro": 1.0, "map_weighted": 1.0}


@pytest.mark.parametrize("n_classes", [1, 2, 9])
def test_accuracy_and_f1_are_scikit_learns(n_classes):
    rng = np.random.default_rng(n_classes)
    for n in (1, 5, 200):
        targets, predictions = rng.integers(0, n_classes, (2, n))
        weights = rng.integers(0, 3, n).astype(np.float32)
        weights[0] = 1
        for weight in (np.ones(n, np.float32), weights):
            counts = (weight @ count_columns(predictions, targets, n_classes)).reshape(3, n_classes)
            ours = accuracy_and_macro_f1(counts)
            assert ours["accuracy"] == pytest.approx(accuracy_score(targets, predictions, sample_weight=weight))
            # scikit-learn averages over the classes that occur: here those that occur with a weight
            kept = weight > 0
            expected = f1_score(targets[kept], predictions[kept], average="macro", sample_weight=weight[kept])
            assert ours["macro_f1"] == pytest.approx(expected)


def test_modules_of_the_evaluate_library():
    evaluate = find_evaluate()
    rng = np.random.default_rng(0)
    targets, predictions = rng.integers(0, 4, (2, 100))
    arguments = {"predictions": predictions, "references": targets}
    for name, expected in [
        ("accuracy", accuracy_score(targets, predictions)),
        ("macro_f1", f1_score(targets, predictions, average="macro")),
    ]:
        assert evaluate.load(str(FOLDER / f"{name}.py")).compute(**arguments) == {name: pytest.approx(expected)}
    scores, hot = multi_label(60, 5, 7, False)
    metric = evaluate.load(str(FOLDER / "map.py"))
    metric.add_batch(predictions=scores[:30], references=hot[:30])
    metric.add_batch(predictions=scores[30:], references=hot[30:])
    assert metric.compute() == pytest.approx(score(scores, hot))


def test_the_library_is_found_behind_a_script_of_its_name(monkeypatch, tmp_path):
    library = find_evaluate()
    (tmp_path / "evaluate.py").write_text("raise SystemExit('this is the script')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for loaded in (None, types.ModuleType("evaluate")):
        for name in [name for name in sys.modules if name.split(".")[0] == "evaluate"]:
            monkeypatch.delitem(sys.modules, name)
        if loaded:
            monkeypatch.setitem(sys.modules, "evaluate", loaded)
        assert find_evaluate().__file__ == library.__file__


def test_no_library_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "evaluate", raising=False)
    with pytest.raises(ModuleNotFoundError, match="pip install evaluate"):
        find_evaluate()
