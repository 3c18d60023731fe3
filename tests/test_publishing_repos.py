"""Corpora, checkpoints and Spaces onto the loopback Hub."""

import hashlib
import json
import shutil
import sys

import pytest
import torch
from publishing_samples import make_result, raw_esc50, save
from safetensors.torch import load_file
from tiny_models import make_tiny
from transformers import AutoModel, Wav2Vec2Config, Wav2Vec2ForPreTraining

from arch_hf.data import get_corpus
from arch_hf.data.official.prepare import prepare
from arch_hf.embedding import AudioEncoder
from arch_hf.errors import UserError
from arch_hf.publishing.checkpoint import publish_checkpoint
from arch_hf.publishing.dataset import push_dataset
from arch_hf.publishing.results import push_results
from arch_hf.publishing.spaces import push_leaderboard, push_metrics

# ------------------------------------------------------------------------------------------------------------------ corpora


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("esc50")
    prepare(get_corpus("esc50"), raw_esc50(root / "raw"), root / "esc50")
    return root / "esc50"


@pytest.fixture
def folder(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "esc50")


def test_dataset_goes_up_whole_and_once(hub, folder, capsys):
    (folder / "notes.txt").write_text("private")
    (folder / "data" / ".hidden.parquet").write_text("x")
    url = push_dataset(folder, "arch/esc50")
    repo = hub.repo("datasets", "arch/esc50")
    assert url == f"{hub.url}/datasets/arch/esc50"
    shards = {f"data/{path.name}" for path in folder.glob("data/fold_*.parquet")}
    assert len(shards) == 5
    assert set(repo.files()) - {".gitattributes"} == shards | {"README.md", "eval.yaml", "arch.json", "LICENSE"}
    assert all(repo.files()[name] == (folder / name).read_bytes() for name in shards)
    push_dataset(folder, "arch/esc50")
    assert len(repo.log) == 2


def test_dataset_replaces_the_shards_of_an_earlier_version(hub, folder):
    old = {
        "data/fold_1-00001-of-00002.parquet": b"old",
        "data/fold_1-00000-of-00001.parquet": b"old",
        "theirs.md": b"stays",
    }
    repo = hub.create("datasets", "arch/esc50", old)
    push_dataset(folder, "arch/esc50")
    assert "data/fold_1-00001-of-00002.parquet" not in repo.files() and repo.files()["theirs.md"] == b"stays"
    assert len(repo.log) == 2, "old and new shards must never be there together"


def test_dataset_goes_on_after_a_cut(hub, folder, naps):
    shards = sorted(folder.glob("data/*.parquet"))
    last = hashlib.sha256(shards[-1].read_bytes()).hexdigest()
    hub.fail("PUT", f"/lfs/{last}", cut="request", times=1000)
    with pytest.raises(UserError, match=r"no connection.*arch-hf publish dataset .* --repo_id arch/esc50"):
        push_dataset(folder, "arch/esc50")
    repo = hub.repo("datasets", "arch/esc50")
    assert len(repo.log) == 1 and len(hub.blobs) == len(shards) - 1
    assert hub.count("PUT", "/lfs/") < 50, "retries are bounded"
    hub.faults.clear()
    hub.requests.clear()
    push_dataset(folder, "arch/esc50")
    assert hub.count("PUT", "/lfs/") == 1, "what had arrived is not sent again"
    assert repo.files()[f"data/{shards[-1].name}"] == shards[-1].read_bytes()


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("/repos/create", {"status": 503, "times": 2}),
        ("/objects/batch", {"status": 500, "times": 3}),
        ("/lfs/", {"status": 429, "headers": {"Retry-After": "2"}, "times": 2}),
        ("/lfs/", {"cut": "request", "times": 2}),
        ("/commit/", {"cut": "response"}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_dataset_waits_out_passing_faults(hub, folder, naps, part, fault):
    hub.fail("PUT" if part == "/lfs/" else "POST", part, **fault)
    push_dataset(folder, "arch/esc50")
    assert naps and len(hub.repo("datasets", "arch/esc50").log) == 2


def test_the_storage_of_large_files_speaks_for_itself(hub, folder, monkeypatch):
    """hf_xet, through which the real Hub takes large files, has error classes of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.fail("GET", "/xet-write-token/", 401, times=100)
    with pytest.raises(UserError, match="does not accept your token") as error:
        push_dataset(folder, "arch/esc50")
    assert "\n" not in str(error.value)


def test_licence_gate(hub, folder):
    facts = json.loads((folder / "arch.json").read_text()) | {"corpus": "vivae", "rehost": "public"}
    (folder / "arch.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"vivae may not be published again: .*--private"):
        push_dataset(folder, "me/vivae")
    assert not hub.requests
    hub.create("datasets", "me/public")
    with pytest.raises(UserError, match="that repository is public"):
        push_dataset(folder, "me/public", private=True)
    assert len(hub.repo("datasets", "me/public").log) == 1
    push_dataset(folder, "me/vivae", private=True)
    assert hub.repo("datasets", "me/vivae").private


@pytest.mark.parametrize("fault", ["shard cut", "shard gone", "card gone", "not prepared", "facts damaged"])
def test_half_a_corpus_is_not_published(hub, folder, fault):
    shard = next(folder.glob("data/*.parquet"))
    if fault == "shard cut":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif fault == "facts damaged":
        (folder / "arch.json").write_text("{")
    else:
        {"shard gone": shard, "card gone": folder / "README.md", "not prepared": folder / "arch.json"}[fault].unlink()
    with pytest.raises(UserError, match=r"prepare") as error:
        push_dataset(folder, "arch/esc50")
    assert "\n" not in str(error.value) and not hub.requests


# -------------------------------------------------------------------------------------------------------------- checkpoints


def pickled(folder, old_names=False):
    """Weights as pytorch_model.bin, as they were saved years ago."""
    weights = AutoModel.from_pretrained(folder).state_dict()
    if old_names:
        names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
        for new, old in names.items():
            weights = {key.replace(new, old): value for key, value in weights.items()}
        assert any("weight_g" in key for key in weights)
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_a_pickled_hub_checkpoint_becomes_safetensors_with_the_same_embeddings(hub, tmp_path):
    source = pickled(make_tiny("hubert", tmp_path / "source"), old_names=True)
    files = {path.name: path.read_bytes() for path in source.iterdir()}
    hub.create(
        "models", "ALM/hubert-base-audioset", files | {"vocab.json": b"{}", "run.py": b"import os", "README.md": b"old"}
    )
    url = publish_checkpoint("ALM/hubert-base-audioset", "arch/hubert-base-audioset")
    repo = hub.repo("models", "arch/hubert-base-audioset")
    assert url == f"{hub.url}/arch/hubert-base-audioset"
    names = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert set(repo.files()) - {".gitattributes"} == names
    assert b"ARCH paper, Table 2" in repo.files()["README.md"]
    there, here = AudioEncoder.from_pretrained("arch/hubert-base-audioset"), AudioEncoder.from_pretrained(str(source))
    clip = torch.randn(8000).numpy()
    assert (there.embed([clip], layers="all") == here.embed([clip], layers="all")).all()

    # Results that were pushed since are not lost when the checkpoint is published again.
    result = make_result(model="arch/hubert-base-audioset", value=0.123)
    result["model"]["weights_sha256"] = there.weights_sha256
    save(tmp_path / "results", result)
    push_results(tmp_path / "results", "arch/hubert-base-audioset")
    card = repo.files()["README.md"]
    publish_checkpoint(str(source), "arch/hubert-base-audioset")
    assert repo.files()["README.md"] == card and b"0.123" in card
    publish_checkpoint(make_tiny("hubert", tmp_path / "retrained", seed=1), "arch/hubert-base-audioset")
    assert b"0.123" not in repo.files()["README.md"], "a result of other weights"


def test_the_revision_that_is_named_is_published(hub, tmp_path):
    first, later = (make_tiny("hubert", tmp_path / f"seed{seed}", seed=seed) for seed in (0, 1))
    source = hub.create("models", "me/source", {path.name: path.read_bytes() for path in first.iterdir()})
    named = source.refs["main"]
    source.commit("main", {path.name: path.read_bytes() for path in later.iterdir()}, "trained on")
    publish_checkpoint("me/source", "me/copy", revision=named)
    there, here = (AudioEncoder.from_pretrained(str(name)) for name in ("me/copy", first))
    assert there.weights_sha256 == here.weights_sha256


def test_weights_stay_in_the_type_in_which_they_are(hub, tmp_path):
    source = make_tiny("hubert", tmp_path / "source")
    AutoModel.from_pretrained(source).to(torch.bfloat16).save_pretrained(source)
    publish_checkpoint(str(source), "me/half")
    (tmp_path / "copy").write_bytes(hub.repo("models", "me/half").files()["model.safetensors"])
    assert {weight.dtype for weight in load_file(tmp_path / "copy").values()} == {torch.bfloat16}


def test_a_checkpoint_with_a_processor_alone(hub, tmp_path):
    """As a processor of transformers 5 saves it: processor_config.json, and no preprocessor_config.json."""
    source = make_tiny("hubert", tmp_path / "source")
    extractor = json.loads((source / "preprocessor_config.json").read_text())
    (source / "preprocessor_config.json").unlink()
    (source / "processor_config.json").write_text(json.dumps({"feature_extractor": extractor}))
    publish_checkpoint(str(source), "arch/hubert-base-audioset")
    there, here = (AudioEncoder.from_pretrained(name) for name in ("arch/hubert-base-audioset", str(source)))
    assert there.identity == here.identity


def test_the_pretraining_heads_stay(hub, tmp_path):
    small = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "conv_dim": [16] * 7,
    }
    sizes = {"codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 4}
    groups = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    model = Wav2Vec2ForPreTraining(Wav2Vec2Config(**small, **sizes, **groups))
    source = make_tiny("wav2vec2", tmp_path / "source")
    model.save_pretrained(source)
    torch.save(model.state_dict(), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    (source / "tokenizer_config.json").write_text("{}")
    publish_checkpoint(str(source), "arch/wav2vec2-base-audioset")
    repo = hub.repo("models", "arch/wav2vec2-base-audioset")
    assert "tokenizer_config.json" not in repo.files() and "pytorch_model.bin" not in repo.files()
    copy = Wav2Vec2ForPreTraining.from_pretrained("arch/wav2vec2-base-audioset")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), copy.state_dict().values(), strict=True))


def test_a_checkpoint_without_a_card_gets_a_plain_true_one(hub, tmp_path, capsys):
    """Also under the name of one that has a card in the package: that is of other weights."""
    publish_checkpoint(str(make_tiny("hubert", tmp_path / "source")), "somebody/hubert-base-audioset")
    card = hub.repo("models", "somebody/hubert-base-audioset").files()["README.md"].decode()
    encoder = AudioEncoder.from_pretrained("somebody/hubert-base-audioset")
    assert f"a `HubertModel` of {encoder.n_parameters:,} parameters" in card and "Not stated yet" in card
    assert 'from_pretrained("somebody/hubert-base-audioset")' in card and "Table 2" not in card and "$" not in card
    assert "a plain card, which does not say what it was trained on" in capsys.readouterr().err


class Evil:
    def __reduce__(self):
        return (open, ("was_here", "w"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("evil pickle", "without running code"),
        ("cut file", "cannot be loaded"),
        ("missing weights", "random numbers"),
        ("other embeddings", "gives other embeddings"),
        ("no extractor", "preprocessor_config.json"),
        ("unknown class", "does not have"),
        ("no source", "neither a folder"),
    ],
)
def test_a_doubtful_checkpoint_is_not_published(hub, tmp_path, monkeypatch, fault, message):
    monkeypatch.chdir(tmp_path)
    source = make_tiny("hubert", tmp_path / "source")
    name = "arch/hubert-base-audioset"
    config = json.loads((source / "config.json").read_text())
    if fault == "evil pickle":
        pickled(source)
        torch.save(
            {**torch.load(source / "pytorch_model.bin", weights_only=True), "x": Evil()}, source / "pytorch_model.bin"
        )
    elif fault == "cut file":
        (source / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes()[:-1000])
    elif fault == "missing weights":
        (source / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    elif fault == "unknown class":
        (source / "config.json").write_text(json.dumps(config | {"architectures": ["MyOwnModel"]}))
    elif fault == "no extractor":
        (source / "preprocessor_config.json").unlink()
    elif fault == "other embeddings":
        from transformers import HubertModel

        write = HubertModel.save_pretrained

        def damaged(self, *args, **options):
            with torch.no_grad():
                self.encoder.layer_norm.weight[0] += 1e-3
            write(self, *args, **options)

        monkeypatch.setattr(HubertModel, "save_pretrained", damaged)
    with pytest.raises(UserError, match=message) as error:
        publish_checkpoint("nowhere" if fault == "no source" else str(source), name)
    assert "\n" not in str(error.value) and not (tmp_path / "was_here").exists()
    assert not hub.repos and not hub.count("POST", "/")


# ------------------------------------------------------------------------------------------------------------------- Spaces


def test_leaderboard_space(hub, tmp_path):
    report = tmp_path / "report"
    report.mkdir()
    with pytest.raises(UserError, match=r"no leaderboard\.html.*arch-hf report"):
        push_leaderboard(report, "arch/leaderboard")
    for name in ("leaderboard.html", "leaderboard.md", "scores.png", ".secret", "notes.txt"):
        (report / name).write_text(name)
    assert push_leaderboard(report, "arch/leaderboard") == f"{hub.url}/spaces/arch/leaderboard"
    repo = hub.repo("spaces", "arch/leaderboard")
    assert repo.sdk == "static" and b"sdk: static\napp_file: leaderboard.html" in repo.files()["README.md"]
    assert set(repo.files()) - {".gitattributes"} == {"README.md", "leaderboard.html", "leaderboard.md", "scores.png"}
    push_leaderboard(report, "arch/leaderboard")
    assert len(repo.log) == 2


def test_metrics_are_loaded_from_their_spaces(hub, tmp_path, monkeypatch):
    from arch_hf.compat.evaluate_library import find_evaluate

    library = find_evaluate()
    monkeypatch.setattr(library.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(library.config, "HUB_EVALUATE_URL", hub.url + "/spaces/{path}/resolve/{revision}/{name}")
    for name in ("HF_MODULES_CACHE", "HF_METRICS_CACHE", "HF_EVALUATE_CACHE", "DOWNLOADED_EVALUATE_PATH"):
        monkeypatch.setattr(library.config, name, str(tmp_path / name))
    monkeypatch.syspath_prepend(str(tmp_path / "HF_MODULES_CACHE"))
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        monkeypatch.delitem(sys.modules, name)  # of another test, with another cache
    with pytest.raises(UserError, match="there are accuracy, macro_f1, map"):
        push_metrics("me", ["wer"])
    assert push_metrics("me", ["map"]) == [f"{hub.url}/spaces/me/map"]
    metric = library.load("me/map", cache_dir=str(tmp_path / "cache"))
    scores, truth = [[0.9, 0.1], [0.8, 0.7], [0.1, 0.2]], [[1, 0], [0, 1], [1, 0]]
    assert metric.compute(predictions=scores, references=truth)["map_macro"] == pytest.approx((5 / 6 + 1) / 2)
