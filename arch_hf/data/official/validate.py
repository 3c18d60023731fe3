"""Is a prepared corpus what its specification says? Every clip is decoded; whatever is missing or wrong is named."""

import collections
import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Audio, ClassLabel, List, load_dataset
from tqdm import tqdm

from arch_hf.audio import decode
from arch_hf.data.official.prepare import parallel
from arch_hf.data.official.prepared import changed_shards, read_facts
from arch_hf.data.registry import CORPUS_NAMES, get_corpus
from arch_hf.data.spec import Corpus
from arch_hf.errors import AudioError, UserError

SHOWN = 10  # names in a line; the rest is counted
SHORTEST = 0.025  # seconds: below, a wav2vec2-like encoder has no frame


@dataclass
class ClipFacts:
    clip_id: str
    split: str
    group: str | None
    arch_v1_split: str | None
    labels: tuple[int, ...]
    digest: bytes  # of the audio bytes
    seconds: float
    fault: str | None  # why the clip cannot be decoded


@dataclass
class Validation:
    """What was found: `faults` must be mended, `notes` should be known, `leakage` is reported when asked for."""

    corpus: Corpus
    path: Path
    clips: list[ClipFacts]
    class_names: list[str]
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    leakage: list[str] | None = None


def validate(corpus: Corpus, path: str | Path, *, num_proc: int = 1, leakage: bool = False) -> Validation:
    """Check the folder that `prepare` wrote against the corpus's specification.

    Raises:
        UserError: if there is no such folder, or it does not load.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(
            f"no folder {path}; make it with arch-hf prepare {corpus.name} --raw_dir FOLDER, or give --path"
        )
    try:
        dataset = load_dataset(str(path), streaming=True)
    except Exception as error:  # datasets raises many kinds; what each says is what the user needs
        raise UserError(f"{path} does not load: {str(error).splitlines()[0]}") from None
    features = next(iter(dataset.values())).features or {}
    column = "labels" if corpus.task == "multi_label" else "label"
    if missing := [name for name in ("audio", column, "clip_id", "group") if name not in features]:
        raise UserError(
            f"{path} has no column {', '.join(missing)} (there are: {', '.join(features)}); prepare it again"
        )
    label = features[column]
    label = label.feature if isinstance(label, List) else label
    if not isinstance(label, ClassLabel):
        raise UserError(f"{path}: the column {column} holds no classes; prepare it again")
    facts = read_facts(path)
    wrong = changed_shards(path, facts)
    try:
        clips = _examine(dataset, column, num_proc)
    except UserError as error:
        raise UserError("; ".join([*wrong, str(error)])) from None
    validation = Validation(corpus, path, clips, list(label.names), faults=wrong)
    _check_splits(validation, facts)
    _check_classes(validation, facts)
    _check_names(validation)
    _check_audio(validation)
    if leakage:
        validation.leakage = _leakage(validation)
    return validation


def _examine(dataset, column: str, num_proc: int) -> list[ClipFacts]:
    def rows():
        for split, part in dataset.items():
            for row in part.cast_column("audio", Audio(decode=False)):
                yield split, row

    def examine(item) -> ClipFacts:
        split, row = item
        audio, seconds, fault = row["audio"]["bytes"], 0.0, None
        try:
            samples, rate = decode(audio)
            seconds = len(samples) / rate
        except AudioError as error:
            fault = str(error)
        labels = tuple(row[column]) if column == "labels" else (row[column],)
        digest = hashlib.blake2b(audio, digest_size=16).digest()
        return ClipFacts(row["clip_id"], split, row["group"], row.get("arch_v1_split"), labels, digest, seconds, fault)

    try:
        return list(
            tqdm(parallel(examine, rows(), num_proc), desc="validate", unit="clip", disable=None, file=sys.stderr)
        )
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"a Parquet file cannot be read: {str(error).splitlines()[0]}; prepare the corpus again"
        ) from None


def _names(names, shown: int = SHOWN) -> str:
    names = [str(name) for name in names]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _check_splits(validation: Validation, facts: dict) -> None:
    counts = collections.Counter(clip.split for clip in validation.clips)
    excluded = collections.Counter(clip["split"] for clip in facts.get("excluded_clips", ()))
    missing = facts.get("missing_clips", ())
    known = [clip_id for clip_id in missing if clip_id in validation.corpus.known_missing]
    if absent := [split for split in validation.corpus.splits if split not in counts]:
        validation.faults.append(f"missing splits: {', '.join(absent)}")
    if strange := [split for split in counts if split not in validation.corpus.splits]:
        validation.faults.append(f"splits that {validation.corpus.name} does not have: {', '.join(strange)}")
    for split, expected in validation.corpus.splits.items():
        if split in counts and not expected - excluded[split] - len(known) <= counts[split] <= expected:
            validation.faults.append(f"{split} has {counts[split]} clips, the full corpus {expected - excluded[split]}")
    if known:
        validation.notes.append(f"not in the official archive: {_names(known)}")
    if lost := [clip_id for clip_id in missing if clip_id not in known]:
        validation.faults.append(f"{len(lost)} clips were missing when it was prepared: {_names(lost)}")
    if bad := facts.get("excluded_clips"):
        reasons = [f"{clip['clip_id']} ({clip['reason']})" for clip in bad]
        validation.notes.append(f"excluded: {_names(reasons)}")


def _check_classes(validation: Validation, facts: dict) -> None:
    if validation.corpus.classes and tuple(validation.class_names) != validation.corpus.classes:
        validation.faults.append(f"other classes than {validation.corpus.name}: {_names(validation.class_names)}")
        return
    counts = collections.Counter(label for clip in validation.clips for label in clip.labels)
    if empty := [name for i, name in enumerate(validation.class_names) if i not in counts]:
        validation.faults.append(f"classes without a clip: {_names(empty)}")
    spare = len(facts.get("excluded_clips", ()))  # a class may be short of the clips that are known to be bad
    sizes = enumerate(zip(validation.class_names, validation.corpus.class_clips, strict=False))
    if other := [f"{name} {counts[i]} of {n}" for i, (name, n) in sizes if not n - spare <= counts[i] <= n]:
        validation.faults.append(f"{len(other)} classes differ in size from the full corpus: {_names(other)}")
    if bare := [clip.clip_id for clip in validation.clips if not clip.labels or None in clip.labels]:
        validation.faults.append(f"{len(bare)} clips without a class: {_names(bare)}")


def _check_names(validation: Validation) -> None:
    counts = collections.Counter(clip.clip_id for clip in validation.clips)
    if twice := [clip_id for clip_id, n in counts.items() if n > 1]:
        validation.faults.append(f"{len(twice)} clip ids occur more than once: {_names(twice)}")
    groups = {clip.group for clip in validation.clips}
    if absent := [group for group in validation.corpus.groups if group not in groups]:
        validation.faults.append(
            f"missing speakers, {len(absent)} of {len(validation.corpus.groups)}: {_names(absent, 60)}"
        )


def _check_audio(validation: Validation) -> None:
    if bad := [clip for clip in validation.clips if clip.fault]:
        validation.faults.append(
            f"{len(bad)} clips cannot be decoded: {_names([f'{c.clip_id} ({c.fault})' for c in bad])}"
        )
    seconds = np.array([clip.seconds for clip in validation.clips if not clip.fault])
    if short := [clip.clip_id for clip in validation.clips if not clip.fault and clip.seconds < SHORTEST]:
        validation.notes.append(f"{len(short)} clips are shorter than {SHORTEST * 1000:.0f} ms: {_names(short)}")
    if longer := int((seconds > (validation.corpus.max_seconds or np.inf) + 0.01).sum()):
        validation.notes.append(
            f"{longer} clips are longer than {validation.corpus.max_seconds:g} s, where arch-v1 cuts them"
        )
    if (
        validation.corpus.table1
        and not validation.faults
        and abs(seconds.mean() - validation.corpus.table1[1]) > 0.02 * validation.corpus.table1[1]
    ):
        validation.notes.append(
            f"a clip lasts {seconds.mean():.2f} s on average, in the paper's Table 1 {validation.corpus.table1[1]:.2f} s"
        )
    same = [clips for clips in _alike(validation.clips) if len(clips) > 1]
    if same:
        pairs = [" = ".join(clip.clip_id for clip in clips) for clips in same]
        validation.notes.append(f"{len(same)} sets of clips are the same audio, byte for byte: {_names(pairs)}")


def _alike(clips: list[ClipFacts]) -> list[list[ClipFacts]]:
    by_digest = collections.defaultdict(list)
    for clip in clips:
        by_digest[clip.digest].append(clip)
    return list(by_digest.values())


def _leakage(validation: Validation) -> list[str]:
    """What is on both sides of a split. Official splits have some of it; that cannot be mended, only known."""
    lines = []
    for name, split_of in (("the splits", lambda c: c.split), ("the paper's splits", lambda c: c.arch_v1_split)):
        sides = collections.defaultdict(set)
        for clip in validation.clips:
            if clip.group is not None and split_of(clip) is not None:
                sides[clip.group].add(split_of(clip))
        if not sides:
            if name == "the splits":
                lines.append("groups: none are known")
            continue
        across = sorted(group for group, splits in sides.items() if len(splits) > 1)
        what = f"{len(across)} of {len(sides)} groups are on more than one side"
        lines.append(f"groups in {name}: {what + ': ' + _names(across) if across else 'none is on more than one side'}")
    copies = [clips for clips in _alike(validation.clips) if len({clip.split for clip in clips}) > 1]
    pairs = [" = ".join(f"{clip.clip_id} ({clip.split})" for clip in clips) for clips in copies]
    lines.append(f"the same audio in different splits: {f'{len(copies)} sets: {_names(pairs)}' if copies else 'none'}")
    return lines + _freesound(validation)


def _freesound(validation: Validation) -> list[str]:
    """Freesound ids that corpora made from Freesound share, for those prepared beside this one."""
    if validation.corpus.freesound_id is None:
        return []
    lines = []
    for name in CORPUS_NAMES:
        other = get_corpus(name)
        if name == validation.corpus.name or other.freesound_id is None:
            continue
        folder = validation.path.parent / name
        if not folder.is_dir():
            lines.append(f"Freesound ids shared with {name}: unknown, it is not prepared in {validation.path.parent}")
            continue
        dataset = load_dataset(str(folder), streaming=True)
        theirs = {
            row[other.freesound_id] for part in dataset.values() for row in part.select_columns(other.freesound_id)
        }
        shared = [clip for clip in validation.clips if getattr(clip, validation.corpus.freesound_id) in theirs]
        ids = {getattr(clip, validation.corpus.freesound_id) for clip in shared}
        what = (
            f"{len(ids)}, of {len(shared)} clips here: {_names(clip.clip_id for clip in shared)}" if shared else "none"
        )
        lines.append(f"Freesound ids shared with {name}: {what}")
    return lines


def report(validation: Validation) -> str:
    """A validation as text."""
    seconds = np.array([clip.seconds for clip in validation.clips if not clip.fault])
    counts = collections.Counter(clip.split for clip in validation.clips)
    sizes = collections.Counter(label for clip in validation.clips for label in clip.labels)
    expected = validation.corpus.splits
    lines = [
        f"{validation.corpus.title} in {validation.path}: {len(validation.clips)} clips, {seconds.sum() / 3600:.2f} h"
    ]
    if len(seconds):
        lines.append(f"seconds: {seconds.min():.2f} shortest, {seconds.mean():.2f} mean, {seconds.max():.2f} longest")
    lines.append("splits:  " + ", ".join(f"{name} {counts[name]} of {n}" for name, n in expected.items()))
    width = max(map(len, validation.class_names))
    lines.append(f"classes ({len(validation.class_names)}):")
    lines += [f"  {name:<{width}} {sizes[i]:>6}" for i, name in enumerate(validation.class_names)]
    lines += [f"note: {note}" for note in validation.notes]
    lines += [f"leakage: {line}" for line in validation.leakage or ()]
    lines += [f"wrong: {fault}" for fault in validation.faults]
    lines.append("not as specified" if validation.faults else "complete and as specified")
    return "\n".join(lines)
