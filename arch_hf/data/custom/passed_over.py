"""What lies in a folder of a dataset and is not read: a line says so, with the first names."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from arch_hf.audio import begins_as_audio
from arch_hf.data.audio_cell import kind_of
from arch_hf.data.custom.files import Tree
from arch_hf.data.custom.raw import RawDataset, files_named, shown
from arch_hf.data.streaming import files_named_in

ARCHIVE = re.compile(r"\.(zip|tar|tar\.gz|tgz)$", re.IGNORECASE)
# Endings of what people keep beside their clips.
_NO_AUDIO = frozenset(
    f".{ending}"
    for ending in "txt md rst html xml json jsonl yaml yml toml csv tsv lst lab cls textgrid eaf srt vtt png jpg jpeg gif svg webp pdf doc docx xls "
    "xlsx odt rtf py ipynb sh bat ini cfg log npy npz pt pth pkl h5 hdf5 mat arrow parquet safetensors feather mid midi mp4 mov avi mkv sha256 md5 "
    "bib tex bak tmp lock license gitattributes gitignore".split()
)


def unread_files(tree: Tree, raw: RawDataset, audio_column: str | None = None) -> list[str]:
    """Of a folder whose clips are rows of Parquet or Arrow files, or that says itself which files are read: what is not, in lines."""
    read = _files_read(tree, raw, audio_column) if tree.audio else set()
    beside = [path for path in tree.audio if _whole(tree.root, path) not in read]
    return [
        *_line(beside, "audio files beside its rows, which name none of them"),
        *loose_files(tree),
        *_archives(tree),
    ]


def unread_beside_audio(tree: Tree) -> list[str]:
    """Of a folder of audio files, with lists or without: what is not read, in lines."""
    return [*loose_files(tree), *_archives(tree)]


def loose_files(tree: Tree) -> list[str]:
    """A line about the files whose names do not say that they hold audio, but which may: by their first bytes, where they have no ending at all, or by an ending
    that nobody knows."""
    return loose_line([path for path in tree.others if may_hold_audio(tree.root / path)])


def loose_line(paths: Sequence[str]) -> list[str]:
    """The same of these files."""
    return _line(paths, "files whose names do not end as those of audio do: rename them (NAME.wav) if they are clips")


def may_hold_audio(path: Path) -> bool:
    """Whether a file that is not called like audio may be a clip all the same."""
    ending = path.suffix.lower()
    if ending in _NO_AUDIO or ARCHIVE.search(path.name):
        return False
    return bool(ending) or begins_as_audio(path)


def _archives(tree: Tree) -> list[str]:
    return _line([path for path in tree.others if ARCHIVE.search(path)], "archives beside what is read: unpack them")


def _files_read(tree: Tree, raw: RawDataset, audio_column: str | None) -> set[str]:
    named: set[str] = set()
    for part in raw.splits.values():
        for name, feature in part.features.items():
            if name == audio_column or kind_of(name, feature) in ("audio", "file", "path"):
                named.update(files_named(part, name))
    if raw.stream is not None:  # whose columns hold the places of clips in it
        named.update(*(files_named_in(tree.root / path) for path in tree.others if path.endswith(".parquet")))
    return {_whole(tree.root, path) for path in named}


def _whole(root: Path, path: str) -> str:
    return os.path.realpath(os.path.join(root, path))


def _line(paths: Sequence[str], what: str) -> list[str]:
    return [f"not read: {len(paths)} {what} ({shown(paths, 3)})"] if paths else []
