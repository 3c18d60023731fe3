"""The probe of strict against scikit-learn's LogisticRegression, under any scale and shift, and on what has no optimum."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import arch_hf.probing.logistic
import arch_hf.probing.strict
from arch_hf.errors import UserError
from arch_hf.probing.layers import Layers
from arch_hf.probing.lbfgs import TOLERANCE, minimise
from arch_hf.probing.linear import LinearProbe
from arch_hf.probing.logistic import NEVER, Regressions, TrainingSet
from arch_hf.probing.protocols import PROTOCOLS
from arch_hf.probing.strict import choose, fit, fit_and_test, validation_loss
from arch_hf.probing.task import Fold, RunKey

STRENGTHS = PROTOCOLS["strict"].training.strengths
FEW = STRENGTHS[3:9]  # 10^0.5 to 10^-2


def embeddings(n, dim, n_classes, overlap=1.0, multi_label=False, decades=2.0, seed=0):
    """Clips whose dimensions differ in scale by so many decades, about a mean that is not 0."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, n_classes, n)
    centres = rng.standard_normal((n_classes, dim))
    features = centres[targets] + overlap * np.sqrt(dim) * rng.standard_normal((n, dim)) / 2
    if multi_label:
        targets = np.maximum(np.eye(n_classes)[targets], rng.random((n, n_classes)) < 0.15).astype(np.int64)
    scales = 10 ** rng.uniform(-decades / 2, decades / 2, dim)
    return ((features + rng.standard_normal(dim)) * scales).astype(np.float32), targets


def theirs(features, targets, learned, strength):
    """scikit-learn's objective and a function from embeddings to scores."""
    scaler = StandardScaler().fit(features[learned].astype(np.float64))
    inputs, truth = scaler.transform(features[learned].astype(np.float64)), targets[learned]
    options = {"C": 1 / (strength * len(learned)), "tol": 1e-9, "max_iter": 50_000}
    if truth.ndim == 1:
        model = LogisticRegression(**options).fit(inputs, truth)
        likely = model.predict_log_proba(inputs)
        loss = -likely[np.arange(len(truth)), np.searchsorted(model.classes_, truth)].mean()
        objective = loss + strength / 2 * np.square(model.coef_).sum()
        return objective, lambda x: model.decision_function(scaler.transform(x.astype(np.float64)))
    models = [LogisticRegression(**options).fit(inputs, column) for column in truth.T]
    objective = 0.0
    for model, column in zip(models, truth.T, strict=True):
        likely = model.predict_log_proba(inputs)[np.arange(len(column)), column]
        objective += -likely.mean() + strength / 2 * np.square(model.coef_).sum()
    return objective, lambda x: np.stack(
        [model.decision_function(scaler.transform(x.astype(np.float64))) for model in models], axis=1
    )


SETS = {
    "fewer clips than dimensions": {"n": 90, "dim": 128, "n_classes": 5},
    "more clips": {"n": 600, "dim": 20, "n_classes": 8},
    "separable": {"n": 200, "dim": 40, "n_classes": 3, "overlap": 0.2},
    "fifty classes": {"n": 400, "dim": 64, "n_classes": 50, "overlap": 0.5},
    "scales over eight decades": {"n": 300, "dim": 30, "n_classes": 4, "decades": 8.0},
    "several labels": {"n": 400, "dim": 30, "n_classes": 6, "multi_label": True},
}


@pytest.mark.parametrize("shape", SETS.values(), ids=list(SETS))
@pytest.mark.parametrize("strength", [10.0, 1e-1, 1e-3])
def test_the_optimum_is_scikit_learns(shape, strength):
    features, targets = embeddings(**shape)
    n = len(features)
    learned, other = np.arange(n * 2 // 3), np.arange(n * 2 // 3, n)
    data = Layers.of([features], targets, shape["n_classes"])
    regressions = Regressions(data, [TrainingSet(0, learned), TrainingSet(0, other)])
    strengths = torch.tensor([strength, 1.0], dtype=torch.float64)
    found = regressions.solve(regressions.start(), strengths)
    ours = regressions.objective(found, strengths)[: len(regressions.set_of) // 2].sum().item()
    objective, score = theirs(features, targets, learned, strength)
    assert ours == pytest.approx(objective, rel=1e-5) and ours <= objective * (1 + 1e-8)
    mine, expected = regressions.scores(found, 0, other).numpy(), score(features[other])
    if targets.ndim == 2:
        np.testing.assert_array_equal((mine > 0)[np.abs(expected) > 1e-3], (expected > 0)[np.abs(expected) > 1e-3])
    else:
        first, second = np.sort(expected, axis=1)[:, [-1, -2]].T
        clear = first - second > 1e-3  # the others are ties
        np.testing.assert_array_equal(mine.argmax(1)[clear], expected.argmax(1)[clear])
        assert clear.mean() > 0.95


def runs_of(features, layers=1):
    """Three folds of which each tests, validates and trains in turn; at each layer."""
    parts = [np.flatnonzero(np.arange(len(features)) % 3 == k) for k in range(3)]
    folds = [Fold(f"fold_{k + 1}", parts[k - 2], parts[k - 1], parts[k]) for k in range(3)]
    return [RunKey(layer, k, fold, 0) for layer in range(layers) for k, fold in enumerate(folds)]


def accuracy(outcomes, runs, targets):
    return [
        (outcome.scores.argmax(1) == targets[run.fold.test]).mean() for run, outcome in zip(runs, outcomes, strict=True)
    ]


def test_scale_and_shift_change_nothing():
    """Of all dimensions, and of each its own; by powers of two, so that nothing is rounded."""
    features, targets = embeddings(240, 24, 5, decades=0)
    rng, runs = np.random.default_rng(1), runs_of(features)
    features = np.round(features * 64) / 64
    scales = 2.0 ** rng.integers(-12, 12, 24)
    shifts = rng.integers(-1000, 1000, 24)
    changed = [features, features * 2**-10, features * 2**20, features + 1000, (features + shifts) * scales]
    layers = [np.float32(one) for one in changed]
    data = Layers.of(layers, targets, 5)
    everything = [replace(run, layer=layer) for layer in range(len(layers)) for run in runs]
    outcomes = fit_and_test(data, everything, STRENGTHS, progress=False)
    for layer in range(1, len(layers)):
        for plain, other in zip(outcomes[:3], outcomes[3 * layer : 3 * layer + 3], strict=True):
            assert plain.kept["strength"] == other.kept["strength"] and plain.validation == other.validation
            np.testing.assert_allclose(plain.scores, other.scores, atol=2e-5)
            np.testing.assert_array_equal(plain.scores.argmax(1), other.scores.argmax(1))


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_rough_walk_chooses_what_a_close_one_does(monkeypatch, multi_label):
    """Also between strengths whose losses are hardly apart, and where the smallest strengths are far from solved."""
    features, targets = embeddings(300, 60, 4, overlap=1.5, multi_label=multi_label)
    runs, grid = runs_of(features), tuple(10 ** (exponent / 16) for exponent in range(8, -33, -1))
    data = Layers.of([features], targets, 4)
    outcomes = fit_and_test(data, runs, grid, progress=False)
    monkeypatch.setattr(arch_hf.probing.strict, "ROUGH", 1e-9)
    for one, close in zip(outcomes, fit_and_test(data, runs, grid, progress=False), strict=True):
        assert one.kept == close.kept and one.kept["grid_edge"] is None
        np.testing.assert_allclose(one.scores, close.scores, atol=1e-4)


def test_what_float32_cannot_solve_is_solved_in_float64(monkeypatch):
    features, targets = embeddings(150, 16, 3)
    runs, data = runs_of(features), Layers.of([features], targets, 3)
    expected = fit_and_test(data, runs, FEW, progress=False)
    seen, evaluate = [], Regressions._evaluate

    def watched(self, coefficients, which, strengths, dtype=torch.float64):
        seen.append(dtype)
        return evaluate(self, coefficients, which, strengths, dtype)

    monkeypatch.setattr(Regressions, "_evaluate", watched)
    fit_and_test(data, runs, FEW, progress=False)
    assert set(seen) == {torch.float32, torch.float64}
    monkeypatch.setattr(arch_hf.probing.logistic, "STEPS_IN_SINGLE", 0)
    seen.clear()
    fit_and_test(data, runs, FEW, progress=False)
    assert seen.count(torch.float32) == 1, "what failed at one strength is not tried at each"
    for one, other in zip(expected, fit_and_test(data, runs, FEW, progress=False), strict=True):
        assert one.kept == other.kept
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_a_tiny_loss_is_no_rounding():
    """Where all is learned, losses are far below the rounding of float32, and the way down is still seen."""
    features, targets = embeddings(300, 20, 3, overlap=0.02)
    (outcome,) = fit_and_test(
        Layers.of([features], targets, 3), runs_of(features)[:1], tuple(10.0 ** -np.arange(2, 10)), progress=False
    )
    assert outcome.kept["validation_loss"] < 1e-5 and outcome.kept["grid_edge"] == "smallest"


@pytest.mark.parametrize("multi_label", [False, True])
def test_choice_and_last_solution_are_those_of_a_plain_search(multi_label):
    features, targets = embeddings(240, 24, 4, multi_label=multi_label)
    runs = runs_of(features)
    outcomes = fit_and_test(Layers.of([features], targets, 4), runs, STRENGTHS, progress=False)
    for run, outcome in zip(runs, outcomes, strict=True):
        losses = []
        for strength in STRENGTHS[3:12]:
            scores = theirs(features, targets, run.fold.train, strength)[1](features[run.fold.validation])
            truth = targets[run.fold.validation]
            if multi_label:
                losses.append(np.mean(np.logaddexp(0, scores) - truth * scores))
            else:
                losses.append(np.mean(np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(truth)), truth]))
        best = STRENGTHS[3 + int(np.argmin(losses))]
        assert outcome.kept == {
            "strength": best, "validation_loss": pytest.approx(min(losses), rel=1e-4), "grid_edge": None,
        }  # fmt: skip
        both = np.union1d(run.fold.train, run.fold.validation)
        assert outcome.n_train == len(both) == 160
        expected = theirs(features, targets, both, best)[1](features[run.fold.test])
        if not multi_label:  # a constant over the classes says nothing
            expected = expected - expected.mean(1, keepdims=True)
            outcome.scores[:] -= outcome.scores.mean(1, keepdims=True)
        np.testing.assert_allclose(outcome.scores, expected, atol=1e-3)


def test_the_choice_keeps_what_was_solved():
    """Not where that began, the rough solution of the walk: loss, metric and coefficients are of one solution."""
    features, targets = embeddings(150, 16, 3)
    runs = runs_of(features)
    regressions = Regressions(Layers.of([features], targets, 3), [TrainingSet(0, run.fold.train) for run in runs])
    choice = choose(regressions, [run.fold.validation for run in runs], FEW, lambda solutions: None)
    for position, run in enumerate(runs):
        kept = validation_loss(regressions, choice.coefficients, position, run.fold.validation)
        assert kept == choice.losses[position].item()


def test_layers_folds_and_groups_of_them_give_one_answer(monkeypatch):
    features, targets = embeddings(150, 16, 3)
    layers = [features, features[:, ::-1] ** 2, features * 3]
    runs = runs_of(features, layers=3)
    data = Layers.of(layers, targets, 3)
    together = fit_and_test(data, runs, FEW, progress=False)
    monkeypatch.setitem(arch_hf.probing.strict.STATE_BYTES, "cpu", 1)
    monkeypatch.setitem(arch_hf.probing.logistic.CHUNK_NUMBERS, "cpu", 1)
    alone = fit_and_test(data, runs[::-1], FEW, progress=False)[::-1]
    for one, other in zip(together, alone, strict=True):
        assert one.kept["strength"] == other.kept["strength"]
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_each_solution_begins_near_where_it_ends(monkeypatch, multi_label):
    """On the walk by going on as it went, then at the rough solution of the same strength, at last at the one that was chosen."""
    features, targets = embeddings(150, 16, 3, multi_label=multi_label)
    solve, far = Regressions.solve, []

    def watched(self, start, strengths, tolerance=TOLERANCE):
        found = solve(self, start, strengths, tolerance)
        least = self.objective(found, strengths)
        far.append(((self.objective(start, strengths) - least) / least).max().item())
        return found

    monkeypatch.setattr(Regressions, "solve", watched)
    fit_and_test(Layers.of([features], targets, 3), runs_of(features)[:1], FEW, progress=False)
    _, *walk = far[: len(FEW)]
    *close, last = far[len(FEW) :]
    assert max(walk) < 0.03 and max(close) < 1e-4 and last < 0.4


def test_what_a_set_cannot_learn_is_no_start_that_another_set_knows():
    features, targets = embeddings(120, 8, 3)
    data, clips = Layers.of([features], targets, 3), np.arange(120)
    every, two = (Regressions(data, [TrainingSet(0, its)]) for its in (clips, clips[targets != 2]))
    known = every.solve(every.start(), torch.ones(1, dtype=torch.float64))
    start = two.by_set(two.start(known))[0]
    assert start[-1, 2] == -NEVER and not start[:-1, 2].any()
    torch.testing.assert_close(start[:, :2], every.by_set(known)[0, :, :2])


def test_few_clips_of_many_are_solved_by_themselves():
    """Small training sets of a large layer are taken out of it, not weighed with 0."""
    features, targets = embeddings(600, 10, 3)
    rng = np.random.default_rng(0)
    sets = [TrainingSet(0, np.sort(rng.choice(600, 30, replace=False))) for _ in range(4)]
    data = Layers.of([features], targets, 3)
    several = Regressions(data, sets)
    assert [len(block.inputs) for block in several.blocks] == [30] * 4
    strengths = torch.full((4,), 0.1, dtype=torch.float64)
    found = several.solve(several.start(), strengths)
    for position, one in enumerate(sets):
        alone = Regressions(data, [one])
        scores = alone.scores(alone.solve(alone.start(), strengths[:1]), 0, np.arange(600))
        assert torch.allclose(several.scores(found, position, np.arange(600)), scores, atol=1e-5)


@pytest.mark.parametrize(("grid", "edge"), [((0.1, 0.01), "greatest"), ((1e6, 1e4), "smallest"), ((1.0,), None)])
def test_the_edge_of_the_grid_is_said(grid, edge):
    features, targets = embeddings(150, 16, 3, overlap=3.0)
    outcomes = fit_and_test(Layers.of([features], targets, 3), runs_of(features), grid, progress=False)
    assert [outcome.kept["grid_edge"] for outcome in outcomes] == [edge] * 3


def test_without_the_second_solution():
    features, targets = embeddings(150, 16, 3)
    run = runs_of(features)[0]
    data = Layers.of([features], targets, 3)
    fitted = fit(data, [run], FEW, once_more=False)
    (outcome,) = fitted.outcomes([run])
    assert outcome.n_train == len(run.fold.train) and outcome.kept["strength"] == fitted.choice.strengths.item()
    probe = LinearProbe(strength=outcome.kept["strength"]).fit(features[run.fold.train], targets[run.fold.train])
    np.testing.assert_allclose(probe.scores(features[run.fold.test]), outcome.scores, atol=1e-3)


def test_the_class_does_what_the_job_does():
    features, targets = embeddings(150, 16, 3)
    run = runs_of(features)[0]
    (outcome,) = fit_and_test(Layers.of([features], targets, 3), [run], STRENGTHS, progress=False)
    train, validation, test = (features[part] for part in (run.fold.train, run.fold.validation, run.fold.test))
    probe = LinearProbe().fit(train, targets[run.fold.train], validation=(validation, targets[run.fold.validation]))
    assert probe.strength == outcome.kept["strength"]
    np.testing.assert_allclose(probe.scores(test), outcome.scores, atol=1e-4)
    np.testing.assert_array_equal(probe.predict(test), outcome.scores.argmax(1))
    with pytest.raises(UserError, match="give validation="):
        LinearProbe().fit(train, targets[run.fold.train])


def test_each_fit_of_the_class_chooses_its_own_strength():
    probe, strengths = LinearProbe(), []
    for overlap in (0.5, 3.0):
        features, targets = embeddings(150, 16, 3, overlap)
        data = (features[:100], targets[:100], (features[100:], targets[100:]))
        strengths.append(probe.fit(*data).strength)
        fresh = LinearProbe().fit(*data)
        assert probe.strength == fresh.strength
        np.testing.assert_array_equal(probe.weight, fresh.weight)
    assert strengths[0] < strengths[1]
    with pytest.raises(UserError, match="give validation="):
        probe.fit(features, targets)


@pytest.mark.parametrize("protocol", ["strict", "arch-v1"])
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_the_class_wants_finite_embeddings(protocol, value):
    features, targets = embeddings(30, 4, 3)
    features = features.astype(np.float64)
    features[3, 1] = value
    with pytest.raises(UserError, match="not finite"):
        LinearProbe(protocol, strength=1.0).fit(features, targets)


class TestNoOptimum:
    """Where the sum has none: what no clip shows cannot be learned, and what all show needs no learning."""

    def outcome(self, features, targets, n_classes, run):
        (outcome,) = fit_and_test(
            Layers.of([np.float32(features)], targets, n_classes), [run], STRENGTHS, progress=False
        )
        assert np.isfinite(outcome.scores).all() and np.isfinite(outcome.kept["validation_loss"])
        return outcome

    def test_a_class_of_validation_and_test_only(self):
        features, targets = embeddings(240, 16, 4)
        run = runs_of(features)[0]
        train = run.fold.train[targets[run.fold.train] != 3]
        run = replace(run, fold=replace(run.fold, train=train))
        some = self.outcome(features, targets, 4, run)
        assert (some.scores.argmax(1) == 3).any(), "validation clips show it, and the last solution learns from them"
        without = run.fold.validation[targets[run.fold.validation] != 3]
        none = self.outcome(features, targets, 4, replace(run, fold=replace(run.fold, validation=without)))
        assert (none.scores[:, 3] < none.scores[:, :3].min(1) - 1000).all()
        three = self.outcome(
            features, np.minimum(targets, 2), 3, replace(run, fold=replace(run.fold, validation=without))
        )
        assert none.kept["strength"] == three.kept["strength"] == some.kept["strength"]

    def test_labels_that_none_or_all_have(self):
        features, targets = embeddings(240, 16, 4, multi_label=True)
        run = runs_of(features)[0]
        targets[np.concatenate([run.fold.train, run.fold.validation]), 0] = 0
        targets[np.concatenate([run.fold.train, run.fold.validation]), 1] = 1
        scores = self.outcome(features, targets, 4, run).scores
        assert len(np.unique(scores[:, 0])) == len(np.unique(scores[:, 1])) == 1 and scores[0, 0] < 0 < scores[0, 1]
        assert len(np.unique(scores[:, 2])) > 1

    @pytest.mark.parametrize("label", [0, 1])
    def test_a_label_that_none_or_all_train_clips_have_has_no_part_in_the_choice(self, label):
        features, targets = embeddings(240, 16, 4, multi_label=True)
        run = runs_of(features)[0]
        targets[run.fold.train, 3] = label
        assert len(np.unique(targets[run.fold.validation, 3])) == 2
        without = self.outcome(features, targets[:, :3], 3, run)
        assert self.outcome(features, targets, 4, run).kept == without.kept

    def test_one_class_alone(self):
        features, _ = embeddings(60, 8, 2)
        assert (self.outcome(features, np.zeros(60, np.int64), 1, runs_of(features)[0]).scores.argmax(1) == 0).all()

    @pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e6, 3e37])
    def test_constant_embeddings(self, value):
        _, targets = embeddings(90, 8, 3)
        scores = self.outcome(np.full((90, 8), value), targets, 3, runs_of(targets)[0]).scores
        assert np.ptp(scores, axis=0).max() < 1e-6

    def test_a_dimension_that_only_test_clips_move(self):
        features, targets = embeddings(90, 8, 3)
        run = runs_of(features)[0]
        expected = self.outcome(features, targets, 3, run).scores
        features = np.concatenate([features, np.full((90, 1), 0.1, np.float32)], axis=1)
        features[run.fold.test, -1] = 1e6
        np.testing.assert_allclose(self.outcome(features, targets, 3, run).scores, expected, atol=1e-4)

    @pytest.mark.parametrize("size", [1e3, 1e8, 1e30])
    @pytest.mark.parametrize("learned_elsewhere", [False, True])
    def test_a_test_clip_unlike_all_others(self, size, learned_elsewhere):
        """Whatever it is, it says nothing of the fold that it tests, also where it is a training clip of other folds."""
        features, targets = embeddings(120, 8, 3)
        run, *others = runs_of(features)
        others = others if learned_elsewhere else []
        learned = None if learned_elsewhere else np.union1d(run.fold.train, run.fold.validation)

        def outcome(features):
            data = Layers.of([np.float32(features)], targets, 3, learned=learned)
            return fit_and_test(data, [run, *others], STRENGTHS, progress=False)[0]

        plain = outcome(features)
        odd, rest = run.fold.test[:2], slice(2, None)
        changed = features.copy()
        changed[odd] *= np.float32(size)
        found = outcome(changed)
        assert found.kept == plain.kept and found.validation == plain.validation
        np.testing.assert_allclose(found.scores[rest], plain.scores[rest], atol=1e-4)
        assert np.isfinite(found.scores).all() and np.abs(found.scores[:2]).max() > 100

    def test_half_of_the_clips_far_away(self):
        """More test clips than others, and all of them elsewhere."""
        features, targets = embeddings(300, 8, 3)
        clips = np.arange(300)
        run = RunKey(0, 0, Fold("test", clips[:60], clips[60:90], clips[90:]), 0)
        changed = features.copy()
        changed[90:] = 1e7 + 1e8 * features[90:]
        plain, found = (
            fit_and_test(Layers.of([one], targets, 3, learned=clips[:90]), [run], STRENGTHS, progress=False)[0]
            for one in (features, changed)
        )
        assert found.kept == plain.kept
        probe = LinearProbe(strength=plain.kept["strength"]).fit(changed[:90], targets[:90])
        scores = probe.scores(changed[90:])
        np.testing.assert_allclose(found.scores, scores, atol=1e-3 * np.abs(scores).max())

    def test_dimensions_of_few_clips(self):
        """One clip alone moves a dimension: to the clips of a fold it is constant, or it is not."""
        features, targets = embeddings(90, 8, 3)
        run = runs_of(features)[0]
        lonely = np.zeros((90, 2), np.float32)
        lonely[run.fold.test[0], 0] = lonely[run.fold.train[0], 1] = 5.0
        expected = self.outcome(np.concatenate([features, lonely[:, 1:]], axis=1), targets, 3, run).scores
        found = self.outcome(np.concatenate([features, lonely], axis=1), targets, 3, run).scores
        np.testing.assert_allclose(found, expected, atol=1e-4)
        without = self.outcome(features, targets, 3, run).scores
        assert np.abs(found - without).max() > 1e-2

    def test_huge_embeddings(self):
        features, targets = embeddings(90, 8, 3)
        run = runs_of(features)[0]
        plain = self.outcome(features, targets, 3, run)
        np.testing.assert_allclose(self.outcome(features * 2.0**100, targets, 3, run).scores, plain.scores, atol=1e-5)

    def test_a_single_training_clip(self):
        features, targets = embeddings(30, 8, 3)
        clips = np.arange(30)
        self.outcome(features, targets, 3, RunKey(0, 0, Fold("test", clips[:1], clips[1:2], clips[2:]), 0))


def test_the_minimiser_takes_a_rise_that_is_rounding():
    """Near the minimum of what does not vanish there, the way down is smaller than the noise of its value."""
    calls = []

    def noisy(x, which):
        calls.append(1)
        return torch.full((len(x),), 1 + 5e-11 * len(calls), dtype=torch.float64), 2 * x

    start = torch.full((1, 1), 6e-5, dtype=torch.float64)
    found = minimise(noisy, start, lambda point, which: lambda gradient, which: gradient / 2, most_steps=20)
    assert abs(found.item()) < 1e-6


def test_the_minimiser_says_when_it_cannot():
    start = torch.ones(1, 2, dtype=torch.float64)
    plain = lambda point, _: lambda gradient, _: gradient  # noqa: E731
    with pytest.raises(UserError, match="not solved in 50 steps"):
        minimise(lambda x, _: (-x.sum(1), -torch.ones_like(x)), start, plain, most_steps=50)
    with pytest.raises(UserError, match="not finite"):
        minimise(lambda x, _: (x.sum(1) * torch.nan, x), start, plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("multi_label", [False, True])
def test_gpu_equals_cpu(multi_label):
    features, targets = embeddings(240, 24, 5, multi_label=multi_label)
    runs = runs_of(features)
    on_cpu, on_gpu = (
        fit_and_test(Layers.of([features], targets, 5, device), runs, STRENGTHS, progress=False)
        for device in ("cpu", "cuda")
    )
    for one, two in zip(on_cpu, on_gpu, strict=True):
        assert one.kept["strength"] == two.kept["strength"]
        np.testing.assert_allclose(one.scores, two.scores, atol=1e-4)
