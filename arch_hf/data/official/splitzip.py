"""Split zips (`x.z01`, `x.z02`, ..., `x.zip`), which Python cannot read: 7-Zip or Info-ZIP's `zip` does the work."""

import errno
import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from arch_hf.data.official.members import JUNK, Member
from arch_hf.errors import UserError

SEVEN_ZIP = ("7zz", "7z", "7za")  # by its age: the official program, p7zip, p7zip without plug-ins


def find_program(name: str) -> tuple[str, str]:
    """("7z" | "zip", its path); UserError that says how to install one when there is neither. `name`: the split zip."""
    for program in SEVEN_ZIP:
        if path := shutil.which(program):
            return "7z", path
    if path := shutil.which("zip"):
        return "zip", path
    raise UserError(
        f"{name} is a split zip, which takes 7-Zip or zip to read, and neither is installed: install one (apt install "
        "p7zip-full, dnf install p7zip-plugins, brew install sevenzip, conda install -c conda-forge p7zip; "
        "or apt|dnf|brew install zip) and run the same command again, nothing is downloaded twice"
    )


def end_record(file: BinaryIO) -> tuple[int, int]:
    """(parts before this one, members) as the record at the end of a zip states them; (0, 0xFFFF) where it states none.

    Python's zipfile does not compare the number of members with what it finds.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 64))  # nothing follows but a comment
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        return 0, 0xFFFF
    n_before, n_members = struct.unpack("<H4xH", tail[end + 4 : end + 12])
    if n_before == 0xFFFF and tail[end - 20 : end - 16] == b"PK\x06\x07":  # zip64: its locator counts all parts
        n_before = int.from_bytes(tail[end - 4 : end], "little") - 1
    return n_before, n_members


def parts_before(path: Path) -> list[Path]:
    """The parts that come before the last file of a split zip, whether they are there or not; [] for an ordinary zip."""
    with open(path, "rb") as file:
        n_before, _ = end_record(file)
    return [path.with_suffix(f".z{number:02d}") for number in range(1, n_before + 1)]


def list_members(program: str, path: Path) -> list[Member]:
    """What 7-Zip would write."""
    output = _run([program, "l", "-slt", "-ba", "--", str(path)], path.name)
    members = []
    for block in "".join(output).split("\n\n"):
        facts = dict(line.split(" = ", 1) for line in block.splitlines() if " = " in line)
        if "Path" not in facts:
            continue
        mode = (facts.get("Attributes", "").split() or [""])[-1]  # "A -rw-r--r--", "D drwxr-xr-x", or "A"
        letter = mode[0] if len(mode) == 10 else "-"
        is_folder = facts.get("Folder") == "+" or letter == "d"
        kind = {"-": "file", "d": "folder", "l": "symbolic link"}.get(letter, "device")
        if facts.get("Symbolic Link") or facts.get("Hard Link"):
            kind = "link"
        members.append(Member(facts["Path"], int(facts.get("Size") or 0), "folder" if is_folder else kind))
    return members


def unpack(program: str, path: Path, folder: Path, written: Callable[[str], object]) -> None:
    """Extract with 7-Zip into `folder`; calls `written(name)` for every member."""
    junk = [f"-xr!{name}" for name in JUNK]
    command = [program, "x", "-y", "-bd", "-bb1", *junk, f"-o{folder}", "--", str(path)]
    for line in _run(command, path.name):
        if line.startswith("- "):
            written(line[2:].rstrip("\n"))


def join(program: str, path: Path, whole: Path) -> None:
    """Write the parts as one ordinary zip, with Info-ZIP's `zip`."""
    for _ in _run([program, "-s", "0", str(path.absolute()), "--out", str(whole.absolute())], path.name):
        pass


def _run(command: list[str], name: str) -> Iterator[str]:
    """The lines that a program prints, while it runs; UserError with its own words when it fails, OSError on a full disk."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}  # names come as UTF-8
    options: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }
    with subprocess.Popen(command, env=environment, encoding="utf-8", errors="surrogateescape", **options) as process:
        try:
            said: list[str] = []
            for line in process.stdout or ():
                yield line
                said = [*said, line.strip()][-20:]
        except BaseException:
            process.kill()
            raise
    program = Path(command[0]).name
    if process.returncode not in (
        (0,) if program == "zip" else (0, 1)
    ):  # 7-Zip's 1 warns; the caller checks every file
        if any(os.strerror(errno.ENOSPC) in line for line in said):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        telling = [line for line in said if "error" in line.lower()] or [line for line in said if line] or ["no reason"]
        raise UserError(f"{name}: {program} could not read it ({' / '.join(telling)}); is every part there and whole?")
