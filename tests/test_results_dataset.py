"""A dataset of results on the Hub: each result arrives once, whoever pushes what at the same time, and a leaderboard reads them back."""

import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from publishing_samples import make_result, save

from arch_hf.cli import main
from arch_hf.errors import UserError
from arch_hf.names import public_name
from arch_hf.publishing import results_dataset
from arch_hf.publishing.results_dataset import push_to_dataset
from arch_hf.results.folder import read_results
from arch_hf.results.result import Result
from arch_hf.results.rows import SCHEMA, key_of, read_rows, row_of, write_rows

REPO = "arch/results"


def rows_of(hub, tmp_path, ref="main", repo=REPO):
    """The results that a reader of the dataset gets, by model and corpus; and how many rows hold them."""
    folder = tmp_path / f"read-{len(list(tmp_path.iterdir()))}"
    for path, data in hub.repo("datasets", repo).files(ref).items():
        if path.endswith(".parquet"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    found, skipped = read_results(folder)
    assert not skipped
    n_rows = sum(pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet"))
    return {(filed.result.model.id, filed.result.corpus): filed.result for filed in found}, n_rows


def test_a_row_holds_the_very_result(tmp_path):
    (path,) = save(tmp_path, make_result(value=0.123456789012345))
    result = Result.read(path)
    (tmp_path / "rows.parquet").write_bytes(write_rows([row_of(result, path.name)]))
    ((key, where, back),) = read_rows(tmp_path / "rows.parquet")
    assert back == result and key == key_of(result) and where == Path("arch__tiny-hubert/esc50.json")
    (row,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert row["value"] == 0.123456789012345 and row["dataset_id"] == "arch/esc50" and row["metric"] == "accuracy"
    assert pq.read_schema(tmp_path / "rows.parquet").equals(SCHEMA)


@pytest.mark.parametrize(
    ("column", "says"), [("result", "changed after it was written"), ("key", "key of another result")]
)
def test_a_row_that_was_changed_is_left_out(tmp_path, column, says):
    (path,) = save(tmp_path / "results", make_result())
    row = row_of(Result.read(path), path.name)
    row[column] = row[column].replace("0.43210987", "0.93210987") if column == "result" else "0" * 64
    (tmp_path / "rows.parquet").write_bytes(write_rows([row]))
    found, (skipped,) = read_results(tmp_path)
    assert len(found) == 1 and found[0].path.suffix == ".json" and says in skipped


def test_rows_of_a_newer_version_are_not_guessed_at(tmp_path):
    table = pq.read_table(_one_row(tmp_path)).replace_schema_metadata({"arch_hf_rows": "9"})
    pq.write_table(table, tmp_path / "newer.parquet")
    with pytest.raises(UserError, match="has rows of version 9, this arch-hf knows 1: upgrade arch-hf"):
        list(read_rows(tmp_path / "newer.parquet"))


def _one_row(folder):
    (path,) = save(folder / "one", make_result())
    (folder / "one.parquet").write_bytes(write_rows([row_of(Result.read(path), path.name)]))
    return folder / "one.parquet"


def test_results_arrive_once_and_again_is_nothing(hub, tmp_path, capsys):
    results = tmp_path / "results"
    save(results, make_result(), make_result("us8k"), make_result("synthetic_events"))
    assert main(["publish", "results", str(results), "--dataset", REPO]) == 0
    out, err = capsys.readouterr()
    assert "/commit/" in out and "left out, since their data are not on the Hub: synthetic_events.json" in err
    repo = hub.repo("datasets", REPO)
    found, n_rows = rows_of(hub, tmp_path)
    assert {corpus for _, corpus in found} == {"esc50", "us8k"} and n_rows == 2
    assert "arch-hf publish results RESULTS_DIR --dataset arch/results" in repo.files()["README.md"].decode()
    commits = len(repo.log)
    assert push_to_dataset(results, REPO).startswith("nothing to change") and len(repo.log) == commits
    save(results, make_result("emovo"))
    push_to_dataset(results, REPO, model_id="arch/tiny-hubert")
    found, n_rows = rows_of(hub, tmp_path)
    assert len(found) == 3 == n_rows and len(repo.log) == commits + 1


def test_somebody_elses_dataset_gets_a_pull_request_and_only_one(hub, tmp_path, capsys):
    hub.create("datasets", "others/results")
    save(tmp_path / "results", make_result())
    url = push_to_dataset(tmp_path / "results", "others/results")
    repo = hub.repo("datasets", "others/results")
    assert "/discussions/1" in url and repo.refs.keys() == {"main", "refs/pr/1"}
    assert "others/results is not yours: as a pull request" in capsys.readouterr().err
    assert len(rows_of(hub, tmp_path, "refs/pr/1", "others/results")[0]) == 1
    assert push_to_dataset(tmp_path / "results", "others/results").startswith("nothing to change: ")
    assert repo.refs.keys() == {"main", "refs/pr/1"}
    repo.closed.add(1)
    assert "/discussions/2" in push_to_dataset(tmp_path / "results", "others/results")


def test_fifty_pushes_at_once_arrive_once_each(hub, tmp_path):
    for i in range(50):
        save(tmp_path / f"r{i}", make_result(model=f"lab/model-{i}", value=0.3 + i / 100))
    save(tmp_path / "r7", make_result("us8k", model="lab/model-7"))
    save(tmp_path / "r8", make_result("us8k", model="lab/model-7"))  # the same result comes from two sides
    failed = []

    def push(i):
        try:
            push_to_dataset(tmp_path / f"r{i}", REPO)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=push, args=(i,)) for i in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found, n_rows = rows_of(hub, tmp_path)
    assert not failed and len(found) == 51 and n_rows in (51, 52)
    assert found["lab/model-49", "esc50"].headline.mean == 0.3 + 49 / 100
    assert {model for model, _ in found} == {f"lab/model-{i}" for i in range(50)}


def test_many_files_become_one_without_losing_a_row(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(results_dataset, "MOST_FILES", 3)
    for i in range(6):
        save(tmp_path / f"r{i}", make_result(model=f"lab/model-{i}"))
        push_to_dataset(tmp_path / f"r{i}", REPO)
    files = [path for path in hub.repo("datasets", REPO).files() if path.endswith(".parquet")]
    found, n_rows = rows_of(hub, tmp_path)
    assert len(found) == 6 == n_rows and len(files) == 3
    assert push_to_dataset(tmp_path / "r2", REPO).startswith("nothing to change")

    def overtake():  # a push arrives while the files are put together: they are left as they are
        repo = hub.repo("datasets", REPO)
        repo.commit("main", {**repo.files(), "data/other.parquet": _one_row(tmp_path).read_bytes()}, "faster")

    save(tmp_path / "r6", make_result(model="lab/model-6"))
    commit = f"/api/datasets/{REPO}/commit/"
    hub.before("POST", commit, lambda: hub.before("POST", commit, overtake))  # the second one puts the files together
    push_to_dataset(tmp_path / "r6", REPO)
    assert len(rows_of(hub, tmp_path)[0]) == 8 and hub.repo("datasets", REPO).log[-1][1] == "faster"


def test_a_model_in_a_folder_is_known_by_its_path_and_by_the_name_that_may_be_shown(hub, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save(tmp_path / "results", make_result(model=public_name(folder)))
    assert "/commit/" in push_to_dataset(tmp_path / "results", REPO, model_id=str(folder))
    assert len(rows_of(hub, tmp_path)[0]) == 1


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--dataset", "no/such/name"], "no/such/name is no repository of the Hub"),
        (["--dataset", REPO, "--model_id", "lab/other"], "nothing to publish of lab/other"),
        ([], "give --model_id for the model's page, or --dataset"),
        (["--dataset", REPO, "--repo_id", "a/b"], "give one of them"),
    ],
)
def test_what_cannot_be_pushed_is_one_line(hub, tmp_path, capsys, args, says):
    save(tmp_path / "results", make_result())
    try:
        status = main(["publish", "results", str(tmp_path / "results"), *args])
    except SystemExit as stop:
        status = stop.code
    err = capsys.readouterr().err
    assert status == 1 and says in err and len(err.splitlines()) == 1


def test_incomplete_results_are_held_back_and_the_others_arrive(hub, tmp_path):
    save(tmp_path / "results", make_result(), make_result("us8k", limit=5))
    with pytest.raises(
        UserError, match=r"not published: us8k.json: limited to 5 clips per split; .*; the others: http"
    ):
        push_to_dataset(tmp_path / "results", REPO)
    assert len(rows_of(hub, tmp_path)[0]) == 1
    push_to_dataset(tmp_path / "results", REPO, allow_incomplete=True)
    found, _ = rows_of(hub, tmp_path)
    assert found["arch/tiny-hubert", "us8k"].caveat == "limited to 5 clips per split"
