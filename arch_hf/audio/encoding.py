"""Samples out: 16-bit WAV and FLAC, and 32-bit floats."""

import io
import struct

import numpy as np
import soundfile


def _encode(samples: np.ndarray, sampling_rate: int, container: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, sampling_rate, format=container, subtype="PCM_16")
    return out.getvalue()


def encode_samples(samples: np.ndarray, sampling_rate: int) -> bytes:
    """Float samples [samples] or [samples, channels] to the last bit, also beyond [-1, 1], as WAV bytes of 32-bit floats.

    The same samples give the same bytes: libsndfile would add the time of day.

    Examples:
        >>> len(encode_samples(np.zeros(10, np.float32), 16000))
        98
    """
    data = np.ascontiguousarray(samples, "<f4").tobytes()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    form = struct.pack("<HHIIHHH", 3, channels, sampling_rate, 4 * channels * sampling_rate, 4 * channels, 32, 0)
    fact = struct.pack("<I", len(samples))
    chunks = b"".join(
        name + struct.pack("<I", len(content)) + content
        for name, content in ((b"fmt ", form), (b"fact", fact), (b"data", data))
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def encode_wav(samples: np.ndarray, sampling_rate: int) -> bytes:
    """Float samples [samples] or [samples, channels] in [-1, 1] as 16-bit WAV bytes.

    Examples:
        >>> encode_wav(np.zeros(10, np.float32), 16000)[:4]
        b'RIFF'
    """
    return _encode(samples, sampling_rate, "WAV")


def encode_flac(samples: np.ndarray, sampling_rate: int) -> bytes:
    """Float samples [samples] or [samples, channels] in [-1, 1] as 16-bit FLAC bytes.

    Examples:
        >>> encode_flac(np.zeros(10, np.float32), 16000)[:4]
        b'fLaC'
    """
    return _encode(samples, sampling_rate, "FLAC")
