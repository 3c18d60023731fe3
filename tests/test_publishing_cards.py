"""The cards of the released checkpoints, and the card of anybody's own model."""

import csv
import re
from importlib.resources import files

import pytest
from hub_repo import check_card
from huggingface_hub import EvalResult, ModelCard
from publishing_samples import make_result, save
from tiny_models import make_tiny

from arch_hf.data import CORPUS_NAMES, get_corpus
from arch_hf.embedding import AudioEncoder
from arch_hf.errors import UserError
from arch_hf.publishing.card import copy_results, merge_results
from arch_hf.publishing.own_card import write_card
from arch_hf.publishing.released_cards import released_card, released_names

RELEASED = {
    "wav2vec2-base-audioset": ("W2V2-AS", "B"),
    "wav2vec2-large-audioset": ("W2V2-AS", "L"),
    "hubert-base-audioset": ("HuBERT-AS", "B"),
    "hubert-large-audioset": ("HuBERT-AS", "L"),
}


def test_the_released_checkpoints_are_those_of_the_paper():
    assert sorted(released_names()) == sorted(RELEASED)


@pytest.mark.parametrize("name", RELEASED)
def test_released_cards_say_what_table_2_says(name):
    text = released_card(name, f"arch/{name}")
    check_card(text)
    card = ModelCard(text)
    with (files("arch_hf.results") / "table2.csv").open() as file:
        rows = {(row["model"], row["size"]): row for row in csv.DictReader(file)}
    (model, size), row = RELEASED[name], rows[RELEASED[name]]
    twin = rows[model.removesuffix("-AS"), size]
    below = [get_corpus(c).title for c in CORPUS_NAMES if float(row[c]) < float(twin[c])]
    said = re.search(r"speech-trained twin on (.*?)[;:] ", " ".join(card.text.split()))[1]
    assert re.split(", | and ", said) == (below or ["all twelve corpora"])
    assert [e.dataset_type for e in card.data.eval_results] == [f"arch/{corpus}" for corpus in CORPUS_NAMES]
    for corpus, entry in zip(CORPUS_NAMES, card.data.eval_results, strict=True):
        assert entry.metric_value == pytest.approx(float(row[corpus]) / 100, abs=1e-9)
        assert (entry.metric_type, entry.dataset_name) == (get_corpus(corpus).metric, get_corpus(corpus).title)
        assert entry.metric_args == {"protocol": "arch-v1"} and "Table 2" in entry.source_name
        assert re.search(rf"\| {re.escape(entry.dataset_name)} \| \w+ \| {float(row[corpus]):.2f} \|", card.text)
    assert (card.data.license, card.data.model_name, card.data.library_name) == (
        "cc-by-nc-sa-4.0",
        name,
        "transformers",
    )
    for heading in (
        "Results",
        "How to load",
        "Training data",
        "How it was made: what is known, and what is not",
        "Intended use",
        "Limits",
        "How to reproduce",
        "Licence and citation",
    ):
        assert f"## {heading}\n" in card.text
    assert card.data.base_model == f"ALM/{name}" and "Not stated there" in card.text and "$" not in card.text
    assert f"arch-hf publish checkpoint ALM/{name} --repo_id arch/{name}" in card.text


def test_own_card_writes_itself_and_keeps_what_was_there(tmp_path, capsys):
    folder = make_tiny("hubert", tmp_path / "my-hubert")
    encoder = AudioEncoder.from_pretrained(str(folder))
    result, multi, synthetic = make_result(value=0.4321), make_result("fsd50k", 0.25), make_result("synthetic_events")
    strict = make_result("emovo", 0.1, protocol="strict")
    part = make_result("us8k", limit=5)
    for each in (result, multi, synthetic, strict, part):
        each["model"] = encoder.describe() | {"id": "wherever/it/lay"}
    save(tmp_path / "results", result, multi, synthetic, strict, part, make_result("ravdess", model="arch/other"))
    path = write_card(folder, tmp_path / "results", repo_id="me/my-hubert")
    said = capsys.readouterr().err
    assert path == folder / "README.md" and "synthetic_events.json" in said
    assert "not in the card: us8k.json: limited to 5 clips per split" in said
    text = path.read_text()
    check_card(text)
    card = ModelCard(text)
    assert {e.dataset_type: e.metric_value for e in card.data.eval_results} == {
        "arch/esc50": 0.4321,
        "arch/fsd50k": 0.25,
        "arch/emovo": 0.1,
    }
    assert "| ESC-50 | arch-v1 1.0 | Accuracy | 43.21 | 41.21 to 45.21 |" in text and "$" not in text
    assert f"{encoder.n_parameters:,} parameters" in text and 'from_pretrained("me/my-hubert")' in text
    assert "--model_id me/my-hubert --datasets esc50 fsd50k --protocol arch-v1\n" in text
    assert "--model_id me/my-hubert --datasets emovo --protocol strict\n" in text

    path.write_text(
        text.replace("Not stated yet: say here", "Trained on my own birds").replace("- audio", "- audio # birds")
    )
    result["metrics"]["accuracy"]["mean"] = 0.5
    save(tmp_path / "results", result)
    write_card(folder, tmp_path / "results", repo_id="me/my-hubert")
    again = path.read_text()
    assert "Trained on my own birds" in again and "- audio # birds" in again
    assert "| 50.00 |" in again and "| 43.21 |" not in again and again.count("## Results") == 1
    write_card(folder, tmp_path / "results", repo_id="me/my-hubert")
    assert path.read_text() == again


def test_a_card_of_data_that_nobody_can_get_is_not_written(tmp_path):
    folder = make_tiny("hubert", tmp_path / "model")
    result = make_result("synthetic_events")
    result["model"] = AudioEncoder.from_pretrained(str(folder)).describe()
    save(tmp_path / "results", result)
    told = r"^no result for the card: synthetic_events.json: their data are not on the Hub.*; put them there"
    with pytest.raises(UserError, match=told):
        write_card(folder, tmp_path / "results")
    assert not (folder / "README.md").exists()


def test_own_card_takes_no_results_of_other_weights(tmp_path):
    folder = make_tiny("hubert", tmp_path / "model")
    save(tmp_path / "results", make_result(model=str(folder)))
    with pytest.raises(UserError, match="no result of the weights in"):
        write_card(folder, tmp_path / "results")
    assert not (folder / "README.md").exists()
    with pytest.raises(UserError, match=r"no config\.json"):
        write_card(tmp_path, tmp_path / "results")


def entry(value, dataset="arch/esc50", source=None, **args):
    return EvalResult(
        task_type="audio-classification", dataset_type=dataset, dataset_name="x", metric_type="accuracy", metric_value=value,
        metric_args=args or None, source_url="https://x.y" if source else None, source_name=source,
    )  # fmt: skip


OURS = {"benchmark": "arch-hf", "protocol": "arch-v1"}


@pytest.mark.parametrize(
    "head",
    [
        "", "---\n---\n", "---\nlicense: mit\n---\n", "---\nmodel-index:\nlicense: mit\n---\n", "---\nmodel-index: []\n---\n",
        "---\nmodel-index:\n- name: a\nlicense: mit\n---\n", "---\nmodel-index:\n- name: a\n  results: []\n# end\n---\n",
        '---\nmodel-index: [{name: a, results: [{task: {type: t}, dataset: {type: d, name: d}, metrics: [{type: m, value: 1}]}]}]\n---\n',
        "---\nlicense: &x mit\nother: *x\n---\n",
    ],
)  # fmt: skip
def test_merging_into_every_kind_of_head(head):
    before = ModelCard(head + "Text\n", ignore_metadata_errors=True).data.to_dict()
    text = merge_results(head + "Text\n", [entry(0.5, **OURS)], "name")
    check_card(text)
    data = ModelCard(text).data
    mine = [e for e in data.eval_results if e.metric_args == OURS]
    assert [e.metric_value for e in mine] == [0.5] and text.endswith("Text\n")
    assert all(data.to_dict()[key] == value for key, value in before.items() if key != "model-index")
    assert len(data.eval_results) == 1 + ("value: 1" in head)
    assert merge_results(text, [entry(0.5, **OURS)], "name") == text


def test_two_entries_of_the_card_that_is_replaced_are_copied_but_not_corrections_of_the_new_one():
    there = merge_results("", [entry(0.1, source="Table 2"), entry(0.2, "theirs/birds"), entry(0.3, **OURS)], "old")
    new = merge_results("# New\n", [entry(0.11, source="Table 2")], "new")
    merged = ModelCard(copy_results(there, new))
    assert sorted(e.metric_value for e in merged.data.eval_results) == [0.11, 0.2, 0.3] and "# New" in merged.text
    assert copy_results(there, str(merged)) == str(merged)


@pytest.mark.parametrize(
    "head", ["license: [mit", "- a list", "model-index: text", "model-index:\n- name: a\n  results:\n  - task: x"]
)
def test_unreadable_metadata_is_a_users_error(head):
    with pytest.raises(UserError, match="metadata cannot be read") as error:
        merge_results(f"---\n{head}\n---\nText\n", [entry(0.5, **OURS)], "name")
    assert "\n" not in str(error.value)


THEIRS = """- task: {type: asr}
    dataset: {name: LibriSpeech, type: librispeech_asr}
    metrics: [{type: wer, value: 12.30}]
"""
# Cards that cannot be merged into by adding a few lines, and what becomes of them: None, or why not.
ODD_CARDS = {
    "end of the document": ("---\nlicense: mit\n...\n---\n# Title\n", None),
    "anchor used below": (
        "---\nmodel-index:\n- name: h\n  results:\n  "
        + THEIRS.replace("task: {", "task: &task {")
        + "base: *task\n---\n# Title\n",
        "could not be read any more",
    ),
    "the key twice": (
        "---\nmodel-index:\n- name: a\n  results: []\nlicense: mit\nmodel-index:\n- name: b\n  results: []\n---\n# T\n",
        "the key model-index stands 2 times",
    ),
    "flow style": ("---\n{license: mit}\n---\n# Title\n", "could not be read any more"),
    "no dataset": (
        "---\nmodel-index:\n- name: h\n  results:\n  - task: {type: x}\n    metrics: [{type: wer, value: 1}]\n---\n# T\n",
        "result 1 of 'h': it has no dataset",
    ),
    "no value": (
        "---\nmodel-index:\n- name: h\n  results:\n  - task: {type: x}\n    dataset: {type: d, name: d}\n    metrics: [{type: wer}]\n---\n",
        "result 1 of 'h': a metric of it has no type or no value",
    ),
    "a deep list": ("---\nlicense: " + "[" * 5000 + "\n---\n", "cannot be read"),
}


@pytest.mark.parametrize("name", ODD_CARDS)
def test_a_card_that_would_not_read_back_is_not_written(name):
    card, refusal = ODD_CARDS[name]
    if refusal is None:
        merged = merge_results(card, [entry(0.5, **OURS)], "h")
        check_card(merged)
        found = ModelCard(merged)
        assert [e.metric_value for e in found.data.eval_results] == [0.5] and found.data.license == "mit"
        assert merged.endswith(card.split("...\n")[-1]) and merge_results(merged, [entry(0.5, **OURS)], "h") == merged
    else:
        with pytest.raises(UserError, match=refusal) as error:
            merge_results(card, [entry(0.5, **OURS)], "h")
        assert "\n" not in str(error.value)


def test_results_of_other_dtypes_configs_and_columns_stand_beside_each_other():
    plain = merge_results("", [entry(0.1, **OURS)], "m")
    both = merge_results(plain, [entry(0.2, dtype="bfloat16", **OURS), entry(0.3, options={"label": "x"}, **OURS)], "m")
    assert sorted(e.metric_value for e in ModelCard(both).data.eval_results) == [0.1, 0.2, 0.3]
    again = merge_results(both, [entry(0.4, dtype="bfloat16", **OURS)], "m")
    assert sorted(e.metric_value for e in ModelCard(again).data.eval_results) == [0.1, 0.3, 0.4]
