"""Decoding: the formats of the corpora, exact values, only what is used, and a reason for every clip that cannot be used."""

import io
import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from arch_hf.audio import audio_info, decode, encode_flac, encode_wav, load_audio, resample
from arch_hf.errors import AudioError


def tone(seconds=0.5, rate=16000, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noisy(seconds=1.0, rate=16000, channels=1, seed=0):
    shape = (round(seconds * rate), channels) if channels > 1 else round(seconds * rate)
    samples = (0.2 * np.random.default_rng(seed).standard_normal(shape)).clip(-0.99, 0.99)
    return (np.round(samples * 32768) / 32768).astype(np.float32)  # as 16 bits hold them, however they are rounded


def written(samples, rate, container, subtype, endian="FILE"):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=container, subtype=subtype, endian=endian)
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


@pytest.mark.parametrize("channels", [2, 3, 5, 6, 7, 8, 11])
def test_the_mean_of_channels_is_numpys_to_the_last_bit(channels):
    samples = noisy(channels=channels)
    np.testing.assert_array_equal(decode(written(samples, 16000, "WAV", "FLOAT"))[0], samples.mean(1, dtype=np.float32))


@pytest.mark.parametrize("rate", [8000, 11024, 22050, 44100, 48000, 96000, 192000])
def test_resampling_keeps_the_tone(rate):
    samples = load_audio(written(tone(1.0, rate), rate, "WAV", "FLOAT"), 16000)
    assert abs(len(samples) - 16000) <= 1
    np.testing.assert_allclose(samples[2000:14000], tone(1.0, 16000)[2000:14000], atol=2e-3)


KINDS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "GSM610"), ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"),
    ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("CAF", "ALAC_16"), ("NIST", "PCM_16"),
]  # fmt: skip


@pytest.mark.parametrize(("container", "subtype"), KINDS)
@pytest.mark.parametrize(("rate", "to_rate"), [(8000, 16000), (16000, 16000), (16000, 24000), (48000, 16000)])
def test_the_beginning_alone_is_the_beginning_of_the_whole_to_the_last_bit(container, subtype, rate, to_rate):
    clip = written(noisy(3.0, rate), rate, container, subtype)
    whole = load_audio(clip, to_rate)
    for seconds in (0.001, 0.5, 1.234, 2.9, 100):
        np.testing.assert_array_equal(load_audio(clip, to_rate, seconds), whole[: round(seconds * to_rate)])


def test_the_resampler_looks_no_further_than_it_is_given():
    random = np.random.default_rng(1)
    for _ in range(60):
        rate, to_rate = random.choice([100, 8000, 11024, 12345, 44100, 48000, 192000, 1_000_000], 1)[0], 16000
        samples = random.standard_normal(int(rate * random.uniform(0.1, 4 if rate < 10**6 else 0.3))).astype(np.float32)
        clip, seconds = written(samples, rate, "WAV", "FLOAT"), random.uniform(0.01, 2)
        expected = resample(samples, rate, to_rate)[: round(seconds * to_rate)]
        np.testing.assert_array_equal(load_audio(clip, to_rate, seconds), expected)


def test_what_is_not_used_is_not_decoded(monkeypatch):
    read, frames = soundfile.SoundFile.read, []
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n, **how: frames.append(n) or read(self, n, **how))
    load_audio(encode_flac(noisy(60), 16000), 16000, 0.5)
    assert frames == [8000]


def test_path_and_bytes_give_the_same(tmp_path):
    path = tmp_path / "a name with spaces [and brackets] ã.flac"
    path.write_bytes(encode_flac(tone(), 16000))
    np.testing.assert_array_equal(load_audio(path, 16000), load_audio(path.read_bytes(), 16000))
    assert audio_info(path).seconds == 0.5


def test_a_mac_s_resource_fork_beside_a_file_is_not_read(tmp_path):
    path = tmp_path / "clip.wav"  # an MP3, whatever its name
    path.write_bytes(written(tone(), 16000, "MP3", "MPEG_LAYER_III"))
    (tmp_path / "._clip.wav").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(200))
    assert len(load_audio(path, 16000)) > 7000 and audio_info(path).frames > 7000


def test_a_tag_with_a_footer_and_a_chunk_of_odd_size_are_passed_over_whole():
    clip = encode_wav(noisy(), 16000)
    tag = b"ID3\x04\0\x10\0\0\0\x14" + bytes(20) + b"3DI\x04\0\x10\0\0\0\x14"
    np.testing.assert_array_equal(decode(tag + clip)[0], decode(clip)[0])
    noted = clip[:12] + b"note" + struct.pack("<I", 3) + b"abc\0" + clip[12:]
    noted = noted[:4] + struct.pack("<I", len(noted) - 8) + noted[8:]
    np.testing.assert_array_equal(decode(noted)[0], decode(clip)[0])


def test_a_flac_that_promises_more_than_32_bits_can_say_is_cut():
    clip = bytearray(encode_flac(noisy(), 16000))
    clip[21] |= 1  # the 33rd bit of the number of samples
    with pytest.raises(AudioError, match="truncated: the header promises 4294983296 samples, the file holds 16000"):
        decode(bytes(clip))


# Lengths that the header does not know, or does not say


def wav(riff_size, data_size, data):
    form = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    head = b"RIFF" + struct.pack("<I", riff_size) + b"WAVEfmt " + struct.pack("<I", 16) + form
    return head + b"data" + struct.pack("<I", data_size) + data


def rf64(sizes, data):
    form = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, *sizes, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + ds64 + b"fmt " + struct.pack("<I", 16) + form + b"data\xff\xff\xff\xff" + data


def pcm(samples):
    return encode_wav(samples, 16000)[44:]


def flac_of_unknown_length(content, samples=0):
    """As an encoder leaves it that writes to a pipe; with `samples`, as one that is wrong about the length."""
    content = bytearray(content)
    known = int.from_bytes(content[21:26], "big") & ~0xFFFFFFFFF | samples
    content[21:26] = known.to_bytes(5, "big")
    content[26:42] = bytes(16)
    return bytes(content)


PLACEHOLDERS = (0, 0x7FFFF000, 0x7FFFFFFF, 0x7FFF0000, 0x80000000, 2_000_000_000, 0xFFFFFFFF)


@pytest.mark.parametrize("size", PLACEHOLDERS)
def test_a_wav_written_to_a_pipe_is_read_to_its_end(size, tmp_path):
    clip = wav(min(size + 36, 0xFFFFFFFF) if size else 0, size, pcm(noisy()))
    np.testing.assert_array_equal(decode(clip)[0], decode(encode_wav(noisy(), 16000))[0])
    (tmp_path / "clip.wav").write_bytes(clip)
    assert audio_info(clip).seconds == audio_info(tmp_path / "clip.wav").seconds == 1.0


@pytest.mark.parametrize(
    "clip",
    [
        rf64((0, 0, 0), pcm(noisy())),
        rf64((0xFFFFFFFFFFFFFFFF,) * 3, pcm(noisy())),
        flac_of_unknown_length(encode_flac(noisy(), 16000)),
        flac_of_unknown_length(encode_flac(noisy(), 16000), samples=4000),
        b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFFF, 3, 16000, 1) + np.frombuffer(pcm(noisy()), "<i2").astype(">i2").tobytes(),
        written(noisy(), 16000, "WAV", "PCM_16", "BIG"),
        b"ID3\x03\0\0\0\0\x01\x48" + bytes(200) + wav(0xFFFFFFFF, 0xFFFFFFFF, pcm(noisy())),
    ],
    ids=["RF64 0", "RF64 -1", "FLAC 0", "FLAC too few", "AU -1", "RIFX", "WAV behind ID3"],
)  # fmt: skip
def test_whatever_the_header_says_all_samples_are_read(clip):
    np.testing.assert_array_equal(decode(clip)[0], decode(encode_wav(noisy(), 16000))[0])
    assert audio_info(clip).frames == 16000
    np.testing.assert_array_equal(load_audio(clip, 16000, 0.25), decode(clip)[0][:4000])


def test_a_wav_that_is_empty_is_not_taken_for_one_that_was_written_to_a_pipe():
    notes = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf59.27.100\0"
    with pytest.raises(AudioError, match="holds no samples"):
        decode(wav(36 + len(notes), 0, notes))


def mp3(seconds=2.0, quiet=1.0):
    """MP3 of a variable bit rate: the first part is quieter than the rest."""
    samples = noisy(seconds)
    samples[: len(samples) // 2] *= quiet
    return written(samples, 16000, "MP3", "MPEG_LAYER_III")


def without_facts(content):
    """The file without its first frame, where the encoder notes how many there are."""
    return content[content.index(b"\xff\xf3", 10) :]


def test_an_mp3_without_a_header_is_read_to_its_end():
    whole, bare = mp3(quiet=0.01), without_facts(mp3(quiet=0.01))
    with soundfile.SoundFile(io.BytesIO(bare)) as file:
        believed = file.frames
    assert audio_info(bare).frames == len(decode(bare)[0]) >= len(decode(whole)[0]) > 1.2 * believed
    tagged = b"ID3\x03\0\0\0\0\x01\x48" + bytes(200) + bare + b"TAG" + bytes(125)
    np.testing.assert_array_equal(decode(tagged)[0], decode(bare)[0])
    np.testing.assert_array_equal(decode(whole + bare)[0][: len(decode(bare)[0])], decode(bare)[0])  # more than it says


def test_an_mp3_that_is_cut_or_damaged_is_noticed():
    whole = mp3()
    with pytest.raises(AudioError, match=r"truncated: the header promises \d+ frames"):
        decode(whole[: len(whole) * 3 // 4])
    damaged = bytearray(without_facts(whole))
    damaged[5000:5400] = bytes(400)
    with pytest.raises(AudioError, match="damaged"):
        decode(bytes(damaged))


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_is_read_to_the_end_of_its_chain(subtype):
    first, second = (written(noisy(1.0, seed=seed), 16000, "OGG", subtype) for seed in (1, 2))
    both = np.concatenate([decode(first)[0], decode(second)[0]])
    np.testing.assert_array_equal(decode(first + second)[0], both)
    assert audio_info(first + second).frames == len(both)
    np.testing.assert_array_equal(load_audio(first + second, 16000, 1.5), both[:24000])
    np.testing.assert_array_equal(load_audio(3 * (first + second), 16000, 5.5), np.tile(both, 3)[:88000])
    with pytest.raises(AudioError, match="changes its sampling rate from 16000 to 8000 Hz"):
        decode(first + written(noisy(1.0, 8000), 8000, "OGG", "VORBIS"))


# Files that were cut or damaged


def half(content):
    return content[: len(content) // 2]


CUT = {
    "WAV": lambda: half(encode_wav(noisy(), 16000)),
    "RIFX": lambda: half(written(noisy(), 16000, "WAV", "PCM_16", "BIG")),
    "RF64": lambda: half(rf64((32072, 32000, 16000), pcm(noisy()))),
    "WAV behind ID3": lambda: b"ID3\x03\0\0\0\0\x01\x48" + bytes(200) + half(encode_wav(noisy(), 16000)),
    "FLAC of unknown length": lambda: half(flac_of_unknown_length(encode_flac(noisy(), 16000))),
} | {
    name: lambda name=name, subtype=subtype: half(written(noisy(), 16000, name, subtype))
    for name, subtype in (
        ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("W64", "PCM_16"), ("NIST", "PCM_16"), ("VOC", "PCM_16"), ("CAF", "PCM_16"),
        ("AVR", "PCM_16"), ("SVX", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
    )
}  # fmt: skip


@pytest.mark.parametrize("kind", CUT)
def test_a_file_that_was_cut_is_no_shorter_clip(kind):
    with pytest.raises(AudioError, match=r"truncated"):
        decode(CUT[kind]())
    with pytest.raises(AudioError, match=r"truncated"):  # also where the cut lies behind what is used
        load_audio(CUT[kind](), 16000, 0.01)


def test_a_few_bytes_more_or_less_are_no_cut():
    clip = encode_wav(noisy(), 16000)
    assert len(decode(clip[:-40])[0]) == 15980
    assert len(decode(clip + b"ID3 or whatever stands behind")[0]) == 16000


def test_what_stands_behind_the_first_sound_is_noticed():
    one = encode_wav(noisy(), 16000)
    with pytest.raises(AudioError, match="holds a second audio file behind the first: split them"):
        decode(one + one)
    with pytest.raises(AudioError, match=r"holds a second FLAC stream \(at byte \d+\)"):
        decode(encode_flac(noisy(), 16000) * 2)
    with pytest.raises(AudioError, match="holds 4000 bytes more than its header knows of"):
        decode(written(noisy(), 16000, "AU", "PCM_16") + bytes(4000))
    for container in (
        "WAV",
        "AIFF",
        "W64",
        "CAF",
    ):  # another kind of file, which others would decode as samples of the first
        with pytest.raises(AudioError, match="holds a second audio file behind the first: split them"):
            decode(written(noisy(), 16000, container, "PCM_16") + written(noisy(), 16000, "CAF", "PCM_16"))
    notes = b"LIST" + struct.pack("<I", 4) + b"INFO"
    with pytest.raises(AudioError, match="holds a second audio file behind the first: split them"):
        decode(wav(36 + 32000 + len(notes), 32000, pcm(noisy()) + notes) + encode_flac(noisy(), 16000))


def voc_of_blocks(*blocks):
    """Creative Voice as ffmpeg writes it: the first block says what the samples are, each that follows goes on with them."""
    form = struct.pack("<IBBHI", 16000, 16, 1, 4, 0)
    contents = [(9, form + blocks[0]), *((2, block) for block in blocks[1:])]
    body = b"".join(bytes([kind]) + len(content).to_bytes(3, "little") + content for kind, content in contents)
    return b"Creative Voice File\x1a\x1a\0\x14\x01\x1f\x11" + body + b"\0"


def test_a_voc_of_several_blocks_is_not_read_with_their_heads_as_samples():
    np.testing.assert_array_equal(decode(voc_of_blocks(pcm(noisy())))[0], noisy())
    with pytest.raises(
        AudioError, match=r"^a VOC file of several blocks, which libsndfile does not decode; convert it: ffmpeg"
    ):
        decode(voc_of_blocks(pcm(noisy()), pcm(noisy())))
    begins_elsewhere = bytearray(voc_of_blocks(pcm(noisy())))
    begins_elsewhere[21] = 0x90
    with pytest.raises(AudioError, match=r"^truncated: the file ends before its audio begins$"):
        decode(bytes(begins_elsewhere))


def test_a_header_that_contradicts_itself_is_noticed():
    clip = bytearray(encode_wav(noisy(), 16000))
    for channels, block, bits, reason in (
        (27, 2, 16, "^damaged: its header says 27 channels of 16 bits in blocks of 2 bytes$"),
        (1, 2, 24, "^damaged: its header says 1 channels of 24 bits in blocks of 2 bytes$"),
        (3, 4, 8, "^damaged: its header says 3 channels of 8 bits in blocks of 4 bytes$"),
    ):
        damaged = bytearray(clip)
        damaged[22:24], damaged[32:36] = struct.pack("<H", channels), struct.pack("<HH", block, bits)
        with pytest.raises(AudioError, match=reason):
            decode(bytes(damaged))
    au = bytearray(written(noisy(), 16000, "AU", "PCM_16"))
    au[20:24] = struct.pack(">I", 215)
    with pytest.raises(AudioError, match=r"^claims 215 channels$"):
        decode(bytes(au))
    au[4:12] = struct.pack(">II", 5_000_000, 0xFFFFFFFF)
    with pytest.raises(AudioError, match=r"^truncated: the file ends before its audio begins$"):
        decode(bytes(au))
    aiff = written(noisy(), 16000, "AIFF", "PCM_16")
    common = aiff.index(b"COMM")
    short = b"FORM" + struct.pack(">I", 0xFFFFFFFF) + b"AIFFSSND" + struct.pack(">I", 0xFFFFFFFF) + bytes(8)
    for content in (short, aiff[:common] + b"COMM" + struct.pack(">I", 2) + b"\0\1" + b"SSND\xff\xff\xff\xff\0"):
        with pytest.raises(AudioError):
            decode(content)


def test_pages_and_blocks_that_are_damaged_are_noticed():
    for container, subtype in (("OGG", "VORBIS"), ("FLAC", "PCM_16"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM")):
        content = bytearray(written(noisy(4.0), 16000, container, subtype))
        middle = len(content) // 2
        content[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
        with pytest.raises(AudioError, match=r"damaged|cannot be decoded"):
            decode(bytes(content))


def not_finite():
    samples = tone()
    samples[7] = np.nan
    return written(samples, 16000, "WAV", "FLOAT")


def claims(rate):
    clip = bytearray(encode_wav(tone(), 16000))
    clip[24:28] = struct.pack("<I", rate)
    return bytes(clip)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"", r"^empty file \(0 bytes\)$"),
        (lambda: b"no sound at all", "^not audio that libsndfile can read$"),
        (lambda: b"%PDF-1.4 not a sound", "^not audio but a PDF document$"),
        (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "^not audio but a Git LFS pointer.*git lfs pull$"),
        (lambda: b"\n<!DOCTYPE HTML><html>Please log in", "^not audio but an HTML page: .*fetch the file again$"),
        (lambda: b'<?xml version="1.0"?><Error><Code>AccessDenied', "^not audio but a text .*fetch the file again$"),
        (lambda: b"\0\0\0\x20ftypM4A " + bytes(100), r"^not audio but MPEG-4 .*m4a.*ffmpeg -i IN OUT.flac$"),
        (lambda: b"\x1a\x45\xdf\xa3" + bytes(100), "^not audio but Matroska or WebM.*ffmpeg"),
        (lambda: b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(100), "^not audio but Windows Media.*ffmpeg"),
        (lambda: b"\xff\xf1\x50\x80" + bytes(100), "^not audio but AAC.*ffmpeg"),
        (lambda: b"\0\5\x16\7\0\2\0\0Mac OS X", "^not audio but what a Mac keeps beside a file"),
        (lambda: bytes(1000), "^not audio but nothing but zeros"),
        (lambda: encode_wav(np.zeros(0, np.float32), 16000), "^holds no samples$"),
        (not_finite, "not finite"),
        (lambda: claims(1), "^claims a sampling rate of 1 Hz$"),
        (lambda: claims(2**31 - 1), "^claims a sampling rate of 2147483647 Hz$"),
    ],
)  # fmt: skip
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


# Random damage, against an independent decoder where there is one

FUZZED = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_16"),
    ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "ULAW"), ("AU", "PCM_16"), ("CAF", "PCM_16"),
    ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("NIST", "PCM_16"), ("VOC", "PCM_16"),
    ("IRCAM", "PCM_16"), ("SVX", "PCM_16"), ("AVR", "PCM_16"), ("PVF", "PCM_16"), ("PAF", "PCM_16"), ("HTK", "PCM_16"),
]  # fmt: skip


def mutated(content, random):
    content = bytearray(content)
    first, last = sorted(random.integers(0, len(content), 2))
    how = random.integers(5)
    if how == 0:
        return bytes(content[: random.integers(1, len(content))])
    if how == 1:
        return bytes(content[:first] + content[last:])
    if how == 2:
        return bytes(content[:last] + content[first:])
    for _ in range(3):
        content[random.integers(64 if how == 3 else len(content))] = random.integers(256)
    return bytes(content)


def independent_length(content, path):
    path.write_bytes(content)
    command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-map", "0:a:0", "-f", "f32le", "-ac", "1", "-"]
    return len(subprocess.run(command, capture_output=True, timeout=60, check=False).stdout) // 4


@pytest.mark.parametrize(("container", "subtype"), FUZZED)
def test_random_damage_is_named_or_read_as_others_read_it(container, subtype, tmp_path):
    random = np.random.default_rng(7)
    content = written(noisy(0.4), 16000, container, subtype)
    # frames of compressed audio may be counted with the encoder's delay or without
    tolerance = {"VORBIS": 100, "MPEG_LAYER_III": 2400, "IMA_ADPCM": 505}.get(subtype, 16)
    for trial in range(30):
        clip = mutated(content, random)
        try:
            samples, _ = decode(clip)
        except AudioError as error:
            assert "\n" not in str(error)
            continue
        assert abs(audio_info(clip).frames - len(samples)) <= tolerance
        if trial % 6 == 0 and shutil.which("ffmpeg") and (other := independent_length(clip, tmp_path / "clip")):
            other //= 3 if subtype == "OPUS" else 1  # which ffmpeg decodes to 48 kHz
            assert abs(other - len(samples)) <= tolerance, trial
