"""Any other audio dataset: which column is the audio, which the label, which clips train and which test.

Recognised without a word from the user:
- the audio: the one Audio column;
- the label: the one column of ClassLabel or List(ClassLabel) (of several, the one called label, labels, target, class or category);
- the splits: `fold_1 ... fold_N`; or train and test, with validation also as valid, val or dev, and test as eval or evaluation;
  or, within a single split, a column called fold or split;
- the group: a column called group, speaker_id, speaker, artist or source, if there is one.
Whatever is not recognised is asked for, with the columns that there are.
"""

import re
from collections.abc import Mapping

import numpy as np
from datasets import Audio, ClassLabel, Dataset, DatasetDict, List, Value

from arch_hf.audio import audio_info
from arch_hf.data.spec import Corpus
from arch_hf.errors import AudioError, UserError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "devel"),
    "test": ("test", "testing", "eval", "evaluation"),
}
LABEL_NAMES = ("label", "labels", "target", "class", "category")
GROUP_NAMES = ("group", "speaker_id", "speaker", "artist", "source")
FOLD_NAMES = ("fold", "split")
MAX_SECONDS = 30.0  # clips are cut there, as in the strict protocol


def adapt(
    dataset: DatasetDict, dataset_id: str, columns: Mapping[str, str | None], splits: Mapping[str, str]
) -> tuple[DatasetDict, Corpus]:
    """The dataset with our columns and split names, and its facts as far as they can be told.

    `columns` may name "audio", "label", "fold" and "group"; `splits` maps "train", "validation" and "test" to the dataset's own.

    Raises:
        UserError: if something cannot be told; the message lists the columns and splits that there are.
    """
    features = next(iter(dataset.values())).features
    there = f"{dataset_id} has the columns {', '.join(map(_describe, features.items()))} and the splits {', '.join(dataset)}"
    audio = columns.get("audio") or _only(features, lambda f: isinstance(f, Audio), "audio", "--audio_column", there)
    label = columns.get("label") or _only(features, _is_label, "class label", "--label_column", there, LABEL_NAMES)
    group = columns.get("group") or next((name for name in GROUP_NAMES if name in features), None)
    for flag, name in (("--audio_column", audio), ("--label_column", label), ("--group_column", columns.get("group"))):
        if name and name not in features:
            raise UserError(f"{flag} {name}: no such column; {there}")
    dataset = _by_split(dataset, columns.get("fold"), dict(splits), there)
    dataset = DatasetDict({split: _our_columns(part, split, audio, label, group) for split, part in dataset.items()})
    dataset = _class_labels(dataset, there)
    multi = "labels" in next(iter(dataset.values())).features
    return dataset, Corpus(
        name=dataset_id.rstrip("/").rpartition("/")[2],
        title=dataset_id,
        domain="other",
        task="multi_label" if multi else "single_label",
        classes=(),
        splits={split: len(part) for split, part in dataset.items()},
        max_seconds=None,
        licence="",
        citation="",
        homepage="",
        read=None,
    )


def corpus_from_facts(facts: dict, dataset: DatasetDict) -> Corpus:
    """The facts of a corpus that `prepare` made from a user's own file, from its arch.json."""
    return Corpus(
        name=facts["corpus"],
        title=facts.get("title", facts["corpus"]),
        domain=facts.get("domain", "other"),
        task=facts["task"],
        classes=(),
        splits={split: len(part) for split, part in dataset.items()},
        max_seconds=facts["max_seconds"],
        licence=facts.get("licence", ""),
        citation=facts.get("citation", ""),
        homepage=facts.get("homepage", ""),
        read=None,
        rehost=facts.get("rehost", "public"),
        rehost_reason=facts.get("rehost_reason", ""),
        known_bad={clip["clip_id"]: clip["reason"] for clip in facts.get("excluded_clips", ())},
        version=facts.get("version", "1.0.0"),
    )


def parse_splits(splits: Mapping[str, str] | str | None) -> dict[str, str]:
    """{"train": NAME, ...} from itself or from "train=NAME,test=NAME".

    Example:
        >>> parse_splits("train=english,test=french")
        {'train': 'english', 'test': 'french'}
    """
    if isinstance(splits, str):
        splits = dict(part.partition("=")[::2] for part in splits.split(","))
    splits = {ours.strip(): name.strip() for ours, name in (splits or {}).items()}
    if splits and (not {"train", "test"} <= set(splits) <= set(SPLIT_NAMES) or not all(splits.values())):
        raise UserError("--splits takes train=NAME,test=NAME and, if there is one, validation=NAME")
    return splits


def _is_label(feature) -> bool:
    return isinstance(feature, ClassLabel) or (isinstance(feature, List) and isinstance(feature.feature, ClassLabel))


def _describe(item) -> str:
    name, feature = item
    if _is_label(feature):
        return f"{name} ({'classes' if isinstance(feature, ClassLabel) else 'lists of classes'})"
    return f"{name} ({'audio' if isinstance(feature, Audio) else getattr(feature, 'dtype', type(feature).__name__)})"


def _only(features, wanted, what: str, flag: str, there: str, preferred: tuple[str, ...] = ()) -> str:
    names = [name for name, feature in features.items() if wanted(feature)]
    for name in preferred:
        if name in names:
            return name
    if len(names) != 1:
        problem = "no" if not names else "more than one"
        raise UserError(f"{there}: {problem} {what} column, say which with {flag}")
    return names[0]


def _by_split(dataset: DatasetDict, fold_column: str | None, named: dict[str, str], there: str) -> DatasetDict:
    if named:
        if unknown := [name for name in named.values() if name not in dataset]:
            raise UserError(f"no split {', '.join(unknown)}; {there}")
        return DatasetDict({ours: dataset[named[ours]] for ours in SPLIT_NAMES if ours in named})
    if fold_column is None:
        folds = sorted((name for name in dataset if re.fullmatch(r"fold_?\d+", name)), key=_number)
        if len(folds) > 1:
            return DatasetDict({f"fold_{i}": dataset[name] for i, name in enumerate(folds, 1)})
        found = {ours: next((name for name in names if name in dataset), None) for ours, names in SPLIT_NAMES.items()}
        if found["train"] and found["test"]:
            return DatasetDict({ours: dataset[name] for ours, name in found.items() if name})
    if len(dataset) != 1:
        raise UserError(
            f"{there}: cannot tell which split trains and which tests; name them with --splits train=NAME,test=NAME"
        )
    (only,) = dataset.values()
    fold_column = fold_column or next((name for name in FOLD_NAMES if name in only.features), None)
    if fold_column is None:
        raise UserError(
            f"{there}: a single split and no fold column; name a column of folds (or of train/test) with --fold_column"
        )
    if fold_column not in only.features:
        raise UserError(f"--fold_column {fold_column}: no such column; {there}")
    return _by_column(only, fold_column)


def _by_column(dataset: Dataset, column: str) -> DatasetDict:
    values = dataset.select_columns(column).with_format("arrow")[:][column].to_pylist()
    if None in values:
        raise UserError(f"--fold_column {column} is empty for some clips")
    feature = dataset.features[column]
    if isinstance(feature, ClassLabel):
        values = [feature.names[value] for value in values]
    values = np.asarray([str(value) for value in values])
    present = sorted(set(values.tolist()), key=lambda value: (_number(value), value))
    found = {ours: next((name for name in names if name in present), None) for ours, names in SPLIT_NAMES.items()}
    if found["train"] and found["test"]:
        parts = {ours: name for ours, name in found.items() if name}
    elif len(present) > 1:
        parts = {f"fold_{i}": name for i, name in enumerate(present, 1)}
    else:
        raise UserError(f"--fold_column {column} has the one value {present[0]}; it takes two folds or more")
    return DatasetDict({ours: dataset.select(np.flatnonzero(values == name)) for ours, name in parts.items()})


def _number(text: str) -> int:
    digits = re.findall(r"\d+", text)
    return int(digits[-1]) if digits else -1


def _our_columns(part: Dataset, split: str, audio: str, label: str, group: str | None) -> Dataset:
    multi = isinstance(part.features[label], List)
    names = {audio: "audio", label: "labels" if multi else "label", **({group: "group"} if group else {})}
    if "clip_id" in part.features:
        names["clip_id"] = "clip_id"
    part = part.select_columns(list(names))
    part = part.rename_columns({old: new for old, new in names.items() if old != new})
    if "clip_id" not in part.features:
        part = part.add_column("clip_id", [f"{split}-{i:06d}" for i in range(len(part))])
    if "group" not in part.features:
        part = part.add_column("group", [None] * len(part), feature=Value("string"))
    elif part.features["group"] != Value("string"):
        part = part.cast_column("group", Value("string"))
    return part.cast_column("audio", Audio(decode=False))


def _class_labels(dataset: DatasetDict, there: str) -> DatasetDict:
    """A label column of plain strings or numbers, named by the user, becomes classes in sorted order."""
    first = next(iter(dataset.values()))
    if "labels" in first.features or isinstance(first.features["label"], ClassLabel):
        return dataset
    dtype = getattr(first.features["label"], "dtype", "")
    if not (dtype in ("string", "large_string", "bool") or dtype.startswith("int")):
        raise UserError(f"the label column holds {dtype or 'no classes'}; {there}")
    values = [part.select_columns("label").with_format("arrow")[:]["label"].to_pylist() for part in dataset.values()]
    present = {value for column in values for value in column}
    if None in present:
        raise UserError(f"the label column is empty for some clips; {there}")
    names = [str(value) for value in sorted(present)]
    label, encoded = ClassLabel(names=names), {}
    for (split, part), column in zip(dataset.items(), values, strict=True):
        ids = label.str2int([str(value) for value in column])
        encoded[split] = part.remove_columns("label").add_column("label", ids, feature=label)
    return DatasetDict(encoded)


def padded_seconds(longest: float) -> float:
    """What arch-v1 pads every clip to: seconds of the longest, rounded up, at most MAX_SECONDS.

    Example:
        >>> padded_seconds(4.2), padded_seconds(0.3), padded_seconds(600)
        (5.0, 1.0, 30.0)
    """
    return float(min(MAX_SECONDS, max(1, np.ceil(longest))))


def longest_clip(clips: Dataset) -> float:
    """Seconds of the longest clip by their headers, as far as it matters: of a clip as long as MAX_SECONDS the search stops."""
    longest = 0.0
    for audio in clips.select_columns("audio").iter(batch_size=64):
        for clip in filter(None, audio["audio"]):
            try:
                longest = max(longest, audio_info(clip["bytes"] if clip["bytes"] is not None else clip["path"]).seconds)
            except AudioError:
                continue  # the extraction will name it
        if longest >= MAX_SECONDS:
            break
    return longest
