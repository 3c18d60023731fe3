"""The probe of arch-v1: the batched training against the paper's program written out plainly, its schedule, and input that no probe likes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import get_linear_schedule_with_warmup

import arch_hf.probing.adamw
from arch_hf.compat import fused_adamw
from arch_hf.errors import UserError
from arch_hf.probing.adamw import (
    ProbeData,
    apply_probe,
    initial_weights,
    learning_rate_factor,
    n_steps,
    run_generator,
    train_probes,
)
from arch_hf.probing.linear import LinearProbe
from arch_hf.probing.protocols import AdamW
from arch_hf.probing.task import Fold, RunKey

PAPER = AdamW()
NONE = np.zeros(0, np.int64)


def clips(n=150, dim=24, n_classes=4, multi_label=False, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((n_classes, dim))
    targets = rng.integers(0, n_classes, n)
    hot = np.eye(n_classes)[targets]
    if multi_label:
        targets = hot = np.maximum(hot, rng.random((n, n_classes)) < 0.2).astype(np.int64)
    return (hot @ centres + 2 * rng.standard_normal((n, dim))).astype(np.float32), targets


def fold(n_train, n=150, n_validation=30, first=0):
    order = np.roll(np.arange(n), first)
    parts = order[:n_train], order[n_train : n_train + n_validation], order[n_train + n_validation :]
    return Fold("test", *(np.sort(part) for part in parts))


def paper_rates(per_epoch, epochs=200):
    """The learning rate of every batch as the paper's program has it: a scheduler that is stepped after each batch, and after each epoch again."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    total = epochs * per_epoch
    schedule = get_linear_schedule_with_warmup(optimiser, int(0.1 * total), total)
    rates = []
    for _ in range(epochs):
        for _ in range(per_epoch):
            rates.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("per_epoch", [1, 5, 29, 40, 197])
def test_the_schedule_is_the_programs_at_every_step(per_epoch):
    expected = paper_rates(per_epoch)
    ours = [learning_rate_factor(step, per_epoch, PAPER) for step in range(200 * per_epoch)]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-15)
    steps = n_steps(RunKey(0, 0, fold(32 * per_epoch, n=32 * per_epoch, n_validation=0), 0), PAPER)
    assert not any(expected[steps:]) and expected[steps - 1] > 0, "what is left out would change nothing"
    assert 200 * per_epoch - steps == pytest.approx(200 * per_epoch / (per_epoch + 1), abs=1)


def plain_loop(features, targets, n_classes, run):
    """One run as anyone would write the program."""
    generator, train = run_generator(run), run.fold.train
    layer = torch.nn.Linear(features.shape[1], n_classes)
    with torch.no_grad():
        layer.weight.data, layer.bias.data = initial_weights(features.shape[1], n_classes, generator)
    x, y = torch.from_numpy(features), torch.from_numpy(targets)
    loss_of = torch.nn.functional.cross_entropy
    if y.ndim == 2:
        y, loss_of = y.float(), torch.nn.functional.binary_cross_entropy_with_logits
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    total = 200 * -(-len(train) // 32)
    schedule = get_linear_schedule_with_warmup(optimiser, int(0.1 * total), total)
    for _ in range(200):
        for batch in torch.from_numpy(train)[torch.randperm(len(train), generator=generator)].split(32):
            optimiser.zero_grad()
            loss_of(layer(x[batch]), y[batch]).backward()
            optimiser.step()
            schedule.step()
        schedule.step()
    return layer


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("multi_label", [False, True])
def test_it_is_the_plain_program(multi_label, fused, monkeypatch):
    """All 200 epochs, with train sizes that do and do not divide by 32, one smaller than a batch, together; with PyTorch's kernel and without."""
    if not fused:
        monkeypatch.setattr(fused_adamw, "_fused", lambda *_: False)
    features, targets = clips(multi_label=multi_label)
    data = ProbeData([features], targets, 4)
    runs = [RunKey(0, k, fold(n, first=7 * k), seed=k % 2) for k, n in enumerate((64, 70, 33, 5))]
    probes = train_probes(data, runs, PAPER, progress=False)
    for run, probe in zip(runs, probes, strict=True):
        layer = plain_loop(features, targets, 4, run)
        assert torch.allclose(probe.weight, layer.weight, atol=1e-4, rtol=0)
        assert torch.allclose(probe.bias, layer.bias, atol=1e-4, rtol=0)
        with torch.no_grad():
            expected = layer(torch.from_numpy(features[run.fold.test])).numpy()
            seen = layer(torch.from_numpy(features[run.fold.validation]))
        outcome = apply_probe(data, probe)
        np.testing.assert_allclose(outcome.scores, expected, atol=1e-3)
        assert outcome.n_train == len(run.fold.train)
        if not multi_label:
            assert outcome.validation == (seen.argmax(1).numpy() == targets[run.fold.validation]).mean()


def test_the_step_is_torchs_with_the_kernel_and_without():
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(30, generator=generator), torch.randn(5, 30, generator=generator)
    reference = torch.nn.Parameter(start.clone())
    optimiser = torch.optim.AdamW([reference], lr=0.01, weight_decay=0.1)
    states = [(start.clone(), torch.zeros(30), torch.zeros(30)) for _ in range(2)]
    for number, gradient in enumerate(gradients, start=1):
        reference.grad = gradient.clone()
        optimiser.step()
        steps = (fused_adamw.adamw_step, fused_adamw.plain_adamw_step)
        for step, (weights, first, second) in zip(steps, states, strict=True):
            tensors = (weights, gradient.clone(), first, second)
            step(tensors, torch.tensor(float(number)), 0.01, (0.9, 0.999), 1e-8, 0.1)
            assert torch.allclose(weights, reference.detach(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kernel", [None, lambda *_: None])
def test_a_torch_without_the_kernel_or_with_another_one(kernel, monkeypatch):
    monkeypatch.setattr(torch, "_fused_adamw_", kernel, raising=False)
    weights = torch.ones(2)
    tensors = (weights, torch.tensor([1.0, -1.0]), torch.zeros(2), torch.zeros(2))
    fused_adamw.adamw_step(tensors, torch.tensor(1.0), 0.1, (0.9, 0.999), 1e-8, 0.0)
    assert torch.allclose(weights, torch.tensor([0.9, 1.1]))


def test_alone_in_company_and_in_small_groups(monkeypatch):
    features, targets = clips()
    layers = [features, features[:, ::-1].copy(), features**2]
    runs = [RunKey(layer, k, fold(n), s) for layer in range(3) for k, n in enumerate((64, 45)) for s in range(2)]
    quick = replace(PAPER, epochs=12)
    together = train_probes(ProbeData(layers, targets, 4), runs, quick)
    monkeypatch.setitem(arch_hf.probing.adamw.STATE_BYTES, "cpu", 1)
    alone = [train_probes(ProbeData([layers[s.layer]], targets, 4), [replace(s, layer=0)], quick)[0] for s in runs]
    in_groups = train_probes(ProbeData(layers, targets, 4), runs[::-1], quick)[::-1]
    for one, two, three in zip(together, alone, in_groups, strict=True):
        assert torch.allclose(one.weight, two.weight, atol=1e-5, rtol=0) and torch.equal(two.weight, three.weight)
    assert not torch.allclose(together[0].weight, together[1].weight, atol=1e-3), "seeds differ"


def test_initial_weights_are_drawn_as_linear_draws_them():
    torch.manual_seed(5)
    layer = torch.nn.Linear(300, 7)
    weight, bias = initial_weights(300, 7, torch.Generator().manual_seed(5))
    assert torch.equal(weight, layer.weight) and torch.equal(bias, layer.bias)


def test_the_class_is_the_same_probe():
    features, targets = clips()
    (probe,) = train_probes(
        ProbeData([features], targets, 4), [RunKey(0, 0, fold(150, n_validation=0), 3)], PAPER, False
    )
    ours = LinearProbe("arch-v1", seed=3).fit(features, targets)
    np.testing.assert_array_equal(ours.weight, probe.weight.double().numpy())
    assert ours.strength is None


def outcome_of(features, targets, n_classes, its_fold):
    data = ProbeData([features.astype(np.float32)], targets, n_classes)
    (probe,) = train_probes(data, [RunKey(0, 0, its_fold, 0)], replace(PAPER, epochs=20), progress=False)
    outcome = apply_probe(data, probe)
    assert np.isfinite(outcome.scores).all() and outcome.scores.shape == (len(its_fold.test), n_classes)
    return outcome


class TestDegenerate:
    def test_one_class_only(self):
        features, _ = clips(n=60)
        assert (outcome_of(features, np.zeros(60, np.int64), 1, fold(40, 60, 10)).scores.argmax(1) == 0).all()

    def test_a_class_absent_from_train(self):
        features, targets = clips()
        train = np.flatnonzero(targets != 3)[:60]
        rest = np.setdiff1d(np.arange(150), train)
        outcome_of(features, targets, 4, Fold("test", train, rest[:20], rest[20:]))

    def test_fewer_clips_than_a_batch(self):
        features, targets = clips(n=12)
        outcome_of(features, targets, 4, fold(3, 12, 2))

    @pytest.mark.parametrize("value", [0.0, 1.0, -1e6])
    def test_constant_embeddings(self, value):
        _, targets = clips()
        assert len(np.unique(outcome_of(np.full((150, 24), value), targets, 4, fold(90)).scores, axis=0)) == 1

    def test_large_embeddings_are_fine_and_huge_ones_are_refused(self):
        features, targets = clips()
        outcome_of(features * 1e10, targets, 4, fold(90))
        for scale in (1e25, 1e37):
            with pytest.raises(UserError, match="float32's range"):
                outcome_of(features * scale, targets, 4, fold(90))

    def test_all_labels_positive(self):
        features, _ = clips()
        assert outcome_of(features, np.ones((150, 4), np.int64), 4, fold(90)).scores.mean() > 0

    def test_a_fold_without_validation(self):
        features, targets = clips()
        assert (
            outcome_of(features, targets, 4, Fold("test", np.arange(90), NONE, np.arange(90, 150))).validation is None
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu():
    features, targets = clips()
    runs = [RunKey(0, k, fold(n), 0) for k, n in enumerate((96, 70))]
    quick = replace(PAPER, epochs=50)
    on_cpu = train_probes(ProbeData([features], targets, 4), runs, quick)
    on_gpu = train_probes(ProbeData([features], targets, 4, "cuda"), runs, quick)
    for one, two in zip(on_cpu, on_gpu, strict=True):
        assert torch.allclose(one.weight, two.weight.cpu(), atol=1e-4, rtol=0)
