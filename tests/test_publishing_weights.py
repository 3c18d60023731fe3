"""A number stands on a page only if it was measured on what the page is about."""

import pytest
from huggingface_hub import ModelCard
from publishing_samples import MODEL, make_result, save
from tiny_models import make_tiny

from arch_hf.embedding import AudioEncoder
from arch_hf.errors import UserError
from arch_hf.publishing.results import push_results


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Two checkpoints of one training: their files, and the digests of their weights."""
    folders = [make_tiny("hubert", tmp_path_factory.mktemp("step"), seed=seed) for seed in range(2)]
    return [(files_of(folder), AudioEncoder.from_pretrained(str(folder)).weights_sha256) for folder in folders]


@pytest.fixture
def repo(hub, steps):
    """The model with both checkpoints: the first one on a branch, the second on main."""
    repo = hub.create("models", MODEL, steps[1][0])
    repo.commit("step-1", steps[0][0], "step 1")
    return repo


def measured(repo, steps, step, value=0.5, corpus="esc50", **more):
    result = make_result(corpus, value) | more
    result["model"] |= {"revision": repo.refs["step-1" if step == 0 else "main"], "weights_sha256": steps[step][1]}
    return result


def values(repo):
    card = repo.files().get("README.md")
    return (
        {}
        if card is None
        else {e.dataset_type: e.metric_value for e in ModelCard(card.decode()).data.eval_results or []}
    )


def test_the_entry_names_the_revision_that_was_measured(repo, steps, tmp_path):
    save(tmp_path, measured(repo, steps, 1))
    push_results(tmp_path, MODEL)
    (entry,) = ModelCard(repo.files()["README.md"].decode()).data.eval_results
    first = repo.refs["main"]
    assert entry.metric_args["revision"] and entry.metric_args["weights_sha256"] == steps[1][1]
    assert f"model revision {entry.metric_args['revision']}".encode() in repo.files()[".eval_results/arch_esc50.yaml"]
    assert push_results(tmp_path, MODEL) == "nothing to change" and repo.refs["main"] == first


def test_a_result_of_another_branch_is_held_back_and_the_others_are_not(repo, steps, tmp_path):
    save(tmp_path / "branch", measured(repo, steps, 0, 0.25))
    save(tmp_path / "main", measured(repo, steps, 1, 0.75, "ravdess"))
    with pytest.raises(
        UserError, match=r"esc50 .*holds other weights than those that were measured \(revision .*the others: http"
    ):
        push_results(tmp_path, MODEL)
    assert values(repo) == {"arch/ravdess": 0.75}
    save(tmp_path / "main", measured(repo, steps, 1, 0.5))  # of both the same corpus: the one of main
    with pytest.raises(UserError, match="other weights"):
        push_results(tmp_path, MODEL)
    assert values(repo) == {"arch/ravdess": 0.75, "arch/esc50": 0.5}


def test_the_same_weights_in_other_files_are_the_same(repo, steps, tmp_path):
    """A branch with the weights of another, whose card and tokenizer differ; and a commit that is gone."""
    repo.commit("main", steps[0][0] | {"README.md": b"# New", "vocab.json": b"{}"}, "back to step 1")
    save(tmp_path, measured(repo, steps, 0, 0.25))
    push_results(tmp_path, MODEL)
    assert values(repo) == {"arch/esc50": 0.25}
    gone = measured(repo, steps, 0, 0.5)
    gone["model"]["revision"] = "0" * 40
    save(tmp_path, gone)
    push_results(tmp_path, MODEL)
    assert values(repo) == {"arch/esc50": 0.5}


def test_what_was_measured_in_a_folder_is_compared_by_its_weights(repo, steps, tmp_path):
    other, own = measured(repo, steps, 0, 0.25), measured(repo, steps, 1, 0.5)
    for result in (other, own):
        result["model"]["revision"] = None
    save(tmp_path / "other", other)
    save(tmp_path / "own", own)
    with pytest.raises(UserError, match=r"other weights than those that were measured \(SHA-256"):
        push_results(tmp_path / "other", MODEL)
    assert values(repo) == {}
    push_results(tmp_path / "own", MODEL)
    assert values(repo) == {"arch/esc50": 0.5}


def test_of_two_results_about_the_same_the_better_is_published(repo, steps, tmp_path, capsys):
    few, many = measured(repo, steps, 1, 0.25), measured(repo, steps, 1, 0.5)
    few["protocol"] |= {"seeds": 1}
    many["protocol"] |= {"seeds": 3}
    half = measured(repo, steps, 1, 0.75)
    half["environment"]["dtype"] = "bfloat16"
    for folder, result in (("few", few), ("many", many), ("half", half)):
        save(tmp_path / folder, result)
    push_results(tmp_path, MODEL)
    assert "left out: esc50 (arch-v1) 1.0, 1 seeds" in capsys.readouterr().err
    entries = ModelCard(repo.files()["README.md"].decode()).data.eval_results
    assert {(e.metric_value, e.metric_args.get("dtype")) for e in entries} == {(0.5, None), (0.75, "bfloat16")}
    assert b"0.75" not in repo.files()[".eval_results/arch_esc50.yaml"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metrics", "accuracy", "mean"), "0.9"),
        (("metrics", "accuracy", "mean"), 2.5),
        (("metrics", "accuracy", "mean"), "NaN"),
        (("metrics", "accuracy", "mean"), [1]),
        (("complete",), "no"),
        (("dataset", "revision"), {"a": 1}),
        (("runs",), None),
    ],
)
def test_what_is_no_result_is_not_published(repo, steps, tmp_path, capsys, path, value):
    result = block = measured(repo, steps, 1)
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    save(tmp_path, result)
    with pytest.raises(UserError, match=r"no result of .* on its last layer"):
        push_results(tmp_path, MODEL)
    assert "passed over" in capsys.readouterr().err and values(repo) == {}
