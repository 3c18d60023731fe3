"""Where a dataset is: in a folder, in a file, or on the Hub."""

import os
from pathlib import Path

from arch_hf.data.custom.open import open_file, open_folder
from arch_hf.data.custom.options import ReadingOptions
from arch_hf.data.custom.raw import Findings, RawDataset
from arch_hf.data.hub import open_repo
from arch_hf.data.official.aside import old_copies
from arch_hf.data.registry import CORPUS_NAMES, candidate_folders, unknown_corpus
from arch_hf.errors import UserError


def locate(
    name: str,
    data_dir: str | Path | None,
    revision: str | None,
    options: ReadingOptions,
    streaming: bool,
    findings: Findings,
) -> RawDataset:
    """The dataset of this name: see `load_corpus`.

    Raises:
        UserError: if there is none, or it cannot be read.
    """
    short = name.removeprefix("arch/")
    for folder in candidate_folders(name, data_dir):
        if revision is not None and os.path.exists(folder):
            raise UserError(f"revision {revision} is of a dataset of the Hub, but {folder} is here: leave it out")
        if os.path.isdir(folder):  # which a name too long for a folder is not
            return open_folder(folder, options, streaming)
        if os.path.isfile(folder):
            return open_file(folder, options, streaming)
        if old := old_copies(folder):
            raise UserError(
                f"{folder} is gone: prepare was interrupted while it replaced it, and its old copy is {old[0]}; mv {old[0]} {folder}"
            )
    if short not in CORPUS_NAMES and (name.count("/") != 1 or name.startswith((".", "/"))):
        raise UserError(f"no such folder: {name}" if "/" in name else unknown_corpus(name))
    return open_repo(f"arch/{short}" if short in CORPUS_NAMES else name, revision, options, streaming, findings)
