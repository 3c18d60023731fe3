"""Clips of a corpus, loaded: one of the twelve, a synthetic one, a prepared folder, or any audio dataset."""

import contextlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
from datasets import Audio, ClassLabel, Dataset, DatasetDict, List, concatenate_datasets, load_dataset, load_from_disk
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from arch_hf.corpora.registry import CORPUS_NAMES, SYNTHETIC_NAMES, get_corpus, unknown_corpus
from arch_hf.corpora.spec import ClipTable, Corpus
from arch_hf.errors import UserError

FACTS_FILE = "arch.json"


@dataclass
class CorpusData:
    """A loaded corpus.

    `corpus` holds its facts (inferred for a foreign dataset), with `classes` as in the data. `id`, `config` and `revision` say which
    dataset it is. `clips` is in canonical order, split by split, with the columns audio (undecoded: {"bytes", "path"}),
    clip_id, group, label or labels, and arch_v1_split and arch_v1_label where the paper differs. `table` is the same clips
    without audio. `excluded` names the known-bad clips that are in neither: [{"clip_id", "reason"}].
    """

    corpus: Corpus
    id: str
    config: str | None
    revision: str | None
    clips: Dataset
    table: ClipTable
    excluded: list[dict] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)

    def targets(self, column: str = "label") -> np.ndarray:
        """int64 class indices [clips]; for a multi-label corpus float32 multi-hot [clips, classes]. `column` is "label" (which also
        means `labels`) or "arch_v1_label"; the latter falls back to the former in a corpus without it.

        Example:
            >>> from arch_hf.corpora import load_corpus
            >>> data = load_corpus("synthetic_events")
            >>> data.targets().shape == (len(data),), data.targets().dtype
            (True, dtype('int64'))
        """
        column = self._column(column)
        values = read_column(self.clips, column)
        if column != "labels":
            return np.asarray(values, np.int64)
        hot = np.zeros((len(values), len(self.class_names())), np.float32)
        for i, labels in enumerate(values):
            hot[i, labels] = 1.0
        return hot

    def class_names(self, column: str = "label") -> list[str]:
        """The names behind the indices of `targets(column)`, in order."""
        feature = self.clips.features[self._column(column)]
        return list((feature if isinstance(feature, ClassLabel) else feature.feature).names)

    def audio(self, index: int) -> bytes:
        """One clip's encoded bytes, as in the dataset."""
        audio = self.clips[index]["audio"]
        if audio["bytes"] is not None:
            return audio["bytes"]
        try:
            return Path(audio["path"]).read_bytes()
        except OSError as error:
            raise UserError(f"{self.table.clip_id[index]}: cannot read {audio['path']} ({error.strerror})") from None

    def _column(self, column: str) -> str:
        if column == "arch_v1_label" and column in self.clips.features:
            return column
        if column in ("label", "labels", "arch_v1_label"):
            return "labels" if self.corpus.task == "multi_label" else "label"
        raise ValueError(f"no label column {column!r}")


def read_column(clips: Dataset, column: str) -> list:
    """All values of one column, without touching the others: the audio stays on disk."""
    return clips.select_columns(column).with_format("arrow")[:][column].to_pylist()


def load_corpus(
    name: str,
    data_dir: str | Path | None = None,
    revision: str | None = None,
    limit: int | None = None,
    *,
    config: str | None = None,
    audio_column: str | None = None,
    label_column: str | None = None,
    fold_column: str | None = None,
    group_column: str | None = None,
    splits: dict[str, str] | None = None,
) -> CorpusData:
    """Load a corpus by name, a dataset by Hub id, or a folder.

    The twelve are looked for in `data_dir/NAME`, then in the folder `arch/NAME`, then on the Hub as `arch/NAME`. Any other `name` is
    a folder (also below `data_dir`) or a Hub id; how its columns and splits are recognised is described in
    `arch_hf.corpora.foreign`, and the keyword arguments name what is not. `splits` maps "train", "validation" and "test" to
    the dataset's own names.

    `limit` keeps that many clips of each split: those that spread over the classes most evenly, the first of each class in
    canonical order first. It is for a quick try; the scores mean nothing.

    Raises:
        UserError: if there is no such corpus, it cannot be reached, or what it holds cannot be told from its columns.

    Example:
        >>> from arch_hf.corpora import load_corpus
        >>> data = load_corpus("synthetic_events", limit=20)
        >>> data.corpus.domain, data.table.split[0], len(data.audio(0)) > 1000
        ('events', 'fold_1', True)
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit is {limit}, give 1 or more")
    name = str(name)
    if name in SYNTHETIC_NAMES:
        from arch_hf.corpora.synthetic import generate

        dataset, corpus, facts, source = generate(name), get_corpus(name), {}, (name, None, get_corpus(name).version)
    else:
        columns = {"audio": audio_column, "label": label_column, "fold": fold_column, "group": group_column}
        dataset, corpus, facts, source = _find(name, data_dir, revision, config, columns, splits or {})
    return _corpus_data(dataset, corpus, facts, source, limit)


def _find(name, data_dir, revision, config, columns, splits):
    """(DatasetDict by our split names, Corpus, facts of arch.json, (id, config, revision))"""
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
            return _from_folder(folder, config, columns, splits)
    if short not in CORPUS_NAMES and (name.count("/") != 1 or name.startswith((".", "/"))):
        raise UserError(f"no such folder: {name}" if "/" in name else unknown_corpus(name))
    return _from_hub(f"arch/{short}" if short in CORPUS_NAMES else name, revision, config, columns, splits)


def _from_folder(folder: Path, config, columns, splits):
    facts = {}
    if (folder / FACTS_FILE).is_file():
        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / FACTS_FILE} cannot be read ({error}); prepare the corpus again") from None
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        dataset = load_from_disk(str(folder))
    else:
        dataset = _load(str(folder), str(folder), config, None)
    return _interpret(dataset, str(folder), facts, columns, splits, config, None)


def _from_hub(repo_id: str, revision, config, columns, splits):
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
    except Exception:  # no connection, in whatever words huggingface_hub's HTTP client has for it: a copy in the cache may do
        online = False
    facts = {}
    with contextlib.suppress(HfHubHTTPError, OSError, ValueError):  # only what `prepare` made has such a file
        path = hf_hub_download(repo_id, FACTS_FILE, repo_type="dataset", revision=revision, local_files_only=not online)
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
    with contextlib.nullcontext() if online else _offline():
        dataset = _load(repo_id, repo_id, config, revision, hint)
    return _interpret(dataset, repo_id, facts, columns, splits, config, revision)


@contextlib.contextmanager
def _offline():
    """Make `datasets` look into its cache at once, instead of trying the Hub for a minute first."""
    before = datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = before


def _load(path: str, shown: str, config, revision, hint: str = ""):
    try:
        return load_dataset(path, config, revision=revision)
    except Exception as error:  # datasets raises many kinds; what each says is what the user needs
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"the dataset {shown} cannot be loaded: {reason}{hint}") from None


def _interpret(dataset, dataset_id: str, facts: dict, columns, splits, config, revision):
    """Give a dataset our columns and splits: as they are if `prepare` made them, else recognised."""
    from arch_hf.corpora.foreign import adapt, corpus_from_facts

    if isinstance(dataset, Dataset):
        dataset = DatasetDict({"train": dataset})
    source = (dataset_id, config, revision)
    name = facts.get("corpus") or dataset_id.removeprefix("arch/")
    ours = {"audio", "clip_id", "group"} <= set(next(iter(dataset.values())).features)
    if ours and not any(columns.values()) and not splits:
        if name in CORPUS_NAMES:
            return dataset, get_corpus(name), facts, source
        if facts:
            return dataset, corpus_from_facts(facts, dataset), facts, source
    dataset, corpus = adapt(dataset, dataset_id, columns, splits)
    return dataset, corpus, facts, source


def _corpus_data(dataset, corpus: Corpus, facts: dict, source, limit: int | None) -> CorpusData:
    order = [split for split in corpus.splits if split in dataset]
    if not order:
        raise UserError(
            f"{source[0]} has the splits {', '.join(dataset)}; {corpus.name} needs {', '.join(corpus.splits)}"
        )
    parts = []
    for split in order:
        part = dataset[split].cast_column("audio", Audio(decode=False))
        if len(part) == 0:
            raise UserError(f"{source[0]}: the split {split} is empty")
        bad = corpus.known_bad and [clip_id not in corpus.known_bad for clip_id in read_column(part, "clip_id")]
        if bad and not all(bad):
            part = part.select(np.flatnonzero(bad))
        parts.append(part if limit is None else part.select(_spread(part, limit)))
    clips = concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    column = "labels" if corpus.task == "multi_label" else "label"
    feature = clips.features.get(column)
    names = getattr(feature.feature if isinstance(feature, List) else feature, "names", None)
    if names is None:
        raise UserError(
            f"{source[0]} has no column {column!r} of class labels, which {corpus.name} needs; prepare it again"
        )
    if corpus.classes and tuple(names) != corpus.classes:
        raise UserError(
            f"{source[0]} has other classes than {corpus.name}: {len(names)}, {names[0]!r} first; prepare it again"
        )
    table = ClipTable(
        clip_id=read_column(clips, "clip_id"),
        split=[split for split, part in zip(order, parts, strict=True) for _ in range(len(part))],
        group=read_column(clips, "group"),
        arch_v1_split=read_column(clips, "arch_v1_split") if "arch_v1_split" in clips.features else None,
    )
    excluded = [{"clip_id": clip["clip_id"], "reason": clip["reason"]} for clip in facts.get("excluded_clips", ())]
    return CorpusData(replace(corpus, classes=tuple(names)), *source, clips, table, excluded)


def _spread(clips: Dataset, limit: int) -> np.ndarray:
    """`limit` clips that cover the classes evenly, in canonical order.

    Each class's clips are counted 0, 1, 2, ... in order; the clips with the lowest counts are kept. A clip with several labels counts
    for the rarest of them.
    """
    if "labels" in clips.features:
        labels = read_column(clips, "labels")
        sizes = np.bincount(np.concatenate([np.asarray(found, np.int64) for found in labels]), minlength=1)
        first = [min(found, key=lambda label: (sizes[label], label)) if found else -1 for found in labels]
    else:
        first = read_column(clips, "label")
    seen, counts = {}, np.empty(len(first), np.int64)
    for i, label in enumerate(first):
        counts[i] = seen.get(label, 0)
        seen[label] = counts[i] + 1
    return np.sort(np.lexsort((first, counts))[:limit])
