"""Three corpora that the package makes itself, one per domain, to try everything without a download.

They are deterministic, take a second to make and are built to be neither trivial nor hopeless: some classes differ in their
spectrum, which averages of a spectrogram tell apart, others only in the order of events in time, which they do not. Everything is
drowned in noise of a random level. They measure nothing about real audio; no score on them is worth publishing.
"""

import functools
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Audio, ClassLabel, Dataset, DatasetDict, DatasetInfo, Features, List, Value

from arch_hf.audio import encode_wav
from arch_hf.data.spec import Corpus

RATE = 16_000
SECONDS = 1.0
N = int(RATE * SECONDS)
TIME = np.arange(N) / RATE
SINES = np.sin(2 * np.pi * np.outer(np.arange(1, 36), np.arange(4096) / 4096))  # one period of each of 35 harmonics
EVENTS = ("beeps", "chirp_down", "chirp_up", "hum", "knock_once", "knock_twice", "rain", "siren")
INSTRUMENTS = ("bell", "flute", "organ", "pluck", "reed", "snare")
VOWELS = {"a": (800, 1250, 2600), "i": (300, 2250, 3000), "o": (450, 800, 2500), "e": (500, 1800, 2500)}
WORDS = ("a", "ai", "ao", "e", "eo", "i", "ia", "o", "oa", "oe")


def _noise(rng: np.random.Generator, colour: float) -> np.ndarray:
    """Noise [N] of unit power whose spectrum falls with frequency to the power `colour`."""
    spectrum = np.fft.rfft(rng.standard_normal(N))
    noise = np.fft.irfft(spectrum * np.maximum(np.arange(len(spectrum)), 20.0) ** -colour, N)
    return noise / noise.std()


def _mix(rng: np.random.Generator, sound: np.ndarray, snr_db: tuple[float, float]) -> bytes:
    """The sound at a random level, in noise of a random colour and level, as WAV bytes."""
    noise = _noise(rng, rng.uniform(0.0, 1.0)) * 10 ** (-rng.uniform(*snr_db) / 20)
    mixed = sound / max(sound.std(), 1e-9) + noise
    return encode_wav((mixed / np.abs(mixed).max() * rng.uniform(0.1, 0.9)).astype(np.float32), RATE)


def _tone(frequency: np.ndarray | float, harmonics: tuple[float, ...] = (1.0,)) -> np.ndarray:
    """A tone [N] of a frequency in Hz that may move, with its harmonics' amplitudes."""
    period = np.asarray(harmonics) @ SINES[: len(harmonics)]
    position = np.cumsum(np.broadcast_to(frequency, N)) * (len(period) / RATE)
    return period[position.astype(np.int64) % len(period)]


def _decay(onset: float, rate: float) -> np.ndarray:
    """An envelope [N]: nothing before `onset` seconds, then an exponential fall at `rate` per second."""
    return np.where(onset <= TIME, np.exp(-rate * np.clip(TIME - onset, 0, None)), 0.0)


def _event(kind: str, rng: np.random.Generator, pitch: float) -> np.ndarray:
    start = rng.uniform(0.05, 0.3)
    if kind in ("chirp_up", "chirp_down"):
        position = TIME if kind == "chirp_up" else TIME[::-1]
        return _tone(pitch * 2.0 ** (1.5 * position), (1.0, 0.3))
    if kind == "siren":
        return _tone(pitch * 2.0 ** (0.75 + 0.75 * np.sin(2 * np.pi * rng.uniform(1.5, 3) * TIME)), (1.0, 0.3))
    if kind == "beeps":
        return _tone(pitch * 2, (1.0, 0.3)) * (np.sin(2 * np.pi * rng.uniform(2, 5) * TIME) > 0)
    if kind == "hum":
        return _tone(pitch / 3, (1.0, 0.7, 0.5, 0.3, 0.2))
    if kind == "rain":
        drops = np.zeros(N)
        drops[rng.integers(0, N, 60)] = rng.uniform(0.3, 1.0, 60)
        return np.convolve(drops, np.exp(-np.arange(400) / 60) * np.sin(np.arange(400) * pitch / 500))[:N]
    knock = _noise(rng, 0.6) * _decay(start, 40.0)
    return knock if kind == "knock_once" else knock + _noise(rng, 0.6) * _decay(start + rng.uniform(0.15, 0.4), 40.0)


def _play(instrument: str, rng: np.random.Generator) -> np.ndarray:
    """Two to four notes of one instrument."""
    sound = np.zeros(N)
    for onset in np.sort(rng.uniform(0, 0.8, rng.integers(2, 5))):
        pitch = 220.0 * 2 ** (rng.integers(0, 18) / 12)
        if instrument == "bell":
            note = (_tone(pitch * 2) + 0.6 * _tone(pitch * 5.4) + 0.4 * _tone(pitch * 8.9)) * _decay(onset, 5.0)
        elif instrument == "flute":
            note = _tone(pitch * (1 + 0.01 * np.sin(2 * np.pi * 5 * TIME)), (1.0, 0.1)) * _decay(onset, 2.0)
        elif instrument == "organ":
            note = _tone(pitch, (1.0, 0.8, 0.0, 0.6, 0.0, 0.0, 0.0, 0.4)) * _decay(onset, 1.0)
        elif instrument == "pluck":
            note = _tone(pitch, (1.0, 0.5, 0.33, 0.25, 0.2)) * _decay(onset, 12.0)
        elif instrument == "reed":
            note = _tone(pitch, (1.0, 0.0, 0.8, 0.0, 0.6, 0.0, 0.4)) * _decay(onset, 2.0)
        else:
            note = _noise(rng, 0.0) * _decay(onset, 25.0)
        sound += note
    return sound / sound.std()


def _say(word: str, rng: np.random.Generator, pitch: float, tract: float) -> np.ndarray:
    """One vowel fading into another, by a speaker with this pitch in Hz and this length of the vocal tract (1: average)."""
    fade = 1 / (1 + np.exp(-(TIME - rng.uniform(0.4, 0.6)) * 25))
    fundamental = pitch * (1 + 0.15 * rng.uniform(-1, 1) * TIME)
    frequencies = pitch * np.arange(1, 36)
    vowels = []
    for vowel in (word[0], word[-1]):
        formants = zip(VOWELS[vowel], (80, 120, 180), (1, 0.6, 0.3), strict=True)
        gains: Any = sum(weight / (1 + ((frequencies - f / tract) / width) ** 2) for f, width, weight in formants)
        vowels.append(_tone(fundamental, tuple(gains)))
    sound = vowels[0] * (1 - fade) + vowels[1] * fade
    return sound * np.clip(np.minimum(TIME, SECONDS - TIME) * 12, 0, 1)


def _events() -> dict[str, list[dict]]:
    """Five folds; a recording (one pitch) gives two clips of a class and stays in one fold."""
    splits: dict[str, list[dict]] = {}
    for fold in range(5):
        rows = splits[f"fold_{fold + 1}"] = []
        for label in range(len(EVENTS)):
            for recording in range(3):
                group = f"r{fold}{label}{recording}"
                pitch = np.random.default_rng([1, fold, label, recording]).uniform(250, 700)
                for take in range(2):
                    rng = np.random.default_rng([2, fold, label, recording, take])
                    audio = _mix(rng, _event(EVENTS[label], rng, pitch), (-8, 8))
                    rows.append({"audio": audio, "clip_id": f"{group}-{take}", "group": group, "label": label})
    return splits


def _music() -> dict[str, list[dict]]:
    splits: dict[str, list[dict]] = {}
    for number, (split, size) in enumerate(_SIZES["synthetic_music"].items()):
        rows = splits[split] = []
        for i in range(size):
            rng = np.random.default_rng([3, number, i])
            labels = sorted(rng.choice(len(INSTRUMENTS), size=rng.integers(1, 4), replace=False).tolist())
            sound: Any = sum(_play(INSTRUMENTS[label], rng) * rng.uniform(0.4, 1.0) for label in labels)
            name = f"{split}-{i:03d}"
            rows.append({"audio": _mix(rng, sound, (-3, 12)), "clip_id": name, "group": name, "labels": labels})
    return splits


def _speech() -> dict[str, list[dict]]:
    """Speakers, twelve of them, say every word twice; no speaker is in two splits."""
    splits: dict[str, list[dict]] = {split: [] for split in _SIZES["synthetic_speech"]}
    for speaker in range(12):
        rng = np.random.default_rng([4, speaker])
        pitch, tract = rng.uniform(100, 240), rng.uniform(0.85, 1.15)
        split = "train" if speaker < 7 else "validation" if speaker < 9 else "test"
        for label, word in enumerate(WORDS):
            for take in range(2):
                rng = np.random.default_rng([5, speaker, label, take])
                audio = _mix(rng, _say(word, rng, pitch, tract), (-6, 10))
                row = {"clip_id": f"s{speaker:02d}-{word}-{take}", "group": f"s{speaker:02d}", "label": label}
                splits[split].append({"audio": audio, **row})
    return splits


_SIZES = {
    "synthetic_events": {f"fold_{i}": 48 for i in range(1, 6)},
    "synthetic_music": {"train": 150, "validation": 40, "test": 60},
    "synthetic_speech": {"train": 140, "validation": 40, "test": 60},
}


def _corpus(name: str, domain: Any, classes: tuple[str, ...], task: Any = "single_label") -> Corpus:
    return Corpus(
        name=name,
        title=name.replace("_", " ").capitalize(),
        domain=domain,
        task=task,
        classes=classes,
        splits=_SIZES[name],
        max_seconds=SECONDS,
        licence="cc0-1.0",
        citation="",
        homepage="",
        read=None,
        notes=("Made by the package; no score on it is worth publishing.",),
    )


CORPORA = {
    "synthetic_events": _corpus("synthetic_events", "events", EVENTS),
    "synthetic_music": _corpus("synthetic_music", "music", INSTRUMENTS, "multi_label"),
    "synthetic_speech": _corpus("synthetic_speech", "speech", WORDS),
}
_GENERATORS = {"synthetic_events": _events, "synthetic_music": _music, "synthetic_speech": _speech}


@functools.cache
def generate(name: str) -> DatasetDict:
    """The splits of a synthetic corpus, in memory: about 8 MB.

    Examples:
        >>> generate("synthetic_speech")["test"].num_rows
        60
    """
    corpus = CORPORA[name]
    label = ClassLabel(names=list(corpus.classes))
    features = Features(
        {
            "audio": Audio(),
            **({"labels": List(label)} if corpus.task == "multi_label" else {"label": label}),
            "clip_id": Value("string"),
            "group": Value("string"),
        }
    )
    splits = {}
    for split, rows in _GENERATORS[name]().items():
        rows = [{**row, "audio": {"bytes": row["audio"], "path": f"{row['clip_id']}.wav"}} for row in rows]
        table = pa.Table.from_pylist(rows, features.arrow_schema)
        fingerprint = f"{name}-{split}-{corpus.version}"
        splits[split] = Dataset(table, info=DatasetInfo(features=features), fingerprint=fingerprint)
    return DatasetDict(splits)
