"""Models of the Hub: fetched once, read from the cache when the Hub does not answer, asked for again within bounds when they are not there."""

import json
import socket
import threading

import pytest
import transformers as hf
from huggingface_hub import constants
from tiny_models import make_tiny
from transformers import AutoModel

from arch_hf.embedding import AudioEncoder, download
from arch_hf.errors import UserError

NAME = "somebody/hubert"


@pytest.fixture
def folder(tmp_path):
    return make_tiny("hubert", tmp_path / "hubert")


@pytest.fixture
def repo(hub, folder):
    return hub.create("models", NAME, files_of(folder))


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail_everything(hub, status):
    for method in ("GET", "HEAD"):
        hub.fail(method, "/", status, times=10**6)


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_a_model_in_the_cache_needs_no_hub(status, hub, repo, naps, capsys):
    first = AudioEncoder.from_pretrained(NAME)
    fail_everything(hub, status)
    again = AudioEncoder.from_pretrained(NAME)
    assert again.identity == first.identity and again.revision == first.revision == repo.refs["main"]
    assert (
        not naps
        and f"{NAME}: the Hub answers {status}: read from the cache, commit {first.revision}" in capsys.readouterr().err
    )


def test_no_connection_and_no_answer(hub, repo, monkeypatch, capsys):
    """Also a Hub that takes a question and never answers; a model that plain transformers has fetched will do."""
    AutoModel.from_pretrained(NAME)
    hf.AutoFeatureExtractor.from_pretrained(NAME)
    revision = repo.refs["main"]
    send_to(monkeypatch, "http://127.0.0.1:9")
    assert AudioEncoder.from_pretrained(NAME).revision == revision
    assert "no answer (ConnectError): read from the cache" in capsys.readouterr().err
    monkeypatch.setattr(download, "ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        send_to(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert AudioEncoder.from_pretrained(NAME).revision == revision
        assert "no answer (ReadTimeout): read from the cache" in capsys.readouterr().err


def send_to(monkeypatch, url):
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def test_what_is_not_in_the_cache_is_asked_for_within_bounds(hub, repo, naps, monkeypatch):
    send_to(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"which is no folder and not in the Hub.s cache: no connection to http:"):
        AudioEncoder.from_pretrained(NAME)
    assert naps == [1, 2, 4]


@pytest.mark.parametrize("status, headers", [(429, {"Retry-After": "1"}), (503, {})])
@pytest.mark.parametrize("part", ["/api/models/", "model.safetensors"])
def test_one_fault_is_no_reason_to_stop(status, headers, part, hub, repo):
    for method in ("GET", "HEAD"):
        hub.fail(method, part, status, headers=headers)
    assert AudioEncoder.from_pretrained(NAME).revision == repo.refs["main"]


def test_offline(hub, repo, naps, monkeypatch, capsys):
    revision = AudioEncoder.from_pretrained(NAME).revision
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert AudioEncoder.from_pretrained(NAME).revision == revision
    with pytest.raises(
        UserError, match="no folder somebody/else, and it is not in the Hub's cache, where HF_HUB_OFFLINE"
    ):
        AudioEncoder.from_pretrained("somebody/else")
    assert len(hub.requests) == asked and capsys.readouterr().err == ""


def test_a_commit_that_is_there_is_not_asked_for(hub, repo):
    revision = AudioEncoder.from_pretrained(NAME).revision
    asked = len(hub.requests)
    assert AudioEncoder.from_pretrained(NAME, revision=revision).revision == revision
    assert len(hub.requests) == asked


def test_a_branch_that_has_moved(hub, repo, folder, tmp_path):
    old = AudioEncoder.from_pretrained(NAME)
    repo.commit("main", files_of(make_tiny("hubert", tmp_path / "other", seed=1)), "other weights")
    new = AudioEncoder.from_pretrained(NAME)
    assert new.revision == repo.refs["main"] != old.revision and new.weights_sha256 != old.weights_sha256
    fail_everything(hub, 503)
    assert AudioEncoder.from_pretrained(NAME).weights_sha256 == new.weights_sha256
    assert AudioEncoder.from_pretrained(NAME, revision=old.revision).weights_sha256 == old.weights_sha256


def test_half_a_copy_is_no_copy(hub, repo):
    """What is there of it is a configuration, fetched by somebody else."""
    hf.AutoConfig.from_pretrained(NAME)
    assert AudioEncoder.from_pretrained(NAME, revision=repo.refs["main"]).n_layers == 3


def test_sharded_weights(hub, folder, tmp_path):
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    files = files_of(tmp_path / "sharded") | {
        "preprocessor_config.json": (folder / "preprocessor_config.json").read_bytes()
    }
    assert sum(name.endswith(".safetensors") for name in files) > 2
    hub.create("models", "somebody/sharded", files)
    encoder = AudioEncoder.from_pretrained("somebody/sharded")
    assert encoder.weights_sha256 == AudioEncoder.from_pretrained(folder).weights_sha256
    fail_everything(hub, 503)
    assert AudioEncoder.from_pretrained("somebody/sharded").weights_sha256 == encoder.weights_sha256


def test_only_what_is_needed_is_fetched(hub, folder):
    """Not the weights a second time in another format, nor a tokenizer; and of a model of text no weights at all."""
    hub.create(
        "models", NAME, files_of(folder) | {"pytorch_model.bin": b"x", "tokenizer.json": b"{}", "tf_model.h5": b"x"}
    )
    AudioEncoder.from_pretrained(NAME)
    asked = " ".join(path for _, path, _ in hub.requests)
    assert "model.safetensors" in asked
    assert not any(name in asked for name in ("pytorch_model.bin", "tokenizer.json", "tf_model.h5"))
    text = {"config.json": json.dumps({"model_type": "bert"}).encode(), "model.safetensors": b"x" * 1000}
    hub.create("models", "somebody/bert", text)
    with pytest.raises(UserError, match="no audio model"):
        AudioEncoder.from_pretrained("somebody/bert")
    assert hub.count("GET", "somebody/bert/resolve/main/model.safetensors") == 0


def test_own_code_of_the_hub(hub, folder):
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModel": "mine.M"}}
    code = (
        "import transformers as hf\n"
        "class C(hf.HubertConfig):\n    model_type = 'mine'\n"
        "class M(hf.HubertModel):\n    config_class = C\n"
    )
    files = files_of(folder) | {"config.json": json.dumps(settings).encode(), "mine.py": code.encode()}
    hub.create("models", "somebody/own", files)
    with pytest.raises(UserError, match="--trust_remote_code"):
        AudioEncoder.from_pretrained("somebody/own")
    encoder = AudioEncoder.from_pretrained("somebody/own", trust_remote_code=True)
    assert encoder.model_class == "M" and encoder.code_sha256
    fail_everything(hub, 503)
    assert AudioEncoder.from_pretrained("somebody/own", trust_remote_code=True).identity == encoder.identity


def test_two_threads_fetch_one_model(hub, repo):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(AudioEncoder.from_pretrained(NAME).revision)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [repo.refs["main"]] * 2
