"""Audio files on disk as a dataset: folders of classes, with a split each or without, and lists of files (csv, tsv, jsonl, metadata.csv).

`datasets` guesses splits from words in the names of files and folders: a class called "train" or a file called test_3.wav would deal clips
to splits. Here a folder is a split only where all folders beside it are, and every audio file is either read or named.
"""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Audio, ClassLabel, Dataset, DatasetInfo, Features, Value
from datasets.fingerprint import Hasher

from arch_hf.data.custom.labels import LABEL_NAMES
from arch_hf.data.custom.lists import (
    AUDIO_ENDINGS,
    LIST_ENDINGS,
    FilesOfLists,
    file_column,
    read_list,
    refuse_twice,
    refuse_unread,
)
from arch_hf.data.custom.options import SPLIT_NAMES
from arch_hf.data.custom.raw import RawDataset, shown
from arch_hf.data.official.raw import escaped
from arch_hf.data.tree import state_of_file, walk
from arch_hf.errors import UserError

_METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
_CLASS = "label"


@dataclass(frozen=True)
class Tree:
    """The files of a folder, hidden ones apart: paths relative to it, with "/" between their parts, sorted."""

    root: Path
    audio: tuple[str, ...]
    lists: tuple[str, ...]
    others: tuple[str, ...]


def look_into(folder: Path) -> Tree:
    """List a folder once.

    Raises:
        UserError: if a name is no UTF-8: no file of results, and no dataset, could hold it.
    """
    kinds: dict[str, list[str]] = {"audio": [], "lists": [], "others": []}
    for path, entry in walk(folder):
        if not (os.path.isfile(entry.path) or entry.is_symlink()):  # a link to nothing is a clip that is missing
            continue
        ending = os.path.splitext(path)[1].lower()
        kinds["audio" if ending in AUDIO_ENDINGS else "lists" if ending in LIST_ENDINGS else "others"].append(path)
    for path in kinds["audio"]:
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            raise UserError(
                f"the name {escaped(path)} is not UTF-8: rename such files (convmv -f latin1 -t utf8 -r --notest {folder})"
            ) from None
    return Tree(folder, *(tuple(sorted(kinds[kind])) for kind in ("audio", "lists", "others")))


def read_tree(tree: Tree, dataset_id: str, audio_column: str | None = None) -> RawDataset:
    """Audio files as a dataset: by the lists that name them if there are any, else by the folders that they lie in.

    Raises:
        UserError: if nothing says what class a file is of, or files are left over.
    """
    metadata = [path for path in tree.lists if path.rpartition("/")[2] in _METADATA]
    lists = metadata or [path for path in tree.lists if "/" not in path] or list(tree.lists)
    rows = {path: read_list(tree.root / path) for path in lists}
    naming = {path: part for path, part in rows.items() if file_column(part, audio_column)}
    if not naming:  # a list of the classes may lie above those of the files
        rows |= {path: read_list(tree.root / path) for path in tree.lists if path not in rows}
        naming = {path: part for path, part in rows.items() if file_column(part, audio_column)}
    _refuse_lists_of_splits(metadata, tree.lists)
    if naming:
        return _from_lists(tree, naming, audio_column, dataset_id)
    if not tree.audio:
        path, part = next(iter(rows.items()))
        columns = f"its columns are {', '.join(part[0])}; say which with --audio_column" if part else "it holds no rows"
        raise UserError(f"{path} names no audio files: {columns}")
    if sidecars := _sidecars(tree):
        return _from_sidecars(tree, sidecars, dataset_id)
    refuse_unread(tree.root, tree.audio, rows, tree.others)
    return _from_folders(tree, dataset_id)


def _refuse_lists_of_splits(metadata: Sequence[str], lists: Sequence[str]) -> None:
    """Refuse lists that are called like splits beside a metadata.csv: that is read, and says nothing of them."""
    splits = [path for path in lists if path not in metadata and is_split_name(_last(path).rpartition(".")[0])]
    if metadata and splits:
        raise UserError(
            f"{metadata[0]} is read, and {shown(splits, 2)} would not be: take the one or the others out of the folder"
        )


def _last(path: str) -> str:
    return path.rpartition("/")[2]


# Folders of classes


def _from_folders(tree: Tree, dataset_id: str) -> RawDataset:
    rows: dict[str, list[dict]] = {}
    paths = [(path, path.split("/")[:-1]) for path in tree.audio]
    deep = [folders for _, folders in paths if folders]
    if not deep:
        raise UserError(
            f"it holds {len(paths)} audio files and nothing says of which class: put each into a folder of its class, "
            "or write a metadata.csv with the columns file_name and label"
        )
    place = _place_of_splits(deep)
    if place is None:
        _refuse_splits_as_classes({folders[0] for folders in deep})
    classes = sorted({name for folders in deep if (name := _class_of(folders, place))})
    for path, folders in paths:
        split = folders[place] if folders and place is not None else "train"
        row = {"audio": _cell(tree.root, path), _CLASS: _class_of(folders, place), "clip_id": path}
        rows.setdefault(split, []).append(row)
    if not classes:
        raise UserError(f"the folders {shown(sorted(rows))} are splits, and hold no folders of classes")
    return _raw(tree, dataset_id, rows, {_CLASS: ClassLabel(names=classes), "clip_id": Value("string")})


def _place_of_splits(folders: Sequence[list[str]]) -> int | None:
    """At which level the folders are splits: 0 (train/dog/1.wav), 1 (dog/train/1.wav), or None where they are classes alone.

    They are if each of them is called like one, and there is more than one: a class called "train" stands beside other classes.
    """
    for place in (0, 1):
        names = {parts[place] if len(parts) > place else "" for parts in folders}
        others = all(len(parts) > 1 for parts in folders)
        if others and len(names) > 1 and all(is_split_name(name) for name in names):
            return place
    return None


def _refuse_splits_as_classes(names: set[str]) -> None:
    splits = [name for name in sorted(names) if is_split_name(name)]
    if len(splits) > 1 and {"train", "training"} & {name.lower() for name in splits}:
        others = sorted(names - set(splits))
        raise UserError(
            f"the folders {shown(splits)} are called like splits, and {shown(others)} like none: take the others out of the folder"
        )
    words = {word for words in SPLIT_NAMES.values() for word in words}
    if len(names) > 1 and all(words & set(re.split(r"[^a-z]+", name.lower())) for name in names):
        raise UserError(
            f"the folders {shown(sorted(names))} are called like splits and not like classes: call them train, test and validation, or fold_1, "
            "fold_2 and so on, each with a folder for each class"
        )


def is_split_name(name: str) -> bool:
    """Whether a folder or a file is called like a split.

    Examples:
        >>> [name for name in ("train", "fold_3", "Test", "training-2", "rain") if is_split_name(name)]
        ['train', 'fold_3', 'Test']
    """
    name = name.lower()
    fold = name.removeprefix("fold").lstrip("_- ")
    return any(name in names for names in SPLIT_NAMES.values()) or (name != fold and fold.isdigit())


def _class_of(folders: list[str], place: int | None) -> str | None:
    rest = [name for i, name in enumerate(folders) if i != place]
    return rest[0] if rest else None


# Lists of files


def _from_lists(tree: Tree, lists: dict[str, list[dict]], flag: str | None, dataset_id: str) -> RawDataset:
    rows: dict[str, list[dict]] = {}
    files = FilesOfLists(tree.root, tree.audio)
    named: dict[str, list[str | None]] = {}
    for path, part in lists.items():
        column = str(file_column(part, flag))
        if (first := str(file_column(next(iter(lists.values())), flag))) != column:
            raise UserError(
                f"{next(iter(lists))} names its files in the column {first}, {path} in {column}: call them alike"
            )
        named[path] = [None if row[column] is None else files.find(path, str(row[column])) for row in part]
        rows.setdefault(_split_of_list(path, list(lists)), []).extend(
            row | {column: _cell(tree.root, file)} for row, file in zip(part, named[path], strict=True)
        )
    of_splits = [path for path in lists if is_split_name(_split_of_list(path, list(lists)))]
    for together in (of_splits, *([path] for path in lists if path not in of_splits)):
        refuse_twice({path: named[path] for path in together})
    left = sorted(set(tree.audio) - {file for part in named.values() for file in part})
    if left:
        raise UserError(
            f"{len(left)} of {len(tree.audio)} audio files are not in {shown(list(lists), 2)}, "
            f"{left[0]} first: add them to it, or take them out of the folder"
        )
    if not any(name.lower() in LABEL_NAMES for part in rows.values() for row in part for name in row):
        _add_classes_of_folders(tree, rows)
    return _raw(tree, dataset_id, rows, {})


def _add_classes_of_folders(tree: Tree, rows: dict[str, list[dict]]) -> None:
    folders = {path: path.split("/")[:-1] for path in tree.audio}
    place = _place_of_splits(list(folders.values()))
    classes = {_cell(tree.root, path)["path"]: _class_of(parts, place) for path, parts in folders.items()}
    if len(set(classes.values()) - {None}) < 2:
        return
    for part in rows.values():
        for row in part:
            path = next((value["path"] for value in row.values() if isinstance(value, dict)), None)
            row[_CLASS] = classes.get(path)


def _split_of_list(path: str, lists: list[str]) -> str:
    """A list's split: its own name, or that of its folder, where all of these are called like splits; or, of several lists, their names."""
    folder, _, name = path.rpartition("/")
    if name in _METADATA:
        folders = [other.rpartition("/")[0].split("/")[-1] for other in lists]
        return folder.split("/")[-1] if len(lists) > 1 and all(map(is_split_name, folders)) else "train"
    stem = name.rpartition(".")[0]
    return stem if len(lists) > 1 or is_split_name(stem) else "train"


# Audio files with a file of the same name for each: what a webdataset unpacks to


def _sidecars(tree: Tree) -> dict[str, list[str]]:
    """Of each audio file the files beside it that have its name up to the first dot, as cls, txt or json; none unless each has one."""
    stems = {path: _stem(path) for path in tree.audio}
    beside: dict[str, list[str]] = {}
    for path in tree.others:
        if path.rpartition(".")[2].lower() in ("cls", "txt", "json"):
            beside.setdefault(_stem(path), []).append(path)
    paired = {path: beside[stem] for path, stem in stems.items() if stem in beside}
    return paired if len(paired) == len(tree.audio) else {}


def _stem(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def _from_sidecars(tree: Tree, sidecars: dict[str, list[str]], dataset_id: str) -> RawDataset:
    rows: dict[str, list[dict]] = {}
    folders = [path.split("/")[:-1] for path in tree.audio]
    tops = {parts[0] if parts else "" for parts in folders}
    by_split = len(tops) > 1 and all(is_split_name(top.partition("-")[0]) for top in tops)
    for path, others in sidecars.items():
        row: dict[str, Any] = {"audio": _cell(tree.root, path), "clip_id": path}
        for other in others:
            row |= _sidecar(tree.root / other)
        rows.setdefault(path.split("/")[0].partition("-")[0] if by_split else "train", []).append(row)
    return _raw(tree, dataset_id, rows, {})


def _sidecar(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8").strip()
        if path.suffix.lower() != ".json":
            return {path.suffix[1:].lower(): text}
        fields = json.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    return fields if isinstance(fields, dict) else {"json": fields}


# Rows as a dataset


def _cell(root: Path, path: str | None) -> dict[str, Any]:
    return {"bytes": None, "path": None if path is None else str(Path(os.path.abspath(root)) / path)}


def _raw(tree: Tree, dataset_id: str, rows: dict[str, list[dict]], features: dict[str, Any]) -> RawDataset:
    splits = {}
    columns = list(dict.fromkeys(name for part in rows.values() for row in part for name in row))
    for split, part in rows.items():
        splits[split] = _dataset(tree, split, {name: [row.get(name) for row in part] for name in columns}, features)
    return RawDataset(dataset_id, splits, base=str(tree.root))


def _dataset(tree: Tree, split: str, columns: dict[str, list], features: dict[str, Any]) -> Dataset:
    arrays = {}
    for name, values in columns.items():
        feature = features.get(name)
        if isinstance(feature, ClassLabel):
            values = [None if value is None else feature.str2int(value) for value in values]
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # values of several types, in a jsonl
            arrays[name] = pa.array(
                [
                    None if value is None else json.dumps(value) if not isinstance(value, str) else value
                    for value in values
                ]
            )
        if pa.types.is_null(arrays[name].type):
            arrays[name] = arrays[name].cast(pa.string())
    types = {name: Audio(decode=False) if _is_cell(values) else features.get(name) for name, values in columns.items()}
    known = Features(
        {
            name: types[name] or Features.from_arrow_schema(pa.schema([(name, array.type)]))[name]
            for name, array in arrays.items()
        }
    )
    cells = [cell for values in columns.values() if _is_cell(values) for cell in values]
    stats = [None if cell["path"] is None else state_of_file(cell["path"]) for cell in cells]
    fingerprint = Hasher.hash([str(tree.root.resolve()), split, columns, stats])
    return Dataset(pa.table(arrays).cast(known.arrow_schema), info=DatasetInfo(features=known), fingerprint=fingerprint)


def _is_cell(values: list) -> bool:
    return bool(values) and all(isinstance(value, dict) and set(value) == {"bytes", "path"} for value in values)
