"""Samples out: 16-bit WAV and FLAC."""

import io

import numpy as np
import soundfile


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
