"""Every family against a plain computation with transformers alone, in any batch, at any layer, and after a reload."""

import functools
import json
import shutil

import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, make_tiny
from transformers import AutoFeatureExtractor, AutoModel

from arch_hf.embedding import AudioEncoder, NonFiniteError, batching, inputs
from arch_hf.embedding import encoder as encoder_module
from arch_hf.embedding.check import sample_clip
from arch_hf.embedding.families import AudioTower
from arch_hf.embedding.fast import convolutions
from arch_hf.embedding.workers import threads

WINDOWED = ("ast", "whisper", "clap", "clap-fused")
CODECS = ("encodec", "encodec-48k", "dac", "mimi")


@pytest.fixture(scope="session")
def pair(tiny):
    """family -> its plain computation and its encoder, loaded once; not to be changed."""
    made = {}

    def both(family):
        if family not in made:
            made[family] = Plain(family, tiny(family)), AudioEncoder.from_pretrained(tiny(family))
        return made[family]

    return both


def clips_of(rate, lengths):
    return [sample_clip(n / rate, rate, seed) for seed, n in enumerate(lengths)]


def relative(a, b):
    return (np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)).max()


class Plain:
    """The embedding as one would write it for one checkpoint: feature extractor, model, mean. Nothing of the package."""

    def __init__(self, family, folder):
        self.family = family
        self.extractor = AutoFeatureExtractor.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def states(self, clips, **padding):
        """Final output [batch, frames, dim] and all recorded hidden states."""
        clips = [np.stack([clip, clip]) if self.family == "encodec-48k" else clip for clip in clips]
        features = self.extractor(clips, sampling_rate=self.extractor.sampling_rate, return_tensors="pt", **padding)
        if self.family in CODECS:
            seen = []
            hook = self.model.encoder.register_forward_hook(lambda module, args, output: seen.append(output))
            self.model.encode(torch.as_tensor(np.asarray(features["input_values"])))
            hook.remove()
            seen = [output if torch.is_tensor(output) else output.latents for output in seen]
            return torch.cat(seen, dim=2).transpose(1, 2), ()
        part, options = self.model, {}
        for name in ("encoder", "audio_model", "speech_encoder"):
            if self.family in ("whisper", "clap", "clap-fused", "seamless-m4t-v2"):
                part = getattr(self.model, name, part)
        if self.family == "clap-fused":  # no clip is longer than the window
            options["is_longer"] = torch.zeros(len(clips), 1, dtype=torch.bool)
        output = part(features[part.main_input_name], output_hidden_states=True, **options)
        last = output.last_hidden_state
        return (last.flatten(2).transpose(1, 2) if last.ndim == 4 else last), output.hidden_states


@pytest.mark.parametrize("family", FAMILIES)
def test_arch_v1_is_the_plain_computation(family, pair):
    plain, encoder = pair(family)
    rate = encoder.sampling_rate
    clips = clips_of(rate, [rate // 3, rate + 77, 3 * rate])
    cut, padding = [clip[: 2 * rate] for clip in clips], {}
    if family in ("wav2vec2-bert", "seamless-m4t-v2"):
        padding = {"padding": "max_length", "max_length": 198}  # 10 ms frames of 25 ms that fit into 2 s
    elif family not in WINDOWED:
        padding = {"padding": "max_length", "max_length": 2 * rate}
    final = plain.states(cut, **padding)[0]
    if family in WINDOWED:  # of the window the 2 s that count: frames, or patches in rows of one frequency
        final = {
            "whisper": lambda: final[:, :100],
            "ast": lambda: final[:, 2:].unflatten(1, (12, 101))[:, :, :19].flatten(1, 2),
        }.get(family, lambda: final.unflatten(1, (2, 32))[:, :, :7].flatten(1, 2))()
    expected = final.mean(1).numpy()
    found = encoder.embed(clips, padding="max_length", max_seconds=2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_does_not_depend_on_its_batch_mates(family, pair):
    """Random mixes of 400 samples to 30 s, at every hidden state; each clip against itself alone, by the plain computation
    where there is one."""
    plain, encoder = pair(family)
    rate, rng = encoder.sampling_rate, np.random.default_rng(len(family))
    lengths = [
        400,
        401,
        *(np.exp(rng.uniform(np.log(400), np.log(5 * rate), 6)).astype(int)),
        rate,
        rate + 1,
        30 * rate,
    ]
    clips = clips_of(rate, lengths)
    order = rng.permutation(len(clips))
    together = encoder.embed([clips[i] for i in order], layers="all")[np.argsort(order)]
    alone = np.concatenate([encoder.embed([clip], layers="all") for clip in clips])
    assert together.shape == (len(clips), encoder.n_layers, encoder.embedding_size)
    assert relative(together, alone) <= 1e-4
    assert relative(together[1:], together[:1]) > 1e-3  # clips differ: the line above could have failed
    # One pass per clip: "last" is the last of "all"; it may differ in the last bits, by other kernels
    np.testing.assert_allclose(encoder.embed(clips[2:4]), together[2:4, -1], rtol=1e-4, atol=1e-5)
    if family in WINDOWED or family == "encodec-48k":
        return  # tested one by one below
    options = {"pad_to_multiple_of": None} if family in ("wav2vec2-bert", "seamless-m4t-v2") else {}
    for clip, vectors in zip(clips, together, strict=True):
        if not rate <= len(clip) <= rate + 1:
            continue
        final, states = plain.states([clip], **options)
        assert relative(vectors[-1], final.mean(1)[0].numpy()) <= 1e-4
        same = bool(states) and states[-1].shape[1] == final.shape[1]
        for vector, state in zip(vectors, states[:-1] if same else states, strict=False):
            assert relative(vector, state.mean(1)[0].numpy()) <= 1e-4


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in (*WINDOWED, *CODECS)])
def test_one_padded_batch_is_exact(family, pair, monkeypatch):
    """However much of a batch is padding: the plan keeps it small for speed only."""
    monkeypatch.setitem(encoder_module._PASS_SECONDS, "cpu", 1000)
    monkeypatch.setitem(encoder_module._BATCH_SECONDS, "cpu", 1000)
    encoder = pair(family)[1]
    clips = clips_of(encoder.sampling_rate, [400, 640, 720, 1999, 16000, 16319])
    together = encoder.embed(clips, layers="all")
    alone = np.concatenate([encoder.embed([clip], layers="all") for clip in clips])
    assert relative(together, alone) <= 1e-4
    if encoder._batches.mixed:  # it really was one batch
        segments = [segment for clip in clips for segment in encoder.inputs.segments(clip, None)]
        assert len(batching.plan(segments, 1000, 1000, encoder.sampling_rate, True)) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_without_what_is_fast(family, tiny, pair, monkeypatch):
    """Every module as transformers made it, its weight norm too, and never clips of two lengths in one batch: the same embeddings."""
    plain, fast = pair(family)
    monkeypatch.setenv("ARCH_HF_FAST", "0")
    encoder = AudioEncoder.from_pretrained(tiny(family))
    assert not encoder.fast and fast.fast and encoder.identity != fast.identity
    expected = [f"{type(m).__module__}.{type(m).__name__}" for m in AudioTower(plain.model).modules()]
    assert [f"{type(m).__module__}.{type(m).__name__}" for m in encoder.tower.modules()] == expected
    assert not any(m._forward_pre_hooks for m in encoder.tower.encoder.modules() if isinstance(m, torch.nn.Conv1d))
    rate = encoder.sampling_rate
    clips = clips_of(rate, [rate // 3, rate, rate + 77, rate, 2 * rate])
    lengths, run = [], encoder._batches.run
    monkeypatch.setattr(
        encoder._batches,
        "run",
        lambda segments, *rest: lengths.append({s.values.shape for s in segments}) or run(segments, *rest),
    )
    for options in ({}, {"padding": "max_length", "max_seconds": 2}):
        ours, theirs = (e.embed(clips, layers="all", **options) for e in (encoder, fast))
        assert relative(ours, theirs) <= 1e-5
    assert all(len(shapes) == 1 for shapes in lengths)


@pytest.mark.parametrize("family", FAMILIES)
def test_reload_gives_the_same(family, pair, tmp_path):
    plain, first = pair(family)
    plain.model.save_pretrained(tmp_path)
    plain.extractor.save_pretrained(tmp_path)
    again = AudioEncoder.from_pretrained(tmp_path)
    assert again.weights_sha256 == first.weights_sha256 and again.identity == first.identity
    assert {**again.describe(), "id": 0} == {**first.describe(), "id": 0}
    clips = clips_of(first.sampling_rate, [first.sampling_rate // 2])
    np.testing.assert_array_equal(again.embed(clips), first.embed(clips))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["wav2vec2", "wavlm-large", "whisper", "mimi"])
def test_half_precision(family, dtype, tiny, pair):
    full, half = pair(family)[1], AudioEncoder.from_pretrained(tiny(family), dtype=dtype)
    clips = clips_of(full.sampling_rate, [full.sampling_rate // 2, full.sampling_rate])
    a, b = full.embed(clips, layers="all"), half.embed(clips, layers="all")
    assert half.weights_sha256 == full.weights_sha256 and b.dtype == np.float32 and not np.array_equal(a, b)
    assert ((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).min() >= 0.999


def test_other_weights_have_another_hash(tiny, tmp_path):
    make_tiny("hubert", tmp_path, seed=1)
    hashes = {AudioEncoder.from_pretrained(folder).weights_sha256 for folder in (tmp_path, tiny("hubert"))}
    assert len(hashes) == 2


def test_windows(pair):
    """Whisper: 320 samples a frame; a clip over 30 s is the frames of its windows. AST: the patches of the clip's own
    time, without the two special tokens."""
    plain, whisper = pair("whisper")
    (short, long) = clips_of(16000, [5 * 16000 + 1, 34 * 16000])
    own = plain.states([short])[0][0, :251].mean(0).numpy()
    np.testing.assert_allclose(whisper.embed([short])[0], own, rtol=1e-4, atol=1e-5)
    head, tail = (plain.states([part])[0][0] for part in (long[: 30 * 16000], long[30 * 16000 :]))
    expected = torch.cat([head, tail[:200]]).mean(0).numpy()
    np.testing.assert_allclose(whisper.embed([short, long])[1], expected, rtol=1e-4, atol=1e-5)

    plain, ast = pair("ast")
    (clip,) = clips_of(16000, [2 * 16000])  # 198 frames; patches of 16 every 10: 19 of them in the clip
    grid = plain.states([clip])[0][0, 2:].reshape(12, 101, 32)
    np.testing.assert_allclose(ast.embed([clip])[0], grid[:, :19].mean((0, 1)).numpy(), rtol=1e-4, atol=1e-5)
    (clip,) = clips_of(16000, [ast.inputs.window])  # a full one: all patches, and not the tokens
    grid = plain.states([clip])[0][0, 2:]
    np.testing.assert_allclose(ast.embed([clip])[0], grid.mean(0).numpy(), rtol=1e-4, atol=1e-5)


def test_clap_hears_a_short_clip_several_times(pair):
    """2.5 s fill its window of 10 s: all frames are the clip's. 3 s stand there three times, and a second of silence is not pooled."""
    plain, clap = pair("clap")
    full, short = clips_of(48000, [48000 * 5 // 2, 48000 * 3])
    np.testing.assert_allclose(clap.embed([full]), plain.states([full])[0].mean(1), rtol=1e-4, atol=1e-5)
    grid = plain.states([short])[0].unflatten(1, (2, 32))
    np.testing.assert_allclose(clap.embed([short]), grid[:, :, :29].mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_padding_on_the_left_is_not_pooled(tiny, tmp_path):
    """As some trainers save it: a short clip stands at the end of Whisper's window, behind silence."""
    shutil.copytree(tiny("whisper"), tmp_path / "left")
    settings = json.loads((tmp_path / "left/preprocessor_config.json").read_text())
    (tmp_path / "left/preprocessor_config.json").write_text(json.dumps(settings | {"padding_side": "left"}))
    plain, encoder = Plain("whisper", tmp_path / "left"), AudioEncoder.from_pretrained(tmp_path / "left")
    (clip,) = clips_of(16000, [5 * 16000])
    states = plain.states([clip])[0][0]
    np.testing.assert_allclose(encoder.embed([clip])[0], states[-250:].mean(0).numpy(), rtol=1e-4, atol=1e-5)
    padded = encoder.embed([clip], padding="max_length", max_seconds=8)
    np.testing.assert_allclose(padded[0], states[-400:].mean(0).numpy(), rtol=1e-4, atol=1e-5)
    hidden, times = encoder.frames([clip])[0]
    assert hidden.shape == (250, 32) and times[0] == 0 and times[-1] == pytest.approx(4.98)


def test_stereo_codec_in_chunks(pair):
    """EnCodec at 48 kHz: chunks of 1 s every 0.99 s, each normalised, as its own `encode` takes them."""
    plain, encoder = pair("encodec-48k")
    clips = clips_of(48000, [47520 * 2 + 480, 60000])
    for clip in clips:
        expected = plain.states([clip], padding=False)[0].mean(1)
        np.testing.assert_allclose(encoder.embed([clip]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family, shortest", [("hubert", 400), ("sew", 720), ("wav2vec2-bert", 560), ("ast", 400)])
def test_clips_shorter_than_the_receptive_field_are_zero_padded_to_it(family, shortest, pair):
    encoder = pair(family)[1]
    assert encoder.inputs.minimum() == shortest
    for n in (1, 100, shortest - 1):
        (clip,) = clips_of(16000, [n])
        padded = np.pad(clip, (0, shortest - n))
        np.testing.assert_array_equal(encoder.embed([clip]), encoder.embed([padded]))
    assert np.isfinite(encoder.embed([np.zeros(1, np.float32)])).all()


@pytest.mark.parametrize("padding", ["none", "max_length"])
def test_non_finite_output_names_clip_layer_and_dtype(padding, tiny):
    encoder = AudioEncoder.from_pretrained(tiny("hubert"))
    good, loud = np.ones(8000, np.float32), np.full(8000, np.nan, np.float32)
    with pytest.raises(NonFiniteError, match=r"clip 2: hidden state 0 .* not finite in float32") as caught:
        encoder.embed([good, good, loud], padding=padding, max_seconds=1)
    assert (caught.value.index, caught.value.layer) == (2, 0)
    with torch.no_grad():
        encoder.tower.encoder.encoder.layers[1].final_layer_norm.weight[3] = float("inf")
    with pytest.raises(NonFiniteError) as caught:
        encoder.embed([good], padding=padding, max_seconds=1)
    assert (caught.value.index, caught.value.layer) == (0, 2)


def test_embed_refuses_what_is_no_list_of_clips(tiny):
    encoder = AudioEncoder.from_pretrained("logmel")
    clip = np.zeros(400, np.float32)
    for waveforms in ([np.zeros((2, 400), np.float32)], [np.zeros(0, np.float32)]):
        with pytest.raises(ValueError, match="waveform 0"):
            encoder.embed(waveforms)
    for wrong in ({"padding": "longest"}, {"padding": "max_length"}, {"layers": "first"}):
        with pytest.raises(ValueError):
            encoder.embed([clip], **wrong)
    assert encoder.embed([]).shape == (0, 128)


def test_weight_norm_is_folded_exactly(tiny):
    encoder = AudioEncoder.from_pretrained(tiny("hubert"))
    conv = encoder.tower.encoder.encoder.pos_conv_embed.conv.conv
    assert not torch.nn.utils.parametrize.is_parametrized(conv)
    plain = AutoModel.from_pretrained(tiny("hubert")).encoder.pos_conv_embed.conv
    torch.testing.assert_close(conv.weight, plain.weight.detach(), rtol=1e-6, atol=0)
    assert torch.equal(conv.weight, plain.double().weight.float())


@pytest.mark.parametrize("family", ["wav2vec2", "wavlm-large", "data2vec-audio", "sew"])
def test_convolutions_are_spared_the_padding(tiny, family, monkeypatch):
    """Of clips of 0.2 to 0.5 s padded to 5 s, a tenth goes through the convolutions, to the same embeddings."""
    encoder = AudioEncoder.from_pretrained(tiny(family))
    clips = [sample_clip(seconds, encoder.sampling_rate, seed) for seed, seconds in enumerate((0.2, 0.5, 0.35))]
    lengths, as_it_is = [], convolutions._FirstConvolution.forward

    def watched(self, time, weight):
        lengths.append(time.shape[1])
        return as_it_is(self, time, weight)

    monkeypatch.setattr(convolutions._FirstConvolution, "forward", watched)
    quick = encoder.embed(clips, padding="max_length", max_seconds=5.0, layers="all")
    assert max(lengths) < 0.6 * encoder.sampling_rate
    monkeypatch.setattr(inputs, "_constant_from", len)
    plain = encoder.embed(clips, padding="max_length", max_seconds=5.0, layers="all")
    assert lengths[-1] >= 5 * encoder.sampling_rate
    assert np.linalg.norm(quick - plain) / np.linalg.norm(plain) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_copies_in_several_threads(family, pair):
    """As the extraction does on a CPU: what one thread's modules keep of their batch is nothing to another's."""
    encoder = pair(family)[1]
    assert encoder.thread_safe
    lengths = np.random.default_rng(0).integers(400, 2 * encoder.sampling_rate, 12)
    batches = [clips_of(encoder.sampling_rate, lengths[i : i + 3]) for i in range(0, 12, 3)]
    alone = [encoder.embed(batch, layers="all") for batch in batches]

    def embed(copied, turn):
        return [copied.embed(batch, layers="all") for batch in batches[::turn]][::turn]

    with threads(2, cores=1) as pool:
        for found in pool.map(embed, [encoder, encoder.copy_for_thread()], [1, -1]):
            for mine, expected in zip(found, alone, strict=True):
                np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_for_a_thread_shares_the_weights_and_nothing_that_changes(family, pair):
    encoder = pair(family)[1]
    copied = encoder.copy_for_thread()
    for mine, its in zip(encoder.tower.modules(), copied.tower.modules(), strict=True):
        assert mine is not its
    weights = [*encoder.tower.named_parameters(), *encoder.tower.named_buffers()]
    its = dict([*copied.tower.named_parameters(), *copied.tower.named_buffers()])
    assert {name: id(weight) for name, weight in weights} == {name: id(weight) for name, weight in its.items()}
    clip = clips_of(encoder.sampling_rate, [encoder.sampling_rate])
    ran = []
    for module in encoder.tower.modules():
        module.register_forward_pre_hook(lambda module, args: ran.append(module))  # made after the copy: not its own
    copied.embed(clip)
    assert not ran  # no part of the copy leads back into the encoder


def test_compiled_it_gives_the_same(tiny, pair, monkeypatch):
    """Traced as `torch.compile` does, and run as it is: compiling takes a minute, and a C++ compiler."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", functools.partialmethod(compile_module, backend="eager"))
    encoder = pair("hubert")[1]
    compiled = AudioEncoder.from_pretrained(tiny("hubert"), compiled=True)
    assert not compiled.thread_safe
    waveforms = clips_of(encoder.sampling_rate, [3000, 7000, 7000, 5500, 40000])
    for options in ({}, {"padding": "max_length", "max_seconds": 1.0}):
        found, expected = (e.embed(waveforms, layers="all", **options) for e in (compiled, encoder))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
