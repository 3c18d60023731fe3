"""Hidden states over time: their mean is the embedding, and their times are those of the sound."""

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES

from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.check import sample_clip


@pytest.fixture(scope="module")
def load(tiny):
    made = {}
    return lambda family: made.setdefault(family, AudioEncoder.from_pretrained(tiny(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_their_mean_is_the_embedding(family, load):
    """In a batch of any lengths, at the first layer and the last; and no frame depends on batch mates."""
    encoder = load(family)
    rate = encoder.sampling_rate
    lengths = [rate // 3, 3 * rate, rate + 77, 600, 3 * rate, 11 * rate]
    clips = [sample_clip(n / rate, rate, seed) for seed, n in enumerate(lengths)]
    embedded = encoder.embed(clips, layers="all")
    for layer in (0, -1):
        together = encoder.frames(clips, layer)
        assert all(states.dtype == np.float32 and states.shape[0] == len(times) for states, times in together)
        means = np.stack([torch.from_numpy(states).mean(0).numpy() for states, _ in together])
        np.testing.assert_allclose(means, embedded[:, layer], rtol=0, atol=1e-6)
        exact = np.stack([states.mean(0, dtype=np.float64) for states, _ in together])
        largest = np.abs(exact).max(1, keepdims=True)
        assert (np.abs(exact - embedded[:, layer]) <= 5e-7 * largest).all()
    (states, times) = encoder.frames([clips[2]])[0]
    assert states.shape == together[2].states.shape and (times == together[2].times).all()
    assert np.linalg.norm(states - together[2].states) <= 1e-4 * np.linalg.norm(states)


def click(rate: int, second: float) -> np.ndarray:
    """3 s of faint noise with 5 ms of loud noise in it; the whole of it, wherever that is, has the same mean and power."""
    out = (0.01 * np.random.default_rng(0).standard_normal(3 * rate)).astype(np.float32)
    start, n = int(second * rate), rate // 200
    out[start : start + n] += 0.5 * np.sign(np.random.default_rng(1).standard_normal(n))
    return out


# By how many frames a click may be missed. SEW's final output is made of pairs of frames. EnCodec's and Mimi's convolutions see only what was; in SeamlessM4T's adapter, random as it is,
# attention over neighbours says more than the convolution.
MISSED = {
    ("sew", -1): 1.2,
    ("sew-d", -1): 1.2,
    ("encodec", 0): 4.2,
    ("encodec", -1): 4.2,
    ("mimi", 0): 1.8,
    ("mimi", -1): 1.8,
    ("seamless-m4t-v2", -1): 3.5,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_click_is_heard_when_it_is(family, load):
    """Two clips that differ in where a click is: their frames differ most at both places, within a frame of its time."""
    encoder = load(family)
    rate = encoder.sampling_rate
    for layer in (0, -1):
        hop = (encoder.timing.between if layer == 0 else encoder.timing.final).hop / rate
        for first, second in ((0.7, 2.1), (1.23, 2.5)):
            (one, times), (other, same) = encoder.frames([click(rate, first), click(rate, second)], layer)
            assert (times == same).all() and times.min() >= 0 and times.max() <= 3
            assert (np.diff(times) > 0).all() or family in ("clap", "clap-fused", "encodec-48k")
            difference = np.linalg.norm(one - other, axis=1)
            early = times < (first + second) / 2
            for half, second_of_click in ((early, first), (~early, second)):
                heard = times[np.where(half, difference, -1).argmax()]
                assert abs(heard - second_of_click - 1 / 400) <= MISSED.get((family, layer), 1.0) * hop


@pytest.mark.parametrize("family", FAMILIES)
def test_no_time_lies_outside_of_its_clip(family, load):
    """Of clips shorter than what one frame hears, and of those that end within a frame, which the encoder pads."""
    encoder = load(family)
    rate = encoder.sampling_rate
    clips = [sample_clip(n / rate, rate, n) for n in (1, 100, 399, 600, rate + 1, rate + 321)]
    for layer in (0, -1):
        for clip, (_, times) in zip(clips, encoder.frames(clips, layer), strict=True):
            assert times.min() >= 0 and times.max() <= len(clip) / rate
            assert (np.diff(times) >= 0).all() or family.startswith(("clap", "encodec-48k"))


def test_a_time_is_the_middle_of_what_a_frame_hears_of_its_clip(load):
    """In samples: all of a clip shorter than a frame, what is left of one for the last frame of a codec, and not of a pair of SEW's that lies behind the end."""

    def times(family, n, layer=-1):
        encoder = load(family)
        return (encoder.frames([np.full(n, 0.1, np.float32)], layer)[0].times * encoder.sampling_rate).round(6).tolist()

    assert times("hubert", 100) == [50] and times("hubert", 399) == [199.5] and times("hubert", 720) == [200, 520]
    assert times("ast", 100) == [50] and times("whisper", 399) == [0, 320]
    assert times("encodec", 100) == [50] and times("encodec", 330) == [160, 325] and times("mimi", 900) == [450]
    assert times("sew", 600) == [200, 460] and times("sew", 100) == [50, 100]


def test_times_of_known_encoders(load):
    """wav2vec 2.0 hears 25 ms every 20 ms; Whisper's frames are centred on multiples of 20 ms, in all windows; AST's patches hear 175 ms."""
    clip = np.ones(16000, np.float32)
    np.testing.assert_allclose(load("wav2vec2").frames([clip])[0].times, 0.0125 + 0.02 * np.arange(49))
    np.testing.assert_allclose(load("wav2vec2-adapter").frames([clip])[0].times, 0.0125 + 0.16 * np.arange(7))
    np.testing.assert_allclose(load("sew").frames([clip], 0)[0].times, 0.0225 + 0.04 * np.arange(24))
    np.testing.assert_allclose(load("wav2vec2-bert").frames([clip])[0].times, 0.0175 + 0.02 * np.arange(49))
    np.testing.assert_allclose(
        load("whisper").frames([np.ones(31 * 16000, np.float32)])[0].times, 0.02 * np.arange(1550)
    )
    np.testing.assert_allclose(load("ast").frames([clip])[0].times, 0.0875 + 0.1 * np.arange(9))
    chunks = load("encodec-48k").frames([np.ones(96000, np.float32)])[0].times
    np.testing.assert_allclose(chunks[149:151], [149.5 / 150, 0.99 + 0.5 / 150])
    repeated = load("clap").frames([np.ones(3 * 48000, np.float32)])[0].times
    assert len(repeated) == 29 and repeated.max() < 3 and (np.diff(repeated) < 0).sum() == 2


def test_baselines_have_one_frame():
    for name in ("logmel", "mfcc"):
        encoder = AudioEncoder.from_pretrained(name)
        clip = np.ones(2 * encoder.sampling_rate, np.float32)
        (states, times), (_, short) = encoder.frames([clip, clip[:10]])
        assert states.shape == (1, encoder.embedding_size) and times.tolist() == [1.0]
        assert short.tolist() == [5 / encoder.sampling_rate]


def test_what_is_refused():
    encoder = AudioEncoder.from_pretrained("logmel")
    with pytest.raises(ValueError, match="layer is 1, but there are layers 0 to 0"):
        encoder.frames([np.ones(400, np.float32)], layer=1)
    for wrong in (np.ones(400, np.int16), np.ones((2, 400), np.float32), "clip"):
        with pytest.raises(ValueError, match="waveform 0"):
            encoder.frames([wrong])
    assert encoder.frames([]) == []
