"""An option that can change nothing where it is given is refused in one line, or said in one: never taken in silence."""

import json

import msgspec
import numpy as np
import pytest
from datasets import Dataset
from publishing_samples import make_result

from arch_hf import AudioEncoder, evaluate_model, load_corpus
from arch_hf.audio import encode_wav
from arch_hf.cli import main
from arch_hf.errors import UserError
from arch_hf.job import Job
from arch_hf.results.folder import read_results
from arch_hf.scaling.cells import missing

EVENTS = ["--datasets", "synthetic_events"]
LITTLE = ["--limit", "4", "--cache_dir", "cache"]
MODEL = ["--model_id", "me/model", "--datasets", "esc50"]
PRETRAIN = ["pretrain", "--audio", "audio", "--output_dir", "out"]


@pytest.fixture
def here(tmp_path, monkeypatch, tiny):
    """A folder with a checkpoint, a folder of clips, and a folder of audio."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint").symlink_to(tiny("hubert"))
    noise = np.random.default_rng(0).standard_normal((8, 16000)).astype(np.float32) / 10
    for split in ("train", "test"):
        for i, samples in enumerate(noise):
            folder = tmp_path / "clips" / split / ("dog", "owl")[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{i}.wav").write_bytes(encode_wav(samples, 16000))
    (tmp_path / "audio").mkdir()
    Dataset.from_dict({"audio": [{"bytes": encode_wav(noise[0], 16000), "path": None}]}).save_to_disk("saved")
    (tmp_path / "audio/1.wav").write_bytes(encode_wav(noise[0], 16000))
    return tmp_path


# Option and situation -> what the line says.
REFUSED = {
    "revision of a baseline": (["evaluate", *EVENTS, *LITTLE, "--revision", "main"], "logmel is built in"),
    "revision of a folder": (["evaluate", "--model_id", "checkpoint", *EVENTS, *LITTLE, "--revision", "v1"], "checkpoint is a folder"),
    "revision of a baseline, checked": (["check-encoder", "mfcc", "--revision", "main"], "mfcc is built in"),
    "columns of what is made here": (["evaluate", *EVENTS, "--label_column", "x"], "synthetic_events is made by this package, and has no label_column"),
    "columns of what is made here, among others": (["evaluate", "--datasets", "synthetic_events", "clips", *LITTLE, "--label_column", "label"], "synthetic_events is made by this package, and has no label_column"),
    "columns of what is made here, checked": (["check-dataset", "synthetic_events", "--config", "x"], "has no config to be named"),
    "folder that is not there": (["check-dataset", "clips", "--data_dir", "nowhere"], "--data_dir nowhere: no such folder"),
    "two ways to name splits": (["check-dataset", "clips", "--splits", "train=train,test=test", "--fold_column", "label"], "--splits and --fold_column both say"),
    "layers of a sum of all": (["evaluate", "--probe", "weighted_sum", "--layers", "0"], "leave out --layers"),
    "shots of neighbours": (["evaluate", "--probe", "knn", "--shots", "1"], "goes with --probe linear"),
    "questions of no single layer": (["evaluate", "--probe", "weighted_sum", "--also", "pairs"], "--probe weighted_sum takes all together"),
    "kinds by commas": (["evaluate", *MODEL, *EVENTS, "--also", "retrieval,pairs"], "parted by spaces"),
    "pull request of nothing": (["evaluate", "--create_pr"], "goes with --push_to_hub"),
    "one name for two models": (["evaluate", "--model_id", "logmel", "mfcc", "--model_name", "x"], "1 names for 2 models"),
    "machine of jobs": (["plan", *MODEL, "--format", "jobs", "--flavor", "f", "--bucket", "me/b", "--machine", "l4"], "--machine goes with --format table or shell or slurm"),
    "store of jobs": (["plan", *MODEL, "--format", "jobs", "--flavor", "f", "--bucket", "me/b", "--cache_dir", "c"], "--cache_dir goes with"),
    "store of a job": (["jobs", "run", *MODEL, "--flavor", "f", "--bucket", "me/b", "--cache_dir", "c"], "a job keeps its embeddings in --bucket"),
    "slurm's options elsewhere": (["plan", *MODEL, "--format", "shell", "--sbatch=--gres=gpu:1"], "--sbatch goes with --format slurm"),
    "slurm's tasks elsewhere": (["plan", *MODEL, "--at_once", "3"], "--at_once goes with --format slurm"),
    "report of no script": (["plan", *MODEL, "--report", "r"], "--report goes with --format shell or slurm or jobs"),
    "flavor of no job": (["plan", *MODEL, "--format", "slurm", "--flavor", "f"], "--flavor goes with --format jobs"),
    "package of no job": (["plan", *MODEL, "--package", "p"], "--package goes with --format jobs"),
    "payer of no job": (["plan", *MODEL, "--namespace", "me"], "--namespace goes with --format jobs"),
    "private, not sent": (["prepare", "esc50", "--raw_dir", "raw", "--private"], "--private goes with --push_to_hub"),
    "store that is listed": (["cache", "ls", "--store", "x"], "--store goes with prune"),
    "store that is verified": (["cache", "verify", "--store", "x"], "--store goes with prune"),
    "two homes of results": (["publish", "results", "results", "--dataset", "me/r", "--repo_id", "me/m"], "give one of them"),
    "revision of a published folder": (["publish", "checkpoint", "checkpoint", "--repo_id", "me/m", "--revision", "v1"], "checkpoint is a folder"),
    "tasks twice": (["mteb", "--model_id", "mfcc", "--tasks", "a", "--benchmark", "b"], "give one of them"),
    "targets of wav2vec2": ([*PRETRAIN, "--objective", "wav2vec2", "--cache_targets"], "wav2vec2 has no targets"),
    "layer of MFCC": ([*PRETRAIN, "--objective", "hubert", "--layer", "3"], "--layer goes with --targets_from"),
    "steps twice": ([*PRETRAIN, "--objective", "hubert", "--max_steps", "9", "--set", "max_steps=8"], "--set max_steps= and --max_steps say the same number"),
    "a number twice": ([*PRETRAIN, "--objective", "hubert", "--set", "max_steps=8", "max_steps=9"], "--set gives max_steps twice"),
    "measured every, but what": ([*PRETRAIN, "--objective", "hubert", "--size", "tiny", "--valid_every", "5"], "--valid_every goes with --valid or --probe"),
    "configuration of files": ([*PRETRAIN, "--objective", "wav2vec2", "--size", "tiny", "--audio_config", "x"], "go with a dataset"),
    "configuration of a saved dataset": (["prepare-audio", "saved", "--output_dir", "out", "--config", "x"], "a saved dataset has no configurations"),
    "split of a saved dataset": (["prepare-audio", "saved", "--output_dir", "out", "--split", "x"], "a saved dataset has no splits"),
    "split of files": (["prepare-audio", "audio", "--output_dir", "out", "--split", "x"], "go with a dataset"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_effect_is_refused(case, here, capsys):
    arguments, said = REFUSED[case]
    try:
        status = main(arguments)
    except SystemExit as exit:
        status = exit.code
    captured = capsys.readouterr()
    lines = [line for line in (captured.err + captured.out).splitlines() if said in line]
    assert status not in (0, None) and len(lines) == 1, captured.err
    assert "Traceback" not in captured.err and not (here / "out").exists()


def test_seeds_where_nothing_is_random_are_said_to_have_no_effect(here, capsys):
    assert main(["evaluate", *EVENTS, *LITTLE, "--protocol", "strict", "--seeds", "5"]) == 0
    assert capsys.readouterr().err.count("--seeds 5: nothing is random in the linear probe of strict") == 1
    assert main(["evaluate", *EVENTS, *LITTLE, "--protocol", "strict"]) == 0
    assert "nothing is random" not in capsys.readouterr().err
    (line,) = Job(data_dir="clips").remarks
    assert (
        line
        == "--data_dir clips: synthetic_events, synthetic_music, synthetic_speech are made by this package, and not looked for"
    )
    assert not Job("logmel", ("synthetic_events", "esc50"), data_dir="clips").remarks
    assert Job(probe="knn", seeds=2).remarks and not Job(seeds=2).remarks


def test_a_question_that_the_data_do_not_have_is_said(here, capsys):
    (here / "lists").mkdir()
    rows = [("a.wav", "dog,owl"), ("b.wav", "owl"), ("c.wav", "dog"), ("d.wav", "dog,owl")]
    for split in ("train", "test"):
        for name, _ in rows:
            (here / "lists" / f"{split}-{name}").write_bytes(
                (here / "audio/1.wav").read_bytes() + name.encode() + b"\0" * (8 - len(name))
            )
        text = "".join(f"{split}-{name};{label}\n" for name, label in rows)
        (here / f"lists/{split}.csv").write_text("file_name;tags\n" + text)
    flags = ["--label_column", "tags", "--label_separator", ",", "--also", "clustering", "--probe", "knn"]
    main(["evaluate", "--datasets", "lists", *flags, "--cache_dir", "cache"])
    assert "lists: there is no clustering in it to ask for" in capsys.readouterr().out


def encoder():
    class Loudness:
        sampling_rate, identity = 16000, "loudness"

        def embed(self, waveforms):
            return np.stack([[np.abs(clip).mean(), clip.std()] for clip in waveforms])

    return Loudness()


@pytest.mark.parametrize("option", [{"revision": "main"}, {"dtype": "bfloat16"}, {"trust_remote_code": True}])
@pytest.mark.parametrize("own", [encoder, lambda: AudioEncoder.from_pretrained("logmel")])
def test_how_to_load_what_is_loaded_is_refused(own, option, tmp_path):
    with pytest.raises(UserError, match=f"loaded already, so {next(iter(option))} can change nothing"):
        evaluate_model(own(), ["synthetic_events"], output_dir=tmp_path, cache_dir=tmp_path, **option)


def test_what_is_no_option_is_refused(tmp_path):
    with pytest.raises(UserError, match="no option subfolder"):
        evaluate_model(encoder(), ["synthetic_events"], output_dir=tmp_path, subfolder="x")


def test_the_callers_encoder_stays_as_it_is(tmp_path):
    mine = AudioEncoder.from_pretrained("logmel")
    mine.batch_seconds = 3.0
    before = {key: value for key, value in vars(mine).items() if key != "timing"}
    options = {"limit": 4, "seeds": 1, "output_dir": tmp_path, "cache_dir": tmp_path}
    (result,) = evaluate_model(mine, ["synthetic_events"], model_name="another", batch_seconds=7, **options)
    assert result.model.id == "another"
    assert {key: value for key, value in vars(mine).items() if key != "timing"} == before
    evaluate_model(mine, ["synthetic_events"], **options)
    assert (mine.model_id, mine.batch_seconds) == ("logmel", 3.0)


def test_revisions_of_what_is_here_are_refused(here):
    with pytest.raises(UserError, match="revision v1 is of a dataset of the Hub, but clips is here"):
        load_corpus("clips", revision="v1")
    with pytest.raises(UserError, match="synthetic_events is made by this package, and has no revision"):
        load_corpus("synthetic_events", revision="v1")


def test_max_seconds_cut_under_any_padding():
    mine, clip = AudioEncoder.from_pretrained("logmel"), np.random.default_rng(0).standard_normal(32000).astype("f4")
    np.testing.assert_array_equal(mine.embed([clip], max_seconds=0.5), mine.embed([clip[:8000]]))


# A cell has its result where there is one of the very question.
PLAIN = "esc50.json"
ASKED = {
    "esc50.seeds5.json": {"seeds": 5},
    "esc50.bfloat16.json": {"dtype": "bfloat16"},
    "esc50.rev-main.json": {"revision": "main"},
    "esc50.shots1.json": {"shots": (1,)},
    "esc50.also-pairs.json": {"also": ("pairs",)},
    "esc50.limit5.json": {"limit": 5},
    "esc50.arch-v1-knn.json": {"probe": "knn"},
    "esc50.strict.json": {"protocol": "strict"},
    "esc50.layer1.json": {"layers": "1"},
    "esc50.label-x.json": {"dataset_options": {"label_column": "x"}},
    "esc50.config-y.json": {"dataset_options": {"config": "y"}},
}


def filed(tmp_path, *names):
    result = make_result("esc50", model="me/model")
    result["model"]["n_layers"] = 3
    for name in names:
        path = tmp_path / "me__model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    return read_results(tmp_path)[0]


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_to_another_question_is_none(name, tmp_path):
    cell = Job("me/model", ("esc50",), **ASKED[name])
    others = [other for other in (PLAIN, *ASKED) if other != name]
    assert missing([cell], filed(tmp_path, *others)) == [cell]
    assert missing([cell], filed(tmp_path, name)) == []


def test_an_incomplete_result_is_no_answer(tmp_path):
    cell = Job("me/model", ("esc50",))
    (whole,) = filed(tmp_path, PLAIN)
    lacking = msgspec.structs.replace(whole.result, complete=False)
    assert missing([cell], [whole]) == [] and missing([cell], [whole._replace(result=lacking)]) == [cell]


def test_all_layers_have_a_file_each(tmp_path):
    cell = Job("me/model", ("esc50",), layers="all")
    assert missing([cell], []) == [cell]
    assert missing([cell], filed(tmp_path, "esc50.json", "esc50.layer0.json")) == [cell]
    assert missing([cell], filed(tmp_path, "esc50.layer1.json")) == []
