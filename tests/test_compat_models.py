"""What is used of torch and transformers beyond their public names: each does what its plain fallback does, which works without it."""

import importlib
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional
from transformers import AutoModel

from arch_hf.compat import torch_internals, transformers_internals
from arch_hf.embedding import AudioEncoder


def test_gelu_in_place():
    values = torch.randn(1000)
    expected = functional.gelu(values)
    for gelu in (torch_internals.gelu_in_place, torch_internals.gelu_copied):
        given = values.clone()
        assert torch.equal(gelu(given), expected) and torch.equal(given, expected)


def test_without_the_operator_of_aten(monkeypatch):
    monkeypatch.setattr(torch.ops.aten, "gelu_", None)
    try:
        assert importlib.reload(torch_internals).gelu_in_place is torch_internals.gelu_copied
    finally:
        monkeypatch.undo()
        importlib.reload(torch_internals)


@pytest.mark.parametrize("family", ["hubert", "sew", "wav2vec2-large"])
def test_frames_of_samples(family, tiny):
    model = AutoModel.from_pretrained(tiny(family)).eval()
    lengths = torch.tensor([400, 719, 720, 721, 1039, 1040, 5000, 16000])
    if family == "sew":
        lengths = lengths[2:]
    counted = [model.feature_extractor(torch.zeros(1, n)).shape[-1] for n in lengths.tolist()]
    assert transformers_internals.frames_of_samples(model, lengths).tolist() == counted
    without_its_method = SimpleNamespace(config=model.config)
    assert transformers_internals.frames_of_samples(without_its_method, lengths).tolist() == counted


@pytest.mark.parametrize("family, expected", [("wav2vec2", "sdpa"), ("wavlm", "eager"), ("whisper", "sdpa")])
def test_attention_of(family, expected, tiny):
    assert AudioEncoder.from_pretrained(tiny(family)).attention == expected
    assert transformers_internals.attention_of(object()) is None
