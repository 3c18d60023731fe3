"""The Space: the leaderboard's page from a dataset of results on the Hub, whatever becomes of the Hub meanwhile."""

import gzip
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from publishing_samples import make_result, save

from arch_hf.publishing.results_dataset import push_to_dataset

SPACE = Path(__file__).parents[1] / "space"


@pytest.fixture
def app(hub):
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def html(page):
    return gzip.decompress(page.html).decode()


def test_a_push_shows_and_a_hub_that_is_gone_takes_nothing_away(app, hub, tmp_path, capsys):
    save(tmp_path / "results", make_result(model='lab/"><script>'))
    push_to_dataset(tmp_path / "results", "arch/results")
    board = app.Leaderboard("arch/results")
    assert "reload in a moment" in html(board.page) and board.page.commit is None
    first = board.refresh()
    assert (
        "lab/" in html(first)
        and "<script>'" not in html(first)
        and first.commit == hub.repo("datasets", "arch/results").refs["main"]
    )
    assert board.refresh() is first  # no new commit: nothing is made again
    save(tmp_path / "more", make_result("us8k", model="lab/second"))
    push_to_dataset(tmp_path / "more", "arch/results")
    second = board.refresh()
    assert "lab/second" in html(second) and second.commit != first.commit
    hub.fail("GET", "/api/datasets/arch/results", 503, times=99)
    assert board.refresh() is second and "cannot be read" in capsys.readouterr().out


def test_a_dataset_that_is_not_there_is_told(app, hub):
    page = app.Leaderboard("no/results").refresh()
    assert page.commit is None and "The dataset no/results cannot be read" in html(page)


def test_a_dataset_of_result_files_is_read_too(app, hub, tmp_path):
    """As the main job writes them, uploaded as they are."""
    save(tmp_path, make_result(model="lab/files"))
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*.json")}
    hub.create("datasets", "lab/results", files)
    assert "lab/files" in html(app.Leaderboard("lab/results").refresh())


def test_the_space_needs_neither_torch_nor_transformers():
    """It is a small machine that starts in seconds: the report's part of the package must stand alone."""
    code = f"import sys; sys.path.insert(0, {str(SPACE)!r}); import app; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}, check=True
    )
    heavy = {"torch", "transformers", "datasets", "accelerate", "sklearn", "scipy", "pandas", "soundfile"}
    assert not heavy & set(done.stdout.split())
    wanted = {re.split("[<>=]", line)[0] for line in (SPACE / "requirements.txt").read_text().split()}
    assert {"huggingface_hub", "msgspec", "numpy", "pyarrow", "starlette", "uvicorn"} == wanted
