"""Result files: what was changed is not believed, and no answer takes the place of another question's."""

import errno
import hashlib
import json
import os
import threading

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save

from arch_hf.errors import UserError
from arch_hf.files import write_atomically
from arch_hf.probing.record import Run, Score
from arch_hf.results import filing
from arch_hf.results.answer import predictions_path, read_predictions
from arch_hf.results.filing import file_answer, find_answer, make_room, rewrite
from arch_hf.results.folder import read_results, result_paths
from arch_hf.results.layers import with_layer_curve
from arch_hf.results.predictions import PredictedClips
from arch_hf.results.question import Question
from arch_hf.results.result import DatasetFacts, ModelFacts, Result

ESC50 = DatasetFacts(id="arch/esc50", task="single_label", n_clips=2000)


def question(weights="a", layer=-1, **dataset):
    facts = msgspec.structs.replace(ESC50, **dataset)
    protocol = {"name": "arch-v1", "version": "1.0"}
    return Question(
        model=ModelFacts(id="me/m"), dataset=facts, protocol=protocol, layer=layer, embedding={"weights": weights}
    )


def answer(asked, value=0.5, complete=True, validation=0.5):
    runs = tuple(Run(fold=f"fold_{k}", seed=0, metrics={"accuracy": value}, validation=validation) for k in (1, 2))
    return Result(
        complete=complete, model=asked.model, dataset=asked.dataset, protocol=asked.protocol, layer=asked.layer, identity=asked.identity,
        metrics={"accuracy": Score(mean=value, ci95=(0.0, 1.0))}, runs=runs,
    )  # fmt: skip


def predictions(seed=0):
    rng = np.random.default_rng(seed)
    arrays = {"clip": np.arange(4), "fold": np.zeros(4, np.int64), "unit": np.arange(4), "target": np.arange(4) % 2}
    scores = {"scores": rng.standard_normal((1, 4, 2)).astype(np.float32)}
    return save(arrays | scores, {"clip_ids": json.dumps(list("abcd"))})


def write(asked, folder, value=0.5, seed=0, **more):
    return file_answer(asked, answer(asked, value, **more), predictions(seed), folder)


def test_every_changed_byte_of_a_result_is_noticed(tmp_path):
    written, _ = write(question(), tmp_path)
    path = question().path(tmp_path)
    content = path.read_bytes()
    assert Result.read(path) == written
    for position in range(len(content)):
        for bit in (0, 1, 4):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            try:
                assert Result.read(path) == written
            except UserError:
                continue
            assert bytes(changed).decode().split() == content.decode().split(), "only white space at the end may differ"
    path.write_bytes(content[:-40])
    with pytest.raises(UserError):
        Result.read(path)


def test_a_name_that_looks_like_an_empty_checksum_is_read_back(tmp_path):
    written, _ = write(question(id="0" * 64), tmp_path)
    assert Result.read(question(id="0" * 64).path(tmp_path)) == written


def test_a_result_cannot_pass_for_one_of_schema_1(tmp_path):
    write(question(), tmp_path)
    path = question().path(tmp_path)
    path.write_text(path.read_text().replace('"schema_version": 2', '"schema_version": 1').replace("0.5", "0.9"))
    with pytest.raises(UserError, match="was changed after it was written"):
        Result.read(path)


@pytest.mark.parametrize("version", [1, 2])
def test_a_mean_that_is_not_that_of_its_runs_is_refused(tmp_path, version):
    path = tmp_path / "r.json"
    if version == 2:
        broken = msgspec.structs.replace(answer(question()), metrics={"accuracy": Score(mean=0.75)})
        with pytest.raises(ValueError, match="not that of its runs"):
            broken.write(path)
        assert not path.exists()
        return
    old = answer(question()).to_dict() | {"schema_version": 1}
    for block in (old, old["dataset"], old["model"]):
        for key in [key for key, value in block.items() if value is None]:
            del block[key]
    path.write_text(json.dumps(old))
    assert Result.read(path).headline.mean == 0.5
    old["metrics"]["accuracy"]["mean"] = 0.75
    path.write_text(json.dumps(old))
    with pytest.raises(UserError, match="not that of its runs"):
        Result.read(path)
    path.write_text(json.dumps(old | {"runs": None}))
    with pytest.raises(UserError, match="runs that are null"):
        Result.read(path)


def test_a_result_of_schema_1_keeps_all_that_it_says(tmp_path):
    """Its one standard deviation was over all runs: the two that there are now come from the runs."""
    scores = {("a", 0): 0.1, ("a", 1): 0.3, ("b", 0): 0.5, ("b", 1): 0.7}
    runs = [{"fold": f, "seed": s, "metrics": {"accuracy": v}, "epoch": None} for (f, s), v in scores.items()]
    old = {
        "schema_version": 1,
        "complete": True,
        "model": {"id": "me/m", "revision": None},
        "dataset": {"id": "arch/esc50", "task": "single_label", "n_clips": 4, "limit": None},
        "protocol": {"name": "arch-v1", "version": "1.0"},
        "layer": -1,
        "metrics": {"accuracy": {"mean": 0.4, "std": 0.2, "ci95": [0.3, 0.5]}},
        "runs": runs,
        "baselines": {"majority": {"accuracy": 0.25}, "human": None},
    }
    path = tmp_path / "r.json"
    path.write_text(json.dumps(old))
    result = Result.read(path)
    score = result.metrics["accuracy"]
    assert (score.mean, score.ci95) == (0.4, (0.3, 0.5))
    np.testing.assert_allclose((score.std_folds, score.std_seeds), (0.4 / 2**0.5, 0.2 / 2**0.5))
    assert [(run.fold, run.seed, run.metrics["accuracy"]) for run in result.runs] == [
        (*k, v) for k, v in scores.items()
    ]
    assert result.baselines == {"majority": {"accuracy": 0.25}} and result.dataset.n_clips == 4


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("metrics", None),
        ("metrics", {"accuracy": {}}),
        ("metrics", {"accuracy": 0.5}),
        ("dataset", []),
        ("protocol", {"name": None, "version": "1.0"}),
        ("runs", [None]),
        ("runs", [{"metrics": {"accuracy": 0.5}}]),
        ("baselines", 5),
        ("layer", None),
    ],
)
def test_what_lacks_a_part_is_no_result(tmp_path, part, value):
    old = {key: block for key, block in answer(question()).to_dict().items() if block is not None}
    path = tmp_path / "r.json"
    path.write_text(json.dumps(old | {"schema_version": 1, part: value}))
    with pytest.raises(UserError, match=r"r\.json (is not an arch-hf result \(|names no protocol)"):
        Result.read(path)


def test_a_path_with_a_null_byte_is_one_line():
    with pytest.raises(UserError, match="null byte"):
        Result.read("a\0b")


def test_an_answer_is_found_only_for_its_own_question(tmp_path):
    asked = question()
    written, note = write(asked, tmp_path)
    assert note is None and find_answer(asked, tmp_path) == written
    assert find_answer(question("b"), tmp_path) is None, "other weights under the same name"
    here = asked.path(tmp_path)
    for renamed in (msgspec.structs.replace(asked, model=ModelFacts(id="me//m")), question(id="me/esc50")):
        path = renamed.path(tmp_path)
        path.parent.mkdir(exist_ok=True, parents=True)
        here = here.rename(path)
        assert find_answer(renamed, tmp_path) is None, "another's result under this name"


def test_each_thing_that_a_number_depends_on_makes_another_identity():
    asked, replace = question(), msgspec.structs.replace
    others = [
        question("b"),
        question(layer=3),
        question(fingerprint="f" * 64),
        question(task="multi_label"),
        question(limit=10),
        replace(asked, protocol={"name": "arch-v1", "version": "1.1"}),
        replace(asked, beside={"mfcc": "d" * 64}),
    ]
    assert len({other.identity for other in (asked, *others)}) == len(others) + 1
    names = [
        question(id="me/esc50"),
        question(config="small"),
        question(revision="f" * 40),
        replace(asked, asked=("rev-main",)),
        replace(asked, model=ModelFacts(id="you/m")),
    ]
    assert {other.identity for other in names} == {asked.identity}, "another name of the same thing"


def test_what_lacks_clips_is_asked_again(tmp_path):
    write(question(), tmp_path, complete=False)
    assert find_answer(question(), tmp_path) is None


def test_predictions_are_those_of_the_result(tmp_path):
    asked = question()
    written, _ = write(asked, tmp_path)
    path = asked.path(tmp_path)
    assert written.predictions_sha256 == hashlib.sha256(predictions()).hexdigest()
    assert PredictedClips(path, written).clip_ids == list("abcd")
    for other in (predictions(seed=1), predictions()[:-1], b""):
        predictions_path(path).write_bytes(other)
        assert find_answer(asked, tmp_path) is None, "it is computed again"
        with pytest.raises(UserError, match=r"damaged, or of another run than esc50.json.*--overwrite"):
            PredictedClips(path, written)
    predictions_path(path).unlink()
    assert find_answer(asked, tmp_path) == written, "who compares nothing may remove them"
    with pytest.raises(UserError, match=r"no esc50\.predictions\.safetensors beside"):
        PredictedClips(path, written)
    with pytest.raises(FileNotFoundError):
        read_predictions(path, written)


def test_no_result_takes_the_place_of_another_questions(tmp_path):
    for weights in "abc":
        _, note = write(question(weights), tmp_path, value={"a": 0.1, "b": 0.2, "c": 0.3}[weights])
        assert (note is None) == (weights == "a")
        assert note is None or ("answered another question" in note and ".was-" in note)
    assert [path.name for path in result_paths(tmp_path)] == ["esc50.json"]
    everything = [Result.read(path) for path in tmp_path.rglob("*.json")]
    assert sorted(result.headline.mean for result in everything) == [0.1, 0.2, 0.3]
    for path in tmp_path.rglob("*.json"):  # each with its own predictions
        PredictedClips(path, Result.read(path))
    results, skipped = read_results(tmp_path)
    assert [filed.result.headline.mean for filed in results] == [0.3] and not skipped
    write(question("c"), tmp_path, value=0.4)
    assert len(list(tmp_path.rglob("*.json"))) == 3, "the same question is answered anew in its place"


def test_what_is_no_result_is_kept_too(tmp_path):
    path = question().path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("my own notes")
    _, note = write(question(), tmp_path)
    assert "is no result of this version, or was changed" in note
    assert {p.read_text() for p in tmp_path.rglob("*.was-*.json")} == {"my own notes"}
    assert make_room(tmp_path / "none.json", "x") is None


def test_many_writers_of_one_name_lose_nothing(tmp_path):
    """Each asks another question; whoever comes last stands in the place, the others beside it."""
    threads = [threading.Thread(target=write, args=(question(str(i)), tmp_path, i / 20, i)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {path: Result.read(path) for path in tmp_path.rglob("*.json")}
    assert sorted(result.headline.mean for result in found.values()) == [i / 20 for i in range(12)]
    for path, result in found.items():
        read_predictions(path, result)
    assert not list(tmp_path.rglob("*.tmp"))


def test_without_locks_results_are_written_all_the_same(tmp_path, monkeypatch):
    def none(*_, **__):
        raise NotImplementedError("this file system knows no locks")

    monkeypatch.setattr(filing.FileLock, "acquire", none)
    assert write(question(), tmp_path)[1] is None and find_answer(question(), tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "me__m").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot write .*esc50"):
        write(question(), tmp_path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "r.json"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(UserError, match=r"cannot write .*r\.json \(No space left on device\)"):
        write_atomically(path, b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("r.json", b"old")]


def curve(*layers, validation=0.5):
    return with_layer_curve({layer: answer(question(layer=layer), validation=validation) for layer in layers})


def test_the_curve_over_more_layers_stays(tmp_path):
    three, two = curve(0, 1, -1), curve(0, -1)
    assert set(three[0].layer_curve.validation) == {"0", "1", "-1"} and three[0].layer_curve.best == -1
    kept = with_layer_curve({0: three[0], -1: two[-1]})
    assert kept[0].layer_curve == three[0].layer_curve and set(kept[-1].layer_curve.validation) == {"0", "-1"}
    assert with_layer_curve({-1: two[-1]}) == {-1: two[-1]}
    none = curve(0, -1, validation=None)
    assert none[0].layer_curve.best is None


def test_a_curve_is_added_to_its_own_result_alone(tmp_path):
    asked = question()
    written, _ = write(asked, tmp_path)
    better = curve(0, -1)[-1]
    better = msgspec.structs.replace(better, predictions_sha256=written.predictions_sha256, identity=written.identity)
    rewrite([(asked, better)], tmp_path)
    assert Result.read(asked.path(tmp_path)).layer_curve == better.layer_curve
    write(asked, tmp_path, seed=1)  # another run in the meantime
    rewrite([(asked, better)], tmp_path)
    assert Result.read(asked.path(tmp_path)).layer_curve is None
