"""Names for what lies on disk: a model or dataset by the name that may be shown, and that name as one part of a path."""

import hashlib
import os
import re
from pathlib import Path

LONGEST = 120  # characters of a file's or folder's name that an id may fill; the rest is a hash
_UNSAFE = re.compile(r"[^\w.+=@,-]", re.ASCII)


def public_name(name: str | Path) -> str:
    """An id as it is; a local folder by the one name that `model`, `./model`, `model/` and its absolute path share.

    A folder below the current one is named by its path from there, any other by its last part and a hash of where it lies: no absolute
    path reaches a page or a card.

    Examples:
        >>> public_name("facebook/hubert-base-ls960"), public_name("logmel")
        ('facebook/hubert-base-ls960', 'logmel')
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "checkpoint"
        >>> folder.mkdir()
        >>> public_name(folder) == public_name(f"{folder}/") == public_name(f"checkpoint-{short_hash(str(folder.resolve()))}")
        True
    """
    path = Path(name)
    if not os.path.isdir(path):  # which a name too long for a folder is neither
        return str(name)
    path, here = path.resolve(), Path.cwd()
    if path != here and path.is_relative_to(here):
        return path.relative_to(here).as_posix()
    return f"{path.name or 'root'}-{short_hash(str(path))}"


def as_file_name(name: str) -> str:
    """A name as one part of a path: "/" as "__", at most `LONGEST` characters. Two names never become the same part: one that does not
    come through as it is, or holds "__" itself, ends with a hash.

    Examples:
        >>> as_file_name("facebook/hubert-base-ls960")
        'facebook__hubert-base-ls960'
        >>> as_file_name("a/b__c"), as_file_name("a__b/c")
        ('a__b__c-bbed50', 'a__b__c-e6f836')
        >>> len(as_file_name("x" * 300))
        127
    """
    text = _UNSAFE.sub("_", name.replace("/", "__"))
    shortened = text[:LONGEST]
    if text != name.replace("/", "__") or "__" in name or shortened != text or text.startswith("."):
        return f"{shortened.lstrip('.') or 'name'}-{short_hash(name)}"
    return text


def short_hash(text: str) -> str:
    """Six hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:6]
