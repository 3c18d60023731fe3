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
    found = Validation(corpus, path, clips, list(label.names), faults=wrong)
    _check_splits(found, facts)
    _check_classes(found, facts)
    _check_names(found)
    _check_audio(found)
    if leakage:
        found.leakage = _leakage(found)
    return found


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


def _check_splits(found: Validation, facts: dict) -> None:
    counts = collections.Counter(clip.split for clip in found.clips)
    excluded = collections.Counter(clip["split"] for clip in facts.get("excluded_clips", ()))
    missing = facts.get("missing_clips", ())
    known = [clip_id for clip_id in missing if clip_id in found.corpus.known_missing]
    if absent := [split for split in found.corpus.splits if split not in counts]:
        found.faults.append(f"missing splits: {', '.join(absent)}")
    if strange := [split for split in counts if split not in found.corpus.splits]:
        found.faults.append(f"splits that {found.corpus.name} does not have: {', '.join(strange)}")
    for split, expected in found.corpus.splits.items():
        if split in counts and not expected - excluded[split] - len(known) <= counts[split] <= expected:
            found.faults.append(f"{split} has {counts[split]} clips, the full corpus {expected - excluded[split]}")
    if known:
        found.notes.append(f"not in the official archive: {_names(known)}")
    if lost := [clip_id for clip_id in missing if clip_id not in known]:
        found.faults.append(f"{len(lost)} clips were missing when it was prepared: {_names(lost)}")
    if bad := facts.get("excluded_clips"):
        reasons = [f"{clip['clip_id']} ({clip['reason']})" for clip in bad]
        found.notes.append(f"excluded: {_names(reasons)}")


def _check_classes(found: Validation, facts: dict) -> None:
    if found.corpus.classes and tuple(found.class_names) != found.corpus.classes:
        found.faults.append(f"other classes than {found.corpus.name}: {_names(found.class_names)}")
        return
    counts = collections.Counter(label for clip in found.clips for label in clip.labels)
    if empty := [name for i, name in enumerate(found.class_names) if i not in counts]:
        found.faults.append(f"classes without a clip: {_names(empty)}")
    spare = len(facts.get("excluded_clips", ()))  # a class may be short of the clips that are known to be bad
    sizes = enumerate(zip(found.class_names, found.corpus.class_clips, strict=False))
    if other := [f"{name} {counts[i]} of {n}" for i, (name, n) in sizes if not n - spare <= counts[i] <= n]:
        found.faults.append(f"{len(other)} classes differ in size from the full corpus: {_names(other)}")
    if bare := [clip.clip_id for clip in found.clips if not clip.labels or None in clip.labels]:
        found.faults.append(f"{len(bare)} clips without a class: {_names(bare)}")


def _check_names(found: Validation) -> None:
    counts = collections.Counter(clip.clip_id for clip in found.clips)
    if twice := [clip_id for clip_id, n in counts.items() if n > 1]:
        found.faults.append(f"{len(twice)} clip ids occur more than once: {_names(twice)}")
    groups = {clip.group for clip in found.clips}
    if absent := [group for group in found.corpus.groups if group not in groups]:
        found.faults.append(f"missing speakers, {len(absent)} of {len(found.corpus.groups)}: {_names(absent, 60)}")


def _check_audio(found: Validation) -> None:
    if bad := [clip for clip in found.clips if clip.fault]:
        found.faults.append(f"{len(bad)} clips cannot be decoded: {_names([f'{c.clip_id} ({c.fault})' for c in bad])}")
    seconds = np.array([clip.seconds for clip in found.clips if not clip.fault])
    if short := [clip.clip_id for clip in found.clips if not clip.fault and clip.seconds < SHORTEST]:
        found.notes.append(f"{len(short)} clips are shorter than {SHORTEST * 1000:.0f} ms: {_names(short)}")
    if longer := int((seconds > found.corpus.max_seconds + 0.01).sum()):
        found.notes.append(f"{longer} clips are longer than {found.corpus.max_seconds:g} s, where arch-v1 cuts them")
    if (
        found.corpus.table1
        and not found.faults
        and abs(seconds.mean() - found.corpus.table1[1]) > 0.02 * found.corpus.table1[1]
    ):
        found.notes.append(
            f"a clip lasts {seconds.mean():.2f} s on average, in the paper's Table 1 {found.corpus.table1[1]:.2f} s"
        )
    same = [clips for clips in _alike(found.clips) if len(clips) > 1]
    if same:
        pairs = [" = ".join(clip.clip_id for clip in clips) for clips in same]
        found.notes.append(f"{len(same)} sets of clips are the same audio, byte for byte: {_names(pairs)}")


def _alike(clips: list[ClipFacts]) -> list[list[ClipFacts]]:
    by_digest = collections.defaultdict(list)
    for clip in clips:
        by_digest[clip.digest].append(clip)
    return list(by_digest.values())


def _leakage(found: Validation) -> list[str]:
    """What is on both sides of a split. Official splits have some of it; that cannot be mended, only known."""
    lines = []
    for name, split_of in (("the splits", lambda c: c.split), ("the paper's splits", lambda c: c.arch_v1_split)):
        sides = collections.defaultdict(set)
        for clip in found.clips:
            if clip.group is not None and split_of(clip) is not None:
                sides[clip.group].add(split_of(clip))
        if not sides:
            if name == "the splits":
                lines.append("groups: none are known")
            continue
        across = sorted(group for group, splits in sides.items() if len(splits) > 1)
        what = f"{len(across)} of {len(sides)} groups are on more than one side"
        lines.append(f"groups in {name}: {what + ': ' + _names(across) if across else 'none is on more than one side'}")
    across = [clips for clips in _alike(found.clips) if len({clip.split for clip in clips}) > 1]
    pairs = [" = ".join(f"{clip.clip_id} ({clip.split})" for clip in clips) for clips in across]
    lines.append(f"the same audio in different splits: {f'{len(across)} sets: {_names(pairs)}' if across else 'none'}")
    return lines + _freesound(found)


def _freesound(found: Validation) -> list[str]:
    """Freesound ids that corpora made from Freesound share, for those prepared beside this one."""
    if found.corpus.freesound_id is None:
        return []
    lines = []
    for name in CORPUS_NAMES:
        other = get_corpus(name)
        if name == found.corpus.name or other.freesound_id is None:
            continue
        folder = found.path.parent / name
        if not folder.is_dir():
            lines.append(f"Freesound ids shared with {name}: unknown, it is not prepared in {found.path.parent}")
            continue
        dataset = load_dataset(str(folder), streaming=True)
        theirs = {
            row[other.freesound_id] for part in dataset.values() for row in part.select_columns(other.freesound_id)
        }
        shared = [clip for clip in found.clips if getattr(clip, found.corpus.freesound_id) in theirs]
        ids = {getattr(clip, found.corpus.freesound_id) for clip in shared}
        what = (
            f"{len(ids)}, of {len(shared)} clips here: {_names(clip.clip_id for clip in shared)}" if shared else "none"
        )
        lines.append(f"Freesound ids shared with {name}: {what}")
    return lines


def report(found: Validation) -> str:
    """A validation as text."""
    seconds = np.array([clip.seconds for clip in found.clips if not clip.fault])
    counts = collections.Counter(clip.split for clip in found.clips)
    sizes = collections.Counter(label for clip in found.clips for label in clip.labels)
    expected = found.corpus.splits
    lines = [f"{found.corpus.title} in {found.path}: {len(found.clips)} clips, {seconds.sum() / 3600:.2f} h"]
    if len(seconds):
        lines.append(f"seconds: {seconds.min():.2f} shortest, {seconds.mean():.2f} mean, {seconds.max():.2f} longest")
    lines.append("splits:  " + ", ".join(f"{name} {counts[name]} of {n}" for name, n in expected.items()))
    width = max(map(len, found.class_names))
    lines.append(f"classes ({len(found.class_names)}):")
    lines += [f"  {name:<{width}} {sizes[i]:>6}" for i, name in enumerate(found.class_names)]
    lines += [f"note: {note}" for note in found.notes]
    lines += [f"leakage: {line}" for line in found.leakage or ()]
    lines += [f"wrong: {fault}" for fault in found.faults]
    lines.append("not as specified" if found.faults else "complete and as specified")
    return "\n".join(lines)
