"""The dataset card (README.md) and eval.yaml of a prepared corpus."""

from pathlib import Path

import yaml
from datasets import DatasetInfo, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard, DatasetCardData

from arch_hf.data.official.prepared import Prepared, write_facts

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
DOMAIN_NAMES = {"events": "acoustic events", "music": "music", "speech": "speech", "other": "audio"}
TASK_NAMES = {"single_label": "one label a clip", "multi_label": "any number of labels a clip"}


def write_card(folder: Path, prepared: Prepared) -> None:
    """Write README.md, eval.yaml and arch.json into a prepared folder."""
    write_facts(folder, prepared)
    card = DatasetCard(f"---\n{_metadata(folder, prepared).to_yaml()}\n---\n\n{_text(prepared)}")
    (folder / "README.md").write_text(str(card), encoding="utf-8")
    (folder / "eval.yaml").write_text(_eval_yaml(prepared), encoding="utf-8")


def _metadata(folder: Path, prepared: Prepared) -> DatasetCardData:
    corpus = prepared.corpus
    data = DatasetCardData(
        pretty_name=corpus.title,
        license=_hub_licence(corpus.licence),
        language=list(corpus.languages) or None,
        task_categories=["audio-classification"],
        size_categories=[next((name for size, name in SIZES if prepared.clips < size), "n>1M")],
        tags=["audio", *(["arch-benchmark"] if _is_archs(prepared) else []), corpus.domain],
    )
    if data.license == "other":
        data.license_name = corpus.licence  # type: ignore[attr-defined]
        data.license_link = corpus.homepage  # type: ignore[attr-defined]
    splits = SplitDict()
    for name, split in prepared.splits.items():
        splits.add(SplitInfo(name, num_bytes=split["bytes"], num_examples=split["clips"]))
    size = sum(path.stat().st_size for path in (folder / "data").iterdir())
    info = DatasetInfo(
        features=prepared.features,
        splits=splits,
        download_size=size,
        dataset_size=sum(split["bytes"] for split in prepared.splits.values()),
        config_name="default",
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(data)
    files = [{"split": name, "path": f"data/{name}-*.parquet"} for name in prepared.splits]
    MetadataConfigs({"default": {"data_files": files}}).to_dataset_card_data(data)
    return data


def _hub_licence(licence: str) -> str:
    """The Hub knows licences by fixed ids; anything else must be called "other"."""
    known = licence.startswith("cc-by") or licence in ("mit", "cc0-1.0", "apache-2.0", "unknown")
    return licence if known else "other"


def _text(prepared: Prepared) -> str:
    corpus = prepared.corpus
    folds = [name for name in prepared.splits if name.startswith("fold_")]
    rows = "\n".join(f"| {name} | {split['clips']} |" for name, split in prepared.splits.items())
    load = f'from datasets import load_dataset\n\ndataset = load_dataset("arch/{corpus.name}")'
    parts = [
        f"# {corpus.title}\n\n"
        f"{DOMAIN_NAMES[corpus.domain].capitalize()}, {TASK_NAMES[corpus.task]}, {len(corpus.classes)} classes. "
        f"{_origin_text(prepared)}",
        f"```python\n{load}\n```\n\nDecoding audio in `datasets` needs torchcodec; without it, "
        '`cast_column("audio", Audio(decode=False))` gives the bytes.',
        f"## Splits\n\n{_split_text(folds)}\n\n| split | clips |\n|---|---|\n{rows}",
        f"## Columns\n\n{_columns_text(prepared)}",
        f"## Size\n\n{_size_text(prepared)}",
        f"## What is left out\n\n{_excluded_text(prepared)}",
        f"## Licence\n\n{_licence_text(prepared)}",
        f"## Citation\n\n```bibtex\n{corpus.citation.strip()}\n```",
    ]
    if corpus.notes:
        parts.insert(4, "## Notes\n\n" + "\n".join(f"- {note}" for note in corpus.notes))
    return "\n\n".join(parts) + "\n"


def _is_archs(prepared: Prepared) -> bool:
    """Whether it is one of the paper's twelve, which alone have a row in Table 1; others are users' own."""
    return prepared.corpus.table1 is not None


def _origin_text(prepared: Prepared) -> str:
    corpus = prepared.corpus
    if not _is_archs(prepared):
        return f"Made by arch-hf from the recordings at <{corpus.homepage}>."
    return (
        "One of the corpora of the ARCH benchmark ([arXiv 2405.00934](https://arxiv.org/abs/2405.00934)), made by "
        f"`arch-hf prepare {corpus.name}` from the official distribution: <{corpus.homepage}>."
    )


def _split_text(folds: list[str]) -> str:
    if folds:
        return f"{len(folds)}-fold cross-validation: each fold is the test set once. Never reshuffle the folds."
    return "Fixed splits."


def _columns_text(prepared: Prepared) -> str:
    meaning = {
        "audio": "the clip"
        + (f", mono FLAC at {prepared.sampling_rate} Hz" if prepared.sampling_rate else ", in its original encoding"),
        "label": "the class",
        "labels": "the classes that the clip carries",
        "clip_id": "unique, from the corpus's own file names",
        "group": "what must not cross train and test (speaker, source recording, artist); null where unknown",
        "arch_v1_split": "the split that the ARCH paper used; null for a clip that it left out",
        "arch_v1_label": "the label that the ARCH paper used",
    }
    return "\n".join(f"- `{name}`: {meaning[name]}" for name in prepared.features)


def _size_text(prepared: Prepared) -> str:
    corpus, readable = prepared.corpus, max(prepared.clips - len(prepared.unreadable), 1)
    lines = ["| | clips | mean seconds | classes |", "|---|---|---|---|"]
    if corpus.table1:
        clips, seconds, classes = corpus.table1
        lines.append(f"| the paper's Table 1 | {clips} | {seconds:.2f} | {classes} |")
    lines.append(f"| this copy | {prepared.clips} | {prepared.seconds / readable:.2f} | {len(corpus.classes)} |")
    return "\n".join(lines)


def _excluded_text(prepared: Prepared) -> str:
    lines = [f"- `{clip['clip_id']}` ({clip['split']}): {clip['reason']}." for clip in prepared.excluded]
    if prepared.short_splits:
        present = {name: split["clips"] for name, split in prepared.splits.items()}
        sizes = ", ".join(f"{name} {present.get(name, 0)} of {n}" for name, n in prepared.short_splits.items())
        lines.append(f"- **This copy is incomplete**: {sizes}.")
    if prepared.missing:
        shown = ", ".join(f"`{clip_id}`" for clip_id in list(prepared.missing)[:20])
        more = ", ... (all of them in `arch.json`)" if len(prepared.missing) > 20 else ""
        lines.append(f"- {len(prepared.missing)} files were missing when it was made: {shown}{more}.")
    lines += [
        f"- `{clip['clip_id']}` is kept, but does not read as audio: {clip['reason']}." for clip in prepared.unreadable
    ]
    return "\n".join(lines) or "Nothing."


def _licence_text(prepared: Prepared) -> str:
    corpus = prepared.corpus
    text = f"{corpus.licence}. See <{corpus.homepage}>."
    if prepared.credits:
        text += f" Whoever is to be named is named in {', '.join(prepared.credits)}, which belongs to every copy."
    if prepared.missing_credits:
        text += f" The archive's {', '.join(prepared.missing_credits)} is missing here; it belongs to every copy."
    if corpus.rehost == "private":
        text += f" The audio may not be published again: {corpus.rehost_reason}"
    return text


def _eval_yaml(prepared: Prepared) -> str:
    """What makes the Hub show a leaderboard on the dataset's page: https://huggingface.co/docs/hub/eval-results.

    A task for each protocol: the corpus's name for arch-v1, and with "_strict" for strict, so that the two never share a table.
    A cross-validated corpus has no single test split: every fold is one in turn, and the task names the first.
    """
    corpus = prepared.corpus
    split = "test" if "test" in prepared.splits else next(iter(prepared.splits))
    data = {
        "name": f"ARCH: {corpus.title}" if _is_archs(prepared) else corpus.title,
        "description": f"Linear probe on frozen audio embeddings; {'accuracy' if corpus.metric == 'accuracy' else 'macro mAP'}.",
        "evaluation_framework": "arch-hf",
        "tasks": [{"id": task, "config": "default", "split": split} for task in (corpus.name, f"{corpus.name}_strict")],
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
