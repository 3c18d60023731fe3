"""Audio in: bytes or a path become mono float32 samples at one rate.

One decoder (libsndfile, through soundfile: WAV, FLAC, OGG, MP3) and one resampler (soxr at "HQ") serve everything, so
that the same file gives the same samples on every machine. Two resamplers differ by up to 0.013 on noisy clips, which
is enough to move a score: the quality is therefore a constant, not an option, and part of `DECODER`, the name under
which embeddings are cached.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from arch_hf.errors import AudioError

RESAMPLER_QUALITY = "HQ"
DECODER = f"soundfile-mono-mean+soxr-{RESAMPLER_QUALITY}-1"

# A header that promises more than this share of samples beyond what the file holds marks a truncated file. MP3
# headers are estimates and may be off by a few frames of 1152 samples, so a small shortfall is normal there.
_TRUNCATED = 0.05


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says: `frames` per channel, `sampling_rate` in Hz, `channels`, and `seconds`."""

    frames: int
    sampling_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.frames / self.sampling_rate


def _open(source: bytes | str | Path) -> soundfile.SoundFile:
    if isinstance(source, (bytes, bytearray, memoryview)):
        if len(source) == 0:
            raise AudioError("empty file (0 bytes)")
        file = io.BytesIO(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise AudioError("no such file")
        if path.stat().st_size == 0:
            raise AudioError("empty file (0 bytes)")
        file = str(path)
    try:
        return soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"not audio that libsndfile can read ({error.error_string.rstrip('.')})") from None


def audio_info(source: bytes | str | Path) -> AudioInfo:
    """Read a clip's header without decoding it.

    Raises:
        AudioError: if the file is missing, empty or no audio.

    Example:
        >>> audio_info(encode_wav(np.zeros(8000, np.float32), 16000))
        AudioInfo(frames=8000, sampling_rate=16000, channels=1)
    """
    with _open(source) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels)


def _missing_share(file: BinaryIO, size: int) -> float:
    """The share of a WAV's data that its header promises and the file does not hold: libsndfile trusts the file's size
    and would pass a truncated WAV off as a shorter clip. 0 for other formats, which notice by themselves."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 0.0
    while len(chunk := file.read(8)) == 8:
        name, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"data":
            unknown = length in (0, 0xFFFFFFFF)  # written by a program that streamed
            return 0.0 if unknown else max(0.0, 1 - (size - file.tell()) / length)
        file.seek(length + length % 2, io.SEEK_CUR)
    return 0.0


def _check_whole(source: bytes | str | Path) -> None:
    if isinstance(source, (str, Path)):
        with open(source, "rb") as file:
            missing = _missing_share(file, Path(source).stat().st_size)
    else:
        missing = _missing_share(io.BytesIO(source), len(source))
    if missing > _TRUNCATED:
        raise AudioError(f"truncated: {missing:.0%} of the data that the header promises is missing")


def decode(source: bytes | str | Path) -> tuple[np.ndarray, int]:
    """Decode a clip to mono: float32 of shape [samples], nominally in [-1, 1], and its own rate in Hz.

    Channels are averaged. The values are as stored: nothing is normalised or clipped.

    Raises:
        AudioError: if the file is missing, empty, truncated, no audio, or holds a value that is not finite.

    Example:
        >>> samples, rate = decode(encode_wav(np.ones((8000, 2), np.float32) * [0.5, -0.5], 16000))
        >>> samples.shape, rate, float(abs(samples).max())
        ((8000,), 16000, 0.0)
    """
    with _open(source) as file:
        _check_whole(source)
        promised, rate = file.frames, file.samplerate
        try:
            samples = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"cannot be decoded ({error.error_string.rstrip('.')})") from None
    if len(samples) == 0:
        raise AudioError("holds no samples")
    if len(samples) < promised * (1 - _TRUNCATED):
        raise AudioError(f"truncated: the header promises {promised} samples, the file holds {len(samples)}")
    if not np.isfinite(samples).all():
        raise AudioError("holds samples that are not finite (NaN or infinity)")
    if samples.shape[1] == 1:
        return samples[:, 0], rate
    return samples.mean(axis=1, dtype=np.float32), rate


def load_audio(source: bytes | str | Path, sampling_rate: int) -> np.ndarray:
    """Decode a clip to mono float32 [samples] at `sampling_rate` Hz.

    Raises:
        AudioError: see `decode`; also if the clip is too short to give one sample at that rate.

    Example:
        >>> load_audio(encode_wav(np.zeros(44100, np.float32), 44100), 16000).shape
        (16000,)
    """
    samples, rate = decode(source)
    samples = resample(samples, rate, sampling_rate)
    if len(samples) == 0:
        raise AudioError(f"too short: no sample left at {sampling_rate} Hz")
    return samples


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample float32 [samples] with soxr "HQ"; the same rate returns the input itself.

    Example:
        >>> resample(np.zeros(48000, np.float32), 48000, 16000).shape
        (16000,)
    """
    if from_rate == to_rate:
        return samples
    return soxr.resample(samples, from_rate, to_rate, quality=RESAMPLER_QUALITY)


def _encode(samples: np.ndarray, sampling_rate: int, container: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, sampling_rate, format=container, subtype="PCM_16")
    return out.getvalue()


def encode_wav(samples: np.ndarray, sampling_rate: int) -> bytes:
    """Float samples [samples] or [samples, channels] in [-1, 1] as 16-bit WAV bytes.

    Example:
        >>> encode_wav(np.zeros(10, np.float32), 16000)[:4]
        b'RIFF'
    """
    return _encode(samples, sampling_rate, "WAV")


def encode_flac(samples: np.ndarray, sampling_rate: int) -> bytes:
    """Float samples [samples] or [samples, channels] in [-1, 1] as 16-bit FLAC bytes.

    Example:
        >>> encode_flac(np.zeros(10, np.float32), 16000)[:4]
        b'fLaC'
    """
    return _encode(samples, sampling_rate, "FLAC")
