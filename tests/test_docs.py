"""The README and the pages: every link leads somewhere, every command is one that exists, every Python block runs."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from tiny_models import make_tiny

from arch_hf.cli import build_parser

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
GENERATED = {"commands.md", "result.schema.json"}  # by docs/hooks.py, when the site is built
# How a page starts the main job without the console script.
LAUNCHED = {"evaluate.py": "evaluate", "pretrain.py": "pretrain"}
names = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [match[1] for match in re.finditer(rf"^```{language}[^\n]*\n(.*?)^```", text, re.M | re.S)]


def anchor(heading: str) -> str:
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


@names
def test_every_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, part = target.partition("#")
        path = page if not name else (page.parent / name).resolve()
        if path.name in GENERATED and path.parent == ROOT / "docs":
            continue
        assert path.exists(), f"{page.name} links to {target}"
        if part and path.suffix == ".md" and path.name != "api.md":
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
            assert part in map(anchor, headings), f"{page.name} links to {target}"


def commands(page: Path):
    """The arguments of each call of arch-hf in the page's shell blocks, and in its text."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for block in (*blocks(page, "bash"), *re.findall(r"`(arch-hf [a-z][^`'\"]* --[a-z][^`'\"]*)`", text)):
        for line in block.replace("\\\n", " ").splitlines():
            if not re.search(r"(^|&& )arch-hf |(evaluate|pretrain)\.py|-m arch_hf ", line):
                continue
            for part in re.split(r"&&|\|(?!\|)|;", line.split("  #")[0].split(" > ")[0]):
                words = shlex.split(part, comments=True)
                if not words or "..." in words or "…" in words:
                    continue
                for i, word in enumerate(words):
                    if word in LAUNCHED:
                        yield [LAUNCHED[word], *words[i + 1 :]]
                    elif word == "arch_hf" and words[i - 1] == "-m":
                        yield words[i + 1 :]
                if words[0] == "arch-hf":
                    yield words[1:]


@names
def test_every_command_is_one_that_exists(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for table in blocks(page, "csv"):
        Path("mine.csv").write_text(table, encoding="utf-8")
    for words in commands(page):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            try:
                build_parser().parse_args(words)
            except SystemExit as ended:
                assert not ended.code, f"{page.name}: arch-hf {shlex.join(words)}: {errors.getvalue()}"


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_every_python_block_runs(page, tmp_path, monkeypatch):
    """One after the other, as a reader would, in a folder that holds nothing but what the page speaks of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCH_HF_CACHE", str(tmp_path / "cache"))
    make_tiny("hubert", tmp_path / "path/to/folder")
    known: dict = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), known)
