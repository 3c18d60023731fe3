"""A run on disk: begun, or gone on with. `run.json` holds what defines it, what steers it, and its history."""

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arch_hf.errors import AudioError, UserError
from arch_hf.files import write_atomically
from arch_hf.pretraining import checkpoints, shards, sources
from arch_hf.pretraining.batching import read_clip
from arch_hf.pretraining.clips import INDEX, Clip, Clips, fingerprint_of, write_index
from arch_hf.pretraining.kmeans import CENTROIDS
from arch_hf.pretraining.labels import FOLDER as TARGETS
from arch_hf.pretraining.options import DEFINING, STEERING, Options, Settings, advice, overrides_of, recipe_of
from arch_hf.pretraining.prepare_audio import Source, prepare_audio
from arch_hf.pretraining.recipes import SAMPLING_RATE, Recipe, override
from arch_hf.pretraining.records import Skipped
from arch_hf.pretraining.targets import LayerFrames
from arch_hf.terminal import say

RECORD, NEW_INDEX = "run.json", ".clips.new.arrow"


@dataclass
class Run:
    """What all processes know of a run before it begins."""

    recipe: Recipe
    settings: Settings
    audio: list[str]  # as it was named
    out: Path
    indices: list[Path]  # of the audio to train on
    valid: list[Path] | None  # of the held-out audio
    checkpoint: int | None  # the step to go on from


def open_run(options: Options, start: dict) -> Run:
    """On the main process: begin a run in the output folder, or find out how to go on with the one that is there.

    `start` says on what it runs ("processes", "mixed_precision", …), for the history.

    Raises:
        UserError: if the folder holds a run and `--resume` is not given, what defines the run has changed, or no clip can be used.
    """
    options.check()
    out = Path(options.output_dir)
    before = _read(out)
    found = checkpoints.checkpoint_steps(out)
    going_on = bool(before and found)
    if found and before is None:  # of arch-hf 0.1, or without their record
        raise UserError(
            f"{out} holds checkpoints without a {RECORD} that this version reads: give another --output_dir"
        )
    if reason := checkpoints.none_whole(out):
        raise UserError(reason)
    if not going_on and (out / "config.json").exists():
        raise UserError(f"{out} already holds a model: give another --output_dir")
    if going_on and not options.resume:
        raise UserError(
            f"{out} holds a run of {list(found)[-1]} steps: add --resume to go on with it, or give another --output_dir"
        )
    record: dict = before if before and going_on else {"configuration": {}, "steering": {}, "history": []}
    settings = options.settings({**record["configuration"], **record["steering"]})
    if options.valid_every is not None and not (settings.valid or settings.probe):
        raise UserError("--valid_every goes with --valid or --probe: there is nothing to measure")
    recipe = _recipe_before(record, options) if going_on else recipe_of(options)
    if recipe.target_layer:  # before anything is written: what cannot be read, or has no such layer, is refused
        LayerFrames(str(settings.targets_from), recipe.target_layer)
    if not going_on:
        _clear(out)
    indices, skipped = _find_audio(options, recipe, record["steering"].get("audio"))
    now = _configuration(recipe, settings, indices)
    _compare(out, record["configuration"] if going_on else now, now)
    if indices == [out / NEW_INDEX]:  # only now: a run that is refused keeps its own
        indices = [(out / NEW_INDEX).replace(out / INDEX)]
    Skipped(out, True).add(skipped)
    valid = _find_valid(settings.valid, recipe, indices, out) if settings.valid else None
    step = checkpoints.newest_whole(out, lambda event: record["history"].append(event)) if going_on else None
    if step is not None and recipe.max_steps < step:
        raise UserError(f"--max_steps {recipe.max_steps}: {out} has {step} steps behind it already")
    steering = _steering(recipe, settings, options.audio) | start
    changed = {
        name: [record["steering"].get(name), value]
        for name, value in steering.items()
        if going_on and record["steering"].get(name) != value
    }
    record["history"].append(
        {"step": step or 0, "event": "resumed" if going_on else "begun", "changed": changed, **start}
    )
    record |= {"configuration": now, "steering": steering}
    _write(out, record)
    for text in advice(recipe):
        say(f"note: {text}")
    return Run(recipe, settings, options.audio, out, indices, valid, step)


def add_event(out: Path, event: dict) -> None:
    """Add to a run's history."""
    record = _read(out) or {"configuration": {}, "steering": {}, "history": []}
    record["history"].append(event)
    _write(out, record)


def history(out: Path) -> list[dict]:
    return (_read(out) or {"history": []})["history"]


def _read(out: Path) -> dict | None:
    path = out / RECORD
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return (
            record if isinstance(record, dict) and {"configuration", "steering", "history"} <= record.keys() else None
        )
    except ValueError:
        raise UserError(f"{path} cannot be read: it is no JSON") from None


def _write(out: Path, record: dict) -> None:
    write_atomically(out / RECORD, (json.dumps(record, indent=2) + "\n").encode())


def _clear(out: Path) -> None:
    """Remove what a run left behind that never came to a checkpoint."""
    for name in ("skipped.jsonl", "skipped_steps.jsonl", "metrics.jsonl", "train.log", INDEX, CENTROIDS):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / TARGETS, ignore_errors=True)


def _plain(values: Recipe | Settings) -> dict:
    """As JSON gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(values)))


def _recipe_before(record: dict, options: Options) -> Recipe:
    """The recipe that a run was begun with, with what is told anew: what defines the model may only be repeated."""
    values = {**record["configuration"], **record["steering"]}
    if (values["objective"], values["size"]) != (options.objective, options.size):
        raise UserError(
            f"--resume: {options.output_dir} was begun with --objective {values['objective']} --size {values['size']}"
        )
    fields = {field.name for field in dataclasses.fields(Recipe)}
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in fields}
    recipe = override(Recipe(**values), overrides_of(options))
    if options.targets_from and not recipe.target_layer:
        raise UserError(
            f"--resume: {options.output_dir} was begun with MFCC targets; --targets_from begins another run, in another --output_dir"
        )
    return recipe


def _configuration(recipe: Recipe, settings: Settings, indices: list[Path]) -> dict:
    """What defines a run."""
    numbers = {name: value for name, value in _plain(recipe).items() if name not in STEERING}
    flags = {name: getattr(settings, name) for name in DEFINING}
    return {**numbers, "clips": Clips(indices).fingerprint, **flags}


def _steering(recipe: Recipe, settings: Settings, audio: list[str]) -> dict:
    """What may change as it goes."""
    numbers = {name: value for name, value in _plain(recipe).items() if name in STEERING}
    flags = {name: value for name, value in _plain(settings).items() if name not in DEFINING}
    return {**numbers, **flags, "audio": [_absolute(name) for name in audio]}


def _absolute(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).exists() else name


def _compare(out: Path, before: dict, now: dict) -> None:
    changed = [name for name in now if before.get(name) != now[name] and name != "source"]
    if "clips" in changed:
        raise UserError(
            f"--resume: {out} was begun with other clips than --audio now has; where they lie may change, what they are may not"
        )
    if changed:
        told = "; ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in changed)
        raise UserError(
            f"--resume: {out} was begun with another configuration: {told}. What steers it may change ({', '.join(STEERING)}), what defines it may not"
        )


def _find_audio(options: Options, recipe: Recipe, before: list[str] | None) -> tuple[list[Path], list[tuple[str, str]]]:
    """The indices of the audio to train on, and (name, reason) of what cannot be used: prepared folders, a dataset, which is prepared first,
    or files as they lie, which are looked at first."""
    out, audio = Path(options.output_dir), options.audio
    prepared = [Path(name) for name in audio if shards.read_manifest(Path(name))]
    if prepared and len(prepared) < len(audio):
        raise UserError(f"--audio: {prepared[0]} is prepared audio, and the others are not: prepare them too")
    for flag in ("segments", "audio_config", "audio_split"):
        if prepared and getattr(options, flag):
            raise UserError(f"--{flag} goes with arch-hf prepare-audio when the audio is prepared")
    if prepared:
        return prepared, _short_ones(Clips(prepared), recipe)
    if sources.is_dataset(audio):
        if options.segments:
            raise UserError("--segments goes with folders of clips, not with a dataset")
        folder = out / "audio"
        told = options.audio_config or options.audio_split
        if not told and before == [_absolute(name) for name in audio] and shards.read_manifest(folder):
            return [folder], []
        say(
            f"{audio[0]} is prepared into {folder} first; arch-hf prepare-audio does so beforehand, for any number of runs"
        )
        prepare_audio(Source((audio[0],), options.audio_config, options.audio_split), folder)
        return [folder], _short_ones(Clips([folder]), recipe)
    if options.audio_config or options.audio_split:
        raise UserError("--audio_config and --audio_split go with a dataset, not with files")
    if not options.segments and before == [_absolute(name) for name in audio] and (out / INDEX).exists():
        return [out / INDEX], []
    return [out / NEW_INDEX], index_folders(audio, recipe.min_seconds, out / NEW_INDEX, options.segments)


def index_folders(
    folders: list[str], min_seconds: float, path: Path, segments: list[str] | None = None
) -> list[tuple[str, str]]:
    """Look at all files under folders and write their index → (name, reason) of those that cannot be used.

    Raises:
        UserError: if there is none, or none can be used.
    """
    files, skipped = sources.find_files(folders, segments)
    measured = sources.measure([file for file, _ in files], min_seconds)
    clips = []
    for (file, name), seconds in zip(files, measured, strict=True):
        if isinstance(seconds, str):
            skipped.append((file, seconds))
        else:
            clips.append(Clip(name, file, -1, 0, round(seconds * SAMPLING_RATE)))
    if not clips:
        raise UserError(sources.nothing_usable(len(files), [reason for _, reason in skipped], min_seconds))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_index(path, clips, fingerprint_of((clip.name, clip.samples) for clip in clips))
    return skipped


def _short_ones(clips: Clips, recipe: Recipe) -> list[tuple[str, str]]:
    """The prepared clips that are too short for a recipe.

    Raises:
        UserError: if that is all of them.
    """
    short = (clips.samples < round(recipe.min_seconds * SAMPLING_RATE)).nonzero()[0]
    reasons = [
        (clips[int(i)].name, sources.too_short(clips.samples[i] / SAMPLING_RATE, recipe.min_seconds)) for i in short
    ]
    if len(short) == len(clips):
        raise UserError(sources.nothing_usable(len(clips), [reason for _, reason in reasons], recipe.min_seconds))
    return reasons


def _find_valid(names: list[str], recipe: Recipe, training: list[Path], out: Path) -> list[Path]:
    """The indices of the held-out audio: prepared folders, or files."""
    prepared = [Path(name) for name in names if shards.read_manifest(Path(name))]
    if prepared and len(prepared) < len(names):
        raise UserError(f"--valid: {prepared[0]} is prepared audio, and the others are not: prepare them too")
    indices = prepared or [out / "valid.arrow"]
    skipped = _short_ones(Clips(indices), recipe) if prepared else index_folders(names, recipe.min_seconds, indices[0])
    if skipped:
        name, reason = skipped[0]
        say(f"note: {len(skipped)} held-out clips cannot be used, the first: {name} ({reason})")
    held_out, trained = Clips(indices), Clips(training)
    both = _in_both(held_out, trained)
    if both or held_out.fingerprint == trained.fingerprint:
        raise UserError(
            f"--valid {' '.join(names)}: {both or len(held_out)} of its clips are in --audio too, so they are not held out"
        )
    return indices


def _in_both(held_out: Clips, trained: Clips) -> int:
    """How many held-out clips are trained on too: lying in the same place, or copied or prepared under the same file name."""
    named: dict[str, list[Clip]] = {}
    for clip in map(held_out.__getitem__, range(len(held_out))):
        named.setdefault(os.path.basename(clip.name), []).append(clip)
    both = set()
    for clip in map(trained.__getitem__, range(len(trained))):
        for other in named.get(os.path.basename(clip.name), ()):
            if other not in both and _same_sound(held_out, other, trained, clip):
                both.add(other)
    return len(both)


def _same_sound(clips: Clips, clip: Clip, others: Clips, other: Clip) -> bool:
    if (clip.file, clip.offset) == (other.file, other.offset):
        return True
    if abs(clip.samples - other.samples) > 1:  # a header's length may be one off after resampling
        return False
    try:
        one, two = read_clip(clips, clip), read_clip(others, other)
    except AudioError:
        return False
    return len(one) == len(two) and bool(np.abs(one - two).max(initial=0) <= 1 / 32768)  # shards hold 16 bits
