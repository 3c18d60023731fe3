"""Pretraining's arithmetic, each against a plain or independent computation on small tensors."""

import json
import math

import numpy as np
import pytest
import scipy.fft
import torch
from torch.nn import functional as F
from transformers import HubertModel
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from arch_hf.audio import encode_wav
from arch_hf.errors import UserError
from arch_hf.pretraining import sources, targets
from arch_hf.pretraining.batching import FolderPlan, assemble, group_by_length
from arch_hf.pretraining.hubert import HubertObjective
from arch_hf.pretraining.masking import sample_negatives, span_mask
from arch_hf.pretraining.recipes import RECIPES, feature_extractor, frames_of, get_recipe, model_config
from arch_hf.pretraining.wav2vec2 import Wav2Vec2Objective, contrastive_logits

SMALL = (
    "hidden_size=16",
    "layers=2",
    "heads=2",
    "intermediate_size=24",
    "conv_dim=8,8,8,8,8,8,8",
    "positional_kernel=4",
)
SMALL += ("positional_groups=2", "codewords=6", "code_dim=8", "projection_dim=8", "negatives=5")


def runs_of(row: np.ndarray) -> np.ndarray:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
    return edges[1::2] - edges[::2]


# Section 4.2 of the wav2vec 2.0 paper: for a 15 s clip about 49% of the frames are hidden, in spans of 14.7 frames on average.
# HuBERT states p = 8% and l = 10: with uniform starts 1 − 0.92¹⁰ = 56.6%.
@pytest.mark.parametrize(("start", "share", "mean_span"), [(0.065, 0.49, 14.7), (0.08, 0.566, None)])
def test_mask_has_the_published_statistics(start, share, mean_span):
    mask = span_mask(np.random.default_rng(0), 400, 749, start, 10)
    assert mask.mean() == pytest.approx(share, abs=0.01)
    spans = np.concatenate([runs_of(row) for row in mask])
    assert spans.min() >= 10
    if mean_span:
        assert spans.mean() == pytest.approx(mean_span, abs=0.5)


@pytest.mark.parametrize("frames", [3, 9, 10, 11, 40])
def test_mask_stays_within_short_clips(frames):
    mask = span_mask(np.random.default_rng(1), 200, frames, 0.065, 10, min_spans=1)
    assert mask.shape == (200, frames)
    assert mask.any(axis=1).all()
    assert min(runs_of(row).min() for row in mask) >= min(10, frames)
    if frames > 20:  # spans begin at the first frame and end at the last one in their turn, so no edge is spared or cut
        assert mask[:, 0].any() and mask[:, -1].any()


def test_negatives_are_other_hidden_frames_of_the_same_clip_drawn_uniformly():
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1]], dtype=bool)
    drawn = sample_negatives(np.random.default_rng(0), mask, 3000)
    own = np.arange(8)
    clip = np.nonzero(mask)[0]
    assert (clip[drawn] == clip[:, None]).all()
    alone = own == 3
    assert (drawn[~alone] != own[~alone, None]).all()
    assert (drawn[alone] == 3).all()
    counts = np.array([np.bincount(row, minlength=8) for row in drawn[4:]])[:, 4:]
    assert counts[~np.eye(4, dtype=bool)] == pytest.approx(1000, rel=0.12)


def test_contrastive_logits_equal_a_plain_computation_with_hand_picked_negatives():
    generator = np.random.default_rng(0)
    predicted, quantised = generator.normal(size=(2, 4, 3)).astype(np.float32)
    quantised[2] = quantised[0]  # frame 2 carries the codewords of frame 0: it is no negative of it
    negatives = np.array([[1, 2], [0, 3], [3, 1], [1, 1]])
    logits = contrastive_logits(*map(torch.from_numpy, (predicted, quantised, negatives)), temperature=0.1)
    for frame in range(4):
        for column, other in enumerate([frame, *negatives[frame]]):
            a, b = predicted[frame].tolist(), quantised[other].tolist()
            cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(
                sum(x * x for x in a) * sum(y * y for y in b)
            )
            expected = -math.inf if {frame, int(other)} == {0, 2} and column else cosine / 0.1
            assert float(logits[frame, column]) == pytest.approx(expected, rel=1e-5)


def hard_choice(logits, tau=1.0, hard=True):
    return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float() + 0 * logits


def test_wav2vec2_loss_and_gradients_equal_those_of_transformers(monkeypatch):
    recipe = get_recipe("wav2vec2", "tiny", SMALL)
    torch.manual_seed(0)
    objective = Wav2Vec2Objective(recipe).train()
    generator = np.random.default_rng(0)
    waveforms = torch.from_numpy(generator.normal(size=(3, 8000)).astype(np.float32))
    mask = span_mask(generator, 3, frames_of(8000), 0.1, 5)
    negatives = sample_negatives(generator, mask, 5)
    monkeypatch.setattr(F, "gumbel_softmax", hard_choice)  # the two would draw noise for different frames

    ours = objective(waveforms, torch.from_numpy(mask), torch.from_numpy(negatives))
    ours["objective"].backward()
    gradients = {name: p.grad.clone() for name, p in objective.model.named_parameters() if p.grad is not None}
    objective.zero_grad()
    flat = np.flatnonzero(mask)
    everywhere = np.zeros((*mask.shape, 5), dtype=np.int64)
    everywhere[mask] = flat[negatives]
    theirs = objective.model(
        waveforms, mask_time_indices=torch.from_numpy(mask), sampled_negative_indices=torch.from_numpy(everywhere)
    )
    theirs.loss.backward()

    torch.testing.assert_close(ours["loss"], theirs.contrastive_loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours["diversity_loss"], theirs.diversity_loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        ours["codebook_perplexity"] / mask.sum(), theirs.codevector_perplexity, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(ours["objective"], theirs.loss, rtol=1e-5, atol=1e-5)
    # Without layer drop every parameter has a part in the loss: processes wait for each one's gradient.
    assert gradients.keys() == dict(objective.model.named_parameters()).keys()
    for name, parameter in objective.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_hubert_logits_and_loss_equal_a_plain_computation():
    recipe = get_recipe("hubert", "tiny", [*SMALL, "feature_penalty=10"])
    torch.manual_seed(0)
    objective = HubertObjective(recipe, clusters=7).eval()
    waveforms = torch.randn(2, 4000)
    mask = torch.from_numpy(span_mask(np.random.default_rng(0), 2, frames_of(4000), 0.1, 5))
    labels = torch.randint(0, 7, mask.shape)
    values = objective(waveforms, mask, labels)

    states = objective.model(waveforms, mask_time_indices=mask).last_hidden_state.detach().double().numpy()
    weight, bias = (p.detach().double().numpy() for p in (objective.projection.weight, objective.projection.bias))
    codewords = objective.codewords.detach().double().numpy()
    loss = correct = 0
    for clip, frame in zip(*np.nonzero(mask.numpy()), strict=True):
        projected = weight @ states[clip, frame] + bias
        logits = [projected @ e / (np.linalg.norm(projected) * np.linalg.norm(e)) / 0.1 for e in codewords]
        loss -= logits[labels[clip, frame]] - math.log(sum(math.exp(value) for value in logits))
        correct += int(np.argmax(logits) == labels[clip, frame])
    assert float(values["loss"]) == pytest.approx(loss, rel=1e-5)
    assert int(values["accuracy"]) == correct
    penalty = 10 * float(objective.model.feature_extractor(waveforms).detach().pow(2).mean()) * int(mask.sum())
    assert float(values["objective"].detach()) == pytest.approx(loss + penalty, rel=1e-5)
    values["objective"].backward()
    assert all(parameter.grad is not None for parameter in objective.parameters())


def test_gradient_scale_slows_the_convolutions_alone():
    norms = []
    for scale in (1.0, 0.1):
        torch.manual_seed(0)
        objective = HubertObjective(get_recipe("hubert", "tiny", [*SMALL, f"feature_gradient_scale={scale}"]), 4)
        mask = torch.zeros(1, 24, dtype=torch.bool)
        mask[:, 5:12] = True
        objective(torch.randn(1, 8000, generator=torch.manual_seed(1)), mask, torch.zeros(1, 24, dtype=torch.int64))[
            "objective"
        ].backward()
        norms.append(
            (
                objective.model.feature_extractor.conv_layers[0].conv.weight.grad.norm(),
                objective.projection.weight.grad.norm(),
            )
        )
    assert float(norms[1][0] / norms[0][0]) == pytest.approx(0.1, rel=1e-3)
    assert float(norms[1][1] / norms[0][1]) == pytest.approx(1.0, rel=1e-5)


def test_gumbel_temperature_falls_as_published():
    objective = Wav2Vec2Objective(get_recipe("wav2vec2", "base", [*SMALL, "conv_dim=8,8,8,8,8,8,8"]))
    for step, expected in ((0, 2.0), (100_000, 2 * 0.999995**100_000), (400_000, 0.5)):
        objective.set_step(step)
        assert float(objective.temperature) == pytest.approx(expected)


def test_mfcc_equals_kaldis_definition_computed_by_transformers_and_scipy():
    audio = np.random.default_rng(0).normal(size=6000).astype(np.float32)
    mel = mel_filter_bank(257, 23, 20, 8000, 16000, mel_scale="kaldi", triangularize_in_mel_space=True)
    log_mel = spectrogram(
        audio,
        window_function(400, "povey", periodic=False),
        400,
        160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        remove_dc_offset=True,
        mel_filters=mel,
        log_mel="log",
        mel_floor=1.192e-07,
    ).T
    cepstra = scipy.fft.dct(log_mel, type=2, norm="ortho", axis=1)[:, :13] * (
        1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    )
    found = targets.mfcc(torch.from_numpy(audio)[None])[0].numpy()
    np.testing.assert_allclose(found[:, :13], cepstra, rtol=1e-3, atol=1e-3)
    # Slopes by the regression formula over two frames to either side, on an inner frame.
    slope = sum(n * (found[10 + n, :13] - found[10 - n, :13]) for n in (1, 2)) / 10
    np.testing.assert_allclose(found[10, 13:26], slope, rtol=1e-4, atol=1e-4)


def test_labels_name_the_nearest_centroid_at_the_models_frame_rate():
    waveforms = torch.randn(2, 5000, generator=torch.manual_seed(0))
    frames = targets.mfcc(waveforms)
    centroids = torch.randn(9, 39, generator=torch.manual_seed(1)) * 5
    labels = targets.ClusterTargets(targets.MfccFrames(), centroids)(waveforms)
    assert labels.shape == (2, frames_of(5000))
    # Frame t of the model hears samples 320 t to 320 t + 400, and so does MFCC frame 2 t.
    for t in range(labels.shape[1]):
        distances = torch.cdist(frames[:, 2 * t], centroids)
        assert (distances.argmin(dim=1) == labels[:, t]).all()


def test_layer_targets_equal_the_whole_models_hidden_state(tmp_path):
    for layer_norm in ("true", "false"):
        recipe = get_recipe("hubert", "tiny", [*SMALL, f"layer_norm={layer_norm}"])
        model = HubertModel(model_config(recipe)).eval()
        model.save_pretrained(tmp_path / layer_norm)
        feature_extractor(recipe).save_pretrained(tmp_path / layer_norm)
        waveforms = torch.randn(2, 4000)
        inputs = feature_extractor(recipe)(
            list(waveforms.numpy()), sampling_rate=16000, return_tensors="pt"
        ).input_values
        for layer in (0, 1, 2):
            expected = model(inputs, output_hidden_states=True).hidden_states[layer]
            found = targets.LayerFrames(str(tmp_path / layer_norm), layer)(waveforms)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="layers 0 to 2"):
        targets.LayerFrames(str(tmp_path / "true"), 3)
    with pytest.raises(UserError, match="no checkpoint"):
        targets.LayerFrames(str(tmp_path), 1)


def test_kmeans_finds_well_separated_clusters():
    centres = np.array([[0, 0], [10, 0], [0, 10]], dtype=np.float32)
    frames = (centres[np.arange(300) % 3] + np.random.default_rng(0).normal(size=(300, 2)) * 0.1).astype(np.float32)
    found = targets.fit_centroids(frames, 3, seed=0).numpy()
    assert np.abs(found[:, None] - centres).sum(axis=-1).min(axis=0).max() < 0.1
    with pytest.raises(UserError, match="too few"):
        targets.fit_centroids(frames[:2], 3, seed=0)


# Both papers round to 95 M and 317 M; the released HuBERT encoders hold 94.4 M and 315.4 M.
@pytest.mark.parametrize(
    ("objective", "size", "millions"),
    [("wav2vec2", "base", 95.0), ("hubert", "base", 94.4), ("wav2vec2", "large", 317.4), ("hubert", "large", 315.4)],
)
def test_recipes_build_the_published_architectures(objective, size, millions):
    recipe = RECIPES[objective, size]
    with torch.device("meta"):
        model = Wav2Vec2Objective(recipe).model if objective == "wav2vec2" else HubertObjective(recipe, 100).model
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rat=1", "did you mean 'learning_rate'"),
        ("layers=x", "expected a value like"),
        ("micro_batches=0", "above 0"),
        ("heads=3", "divide"),
    ],
)
def test_overrides_that_make_no_sense_are_refused(override, message):
    with pytest.raises(UserError, match=message):
        get_recipe("hubert", "tiny", [override])


def test_an_epoch_takes_every_clip_once_within_the_budget():
    seconds = np.random.default_rng(0).uniform(0.3, 8, size=300)
    recipe = get_recipe("hubert", "tiny", ["micro_batch_seconds=12", "crop_seconds=5"])
    groups = group_by_length(seconds, recipe, np.random.default_rng(0))
    assert sorted(np.concatenate([clips for clips, _ in groups])) == list(range(300))
    for clips, samples in groups:
        assert len(clips) * samples <= 12 * 16000
        lengths = np.minimum(seconds[clips], 5)
        assert samples == int(lengths.min() * 16000)
        assert lengths.max() <= 1.25 * lengths.min()


def test_processes_share_one_order_and_a_position_continues_it():
    seconds = np.random.default_rng(0).uniform(0.5, 4, size=40)
    recipe = get_recipe("hubert", "tiny", ["micro_batch_seconds=8", "micro_batches=4"])

    def take(count, **kwargs):
        plan = iter(FolderPlan(seconds, recipe, 7, **kwargs))
        return [next(plan) for _ in range(count)]

    alone = take(40)
    halves = [take(20, rank=rank, world=2) for rank in (0, 1)]
    shared = [plan for step in range(10) for half in halves for plan in half[2 * step : 2 * step + 2]]
    resumed = take(28, position=alone[11].position)  # after three steps
    for expected, found in [*zip(alone, shared, strict=True), *zip(alone[12:], resumed, strict=True)]:
        assert found.key == expected.key and found.samples == expected.samples
        np.testing.assert_array_equal(found.clips, expected.clips)
    assert len({plan.key for plan in alone}) == 40
    assert alone[-1].key[1] > 0, "the order must go past the first epoch to be tested"


def test_a_broken_clip_is_left_out_and_named_and_moves_no_other_crop():
    recipe = get_recipe("wav2vec2", "tiny")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, size=(3, 24000)).astype(np.float32)
    clips = [(f"{i}", encode_wav(audio, 16000)) for i, audio in enumerate(noise)]
    whole = assemble(clips, 8000, (1, 2), {}, recipe)
    torn = assemble([clips[0], ("1", clips[1][1][:2000]), clips[2]], 8000, (1, 2), {}, recipe)
    assert [name for name, _ in torn.broken] == ["1"] and "truncated" in torn.broken[0][1]
    torch.testing.assert_close(torn.waveforms, whole.waveforms[[0, 2]])
    nothing = assemble([("x", b"")], 8000, (1, 2), {}, recipe)
    assert nothing.empty and nothing.hidden == 0 and nothing.broken == [("x", "empty file (0 bytes)")]


def test_folders_are_searched_and_what_cannot_be_used_is_named(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    for name, length in (("a/one.wav", 16000), ("a/b/two.WAV", 8000), ("short.wav", 100)):
        (tmp_path / name).write_bytes(encode_wav(np.zeros(length, np.float32), 16000))
    (tmp_path / "noise.flac").write_bytes(b"no audio at all")
    (tmp_path / "notes.txt").write_text("not audio")
    clips = sources.scan_folders([str(tmp_path)], 0.2)
    assert [path[len(str(tmp_path)) :] for path in clips.paths] == ["/a/b/two.WAV", "/a/one.wav"]
    assert clips.seconds.tolist() == [0.5, 1.0]
    reasons = {path[len(str(tmp_path)) :]: reason for path, reason in clips.skipped}
    assert "too short: 0.01 s" in reasons["/short.wav"] and "not audio" in reasons["/noise.flac"] and len(reasons) == 2
    with pytest.raises(UserError, match=r"none of 4 clips can be used: 3 too short .* 1 unreadable"):
        sources.scan_folders([str(tmp_path)], 2.0)
    with pytest.raises(UserError, match="no such folder"):
        sources.scan_folders([str(tmp_path / "nowhere")], 0.2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no audio file found"):
        sources.scan_folders([str(tmp_path / "empty")], 0.2)


def test_audiosets_segment_lists_choose_the_clips(tmp_path):
    lines = ["# Segments csv", "# num_ytids=3", "# YTID, start_seconds, end_seconds, positive_labels"]
    lines += [f'{name}, 30.000, 40.000, "/m/09x0r,/m/05zppz"' for name in ("--aE2O5G5WE", "-0DdlOuIFUI", "YYYYYYYYYYY")]
    (tmp_path / "segments.csv").write_text("\n".join(lines))
    (tmp_path / "clips").mkdir()
    for name in ("Y--aE2O5G5WE.wav", "-0DdlOuIFUI_30000_40000.flac", "zzzzzzzzzzz.wav"):
        (tmp_path / "clips" / name).write_bytes(encode_wav(np.zeros(16000, np.float32), 16000))
    clips = sources.scan_folders([str(tmp_path / "clips")], 0.2, [str(tmp_path / "segments.csv")])
    assert len(clips.paths) == 2 and not any("zzz" in path for path in clips.paths)
    assert clips.skipped == [("YYYYYYYYYYY", "in the segment list, not in the folder")]
    (tmp_path / "other.csv").write_text(json.dumps({"no": "csv"}))
    with pytest.raises(UserError, match="expected AudioSet's lines"):
        sources.scan_folders([str(tmp_path / "clips")], 0.2, [str(tmp_path / "other.csv")])
