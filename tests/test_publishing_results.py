"""Results onto a model's page, over HTTP, with the real clients."""

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, constants, parse_eval_result_entries
from publishing_samples import MODEL, make_result, save

from arch_hf.cli.publish import add_parser
from arch_hf.errors import UserError
from arch_hf.publishing import hub as hub_module
from arch_hf.publishing.hub import NOTHING
from arch_hf.publishing.results import push_results, why_not_pushable

THEIR_CARD = """---
# the licence was hard to get
license: mit   # really
tags: [audio,   speech]
model-index:
- name: Somebody's name
  results:
  - task: {type: automatic-speech-recognition, name: Speech}
    dataset: {name: LibriSpeech, type: librispeech_asr, revision: 0123}
    metrics:
    - {type: wer, value: 20.90, name: "Test WER"}
    source: {name: Their board, url: "https://example.org"}
    note: 'an extra field'
# a comment below

language:
  - en
---
# Tiny

Their text, with --- and *stars*.
"""


def eval_results(repo):
    return parse_eval_result_entries(
        [e for path, data in repo.files().items() if ".eval_results/" in path for e in yaml.safe_load(data)]
    )


def test_numbers_arrive_in_both_forms_and_a_second_push_changes_nothing(hub, tmp_path):
    repo = hub.create("models", MODEL)
    save(
        tmp_path,
        make_result("esc50", 0.4321098765432101),
        make_result("fsd50k", 1 / 3),
        make_result("esc50", 0.5, protocol="strict"),
    )
    url = push_results(tmp_path, MODEL)
    assert url == f"{hub.url}/{MODEL}/commit/{repo.refs['main']}" and len(repo.log) == 2

    card = ModelCard.load(MODEL)
    found = {(e.dataset_type, e.metric_args["protocol"]): e for e in card.data.eval_results}
    assert {key: e.metric_value for key, e in found.items()} == {
        ("arch/esc50", "arch-v1"): 0.4321098765432101, ("arch/esc50", "strict"): 0.5, ("arch/fsd50k", "arch-v1"): 1 / 3,
    }  # fmt: skip
    entry = found["arch/esc50", "arch-v1"]
    assert (entry.task_type, entry.dataset_name, entry.dataset_config) == ("audio-classification", "ESC-50", "default")
    assert (entry.dataset_split, entry.dataset_revision) == ("fold_1+fold_2+fold_3+fold_4+fold_5", "c" * 40)
    assert (entry.metric_type, entry.source_name) == ("accuracy", "arch-hf") and "arch-v1" in entry.metric_name
    assert (
        found["arch/fsd50k", "arch-v1"].metric_type == "map_macro"
        and found["arch/fsd50k", "arch-v1"].dataset_split == "test"
    )

    newer = {(e.dataset_id, e.task_id): e for e in HfApi().model_info(MODEL).eval_results}
    assert {key: e.value for key, e in newer.items()} == {
        ("arch/esc50", "esc50"): 0.4321098765432101, ("arch/esc50", "esc50_strict"): 0.5, ("arch/fsd50k", "fsd50k"): 1 / 3,
    }  # fmt: skip
    assert (
        newer["arch/esc50", "esc50"].dataset_revision == "c" * 40
        and "arch-v1 version 1.0" in newer["arch/esc50", "esc50"].notes
    )
    assert sorted(path for path in repo.files() if "eval_results" in path) == [
        ".eval_results/arch_esc50.yaml", ".eval_results/arch_fsd50k.yaml",
    ]  # fmt: skip

    assert push_results(tmp_path, MODEL) == NOTHING and len(repo.log) == 2


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_somebody_elses_card_keeps_everything(hub, tmp_path, line_end):
    theirs = THEIR_CARD.replace("\n", line_end).encode()
    other = b"# mine\n- dataset: {id: arch/esc50, task_id: esc50}\n  value: 0.9\n  source: {url: 'https://x.y', name: Mine}\n"
    repo = hub.create("models", MODEL, {"README.md": theirs, ".eval_results/arch_esc50.yaml": other, "model.bin": b"w"})
    save(tmp_path, make_result(value=0.25))
    push_results(tmp_path, MODEL)
    card = repo.files()["README.md"].decode()
    before, after = THEIR_CARD.replace("\n", line_end).split("    note: 'an extra field'" + line_end)
    assert card.startswith(before) and card.endswith(after), "bytes around the new entry changed"
    ours = card[len(before) : -len(after)]
    assert (
        ours.count("- task:") == 1
        and "value: 0.25" in ours
        and (line_end == "\n" or "\n" not in ours.replace("\r\n", ""))
    )
    values = {(e.dataset_type, e.metric_value) for e in ModelCard(card).data.eval_results}
    assert values == {("librispeech_asr", 20.90), ("arch/esc50", 0.25)}
    assert {(e.source_name, e.value) for e in eval_results(repo)} == {("Mine", 0.9), ("arch-hf", 0.25)}
    assert repo.files()["model.bin"] == b"w"
    assert push_results(tmp_path, MODEL) == NOTHING

    save(tmp_path, make_result(value=0.75))  # measured again: ours is replaced, theirs is not
    push_results(tmp_path, MODEL)
    card = repo.files()["README.md"].decode()
    assert card.startswith(before) and card.endswith(after) and "0.75" in card and "0.25" not in card


def test_a_card_that_another_tool_rewrote_still_merges(hub, tmp_path):
    """huggingface_hub's own classes put two protocols of one corpus under one entry with two metrics."""
    repo = hub.create("models", MODEL)
    save(tmp_path, make_result(value=0.25), make_result(value=0.5, protocol="strict"))
    push_results(tmp_path, MODEL)
    repo.commit("main", {**repo.files(), "README.md": str(ModelCard.load(MODEL)).encode()}, "tidied")
    assert repo.files()["README.md"].count(b"- task:") == 1
    assert push_results(tmp_path, MODEL) == NOTHING
    save(tmp_path, make_result(value=0.75))
    push_results(tmp_path, MODEL)
    values = [e.metric_value for e in ModelCard(repo.files()["README.md"].decode()).data.eval_results]
    assert sorted(values) == [0.5, 0.75]


@pytest.mark.parametrize(
    ("there", "new", "wins"),
    [
        ({"version": "1.0"}, {"version": "1.1"}, True),
        ({"version": "1.1"}, {"version": "1.0"}, False),
        ({"version": "1.10"}, {"version": "1.9"}, False),
        ({"version": "1.0"}, {"version": "1.0"}, True),
        ({"n_clips": 2000}, {"n_clips": 400}, False),
        ({"n_clips": 400}, {"n_clips": 2000}, True),
        ({"version": "1.0"}, {"version": "1.1", "n_clips": 400}, True),
    ],
)
def test_a_lower_version_or_fewer_clips_never_overwrite(hub, tmp_path, there, new, wins):
    repo = hub.create("models", MODEL)
    save(tmp_path, make_result(value=0.25, **there))
    push_results(tmp_path, MODEL)
    save(tmp_path, make_result(value=0.75, **new), make_result("ravdess", 0.5))
    if wins:
        push_results(tmp_path, MODEL)
    else:
        with pytest.raises(UserError, match=r"esc50 \(arch-v1\): the page has a better one.*published: http"):
            push_results(tmp_path, MODEL)
    card = {e.dataset_type: e.metric_value for e in ModelCard(repo.files()["README.md"].decode()).data.eval_results}
    assert card == {"arch/esc50": 0.75 if wins else 0.25, "arch/ravdess": 0.5}
    assert {e.dataset_id: e.value for e in eval_results(repo)} == card


@pytest.mark.parametrize("doubt", ["failed clips", "limit"])
def test_incomplete_is_refused_unless_allowed(hub, tmp_path, doubt):
    repo = hub.create("models", MODEL)
    result = make_result(limit=10) if doubt == "limit" else make_result() | {"complete": False}
    save(tmp_path, result, make_result("ravdess", 0.5))
    with pytest.raises(UserError, match=r"esc50.json: .*--allow_incomplete"):
        push_results(tmp_path, MODEL)
    assert [e.dataset_id for e in eval_results(repo)] == ["arch/ravdess"]  # the whole one is not held up by the other
    push_results(tmp_path, MODEL, allow_incomplete=True)
    entry = next(e for e in ModelCard.load(MODEL).data.eval_results if e.dataset_type == "arch/esc50")
    assert "incomplete" in entry.metric_name and entry.metric_args["incomplete"]
    assert "incomplete" in next(e for e in eval_results(repo) if e.dataset_id == "arch/esc50").notes


def test_pull_request_is_opened_once(hub, tmp_path):
    repo = hub.create("models", MODEL, {"README.md": THEIR_CARD.encode()})
    save(tmp_path, make_result())
    url = push_results(tmp_path, MODEL, create_pr=True)
    assert url == f"{hub.url}/{MODEL}/discussions/1" and repo.files()["README.md"] == THEIR_CARD.encode()
    assert b"arch/esc50" in repo.files("refs/pr/1")["README.md"]
    assert push_results(tmp_path, MODEL, create_pr=True) == f"{NOTHING}: {url}" and len(repo.pulls) == 1
    save(tmp_path, make_result(value=0.5))
    assert push_results(tmp_path, MODEL, create_pr=True).endswith("/discussions/2")


def test_somebody_commits_in_between(hub, tmp_path, naps):
    repo = hub.create("models", MODEL)
    save(tmp_path, make_result())
    for _ in range(2):  # twice: the first time before the card is there at all
        theirs = (
            b"---\nlicense: mit\n---\nA new text\n"
            if "README.md" not in repo.files()
            else repo.files()["README.md"] + b"more\n"
        )
        hub.before(
            "POST",
            "/commit/",
            lambda theirs=theirs: repo.commit("main", {**repo.files(), "README.md": theirs}, "theirs"),
        )
    push_results(tmp_path, MODEL)
    card = ModelCard.load(MODEL)
    assert card.data.license == "mit" and card.text.startswith("A new text") and card.data.eval_results[0].metric_value
    assert 0 < len(naps) < hub_module.ATTEMPTS


PASSING = [
    ("GET", "/api/models/", {"status": 503, "times": 2}),
    ("GET", "/api/models/", {"status": 500, "times": 3, "body": "<html>oh no</html>"}),
    ("POST", "/validate-yaml", {"status": 503, "times": 2, "body": "<html>oh no</html>"}),
    ("POST", "/preupload/", {"status": 502, "times": 3}),
    ("POST", "/commit/", {"status": 503, "times": 4}),
    ("POST", "/commit/", {"status": 409}),
    ("POST", "/commit/", {"status": 429, "headers": {"Retry-After": "17"}}),
    ("POST", "/commit/", {"cut": "request"}),
    ("POST", "/commit/", {"cut": "response"}),
]


@pytest.mark.parametrize(("method", "part", "fault"), PASSING, ids=lambda value: str(value)[:40])
def test_passing_faults_are_waited_out(hub, tmp_path, naps, method, part, fault):
    repo = hub.create("models", MODEL)
    save(tmp_path, make_result())
    hub.fail(method, part, **fault)
    url = push_results(tmp_path, MODEL)
    assert len(repo.log) == 2, "one commit, not none and not two"
    assert url == (NOTHING if fault.get("cut") == "response" else f"{hub.url}/{MODEL}/commit/{repo.refs['main']}")
    assert naps and sum(naps) < 60 and (fault.get("status") != 429 or max(naps) >= 17)


LASTING = [
    ("401", "your token.*hf auth login"),
    ("no token", "hf auth login"),
    ("403", "may not write.*--create_pr"),
    ("404", "no such repository.*check the id"),
    ("409", "others changed the repository"),
    ("412", "others changed the repository"),
    ("429", "asks for 3600 s"),
    ("500", "answers 500.*again and again"),
    ("503", "answers 503.*again and again"),
    ("cut", "no connection.*check the network"),
    ("no network", "no connection.*HF_ENDPOINT"),
    ("offline", "HF_HUB_OFFLINE is set"),
    ("full disk", "HF_HOME_is_a_file"),
    ("400", "Invalid metadata.*model-index is odd"),
]


@pytest.mark.parametrize(("fault", "message"), LASTING, ids=[fault for fault, _ in LASTING])
def test_lasting_faults_say_what_to_do_and_lose_nothing(hub, tmp_path, monkeypatch, naps, capfd, fault, message):
    repo = hub.create("models", MODEL)
    (path,) = save(tmp_path / "results", make_result())
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        if fault == "401":
            patch.setenv("HF_TOKEN", "hf_expired_secret")
        elif fault == "no token":
            patch.delenv("HF_TOKEN")
        elif fault == "403":
            patch.setenv("HF_TOKEN", hub.read_only_token)
        elif fault == "404":
            hub.repos.clear()
        elif fault == "no network":
            patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        elif fault == "offline":
            patch.setattr(constants, "HF_HUB_OFFLINE", True)
        elif fault == "full disk":
            (tmp_path / "HF_HOME_is_a_file").write_text("")
            patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "HF_HOME_is_a_file"))
            repo.commit("main", {"README.md": b"Text"}, "a card to read")
        elif fault == "400":
            hub.fail("POST", "/validate-yaml", 400, body={"errors": [{"message": "model-index is odd"}]})
        elif fault == "cut":
            hub.fail("POST", "/commit/", cut="request", times=100)
        else:
            hub.fail(
                "POST", "/commit/", int(fault), times=100, headers={"Retry-After": "3600"} if fault == "429" else {}
            )
        with pytest.raises(UserError, match=message) as error:
            push_results(tmp_path / "results", MODEL)
    said = str(error.value)
    assert "\n" not in said and "Traceback" not in said
    assert f"arch-hf publish results {tmp_path / 'results'} --model_id {MODEL}" in said
    n_commits = 2 if fault == "full disk" else 1
    assert path.read_bytes() == before and len(repo.log) == n_commits
    assert "secret" not in said + "".join(capfd.readouterr()) and sum(naps) < 60

    hub.faults.clear()
    hub.repos["models", MODEL] = repo
    assert push_results(tmp_path / "results", MODEL).endswith(repo.refs["main"])
    assert len(repo.log) == n_commits + 1


def test_no_token_anywhere(hub, tmp_path, capfd, caplog, monkeypatch):
    """Not even when the server sends it back in an error, with all logs on."""
    from huggingface_hub.utils import logging

    caplog.set_level("DEBUG")
    monkeypatch.setattr(logging.get_logger("huggingface_hub"), "propagate", True)
    logging.set_verbosity_debug()
    hub.create("models", MODEL)
    save(tmp_path / "results", make_result())
    hub.fail(
        "POST",
        "/commit/",
        403,
        body={"error": f"Bearer {hub.token} is not welcome"},
    )
    with pytest.raises(UserError, match=r"\*\*\*") as error:
        push_results(tmp_path / "results", MODEL)
    push_results(tmp_path / "results", MODEL)
    logging.set_verbosity_warning()
    assert any(token == f"Bearer {hub.token}" for _, _, token in hub.requests), "the token was not even used"
    seen = [str(error.value), *capfd.readouterr(), caplog.text]
    seen += [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    seen += [
        data.decode(errors="replace")
        for repo in hub.repos.values()
        for files in repo.commits.values()
        for data in files.values()
    ]
    assert len(seen) > 6 and not any(hub.token in text for text in seen)


def test_token_from_the_login_file(hub, tmp_path, monkeypatch):
    hub.create("models", MODEL)
    save(tmp_path, make_result())
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "hf_home").mkdir(exist_ok=True)
    (tmp_path / "hf_home" / "token").write_text(hub.token)
    assert push_results(tmp_path, MODEL).startswith(hub.url)


@pytest.mark.parametrize(
    ("results", "model", "message"),
    [
        ([make_result("synthetic_events")], MODEL, "not on the Hub"),
        ([make_result("folder/of/mine", revision=None)], MODEL, "not on the Hub"),
        ([make_result(model="arch/another")], MODEL, "no result of arch/tiny-hubert.*arch/another"),
        ([make_result() | {"layer": 3}], MODEL, "no result of arch/tiny-hubert on its last layer"),
        ([make_result(model="logmel")], "logmel", "built into arch-hf"),
        ([make_result(model="/home/me/model")], "/home/me/model", "--repo_id"),
    ],
)
def test_what_is_not_for_the_hub_is_refused_before_anything_is_sent(hub, tmp_path, results, model, message):
    save(tmp_path, *results)
    with pytest.raises(UserError, match=message):
        push_results(tmp_path, model)
    assert not hub.requests


def test_a_push_that_will_fail_is_known_beforehand(hub, monkeypatch, naps):
    assert "no such repository" in why_not_pushable(MODEL)
    hub.create("models", MODEL)
    assert why_not_pushable(MODEL) is None
    assert "built into" in why_not_pushable("logmel")
    monkeypatch.setenv("HF_TOKEN", "hf_expired_secret")
    assert "hf auth login" in why_not_pushable(MODEL) and not naps


def test_two_sets_of_weights_are_not_mixed(hub, tmp_path):
    other = make_result("ravdess")
    other["model"]["weights_sha256"] = "0" * 64
    save(tmp_path, make_result(), other)
    with pytest.raises(UserError, match="different weights"):
        push_results(tmp_path, MODEL)


def test_a_damaged_card_is_left_alone(hub, tmp_path):
    repo = hub.create("models", MODEL, {"README.md": b"---\nlicense: [mit\n---\nText\n"})
    save(tmp_path, make_result())
    with pytest.raises(UserError, match="metadata cannot be read"):
        push_results(tmp_path, MODEL)
    assert len(repo.log) == 1


def test_the_command(hub, tmp_path, capsys):
    import argparse

    hub.create("models", "me/copy")
    save(tmp_path, make_result(model="/home/me/model"))
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(
        ["publish", "results", str(tmp_path), "--model_id", "/home/me/model", "--repo_id", "me/copy"]
    )
    assert not args.run(args)
    assert capsys.readouterr().out.startswith(f"{hub.url}/me/copy/commit/")
