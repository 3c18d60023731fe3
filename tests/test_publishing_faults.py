"""Whatever the Hub or the network does, a push ends in the right state and with the right words."""

import pytest
from huggingface_hub import constants
from publishing_samples import MODEL, make_result, save

from arch_hf.errors import UserError
from arch_hf.publishing.hub import NOTHING
from arch_hf.publishing.results import push_results

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
    assert "secret" not in said + "".join(capfd.readouterr()) and sum(naps) < 150, "bounded"

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
