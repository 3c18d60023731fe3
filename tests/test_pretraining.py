"""Pretraining's arithmetic, each against a plain or independent computation on small tensors."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.fft
import torch
from torch.nn import functional as F
from transformers import HubertModel
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from arch_hf.errors import UserError
from arch_hf.pretraining import targets
from arch_hf.pretraining.architecture import feature_extractor, frames_of, hubert_config
from arch_hf.pretraining.convolutions import convolve
from arch_hf.pretraining.hubert import HubertObjective
from arch_hf.pretraining.kmeans import fit_centroids
from arch_hf.pretraining.labels import n_frames
from arch_hf.pretraining.masking import sample_negatives, span_mask
from arch_hf.pretraining.options import Options, advice, recipe_of
from arch_hf.pretraining.recipes import DIFFERENCES, LATER_ITERATIONS, RECIPES, Recipe, get_recipe
from arch_hf.pretraining.step import learning_rate_at
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


# Section 4.2 of the wav2vec 2.0 paper: for a 15 s clip about 49% of the frames are masked, in spans of 14.7 frames on average.
# HuBERT states p = 8% and l = 10: with uniform starts 1 − 0.92¹⁰ = 56.6%.
@pytest.mark.parametrize(("start", "share", "mean_span"), [(0.065, 0.49, 14.7), (0.08, 0.566, None)])
def test_mask_has_the_published_statistics(start, share, mean_span):
    mask = span_mask(np.random.default_rng(0), (400, 749), start, 10)
    assert mask.mean() == pytest.approx(share, abs=0.01)
    spans = np.concatenate([runs_of(row) for row in mask])
    assert spans.min() >= 10
    if mean_span:
        assert spans.mean() == pytest.approx(mean_span, abs=0.5)


def fairseqs_share(clips, frames, rng, probability=0.65, length=10, draws=300):
    """The share of masked frames by the steps of fairseq's compute_mask_indices (static lengths, overlaps allowed, require_same_masks)."""
    shares = []
    for _ in range(draws):
        lengths = []
        for _ in range(clips):
            spans = max(2, int(probability * frames / length + rng.random()))
            starts = rng.choice(frames - length, spans, replace=False)
            lengths.append(len({start + offset for start in starts for offset in range(length)}))
        shares.append(min(lengths) / frames)
    return float(np.mean(shares))


@pytest.mark.parametrize(("clips", "frames"), [(8, 499), (5, 781), (1, 749)])
def test_trimmed_masks_are_as_many_as_the_released_code_makes(clips, frames):
    rng = np.random.default_rng(0)
    masks = [span_mask(rng, (clips, frames), 0.065, 10, trim=True) for _ in range(300)]
    assert all(len(set(mask.sum(axis=1))) == 1 for mask in masks)
    assert np.mean([mask.mean() for mask in masks]) == pytest.approx(fairseqs_share(clips, frames, rng), abs=0.004)


@pytest.mark.parametrize("frames", [3, 9, 10, 11, 40])
def test_mask_stays_within_short_clips(frames):
    mask = span_mask(np.random.default_rng(1), (200, frames), 0.065, 10, min_spans=1)
    assert mask.shape == (200, frames)
    assert mask.any(axis=1).all()
    assert min(runs_of(row).min() for row in mask) >= min(10, frames)
    if frames > 20:  # spans begin at the first frame and end at the last one in their turn, so no edge is spared or cut
        assert mask[:, 0].any() and mask[:, -1].any()


def test_negatives_are_other_masked_frames_of_the_same_clip_drawn_uniformly():
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
    codes = np.array([[1, 2], [3, 4], [1, 2], [1, 4]])
    logits = contrastive_logits(*map(torch.from_numpy, (predicted, quantised, negatives, codes)), temperature=0.1)
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
    recipe = get_recipe("wav2vec2", "tiny", [*SMALL, "feature_penalty=10"])
    torch.manual_seed(0)
    objective = Wav2Vec2Objective(recipe).train()
    generator = np.random.default_rng(0)
    waveforms = torch.from_numpy(generator.normal(size=(3, 8000)).astype(np.float32))
    mask = span_mask(generator, (3, frames_of(8000)), 0.1, 5)
    negatives = sample_negatives(generator, mask, 5)
    monkeypatch.setattr(F, "gumbel_softmax", hard_choice)  # the two would draw noise for different frames

    flat = np.flatnonzero(mask)
    ours = objective(waveforms, *map(torch.from_numpy, (mask, flat, negatives)))
    ours["objective"].backward()
    gradients = {name: p.grad.clone() for name, p in objective.model.named_parameters() if p.grad is not None}
    objective.zero_grad()
    everywhere = np.zeros((*mask.shape, 5), dtype=np.int64)
    everywhere[mask] = flat[negatives]
    theirs = objective.model(
        waveforms, mask_time_indices=torch.from_numpy(mask), sampled_negative_indices=torch.from_numpy(everywhere)
    )
    features = objective.model.wav2vec2.feature_extractor(waveforms)
    penalty = 10 * features.square().mean() * int(mask.sum())  # transformers has none
    (theirs.loss + penalty).backward()

    torch.testing.assert_close(ours["loss"], theirs.contrastive_loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours["diversity_loss"], theirs.diversity_loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        ours["codebook_perplexity"] / mask.sum(), theirs.codevector_perplexity, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(ours["objective"].detach(), (theirs.loss + penalty).detach(), rtol=1e-5, atol=1e-5)
    # Without layer drop every parameter has a part in the loss: processes wait for each one's gradient.
    assert gradients.keys() == dict(objective.model.named_parameters()).keys()
    for name, parameter in objective.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_hubert_logits_and_loss_equal_a_plain_computation():
    recipe = get_recipe("hubert", "tiny", [*SMALL, "feature_penalty=10", "clusters=7"])
    torch.manual_seed(0)
    objective = HubertObjective(recipe).eval()
    waveforms = torch.randn(2, 4000)
    mask = torch.from_numpy(span_mask(np.random.default_rng(0), (2, frames_of(4000)), 0.1, 5))
    labels = torch.randint(0, 7, mask.shape)
    values = objective(waveforms, mask, mask.flatten().nonzero()[:, 0], labels)

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


def test_gradient_scale_slows_the_convolutions_alone_and_changes_no_value():
    norms, losses = [], []
    for scale in (1.0, 0.1):
        torch.manual_seed(0)
        recipe = get_recipe("hubert", "tiny", [*SMALL, f"feature_gradient_scale={scale}", "clusters=4"])
        objective = HubertObjective(recipe)
        mask = torch.zeros(1, 24, dtype=torch.bool)
        mask[:, 5:12] = True
        waveforms, labels = torch.randn(1, 8000, generator=torch.manual_seed(1)), torch.zeros(1, 24, dtype=torch.int64)
        loss = objective(waveforms, mask, torch.arange(5, 12), labels)["objective"]
        loss.backward()
        losses.append(float(loss.detach()))
        convolution = objective.model.feature_extractor.conv_layers[0].conv
        norms.append((convolution.weight.grad.norm(), objective.projection.weight.grad.norm()))
    assert losses[0] == losses[1]
    assert float(norms[1][0] / norms[0][0]) == pytest.approx(0.1, rel=1e-3)
    assert float(norms[1][1] / norms[0][1]) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("samples", [400, 719, 720, 8000, 8123])
def test_convolutions_as_matrix_products_have_the_values_and_gradients_of_transformers(samples):
    recipe = get_recipe("hubert", "tiny", [*SMALL, "conv_dim=4,6,8,8,8,6,8"])
    torch.manual_seed(0)
    extractor = HubertModel(hubert_config(recipe)).feature_extractor.double().train()
    waveforms = torch.randn(3, samples, dtype=torch.float64)
    weights = torch.randn(3, frames_of(samples), 8, dtype=torch.float64)
    found = []
    for frames in (convolve(extractor, waveforms), extractor(waveforms.clone()).transpose(1, 2)):
        extractor.zero_grad()
        (frames * weights).sum().backward()
        found.append((frames.detach(), [p.grad.clone() for p in extractor.parameters()]))
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


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
        model = HubertModel(hubert_config(recipe)).eval()
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
    found = fit_centroids(frames, 3, seed=0, starts=20)
    assert np.abs(found[:, None] - centres).sum(axis=-1).min(axis=0).max() < 0.1
    with pytest.raises(UserError, match="too few"):
        fit_centroids(frames[:2], 3, seed=0, starts=20)


def test_the_rate_is_fairseqs_polynomial_decay():
    recipe = get_recipe("hubert", "base", ["max_steps=1000", "warmup_fraction=0.08"])
    rate = recipe.learning_rate / 80  # what fairseq's schedule begins with
    for step in range(1000):
        assert learning_rate_at(step, recipe) == pytest.approx(rate)
        updates = step + 1  # and what its step_update sets after each update
        rate = recipe.learning_rate * (updates / 80 if updates <= 80 else 1 - (updates - 80) / 920)


# Both papers round to 95 M and 317 M; the released HuBERT encoders hold 94.4 M and 315.4 M.
@pytest.mark.parametrize(
    ("objective", "size", "millions"),
    [("wav2vec2", "base", 95.0), ("hubert", "base", 94.4), ("wav2vec2", "large", 317.4), ("hubert", "large", 315.4)],
)
def test_recipes_build_the_published_architectures(objective, size, millions):
    recipe = RECIPES[objective, size]
    with torch.device("meta"):
        model = Wav2Vec2Objective(recipe).model if objective == "wav2vec2" else HubertObjective(recipe).model
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rat=1", "did you mean 'learning_rate'"),
        ("layers=x", "expected a value like"),
        ("micro_batches=0", "above 0"),
        ("heads=3", "divide"),
        ("positional_groups=3", "divide"),
        ("learning_rate=inf", "finite"),
        ("diversity_weight=nan", "finite"),
        ("crop_seconds=1e300", "at most 86400"),
        ("negatives=0", "above 0"),
        ("conv_dim=0,8,8,8,8,8,8", "above 0 each"),
        ("layer_drop=1", "0 or more and below 1"),
        ("warmup_fraction=2", "at most 1"),
    ],
)
def test_overrides_that_make_no_sense_are_refused(override, message):
    with pytest.raises(UserError, match=message):
        get_recipe("hubert", "tiny", [override])


def test_what_the_sources_of_a_recipe_disagree_on_is_a_number_of_it():
    fields = {field.name for field in dataclasses.fields(Recipe)}
    for each in DIFFERENCES:
        assert each.number in fields and (each.objective, each.size) in RECIPES
    assert RECIPES["wav2vec2", "large"].micro_batch_clips == 4 and RECIPES["hubert", "base"].kmeans_starts == 20
    for size, numbers in LATER_ITERATIONS.items():
        assert (
            dataclasses.replace(RECIPES["hubert", size], **numbers).target_layer
            == {"tiny": 2, "base": 6, "large": 9}[size]
        )


def test_targets_that_are_not_the_papers_are_told(tmp_path):
    def told(size, **changes):
        return advice(recipe_of(Options("hubert", size, ["x"], tmp_path, **changes)))

    assert "without --targets_from" in told("large")[0]
    assert (
        told("large", targets_from="x") == [] and told("base") == [] and told("tiny", targets_from="x", layer=1) == []
    )
    assert "layer 9 for HuBERT large, not layer 6" in told("large", targets_from="x", layer=6)[0]
    with pytest.raises(UserError, match="--layer goes with --targets_from"):
        told("base", layer=3)


def test_frames_are_counted_alike_for_one_clip_and_for_many():
    samples = np.arange(0, 2000, 7)
    assert n_frames(samples).tolist() == [frames_of(int(each)) for each in samples]
