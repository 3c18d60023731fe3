"""`arch-hf publish` and the pushes of `arch-hf evaluate`: each flag arrives, a dry run says what would go and sends nothing, and no push is skipped."""

import inspect
import json
import shlex

import pytest
from huggingface_hub import ModelCard, constants
from publishing_samples import MODEL, make_result, raw_esc50, save
from tiny_models import make_tiny

from arch_hf.cli import main
from arch_hf.data import get_corpus
from arch_hf.data.official.prepare import prepare
from arch_hf.errors import UserError
from arch_hf.publishing import checkpoint, dataset, own_card, results, results_dataset, spaces

# Command -> the function that does it, and what it is told.
FLAGS = {
    "results r --model_id me/m --repo_id me/other --create_pr --allow_incomplete --dry_run": (
        (results, "push_results"),
        {"repo_id": "me/other", "create_pr": True, "allow_incomplete": True, "dry_run": True},
    ),
    "results r --dataset me/r --model_id me/m --create_pr --allow_incomplete --dry_run": (
        (results_dataset, "push_to_dataset"),
        {"model_id": "me/m", "create_pr": True, "allow_incomplete": True, "dry_run": True},
    ),
    "dataset d --repo_id me/d --private --dry_run": ((dataset, "push_dataset"), {"private": True, "dry_run": True}),
    "checkpoint c --repo_id me/c --revision v1 --card card.md --private --dry_run": (
        (checkpoint, "publish_checkpoint"),
        {"revision": "v1", "card": "card.md", "private": True, "dry_run": True},
    ),
    "leaderboard r --repo_id me/l --dry_run": ((spaces, "push_leaderboard"), {"dry_run": True}),
    "metrics map --namespace me --dry_run": ((spaces, "push_metrics"), {"names": ["map"], "dry_run": True}),
    "card c --results r --repo_id me/c --allow_incomplete": (
        (own_card, "write_card"),
        {"repo_id": "me/c", "allow_incomplete": True},
    ),
}


@pytest.mark.parametrize("command", FLAGS)
def test_each_flag_arrives(command, monkeypatch):
    (module, name), told = FLAGS[command]
    signature, calls = inspect.signature(getattr(module, name)), []
    monkeypatch.setattr(module, name, lambda *args, **named: calls.append(signature.bind(*args, **named)) or "")
    assert main(["publish", *command.split()]) == 0
    (call,) = calls
    call.apply_defaults()
    assert {key: str(call.arguments[key]) for key in told} == {key: str(value) for key, value in told.items()}


# --------------------------------------------------------------------------------------------------------------- dry runs


def dry(hub, capsys, *words):
    """What a dry run prints, after it was seen to have asked nothing that writes."""
    hub.requests.clear()
    before = {(kind, name): len(repo.log) for (kind, name), repo in hub.repos.items()}
    assert main([*map(str, words), "--dry_run"]) == 0
    assert {(kind, name): len(repo.log) for (kind, name), repo in hub.repos.items()} == before and not hub.blobs
    assert not [
        path for method, path, _ in hub.requests if method not in ("GET", "HEAD") and "/paths-info/" not in path
    ]
    out = capsys.readouterr().out
    assert out.endswith("nothing was sent (--dry_run)\n")
    return out


def listed(out):
    return {line.split()[0] for line in out.splitlines() if line.startswith("  ") and not line.endswith("removed")}


def test_a_dry_run_of_folders_names_the_files_that_then_go(hub, tmp_path, capsys):
    prepare(get_corpus("esc50"), raw_esc50(tmp_path / "raw"), tmp_path / "esc50")
    (tmp_path / "esc50" / "notes.txt").write_text("private")
    (tmp_path / "report").mkdir()
    for name in ("leaderboard.html", "radar.png", ".secret", "notes.txt"):
        (tmp_path / "report" / name).write_text(name)
    tiny = make_tiny("hubert", tmp_path / "tiny")
    (tiny / "LICENSE.txt").write_text("Who may do what.")
    commands = {
        ("datasets", "me/esc50"): ["dataset", tmp_path / "esc50", "--repo_id", "me/esc50", "--private"],
        ("spaces", "me/board"): ["leaderboard", tmp_path / "report", "--repo_id", "me/board"],
        ("spaces", "me/map"): ["metrics", "map", "--namespace", "me"],
        ("models", "me/tiny"): ["checkpoint", tiny, "--repo_id", "me/tiny"],
    }
    for (kind, name), words in commands.items():
        out = dry(hub, capsys, "publish", *words)
        place = f"{hub.url}/{kind}/{name}" if kind != "models" else f"{hub.url}/{name}"
        assert f"would go to {place}, a new {'private ' * ('--private' in words)}repository:" in out
        assert main(["publish", *map(str, words)]) == 0
        hub.blobs.clear()
        capsys.readouterr()
        assert listed(out) == set(hub.repo(kind, name).files()) - {".gitattributes"}
    assert "LICENSE.txt" in listed(out)


def test_a_dry_run_sees_what_would_be_removed_and_what_would_be_refused(hub, tmp_path, capsys):
    prepare(get_corpus("esc50"), raw_esc50(tmp_path / "raw"), tmp_path / "esc50")
    old = {"data/fold_1-00001-of-00002.parquet": b"old", "theirs.md": b"stays"}
    hub.create("datasets", "me/esc50", old)
    words = ["publish", "dataset", tmp_path / "esc50", "--repo_id", "me/esc50"]
    out = dry(hub, capsys, *words)
    assert "  data/fold_1-00001-of-00002.parquet  removed" in out.splitlines() and "theirs.md" not in out
    assert main([*map(str, words), "--private", "--dry_run"]) == 1
    assert "that repository is public" in capsys.readouterr().err


@pytest.mark.parametrize("create_pr", [False, True])
def test_a_dry_run_of_results_says_what_would_change(hub, tmp_path, capsys, create_pr):
    repo = hub.create("models", MODEL)
    save(tmp_path, make_result())
    flags = ["--create_pr"] * create_pr
    page = ["publish", "results", tmp_path, "--model_id", MODEL, *flags]
    out = dry(hub, capsys, *page)
    assert f"would go to {hub.url}/{MODEL}, {'as a pull request' if create_pr else 'in one commit'}:" in out
    assert listed(out) == {"README.md", ".eval_results/arch_esc50.yaml"}
    assert main([*map(str, page)]) == 0
    assert listed(out) <= set(repo.files("refs/pr/1" if create_pr else "main"))
    capsys.readouterr()
    rows = ["publish", "results", tmp_path, "--dataset", "arch/results", *flags]
    out = dry(hub, capsys, *rows)
    how = "1 result of arch/tiny-hubert" + ", as a pull request" * create_pr + ", a new dataset:"
    assert f"would go to {hub.url}/datasets/arch/results, {how}" in out
    assert main([*map(str, rows)]) == 0
    assert listed(out) <= set(hub.repo("datasets", "arch/results").files("refs/pr/1" if create_pr else "main"))


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_command_that_goes_on_has_every_flag_that_was_given(hub, tmp_path, naps, capsys, dry_run):
    """Without --private or --dry_run it would publish what was not meant to be."""
    prepare(get_corpus("esc50"), raw_esc50(tmp_path / "raw"), tmp_path / "esc 50")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "leaderboard.html").touch()
    (tmp_path / "card.md").write_text("# Card")
    tiny, card = make_tiny("hubert", tmp_path / "tiny"), tmp_path / "card.md"
    save(tmp_path / "results", make_result())
    pull = ["--create_pr", "--allow_incomplete"]
    for method in ("GET", "POST", "PUT", "HEAD"):
        hub.fail(method, "/", status=500, times=10**6)
    for words in (
        ["dataset", tmp_path / "esc 50", "--repo_id", "me/esc50", "--private"],
        ["leaderboard", tmp_path / "report", "--repo_id", "me/board"],
        ["metrics", "map", "--namespace", "me"],
        ["checkpoint", tiny, "--repo_id", "me/tiny", "--card", card, "--private"],
        ["results", tmp_path / "results", "--model_id", MODEL, "--repo_id", "me/other", *pull],
        ["results", tmp_path / "results", "--dataset", "me/r", "--model_id", MODEL, *pull],
    ):
        given = ["publish", *map(str, words), *["--dry_run"] * dry_run]
        assert main(given) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert shlex.split(error[error.index("arch-hf publish") :]) == ["arch-hf", *given]


def test_no_result_is_published_in_place_of_a_damaged_one(hub, tmp_path, capsys):
    repo = hub.create("models", MODEL)
    (path,) = save(tmp_path, make_result(value=0.9))
    path.rename(path.with_name("esc50.seeds1.json"))
    path.write_text(json.dumps(make_result())[:-20])
    save(tmp_path, make_result("us8k", 0.5), make_result("emovo", model="arch/another"))
    (tmp_path / "arch__another" / "ravdess.json").write_text("{")  # nobody's, as far as this model goes
    for where in (["--model_id", MODEL], ["--dataset", "arch/results", "--model_id", MODEL]):
        assert main(["publish", "results", str(tmp_path), *where]) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert "esc50.json: it is damaged" in error and "ravdess" not in error and "the others: http" in error
        assert "esc50.seeds1.json: it would stand in the place of esc50.json, which is damaged" in error
    assert [e.metric_value for e in ModelCard(repo.files()["README.md"].decode()).data.eval_results] == [0.5]


# ------------------------------------------------------------------------------------------------------ pushes of evaluate

LITTLE = ["evaluate", "--datasets", "synthetic_events", "--limit", "6", "--seeds", "1"]
PUSH = ["--push_to_hub", "--results_dataset", "me/r", "--create_pr"]


@pytest.fixture
def pushes(tmp_path, monkeypatch):
    """The pushes that are made, in place of them; and what they raise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCH_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    made, refusals = [], []

    def push(*args, **named):
        made.append((*args, named))
        if refusals:
            raise UserError(refusals.pop())
        return "pushed"

    monkeypatch.setattr(results, "push_results", push)
    monkeypatch.setattr(results_dataset, "push_to_dataset", push)
    return made, refusals


def test_a_corpus_that_failed_keeps_no_result_from_the_hub_and_asking_again_pushes_again(pushes, capsys):
    made, _ = pushes
    assert main([*LITTLE, *PUSH, "--datasets", "synthetic_events", "nonsense"]) == 1
    assert "warning: --push_to_hub is going to fail: logmel is built into arch-hf" in capsys.readouterr().err
    assert [call[1] for call in made] == ["logmel", "me/r"] and all(call[-1]["create_pr"] for call in made)
    for _ in range(2):
        made.clear()
        assert main([*LITTLE, *PUSH]) == 0
        assert len(made) == 2 and made[1][-1]["model_id"] == "logmel"


def test_a_push_that_fails_is_told_and_stops_no_other(pushes, capsys):
    made, refusals = pushes
    refusals.append("the Hub refuses")
    assert main([*LITTLE, *PUSH]) == 1
    assert len(made) == 2 and "error: the Hub refuses" in capsys.readouterr().err.splitlines()
