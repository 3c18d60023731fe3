"""Results onto a model's page, over HTTP, with the real clients."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, parse_eval_result_entries
from publishing_samples import MODEL, make_result, save

from arch_hf import hub as hub_module
from arch_hf.cli import build_parser
from arch_hf.data import CORPUS_NAMES
from arch_hf.errors import UserError
from arch_hf.publishing.entries import entry_of
from arch_hf.publishing.hub import NOTHING
from arch_hf.publishing.results import push_results, why_not_pushable
from arch_hf.results.result import Result

THEIR_CARD = """---
# the licence was hard to get
license: mit   # really
tags: [audio,   speech]
model-index:
- name: Somebody's name
  results:
  - task: {type: automatic-speech-recognition, name: Speech}
    dataset: {name: LibriSpeech, type: librispeech_asr, revision: 0123}
    metrics:
    - {type: wer, value: 20.90, name: "Test WER"}
    source: {name: Their board, url: "https://example.org"}
    note: 'an extra field'
# a comment below

language:
  - en
---
# Tiny

Their text, with --- and *stars*.
"""


def eval_results(repo):
    return parse_eval_result_entries(
        [e for path, data in repo.files().items() if ".eval_results/" in path for e in yaml.safe_load(data)]
    )


def test_numbers_arrive_in_both_forms_and_a_second_push_changes_nothing(hub, tmp_path):
    repo = hub.create("models", MODEL)
    save(
        tmp_path,
        make_result("esc50", 0.4321098765432101),
        make_result("fsd50k", 1 / 3),
        make_result("esc50", 0.5, protocol="strict"),
    )
    url = push_results(tmp_path, MODEL)
    assert url == f"{hub.url}/{MODEL}/commit/{repo.refs['main']}" and len(repo.log) == 2

    card = ModelCard.load(MODEL)
    found = {(e.dataset_type, e.metric_args["protocol"]): e for e in card.data.eval_results}
    assert {key: e.metric_value for key, e in found.items()} == {
        ("arch/esc50", "arch-v1"): 0.4321098765432101, ("arch/esc50", "strict"): 0.5, ("arch/fsd50k", "arch-v1"): 1 / 3,
    }  # fmt: skip
    entry = found["arch/esc50", "arch-v1"]
    assert (entry.task_type, entry.dataset_name, entry.dataset_config) == ("audio-classification", "ESC-50", "default")
    assert (entry.dataset_split, entry.dataset_revision) == ("fold_1+fold_2+fold_3+fold_4+fold_5", "c" * 40)
    assert (entry.metric_type, entry.source_name) == ("accuracy", "arch-hf") and "arch-v1" in entry.metric_name
    assert (
        found["arch/fsd50k", "arch-v1"].metric_type == "map_macro"
        and found["arch/fsd50k", "arch-v1"].dataset_split == "test"
    )

    newer = {(e.dataset_id, e.task_id): e for e in HfApi().model_info(MODEL).eval_results}
    assert {key: e.value for key, e in newer.items()} == {
        ("arch/esc50", "esc50"): 0.4321098765432101, ("arch/esc50", "esc50_strict"): 0.5, ("arch/fsd50k", "fsd50k"): 1 / 3,
    }  # fmt: skip
    assert (
        newer["arch/esc50", "esc50"].dataset_revision == "c" * 40
        and "arch-v1 version 1.0" in newer["arch/esc50", "esc50"].notes
    )
    assert sorted(path for path in repo.files() if "eval_results" in path) == [
        ".eval_results/arch_esc50.yaml", ".eval_results/arch_fsd50k.yaml",
    ]  # fmt: skip

    assert push_results(tmp_path, MODEL) == NOTHING and len(repo.log) == 2


def test_the_folds_of_a_split_are_in_the_order_of_their_numbers(tmp_path):
    result = make_result("us8k")
    result["runs"] = [{"fold": f"fold_{k}", "seed": 0} for k in range(1, 11)]
    (path,) = save(tmp_path, result)
    assert entry_of(Result.read(path)).result.dataset_split == "+".join(f"fold_{k}" for k in range(1, 11))


def test_only_the_plain_question_of_the_twelve_stands_on_their_boards(hub, tmp_path):
    repo = hub.create("models", MODEL)
    half, knn, birds = (
        make_result("us8k", 0.3),
        make_result("emovo", 0.4, protocol="arch-v1-knn"),
        make_result("me/birds", 0.5),
    )
    half["environment"]["dtype"] = "bfloat16"
    knn["protocol"]["probe"] = "knn"
    save(tmp_path, make_result("esc50", 0.2), half, knn, birds)
    push_results(tmp_path, MODEL)
    values = sorted(entry.metric_value for entry in ModelCard.load(MODEL).data.eval_results)
    assert values == [0.2, 0.3, 0.4, 0.5] and [entry.value for entry in eval_results(repo)] == [0.2]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_somebody_elses_card_keeps_everything(hub, tmp_path, line_end):
    theirs = THEIR_CARD.replace("\n", line_end).encode()
    other = b"# mine\n- dataset: {id: arch/esc50, task_id: esc50}\n  value: 0.9\n  source: {url: 'https://x.y', name: Mine}\n"
    repo = hub.create("models", MODEL, {"README.md": theirs, ".eval_results/arch_esc50.yaml": other, "model.bin": b"w"})
    save(tmp_path, make_result(value=0.25))
    push_results(tmp_path, MODEL)
    card = repo.files()["README.md"].decode()
    before, after = THEIR_CARD.replace("\n", line_end).split("    note: 'an extra field'" + line_end)
    assert card.startswith(before) and card.endswith(after), "bytes around the new entry changed"
    ours = card[len(before) : -len(after)]
    assert (
        ours.count("- task:") == 1
        and "value: 0.25" in ours
        and (line_end == "\n" or "\n" not in ours.replace("\r\n", ""))
    )
    values = {(e.dataset_type, e.metric_value) for e in ModelCard(card).data.eval_results}
    assert values == {("librispeech_asr", 20.90), ("arch/esc50", 0.25)}
    assert {(e.source_name, e.value) for e in eval_results(repo)} == {("Mine", 0.9), ("arch-hf", 0.25)}
    assert repo.files()["model.bin"] == b"w"
    assert push_results(tmp_path, MODEL) == NOTHING

    save(tmp_path, make_result(value=0.75))  # measured again: ours is replaced, theirs is not
    push_results(tmp_path, MODEL)
    card = repo.files()["README.md"].decode()
    assert card.startswith(before) and card.endswith(after) and "0.75" in card and "0.25" not in card


def test_a_card_that_another_tool_rewrote_still_merges(hub, tmp_path):
    """huggingface_hub's own classes put two protocols of one corpus under one entry with two metrics."""
    repo = hub.create("models", MODEL)
    save(tmp_path, make_result(value=0.25), make_result(value=0.5, protocol="strict"))
    push_results(tmp_path, MODEL)
    path = ".eval_results/arch_esc50.yaml"
    tidied = {"README.md": str(ModelCard.load(MODEL)).encode(), path: b"# a comment\n" + repo.files()[path]}
    repo.commit("main", {**repo.files(), **tidied}, "tidied")
    assert repo.files()["README.md"].count(b"- task:") == 1
    assert push_results(tmp_path, MODEL) == NOTHING
    save(tmp_path, make_result(value=0.75))
    push_results(tmp_path, MODEL)
    values = [e.metric_value for e in ModelCard(repo.files()["README.md"].decode()).data.eval_results]
    assert sorted(values) == [0.5, 0.75]


@pytest.mark.parametrize(
    ("there", "new", "wins"),
    [
        ({"version": "1.0"}, {"version": "1.1"}, True),
        ({"version": "1.1"}, {"version": "1.0"}, False),
        ({"version": "1.10"}, {"version": "1.9"}, False),
        ({"version": "1.0"}, {"version": "1.0"}, True),
        ({"n_clips": 2000}, {"n_clips": 400}, False),
        ({"n_clips": 400}, {"n_clips": 2000}, True),
        ({"version": "1.0"}, {"version": "1.1", "n_clips": 400}, True),
    ],
)
def test_a_lower_version_or_fewer_clips_never_overwrite(hub, tmp_path, there, new, wins):
    repo = hub.create("models", MODEL)
    save(tmp_path, make_result(value=0.25, **there))
    push_results(tmp_path, MODEL)
    save(tmp_path, make_result(value=0.75, **new), make_result("ravdess", 0.5))
    if wins:
        push_results(tmp_path, MODEL)
    else:
        with pytest.raises(UserError, match=r"esc50 \(arch-v1\): the page has a better one.*the others: http"):
            push_results(tmp_path, MODEL)
    card = {e.dataset_type: e.metric_value for e in ModelCard(repo.files()["README.md"].decode()).data.eval_results}
    assert card == {"arch/esc50": 0.75 if wins else 0.25, "arch/ravdess": 0.5}
    assert {e.dataset_id: e.value for e in eval_results(repo)} == card


@pytest.mark.parametrize("doubt", ["failed clips", "limit"])
def test_incomplete_is_refused_unless_allowed(hub, tmp_path, doubt):
    repo = hub.create("models", MODEL)
    result = make_result(limit=10) if doubt == "limit" else make_result() | {"complete": False}
    save(tmp_path, result, make_result("ravdess", 0.5))
    with pytest.raises(UserError, match=r"esc50.json: .*--allow_incomplete"):
        push_results(tmp_path, MODEL)
    assert [e.dataset_id for e in eval_results(repo)] == ["arch/ravdess"]  # the whole one is not held up by the other
    push_results(tmp_path, MODEL, allow_incomplete=True)
    entry = next(e for e in ModelCard.load(MODEL).data.eval_results if e.dataset_type == "arch/esc50")
    assert "incomplete" in entry.metric_name and entry.metric_args["incomplete"]
    assert "incomplete" in next(e for e in eval_results(repo) if e.dataset_id == "arch/esc50").notes


def test_pull_request_is_opened_once(hub, tmp_path):
    repo = hub.create("models", MODEL, {"README.md": THEIR_CARD.encode()})
    save(tmp_path, make_result())
    url = push_results(tmp_path, MODEL, create_pr=True)
    assert url == f"{hub.url}/{MODEL}/discussions/1" and repo.files()["README.md"] == THEIR_CARD.encode()
    assert b"arch/esc50" in repo.files("refs/pr/1")["README.md"]
    assert push_results(tmp_path, MODEL, create_pr=True) == f"{NOTHING}: {url}" and len(repo.pulls) == 1
    save(tmp_path, make_result(value=0.5))
    assert push_results(tmp_path, MODEL, create_pr=True).endswith("/discussions/2")
    repo.closed.add(2)  # turned down, and opened again only when it is asked for
    assert push_results(tmp_path, MODEL, create_pr=True).endswith("/discussions/3")


def test_somebody_commits_in_between(hub, tmp_path, naps):
    repo = hub.create("models", MODEL)
    save(tmp_path, make_result())
    for _ in range(2):  # twice: the first time before the card is there at all
        theirs = (
            b"---\nlicense: mit\n---\nA new text\n"
            if "README.md" not in repo.files()
            else repo.files()["README.md"] + b"more\n"
        )
        hub.before(
            "POST",
            "/commit/",
            lambda theirs=theirs: repo.commit("main", {**repo.files(), "README.md": theirs}, "theirs"),
        )
    push_results(tmp_path, MODEL)
    card = ModelCard.load(MODEL)
    assert card.data.license == "mit" and card.text.startswith("A new text") and card.data.eval_results[0].metric_value
    assert 0 < len(naps) < hub_module.ATTEMPTS


def test_many_jobs_end_at_once(hub, tmp_path):
    repo = hub.create("models", MODEL)
    corpora = CORPUS_NAMES[:8]
    for corpus in corpora:
        save(tmp_path / corpus, make_result(corpus, 0.5))
    with ThreadPoolExecutor(8) as pool:
        urls = list(pool.map(lambda corpus: push_results(tmp_path / corpus, MODEL), corpora))
    assert len(set(urls)) == 8 and len(repo.log) == 9
    assert {e.dataset_type for e in ModelCard.load(MODEL).data.eval_results} == {f"arch/{corpus}" for corpus in corpora}


@pytest.mark.parametrize(
    ("results", "model", "message"),
    [
        ([make_result("synthetic_events")], MODEL, "not on the Hub"),
        ([make_result("folder/of/mine", revision=None)], MODEL, "not on the Hub"),
        ([make_result(model="arch/another")], MODEL, "no result of arch/tiny-hubert.*arch/another"),
        ([make_result() | {"layer": 3}], MODEL, "no result of arch/tiny-hubert on its last layer"),
        ([make_result(model="logmel")], "logmel", "built into arch-hf"),
        ([make_result(model="/home/me/model")], "/home/me/model", "--repo_id"),
    ],
)
def test_what_is_not_for_the_hub_is_refused_before_anything_is_sent(hub, tmp_path, results, model, message):
    save(tmp_path, *results)
    with pytest.raises(UserError, match=message):
        push_results(tmp_path, model)
    assert not hub.requests


def test_a_push_that_will_fail_is_known_beforehand(hub, monkeypatch, naps):
    assert "no such repository" in why_not_pushable(MODEL)
    hub.create("models", MODEL)
    assert why_not_pushable(MODEL) is None
    assert "built into" in why_not_pushable("logmel")
    monkeypatch.setenv("HF_TOKEN", "hf_expired_secret")
    assert "hf auth login" in why_not_pushable(MODEL) and not naps


def test_two_sets_of_weights_are_not_mixed(hub, tmp_path):
    repo, other = hub.create("models", MODEL), make_result("ravdess")
    other["model"]["weights_sha256"] = "0" * 64
    save(tmp_path, make_result(), other)
    with pytest.raises(UserError, match=r"esc50 .* and ravdess .* different weights"):
        push_results(tmp_path, MODEL)
    assert len(repo.log) == 1


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("README.md", b"---\nlicense: [mit\n---\nText\n", "metadata cannot be read"),
        ("README.md", "Grüße".encode("latin-1"), "not UTF-8"),
        (".eval_results/arch_esc50.yaml", b"- value: 1\n", "eval_results/ on the Hub cannot be read"),
    ],
)
def test_a_damaged_page_is_left_alone(hub, tmp_path, path, content, message):
    repo = hub.create("models", MODEL, {path: content})
    save(tmp_path, make_result())
    with pytest.raises(UserError, match=message):
        push_results(tmp_path, MODEL)
    assert len(repo.log) == 1


def test_the_command(hub, tmp_path, capsys):
    hub.create("models", "me/copy")
    save(tmp_path, make_result(model="/home/me/model"))
    args = build_parser().parse_args(
        ["publish", "results", str(tmp_path), "--model_id", "/home/me/model", "--repo_id", "me/copy"]
    )
    assert not args.run(args)
    assert capsys.readouterr().out.startswith(f"{hub.url}/me/copy/commit/")
