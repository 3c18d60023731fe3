"""Lists of audio files (csv, tsv, jsonl), and which file of a folder each of their rows means."""

import csv
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from arch_hf.errors import UserError

AUDIO_ENDINGS = frozenset(
    f".{ending}"
    for ending in "wav wave flac ogg oga opus mp3 mp2 aif aiff aifc au snd caf w64 rf64 sph nist voc ircam sf svx avr pvf paf htk "
    "m4a m4b mp4 3gp aac ac3 wma webm mka mpga amr ape wv tta spx".split()
)
LIST_ENDINGS = (".csv", ".tsv", ".jsonl")
_TEXT_ENDINGS = (".json", ".txt", ".lst")  # that may be lists, and are not read as such
_FILE_NAMES = (
    "file_name",
    "file",
    "filename",
    "path",
    "audio",
    "file_path",
    "filepath",
    "audio_path",
    "audio_file",
    "wav",
)


def read_list(path: Path) -> list[dict[str, Any]]:
    """The rows of a csv, tsv or jsonl file, each with all columns; an empty field is None.

    Raises:
        UserError: for a line that is none, or bytes that are no UTF-8, with its number; for a list without a header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if path.suffix.lower() == ".jsonl":
        return list(_json_lines(path, text))
    header = text.partition("\n")[0]
    # what parts the fields of a csv is a comma, or what the spreadsheets of other countries and programs write
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    if any(os.path.splitext(name)[1].lower() in AUDIO_ENDINGS for name in reader.fieldnames or ()):
        raise UserError(f"{path}: its first line names a file: put a header above it, such as path{delimiter}label")
    names = reader.fieldnames or ()
    if twice := [name for name in dict.fromkeys(names) if list(names).count(name) > 1]:
        raise UserError(f"{path}: two columns are called {twice[0]!r}: rename one")
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                n_fields = len(reader.fieldnames or ())
                raise UserError(f"{path}:{reader.line_num}: not the {n_fields} fields of the header")
            rows.append({name: value if value != "" else None for name, value in row.items()})
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not a record of fields ({error})") from None
    return rows


def _json_lines(path: Path, text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: not a JSON object")
        yield row


def file_column(rows: list[dict], flag: str | None) -> str | None:
    """The column of a list that names audio files; None if there is none that is called so."""
    names = (flag,) if flag else _FILE_NAMES
    return next((name for name in names if any(isinstance(row.get(name), str) for row in rows)), None)


class FilesOfLists:
    """The audio files of a folder by the names that lists have for them: the path from the list's own folder or from the root, or as much of
    its end as tells it from all others, with or without the ending.

    Examples:
        >>> files = FilesOfLists(Path("esc"), ["audio/1-137-A-32.wav", "audio/1-977-A-39.wav"])
        >>> files.find("meta/esc50.csv", "1-977-A-39.wav"), files.find("meta/esc50.csv", "1-137-A-32")
        ('audio/1-977-A-39.wav', 'audio/1-137-A-32.wav')
    """

    def __init__(self, root: Path, audio: Sequence[str]):
        self._root, self._audio = root, frozenset(audio)
        self._roots = (root.resolve(), os.path.abspath(root))  # a link to the folder is as good as the folder
        self._by_last_part: dict[str, list[str]] = defaultdict(list)
        for path in audio:
            last = path.rpartition("/")[2]
            for name in {last, os.path.splitext(last)[0]}:
                self._by_last_part[name].append(path)

    def find(self, of_list: str, name: str) -> str:
        """The path of the file, relative to the root where it lies there. One that is not there has the path where it should be.

        Raises:
            UserError: if the name may be more than one of the files.
        """
        if os.path.isabs(name):
            paths = [os.path.relpath(name, root).replace(os.sep, "/") for root in self._roots]
            return next((path for path in paths if path.split("/")[0] != ".."), name)
        beside, from_root = self._paths(of_list, name)
        for path in (beside, from_root):
            if path in self._audio or (self._root / path).exists():
                return path
        if "\\" in name:  # written on Windows
            return self.find(of_list, name.replace("\\", "/"))
        candidates = [path for path in self._by_last_part.get(name.rpartition("/")[2], ()) if _ends_with(path, name)]
        if len(candidates) > 1:
            raise UserError(
                f"{of_list}: {name} may be {candidates[0]} or {candidates[1]}: write the path from the list's folder"
            )
        return candidates[0] if candidates else beside

    def _paths(self, of_list: str, name: str) -> tuple[str, str]:
        beside = os.path.normpath(os.path.join(os.path.dirname(of_list), name)).replace(os.sep, "/")
        return beside, os.path.normpath(name).replace(os.sep, "/")


def _ends_with(path: str, name: str) -> bool:
    return any(f"/{end}".endswith(f"/{name}") for end in (path, os.path.splitext(path)[0]))


def refuse_twice(lists: Mapping[str, Sequence[str | None]]) -> None:
    """Refuse lists (path -> the files that its rows name) that name a file more than once: it would be a clip in two splits, a clip of two
    classes, or parts of a recording that are all of it.

    Raises:
        UserError: if so.
    """
    seen: dict[str, str] = {}
    twice = []
    for path, files in lists.items():
        for file in files:
            if file is not None and file in seen:
                twice.append((file, seen[file], path))
            seen.setdefault(file or "", path)
    if twice:
        file, first, second = twice[0]
        where = f"{first}" if first == second else f"{first} and {second}"
        raise UserError(
            f"{len(twice)} rows name a file that another row names, {file} first (in {where}): one row for each file; several labels go into "
            "one field, parts of a recording have to be cut out first"
        )


def refuse_unread(root: Path, audio: Sequence[str], rows: Mapping[str, list[dict]], others: Sequence[str]) -> None:
    """Refuse a folder with a list that names its audio files and that nobody reads: the classes would be those of the folders instead.

    Raises:
        UserError: if there is one.
    """
    last_parts = {path.rpartition("/")[2] for path in audio}
    stems = {os.path.splitext(name)[0] for name in last_parts}
    for path, part in rows.items():
        for column in part[0] if part else ():
            values = {str(row.get(column)).replace("\\", "/").rpartition("/")[2] for row in part}
            named = max(len(last_parts & values), len(stems & values))
            if 2 * named >= len(last_parts):
                raise UserError(
                    f"{path}: its column {column} names {named} of the {len(audio)} audio files; say so with --audio_column {column}"
                )
    for path in others:
        if not path.lower().endswith(_TEXT_ENDINGS):
            continue
        text = (root / path).read_text(encoding="utf-8", errors="replace")
        named = len(last_parts & (set(re.split(r"[,;|\t\r\n\"'\\/]+", text)) | set(text.replace("/", " ").split())))
        if 2 * named >= len(last_parts):
            raise UserError(
                f"{path} names {named} of the {len(audio)} audio files, and is no list that can be read: save it as csv (with a header such as "
                "path,label) or as jsonl, one line for each file"
            )
