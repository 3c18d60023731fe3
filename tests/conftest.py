"""Fixtures of more than one test file."""

import os
import time

import pytest

# One thread per worker: two workers with two threads each on two cores wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # `datasets` would tell a server outside

# The tests bring a Hub of their own: whether the machine may ask the real one makes no difference to them.
for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_ENDPOINT"):
    os.environ.pop(name, None)


@pytest.fixture
def naps(monkeypatch):
    """Nobody sleeps in a test: the seconds asked for are collected instead."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """family -> folder of a tiny checkpoint, made once; not to be changed."""
    from tiny_models import make_tiny

    root, made = tmp_path_factory.mktemp("tiny"), {}

    def folder(family):
        if family not in made:
            made[family] = make_tiny(family, root / family)
        return made[family]

    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch, naps):
    """The loopback Hub, with the clients of this process sent to it and an empty cache."""
    from hub_server import HubServer

    with HubServer() as server:
        connect(monkeypatch, server.url, tmp_path / "hf_home")
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


def connect(monkeypatch, url, home):
    """What HF_ENDPOINT, HF_HOME and HF_HUB_DISABLE_XET do, in a process that has read them already."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
