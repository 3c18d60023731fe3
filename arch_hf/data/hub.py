"""Datasets of the Hub: pinned to a commit, or from the cache when there is no Hub."""

import contextlib
import json
import time
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from arch_hf.compat.datasets_library import offline
from arch_hf.data.audio_cell import kind_of
from arch_hf.data.custom.lists import AUDIO_ENDINGS
from arch_hf.data.custom.open import open_by_library
from arch_hf.data.custom.options import ReadingOptions
from arch_hf.data.custom.raw import Findings, RawDataset, files_named, shown
from arch_hf.data.official.prepared import FACTS_FILE, checked_facts
from arch_hf.data.registry import CORPUS_NAMES
from arch_hf.errors import UserError, one_line

_WAITS = (1, 3)  # seconds before the Hub is asked again
_ANSWER = 10  # seconds within which it should


def open_repo(
    repo_id: str, revision: str | None, options: ReadingOptions, streaming: bool, findings: Findings
) -> RawDataset:
    """A dataset of the Hub.

    Raises:
        UserError: if there is none that may be read, or it cannot be loaded.
    """
    short = repo_id.removeprefix("arch/")
    hint = ""
    if repo_id.startswith("arch/") and short in CORPUS_NAMES:
        hint = f"; prepare it from its official archive: arch-hf prepare {short} --raw_dir FOLDER (or --download)"
    commit = _pinned(repo_id, revision, hint)
    online = commit is not None
    silent = "HF_HUB_OFFLINE keeps the Hub from being asked" if constants.HF_HUB_OFFLINE else "the Hub does not answer"
    if streaming and not online:
        raise UserError(
            f"{silent} for {repo_id}: --streaming reads from there; without it, a copy in the cache is used{hint}"
        )
    revision = commit or revision
    facts = {}
    with contextlib.suppress(HfHubHTTPError, OSError, ValueError):  # only what `prepare` made has such a file
        path = hf_hub_download(repo_id, FACTS_FILE, repo_type="dataset", revision=revision, local_files_only=not online)
        facts = checked_facts(json.loads(Path(path).read_text(encoding="utf-8")), f"{repo_id}/{FACTS_FILE}")
    base = f"hf://datasets/{repo_id}@{revision}" if online else None
    try:
        with contextlib.nullcontext() if online else offline():
            raw = open_by_library(repo_id, options, revision, streaming, base, hint)
    except UserError as error:
        if "OfflineModeIsEnabled" not in str(error):
            raise
        raise UserError(
            f"{repo_id} is no folder here, and not in the cache of datasets; {silent} for it{hint}"
        ) from None
    if online:
        _check_files_are_read(repo_id, revision, options, raw, findings)
    else:
        findings.note(f"{silent} for {repo_id}: read from the cache")
    raw.facts = facts
    return raw


def _pinned(repo_id: str, revision: str | None, hint: str) -> str | None:
    """The commit, so that the result says which data it is about; None where the Hub does not answer: a copy in the cache may do.

    Raises:
        UserError: if the Hub says that there is no such dataset, or none that may be read.
    """
    for wait in (*_WAITS, None):
        try:
            return HfApi().dataset_info(repo_id, revision=revision, timeout=_ANSWER).sha
        except HFValidationError as error:
            raise UserError(f"{repo_id} is neither a folder nor a dataset's id ({one_line(error)})") from None
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403, 404):
                at = f" at revision {revision}" if revision else ""
                raise UserError(
                    f"no dataset {repo_id}{at}: not a folder here, and none on the Hub that you may read{hint}"
                ) from None
            if status and status != 429 and status < 500:
                raise UserError(f"the Hub does not answer for {repo_id}: {one_line(error)}{hint}") from None
            if wait is not None:
                time.sleep(wait)
        except Exception:  # no connection, in whatever words huggingface_hub's HTTP client has for it
            return None
    return None


def _check_files_are_read(
    repo_id: str, revision: str | None, options: ReadingOptions, raw: RawDataset, findings: Findings
) -> None:
    """Refuse a repo of audio files of which `datasets` puts some into no split, or into two: it guesses splits from their names. Beside Parquet files that hold
    the audio, they are told."""
    if options.config is not None:
        return
    try:
        files = HfApi().list_repo_files(repo_id, revision=revision, repo_type="dataset")
    except Exception:  # it did answer before; that the files cannot be counted is no reason to stop
        return
    endings = {PurePosixPath(name).suffix.lower() for name in files}
    beside = [name for name in files if PurePosixPath(name).suffix.lower() in AUDIO_ENDINGS]
    if beside and ".parquet" in endings and raw.stream is None and not _names_files(raw):
        findings.note(
            f"not read: {len(beside)} audio files beside its rows, which name none of them ({shown(beside, 3)})"
        )
    if endings & {".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".json", ".tar", ".zip", ".gz", ".tgz"}:
        return
    n_files = len(beside)
    n_clips = sum(map(len, raw.splits.values()))
    if n_files and n_files != n_clips:
        raise UserError(
            f"{repo_id} holds {n_files} audio files, its splits {n_clips} clips: splits are guessed from the names of files and folders; "
            f"fetch it and evaluate the folder: hf download --repo-type dataset {repo_id} --local-dir FOLDER"
        )


def _names_files(raw: RawDataset) -> bool:
    """Whether there are rows that name a file, and do not hold its audio."""
    return any(
        files_named(part, name)
        for part in raw.splits.values()
        for name in part.features
        if kind_of(name, part.features[name]) in ("audio", "file")
    )
