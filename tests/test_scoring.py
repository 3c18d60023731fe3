"""From embeddings to the probe's part of a result, the other probes, and the comparison of two results."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from accelerate import debug_launcher
from ranks import one_of_two, rank
from safetensors.numpy import load_file, save_file
from sklearn.dummy import DummyClassifier
from sklearn.metrics import average_precision_score, classification_report, confusion_matrix
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from arch_hf.data.spec import ClipTable
from arch_hf.errors import UserError
from arch_hf.probing.few_shot import FEW_SHOT_DRAWS, few_shot_runs
from arch_hf.probing.linear import LinearProbe
from arch_hf.probing.protocols import PROTOCOLS, AdamW, LogisticRegression
from arch_hf.probing.scoring import Probes, score_layers, validation_use
from arch_hf.probing.splits import split_digest
from arch_hf.probing.task import Fold, ProbeTask
from arch_hf.probing.weighted_sum import Mixture

N, CLASSES = 120, ["cat", "dog", "owl"]
STRENGTHS = (10.0, 1.0, 0.1, 0.01, 0.001)
QUICK = {
    "arch-v1": replace(PROTOCOLS["arch-v1"], training=AdamW(epochs=100)),
    "strict": replace(PROTOCOLS["strict"], training=LogisticRegression(strengths=STRENGTHS)),
}


def problem(multi_label=False, noise=2.0, n=N, seed=0):
    """Embeddings and the task of a small corpus of three folds and thirty speakers."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % 3
    features = 3 * (np.eye(3)[targets] @ rng.standard_normal((3, 16)) + noise * rng.standard_normal((n, 16)))
    if multi_label:
        targets = np.maximum(np.eye(3)[targets], rng.random((n, 3)) < 0.1).astype(np.int64)
    parts = [np.arange(n)[np.arange(n) // 4 % 3 == k] for k in range(3)]  # the four clips of a speaker in one fold
    folds = [Fold(f"fold_{k + 1}", parts[k - 2], parts[k - 1], parts[k]) for k in range(3)]
    table = ClipTable([f"clip{i}" for i in range(n)], ["fold_1"] * n, [f"speaker{i // 4}" for i in range(n)])
    metric = "map_macro" if multi_label else "accuracy"
    human = None if multi_label else 0.9
    return features.astype(np.float32), ProbeTask("zoo", metric, table, targets, CLASSES, folds, human)


def scored(protocol="arch-v1", features=None, task=None, ranks=None, **options):
    settings = {key: options.pop(key) for key in list(options) if key in ("multi_label", "noise", "n", "seed")}
    ours, its_task = problem(**settings)
    probes = Probes(**{"seeds": 2, **options})
    layers = [ours if features is None else features]
    return next(score_layers(layers, task or its_task, QUICK[protocol], probes, ranks or rank(), progress=False))


@pytest.mark.parametrize("probe", ["linear", "knn", "weighted_sum"])
def test_clips_that_test_only_move_nothing_that_is_learned(probe):
    """Whatever the test clips are, strict chooses the same strength by the same loss; the test clips that stay score as they did."""
    features, task = problem()
    clips = np.arange(N)
    task = replace(task, folds=[Fold("test", clips[:30], clips[30:45], clips[45:])])
    changed = features.copy()
    changed[48:] = 1e8 * (10 + np.abs(features[48:]))  # on one side of all others, and more than they are
    layers = [features[:, None], changed[:, None]] if probe == "weighted_sum" else [features, changed]
    (before, seen), (after, seen_too) = (scored("strict", features=one, task=task, probe=probe) for one in layers)
    assert before.runs[0].strength == after.runs[0].strength
    assert before.runs[0].validation_loss == after.runs[0].validation_loss
    np.testing.assert_allclose(seen["scores"][:, :3], seen_too["scores"][:, :3], atol=1e-3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_block_of_single_labels(protocol):
    block, predictions = scored(protocol)
    _, task = problem()
    targets, folds = task.targets, task.folds
    runs, seeds = block.runs, (0, 1) if protocol == "arch-v1" else (0,)
    assert [(run.fold, run.seed) for run in runs] == [(fold.name, s) for fold in folds for s in seeds]
    learned = 40 if protocol == "arch-v1" else 80  # strict's last solution learns from the validation clips too
    assert all((run.n_train, run.n_validation, run.n_test) == (learned, 40, 40) for run in runs)
    accuracy = np.array([run.metrics["accuracy"] for run in runs]).reshape(3, len(seeds))  # [folds, seeds]
    summary = block.metrics["accuracy"]
    assert summary.mean == pytest.approx(accuracy.mean())
    assert summary.std_folds == pytest.approx(np.std(accuracy.mean(1), ddof=1))
    spread = None if protocol == "strict" else pytest.approx(np.std(accuracy.mean(0), ddof=1))
    assert summary.std_seeds == spread
    assert block.validation_use == validation_use("linear", PROTOCOLS[protocol])
    assert all(
        (run.strength in STRENGTHS) == (run.validation_loss is not None) == (protocol == "strict") for run in runs
    )
    assert block.split_digest == split_digest(task.table, folds)
    assert summary.ci95[0] < summary.mean < summary.ci95[1] and set(block.metrics) == {"accuracy", "macro_f1"}
    assert block.bootstrap | {"unit": "group", "n_units": 30} == block.bootstrap
    assert block.validation["accuracy"] == pytest.approx(np.mean([run.validation for run in runs]))
    expected = []
    for fold in folds:
        dummy = DummyClassifier(strategy="most_frequent").fit(fold.train[:, None], targets[fold.train])
        expected.append(dummy.score(fold.test[:, None], targets[fold.test]))
    assert block.baselines["majority"]["accuracy"] == pytest.approx(np.mean(expected))
    assert block.baselines["human"] == {"accuracy": 0.9}
    found, true = predictions["scores"].argmax(-1), predictions["target"]
    assert np.array_equal(true, targets[predictions["clip"]]) and len(set(predictions["clip"])) == N
    matrices = [confusion_matrix(true, its) for its in found]
    np.testing.assert_allclose(block.confusion, np.mean(matrices, axis=0))
    report = classification_report(np.tile(true, len(seeds)), found.ravel(), output_dict=True, zero_division=0)
    for label, row in enumerate(block.per_class):
        theirs = report[str(label)]
        assert (row.class_name, row.n_test) == (CLASSES[label], 40)
        assert (row.precision, row.recall, row.f1) == tuple(
            pytest.approx(theirs[key]) for key in ("precision", "recall", "f1-score")
        )


def test_block_of_many_labels():
    features, task = problem(multi_label=True)
    targets, folds = task.targets, task.folds
    targets[folds[1].test, 2] = 0
    block, predictions = scored("strict", features, task)
    assert block.classes_without_positives == {"fold_2": ("owl",)} and block.confusion is None
    assert set(block.metrics) == {"map_macro", "map_weighted"}
    prevalence = np.mean([targets[f.test].mean(0)[targets[f.test].any(0)].mean() for f in folds])
    assert block.baselines["majority"]["map_macro"] == pytest.approx(prevalence)
    by_fold = [
        np.mean(
            [
                average_precision_score(targets[f.test, 2], predictions["scores"][s, predictions["fold"] == i, 2])
                for s in range(len(predictions["scores"]))
            ]
        )
        for i, f in enumerate(folds)
        if i != 1
    ]
    assert block.per_class[2].average_precision == pytest.approx(np.mean(by_fold))
    with pytest.raises(UserError, match="zoo, fold_2: no test clip has a label"):
        targets[folds[1].test] = 0
        scored("arch-v1", features, task)


def test_bad_embeddings_and_labels_are_named():
    features, _ = problem()
    features[7, 3] = np.nan
    with pytest.raises(UserError, match=r"clip clip7 is not finite \(1 such"):
        scored(features=features)
    with pytest.raises(UserError, match="float32's range"):
        scored(features=np.full((N, 16), 1e30, np.float32))
    with pytest.raises(UserError, match="zoo: labels go from 0 to 2"):
        replace(problem()[1], class_names=CLASSES[:2])
    with pytest.raises(UserError, match="unknown --probe"):
        scored(probe="mlp")


def test_layers_together_are_layers_one_by_one(monkeypatch):
    features, task = problem()
    layers = [features, 0.1 * features[::-1].copy(), features**3]
    arguments = (task, QUICK["strict"], Probes(seeds=1), rank(), False)
    together = list(score_layers(iter(layers), *arguments))
    monkeypatch.setattr("arch_hf.probing.scoring.LAYER_BYTES", 1)
    for layer, (block, predictions), (_, alone) in zip(layers, together, score_layers(layers, *arguments), strict=True):
        again, _ = next(score_layers([layer], *arguments))
        assert again.runs == block.runs
        np.testing.assert_allclose(predictions["scores"], alone["scores"], atol=1e-5)


def test_the_edge_of_the_grid_is_said():
    edge = replace(QUICK["strict"], training=LogisticRegression(strengths=(1e-3, 1e-4)))
    features, task = problem()
    block, _ = next(score_layers([features], task, edge, Probes(), rank(), progress=False))
    assert block.probe_notes == ("validation chose the greatest strength of the grid, 0.001, in 3 of 3 runs",)
    assert [run.grid_edge for run in block.runs] == ["greatest"] * 3 and not scored("strict")[0].probe_notes


def test_a_loss_that_rounds_to_nothing_is_a_choice():
    """Classes so far apart that the smallest strength leaves no loss in five decimals."""
    features, task = problem()
    far = np.eye(3, dtype=np.float32)[task.targets].repeat(5, axis=1) + features[:, :1] * np.float32(1e-3)
    edge = replace(QUICK["strict"], training=LogisticRegression(strengths=(1e-3, 1e-9)))
    block, _ = next(score_layers([far], task, edge, Probes(), rank(), progress=False))
    assert [run.validation_loss for run in block.runs] == [0.0] * 3
    assert block.probe_notes == ("validation chose the smallest strength of the grid, 1e-09, in 3 of 3 runs",)


def test_a_validation_that_tells_nothing_chooses_nothing():
    """No validation clip is of a class that was learned: its loss of 0 is no choice."""
    features, task = problem()
    task.targets[task.folds[0].train] %= 2
    task.targets[task.folds[0].validation] = 2
    block, _ = scored("strict", features, replace(task, folds=task.folds[:1]))
    assert block.probe_notes == (
        "validation could tell no strength from another by its classes, and the greatest, 10, was taken, in 1 of 1 runs",
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_validation_without_labels_has_no_score(protocol):
    features, task = problem(multi_label=True)
    task.targets[task.folds[0].validation] = 0
    block, _ = scored(protocol, features, replace(task, folds=task.folds[:1]))
    assert block.validation is None and {run.validation for run in block.runs} == {None}


def _on_rank(folder):
    ranks = one_of_two()
    block, predictions = scored("strict", ranks=ranks, shots=(2,))
    message = None
    try:  # one rank's fold is bad: all ranks hear of it
        features, task = problem()
        features[task.folds[2].train] = 1e30
        scored("arch-v1", features=features, ranks=ranks, seeds=1)
    except UserError as error:
        message = str(error)
    save_file(predictions, f"{folder}/{ranks.rank}.safetensors")
    with open(f"{folder}/{ranks.rank}.json", "w") as file:
        json.dump([msgspec.to_builtins(block), message], file)


def test_two_ranks_give_the_result_of_one(tmp_path):
    debug_launcher(_on_rank, args=(str(tmp_path),), num_processes=2)
    block, predictions = scored("strict", shots=(2,))
    for number in (0, 1):
        its_block, message = json.loads((tmp_path / f"{number}.json").read_text())
        assert its_block == json.loads(msgspec.json.encode(block)) and "float32's range" in message
        its_predictions = load_file(tmp_path / f"{number}.safetensors")
        for name, values in predictions.items():
            np.testing.assert_allclose(its_predictions[name], values, atol=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nearest_neighbours_are_scikit_learns(protocol):
    features, task = problem()
    targets, folds = task.targets, task.folds
    block, predictions = scored(protocol, probe="knn")
    for index, fold in enumerate(folds):
        model = KNeighborsClassifier(10, weights="distance", metric="cosine")
        voters = fold.train
        if protocol == "strict":
            model, voters = make_pipeline(StandardScaler(), model), np.union1d(fold.train, fold.validation)
        model.fit(features[voters], targets[voters])
        ours = predictions["scores"][0, predictions["fold"] == index]
        np.testing.assert_allclose(ours, model.predict_proba(features[fold.test]), atol=1e-5)
        assert block.runs[index].n_train == len(voters)
    assert len(block.runs) == 3 and block.runs[0].n_neighbours == 10
    assert set(scored(protocol, probe="knn", multi_label=True)[0].metrics) == {"map_macro", "map_weighted"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("exponent", [100, -100, -130])
def test_nearest_neighbours_are_the_same_at_any_scale(protocol, exponent):
    """Where the squares leave float32's range, too."""
    features = np.round(problem()[0] * 64) / 64
    plain, scaled = (
        scored(protocol, probe="knn", features=one)[1]["scores"] for one in (features, np.ldexp(features, exponent))
    )
    np.testing.assert_allclose(plain, scaled, atol=1e-6)


def test_a_dimension_that_only_tested_clips_move_has_no_say_among_neighbours():
    """Under strict, where dimensions are brought to one scale: this one has none."""
    features, task = problem()
    task = replace(task, folds=task.folds[:1])
    still = features.copy()
    still[:, 3] = 7
    moved = still.copy()
    moved[task.folds[0].test, 3] += 1e3
    plain, other = (scored("strict", probe="knn", features=one, task=task)[1]["scores"] for one in (still, moved))
    np.testing.assert_array_equal(plain, other)


def test_nearest_neighbours_of_vectors_that_share_a_large_mean():
    features, task = problem(noise=0.5)
    shifted = (features + 1e4).astype(np.float32)
    _, predictions = scored("arch-v1", probe="knn", features=shifted)
    for index, fold in enumerate(task.folds):
        model = KNeighborsClassifier(10, weights="distance", metric="cosine")
        model.fit(shifted[fold.train].astype(np.float64), task.targets[fold.train])
        expected = model.predict_proba(shifted[fold.test].astype(np.float64))
        np.testing.assert_allclose(predictions["scores"][0, predictions["fold"] == index], expected, atol=1e-4)


class TestWeightedSum:
    @pytest.mark.parametrize("multi_label", [False, True])
    def test_of_one_layer_it_is_stricts_probe(self, multi_label):
        features, _ = problem(multi_label)
        protocol = replace(PROTOCOLS["strict"], training=LogisticRegression())
        task = problem(multi_label)[1]
        _, linear = next(score_layers([features], task, protocol, Probes(), rank(), progress=False))
        block, summed = scored(probe="weighted_sum", multi_label=multi_label, features=features[:, None])
        np.testing.assert_allclose(summed["scores"], linear["scores"], atol=1e-3)
        assert block.runs[0].layer_weights == (1.0,) and len(block.runs) == 3

    def test_it_hears_the_layer_that_knows_whatever_its_scale(self):
        features, task = problem(noise=0.5)
        noise = np.random.default_rng(1).standard_normal((2, *features.shape)).astype(np.float32)
        layers = np.stack([1000 * noise[0], noise[1] + 50, 0.001 * features], axis=1)
        block, _ = scored(features=layers, probe="weighted_sum")
        for run in block.runs:
            assert sum(run.layer_weights) == pytest.approx(1) and run.layer_weights[2] > 0.6
        alone, _ = next(score_layers([features], task, PROTOCOLS["strict"], Probes(), rank(), progress=False))
        assert block.metrics["accuracy"].mean >= alone.metrics["accuracy"].mean - 0.02

    @pytest.mark.parametrize("strength", [0.1, 0.01])
    def test_it_has_come_to_rest(self, strength):
        """A little more of one layer and less of another, with the best regression for that: the sum is never smaller."""
        features, task = problem(noise=1.0)
        layers = torch.from_numpy(np.stack([features, features[:, ::-1] ** 2, np.abs(features)]))
        mixture = Mixture(layers, task, task.folds[0].train)
        strength = torch.tensor([strength], dtype=torch.float64)
        numbers = mixture.solve(mixture.start(), strength)[0, -3:]

        def least(numbers):
            regression = mixture.regression(numbers)
            return regression.objective(regression.solve(regression.start(), strength), strength).sum().item()

        lowest = least(numbers)
        for way in (*torch.eye(3, dtype=torch.float64), *-torch.eye(3, dtype=torch.float64)):
            assert least(numbers + 0.05 * way) >= lowest * (1 - 1e-6)
        assert lowest < least(torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_few_shots(multi_label, protocol):
    _, task = problem(multi_label)
    targets, folds = task.targets, task.folds
    runs = few_shot_runs(task, [1, 5])
    for shots, some in runs.items():
        assert len(some) == 3 * FEW_SHOT_DRAWS and len({tuple(s.fold.train) for s in some}) > FEW_SHOT_DRAWS
        for run in some:
            assert set(run.fold.train) <= set(folds[run.fold_index].train)
            hot = targets[run.fold.train] if multi_label else np.eye(3)[targets[run.fold.train]]
            assert (hot.sum(0) >= shots).all() and (multi_label or (hot.sum(0) == shots).all())
    block, _ = scored(protocol, multi_label=multi_label, shots=(1, 10))
    name = "map_macro" if multi_label else "accuracy"
    means = [block.few_shot[shots].metrics[name]["mean"] for shots in ("1", "10")]
    assert means[0] < means[1] and block.few_shot["1"].draws == FEW_SHOT_DRAWS
    with pytest.raises(UserError, match="--shots takes numbers"):
        scored(probe="knn", shots=(1,))


def test_few_shots_are_other_draws_in_each_fold():
    """Also where two folds share their train clips: else their draws would err alike, and the spread would not show it."""
    _, task = problem()
    alike = replace(task, folds=[replace(task.folds[0], test=fold.test) for fold in task.folds[:2]])
    runs = few_shot_runs(alike, [2])[2]
    first, second = ([tuple(run.fold.train) for run in runs if run.fold_index == index] for index in (0, 1))
    assert len(first) == len(second) == FEW_SHOT_DRAWS and not set(first) & set(second)


def test_few_shots_of_strict_learn_from_these_clips_alone(monkeypatch):
    """All clips of the fold drawn: the validation clips choose the strength, and are not learned from."""
    monkeypatch.setattr("arch_hf.probing.few_shot.FEW_SHOT_DRAWS", 2)
    features, task = problem()
    block, _ = scored("strict", features, shots=(10**6,))
    expected = []
    for run, fold in zip(block.runs, task.folds, strict=True):
        probe = LinearProbe(strength=run.strength).fit(features[fold.train], task.targets[fold.train])
        expected.append((probe.predict(features[fold.test]) == task.targets[fold.test]).mean())
    assert block.few_shot[str(10**6)].metrics["accuracy"] == {"mean": pytest.approx(np.mean(expected)), "std": 0.0}
