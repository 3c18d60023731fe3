"""Reading raw archives: which files there are, and tables whose every fault has a line number.

A corpus is unpacked in many ways: with its top folder, without it, inside another one. `RawFolder` lists the folder once
and finds a file by the end of its path, so that all of these read alike. It only ever gives out files that lie inside
the folder: a name in a metadata file that points elsewhere cannot be followed.
"""

import csv
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from arch_hf.data.tree import walk
from arch_hf.errors import UserError

csv.field_size_limit(1 << 24)


def nfc(text: str) -> str:
    """One spelling of accents: some file systems split é into two characters, and a clip's id must not depend on that.

    Examples:
        >>> len("e\u0301"), len(nfc("e\u0301"))
        (2, 1)
    """
    return unicodedata.normalize("NFC", text)


def escaped(path: str) -> str:
    r"""A path that is no UTF-8, as one can show it.

    Examples:
        >>> print(escaped(os.fsdecode(b"Caf\xe9.wav")))
        Caf\xe9.wav
    """
    return ascii(os.fsencode(path))[2:-1]


class RawFolder:
    """The files of a raw archive.

    Hidden files (.DS_Store, ._x.wav) are passed over. Links that leave the folder are refused.
    """

    def __init__(self, root: str | Path, layout: str = ""):
        self.root = Path(root)
        self.layout = layout
        if not self.root.is_dir():
            what = "a file; unpack it and give the folder" if self.root.exists() else "no such folder"
            raise UserError(f"--raw_dir {self.root}: {what}")
        self._inside = os.path.realpath(self.root)
        self._by_name: dict[str, list[str]] = {}
        files = [path for path, entry in walk(self.root, self._look) if os.path.isfile(entry.path)]
        self.files = sorted(files, key=lambda path: (nfc(path), path))  # an order that depends on names alone
        for path in self.files:
            self._by_name.setdefault(nfc(path.rpartition("/")[2]), []).append(path)
        if not self.files:
            raise self.wrong("is empty")

    def _look(self, path: str, entry: os.DirEntry) -> None:
        self._check_name(path)
        if entry.is_symlink():
            self._check_link(entry.path)

    def _check_name(self, path: str) -> None:
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            name = escaped(path)
            raise UserError(
                f"--raw_dir {self.root}: the name {name} is not UTF-8: rename it, or unpack the archive again in the encoding of its names "
                "(unzip -O cp437 ARCHIVE)"
            ) from None

    def _check_link(self, path: str) -> None:
        target = os.path.realpath(path)
        if os.path.commonpath([self._inside, target]) != self._inside:
            raise UserError(
                f"{path} is a link to {target}, outside --raw_dir; copy the file or give the folder that holds it"
            )

    def wrong(self, what: str) -> UserError:
        """The error for a folder that is not this corpus."""
        expected = f"; expected {self.layout}" if self.layout else ""
        archives = [path for path in self.files if re.search(r"\.(zip|tar|gz|z\d\d|7z|rar|zip\.\d+)$", path)]
        packed = f"; {archives[0]} is still packed" if archives else ""
        return UserError(f"--raw_dir {self.root} {what}{expected}{packed}")

    def find(self, path: str) -> Path | None:
        """The file whose path is `path` or ends with it; the one nearest to the top if there are several."""
        wanted = nfc(path)
        if _leaves(wanted):
            raise UserError(f"the path {path!r} leaves the raw folder {self.root}; it is refused")
        paths = [p for p in self._by_name.get(wanted.rpartition("/")[2], ()) if f"/{nfc(p)}".endswith(f"/{wanted}")]
        return self.root / min(paths, key=lambda p: (p.count("/"), p)) if paths else None

    def one(self, *paths: str) -> Path:
        """The first of these files that is there.

        Raises:
            UserError: if none is; the message says what the folder should hold.
        """
        for path in paths:
            if path_there := self.find(path):
                return path_there
        raise self.wrong(f"holds no {' or '.join(paths)}, at the top or in a sub-folder")

    def locate(self, path: str) -> Path:
        """The file, or where it should be."""
        return self.find(path) or self.root / path

    def matching(self, pattern: str, missing: str, without: str = "") -> list[tuple[Path, re.Match]]:
        """Every file whose name (folders aside) matches the whole `pattern`, with the match, one per name, ordered by name.

        Some copies hold everything twice, in a nested folder: the file nearest to the top is taken. Files in a folder called
        `without` are passed over.

        Raises:
            UserError: if there is none; `missing` names what was looked for.
        """
        compiled, matched = re.compile(pattern), []
        for name, paths in self._by_name.items():
            paths = [path for path in paths if not without or without not in path.split("/")[:-1]]
            if paths and (match := compiled.fullmatch(name)):
                matched.append((self.root / min(paths, key=lambda p: (p.count("/"), p)), match))
        if not matched:
            raise self.wrong(f"holds no {missing}")
        return sorted(matched, key=lambda item: item[1].string)


class Row(dict):
    """One record of a metadata file, which knows its place: `where` is "path:line"."""

    def __init__(self, where: str, values: Iterable):
        super().__init__(values)
        self.where = where

    def fault(self, what: str) -> UserError:
        return UserError(f"{self.where}: {what}")

    def choose(self, column: str, allowed: Sequence[str]) -> str:
        """The value of a column, one of `allowed`."""
        allowed = tuple(allowed)
        if self[column] not in allowed:
            choices = ", ".join(allowed[:12]) + (", ..." if len(allowed) > 12 else "")
            raise self.fault(f"{column} is {self[column]!r}, not one of {choices}")
        return self[column]

    def choose_all(self, column: str, values: Iterable[str], allowed: Sequence[str]) -> tuple[str, ...]:
        """The values found in a column, each one of `allowed`, at least one."""
        values = tuple(values)
        for value in values:
            if value not in allowed:
                raise self.fault(f"{column} holds {value!r}, which is not one of the {len(allowed)} classes")
        return values

    def integer(self, column: str) -> int:
        try:
            return int(self[column])
        except (TypeError, ValueError):
            raise self.fault(f"{column} is {self[column]!r}, not a whole number") from None

    def file(self, column: str) -> str:
        """The value of a column, a path inside the raw folder."""
        if not isinstance(self[column], str) or not self[column] or _leaves(self[column]):
            raise self.fault(f"{column} is {self[column]!r}, which is no path inside the raw folder; it is refused")
        return self[column]


def _leaves(path: str) -> bool:
    return path.startswith("/") or ".." in path.split("/") or "\0" in path


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text) of a UTF-8 file."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                bad = line[error.start : error.start + 1]
                raise UserError(f"{path}:{number}: not UTF-8 (byte {bad!r} at column {error.start + 1})") from None


def read_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of a CSV or TSV file, empty lines left out."""
    reader = csv.reader((line for _, line in read_lines(path)), delimiter=delimiter, strict=True)
    start = 1  # of the record, which may go over several lines
    try:
        for fields in reader:
            if fields:
                yield start, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}:{start}: not a record of quoted or plain fields ({error})") from None


def read_table(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[Row]:
    """The records of a CSV or TSV file with a header line, which must hold these `columns`.

    Raises:
        UserError: for a missing column, a line with too few or too many fields, or bytes that are no UTF-8, with the line.
    """
    rows = read_rows(path, delimiter)
    line, names = next(rows, (1, []))
    check_columns(path, line, names, columns)
    for line, fields in rows:
        if len(fields) != len(names):
            raise UserError(f"{path}:{line}: {len(fields)} fields, where the header has {len(names)}")
        yield Row(f"{path}:{line}", zip(names, fields, strict=True))


def check_columns(path: Path, line: int, names: Sequence[str], columns: Sequence[str]) -> None:
    if missing := [column for column in columns if column not in names]:
        there = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        raise UserError(f"{path}:{line}: no column {', '.join(missing)} (there are: {there or 'none'})")


def read_json_lines(path: Path, keys: Sequence[str]) -> Iterator[Row]:
    """The records of a JSON-lines file, each an object that must have these `keys`.

    Raises:
        UserError: for a line that is no JSON object, lacks a key or is no UTF-8, with the line.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})") from None
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number}: not a JSON object")
        check_columns(path, number, list(record), keys)
        yield Row(f"{path}:{number}", record)
