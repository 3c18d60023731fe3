"""The whole way, over HTTP with the real clients: a raw archive, its data set on the Hub, a model, its evaluation, its page."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from publishing_samples import raw_esc50
from tiny_models import make_tiny

from arch_hf.cli import build_parser
from arch_hf.errors import run_command
from arch_hf.publishing.entries import task_id
from arch_hf.publishing.hub import NOTHING
from arch_hf.publishing.results import push_results

ROOT = Path(__file__).resolve().parents[1]
CARD = "---\nlicense: mit # a comment\n---\n# Tiny\n\nSomebody's own words.\n"


def arch_hf(*words):
    """The command line, in this process."""
    args = build_parser().parse_args([str(word) for word in words])
    assert run_command(args.run, args) == 0


def load_from_hub(hub, name, cache, monkeypatch):
    """`load_dataset` as another machine would do it: nothing in its cache, no folder of that name."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    return datasets.load_dataset(name)


def test_from_a_raw_archive_to_the_models_page(hub, tmp_path, monkeypatch):
    raw_esc50(tmp_path / "raw", per_fold=4)
    arch_hf(
        "prepare", "esc50", "--raw_dir", tmp_path / "raw", "--output_dir", tmp_path / "esc50", "--push_to_hub", "me"
    )
    arch_hf("publish", "dataset", tmp_path / "esc50", "--repo_id", "arch/esc50")

    assert hub.repo("datasets", "me/esc50").files() == hub.repo("datasets", "arch/esc50").files()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    dataset = load_from_hub(hub, "arch/esc50", elsewhere / "cache", monkeypatch)
    assert {split: len(rows) for split, rows in dataset.items()} == {f"fold_{k}": 4 for k in range(1, 6)}
    assert dataset["fold_1"].features["label"].names[:2] == ["dog", "rooster"]

    (tmp_path / "card.md").write_text(CARD)
    tiny = make_tiny("hubert", tmp_path / "tiny")
    arch_hf("publish", "checkpoint", tiny, "--repo_id", "arch/tiny-hubert", "--card", tmp_path / "card.md")
    model = hub.repo("models", "arch/tiny-hubert")

    home = tmp_path / "other_home"  # the token lies in HF_HOME, as `hf auth login` puts it
    home.mkdir()
    (home / "token").write_text(hub.token)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "ARCH_HF", "XDG_"))}
    environment |= hub.environment(home) | {"HOME": str(tmp_path / "nobody"), "OMP_NUM_THREADS": "1"}
    del environment["HF_TOKEN"]
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", str(ROOT / "evaluate.py")]
    command += ["--model_id", "arch/tiny-hubert", "--datasets", "esc50", "--seeds", "1", "--push_to_hub"]
    run = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-3000:]
    assert f"{hub.url}/arch/tiny-hubert/commit/{model.refs['main']}" in run.stdout

    path = elsewhere / "results" / "arch__tiny-hubert" / "esc50.seeds1.json"
    result = json.loads(path.read_text())
    (entry,) = ModelCard.load("arch/tiny-hubert").data.eval_results
    assert entry.metric_value == result["metrics"]["accuracy"]["mean"]
    revisions = result["dataset"]["revision"], entry.dataset_revision
    assert revisions == (hub.repo("datasets", "arch/esc50").refs["main"],) * 2
    assert entry.dataset_split == "fold_1+fold_2+fold_3+fold_4+fold_5"
    newer = parse_eval_result_entries(yaml.safe_load(model.files()[".eval_results/arch_esc50.yaml"]))
    assert [(e.dataset_id, e.task_id, e.value) for e in newer] == [("arch/esc50", "esc50", entry.metric_value)]
    tasks = yaml.safe_load(hub.repo("datasets", "arch/esc50").files()["eval.yaml"])["tasks"]
    assert [task["id"] for task in tasks] == [task_id("esc50", "arch-v1"), task_id("esc50", "strict")]

    card = model.files()["README.md"].decode()
    assert card.startswith("---\nlicense: mit # a comment\nmodel-index:") and card.endswith(CARD.split("---\n")[-1])
    n_commits = len(model.log)
    assert push_results(elsewhere / "results", "arch/tiny-hubert") == NOTHING and len(model.log) == n_commits

    files = [file for file in tmp_path.rglob("*") if file.is_file() and file != home / "token"]
    assert len(files) > 30 and not any(hub.token.encode() in file.read_bytes() for file in files)
    assert hub.token not in run.stdout + run.stderr and not (tmp_path / "nobody").exists()
