"""The convolutions in another form against PyTorch's own."""

import copy

import pytest
import torch
from torch import nn
from transformers import HubertConfig, HubertModel

from arch_hf.embedding.fast.convolutions import ClipEnds, WaveformConvolutions
from arch_hf.embedding.fast.fourier import FourierConvolution

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize("kernel", [64, 65, 128])
@pytest.mark.parametrize("bias", [True, False])
def test_long_convolutions_at_every_length(kernel, bias):
    torch.manual_seed(kernel)
    conv = nn.Conv1d(12, 8, kernel, padding=kernel // 2, groups=4, bias=bias)
    assert FourierConvolution.takes(conv)
    fourier = FourierConvolution(conv)
    with torch.inference_mode():
        for frames in (1, 2, kernel // 2 - 1, kernel // 2, kernel // 2 + 1, kernel, 2 * kernel, 2 * kernel + 1, 999):
            hidden = torch.randn(3, frames, 12).transpose(1, 2)
            torch.testing.assert_close(fourier(hidden), conv(hidden), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "change", [{"kernel_size": 19, "padding": 9}, {"padding": 0}, {"stride": 2}, {"groups": 12}, {"dilation": 2}]
)
def test_other_convolutions_stay_as_they_are(change):
    settings = {"kernel_size": 128, "padding": 64, "groups": 4}
    assert not FourierConvolution.takes(nn.Conv1d(12, 12, **settings | change))


def plain_and_ours(norm: str, seed: int = 0):
    torch.manual_seed(seed)
    config = HubertConfig(feat_extract_norm=norm, conv_bias=norm == "layer", conv_dim=(24,) * 7, **TINY)
    plain = HubertModel(config).eval().feature_extractor
    for layer in plain.conv_layers:
        if hasattr(layer, "layer_norm"):
            nn.init.normal_(layer.layer_norm.weight)
            nn.init.normal_(layer.layer_norm.bias)
    ends = ClipEnds()
    return plain, WaveformConvolutions(plain, ends), ends


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("level, offset", [(1, 0), (1e-3, 0), (1e-6, 0), (0, 0), (1, 3), (30, -100), (0, 1)])
def test_loud_faint_silent_and_shifted_clips(norm, level, offset):
    """A channel's variance is small where it lets little pass, and nothing where there is nothing."""
    plain, ours, _ = plain_and_ours(norm)
    values = (
        level * torch.randn(2, 4000).cumsum(1) / 30 + offset
    )  # mostly low frequencies, which the channels differ in
    with torch.inference_mode():
        expected = copy.deepcopy(plain).double()(values.double()).float()
        torch.testing.assert_close(ours(values), expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("lengths", [(400, 400), (400, 401, 719, 720, 5000), (5119, 5120, 5121), (16079, 16080)])
def test_clips_of_several_lengths_in_one_batch(norm, lengths):
    plain, ours, ends = plain_and_ours(norm)
    clips = [torch.randn(n) for n in lengths]
    ends.samples = torch.tensor(lengths)
    with torch.inference_mode():
        together = ours(nn.utils.rnn.pad_sequence(clips, batch_first=True))
        for clip, found in zip(clips, together, strict=True):
            alone = plain(clip[None])[0]
            torch.testing.assert_close(found[:, : alone.shape[1]], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("constant_from", [0, 1, 319, 320, 321, 4000, 7999])
def test_what_is_constant_to_the_end(norm, constant_from):
    plain, ours, ends = plain_and_ours(norm)
    values = torch.full((2, 8000), 0.3)
    values[0, :constant_from] = torch.randn(constant_from)
    ends.constant_from = constant_from
    with torch.inference_mode():
        torch.testing.assert_close(ours(values), plain(values), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_half_precision(norm):
    plain, _, _ = plain_and_ours(norm)
    values = torch.randn(2, 16000)
    with torch.inference_mode():
        exact = plain(values)
        plain = copy.deepcopy(plain).bfloat16()
        half = WaveformConvolutions(plain, ClipEnds())(values.bfloat16()).float()
        as_before = plain(values.bfloat16()).float()
    error = (half - exact).norm() / exact.norm()
    assert error < 1.1 * (as_before - exact).norm() / exact.norm() + 1e-3
