"""Retrieval, clustering and pairs, against scikit-learn and plain loops; and what their intervals are worth."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import average_precision_score, v_measure_score
from sklearn.metrics.pairwise import cosine_similarity

from arch_hf.errors import UserError
from arch_hf.probing import training_free as module
from arch_hf.probing.task import Fold, ProbeTask
from arch_hf.probing.training_free import training_free


def make_task(targets, folds, groups=None) -> ProbeTask:
    n = len(targets)
    table = SimpleNamespace(clip_id=[f"clip{i}" for i in range(n)], group=groups or [None] * n)
    n_classes = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1
    return ProbeTask("corpus", "accuracy", table, targets, [f"class{i}" for i in range(n_classes)], folds)


def folds_of(n: int, k: int) -> list[Fold]:
    parts = np.array_split(np.random.default_rng(0).permutation(n), k)
    return [
        Fold(f"fold_{i}", np.sort(np.concatenate(parts[:i] + parts[i + 1 :])), np.array([], int), np.sort(part))
        for i, part in enumerate(parts)
    ]


def clouds(n: int, n_classes: int, spread: float, dim: int = 8, seed: int = 0):
    """Clips around a centre per class."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, n_classes, n)
    centres = rng.standard_normal((n_classes, dim))
    return (centres[targets] + spread * rng.standard_normal((n, dim))).astype(np.float32), targets


@pytest.mark.parametrize("exponent", [100, -100, -130])
def test_the_scale_of_the_vectors_moves_nothing(exponent):
    """Where their squares leave float32's range, too; by powers of two, so that nothing is rounded."""
    features, targets = clouds(60, 4, 1.0)
    features = np.round(features * 64) / 64
    task = make_task(targets, folds_of(60, 3))
    plain, scaled = (training_free(one, task, module.KINDS) for one in (features, np.ldexp(features, exponent)))
    assert plain == scaled


def test_a_large_mean_that_all_share_is_no_answer():
    features, targets = clouds(60, 4, 1.0)
    shifted = (features + 1e4).astype(np.float32)
    folds = folds_of(60, 3)
    found = training_free(shifted, make_task(targets, folds), ["retrieval"])["retrieval"]["map"].mean
    expected = []
    for fold in folds:
        cosines = cosine_similarity(shifted[fold.test].astype(np.float64), shifted[fold.train].astype(np.float64))
        rows = zip(targets[fold.test], cosines, strict=True)
        expected.append(np.mean([average_precision_score(targets[fold.train] == own, row) for own, row in rows]))
    assert found == pytest.approx(np.mean(expected), abs=1e-3)


@pytest.mark.parametrize("multi", [False, True])
def test_retrieval_is_that_of_a_plain_loop(monkeypatch, multi):
    monkeypatch.setattr(module, "MATRIX_NUMBERS", 500)  # many blocks
    features, targets = clouds(60, 4, 1.0)
    if multi:
        targets = (np.random.default_rng(1).random((60, 6)) < 0.25).astype(np.float32)
    folds = folds_of(60, 3)
    found = training_free(features, make_task(targets, folds), ["retrieval"])["retrieval"]
    precision, hits = [], []
    for fold in folds:
        cosines = cosine_similarity(features[fold.test], features[fold.train])
        by_query = []
        for query, row in zip(fold.test, cosines, strict=True):
            same = [
                bool(np.any(targets[query] * targets[i])) if multi else targets[query] == targets[i] for i in fold.train
            ]
            if any(same):
                by_query.append((average_precision_score(same, row), same[int(row.argmax())]))
        precision.append(np.mean([p for p, _ in by_query]))
        hits.append(np.mean([h for _, h in by_query]))
    assert found["map"].mean == pytest.approx(np.mean(precision), abs=1e-6)
    assert found["recall_at_1"].mean == pytest.approx(np.mean(hits), abs=1e-9)


def test_equal_vectors_share_their_rank_as_in_scikit_learn():
    features = np.float32([[1, 0], [1, 0], [1, 0], [0, 1]])
    task = make_task(np.array([0, 1, 0, 1]), [Fold("test", np.array([1, 2, 3]), np.array([], int), np.array([0]))])
    expected = average_precision_score([False, True, False], [1.0, 1.0, 0.0])
    assert training_free(features, task, ["retrieval"])["retrieval"]["map"].mean == pytest.approx(expected)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_equally_near_clips_count_by_the_share_that_is_relevant(order):
    """Whichever of them comes first: an encoder that says the same of all clips is at chance."""
    targets = np.array([*np.array([0, 1, 1])[order], 0, 1, 1])
    fold = Fold("test", np.arange(3), np.array([], int), np.arange(3, 6))
    found = training_free(np.ones((6, 4), np.float32), make_task(targets, [fold]), ["retrieval"])["retrieval"]
    assert found["recall_at_1"].mean == pytest.approx((1 / 3 + 2 / 3 + 2 / 3) / 3)


def test_the_interval_of_retrieval_is_over_groups(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "_score", lambda measure, units: seen.append(units))
    features, targets = clouds(30, 3, 1.0)
    folds = folds_of(30, 3)
    training_free(features, make_task(targets, folds, ["one", "two", "three"] * 10), ["retrieval"])
    of_clips = np.array([0, 2, 1] * 10)[np.concatenate([fold.test for fold in folds])]  # in the order of their names
    assert len(seen) == 2 and all((units == of_clips).all() for (units,) in seen)


def test_the_gallery_holds_validation_clips_and_no_test_clip():
    features = np.float32([[1, 0], [0, 1], [1, 0.01], [1, 0]])
    task = make_task(np.array([0, 1, 0, 0]), [Fold("test", np.array([1]), np.array([2]), np.array([0, 3]))])
    found = training_free(features, task, ["retrieval"])["retrieval"]
    assert found["recall_at_1"].mean == 1.0  # the validation clip; test clips do not find each other


def test_clustering_finds_clouds_and_not_noise():
    features, targets = clouds(120, 4, 0.05)
    found = training_free(features, make_task(targets, folds_of(120, 3)), ["clustering"])["clustering"]
    assert found["v_measure"].mean == pytest.approx(1.0)
    assert found["adjusted_mutual_information"].mean == pytest.approx(1.0)
    noise = np.random.default_rng(5).standard_normal((120, 8)).astype(np.float32)
    blind = training_free(noise, make_task(targets, folds_of(120, 3)), ["clustering"])["clustering"]
    low, _ = blind["adjusted_mutual_information"].ci95
    assert low <= 0.02 and blind["v_measure"].mean > 0.02  # adjusted for chance, v-measure is not


def test_clustering_scores_the_test_clips_alone(monkeypatch):
    features, targets = clouds(40, 2, 0.05)
    targets[1] = 2  # a class that no test clip has, and no cluster is for
    test = np.arange(0, 40, 2)
    task = make_task(targets, [Fold("test", np.arange(1, 40, 2), np.array([], int), test)])
    seen = {}

    class Alternating:
        def __init__(self, k, **_):
            seen["k"] = k

        def fit_predict(self, chosen):
            seen["n"] = len(chosen)
            return np.arange(len(chosen)) % 2

    monkeypatch.setattr("sklearn.cluster.KMeans", Alternating)
    found = training_free(features, task, ["clustering"])["clustering"]
    assert seen == {"k": 2, "n": 20}
    assert found["v_measure"].mean == pytest.approx(v_measure_score(targets[test], np.arange(20) % 2))


def test_pairs_tell_clouds_apart_and_noise_not():
    features, targets = clouds(300, 5, 0.02, dim=32)
    task = make_task(targets, folds_of(300, 3))
    assert training_free(features, task, ["pairs"])["pairs"]["average_precision"].mean > 0.99
    noise = np.random.default_rng(5).standard_normal((300, 32)).astype(np.float32)
    low, high = training_free(noise, task, ["pairs"])["pairs"]["average_precision"].ci95
    assert low < 0.5 < high


def test_pairs_are_of_two_groups():
    """Every speaker says one class only: there is no other speaker of it, so no pair of one class is left."""
    features, targets = clouds(30, 3, 0.1)
    task = make_task(targets, folds_of(30, 3), groups=[f"speaker{c}" for c in targets])
    assert training_free(features, task, ["pairs"]) == {}
    # Vectors that hold the speaker and nothing of the class: within a group all pairs would look the same.
    speakers = np.arange(200) % 10
    targets = np.arange(200) // 10 % 2
    features = np.eye(10, dtype=np.float32)[speakers]
    task = make_task(targets, folds_of(200, 2), groups=[f"speaker{s}" for s in speakers])
    assert training_free(features, task, ["pairs"])["pairs"]["average_precision"].mean == pytest.approx(0.5, abs=0.02)


def test_a_clip_has_both_its_pairs_or_none():
    """Where all clips of a class are of one group, which leaves no pair of that class, chance is still 0.5."""
    targets = np.repeat(np.arange(4), 20)
    groups = [f"{c}" if c < 3 else f"{c} {i % 3}" for i, c in enumerate(targets)]
    fold = Fold("test", np.array([], int), np.array([], int), np.arange(80))
    found = training_free(np.ones((80, 2), np.float32), make_task(targets, [fold], groups), ["pairs"])
    assert found["pairs"]["average_precision"].mean == 0.5
    one_group = [str(c) for c in targets]
    assert training_free(np.ones((80, 2), np.float32), make_task(targets, [fold], one_group), ["pairs"]) == {}


def test_an_interval_holds_a_score_below_zero():
    features, targets = np.float32([[0], [0.1], [9], [9.1]] * 3), np.array([0, 1, 0, 1] * 3)
    fold = Fold("test", np.array([], int), np.array([], int), np.arange(12))
    score = training_free(features, make_task(targets, [fold]), ["clustering"])["clustering"][
        "adjusted_mutual_information"
    ]
    assert score.mean < 0 and score.ci95[0] <= score.mean <= score.ci95[1]


def test_a_pair_hangs_on_both_of_its_clips(monkeypatch):
    """Without a unit go the pairs whose second clip is of it, too."""
    seen = []
    monkeypatch.setattr(module, "_score", lambda measure, units: seen.extend(units))
    features, targets = clouds(60, 3, 1.0)
    training_free(features, make_task(targets, folds_of(60, 3)), ["pairs"])
    first, second = seen
    assert len(first) == len(second) and (first != second).all() and set(second) <= set(first)


def test_several_labels_have_no_clusters_but_pairs():
    targets = (np.random.default_rng(1).random((60, 6)) < 0.3).astype(np.float32)
    targets[~targets.any(1), 0] = 1
    found = training_free(targets, make_task(targets, folds_of(60, 3)), ["clustering", "pairs", "retrieval"])
    assert sorted(found) == ["pairs", "retrieval"]
    assert found["pairs"]["average_precision"].mean > 0.9


def test_the_interval_of_a_mean_is_students_t():
    """One fold, every clip its own unit: the jackknife of a mean is the t interval."""
    features, targets = clouds(61, 3, 1.5)
    fold = Fold("test", np.arange(0, 30), np.array([], int), np.arange(30, 61))
    found = training_free(features, make_task(targets, [fold]), ["retrieval"])["retrieval"]["map"]
    cosines = cosine_similarity(features[fold.test], features[fold.train])
    values = [
        average_precision_score(targets[fold.train] == targets[q], row)
        for q, row in zip(fold.test, cosines, strict=True)
    ]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.ci95 == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_many_units_are_left_out_in_blocks_that_count_as_units(monkeypatch):
    monkeypatch.setattr(module, "MOST_BLOCKS", 5)
    values = np.random.default_rng(1).random(50)
    found = module._score(lambda kept: float(values[kept].mean()), [np.arange(50)])
    block = np.random.default_rng(module.SEED).permutation(50) % 5
    expected = ttest_1samp([values[block == b].mean() for b in range(5)], 0).confidence_interval(0.95)
    assert found.ci95 == pytest.approx((expected.low, expected.high))


def test_intervals_hold_the_score_of_all_clips(monkeypatch):
    """Over many draws of clips from one population about 95 % of the intervals hold the population's score."""
    monkeypatch.setattr(module, "MOST_BLOCKS", 25)
    inside = {"retrieval": 0, "pairs": 0}
    names = {"retrieval": "map", "pairs": "average_precision"}
    draws = 40
    big, of_big = clouds(1600, 3, 1.5, seed=9)
    train, others = np.arange(100), np.arange(100, 1600)
    whole = training_free(big, make_task(of_big, [Fold("test", train, np.array([], int), others)]), list(inside))
    population = {kind: whole[kind][name].mean for kind, name in names.items()}
    for draw in range(draws):
        chosen = np.concatenate([train, np.random.default_rng(draw).choice(others, 100, replace=False)])
        fold = Fold("test", train, np.array([], int), np.arange(100, 200))
        found = training_free(big[chosen], make_task(of_big[chosen], [fold]), list(inside))
        for kind in inside:
            low, high = found[kind][names[kind]].ci95
            inside[kind] += low <= population[kind] <= high
    assert all(count >= 0.85 * draws for count in inside.values()), inside


def test_the_main_job_asks_for_them(tmp_path):
    from arch_hf.evaluate import evaluate_model
    from arch_hf.results.table import remarks

    options = {"limit": 12, "seeds": 1, "output_dir": str(tmp_path / "out"), "cache_dir": str(tmp_path / "cache")}
    (plain,) = evaluate_model("logmel", ["synthetic_events"], **options)
    assert plain.training_free == {}
    (result,) = evaluate_model("logmel", ["synthetic_events"], **options, also=["pairs", "retrieval"])
    assert set(result.training_free) == {"pairs", "retrieval"} and result.identity != plain.identity
    assert set(result.training_free["retrieval"]) == {"map", "recall_at_1"}
    assert any(line.startswith("synthetic_events: retrieval: map ") for line in remarks(result))
    names = [path.name for path in (tmp_path / "out/logmel").glob("*.json")]
    assert len(names) == 2 and any("also-pairs-retrieval" in name for name in names)
    with pytest.raises(UserError, match="unknown --also "):
        evaluate_model("logmel", ["synthetic_events"], also=["ranking"])


def test_an_unknown_kind_is_named():
    features, targets = clouds(10, 2, 1.0)
    with pytest.raises(UserError, match="unknown evaluation 'ranking'"):
        training_free(features, make_task(targets, folds_of(10, 2)), ["ranking"])
