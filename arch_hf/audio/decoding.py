"""From a clip's bytes to mono samples: all of them, or only as many as are used."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from arch_hf.audio.compressed import flac, ogg
from arch_hf.audio.containers import reader_of
from arch_hf.audio.foreign import what_it_is
from arch_hf.audio.mp3 import id3_length, is_mpeg, mpeg
from arch_hf.audio.parts import Part, Source, as_file
from arch_hf.audio.resampling import RESAMPLER_QUALITY, resample, samples_needed
from arch_hf.errors import AudioError

# The name of the samples that come out: it changes when they do, and only then.
DECODER = f"soundfile-mono-mean+soxr-{RESAMPLER_QUALITY}-3"

_RATES = 100, 10_000_000  # Hz; beyond, a header is wrong, and resampling would take gigabytes
_MOST_CHANNELS = 64  # the largest arrays of microphones; beyond, a header is wrong
_BLOCK_SAMPLES = 1 << 22  # decoded at a time, all channels together


@dataclass(frozen=True)
class AudioInfo:
    """What a clip holds: `frames` per channel, `sampling_rate` in Hz, `channels`, and `seconds`."""

    frames: int
    sampling_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.frames / self.sampling_rate


class _Forward(soundfile.SoundFile):
    """A sound file read from its beginning on. soundfile would seek after each block, which some decoders do not survive to the last bit."""

    def seekable(self) -> bool:
        return False


def _parts(source: Source, thorough: bool) -> list[Part]:
    """The stretches of a file that are audio; `thorough` looks at checksums too.

    Raises:
        AudioError: if it is no audio, truncated or damaged.
    """
    start, head = 0, source.at(0, 512)
    if head[:3] == b"ID3":
        start = id3_length(head) if len(head) >= 10 else 0
        head = source.at(start, 512)
        if not head:
            raise AudioError("truncated: the file ends with its ID3 tag")
    if reader := reader_of(head):
        try:
            return [reader(source, start)]
        except struct.error:  # a field that the file is too short for, or a size that does not fit into one
            raise AudioError("damaged: its header does not fit to the file") from None
    if head[:4] == b"fLaC":
        return flac(source, start, thorough)
    if head[:4] == b"OggS":
        return ogg(source, start, thorough)
    if is_mpeg(head):
        return mpeg(source, start, thorough)
    what = what_it_is(head)
    raise AudioError(f"not audio but {what}" if what else "not audio that libsndfile can read")


def begins_as_audio(path: Path) -> bool:
    """Whether a file begins as one of the containers that are read, whatever it is called."""
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError:
        return False
    return head[:3] == b"ID3" or head[:4] in (b"fLaC", b"OggS") or bool(reader_of(head)) or is_mpeg(head)


@contextmanager
def _opened(source: Source, part: Part) -> Iterator[_Forward]:
    try:
        file = _Forward(as_file(source, part))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"not audio that libsndfile can read ({_reason(error)})") from None
    with file:
        if not _RATES[0] <= file.samplerate <= _RATES[1]:
            raise AudioError(f"claims a sampling rate of {file.samplerate} Hz")
        if file.channels > _MOST_CHANNELS:
            raise AudioError(f"claims {file.channels} channels")
        yield file


def _reason(error: soundfile.LibsndfileError) -> str:
    return error.error_string.removeprefix("Error : ").rstrip(".")


def audio_info(source: bytes | str | Path) -> AudioInfo:
    """What a clip holds, without decoding it, but for one that does not end as it should.

    Raises:
        AudioError: if the file is missing, empty, truncated or no audio.

    Examples:
        >>> from arch_hf.audio import encode_wav
        >>> audio_info(encode_wav(np.zeros(8000, np.float32), 16000))
        AudioInfo(frames=8000, sampling_rate=16000, channels=1)
    """
    with Source(source) as opened:
        infos = [_info(opened, part) for part in _parts(opened, thorough=False)]
    frames = sum(info.frames for info in infos)
    return AudioInfo(frames, infos[0].sampling_rate, infos[0].channels)


def _info(source: Source, part: Part) -> AudioInfo:
    with _opened(source, part) as file:
        if part.suspect:
            _read(file, part, None)
        frames = part.frames if part.frames is not None else file.frames
        return AudioInfo(frames, file.samplerate, file.channels)


def decode(source: bytes | str | Path, max_samples: int | None = None) -> tuple[np.ndarray, int]:
    """Decode a clip to mono: float32 of shape [samples], nominally in [-1, 1], and its own rate in Hz.

    Channels are averaged. The values are as stored: nothing is normalised or clipped. With `max_samples`, only so many are decoded from
    the beginning, and whether the rest is whole is seen by the container alone.

    Raises:
        AudioError: if the file is missing, empty, truncated, damaged, no audio, or holds a value that is not finite.

    Examples:
        >>> from arch_hf.audio import encode_wav
        >>> samples, rate = decode(encode_wav(np.ones((8000, 2), np.float32) * [0.5, -0.5], 16000))
        >>> samples.shape, rate, float(abs(samples).max())
        ((8000,), 16000, 0.0)
        >>> decode(encode_wav(np.zeros(8000, np.float32), 16000), max_samples=100)[0].shape
        (100,)
    """
    samples, rate = _decode(source, lambda _: max_samples)
    return samples, rate


def load_audio(source: bytes | str | Path, sampling_rate: int, max_seconds: float | None = None) -> np.ndarray:
    """Decode a clip to mono float32 [samples] at `sampling_rate` Hz.

    With `max_seconds` it is cut there: the samples are those of the whole clip to the last bit, and what lies behind them is not decoded.

    Raises:
        AudioError: see `decode`; also if the clip is too short to give one sample at that rate.

    Examples:
        >>> from arch_hf.audio import encode_wav
        >>> load_audio(encode_wav(np.zeros(44100, np.float32), 44100), 16000).shape
        (16000,)
        >>> load_audio(encode_wav(np.zeros(44100, np.float32), 44100), 16000, max_seconds=0.25).shape
        (4000,)
    """
    n_out = None if max_seconds is None else round(max_seconds * sampling_rate)
    samples, rate = _decode(source, lambda rate: None if n_out is None else samples_needed(n_out, rate, sampling_rate))
    samples = resample(samples, rate, sampling_rate)[:n_out]
    if len(samples) == 0:
        raise AudioError(f"too short: no sample left at {sampling_rate} Hz")
    return samples


def _decode(source: bytes | str | Path, wanted: Callable[[int], int | None]) -> tuple[np.ndarray, int]:
    """Mono samples and their rate; `wanted(rate)` says how many at most."""
    with Source(source) as opened:
        pieces: list[np.ndarray] = []
        rate, left = 0, None
        for part in _parts(opened, thorough=True):
            with _opened(opened, part) as file:
                if not pieces:
                    rate, left = file.samplerate, wanted(file.samplerate)
                elif file.samplerate != rate:
                    raise AudioError(f"changes its sampling rate from {rate} to {file.samplerate} Hz")
                blocks = _read(file, part, left)
            pieces += blocks
            if left is not None and (left := left - sum(map(len, blocks))) <= 0:
                break
    samples = pieces[0] if len(pieces) == 1 else np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    samples = samples[: wanted(rate)]
    if len(samples) == 0:
        raise AudioError("holds no samples")
    if not np.isfinite(samples).all():
        raise AudioError("holds samples that are not finite (NaN or infinity)")
    return samples, rate


def _read(file: _Forward, part: Part, max_samples: int | None) -> list[np.ndarray]:
    """The samples of a part in mono blocks, up to its end or up to `max_samples`."""
    promised = file.frames if part.frames is None else part.frames
    wanted = promised if max_samples is None else min(promised, max_samples)
    if wanted < promised and part.doubtful():
        wanted = promised
    blocks, done = [], 0
    while done < wanted:
        n = min(wanted - done, max(1, _BLOCK_SAMPLES // file.channels))
        try:
            block = file.read(n, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            if part.doubtful():
                raise AudioError("truncated: the file does not end with a whole frame") from None
            raise AudioError(f"cannot be decoded ({_reason(error)})") from None
        blocks.append(_mono(block))
        done += len(block)
        if len(block) < n:
            break
    if done < wanted:
        raise AudioError(f"truncated: the header promises {promised} samples, the file holds {done}")
    return blocks


def _mono(samples: np.ndarray) -> np.ndarray:
    """The mean of the channels of float32 [samples, channels], channel by channel: to the same bits as numpy's mean over them, which is
    thirty times as slow for two."""
    n_channels = samples.shape[1]
    if n_channels == 1:
        return samples[:, 0]
    if n_channels >= 8:  # numpy adds these in another order
        return samples.mean(axis=1, dtype=np.float32)
    total = samples[:, 0] + samples[:, 1]
    for channel in range(2, n_channels):
        total += samples[:, channel]
    return total / np.float32(n_channels)
