"""The command as a user meets it: what it prints, what it writes, and one line for every mistake."""

import importlib
import importlib.util
import inspect
import json
import os
import re
import shlex
import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

import arch_hf
from arch_hf.audio import encode_wav
from arch_hf.cli import build_parser, main
from arch_hf.data.custom.options import ReadingOptions
from arch_hf.data.registry import SYNTHETIC_NAMES
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding import store as store_module
from arch_hf.embedding.store import EmbeddingStore, read_shard
from arch_hf.errors import UserError
from arch_hf.pretraining.prepare_audio import Source


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARCH_HF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def arch(capsys, *args):
    """Status, standard output and the lines of standard error that are not progress bars."""
    try:
        status = main([str(arg) for arg in args])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    return status, out, [line for line in err.replace("\r", "\n").splitlines() if "%|" not in line and line.strip()]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["evaluate", "--limit", "0"], r"--limit is 0: give 1 or more"),
        (["evaluate", "--seeds", "0"], r"--seeds is 0: give 1 or more"),
        (["evaluate", "--lmit", "3"], r"unknown argument --lmit 3; did you mean --limit\?"),
        (["evaluate", "--model", "m", "--tasks", "esc50"], r"did you mean --model_id and --datasets\?"),
        (["evaluate", "--pretrained", "m", "--fp16"], r"did you mean --model_id and --dtype\?"),
        (["evaluate", "--seed", "1"], r"unknown argument --seed 1: seeds count from 0, and --seeds says how many"),
        (["evaluate", "--verbose", "--num_workers", "2"], r"unknown argument --verbose --num_workers 2 \("),
        (["evaluate", "mfcc"], r"unknown argument mfcc; did you mean --model_id mfcc\?"),
        (["evaluate", "esc50"], r"unknown argument esc50; did you mean --datasets esc50\?"),
        (["evaluate", "me/it"], r"unknown argument me/it; did you mean --model_id me/it or --datasets me/it\?"),
        (["help"], r"no command 'help'; did you mean --help\?"),
        (["version"], r"no command 'version'; did you mean --version\?"),
        (["list"], r"say what to list: corpora, suites, models, protocols \("),
        (["publish"], r"say what to publish: results, dataset, checkpoint, leaderboard, metrics, card \("),
        (["jobs"], r"say what to do: run, wait \("),
        (["cache"], r"say what to do: ls, verify, prune \("),
        (["completion"], r"say for which shell: bash, zsh, tcsh \("),
        ([], r"say what to do: evaluate, mteb, plan, "),
        (
            ["evaluate", "--datasets", "esc50,us8k"],
            r"--datasets esc50,us8k: several are parted by spaces: --datasets esc50 us8k",
        ),
        (
            ["evaluate", "--protocol", "arch-v1,strict"],
            r"^error: --protocol arch-v1,strict: several are parted by spaces",
        ),
        (
            ["plan", "--model_id", "logmel,mfcc"],
            r"--model_id logmel,mfcc: several are parted by spaces: --model_id logmel mfcc",
        ),
        (["evaluate", "--datasets", "speech"], r"--datasets speech: that is a suite: --suite speech"),
        (["report", "cache"], r"no results in cache: give the folder that the main job wrote its results to"),
        (["list", "tasks"], r"no list of 'tasks'; did you mean corpora\?"),
        (["list", "benchmarks"], r"no list of 'benchmarks'; did you mean suites\?"),
        (["--model", "hf", "--tasks", "esc50"], r"a command comes before --model; did you mean arch-hf evaluate\?"),
        (["create-model-results"], r"no command 'create-model-results'; did you mean publish\?"),
        (["run", "-m", "m"], r"no command 'run'; did you mean evaluate\?"),
        (["evalute"], r"no command 'evalute'; did you mean evaluate\?"),
        (["publish", "result"], r"no command 'result'; did you mean results\?"),
        (["evaluate", "--limit", "many"], r"--limit is 'many': give a whole number, 1 or more"),
        (["evaluate", "--batch_seconds", "0"], r"--batch_seconds is '0': give a number above 0"),
        (["evaluate", "--dtype", "half"], r"unknown --dtype 'half': choose one of float32"),
        (["evaluate", "--device", "gpu"], r"--device gpu: no such device; there are cpu"),
        (["evaluate", "--model_name", "a", "b"], r"--model_name gives 2 names for 1 models: one for each"),
        (["evaluate", "--protocol", "arch-v2"], r"unknown protocol 'arch-v2': choose one of arch-v1, strict"),
        (["evaluate", "--layers", "3,x"], r"--layers is '3,x': give last, all, or numbers"),
        (["evaluate", "--layers", "99"], r"--layers names 99, but logmel has layers 0 to 0"),
        (["evaluate", "--create_pr"], r"--create_pr goes with --push_to_hub"),
        (["evaluate", "--output_dir", "/dev/null/results"], r"--output_dir /dev/null/results cannot be written"),
        (["evaluate", "--cache_dir", "/dev/null/cache"], r"--cache_dir /dev/null/cache cannot be written"),
        (["evaluate", "--model_id", "nobody/nothing"], r"no folder nobody/nothing"),
        (["evaluate", "--datasets", "esc-50"], r"^error: unknown corpus 'esc-50'; did you mean 'esc50'\?"),
        (["evaluate", "--dry_run", "--datasets", "esc-50"], r"^error: unknown corpus 'esc-50'; did you mean 'esc50'\?"),
        (
            ["evaluate", "--datasets", "us8k"],
            r"^error: arch/us8k is no folder here.*arch-hf prepare us8k --raw_dir FOLDER",
        ),
        (["evaluate", "--datasets", "us8k", "--data_dir", "nowhere"], r"--data_dir nowhere: no such folder"),
        (["prepare", "ecs50", "--raw_dir", "."], r"did you mean 'esc50'\?"),
        (["prepare", "esc50", "--raw_dir", "nowhere"], r"--raw_dir nowhere: no such folder"),
        (["prepare", "esc50", "--raw_dir", "."], r"is empty; expected audio/\*.wav and meta/esc50.csv"),
        (["cache", "prune", "--store", "../.."], r"no store \.\./\.\."),
        (["nonsense"], r"no command 'nonsense': there are 'evaluate', "),
    ],
)
def test_a_mistake_is_one_line_and_a_status(capsys, tmp_path, args, says):
    (tmp_path / "cache").mkdir()
    if args == ["prepare", "esc50", "--raw_dir", "."]:
        (tmp_path / "cache").rmdir()
    status, out, err = arch(capsys, *args)
    assert status in (1, 2) and out == ""
    assert len(err) == 1 and err[0].startswith("error: ")
    assert re.search(says, err[0])
    assert not list(tmp_path.rglob("*.json"))


def test_all_mistakes_are_told_at_once(capsys):
    status, _, err = arch(capsys, "evaluate", "--lmit", 3, "--limit", 0, "--protocol", "arch-v2", "--layers", "3,x")
    assert status == 2 and len(err) == 4
    assert "--limit is 0" in err[0] and "did you mean --limit?" in err[1]
    assert "unknown protocol 'arch-v2'" in err[2] and "--layers is '3,x'" in err[3]
    status, _, err = arch(capsys, "evaluate", "--create_pr", "--protocol", "arch-v2", "strict")
    assert status == 1 and len(err) == 2


@pytest.mark.parametrize("command", ["", "evaluate", "publish", "publish card"])
def test_help_begins_with_an_example(capsys, command):
    status, out, _ = arch(capsys, *command.split(), "--help")
    assert status == 0 and out.startswith(f"Example: arch-hf {command}".rstrip())


def test_every_example_is_understood():
    """Each command must have one (the parser asks for it), and it must be right."""
    parsers = [build_parser()]
    while parsers:
        parser = parsers.pop()
        name, *args = shlex.split(parser.example)
        assert name == "arch-hf" and build_parser().parse_args(args).run
        choices = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
        parsers += [command for named in choices for command in named.values()]


# Command -> the function that does it, and what it must be told.
FLAGS = {
    "check-dataset d --data_dir x --streaming --config c": (
        "arch_hf.data.check.check_dataset",
        {"name": "d", "data_dir": "x", "streaming": True, "options": ReadingOptions(config="c")},
    ),
    "check-encoder m --revision r --device cpu --trust_remote_code": (
        "arch_hf.embedding.check.check_encoder",
        {"model_id": "m", "revision": "r", "device": "cpu", "trust_remote_code": True},
    ),
    "prepare esc50 --raw_dir r --output_dir o --sampling_rate 8000 --num_proc 2 --allow_partial --overwrite": (
        "arch_hf.data.official.prepare.prepare",
        {"raw_dir": Path("r"), "output_dir": Path("o"), "sampling_rate": 8000, "num_proc": 2, "allow_partial": True, "overwrite": True},
    ),
    "validate esc50 --path p --num_proc 2 --leakage": (
        "arch_hf.data.official.validate.validate",
        {"path": Path("p"), "num_proc": 2, "leakage": True},
    ),
    "prepare-audio a b --output_dir o --config c --split s --segments x y --max_seconds 7 --workers 3": (
        "arch_hf.pretraining.prepare_audio.prepare_audio",
        {"source": Source(("a", "b"), "c", "s", ("x", "y"), 7.0), "output_dir": Path("o"), "workers": 3},
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", FLAGS)
def test_each_flag_arrives(capsys, monkeypatch, command):
    place, told = FLAGS[command]
    module, name = importlib.import_module(place.rpartition(".")[0]), place.rpartition(".")[2]
    signature, calls = inspect.signature(getattr(module, name)), []

    def called(*args, **named):
        calls.append(signature.bind(*args, **named).arguments)
        raise UserError("called")

    monkeypatch.setattr(module, name, called)
    assert arch(capsys, *command.split())[2] == ["error: called"]
    assert {key: calls[0].get(key) for key in told} == told


def test_version(capsys):
    assert arch(capsys, "--version")[1] == f"arch-hf {arch_hf.__version__}\n"


def test_the_table_of_another_probe_is_not_called_the_protocols(hub, capsys):
    """Its scores are never mixed with the linear probe's, so they do not stand under the same heading."""
    words = ["--model_id", "logmel", "--datasets", "synthetic_events", "--limit", 6, "--protocol", "strict"]
    status, out, _ = arch(capsys, "evaluate", *words, "--probe", "knn")
    assert status == 0 and "logmel, protocol strict-knn, percent" in out


def test_many_models_and_protocols_in_one_command(hub, capsys, tmp_path, monkeypatch):
    """Each baseline is computed once, each model is loaded once, and a model that is not there does not stop the others."""
    loaded = []
    monkeypatch.setattr(AudioEncoder, "from_pretrained", _counting(AudioEncoder.from_pretrained, loaded))
    args = ["--model_id", "logmel", "nobody/nothing", "mfcc", "--model_name", "mine", "other", "mfcc", "--overwrite"]
    args += ["--protocol", "arch-v1", "strict", "--datasets", "synthetic_events", "--limit", 6, "--seeds", 1]
    status, out, err = arch(capsys, "evaluate", *args)
    (error,) = [line for line in err if line.startswith("error")]
    assert status == 1 and "nobody/nothing" in error
    assert loaded == ["logmel", "mfcc", "nobody/nothing", "mfcc"]
    for protocol in ("arch-v1", "strict"):
        assert f"mine, protocol {protocol}, percent" in out and f"mfcc, protocol {protocol}, percent" in out
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("results/*/*.json"))
    names = ["synthetic_events.limit6.seeds1.json", "synthetic_events.strict.limit6.json"]
    assert files == [f"results/{model}/{name}" for model in ("mfcc", "mine") for name in names]
    assert json.loads((tmp_path / "results/mine" / names[0]).read_text())["model"]["id"] == "mine"


def _counting(load, loaded):
    def counted(model_id, *args, **options):
        loaded.append(model_id)
        return load(model_id, *args, **options)

    return counted


def test_the_main_job_writes_results_and_prints_the_table(capsys, tmp_path):
    status, out, err = arch(capsys, "evaluate", "--limit", 8, "--seeds", 1)
    assert status == 0
    for name in SYNTHETIC_NAMES:
        result = json.loads((tmp_path / "results" / "logmel" / f"{name}.limit8.seeds1.json").read_text())
        assert result["complete"] and result["dataset"]["limit"] == 8
        assert f"{100 * next(iter(result['metrics'].values()))['mean']:.2f}" in out
        assert f"{name}: not to be compared with published numbers: limited to 8 clips per split" in out
        assert set(result) >= {"schema_version", "model", "dataset", "protocol", "layer", "metrics", "runs", "baselines",
                               "published", "timing", "environment"}  # fmt: skip
        assert 0 < result["baselines"]["majority"][next(iter(result["metrics"]))] < 1
        assert "mfcc" in result["baselines"]
    assert [line for line in err if "done" in line] and "published" not in err


def test_a_corpus_that_fails_does_not_stop_the_others(capsys, tmp_path):
    status, out, err = arch(
        capsys, "evaluate", "--datasets", "nonsense", "synthetic_events", "--limit", 6, "--seeds", 1
    )
    assert status == 1
    assert "synthetic_events" in out and any(line.startswith("error: unknown corpus 'nonsense'") for line in err)
    assert (tmp_path / "results/logmel/synthetic_events.limit6.seeds1.json").exists()


def broken_corpus(folder):
    """Twelve clips of noise and of silence with a click, and one of each kind that cannot be used."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("noise", "click"):
            (folder / split / label).mkdir(parents=True)
            for i in range(6):
                samples = np.zeros(4000, np.float32)
                samples[:: 500 if label == "click" else 1] = 0.3
                samples *= rng.standard_normal(4000)
                (folder / split / label / f"{i}.wav").write_bytes(encode_wav(samples.astype(np.float32), 16000))
    bad = folder / "test" / "noise"
    (bad / "truncated.wav").write_bytes(encode_wav(rng.uniform(-1, 1, 4000).astype(np.float32), 16000)[:3000])
    (bad / "empty.wav").write_bytes(b"")
    (bad / "text.wav").write_bytes(b"this is no audio at all")
    (bad / "one_sample.wav").write_bytes(encode_wav(np.ones(1, np.float32) * 0.1, 16000))
    nan = np.full(4000, np.nan, np.float32)
    import soundfile

    soundfile.write(bad / "nan.wav", nan, 16000, subtype="FLOAT")
    return folder


def test_clips_that_cannot_be_used_are_named_and_the_result_is_incomplete(capsys, tmp_path):
    broken_corpus(tmp_path / "clicks")
    status, out, err = arch(capsys, "evaluate", "--datasets", "clicks", "--seeds", 1)
    assert status == 1, err
    result = json.loads((tmp_path / "results/logmel/clicks.seeds1.json").read_text())
    reasons = {clip["clip_id"].rsplit("/")[-1]: clip["reason"] for clip in result["dataset"]["excluded_clips"]}
    assert result["complete"] is False and result["dataset"]["n_clips"] == 25  # the one-sample clip is a clip
    assert len(reasons) == 4
    text = " ".join(f"{name}: {reason}" for name, reason in reasons.items())
    for part in ("truncated", "0 bytes", "not audio", "not finite"):
        assert part in text
    assert "4 clips not used" in out and "incomplete" in out
    again, _, _ = arch(capsys, "evaluate", "--datasets", "clicks", "--seeds", 1)
    assert again == 1


def test_dry_run_says_what_there_is_to_do_and_does_nothing(capsys, tmp_path):
    status, out, _ = arch(capsys, "evaluate", "--dry_run", "--limit", 4)
    assert status == 0 and "hours" in out and "synthetic_music" in out
    assert not list(tmp_path.rglob("*.json"))


def test_lists(capsys):
    for what, word in (
        ("corpora", "medley_solos_db"),
        ("suites", "speech"),
        ("models", "hubert"),
        ("protocols", "strict"),
    ):
        status, out, _ = arch(capsys, "list", what)
        assert status == 0 and word in out


def test_cache_lists_verifies_and_prunes(capsys, tmp_path):
    arch(capsys, "evaluate", "--datasets", "synthetic_events", "--limit", 4, "--seeds", 1)
    status, out, _ = arch(capsys, "cache", "ls")
    assert status == 0 and "LogMelModel" in out and "MfccModel" in out
    shard = next((tmp_path / "cache/embeddings").glob("*/*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    status, out, _ = arch(capsys, "cache", "verify")
    assert status == 1 and str(shard) in out and "1 of 2 shards are whole" in out
    arch(capsys, "evaluate", "--datasets", "synthetic_events", "--limit", 4, "--seeds", 1, "--overwrite")
    status, out, _ = arch(capsys, "cache", "prune")
    assert "removed 1 files" in out
    assert arch(capsys, "cache", "verify")[0] == 0
    name = out and next((tmp_path / "cache/embeddings").iterdir()).name
    assert arch(capsys, "cache", "prune", "--store", name)[0] == 0
    assert not (tmp_path / "cache/embeddings" / name).exists()
    status, out, _ = arch(capsys, "cache", "verify", "--cache_dir", tmp_path / "mistyped")
    assert status == 0 and "no embeddings in" in out and "whole" not in out


def test_the_cache_of_a_living_run_is_left_alone(capsys, tmp_path, monkeypatch):
    store = EmbeddingStore(tmp_path / "cache", {"recipe": 1})
    store.add([bytes(16)], np.ones((1, 3), np.float32))
    living, killed = (store.folder / f".{name}.safetensors.tmp" for name in ("living", "killed"))
    for path in (living, killed):
        path.write_bytes(b"half")
    os.utime(killed, (time.time() - 7200, time.time() - 7200))
    status, out, _ = arch(capsys, "cache", "prune")
    assert status == 0 and "removed 1 files" in out and living.exists() and not killed.exists()
    shard = next(store.folder.glob("*.safetensors"))
    with monkeypatch.context() as patch:  # removed between the listing and the reading
        patch.setattr(store_module, "read_shard", lambda path: path.unlink() or read_shard(path))
        status, out, _ = arch(capsys, "cache", "verify")
    assert status == 0 and not shard.exists()


def test_what_is_wrong_with_a_cache_is_said(capsys, tmp_path, monkeypatch):
    store = EmbeddingStore(tmp_path / "cache", {"recipe": 1})
    store.add([bytes(16)], np.ones((1, 3), np.float32))
    (store.folder / "damaged.safetensors").write_bytes(b"no shard")
    status, out, _ = arch(capsys, "cache", "ls")
    assert status == 0 and re.search(rf"{store.folder.name} .* 1 ", out)
    recipe = store.folder / "recipe.json"
    recipe.write_text('{"recipe": 2}')
    status, out, _ = arch(capsys, "cache", "verify")
    assert status == 1 and f"{recipe}: not what this store is named after" in out and "1 of 2 shards are whole" in out
    for name in ("..", ".", "../embeddings", "nobody"):
        status, _, said = arch(capsys, "cache", "prune", "--store", name)
        assert status == 1 and said[0].startswith(f"error: no store {name} in")
    assert store.folder.exists()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
        status, _, said = arch(capsys, "cache", "prune", "--store", store.folder.name)
    assert status == 1 and said == [f"error: cannot remove {store.folder} (Read-only file system)"]
    (store.folder / "x.damaged").write_bytes(b"")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
        status, _, said = arch(capsys, "cache", "prune")
    assert status == 1 and said[0].endswith("x.damaged (Read-only file system); 0 files were removed")


def test_doctor(capsys):
    status, out, _ = arch(capsys, "doctor")
    assert status == 0 and out.endswith("ready\n")
    assert re.search(r"codec MP3 MPEG_LAYER_III: [\d.]+ ms for 5 s", out) and "HF_HUB_OFFLINE is set" in out
    assert re.search(r"CPU .+: \d+ cores, .* GFLOP/s in a small encoder", out)


def test_doctor_of_a_machine_without_a_network_is_content(capsys, hub):
    hub.http.shutdown()
    hub.http.server_close()
    status, out, _ = arch(capsys, "doctor")
    (line,) = [line for line in out.splitlines() if "the Hub at" in line]
    assert status == 0 and out.endswith("ready\n") and line.startswith("--") and "no answer (" in line
    assert (
        "prepare --download, publish and jobs cannot be used; folders, what is cached and what is built in can" in line
    )


def test_doctor_of_a_cache_that_cannot_be_used_is_not(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("arch_hf.cli.doctor._devices", lambda: [])
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Disk", (), {"free": 5e8}))
    status, out, _ = arch(capsys, "doctor")
    assert (
        status == 1 and re.search(r"BAD  cache .*: 0 GB free", out) and out.endswith("1 of the above needs mending\n")
    )


def test_doctor_asks_the_hub(capsys, hub):
    _, out, _ = arch(capsys, "doctor")
    assert f"the Hub at {hub.url}: answers in" in out and "you are somebody" in out
    assert hub.count("GET", "/api/models/facebook/hubert-base-ls960") == 1
    hub.fail("GET", "whoami", 401, times=9)
    status, out, _ = arch(capsys, "doctor")
    assert status == 1 and "refuses the token (401): hf auth login" in out


def test_completion_or_what_it_needs(capsys):
    status, out, err = arch(capsys, "completion", "bash")
    if importlib.util.find_spec("shtab"):
        assert status == 0 and "--model_id" in out and "check-encoder" in out
    else:
        assert status == 1 and err == ['error: completion needs shtab: pip install "arch-hf[completion]"']


def test_a_suite_is_a_list_of_datasets(capsys):
    status, out, _ = arch(capsys, "evaluate", "--dry_run", "--suite", "synthetic", "--limit", 4)
    assert status == 0 and all(name in out for name in SYNTHETIC_NAMES)
    assert "unknown suite 'speach'; did you mean 'speech'?" in arch(capsys, "evaluate", "--suite", "speach")[2][0]


def test_an_empty_value_is_no_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for flag in ("model_id", "datasets", "output_dir", "cache_dir", "model_name", "device"):
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", f"--{flag}", ""])
        assert stopped.value.code == 2
        assert f"error: --{flag} is empty: give it a value, or leave it out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
