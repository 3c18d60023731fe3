"""What an archive holds, and the rules for what may be written."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from arch_hf.errors import UserError

JUNK = ("__MACOSX", ".DS_Store", "._*")  # macOS leaves these in archives


@dataclass(frozen=True)
class Member:
    """One entry of an archive: its name as stored, its size in bytes, and what it is."""

    name: str
    size: int
    kind: str  # "file", "folder", or what is refused: "symbolic link", "device", ...
    handle: Any = None  # for the library that reads it


def checked_members(archive: str, members: Iterable[Member]) -> dict[str, Member]:
    """Relative path -> member, for all that is to be written; UserError when any member could reach outside.

    Refused: absolute paths and drives, `..`, backslashes, links, devices, pipes. macOS's own files (JUNK) are left out.
    Two files of one name and one size are taken for copies; with different sizes they are refused.

    Examples:
        >>> sorted(checked_members("x.zip", [Member("./a/b.wav", 9, "file"), Member("a/.DS_Store", 9, "file")]))
        ['a/b.wav']
        >>> checked_members("x.zip", [Member("../b.wav", 9, "file")])
        Traceback (most recent call last):
        arch_hf.errors.UserError: x.zip is refused, nothing was written: its member '../b.wav' leads outside
    """
    kept: dict[str, Member] = {}
    for member in members:
        refused = f"{archive} is refused, nothing was written: its member {member.name!r}"
        if member.name.startswith("/") or re.match(r"[A-Za-z]:", member.name):
            raise UserError(f"{refused} has an absolute path")
        if "\\" in member.name or "\0" in member.name:
            raise UserError(f"{refused} has a character that no path should hold")
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise UserError(f"{refused} leads outside")
        if member.kind not in ("file", "folder"):
            raise UserError(f"{refused} is a {member.kind}")
        is_junk = any(fnmatchcase(part, pattern) for part in parts for pattern in JUNK)
        if parts and not is_junk:
            path = "/".join(parts)
            if member.kind == "file" and kept.get(path, member).size != member.size:
                raise UserError(f"{refused} occurs twice, with different sizes")
            kept[path] = member
    return kept
