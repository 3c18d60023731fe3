"""The cards of the released checkpoints: one template, what is particular to each, and the scores of Table 2."""

import string
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import transformers
import yaml
from huggingface_hub import EvalResult, ModelCardData

from arch_hf.data.registry import CORPUS_NAMES, get_corpus
from arch_hf.files import shipped
from arch_hf.publishing.entries import PAPER
from arch_hf.results.table2 import ARCHITECTURES, TABLE2_MODELS, Table2Model

_METRICS = {"accuracy": ("accuracy", "Accuracy"), "map_macro": ("mAP", "Macro mAP")}  # in the table, in the metadata
_DOMAINS = {"events": "acoustic events"}


@cache
def _particulars() -> dict[str, dict]:
    return yaml.safe_load((shipped("model_cards") / "audioset.yaml").read_text(encoding="utf-8"))


def released_names() -> list[str]:
    """The released checkpoints.

    Examples:
        >>> released_names()[0]
        'hubert-base-audioset'
    """
    return [name for name in _particulars() if name != "families"]


def released_card(name: str, repo_id: str) -> str:
    """The card of a released checkpoint, as it stands in its repository.

    Examples:
        >>> released_card("hubert-base-audioset", "arch/hubert-base-audioset").splitlines()[1]
        'base_model: ALM/hubert-base-audioset'
    """
    own = _particulars()[name]
    family = _particulars()["families"][own["family"]]
    model, twin = _row(own["source"]), _row(own["twin"])
    class_name, settings, _, _ = ARCHITECTURES[model.architecture]
    config = getattr(transformers, str(class_name)).config_class(**cast(Mapping[str, Any], settings))
    template = string.Template((shipped("model_cards") / "audioset.md").read_text(encoding="utf-8"))
    text = template.substitute(
        name=name,
        repo_id=repo_id,
        source=own["source"],
        twin=own["twin"],
        family=own["family"],
        size=own["size"],
        paper=family["paper"],
        weights=family["weights"].strip(),
        learnt=family["learnt"],
        not_stated=f"{family['not_stated']} " if family["not_stated"] else "",
        layers=config.num_hidden_layers,
        dimensions=config.hidden_size,
        parameters=f"{model.n_parameters / 1e6:.0f}",
        table=_table(name, model, twin),
        against_twin=_against_twin(model, twin),
    )
    return f"---\n{_metadata(name, own['source'], family['tag'], model)}\n---\n\n{text}"


def _row(model_id: str) -> Table2Model:
    return next(model for model in TABLE2_MODELS if model.model_id == model_id)


def _metadata(name: str, source: str, tag: str, model: Table2Model) -> str:
    results = []
    for corpus_name in CORPUS_NAMES:
        corpus = get_corpus(corpus_name)
        results.append(
            EvalResult(
                task_type="audio-classification",
                task_name="Audio classification",
                dataset_type=f"arch/{corpus_name}",
                dataset_name=corpus.title,
                metric_type=corpus.metric,
                metric_name=f"{_METRICS[corpus.metric][1]} (arch-v1)",
                metric_value=model.scores[corpus_name],
                metric_args={"protocol": "arch-v1"},
                source_url=PAPER,
                source_name="ARCH paper, Table 2",
            )
        )
    data = ModelCardData(
        base_model=source,
        license=model.licence,
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=["audio", tag, "self-supervised", "arch-benchmark"],
        datasets=["agkphysics/AudioSet"],
        metrics=["accuracy", "map_macro"],
        model_name=name,
        eval_results=results,
    )
    return data.to_yaml()


def _table(name: str, model: Table2Model, twin: Table2Model) -> str:
    lines = [f"| domain | corpus | metric | {name} | {twin.model_id.split('/')[-1]} |", "|---|---|---|---|---|"]
    for corpus_name in CORPUS_NAMES:
        corpus = get_corpus(corpus_name)
        scores = " | ".join(f"{100 * row.scores[corpus_name]:.2f}" for row in (model, twin))
        domain = _DOMAINS.get(corpus.domain, corpus.domain)
        lines.append(f"| {domain} | {corpus.title} | {_METRICS[corpus.metric][0]} | {scores} |")
    return "\n".join(lines)


def _against_twin(model: Table2Model, twin: Table2Model) -> str:
    below = [get_corpus(name).title for name in CORPUS_NAMES if model.scores[name] < twin.scores[name]]
    if not below:
        return "Above its speech-trained twin on all twelve corpora; still, for what is said, the best encoders of Table 2 are trained on speech."
    named = f"{', '.join(below[:-1])} and {below[-1]}" if len(below) > 1 else below[0]
    return f"Below its speech-trained twin on {named}: for what is said, take an encoder trained on speech."
