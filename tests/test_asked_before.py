"""The same question again is answered from the results without computing; whatever changes one thing goes the ordinary way."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

import arch_hf.cli
import arch_hf.evaluate
from arch_hf.audio import encode_wav
from arch_hf.cli import asked_before, build_parser, main
from arch_hf.cli.evaluate import jobs_of
from arch_hf.data import synthetic
from arch_hf.embedding.baselines import BASELINES
from arch_hf.job import BASELINE_MODEL, DEFAULT_MODEL

QUESTION = ["evaluate", "--model_id", "model", "--datasets", "sounds", "--data_dir", "data", "--seeds", "1"]


def write_sounds(folder):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lines = ["file_name,label,split"]
    for i in range(24):
        samples = np.sin(np.arange(4000) * (0.1 if i % 2 else 0.3)) * rng.uniform(0.2, 0.8) + rng.normal(0, 0.1, 4000)
        (folder / f"{i}.wav").write_bytes(encode_wav(samples.astype(np.float32), 16000))
        lines.append(f"{i}.wav,{'low' if i % 2 else 'top'},{'train' if i < 16 else 'test'}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def answered(tiny, tmp_path_factory):
    """A folder with a model, a dataset, and all that is computed for `QUESTION`."""
    home = tmp_path_factory.mktemp("answered")
    write_sounds(home / "data" / "sounds")
    shutil.copytree(tiny("hubert"), home / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("ARCH_HF_CACHE", "cache")
        assert main(QUESTION) == 0
    return home


@pytest.fixture
def world(answered, tmp_path, monkeypatch):
    """A copy of it, in which the question was asked once."""
    home = tmp_path / "home"
    shutil.copytree(answered, home)
    shutil.rmtree(home / "cache" / "asked_before")
    monkeypatch.chdir(home)
    monkeypatch.setenv("ARCH_HF_CACHE", "cache")
    assert main(QUESTION) == 0
    return home


@pytest.fixture
def computed(monkeypatch):
    """Asks; returns whether that went the ordinary way, of which here only the beginning is seen."""

    def computes(*question):
        began = []
        monkeypatch.setattr(arch_hf.evaluate, "run_jobs", lambda jobs, ranks: began.append(jobs) or iter(()))
        main([*(question or QUESTION)])
        return bool(began)

    return computes


def rewrite(path, old, new):
    """Change a file in place, and leave it its size and its date."""
    status, content = path.stat(), path.read_bytes()
    assert len(old) == len(new) and old in content
    path.write_bytes(content.replace(old, new, 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def take_the_place_of(path, other):
    """Move a file to where another of the same size and date is."""
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def test_the_same_question_has_the_same_answer_without_computing(world, computed, capsys):
    capsys.readouterr()
    assert main(QUESTION) == 0
    again = capsys.readouterr()
    for note in Path("cache/asked_before").iterdir():
        note.unlink()
    assert main(QUESTION) == 0
    ordinary = capsys.readouterr()
    without_bars = "\n".join(line for line in re.split(r"[\r\n]", ordinary.err) if "%|" not in line and line.strip())
    assert again.out == ordinary.out and "model, protocol arch-v1" in again.out
    assert again.err.strip() == without_bars and "sounds: done" in again.err
    assert not computed()


def test_nothing_heavy_is_imported_for_it(world):
    code = f"import sys; from arch_hf.cli import main; assert main({QUESTION!r}) == 0; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    modules = done.stdout.splitlines()[-1]
    assert done.returncode == 0, done.stderr
    for name in ("torch", "transformers", "datasets", "pyarrow", "scipy", "sklearn", "pandas", "accelerate"):
        assert f"'{name}'" not in modules


CHANGES = {
    "a field of the model's configuration": lambda: rewrite(
        Path("model/config.json"), b'"hidden_act": "gelu"', b'"hidden_act": "relu"'
    ),
    "a byte of its weights": lambda: rewrite(
        Path("model/model.safetensors"), Path("model/model.safetensors").read_bytes()[-64:], bytes(64)
    ),
    "its feature extractor": lambda: rewrite(
        Path("model/preprocessor_config.json"), b'"do_normalize": true', b'"do_normalize": null'
    ),
    "a file more in its folder": lambda: Path("model/model.safetensors.index.json").write_text("{}"),
    "a clip in place of another": lambda: take_the_place_of(Path("data/sounds/0.wav"), Path("data/sounds/1.wav")),
    "a clip with other samples": lambda: rewrite(
        Path("data/sounds/3.wav"), Path("data/sounds/3.wav").read_bytes()[-8:], b"\1\2\3\4\5\6\7\0"
    ),
    "a clip less": lambda: Path("data/sounds/7.wav").unlink(),
    "a clip more": lambda: shutil.copy("data/sounds/7.wav", "data/sounds/new.wav"),
    "a label": lambda: rewrite(Path("data/sounds/metadata.csv"), b"0.wav,top", b"0.wav,low"),
    "the data lies elsewhere": lambda: Path("data/sounds").rename("sounds"),
    "an answer removed": lambda: Path("results/model/data__sounds.seeds1.json").unlink(),
    "an answer edited": lambda: rewrite(Path("results/model/data__sounds.seeds1.json"), b'"seed": 0', b'"seed": 1'),
    "predictions of another run": lambda: Path("results/model/data__sounds.seeds1.predictions.safetensors").write_bytes(
        b"0"
    ),
    "the note removed": lambda: shutil.rmtree("cache/asked_before"),
    "the note damaged": lambda: rewrite(next(Path("cache/asked_before").iterdir()), b'"sounds"', b'"hounds"'),
    "the note cut short": lambda: next(Path("cache/asked_before").iterdir()).write_bytes(b"abc"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_goes_the_ordinary_way(world, computed, change):
    assert not computed()
    CHANGES[change]()
    assert computed()


def test_another_answer_in_its_place_is_none(world, computed):
    """A whole result, of another question."""
    assert main([*QUESTION, "--protocol", "strict"]) == 0
    for ending in (".json", ".predictions.safetensors"):
        Path(f"results/model/data__sounds.strict{ending}").replace(f"results/model/data__sounds.seeds1{ending}")
    assert computed()


@pytest.mark.parametrize(
    "more",
    [
        ["--limit", "6"],
        ["--layers", "0"],
        ["--protocol", "strict"],
        ["--probe", "knn"],
        ["--shots", "1"],
        ["--also", "retrieval"],
        ["--seeds", "2"],
        ["--model_name", "mine"],
        ["--dtype", "bfloat16"],
        ["--device", "cpu"],
        ["--batch_seconds", "7"],
        ["--group_column", "none"],
        ["--output_dir", "elsewhere"],
        ["--cache_dir", "elsewhere"],
        ["--overwrite"],
        ["--streaming"],
        ["--trust_remote_code"],
    ],
    ids=" ".join,
)
def test_another_question_goes_the_ordinary_way(world, computed, more):
    assert not computed()
    assert computed(*QUESTION, *more)


def test_other_surroundings_go_the_ordinary_way(world, computed, monkeypatch, tmp_path):
    for variable in ("ARCH_HF_FAST", "NVIDIA_TF32_OVERRIDE", "WORLD_SIZE_OF_SOMETHING", "HF_HOME"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(variable, "0")
            assert computed()
    monkeypatch.setenv("SSH_CONNECTION", "another")
    assert not computed()
    (tmp_path / "packages" / "transformers-99.0.dist-info").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path / "packages")
        assert computed()
    (tmp_path / "scripts").mkdir()
    with pytest.MonkeyPatch.context() as patch:  # the package's own files
        patch.setattr(asked_before, "shipped", lambda folder: tmp_path / "scripts")
        assert computed()
    shutil.copytree(".", tmp_path / "other")
    monkeypatch.chdir(tmp_path / "other")
    assert computed()


def test_the_python_and_every_file_of_the_package_count(world, monkeypatch):
    args = build_parser().parse_args(QUESTION)
    asked = asked_before.AskedBefore.of(args, jobs_of(args))
    assert {arch_hf.evaluate.__file__, arch_hf.cli.__file__} <= asked.files
    monkeypatch.setattr(sys, "version", "another")
    assert asked_before.AskedBefore.of(args, jobs_of(args)).state != asked.state


def test_a_folder_that_comes_first_counts_when_it_appears(world, computed):
    shutil.move("data/sounds", "sounds")
    assert main(QUESTION) == 0 and not computed()
    Path("data/sounds").write_text("a file, no folder")
    assert computed()


def test_what_files_alone_do_not_tell_is_never_noted(world, computed):
    def asked(*more):
        shutil.rmtree("cache/asked_before", ignore_errors=True)
        main([*QUESTION, *more])
        return Path("cache/asked_before").is_dir()

    assert asked()
    assert not asked("--overwrite") and not asked("--streaming") and not asked("--trust_remote_code")
    assert not asked("--datasets", "sounds", "nonsense")  # one of which has no answer
    readme = Path("data/sounds/README.md")
    readme.write_text("---\nlicense_link: https://example.org\n---\nSee https://example.org: /here, configs: /none\n")
    assert asked()
    csv = Path("data/sounds/metadata.csv")
    with tempfile.TemporaryDirectory() as elsewhere:
        shutil.move("data/sounds/5.wav", elsewhere)
        csv.write_text(csv.read_text().replace("5.wav,", f"{elsewhere}/5.wav,", 1))
        assert not asked()
        assert Path("results/model/data__sounds.seeds1.json").is_file()
        shutil.move(f"{elsewhere}/5.wav", "data/sounds")
    csv.write_text(csv.read_text().replace(f"{elsewhere}/5.wav,", "5.wav,", 1))
    assert asked()
    Path("model/adapter_config.json").write_text("{}")
    assert not asked()


@pytest.mark.parametrize(
    "more", [["--dry_run"], ["--push_to_hub"], ["--results_dataset", "me/r"], ["--suite", "synthetic"]], ids=" ".join
)
def test_what_has_more_to_do_than_to_answer_is_never_looked_up(world, more):
    def looked_up(*question):
        args = build_parser().parse_args([*question])
        return asked_before.AskedBefore.of(args, jobs_of(args)) is not None

    assert looked_up(*QUESTION) and not looked_up(*QUESTION, *more)


def test_notes_are_pruned_with_the_results_that_they_name(world, computed, monkeypatch, capsys):
    assert main([*QUESTION, "--protocol", "arch-v1", "strict"]) == 0
    first, second = sorted(Path("cache/asked_before").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    (second.parent / "damaged.json").write_text("no note")
    Path("results/model/data__sounds.strict.json").unlink()
    cache = os.path.abspath("cache")
    with monkeypatch.context() as patch:
        patch.chdir("data")  # the notes' paths are from where the question was asked
        capsys.readouterr()
        assert main(["cache", "prune", "--cache_dir", cache]) == 0
    assert capsys.readouterr().out == "removed 2 files\n"
    assert [*first.parent.iterdir()] == [first] and not computed()


def test_what_a_run_says_and_no_result_holds_is_said_again(world, computed, capsys):
    settings = Path("model/preprocessor_config.json")
    settings.write_text(settings.read_text().replace("16000", "8000"))
    for _ in range(2):
        assert main(QUESTION) == 0
        assert "its scores will be wrong" in "".join(capsys.readouterr())
    assert computed()


def test_a_data_dir_that_is_gone_is_an_error_again(world, capsys):
    shutil.move("data/sounds", "sounds")
    assert main(QUESTION) == 0
    Path("data").rmdir()
    assert main(QUESTION) == 1 and "--data_dir data: no such folder" in capsys.readouterr().err


def test_hidden_files_count(world, computed):
    hidden = Path("data/sounds/.list.json")
    hidden.write_text("[1]")
    assert main(QUESTION) == 0 and not computed()
    rewrite(hidden, b"[1]", b"[2]")
    assert computed()


@pytest.mark.parametrize(
    "named",
    ["../elsewhere/*.wav", "https://example.org/a.zip", "/data/a.wav", "[a.wav, /data/b.wav]", "{{a: ..}}", "~/a.wav"],
)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("README.md", "---\nconfigs:\n- data_files: {}\n---\n"),
        ("state.json", '{{"f": "{}"}}'),
        ("m.index.json", '["{}"]'),
    ],
)
def test_a_file_that_names_others_elsewhere(tmp_path, name, content, named):
    (tmp_path / name).write_text(content.format("a.wav"))
    assert asked_before._look([tmp_path], "")
    (tmp_path / name).write_text(content.format(named))
    assert asked_before._look([tmp_path], "") is None
    if name == "README.md":
        (tmp_path / name).write_text("\n" + content.format(named))
        assert asked_before._look([tmp_path], "") is None
        (tmp_path / name).write_text(content.format("a.wav") + " " * (1 << 20))  # too large to be looked into
        assert asked_before._look([tmp_path], "") is None


def test_a_pipe_among_the_files_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "notes.txt")
    assert asked_before._look([tmp_path], "")


def test_what_changes_during_a_run_is_not_noted(world, computed, monkeypatch):
    shutil.rmtree("cache/asked_before")
    run_jobs = arch_hf.evaluate.run_jobs

    def with_a_change(jobs, ranks):
        yield from run_jobs(jobs, ranks)
        rewrite(Path("data/sounds/metadata.csv"), b"0.wav,top", b"0.wav,low")

    monkeypatch.setattr(arch_hf.evaluate, "run_jobs", with_a_change)
    assert main(QUESTION) == 0
    assert not Path("cache/asked_before").exists() and computed()


def test_a_file_that_is_named_by_a_way_back_is_not_taken_for_one_inside(world, monkeypatch):
    """Where `data` is a link, `data/..` is another folder than the one that holds the link."""
    shutil.rmtree("cache/asked_before")
    run_jobs = arch_hf.evaluate.run_jobs
    named = ("data/sounds/../sounds/0.wav",)
    monkeypatch.setattr(
        arch_hf.evaluate, "run_jobs", lambda *args: (replace(run, named_files=named) for run in run_jobs(*args))
    )
    assert main(QUESTION) == 0 and not Path("cache/asked_before").exists()


def test_all_layers_and_protocols_and_what_is_built_in(world, computed, capsys):
    question = ["evaluate", "--model_id", "logmel", "model", "--protocol", "arch-v1", "strict", "--layers", "all"]
    question += ["--datasets", "synthetic_events", "--limit", "6", "--seeds", "1"]
    assert main(question) == 0
    capsys.readouterr()
    assert main(question) == 0 and capsys.readouterr().out.count("synthetic_events:") and not computed(*question)
    assert {DEFAULT_MODEL, BASELINE_MODEL} == set(BASELINES) and synthetic.CORPORA  # which no folder holds


def test_of_the_hub_a_commit_is_told_by_files_and_a_branch_is_not(world, computed, monkeypatch):
    commit = "0123456789" * 4
    snapshot = Path("hub/models--me--model/snapshots") / commit
    shutil.copytree("model", snapshot)
    Path("hub/models--me--model/refs").mkdir()
    Path("hub/models--me--model/refs/main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", os.path.abspath("hub"))
    question = ["me/model" if word == "model" else word for word in QUESTION]
    places = asked_before._places
    jobs = []
    monkeypatch.setattr(asked_before, "_places", lambda found: jobs.extend(found) or places(found))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert computed(*question) and places(jobs) is None  # the branch may have moved on
    jobs.clear()
    assert computed(*question, "--revision", commit) and Path(constants.HF_HUB_CACHE, "models--me--model") in places(
        jobs
    )
    jobs.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert computed(*question) and Path(constants.HF_HUB_CACHE, "models--me--model") in places(jobs)


def test_answers_that_lost_their_layer_curve_are_put_right(world, computed):
    layers = [*QUESTION, "--layers", "0,-1"]
    assert main(layers) == 0
    assert main([*QUESTION, "--overwrite"]) == 0  # the last layer alone, under the same name
    assert computed(*layers)
