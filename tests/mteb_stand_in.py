"""A stand-in for mteb 2.26: what `arch_hf.integrations.mteb` calls of it, with its protocol of single-label classification.

From mteb's documentation and the behaviour of the real package, against which `test_integrations_mteb.py` holds it where that is
installed: eight training clips per class, ten draws, each from an index list that is shuffled once more by a generator of the same
seed; a logistic regression of at most 100 iterations; accuracy; union of the drawn clips encoded once, then the test clips.
"""

import json
import os
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
from datasets import load_dataset
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader

VERSION = "2.26.0"


@dataclass
class ModelMeta:
    name: str | None = None
    revision: str | None = None
    experiment_kwargs: dict = field(default_factory=dict)
    others: dict = field(default_factory=dict)

    def model_copy(self, update):
        known = {key: update[key] for key in ("name", "revision", "experiment_kwargs") if key in update}
        return replace(self, others=update, **known)

    @classmethod
    def create_empty(cls, overwrites):
        return cls().model_copy(overwrites)


class Task:
    """A classification task over a local folder of Parquet, with the splits train and test."""

    samples_per_label, n_experiments, n_splits, is_cross_validation, seed = 8, 10, 5, False, 42
    evaluator_model = LogisticRegression(max_iter=100)

    def __init__(self, name, folder, look=False, **metadata):
        self.look = look
        self.dataset = None
        known = {"type": "AudioClassification", "main_score": "accuracy", "modalities": ["audio"]}
        dataset = {"path": str(folder), "revision": "local"}
        self.metadata = SimpleNamespace(name=name, dataset=dataset, **known | metadata)

    def load(self):
        self.dataset = load_dataset(self.metadata.dataset["path"])
        if self.look:  # some tasks leave out clips by their samples
            self.dataset = self.dataset.filter(lambda row: len(row["audio"]["array"]) >= 500)

    def undersample(self, labels, order):
        """Positions of the first eight clips of each class in one more shuffle of `order`."""
        np.random.RandomState(self.seed).shuffle(order)
        counts, chosen = defaultdict(int), []
        for i in order:
            if counts[labels[i]] < self.samples_per_label:
                chosen.append(i)
                counts[labels[i]] += 1
        return chosen

    def evaluate(self, encode):
        """The accuracy of every draw; `encode(rows, split)` gives the vectors of some rows."""
        train, test = self.dataset["train"], self.dataset["test"]
        labels, order = train["label"][:], list(range(len(train)))
        draws = [self.undersample(labels, order) for _ in range(self.n_experiments)]
        union = sorted({i for draw in draws for i in draw})
        vectors = dict(zip(union, encode(train.select(union), "train"), strict=True))
        test_vectors = encode(test, "test")
        accuracies = []
        for draw in draws:
            model = LogisticRegression(max_iter=100, random_state=self.seed)
            model.fit(np.stack([vectors[i] for i in draw]), [labels[i] for i in draw])
            accuracies.append(float((model.predict(test_vectors) == np.array(test["label"][:])).mean()))
        return accuracies


class TaskResult:
    def __init__(self, content):
        self.scores, self.mteb_version = content["scores"], content["mteb_version"]
        self.dataset_revision = content["dataset_revision"]

    def get_score(self):
        return float(np.mean([part["main_score"] for split in self.scores.values() for part in split]))


class ResultCache:
    def get_task_result_path(self, name, meta):
        (key, value), *_ = meta.experiment_kwargs.items()
        root = Path(os.environ["MTEB_CACHE"]) / "results" / meta.name.replace("/", "__") / meta.revision
        return root / "experiments" / f"{key}_{value}" / f"{name}.json"


def evaluate(model, task, *, cache, co2_tracker, overwrite_strategy, show_progress_bar):
    path = cache.get_task_result_path(task.metadata.name, model.mteb_model_meta)
    if path.is_file() and overwrite_strategy != "always":
        return SimpleNamespace(task_results=[TaskResult(json.loads(path.read_text()))])
    task.load()

    def encode(rows, split):
        loader = DataLoader(rows, batch_size=32, collate_fn=lambda batch: batch)
        return model.encode(loader, task_metadata=task.metadata, hf_split=split, hf_subset="default", batch_size=32)

    accuracies = task.evaluate(encode)
    draws = [{"accuracy": accuracy, "errors": 1 - accuracy} for accuracy in accuracies]
    scores = {
        "main_score": float(np.mean([draw[task.metadata.main_score] for draw in draws])),
        "scores_per_experiment": draws,
        "hf_subset": "default",
    }
    content = {"scores": {"test": [scores]}, "mteb_version": VERSION, "dataset_revision": "local"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return SimpleNamespace(task_results=[TaskResult(content)])


def install(monkeypatch, tasks=()):
    """Put the stand-in where `import mteb` looks; `tasks` are those that it knows by name."""
    by_name = {task.metadata.name: task for task in tasks}

    def get_tasks(tasks=None, **filters):
        for name in tasks or ():
            if name not in by_name:
                raise KeyError(f"KeyError: '{name}' not found. Did you mean: {', '.join(by_name)}?")
        alone = [task for task in by_name.values() if task.metadata.modalities == filters.get("modalities")]
        return alone if tasks is None else [by_name[name] for name in tasks]

    everything = SimpleNamespace(name="everything", tasks=tasks)

    def get_benchmark(name):
        if name != everything.name:
            raise KeyError(f"'{name}' not found and no similar keys were found.")
        return everything

    def get_model_meta(name):
        raise KeyError(name)

    model_meta = module("mteb.models.model_meta", ScoringFunction=SimpleNamespace(COSINE="cosine"))
    models = module("mteb.models", ModelMeta=ModelMeta, model_meta=model_meta)
    similarity = module("mteb.similarity_functions", cos_sim=cos_sim)
    mteb = module(
        "mteb",
        __path__=[],
        models=models,
        similarity_functions=similarity,
        evaluate=evaluate,
        ResultCache=ResultCache,
        get_tasks=get_tasks,
        get_benchmark=get_benchmark,
        get_benchmarks=lambda: [everything],
        get_model_meta=get_model_meta,
    )
    for part in (mteb, models, model_meta, similarity):
        monkeypatch.setitem(__import__("sys").modules, part.__name__, part)
    return mteb


def module(name, **content):
    made = ModuleType(name)
    made.__dict__.update(content)
    return made


def cos_sim(a, b):
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    return a @ b.T
