"""The house rules that a program can check: short functions, few parameters, files that can be read in one go."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "arch_hf").rglob("*.py"))
FILES += [
    path
    for folder in ("dataset_scripts", "benchmarks", "space", "examples")
    for path in sorted((ROOT / folder).glob("*.py"))
]
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 400, 60, 7
READ_WHOLE = {"arch_hf/pretraining/loop.py::pretrain"}  # a training loop is easier to follow in one piece


def functions(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_short(path):
    name = path.relative_to(ROOT).as_posix()
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
    for function in functions(path):
        if f"{name}::{function.name}" in READ_WHOLE:
            continue
        given = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
        assert len([a for a in given if a not in ("self", "cls")]) <= MOST_PARAMETERS, f"{name}: {function.name}"
        lines = function.end_lineno - function.lineno + 1
        assert lines <= MOST_FUNCTION_LINES, f"{name}: {function.name} has {lines} lines"
