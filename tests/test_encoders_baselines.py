"""The baselines against independent computations, and the models of Table 2 against their architectures."""

import csv
import itertools
import json
import re
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
import scipy.fft
import torch
import transformers as hf
from torch.utils.flop_counter import FlopCounterMode
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from arch_hf.cli import main
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.baselines import BASELINES, mel_filters, zero_crossing_rates
from arch_hf.embedding.check import sample_clip
from arch_hf.results.table2 import ARCHITECTURES, TABLE2_MODELS, published_score


@pytest.mark.parametrize("n_fft, n_mels, rate", [(400, 64, 16000), (2048, 128, 44100), (512, 40, 8000)])
def test_mel_filters(n_fft, n_mels, rate):
    expected = mel_filter_bank(n_fft // 2 + 1, n_mels, 0, rate / 2, rate, norm="slaney", mel_scale="slaney")
    np.testing.assert_allclose(mel_filters(n_fft, n_mels, rate), expected, atol=1e-8)


def mel_power(clip, n_fft, hop, n_mels, rate):
    filters = mel_filter_bank(n_fft // 2 + 1, n_mels, 0, rate / 2, rate, norm="slaney", mel_scale="slaney")
    window = window_function(n_fft, "hann")
    return spectrogram(clip, window, n_fft, hop, power=2.0, pad_mode="constant", mel_filters=filters, mel_floor=1e-10)


def test_logmel_is_the_mean_and_deviation_of_the_log_mel_spectrogram():
    encoder, clip = AudioEncoder.from_pretrained("logmel"), sample_clip(0.8, 16000, 3)
    frames = np.log(mel_power(clip.astype(np.float64), 400, 160, 64, 16000))
    expected = np.concatenate([frames.mean(1), frames.std(1)])
    np.testing.assert_allclose(encoder.embed([clip])[0], expected, rtol=1e-3, atol=2e-3)


def test_mfcc_is_what_the_esc50_paper_used():
    """12 MFCCs without the 0th, by librosa's formulas in numpy, and the zero-crossing rate of frames of 512 samples side by side; mean and
    deviation of each."""
    encoder, clip = AudioEncoder.from_pretrained("mfcc"), sample_clip(1.1, 44100, 5)
    decibels = 10 * np.log10(mel_power(clip.astype(np.float64), 2048, 512, 128, 44100))
    decibels = np.maximum(decibels, decibels.max() - 80)
    mfcc = scipy.fft.dct(decibels, axis=0, type=2, norm="ortho")[1:13]
    rates = [np.mean(np.abs(np.diff(np.sign(clip[start : start + 512])))) / 2 for start in range(0, len(clip), 512)]
    expected = np.concatenate([mfcc.mean(1), [np.mean(rates)], mfcc.std(1), [np.std(rates)]])
    assert encoder.embedding_size == 26
    np.testing.assert_allclose(encoder.embed([clip])[0], expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("samples", [1, 2, 511, 512, 513, 514, 1024, 1025, 3000])
def test_zero_crossing_rates(samples):
    """Of frames side by side, also where samples are zero and where the last frame is short: as a loop counts them."""
    rng = np.random.default_rng(samples)
    clips = rng.choice([-1.0, -0.5, 0.0, 0.0, 0.25], (2, samples)).astype(np.float32)
    found = zero_crossing_rates(torch.tensor(clips), 512).numpy()[..., 0]
    for clip, rates in zip(clips, found, strict=True):
        expected = []
        for start in range(0, samples, 512):
            part = clip[start : start + 512]
            pairs = list(itertools.pairwise(part))
            changes = [1.0 if a * b < 0 else 0.5 if (a == 0) != (b == 0) else 0.0 for a, b in pairs]
            expected += [sum(changes) / len(pairs)] if pairs else []
        np.testing.assert_allclose(rates, expected or [0.0], atol=1e-7)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_models_like_any_other(name, tmp_path):
    encoder = AudioEncoder.from_pretrained(name)
    encoder.tower.encoder.save_pretrained(tmp_path)
    encoder.inputs.feature_extractor.save_pretrained(tmp_path)
    assert type(hf.AutoModel.from_pretrained(tmp_path)) is BASELINES[name]
    again = AudioEncoder.from_pretrained(tmp_path)
    assert again.identity == encoder.identity
    clips = [sample_clip(seconds, encoder.sampling_rate, 0) for seconds in (0.01, 0.5, 0.4999, 3)]
    together = encoder.embed(clips, layers="all")
    assert together.shape == (4, 1, encoder.embedding_size)
    np.testing.assert_allclose(together, np.concatenate([again.embed([c], layers="all") for c in clips]), rtol=1e-5)
    padded = [np.pad(clip, (0, encoder.sampling_rate))[: encoder.sampling_rate] for clip in clips]
    np.testing.assert_allclose(encoder.embed(clips, "max_length", 1.0), encoder.embed(padded), rtol=1e-5)


def test_import_arch_hf_is_enough_to_load_a_baseline(tmp_path):
    model = AudioEncoder.from_pretrained("logmel")
    model.tower.encoder.save_pretrained(tmp_path)
    model.inputs.feature_extractor.save_pretrained(tmp_path)
    code = (
        "import sys, arch_hf; assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "from transformers import AutoConfig, AutoFeatureExtractor, AutoModel\n"
        f"folder = {str(tmp_path)!r}\n"
        "print(type(AutoConfig.from_pretrained(folder)).__name__, type(AutoModel.from_pretrained(folder)).__name__,\n"
        "      type(AutoFeatureExtractor.from_pretrained(folder)).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["LogMelConfig", "LogMelModel", "Wav2Vec2FeatureExtractor"], done.stderr


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_and_operations_of_the_architectures(name, monkeypatch):
    """Counted again on a model without memory; eager attention, which the flop counter sees."""
    # torch cannot parametrise on the meta device: without weight norm, whose one vector per kernel position is added
    monkeypatch.setattr(torch.nn.utils.parametrizations, "weight_norm", lambda module, **_: module)
    model_class, settings, n_parameters, gflop = ARCHITECTURES[name]
    model_class = getattr(hf, model_class)
    config = model_class.config_class(**settings)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.inference_mode():
        model = model_class._from_config(config, attn_implementation="eager").eval()
        model(torch.zeros(1, 5 * 16000))
    weight_norm = 0 if "data2vec" in name else config.num_conv_pos_embeddings
    assert sum(p.numel() for p in model.parameters()) + weight_norm == n_parameters
    assert counter.get_total_flops() / 5e9 == pytest.approx(gflop, abs=0.006)


def test_table_2():
    rows = list(csv.DictReader((files("arch_hf.results") / "table2.csv").read_text().splitlines()))
    assert [(m.name, m.size) for m in TABLE2_MODELS] == [(row["model"], row["size"]) for row in rows]
    assert len({m.model_id for m in TABLE2_MODELS}) == len(rows) == 16
    for model, row in zip(TABLE2_MODELS, rows, strict=True):
        assert len(model.scores) == 12
        for corpus, score in model.scores.items():
            assert score == pytest.approx(float(row[corpus]) / 100) == published_score(model.model_id, corpus)
        assert model.revision is None or re.fullmatch("[0-9a-f]{40}", model.revision)
    assert sum(model.audioset for model in TABLE2_MODELS) == 4
    assert published_score("ALM/hubert-large-audioset", "ravdess") == 0.7326
    assert published_score("logmel", "esc50") is None and published_score("facebook/wav2vec2-base", "other") is None


def test_list_models(capsys):
    assert main(["list", "models"]) == 0
    out = capsys.readouterr().out
    assert all(model.model_id in out for model in TABLE2_MODELS) and "logmel" in out and "962.5 M" in out


def test_the_identity_is_stable_and_tells_encoders_apart():
    identity = AudioEncoder.from_pretrained("logmel").identity
    assert identity["feature_extractor"]["sampling_rate"] == 16000 and identity["config"]["n_mels"] == 64
    assert identity == AudioEncoder.from_pretrained("logmel").identity == json.loads(json.dumps(identity))
    assert identity != AudioEncoder.from_pretrained("mfcc").identity
