"""What the vectors say as they are, before any probe: which clips lie near which. Off by default.

- retrieval: each test clip asks for the nearest train and validation clips by cosine; those of its class are relevant (with several
  labels: those that share one). Mean average precision, and recall at 1: how often the nearest is relevant; of equally near ones, the
  share that is. Folds are averaged.
- clustering: k-means over all test clips with as many clusters as they have classes (scikit-learn, 10 starts); v-measure and adjusted mutual
  information with the classes. For one label a clip.
- pairs: each test clip with one of its class and with one of another, both drawn at random and, where groups are known, of another
  group; clips that have only one of the two are left out; average precision of their cosines at telling the same from the different (0.5 is chance).

Cosines are of double precision: of vectors that share a large mean they differ in late digits alone. No answer depends on the scale of the vectors.

Intervals are those of the jackknife over groups (over clips where no group is known), with Student's t: everything is computed again
without each of them. Many units are dealt to `MOST_BLOCKS` blocks first. (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11.)
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from arch_hf.errors import UserError
from arch_hf.probing.knn import unit_length
from arch_hf.probing.metrics.scores import average_precision
from arch_hf.probing.record import KINDS, Score
from arch_hf.probing.statistics import unit_codes
from arch_hf.probing.task import ProbeTask

SEED = 42
MOST_BLOCKS = 100
STARTS = 10  # of k-means; the solution of least inertia counts
MATRIX_NUMBERS = 1 << 22  # cosines held at a time


def training_free(features: np.ndarray, task: ProbeTask, kinds: Sequence[str]) -> dict[str, dict[str, Score]]:
    """The scores of each kind: kind -> metric -> `Score`. A kind that the corpus has no such question for is left out.

    Args:
        features: float32 [clips, dim], in the order of the task's table.
        task: the classes, and who trains and who tests.
        kinds: "retrieval", "clustering", "pairs".

    Raises:
        UserError: there is no such kind.

    Examples:
        >>> from types import SimpleNamespace
        >>> from arch_hf.probing.task import Fold
        >>> table = SimpleNamespace(clip_id=list("abcdef"), group=[None] * 6)
        >>> fold = Fold("test", train=np.array([0, 1]), validation=np.array([], int), test=np.array([2, 3, 4, 5]))
        >>> task = ProbeTask("two", "accuracy", table, np.array([0, 1, 0, 1, 0, 1]), ["x", "y"], [fold])
        >>> features = np.float32([[1, 0], [0, 1], [1, 0.1], [0.1, 1], [0.9, 0], [0, 0.9]])
        >>> found = training_free(features, task, ["retrieval", "clustering"])
        >>> found["retrieval"]["map"].mean, found["clustering"]["v_measure"].mean
        (1.0, 1.0)
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(f"unknown evaluation {unknown[0]!r}: choose of {', '.join(KINDS)}")
    by_kind = {kind: _KINDS[kind](features, task) for kind in dict.fromkeys(kinds)}
    return {kind: scores for kind, scores in by_kind.items() if scores}


def retrieval(features: np.ndarray, task: ProbeTask) -> dict[str, Score]:
    """Mean average precision ("map") and "recall_at_1" of test clips among train and validation clips. A test clip that has no relevant
    clip there asks nothing."""
    unit = unit_length(features)
    precision, hit, fold_of, clips = [], [], [], []
    for number, fold in enumerate(task.folds):
        gallery = np.concatenate([fold.train, fold.validation])
        for queries in _blocks(fold.test, len(gallery)):
            cosines = unit[queries] @ unit[gallery].T
            relevant = _relevant(task.targets, queries, gallery)
            asks = relevant.any(1)
            ranked = average_precision(torch.from_numpy(cosines[asks].T), torch.from_numpy(relevant[asks].T))
            precision.append(ranked.numpy())
            nearest = cosines[asks] == cosines[asks].max(1, keepdims=True)
            hit.append((nearest & relevant[asks]).sum(1) / nearest.sum(1))
            fold_of.append(np.full(asks.sum(), number))
            clips.append(queries[asks])
    if not sum(map(len, clips)):
        return {}
    folds, units = np.concatenate(fold_of), _units(task)[np.concatenate(clips)]

    def mean_over_folds(values: np.ndarray) -> Callable[[np.ndarray], float]:
        def measure(kept: np.ndarray) -> float:
            counts = np.bincount(folds[kept], minlength=len(task.folds))
            sums = np.bincount(folds[kept], values[kept], minlength=len(task.folds))
            return float((sums[counts > 0] / counts[counts > 0]).mean())

        return measure

    values = {"map": np.concatenate(precision), "recall_at_1": np.concatenate(hit)}
    return {name: _score(mean_over_folds(value), [units]) for name, value in values.items()}


def clustering(features: np.ndarray, task: ProbeTask) -> dict[str, Score]:
    """ "v_measure" and "adjusted_mutual_information" of k-means over the test clips."""
    from sklearn.cluster import KMeans  # a second to import, and most runs ask nothing of the vectors themselves
    from sklearn.metrics import adjusted_mutual_info_score, v_measure_score

    if task.targets.ndim == 2:
        return {}
    test = _test_clips(task)
    classes, units = task.targets[test], _units(task)[test]
    k = len(np.unique(classes))
    if k < 2:
        return {}
    # Brought to about 1 by a power of two, which rounds nothing: squares leave float32's range long before the vectors do.
    exponent = int(np.frexp(np.abs(features[test]).max())[1])
    clusters = KMeans(k, n_init=STARTS, random_state=SEED).fit_predict(np.ldexp(features[test], -exponent))

    def against_classes(measure: Callable[[np.ndarray, np.ndarray], float], least: float) -> Score:
        return _score(lambda kept: float(measure(classes[kept], clusters[kept])), [units], least)

    return {
        "v_measure": against_classes(v_measure_score, 0.0),
        "adjusted_mutual_information": against_classes(adjusted_mutual_info_score, -1.0),  # 0 is chance
    }


def pairs(features: np.ndarray, task: ProbeTask) -> dict[str, Score]:
    """The "average_precision" of cosines at telling pairs of one class from pairs of two."""
    from sklearn.metrics import average_precision_score

    unit, test = unit_length(features), _test_clips(task)
    units = _units(task)[test]
    rng = np.random.default_rng(SEED)
    first, second, same = [], [], []
    for rows in _blocks(np.arange(len(test)), len(test)):
        relevant = _relevant(task.targets, test[rows], test)
        other = units[rows][:, None] != units
        alike, unlike = relevant & other, ~relevant & other
        has = alike.any(1) & unlike.any(1)  # a clip with both, so that chance is 0.5
        for wanted, label in ((alike, 1), (unlike, 0)):
            keys = np.where(wanted, rng.random(wanted.shape, np.float32), -1)
            first.append(rows[has])
            second.append(keys[has].argmax(1))
            same.append(np.full(has.sum(), label))
    one, two, truth = np.concatenate(first), np.concatenate(second), np.concatenate(same)
    if not len(truth):
        return {}
    cosines = np.einsum("ij,ij->i", unit[test[one]], unit[test[two]])
    return {
        "average_precision": _score(
            lambda kept: float(average_precision_score(truth[kept], cosines[kept])), [units[one], units[two]]
        )
    }


_KINDS: dict[str, Callable[[np.ndarray, ProbeTask], dict[str, Score]]] = dict(
    zip(KINDS, (retrieval, clustering, pairs), strict=True)
)


def _test_clips(task: ProbeTask) -> np.ndarray:
    return np.unique(np.concatenate([fold.test for fold in task.folds]))


def _units(task: ProbeTask) -> np.ndarray:
    """The unit of every clip: its group, or the clip itself."""
    return unit_codes(task.table.group, task.table.clip_id)


def _blocks(clips: np.ndarray, width: int) -> Iterator[np.ndarray]:
    step = max(1, MATRIX_NUMBERS // max(1, width))
    for start in range(0, len(clips), step):
        yield clips[start : start + step]


def _relevant(targets: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Whether two clips are of one class, or share a label: bool [rows, columns]."""
    if targets.ndim == 1:
        return targets[rows][:, None] == targets[columns]
    return targets[rows] @ targets[columns].T > 0


def _score(measure: Callable[[np.ndarray], float], units: list[np.ndarray], least: float = 0.0) -> Score:
    """The measure over everything, with the jackknife's interval: `units` int64 [items] are those that an item hangs on, and `measure`,
    which is between `least` and 1, takes which items are kept."""
    present = np.unique(np.concatenate(units))
    n_blocks = min(len(present), MOST_BLOCKS)
    value = measure(np.ones(len(units[0]), bool))
    if n_blocks < 2:
        return Score(mean=value)
    block = np.zeros(present.max() + 1, np.int64)
    block[present] = np.random.default_rng(SEED).permutation(len(present)) % n_blocks
    of_item = [block[codes] for codes in units]
    kept = (np.all([codes != b for codes in of_item], axis=0) for b in range(n_blocks))
    without = np.array([measure(some) for some in kept if some.any()])
    if len(without) < 2:
        return Score(mean=value)
    from scipy.stats import t

    n = len(without)
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    half = float(t.ppf(0.975, n - 1) * error)
    return Score(mean=value, ci95=(max(least, value - half), min(1.0, value + half)))
