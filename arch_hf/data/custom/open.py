"""Open a dataset: a folder, a file, or a copy of the Hub's in the cache, read or streamed."""

import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder, load_from_disk
from datasets.fingerprint import Hasher

from arch_hf.compat.datasets_library import audio_as_it_is, fingerprint_of
from arch_hf.data.custom.files import Tree, look_into, read_tree
from arch_hf.data.custom.options import ReadingOptions
from arch_hf.data.custom.passed_over import ARCHIVE, loose_files, unread_beside_audio, unread_files
from arch_hf.data.custom.raw import RawDataset, shown
from arch_hf.data.official.archives import extract_all
from arch_hf.data.official.prepared import read_facts
from arch_hf.data.streaming import first_line, identity_of_files, open_stream
from arch_hf.data.tree import state_of_file
from arch_hf.errors import UserError

_DATA_ENDINGS = (".parquet", ".arrow")


def open_folder(folder: Path, options: ReadingOptions, streaming: bool) -> RawDataset:
    """A folder: what `prepare` or `save_to_disk` has written, Parquet files, audio files with lists or folders of classes, or archives of these.

    Raises:
        UserError: if it is none of these, or cannot be read.
    """
    facts = read_facts(folder)
    tree = look_into(folder)
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        _refuse_config(options, folder)
        saved = RawDataset(str(folder), _splits(load_from_disk(str(folder))), facts=facts, base=str(folder))
        return replace(saved, notes=unread_files(tree, saved, options.audio_column))
    data = [path for path in tree.others if path.lower().endswith(_DATA_ENDINGS)]
    archives = [path for path in tree.others if ARCHIVE.search(path)]
    if not data and not _describes_itself(folder):
        if tree.audio or tree.lists:
            _refuse_config(options, folder)
            return replace(read_tree(tree, str(folder), options.audio_column), notes=unread_beside_audio(tree))
        if archives:
            return open_archives([folder / path for path in archives], str(folder), options, streaming)
        if loose := loose_files(tree):
            raise UserError(f"{folder} holds no audio that is called so; {loose[0]}")
    # by its whole path: a folder may be called like one of the library's own readers ("csv", "pandas")
    raw = open_by_library(os.path.abspath(folder), options, None, streaming, base=str(folder))
    raw.id = str(folder)
    if data and options.config is None and not _describes_itself(folder):
        _check_rows_are_read(folder, [path for path in data if path.endswith(".parquet")], raw)
    return replace(raw, facts=facts, notes=unread_files(tree, raw, options.audio_column))


def _refuse_config(options: ReadingOptions, path: Path) -> None:
    if options.config is not None:
        raise UserError(f"--config {options.config}: {path} has no configurations; leave it out")


def open_file(path: Path, options: ReadingOptions, streaming: bool = False) -> RawDataset:
    """One file: an archive, a list of files, or Parquet.

    Raises:
        UserError: if it is none of these, or cannot be read.
    """
    if ARCHIVE.search(path.name):
        return open_archives([path], str(path), options, streaming)
    _refuse_config(options, path)
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl"):
        return read_tree(Tree(path.parent, (), (path.name,), ()), str(path), options.audio_column)
    if path.suffix.lower() == ".parquet":
        try:
            with audio_as_it_is():
                splits = _splits(
                    load_dataset("parquet", data_files=str(path), cache_dir=_own_cache(_file_identity([path])))
                )
        except Exception as error:  # datasets raises many kinds; what the first of them says is what the user needs
            raise UserError(f"the dataset {path} cannot be loaded: {first_line(error)}") from None
        return RawDataset(str(path), splits, base=str(path.parent), notes=_copied(path.name, streaming))
    raise UserError(f"{path} is no dataset: give a folder, or a csv, tsv, jsonl, Parquet, zip or tar file")


def open_archives(paths: list[Path], dataset_id: str, options: ReadingOptions, streaming: bool = False) -> RawDataset:
    """What is in archives, unpacked once into the cache of `datasets`.

    Raises:
        UserError: if one is damaged, or what is in them cannot be read.
    """
    folder = Path(_own_cache(_file_identity(paths)))
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".incomplete", dir=folder.parent))
        try:
            for path in paths:
                extract_all([path], aside / ARCHIVE.sub("", path.name) if len(paths) > 1 else aside)
            os.replace(aside, folder)
        except OSError as error:
            if not folder.is_dir():  # else another process was faster
                raise UserError(f"{dataset_id} cannot be unpacked into {folder.parent} ({error.strerror})") from None
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    raw = open_folder(_top(folder), options, streaming=False)
    return replace(raw, id=dataset_id, notes=[*raw.notes, *_copied(dataset_id, streaming)])


def _copied(name: str, streaming: bool) -> list[str]:
    return [f"--streaming reads without a copy, but {name} is read from one in the cache"] if streaming else []


def _top(folder: Path) -> Path:
    """The folder itself, or the one that it holds alone."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return _top(entries[0]) if len(entries) == 1 and entries[0].is_dir() else folder


def open_by_library(
    path: str, options: ReadingOptions, revision: str | None, streaming: bool, base: str | None = None, hint: str = ""
) -> RawDataset:
    """What `datasets` makes of a folder or of a repo on the Hub.

    Raises:
        UserError: if it cannot be loaded.
    """
    try:
        if streaming:
            splits, stream = open_stream(path, options.config, revision, options.audio_column, base)
            return RawDataset(path, splits, options.config, revision, stream=stream, base=base)
        with audio_as_it_is():
            return RawDataset(
                path, _splits(_load_copy(path, options.config, revision)), options.config, revision, base=base
            )
    except Exception as error:  # datasets raises many kinds; what the first of them says is what the user needs
        if empty := _empty_parquet(path):
            raise UserError(f"the split {empty} is empty") from None
        shown = path if base is None or ":" in base else base
        here = "" if Path(path).exists() or Path(shown).exists() else "no such folder or file here, and on the Hub: "
        raise UserError(f"the dataset {shown} cannot be loaded: {here}{first_line(error)}{hint}") from None


def _splits(loaded: Dataset | DatasetDict) -> dict[str, Dataset]:
    return {"train": loaded} if isinstance(loaded, Dataset) else dict(loaded)


def _load_copy(path: str, config: str | None, revision: str | None) -> DatasetDict:
    """Through the Arrow copy that `datasets` makes; a folder whose files have changed gets another one, and other fingerprints."""
    if not Path(path).is_dir():
        return load_dataset(path, config, revision=revision)
    identity = str(identity_of_files(path, load_dataset_builder(path, config)))
    dataset = load_dataset(path, config, cache_dir=_own_cache(identity))
    for name, part in dataset.items():
        fingerprint = Hasher.hash([fingerprint_of(part), identity])
        dataset[name] = Dataset(part.data, info=part.info, split=part.split, fingerprint=fingerprint)
    return dataset


def _own_cache(identity: str) -> str:
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "arch_hf" / identity)


def _file_identity(paths: list[Path]) -> str:
    return Hasher.hash([(str(path.resolve()), state_of_file(str(path))) for path in sorted(paths)])


def _describes_itself(folder: Path) -> bool:
    """Whether a card says which files are which split."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return bool(re.match(r"---\n(?:.*\n)*?configs:", text))


def _empty_parquet(path: str) -> str | None:
    """The split of a folder's first Parquet file without a row, which `datasets` cannot read."""
    for file in sorted(Path(path).rglob("*.parquet")) if Path(path).is_dir() else ():
        try:
            if pq.read_metadata(file).num_rows == 0:
                return file.stem.partition("-")[0]
        except (OSError, pa.ArrowException):
            continue
    return None


def _check_rows_are_read(folder: Path, files: list[str], raw: RawDataset) -> None:
    """Refuse a folder of Parquet files of which `datasets` takes some alone: those that are called like a split, if there is one."""
    try:
        rows = {file: pq.read_metadata(folder / file).num_rows for file in files}
    except (OSError, pa.ArrowException):
        return
    read = sum(map(len, raw.splits.values()))
    if read != sum(rows.values()):
        raise UserError(
            f"its Parquet files hold {sum(rows.values())} clips, its splits {read}: a file whose name has no split in it is left out "
            f"where others have one; call them SPLIT-00000.parquet (there are {shown(files)})"
        )
