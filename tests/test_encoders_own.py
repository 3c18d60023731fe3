"""Any object with a sampling rate, an identity and an `embed` stands for an encoder."""

from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from ranks import rank

from arch_hf.audio import encode_wav
from arch_hf.data.clip_index import ClipIndex
from arch_hf.embedding import AudioEncoder, Encoder, NonFiniteError, as_encoder
from arch_hf.embedding.corpus import embed_corpus
from arch_hf.embedding.extraction import ExtractionPlan, extract
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.errors import UserError
from arch_hf.evaluate import evaluate_model
from arch_hf.files import audio_digest


class Levels:
    """Mean, deviation and length of a clip."""

    sampling_rate = 16000
    identity: ClassVar = {"what": "levels", "version": 1}

    def __init__(self, **changes):
        self.__dict__.update(changes)
        self.batches = []

    def embed(self, waveforms):
        self.batches.append(len(waveforms))
        return np.stack([[clip.mean(), clip.std(), len(clip)] for clip in waveforms])


class Deep(Levels):
    n_layers, embedding_size = 2, 3

    def embed(self, waveforms, layers="last"):
        vectors = torch.tensor(super().embed(waveforms))
        return torch.stack([vectors * 2, vectors], dim=1) if layers == "all" else vectors


def clips():
    rng = np.random.default_rng(0)
    return [encode_wav((0.1 * rng.standard_normal(n)).astype(np.float32), 16000) for n in (4000, 16000, 9000, 40000)]


def corpus():
    audio = [*clips(), b"no audio"]
    index = ClipIndex([audio_digest(clip) for clip in audio], np.array([0.25, 1.0, 0.5625, 2.5, 1.0]))
    table = SimpleNamespace(clip_id=list("abcde"))
    return SimpleNamespace(audio=audio.__getitem__, index=index, order=None, table=table)


@pytest.mark.parametrize("padding, expected", [("none", [4000, 16000, 9000, 32000]), ("max_length", [32000] * 4)])
def test_a_corpus_goes_through_it(padding, expected, tmp_path):
    """Cut to 2 s, padded by us where the protocol pads; a broken clip is named; a second run asks it nothing."""
    own = Levels()
    encoder, data = as_encoder(own), corpus()
    settings = EmbedSettings(tmp_path, padding, 2.0, "last")
    store = EmbeddingStore(tmp_path, settings.key(encoder))
    plan = ExtractionPlan.of(encoder, data, settings)
    done = extract(encoder, data, store, plan, rank())
    assert done.clips == 4 and list(done.failures) == [data.index.digests[4]]
    found = store.read(data.index.digests[:4])
    assert found[:, 2].tolist() == expected and found.dtype == np.float32
    asked = len(own.batches)
    assert extract(encoder, data, store, plan, rank()).clips == 0 and len(own.batches) == asked


def test_identities_keep_stores_apart(tmp_path):
    settings = EmbedSettings(tmp_path, "none", 2.0, "last")
    encoders = [Levels(), Levels(identity="levels"), Levels(sampling_rate=8000), Deep()]
    keys = [str(settings.key(as_encoder(encoder))) for encoder in encoders]
    assert len(set(keys)) == 4 and str(settings.key(as_encoder(Levels()))) == keys[0]


def test_layers():
    own = as_encoder(Deep())
    clip = np.ones(800, np.float32)
    assert own.embed([clip], layers="all").tolist() == [[[2, 0, 1600], [1, 0, 800]]]
    assert own.embed([clip]).tolist() == [[1, 0, 800]]
    assert as_encoder(Levels()).embed([clip], layers="all").shape == (1, 1, 3)


def test_what_results_say_of_it():
    facts = as_encoder(Levels(model_id="me/levels")).describe()
    assert (facts["id"], facts["class"], facts["embedding_size"], facts["n_layers"]) == ("me/levels", "Levels", 3, 1)
    encoder = AudioEncoder.from_pretrained("logmel")
    assert as_encoder(encoder) is encoder and as_encoder(as_encoder(Levels())).model_id == "Levels"
    assert isinstance(encoder, Encoder)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sampling_rate": "16 kHz"}, "Levels.sampling_rate is '16 kHz'"),
        ({"identity": ""}, "Levels.identity is empty"),
        ({"identity": {"path": Path("x")}}, "Levels.identity is to be a text or plain JSON values"),
        ({"identity": 3}, "Levels.identity is to be"),
        ({"embed": lambda clips: 1 / 0}, "Levels.embed fails on a second of noise: division by zero"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        as_encoder(Levels(**changes))


def test_wrong_output():
    clip = np.ones(800, np.float32)
    one_for_all = as_encoder(Levels(embedding_size=3, embed=lambda clips: np.ones(3)))
    with pytest.raises(UserError, match=r"Levels.embed gives an array of shape \(3,\) where it should be \(2, 3\)"):
        one_for_all.embed([clip, clip])
    broken = as_encoder(Levels(embedding_size=1, embed=lambda clips: np.array([[1.0], [np.nan]])))
    with pytest.raises(NonFiniteError) as caught:
        broken.embed([clip, clip])
    assert caught.value.index == 1
    for no_encoder in ("facebook/hubert-base-ls960", object(), None):
        with pytest.raises(UserError, match="is no encoder: it has no sampling_rate"):
            as_encoder(no_encoder)


def test_embed_corpus_takes_it(tmp_path):
    data = corpus()
    settings = EmbedSettings(tmp_path, "none", 2.0, "all")

    class Table(list):
        clip_id = tuple("abcde")

    data.table = Table("abcde")
    found = embed_corpus(as_encoder(Deep()), data, settings, rank())
    assert found.usable == [0, 1, 2, 3] and found.read(0).shape == (4, 3) and found.read("all").shape == (4, 2, 3)
    np.testing.assert_array_equal(found.read(0), 2 * found.read(1))


def test_the_main_job_takes_one_in_place_of_an_id(tmp_path):
    """Beside an id, under its own name, read back when it is asked again, and another one under another identity."""
    own = Levels(model_id="me/levels", embedding_size=3)
    where = {"output_dir": tmp_path / "results", "cache_dir": tmp_path / "cache", "seeds": 1, "limit": 8}
    mine, theirs = evaluate_model([own, "logmel"], ["synthetic_events"], **where)
    assert (mine.model.id, mine.model.class_name, theirs.model.id) == ("me/levels", "Levels", "logmel")
    assert (tmp_path / "results/me__levels/synthetic_events.limit8.seeds1.json").is_file()
    asked = len(own.batches)
    assert evaluate_model(own, ["synthetic_events"], **where)[0] == mine and len(own.batches) == asked
    other = Levels(model_id="me/levels", identity="others")
    assert evaluate_model(other, ["synthetic_events"], **where)[0].identity != mine.identity and other.batches
    with pytest.raises(UserError, match="two models are called me/levels"):
        evaluate_model([own, other], ["synthetic_events"], **where)
    with pytest.raises(UserError, match="a float is no encoder"):
        evaluate_model(0.5, ["synthetic_events"], **where)
