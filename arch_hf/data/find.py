"""Where a dataset is found: in a folder, on the Hub, or in its cache when there is no Hub."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import huggingface_hub
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.fingerprint import Hasher
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from arch_hf.data.columns import adapt, corpus_from_facts
from arch_hf.data.official.prepared import FACTS_FILE
from arch_hf.data.registry import CORPUS_NAMES, get_corpus, unknown_corpus
from arch_hf.data.spec import Corpus
from arch_hf.data.streaming import ClipStream, audio_as_it_is, first_line, identity_of_files, open_stream
from arch_hf.errors import UserError


@dataclass
class Found:
    """A dataset with our columns and split names, its facts, and which one it is. `facts` is the content of its arch.json; `stream` is
    where its audio comes from, if that is not in the dataset."""

    dataset: DatasetDict
    corpus: Corpus
    id: str
    config: str | None
    revision: str | None
    facts: dict = field(default_factory=dict)
    stream: ClipStream | None = None


def find(
    name: str,
    data_dir: str | Path | None,
    revision: str | None,
    config: str | None,
    columns: Mapping[str, str | None],
    splits: Mapping[str, str],
    streaming: bool = False,
) -> Found:
    """The dataset of this name: see `load_corpus`."""
    short = name.removeprefix("arch/")
    folders = [Path(name)]
    if short in CORPUS_NAMES:
        folders = [Path("arch") / short]
    if data_dir is not None:
        if not Path(data_dir).is_dir():
            raise UserError(f"--data_dir {data_dir}: no such folder")
        folders.insert(0, Path(data_dir) / (short if short in CORPUS_NAMES else name))
    for folder in folders:
        if folder.is_dir():
            return _from_folder(folder, config, columns, splits, streaming)
    if short not in CORPUS_NAMES and (name.count("/") != 1 or name.startswith((".", "/"))):
        raise UserError(f"no such folder: {name}" if "/" in name else unknown_corpus(name))
    repo_id = f"arch/{short}" if short in CORPUS_NAMES else name
    return _from_hub(repo_id, revision, config, columns, splits, streaming)


def _from_folder(folder: Path, config, columns, splits, streaming):
    facts = {}
    if (folder / FACTS_FILE).is_file():
        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / FACTS_FILE} cannot be read ({error}); prepare the corpus again") from None
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        dataset, stream = load_from_disk(str(folder)), None  # read where it lies in any case
    else:
        dataset, stream = _load(str(folder), config, None, columns, streaming)
    return _interpret(dataset, stream, str(folder), facts, columns, splits, config, None)


def _from_hub(repo_id: str, revision, config, columns, splits, streaming):
    short = repo_id.removeprefix("arch/")
    hint = ""
    if repo_id.startswith("arch/") and short in CORPUS_NAMES:
        hint = f"; prepare it from its official archive: arch-hf prepare {short} --raw_dir FOLDER (or --download)"
    try:  # pin the commit, so that the result says which data it is about
        revision = HfApi().dataset_info(repo_id, revision=revision).sha
        online = True
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403, 404):
            at = f" at revision {revision}" if revision else ""
            raise UserError(
                f"no dataset {repo_id}{at}: not a folder here, and none on the Hub that you may read{hint}"
            ) from None
        raise UserError(f"the Hub does not answer for {repo_id}: {str(error).splitlines()[0]}{hint}") from None
    except HFValidationError as error:
        raise UserError(f"{repo_id} is neither a folder nor a dataset's id ({error})") from None
    except (
        Exception
    ):  # no connection, in whatever words huggingface_hub's HTTP client has for it: a copy in the cache may do
        online = False
    if streaming and not online:
        raise UserError(
            f"the Hub does not answer for {repo_id}: --streaming reads from there; without it, a copy in the cache is used{hint}"
        )
    facts = {}
    with contextlib.suppress(HfHubHTTPError, OSError, ValueError):  # only what `prepare` made has such a file
        path = hf_hub_download(repo_id, FACTS_FILE, repo_type="dataset", revision=revision, local_files_only=not online)
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
    with contextlib.nullcontext() if online else _offline():
        dataset, stream = _load(repo_id, config, revision, columns, streaming, hint)
    return _interpret(dataset, stream, repo_id, facts, columns, splits, config, revision)


@contextlib.contextmanager
def _offline():
    """Make `datasets` look into its cache at once, instead of trying the Hub for a minute first."""
    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = before


def _load(path: str, config, revision, columns, streaming: bool, hint: str = ""):
    try:
        if streaming:
            return open_stream(path, config, revision, columns.get("audio"))
        with audio_as_it_is():
            return _load_copy(path, config, revision), None
    except Exception as error:  # datasets raises many kinds; what the first of them says is what the user needs
        raise UserError(f"the dataset {path} cannot be loaded: {first_line(error)}{hint}") from None


def _load_copy(path: str, config, revision) -> DatasetDict:
    """Through the Arrow copy that `datasets` makes; a folder whose files have changed gets another one, and other fingerprints."""
    identity = identity_of_files(path)
    if identity is None:
        return load_dataset(path, config, revision=revision)
    dataset = load_dataset(path, config, cache_dir=str(Path(datasets.config.HF_DATASETS_CACHE) / "arch_hf" / identity))
    for name, part in dataset.items():
        fingerprint = Hasher.hash([part._fingerprint, identity])
        dataset[name] = Dataset(part.data, info=part.info, split=part.split, fingerprint=fingerprint)
    return dataset


def _interpret(dataset, stream, dataset_id: str, facts: dict, columns, splits, config, revision) -> Found:
    """Give a dataset our columns and splits: as they are if `prepare` made them, else recognised."""
    if isinstance(dataset, Dataset):
        dataset = DatasetDict({"train": dataset})
    name = facts.get("corpus") or dataset_id.removeprefix("arch/")
    ours = {"audio", "clip_id", "group"} <= set(next(iter(dataset.values())).features)
    if ours and not any(columns.values()) and not splits and (name in CORPUS_NAMES or facts):
        corpus = get_corpus(name) if name in CORPUS_NAMES else corpus_from_facts(facts, dataset)
    else:
        dataset, corpus = adapt(dataset, dataset_id, columns, splits)
    return Found(dataset, corpus, dataset_id, config, revision, facts, stream)
