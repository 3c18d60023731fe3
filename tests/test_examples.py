"""The examples run, as they are, in an empty folder."""

import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCH_HF_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(path, capsys):
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


def test_the_notebook_runs(tmp_path, monkeypatch):
    display = ModuleType("IPython.display")
    display.IFrame = lambda source, **size: {"source": source, **size}
    package = ModuleType("IPython")
    package.version_info = (9, 0)
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    known: dict = {}
    for cell in json.loads((EXAMPLES / "report.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "report.ipynb", "exec"), known)
    assert known["page"] == Path("report/leaderboard.html") and known["page"].stat().st_size > 10_000


def test_each_has_its_line():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.iterdir():
        assert path.name == "README.md" or not path.is_file() or f"({path.name})" in text
