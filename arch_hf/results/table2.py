"""The sixteen models of the paper's Table 2 as data, and their published scores.

Sources: scores, labels and sizes from Table 2 of arXiv 2405.00934 (`table2.csv`, in percent); pretraining data and
licences from the model cards on the Hub and the papers they name; parameters and operations counted on the
architecture (`ARCHITECTURES`) with torch's flop counter, as the tests do again. Operations are per second of a 5 s clip,
a multiplication and an addition counting as two; attention grows with length, so a 30 s clip needs more per second.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from arch_hf.results.result import Published, Result
from arch_hf.results.text import align

SOURCE = "arXiv 2405.00934, Table 2"

# By how much (standard deviation, fractions) a difference to Table 2 is uncertain because the paper's program drew at random from clips in the order of
# its directory, which nobody can know: the test clips of RAVDESS, and of IRMAS and EMOVO which train clips are left out. docs/protocols.md says how each was measured.
DRAW_UNCERTAINTY = {"ravdess": 0.039, "irmas": 0.003, "emovo": 0.016}

_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_XLARGE = {"hidden_size": 1280, "num_hidden_layers": 48, "num_attention_heads": 16, "intermediate_size": 5120}
_STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

# Architecture: the class in transformers, what its configuration sets, parameters, GFLOP per second of audio.
ARCHITECTURES = {
    "wav2vec2-base": ("Wav2Vec2Model", {}, 94_371_712, 14.33),
    "wav2vec2-large": ("Wav2Vec2Model", {**_LARGE, **_STABLE}, 315_438_720, 37.10),
    "wav2vec2-1b": ("Wav2Vec2Model", {**_XLARGE, **_STABLE}, 962_497_408, 103.32),
    "wavlm-base": ("WavLMModel", {}, 94_381_936, 14.34),
    "wavlm-large": ("WavLMModel", {**_LARGE, **_STABLE}, 315_456_704, 37.11),
    "hubert-base": ("HubertModel", {}, 94_371_712, 14.33),
    "hubert-large": ("HubertModel", {**_LARGE, **_STABLE}, 315_438_720, 37.10),
    "hubert-xlarge": ("HubertModel", {**_XLARGE, **_STABLE}, 962_497_408, 103.32),
    "data2vec-base": ("Data2VecAudioModel", {}, 93_164_288, 14.21),
    "data2vec-large": ("Data2VecAudioModel", _LARGE, 313_276_416, 36.88),
}

_LIBRISPEECH = "LibriSpeech, 960 h"
_LIBRI_LIGHT = "Libri-Light, 60,000 h"
_MIX_94K = "Libri-Light, GigaSpeech, VoxPopuli, 94,000 h"
_XLSR = "128 languages, 436,000 h"  # VoxPopuli, MLS, CommonVoice, VoxLingua107, BABEL
_ROBUST = "Libri-Light, CommonVoice, Switchboard, Fisher"
_AUDIOSET = "AudioSet, 5,000 h"


@dataclass(frozen=True)
class Table2Model:
    """One row of Table 2.

    `name` and `size` are the paper's ("W2V2", "B"), `audioset` its mark for pretraining on AudioSet; `revision` is the
    commit that is known to be the one tested, null where none is; `gflop_per_second` is of audio; `scores` are
    fractions in [0, 1] by corpus: accuracy, or macro mAP.
    """

    name: str
    size: str
    model_id: str
    architecture: str
    pretraining_data: str
    licence: str
    revision: str | None = None

    @property
    def audioset(self) -> bool:
        return self.name.endswith("-AS")

    @property
    def n_parameters(self) -> int:
        return ARCHITECTURES[self.architecture][2]

    @property
    def gflop_per_second(self) -> float:
        return ARCHITECTURES[self.architecture][3]

    @property
    def scores(self) -> dict[str, float]:
        return _table2()[self.name, self.size]


# The paper does not say which norm its wav2vec2-large-audioset has; with a group norm it had 10,000 parameters fewer.
# WavLM's cards on the Hub name no licence of their own but that of its code, CC BY-SA 3.0.
TABLE2_MODELS = (
    Table2Model("W2V2", "B", "facebook/wav2vec2-base", "wav2vec2-base", _LIBRISPEECH, "apache-2.0"),
    Table2Model(
        "WavLM",
        "B",
        "microsoft/wavlm-base",
        "wavlm-base",
        _LIBRISPEECH,
        "cc-by-sa-3.0",
        "efa81aae7ff777e464159e0f877d54eac5b84f81",
    ),
    Table2Model("WavLM+", "B", "microsoft/wavlm-base-plus", "wavlm-base", _MIX_94K, "cc-by-sa-3.0"),
    Table2Model(
        "HuBERT",
        "B",
        "facebook/hubert-base-ls960",
        "hubert-base",
        _LIBRISPEECH,
        "apache-2.0",
        "dba3bb02fda4248b6e082697eee756de8fe8aa8a",
    ),
    Table2Model("D2V", "B", "facebook/data2vec-audio-base", "data2vec-base", _LIBRISPEECH, "apache-2.0"),
    Table2Model("W2V2-AS", "B", "ALM/wav2vec2-base-audioset", "wav2vec2-base", _AUDIOSET, "cc-by-nc-sa-4.0"),
    Table2Model("HuBERT-AS", "B", "ALM/hubert-base-audioset", "hubert-base", _AUDIOSET, "cc-by-nc-sa-4.0"),
    Table2Model("W2V2", "L", "facebook/wav2vec2-large-robust", "wav2vec2-large", _ROBUST, "apache-2.0"),
    Table2Model("XLS-R", "L", "facebook/wav2vec2-xls-r-300m", "wav2vec2-large", _XLSR, "apache-2.0"),
    Table2Model("WavLM", "L", "microsoft/wavlm-large", "wavlm-large", _MIX_94K, "cc-by-sa-3.0"),
    Table2Model("HuBERT", "L", "facebook/hubert-large-ll60k", "hubert-large", _LIBRI_LIGHT, "apache-2.0"),
    Table2Model("D2V", "L", "facebook/data2vec-audio-large", "data2vec-large", _LIBRI_LIGHT, "apache-2.0"),
    Table2Model("W2V2-AS", "L", "ALM/wav2vec2-large-audioset", "wav2vec2-large", _AUDIOSET, "cc-by-nc-sa-4.0"),
    Table2Model("HuBERT-AS", "L", "ALM/hubert-large-audioset", "hubert-large", _AUDIOSET, "cc-by-nc-sa-4.0"),
    Table2Model("XLS-R", "XL", "facebook/wav2vec2-xls-r-1b", "wav2vec2-1b", _XLSR, "apache-2.0"),
    Table2Model("HuBERT", "XL", "facebook/hubert-xlarge-ll60k", "hubert-xlarge", _LIBRI_LIGHT, "apache-2.0"),
)


@cache
def _table2() -> dict[tuple[str, str], dict[str, float]]:
    with (files("arch_hf.results") / "table2.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        (row.pop("model"), row.pop("size")): {name: round(float(value) / 100, 4) for name, value in row.items()}
        for row in rows
    }


def published_score(model_id: str, corpus: str) -> float | None:
    """The score of Table 2 as a fraction, or None for a model or corpus that is not in it.

    Examples:
        >>> published_score("facebook/hubert-base-ls960", "esc50")
        0.589
        >>> published_score("somebody/else", "esc50") is None
        True
    """
    for model in TABLE2_MODELS:
        if model.model_id == model_id:
            return model.scores.get(corpus)
    return None


def beside_published(result: Result) -> Published | None:
    """The score of Table 2 beside a result, where the model, the corpus, the protocol and the layer are the paper's."""
    value = published_score(result.model.id, result.corpus)
    plain = result.protocol["name"] == "arch-v1" and result.layer == -1 and not result.dataset.options
    if value is None or not plain or result.caveat:
        return None
    delta = result.headline.mean - value
    return Published(value=value, source=SOURCE, delta=delta, uncertainty=DRAW_UNCERTAINTY.get(result.corpus))


def render_models() -> str:
    """The table of `arch-hf list models`: what is known of each, and the built-in baselines."""
    rows = [["model", "size", "Hub id", "parameters", "GFLOP/s", "licence", "pretrained on"]]
    for model in TABLE2_MODELS:
        name = model.name + (" \u25c7" if model.audioset else "")
        n_parameters, gflop = f"{model.n_parameters / 1e6:.1f} M", f"{model.gflop_per_second:.1f}"
        rows.append([name, model.size, model.model_id, n_parameters, gflop, model.licence, model.pretraining_data])
    for name, about in (
        ("logmel", "mean and deviation of 64 log-mel bands"),
        ("mfcc", "of 12 MFCCs and zero crossings"),
    ):
        rows.append([name, "-", name, "0", "-", "apache-2.0", f"nothing: {about}"])
    return align(rows) + "\nGFLOP/s: operations per second of audio. Any other audio model: its Hub id or folder."
