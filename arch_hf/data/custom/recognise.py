"""From a dataset's own columns and splits to ours."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from datasets import Audio, ClassLabel, Dataset, DatasetDict, List, Value

from arch_hf.data.audio_cell import kind_of
from arch_hf.data.custom.audio_column import choose_audio
from arch_hf.data.custom.columns import as_text, choose_folds, choose_groups, choose_ids, describe_columns
from arch_hf.data.custom.labels import Labels, choose_label, describe_labels, read_labels
from arch_hf.data.custom.options import OFF, ReadingOptions
from arch_hf.data.custom.raw import Findings, RawDataset, shown
from arch_hf.data.custom.splits import SplitPlan, plan_splits
from arch_hf.data.spec import Corpus

FLAW_COLUMN = "flaw"  # why a clip cannot be used, apart from its audio; null where it can


@dataclass(frozen=True)
class Recognised:
    """A dataset with our columns and splits, and its facts as far as they can be told; `columns` says which of its own columns is what."""

    dataset: DatasetDict
    corpus: Corpus
    columns: dict[str, str | None]


def recognise(raw: RawDataset, options: ReadingOptions, findings: Findings) -> Recognised | None:
    """Tell which column is what, and which clips train and test. None where something is wrong: `findings` say what, all of it at once."""
    there = f"{raw.id} has the columns {describe_columns(raw.features)} and the splits {', '.join(raw.splits)}"
    if not _have_the_same_columns(raw, findings):
        return None
    audio = choose_audio(raw.features, options.audio_column, there, findings)
    others = {name: feature for name, feature in raw.features.items() if name != audio}
    label = choose_label(others, options.label_column, there, findings)
    if label and options.labels_left_out:
        raw = _leave_out(raw, label, options.labels_left_out, findings)
    taken = [name for name in (audio, label) if name]
    group = choose_groups(raw, options.group_column, taken, there, findings)
    fold = choose_folds(raw, options.fold_column, [*taken, *([group] if group else [])], there, findings)
    clip_id = choose_ids(raw, options.id_column, taken, there, findings)
    if options.named_splits and options.fold_column not in (None, OFF):
        findings.problem("--splits and --fold_column both say which clips train and which test: give one of them")
    plans = plan_splits(raw, options.named_splits, fold, there, findings)
    labels = None
    if label and plans:
        used = {plan.source: raw.splits[plan.source] for plan in plans}
        labels = read_labels(
            RawDataset(raw.id, used), label, options.label_separator, findings, options.labels_left_out
        )
    if audio is None or label is None or labels is None or findings.problems:
        return None
    columns = {"audio": audio, "label": label, "fold": fold, "group": group, "clip_id": clip_id}
    _note_choice(raw, columns, labels, plans, findings)
    return Recognised(_our_dataset(raw, columns, labels, plans), _facts(raw, labels, plans), columns)


def _have_the_same_columns(raw: RawDataset, findings: Findings) -> bool:
    first, *others = raw.splits
    for split in others:
        if differ := sorted(set(raw.features) ^ set(raw.splits[split].features)):
            findings.problem(
                f"the splits {first} and {split} have other columns: {shown(differ)} {'is' if len(differ) == 1 else 'are'} in one alone"
            )
            return False
    return True


def _leave_out(raw: RawDataset, column: str, names: Sequence[str], findings: Findings) -> RawDataset:
    """The same without the clips of some classes."""
    values = {split: as_text(raw.column(split, column), part.features[column]) for split, part in raw.splits.items()}
    for name in names:
        if not any(name in part for part in values.values()):
            findings.problem(f"{column}: no clip has the label {name!r}, which is to be left out")
    kept = {split: [i for i, value in enumerate(part) if value not in names] for split, part in values.items()}
    n_left_out = sum(len(part) for part in values.values()) - sum(map(len, kept.values()))
    findings.note(f"{column}: clips left out for their label ({', '.join(names)}): {n_left_out}")
    splits = {s: part if len(kept[s]) == len(part) else part.select(kept[s]) for s, part in raw.splits.items()}
    return replace(raw, splits=splits)


def _note_choice(raw: RawDataset, columns: dict, labels: Labels, plans: list[SplitPlan], findings: Findings) -> None:
    sizes = ", ".join(f"{plan.name} {_size(raw, plan)}" for plan in plans)
    groups = (
        f'groups from "{columns["group"]}" (--group_column none to go without)' if columns["group"] else "no groups"
    )
    ids = f'ids from "{columns["clip_id"]}"' if columns["clip_id"] else "ids of our own"
    folds = f' by "{columns["fold"]}"' if columns["fold"] else ""
    what = describe_labels(labels, str(columns["label"]))
    findings.note(f'audio from "{columns["audio"]}", {what}, {groups}, {ids}; splits{folds}: {sizes}')


def _size(raw: RawDataset, plan: SplitPlan) -> int:
    return len(raw.splits[plan.source]) if plan.clips is None else len(plan.clips)


def _our_dataset(raw: RawDataset, columns: dict, labels: Labels, plans: list[SplitPlan]) -> DatasetDict:
    parts = {}
    for plan in plans:
        if plan.source not in parts:
            ids = _own_ids(len(raw.splits[plan.source]), [other for other in plans if other.source == plan.source])
            parts[plan.source] = _our_columns(raw, plan.source, columns, labels, ids)
    return DatasetDict(
        {
            plan.name: parts[plan.source] if plan.clips is None else parts[plan.source].select(plan.clips)
            for plan in plans
        }
    )


def _our_columns(raw: RawDataset, split: str, columns: dict, labels: Labels, own_ids: list[str]) -> Dataset:
    part, n_clips = raw.splits[split], len(raw.splits[split])
    ours = part.select_columns([columns["audio"]]).rename_columns(
        {columns["audio"]: "audio"} if columns["audio"] != "audio" else {}
    )
    if kind_of("audio", part.features[columns["audio"]]) == "audio":
        ours = ours.cast_column("audio", Audio(decode=False))
    group, clip_id = columns["group"], columns["clip_id"]
    ids = as_text(raw.column(split, clip_id), part.features[clip_id]) if clip_id else own_ids
    groups = as_text(raw.column(split, group), part.features[group]) if group else [None] * n_clips
    feature = ClassLabel(names=labels.names)
    name, feature = ("labels", List(feature)) if labels.several else ("label", feature)
    flaws = [labels.flaws[split].get(i) for i in range(n_clips)]
    ours = ours.add_column(name, labels.indices[split], feature=feature)
    ours = ours.add_column("clip_id", ids, feature=Value("string"))
    ours = ours.add_column("group", groups, feature=Value("string"))
    return ours.add_column(FLAW_COLUMN, flaws, feature=Value("string"))


def _own_ids(n_clips: int, plans: list[SplitPlan]) -> list[str]:
    """Each clip's place in our split. They are told before the clips are parted: a column that is added afterwards copies all others."""
    ids = [""] * n_clips
    for plan in plans:
        for i, position in enumerate(range(n_clips) if plan.clips is None else plan.clips):
            ids[position] = f"{plan.name}-{i:06d}"
    return ids


def _facts(raw: RawDataset, labels: Labels, plans: list[SplitPlan]) -> Corpus:
    return Corpus(
        name=raw.id.rstrip("/").rpartition("/")[2],
        title=raw.id,
        domain="other",
        task="multi_label" if labels.several else "single_label",
        classes=(),
        splits={plan.name: _size(raw, plan) for plan in plans},
        max_seconds=None,
        licence="",
        citation="",
        homepage="",
        read=None,
    )
