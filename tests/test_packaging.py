"""The wheel: it holds all that the package needs, and puts nothing but `arch_hf` into site-packages."""

import configparser
from pathlib import Path

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
