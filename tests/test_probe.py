"""The batched probe against a plain PyTorch loop, its schedule, and input that no probe likes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from transformers import get_linear_schedule_with_warmup

import arch_hf.probing.linear
from arch_hf.errors import UserError
from arch_hf.probing.linear import (
    ProbeData,
    RunKey,
    apply_probe,
    initial_weights,
    learning_rate_factor,
    run_generator,
    train_probes,
)
from arch_hf.probing.protocols import PROTOCOLS
from arch_hf.probing.task import Fold

ARCH_V1, STRICT = PROTOCOLS["arch-v1"], PROTOCOLS["strict"]
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


def plain_loop(features, targets, n_classes, run, protocol, rate):
    """One run as anyone would write it; returns the layer, and (metric, -loss) on validation with the weights, by epoch."""
    generator, train = run_generator(run), run.fold.train
    layer = torch.nn.Linear(features.shape[1], n_classes)
    with torch.no_grad():
        layer.weight.data, layer.bias.data = initial_weights(features.shape[1], n_classes, generator)
    x, y = torch.from_numpy(features), torch.from_numpy(targets)
    loss_of = torch.nn.functional.cross_entropy
    if y.ndim == 2:
        y, loss_of = y.float(), torch.nn.functional.binary_cross_entropy_with_logits
    optimiser = torch.optim.AdamW(layer.parameters(), lr=rate)
    total = protocol.epochs * -(-len(train) // 32)
    schedule = get_linear_schedule_with_warmup(optimiser, round(0.1 * total), total)
    history = []
    for _ in range(protocol.epochs):
        for batch in torch.from_numpy(train)[torch.randperm(len(train), generator=generator)].split(32):
            optimiser.zero_grad()
            loss_of(layer(x[batch]), y[batch]).backward()
            optimiser.step()
            schedule.step()
        if protocol.selects:
            with torch.no_grad():
                logits, truth = layer(x[run.fold.validation]), y[run.fold.validation]
                if y.ndim == 1:
                    metric = (logits.argmax(1) == truth).double().mean().item()
                else:
                    metric = average_precision_score(truth.numpy(), logits.numpy())
                history.append((metric, -loss_of(logits, truth).item(), layer.weight.clone(), layer.bias.clone()))
    return layer, history


@pytest.mark.parametrize("multi_label", [False, True])
def test_arch_v1_equals_the_plain_loop(multi_label):
    """All 200 epochs, with train sizes that do and do not divide by 32, one smaller than a batch, together."""
    features, targets = clips(multi_label=multi_label)
    data = ProbeData([features], targets, 4)
    runs = [RunKey(0, k, fold(n, first=7 * k), seed=k % 2) for k, n in enumerate((64, 70, 33, 5))]
    probes = train_probes(data, runs, ARCH_V1)
    for run, probe in zip(runs, probes, strict=True):
        layer, _ = plain_loop(features, targets, 4, run, ARCH_V1, 1e-3)
        assert torch.allclose(probe.weight, layer.weight, atol=1e-4, rtol=0)
        assert torch.allclose(probe.bias, layer.bias, atol=1e-4, rtol=0)
        with torch.no_grad():
            expected = layer(torch.from_numpy(features[run.fold.test])).numpy()
        np.testing.assert_allclose(apply_probe(data, probe).scores, expected, atol=1e-3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_strict_keeps_what_a_plain_search_keeps(multi_label):
    features, targets = clips(multi_label=multi_label)
    protocol = replace(STRICT, epochs=20)
    data = ProbeData([features], targets, 4)
    runs = [RunKey(0, k, fold(n, first=9 * k), 3) for k, n in enumerate((90, 40))]
    for run, probe in zip(runs, train_probes(data, runs, protocol), strict=True):
        found = []
        for rate in protocol.learning_rates:
            _, history = plain_loop(features, targets, 4, run, protocol, rate)
            found += [
                (metric, loss, -rate, -epoch, w, b) for epoch, (metric, loss, w, b) in enumerate(history, start=1)
            ]
        metric, _, rate, epoch, weight, bias = max(found, key=lambda entry: (round(entry[0], 9), entry[1:4]))
        assert (probe.validation, probe.learning_rate, probe.epoch) == (pytest.approx(metric), -rate, -epoch)
        assert torch.allclose(probe.weight, weight, atol=1e-4, rtol=0) and torch.allclose(probe.bias, bias, atol=1e-4)


def test_alone_in_company_and_in_small_groups(monkeypatch):
    features, targets = clips()
    layers = [features, features[:, ::-1].copy(), features**2]
    runs = [RunKey(layer, k, fold(n), s) for layer in range(3) for k, n in enumerate((64, 45)) for s in range(2)]
    protocol = replace(STRICT, epochs=12)
    together = train_probes(ProbeData(layers, targets, 4), runs, protocol)
    monkeypatch.setitem(arch_hf.probing.linear.STATE_BYTES, "cpu", 1)
    alone = [train_probes(ProbeData([layers[s.layer]], targets, 4), [replace(s, layer=0)], protocol)[0] for s in runs]
    in_groups = train_probes(ProbeData(layers, targets, 4), runs[::-1], protocol)[::-1]
    for one, two, three in zip(together, alone, in_groups, strict=True):
        assert torch.allclose(one.weight, two.weight, atol=1e-5, rtol=0)
        assert torch.equal(two.weight, three.weight) and one.epoch == two.epoch == three.epoch
    assert not torch.allclose(together[0].weight, together[1].weight, atol=1e-3), "seeds differ"


def test_initial_weights_are_drawn_as_linear_draws_them():
    torch.manual_seed(5)
    layer = torch.nn.Linear(300, 7)
    weight, bias = initial_weights(300, 7, torch.Generator().manual_seed(5))
    assert torch.equal(weight, layer.weight) and torch.equal(bias, layer.bias)


@pytest.mark.parametrize("n_train", [1, 31, 33, 1280, 7173, 50628])
def test_schedule_is_that_of_transformers(n_train):
    total = 200 * -(-n_train // 32)
    layer = torch.nn.Linear(1, 1)
    expected = get_linear_schedule_with_warmup(torch.optim.SGD(layer.parameters(), 1.0), total // 10, total).lr_lambdas[
        0
    ]
    for step in (0, 1, total // 10 - 1, total // 10, total // 10 + 1, total // 2, total - 1, total):
        assert learning_rate_factor(step, total, 0.1) == pytest.approx(expected(step), abs=1e-15)
    assert learning_rate_factor(0, total, 0.1) == 0
    assert learning_rate_factor(total // 10, total, 0.1) == 1
    assert learning_rate_factor(total * 11 // 20, total, 0.1) == pytest.approx(0.5)
    assert learning_rate_factor(total - 1, total, 0.1) == pytest.approx(1 / (0.9 * total))


def probe_of(features, targets, n_classes, its_fold, protocol=ARCH_V1):
    protocol = replace(protocol, epochs=20)
    data = ProbeData([features.astype(np.float32)], targets, n_classes)
    (probe,) = train_probes(data, [RunKey(0, 0, its_fold, 0)], protocol)
    scores = apply_probe(data, probe).scores
    assert np.isfinite(scores).all() and scores.shape == (len(its_fold.test), n_classes)
    return probe, scores


@pytest.mark.parametrize("protocol", [ARCH_V1, STRICT], ids=lambda protocol: protocol.name)
class TestDegenerate:
    def test_one_class_only(self, protocol):
        features, _ = clips(n=60)
        _, scores = probe_of(features, np.zeros(60, np.int64), 1, fold(40, 60, 10), protocol)
        assert (scores.argmax(1) == 0).all()

    def test_a_class_absent_from_train(self, protocol):
        features, targets = clips()
        train = np.flatnonzero(targets != 3)[:60]
        rest = np.setdiff1d(np.arange(150), train)
        probe_of(features, targets, 4, Fold("test", train, rest[:20], rest[20:]), protocol)

    def test_fewer_clips_than_a_batch(self, protocol):
        features, targets = clips(n=12)
        probe_of(features, targets, 4, fold(3, 12, 2), protocol)

    @pytest.mark.parametrize("value", [0.0, 1.0, -1e6])
    def test_constant_embeddings(self, protocol, value):
        _, targets = clips()
        _, scores = probe_of(np.full((150, 24), value), targets, 4, fold(90), protocol)
        assert len(np.unique(scores, axis=0)) == 1

    def test_large_embeddings_are_fine_and_huge_ones_are_refused(self, protocol):
        features, targets = clips()
        probe_of(features * 1e10, targets, 4, fold(90), protocol)
        for scale in (1e25, 1e37):
            with pytest.raises(UserError, match="float32's range"):
                probe_of(features * scale, targets, 4, fold(90), protocol)

    def test_all_labels_positive(self, protocol):
        features, _ = clips()
        _, scores = probe_of(features, np.ones((150, 4), np.int64), 4, fold(90), protocol)
        assert scores.mean() > 0


def test_a_fold_without_validation():
    features, targets = clips()
    probe, _ = probe_of(features, targets, 4, Fold("test", np.arange(90), NONE, np.arange(90, 150)))
    assert probe.validation is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu():
    features, targets = clips()
    runs = [RunKey(0, k, fold(n), 0) for k, n in enumerate((96, 70))]
    for protocol in (replace(ARCH_V1, epochs=50), replace(STRICT, epochs=20)):
        on_cpu = train_probes(ProbeData([features], targets, 4), runs, protocol)
        on_gpu = train_probes(ProbeData([features], targets, 4, "cuda"), runs, protocol)
        for one, two in zip(on_cpu, on_gpu, strict=True):
            assert torch.allclose(one.weight, two.weight.cpu(), atol=1e-4, rtol=0) and one.epoch == two.epoch
