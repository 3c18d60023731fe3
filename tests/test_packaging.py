"""The wheel: it holds all that the package needs, and puts nothing but `arch_hf` into site-packages."""

import ast
import configparser
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_folder_of_the_package_is_listed():
    """`setup.cfg` names packages one by one, since two of them lie beside the package in a checkout."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(config["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "arch_hf").rglob("*.py")}
    expected = {folder.as_posix().replace("/", ".") for folder in folders}
    assert listed == expected | {"arch_hf.dataset_scripts", "arch_hf.model_cards"}


def test_every_file_that_is_no_code_is_listed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = {package: patterns.split() for package, patterns in config["options.package_data"].items()}
    folders = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    for source in ("arch_hf", "model_cards"):
        for path in (ROOT / source).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                folder = path.parent.relative_to(ROOT).as_posix()
                package = next((name for name, where in folders.items() if where == folder), folder.replace("/", "."))
                assert any(path.match(pattern) for pattern in listed.get(package, ())), f"{path} is in no wheel"


def imported_packages(everywhere: bool = True) -> set[str]:
    """Top-level names that the package imports, wherever in a file the import stands; or those that it cannot be imported without."""
    names = set()
    for source in ("arch_hf", "dataset_scripts"):
        for path in (ROOT / source).rglob("*.py"):
            if not everywhere and path.name.startswith(
                "plots"
            ):  # which are imported where something is drawn, and nowhere else
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree) if everywhere else tree.body:
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    drawing = node.module.startswith("arch_hf.reports.plots") and not everywhere
                    names.add(node.module if drawing else node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"arch_hf"}


@pytest.mark.parametrize("everywhere", [True, False])
def test_what_is_imported_is_declared(everywhere):
    """By the core's requirements or, for an import inside of a function, by an extra; an import of something that merely came along would break
    one day."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = [config["options"]["install_requires"], *(config["options.extras_require"].values() if everywhere else ())]
    declared = {re.split(r"[<>=!~;\[ ]", line)[0] for text in lists for line in text.split("\n") if line}
    declared = {re.sub(r"[-_.]+", "-", name).lower() for name in declared}
    distributions = {"sklearn": ["scikit-learn"]} | packages_distributions()  # which Python 3.10 does not know
    missing = {}
    for name in imported_packages(everywhere):
        owners = {re.sub(r"[-_.]+", "-", owner).lower() for owner in distributions.get(name, [name])}
        if not owners & declared:
            missing[name] = owners
    assert not missing
