"""Decoding: the formats of the corpora, exact values, and a reason for every clip that cannot be used."""

import io

import numpy as np
import pytest
import soundfile

from arch_hf.audio import audio_info, decode, encode_flac, encode_wav, load_audio
from arch_hf.errors import AudioError


def tone(seconds=0.5, rate=16000, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def written(samples, rate, container, subtype):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=container, subtype=subtype)
    return out.getvalue()


@pytest.mark.parametrize(
    ("container", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 1e-2), ("WAV", "PCM_16", 1e-4), ("WAV", "PCM_24", 1e-6), ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 0), ("WAV", "IMA_ADPCM", 5e-2), ("FLAC", "PCM_16", 1e-4), ("OGG", "VORBIS", 0.1),
    ],
)  # fmt: skip
def test_formats_of_the_corpora_decode_to_their_samples(container, subtype, tolerance):
    samples, rate = decode(written(tone(), 16000, container, subtype))
    assert rate == 16000 and samples.dtype == np.float32 and samples.ndim == 1
    settled = slice(500, len(tone()))  # ADPCM needs a moment to find its step
    np.testing.assert_allclose(samples[settled], tone()[settled], atol=tolerance)


def test_mp3_decodes(tmp_path):
    path = tmp_path / "clip.mp3"
    path.write_bytes(written(tone(1.0, 44100), 44100, "MP3", "MPEG_LAYER_III"))
    samples = load_audio(path, 16000)
    assert abs(len(samples) - 16000) < 1600
    assert 0.3 < np.abs(samples).max() < 0.7


def test_channels_are_averaged_and_nothing_is_normalised():
    stereo = np.stack([tone(), -0.5 * tone()], axis=1)
    samples, _ = decode(written(stereo, 16000, "WAV", "FLOAT"))
    np.testing.assert_allclose(samples, 0.25 * tone(), atol=1e-7)
    loud, _ = decode(written(4 * tone(), 16000, "WAV", "FLOAT"))
    assert loud.max() > 1.9


@pytest.mark.parametrize("rate", [8000, 11024, 22050, 44100, 48000, 96000, 192000])
def test_resampling_keeps_the_tone(rate):
    samples = load_audio(written(tone(1.0, rate), rate, "WAV", "FLOAT"), 16000)
    assert abs(len(samples) - 16000) <= 1
    np.testing.assert_allclose(samples[2000:14000], tone(1.0, 16000)[2000:14000], atol=2e-3)


def test_path_and_bytes_give_the_same(tmp_path):
    path = tmp_path / "a name with spaces [and brackets] ã.flac"
    path.write_bytes(encode_flac(tone(), 16000))
    np.testing.assert_array_equal(load_audio(path, 16000), load_audio(path.read_bytes(), 16000))
    assert audio_info(path).seconds == 0.5


def truncated_wav():
    return encode_wav(tone(), 16000)[:4000]


def not_finite():
    samples = tone()
    samples[7] = np.nan
    return written(samples, 16000, "WAV", "FLOAT")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"", r"empty file \(0 bytes\)"),
        (lambda: b"%PDF-1.4 not a sound", "not audio that libsndfile can read"),
        (lambda: encode_wav(np.zeros(0, np.float32), 16000), "holds no samples"),
        (not_finite, "not finite"),
        (lambda: encode_flac(tone(), 16000)[:3000], "truncated|cannot be decoded"),
        (truncated_wav, "truncated"),
    ],
)
def test_a_clip_that_cannot_be_used_says_why(make, reason):
    with pytest.raises(AudioError, match=reason):
        load_audio(make(), 16000)


def test_missing_file_says_so(tmp_path):
    with pytest.raises(AudioError, match="no such file"):
        audio_info(tmp_path / "none.wav")


def test_one_sample_is_a_clip():
    assert load_audio(encode_wav(np.ones(1, np.float32) * 0.5, 16000), 16000).shape == (1,)
    with pytest.raises(AudioError, match="too short"):
        load_audio(encode_wav(np.ones(1, np.float32) * 0.5, 192000), 16000)
