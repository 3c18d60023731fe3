"""Whole pretraining runs of very small models: learning, sharing among processes, and ending well or clearly."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import PartialState
from datasets import Audio, Dataset, Features, Value
from pretraining_runs import (
    NOISY,
    SMALL,
    assert_nearly_the_same,
    curve,
    fresh,
    history,
    make_audio,
    options,
    rows_of,
    train,
)
from transformers import AutoFeatureExtractor, AutoModel, HubertModel, Wav2Vec2Model

from arch_hf.cli import main
from arch_hf.errors import AudioError, UserError
from arch_hf.pretraining import batching, card, checkpoints, kmeans, loop, prepare_audio, validation
from arch_hf.pretraining.clips import Clips
from arch_hf.pretraining.labels import CachedLabels
from arch_hf.pretraining.prepare_audio import Source
from arch_hf.pretraining.recipes import get_recipe

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def new_process():
    fresh()
    yield
    fresh()


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Twelve clips, 0.5 to 1.6 s, and one broken file."""
    folder = make_audio(tmp_path_factory.mktemp("audio"))
    (folder / "broken.wav").write_bytes((folder / "11.wav").read_bytes()[:9000])
    return folder


@pytest.fixture(scope="module")
def prepared(audio, tmp_path_factory):
    """The same, prepared."""
    out = tmp_path_factory.mktemp("prepared") / "audio"
    prepare_audio.prepare_audio(Source((str(audio),)), out, workers=1)
    return out


@pytest.fixture(scope="module", params=["wav2vec2", "hubert"])
def undisturbed(request, audio, tmp_path_factory):
    """A run of each objective with dropout, layer drop and the Gumbel noise at work."""
    out = tmp_path_factory.mktemp("runs") / request.param
    run = options(
        audio, out, request.param, overrides=NOISY, max_steps=20, log_with=("tensorboard",), keep_checkpoints=6
    )
    train(run)
    return run


def test_a_run_learns_and_leaves_a_checkpoint_for_automodel(undisturbed, audio):
    out = undisturbed.output_dir
    losses = [row[1] for row in curve(out)]
    assert len(losses) == 20 and np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])
    model, extractor = AutoModel.from_pretrained(out), AutoFeatureExtractor.from_pretrained(out)
    assert type(model) is {"wav2vec2": Wav2Vec2Model, "hubert": HubertModel}[undisturbed.objective]
    inputs = extractor([np.zeros(8000, np.float32)], sampling_rate=16000, return_tensors="pt")
    assert model.eval()(**inputs).last_hidden_state.shape == (1, 24, 16)
    kept = {path.name for path in out.rglob("*") if path.is_file()}
    assert "model.safetensors" in kept and not [
        name for name in kept if name.endswith((".bin", ".pkl", ".pt", ".partial"))
    ]
    card = (out / "README.md").read_text()
    for part in (
        "12 clips, 0.00 hours",
        "1 clips skipped",
        "evaluate.py --model_id",
        "| learning_rate | 0.003 |",
        "| 20 |",
    ):
        assert part in card
    assert "- step 0: begun" in card and str(audio.parent) not in card and (out / "curves.png").stat().st_size > 1000
    assert list(out.rglob("events.out.tfevents*"))
    skipped = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [(row["clip"], row["reason"][:9]) for row in skipped] == [(str(audio / "broken.wav"), "truncated")]
    log = (out / "train.log").read_text()
    assert "beginning at step 0 of 20" in log and log.count("step 20/20, loss") == 1 and "s for data" in log


def in_two_processes(run) -> None:
    train(run)


def test_two_processes_give_the_curve_of_one_and_one_goes_on_from_two(undisturbed, tmp_path):
    both = dataclasses.replace(undisturbed, output_dir=tmp_path / "two", log_with=(), max_steps=None)
    debug_launcher(in_two_processes, (dataclasses.replace(both, overrides=(*NOISY, "max_steps=20")),), num_processes=2)
    assert_nearly_the_same(both.output_dir, undisturbed.output_dir)
    for step in (15, 20):
        shutil.rmtree(both.output_dir / f"checkpoints/step-{step:07d}")
    alone = train(dataclasses.replace(both, resume=True))
    assert_nearly_the_same(alone, undisturbed.output_dir)
    assert history(alone)[-1]["changed"]["processes"] == [2, 1]


def test_shards_give_the_run_that_the_same_files_give_and_a_dataset_is_prepared_first(
    audio, prepared, tmp_path, capsys
):
    run = options(prepared, tmp_path / "run", "wav2vec2", max_steps=4)
    losses = [row[1] for row in curve(train(run))]
    assert len(losses) == 4 and np.isfinite(losses).all()
    card = (run.output_dir / "README.md").read_text()
    assert f"prepared by arch-hf prepare-audio from `{audio.name}`, 1 skipped" in card
    rows = [{"audio": {"bytes": path.read_bytes(), "path": path.name}} for path in sorted(audio.glob("*.wav"))]
    features = Features({"audio": {"bytes": Value("binary"), "path": Value("string")}})
    (tmp_path / "data").mkdir()
    Dataset.from_list(rows, features=features).cast_column("audio", Audio(decode=False)).to_parquet(
        tmp_path / "data/train.parquet"
    )
    again = train(options(tmp_path / "data", tmp_path / "again", "wav2vec2", max_steps=4))
    assert "is prepared into" in capsys.readouterr().out and (again / "audio/manifest.json").exists()
    assert sorted(path.name for path in (again / "audio").glob("*.tar"))
    with pytest.raises(UserError, match="split 'validation' cannot be opened"):
        train(options(tmp_path / "data", tmp_path / "x", audio_split="validation"))


def test_the_second_iteration_learns_from_a_layer_of_the_first(audio, tmp_path):
    first = train(options(audio, tmp_path / "first", max_steps=3))
    second = train(options(audio, tmp_path / "second", max_steps=3, targets_from=str(first), layer=1))
    card = (second / "README.md").read_text()
    told = r"6 k-means clusters of \d{3} frames of layer 1 of first, drawn from [\d.e-]+ h \(.* % of the audio\)"
    assert re.search(told, card)
    centroids = [kmeans.read_centroids(path / kmeans.CENTROIDS) for path in (first, second)]
    assert [tuple(c.shape) for c in centroids] == [(6, 39), (6, 16)]
    assert "changed: " in card and "target_layer 1, " in card and "max_steps 3, " in card
    with pytest.raises(UserError, match="--targets_from goes with --objective hubert"):
        train(options(audio, tmp_path / "third", "wav2vec2", targets_from=str(first)))
    # The earlier model may have moved, but not changed.
    shutil.copytree(first, tmp_path / "moved")
    more = options(audio, second, max_steps=4, targets_from=str(tmp_path / "moved"), layer=1, resume=True)
    train(more)
    other = options(audio, tmp_path / "other", max_steps=3, seed=2)
    with pytest.raises(UserError, match=r"targets of .* were made of another model"):
        train(dataclasses.replace(more, targets_from=str(train(other))))


def test_a_run_that_is_refused_leaves_nothing(audio, tmp_path):
    first = train(options(audio, tmp_path / "first", max_steps=1))
    half = Path(shutil.copytree(first, tmp_path / "half")) / "model.safetensors"
    half.write_bytes(half.read_bytes()[:5000])
    refused = {
        "no checkpoint could be read there": {"targets_from": str(half.parent), "layer": 1},
        "has layers 0 to 2": {"targets_from": str(first), "layer": 3},
        "--layer 0: must be 1 or more": {"targets_from": str(first), "layer": 0},
        "give --targets_from CHECKPOINT": {"overrides": (*SMALL, "target_layer=1")},
        "accelerate finds no such package": {"log_with": ("comet_ml",)},
    }
    for message, changes in refused.items():
        with pytest.raises(UserError, match=message):
            train(options(audio, tmp_path / "out", max_steps=1, **changes))
        assert not (tmp_path / "out/run.json").exists() and not (tmp_path / "out/clips.arrow").exists()


def test_the_share_that_is_clustered_is_of_the_audio_as_it_is(tmp_path):
    """One crop of each clip is heard, whatever the clip's length."""
    long = make_audio(tmp_path / "audio")
    hours = sum(Clips([train(options(long, tmp_path / "out", max_steps=1)) / "clips.arrow"]).samples) / 16000 / 3600
    about = kmeans.read_about(tmp_path / "out" / kmeans.CENTROIDS)
    assert float(about["share"].split()[0]) == pytest.approx(100 * float(about["hours"]) / hours, rel=0.01)
    assert float(about["share"].split()[0]) < 90


def test_which_frames_are_clustered_does_not_depend_on_the_number_of_processes(audio, tmp_path):
    alone = train(options(audio, tmp_path / "one", max_steps=1))
    two = options(audio, tmp_path / "two", max_steps=1)
    debug_launcher(in_two_processes, (two,), num_processes=2)
    centroids = [kmeans.read_centroids(out / kmeans.CENTROIDS) for out in (alone, two.output_dir)]
    torch.testing.assert_close(*centroids, rtol=1e-3, atol=1e-3)


def test_labels_made_once_are_those_made_on_the_fly_away_from_the_edges(prepared, audio, tmp_path):
    cached = train(options(prepared, tmp_path / "cached", max_steps=3, save_every=2, cache_targets=True))
    fly = train(options(prepared, tmp_path / "fly", max_steps=3))
    # A crop's slopes of MFCC at its edges do not see what lies beyond it, so a few labels differ.
    assert curve(cached)[0][1] == pytest.approx(curve(fly)[0][1], rel=0.05)
    labels = CachedLabels(cached / "targets", Clips([prepared]))
    assert labels.clips.samples[0] // 320 - 1 <= len(labels(0)) <= labels.clips.samples[0] // 320
    assert labels(0).dtype == np.uint16 and set(labels(0).tolist()) <= set(range(6))
    files = sorted((cached / "targets").glob("*.npy"))
    before = [path.read_bytes() for path in files]
    damaged = bytearray(before[0])
    damaged[-2] ^= 1  # another label
    for spoil in (
        files[0].unlink,
        lambda: files[0].write_bytes(damaged),
    ):  # stopped before it was written; changed since
        spoil()
        shutil.rmtree(cached / "checkpoints/step-0000003", ignore_errors=True)
        train(options(prepared, cached, max_steps=3, cache_targets=True, resume=True))
        assert [path.read_bytes() for path in files] == before
    with pytest.raises(UserError, match="--cache_targets wants prepared audio"):
        train(options(audio, tmp_path / "files", max_steps=3, cache_targets=True))


def test_held_out_clips_are_measured_and_a_corpus_probed(audio, tmp_path):
    held_out = make_audio(tmp_path / "held_out", clips=5, seed=3)
    run = options(
        audio, tmp_path / "run", "wav2vec2", valid=[str(held_out)], valid_every=2, max_steps=4, export_every=2
    )
    out = train(dataclasses.replace(run, probe=["synthetic_speech"]))
    valid = [row for row in rows_of(out) if "valid_loss" in row]
    assert [row["step"] for row in valid] == [2, 4]
    assert all(0 <= row["valid_accuracy"] <= 1 and row["valid_codebook_perplexity"] >= 2 for row in valid)
    assert all(0 < row["probe_synthetic_speech"] <= 1 for row in valid)
    card = (out / "README.md").read_text()
    assert "held out: 5 clips" in card and "on held-out clips, at step 4" in card and "probe at step 4" in card
    assert AutoModel.from_pretrained(out / "exports/step-0000002").config.hidden_size == 16
    assert "Not finished: step 2 of 4" in (out / "exports/step-0000002/README.md").read_text()
    with pytest.raises(UserError, match="5 of its clips are in --audio too"):
        train(options(held_out, tmp_path / "same", "wav2vec2", valid=[str(held_out)], max_steps=4))
    plain = train(options(audio, tmp_path / "plain", "wav2vec2", max_steps=4))
    np.testing.assert_allclose(curve(plain), curve(out), rtol=1e-5)  # measuring changes nothing


@pytest.mark.parametrize("objective", ["wav2vec2", "hubert"])
def test_bf16_and_gradient_checkpointing_give_nearly_and_exactly_the_same_curve(
    objective, audio, tmp_path, monkeypatch
):
    plain = train(options(audio, tmp_path / "plain", objective, max_steps=3))
    checkpointed = train(options(audio, tmp_path / "saving", objective, max_steps=3, gradient_checkpointing=True))
    assert_nearly_the_same(checkpointed, plain)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    half = train(options(audio, tmp_path / "half", objective, max_steps=3))
    losses = [[row[1] for row in curve(out)] for out in (half, plain)]
    assert losses[0][0] == pytest.approx(
        losses[1][0], rel=0.02
    )  # later on, a codeword drawn differently moves the loss
    assert losses[0] != losses[1] and np.isfinite(losses).all()
    assert AutoModel.from_pretrained(half).dtype == torch.float32
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        train(options(audio, tmp_path / "fp16", objective, max_steps=3))


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(audio, tmp_path, monkeypatch):
    run = options(audio, tmp_path / "run", max_steps=10)
    usage, calls = shutil.disk_usage(tmp_path), []

    def shrinking(path):
        calls.append(path)
        return usage if len(calls) == 1 else usage._replace(free=1000)

    no_room = r"no room .* step 10 .* last whole checkpoint is of step 5"
    with monkeypatch.context() as patch, pytest.raises(UserError, match=no_room):
        patch.setattr(checkpoints.shutil, "disk_usage", shrinking)
        train(run)
    save = checkpoints.save_file

    def full(tensors, path):
        save(tensors, path)
        if "optimizer" in str(path):
            raise OSError(28, "No space left on device")

    full_disk = "No space left on device; the last whole checkpoint is of step 5"
    with monkeypatch.context() as patch, pytest.raises(UserError, match=full_disk):
        patch.setattr(checkpoints, "save_file", full)
        train(dataclasses.replace(run, resume=True))
    assert list(checkpoints.checkpoint_steps(run.output_dir)) == [5]
    assert not list((run.output_dir / "checkpoints").glob(".*"))
    train(dataclasses.replace(run, resume=True))
    assert (run.output_dir / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--audio", "{empty}"], "no audio file found"),
        (
            ["--audio", "{audio}", "--set", "min_seconds=9", "crop_seconds=9"],
            "none of 13 clips can be used: 12 too short",
        ),
        (
            ["--audio", "{prepared}", "--set", "min_seconds=9", "crop_seconds=9"],
            "none of 12 clips can be used: 12 too short",
        ),
        (["--audio", "{audio}", "--set", "micro_batches=3", "hidden_size=17"], "does not divide"),
        (["--audio", "{audio}", "--max_steps", "0"], "--max_steps is 0: give 1 or more"),
        (["--audio", "{audio}", "--targets_from", "{empty}"], "no checkpoint could be read"),
        (["--audio", "{audio}", "--audio_config", "full"], "go with a dataset"),
        (["--audio", "{audio}", "--dry_run", "abacus"], "known are v100"),
        (["--audio", "{prepared}", "{audio}"], "is prepared audio, and the others are not"),
        (["--audio", "{prepared}", "{audio}", "--dry_run"], "is prepared audio, and the others are not"),
        (["--audio", "{audio}", "--valid", "{prepared}", "{empty}"], "is prepared audio, and the others are not"),
        (["--audio", "{audio}", "--valid", "{prepared}"], "12 of its clips are in --audio too"),
        (["--audio", "{audio}", "--seed", "4294967296"], "must be below"),
        (["--audio", "{audio}", "--set", "layers=0", "--set", "clusters=6"], "layers=0: must be above 0"),
    ],
)
def test_a_users_mistake_is_one_line(flags, message, audio, prepared, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    flags = [flag.format(empty=tmp_path / "empty", audio=audio, prepared=prepared) for flag in flags]
    common = ["--objective", "hubert", "--size", "tiny", "--workers", "0", "--output_dir", str(tmp_path / "out")]
    try:
        status = main(["pretrain", *common, *flags])
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error and "error: " in error
    assert not (tmp_path / "out/model.safetensors").exists()


def test_processes_that_cannot_share_the_micro_batches_are_told(audio, tmp_path, monkeypatch):
    monkeypatch.setattr(PartialState, "num_processes", 4, raising=False)
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 4)
    with pytest.raises(UserError, match="2 micro-batches, which 4 processes cannot share evenly"):
        train(options(audio, tmp_path / "out"))


def test_a_dry_run_says_what_a_run_would_take_and_writes_nothing(prepared, tmp_path, capsys):
    flags = [
        "--objective",
        "wav2vec2",
        "--size",
        "tiny",
        "--audio",
        str(prepared),
        "--output_dir",
        str(tmp_path / "out"),
    ]
    assert main(["pretrain", *flags, "--dry_run", "h100"]) == 0
    told = capsys.readouterr().out
    assert not re.search(r"(?<![\d.])0(\.0+)? (h|GB|MB|GPU-\w+)\b", told) and " s; 12 clips" in told
    for part in ("12 clips", "500 of 2 micro-batches", "GPU-", "memory on each GPU", "operations:", "epochs"):
        assert part in told
    assert not (tmp_path / "out").exists()


def test_pretraining_runs_as_a_module_under_torchrun(audio, tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "arch_hf",
        "pretrain",
    ]
    command += [
        "--objective",
        "wav2vec2",
        "--size",
        "tiny",
        "--audio",
        str(audio),
        "--output_dir",
        str(tmp_path / "out"),
    ]
    command += ["--max_steps", "2", "--workers", "1", "--set", *SMALL]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/model.safetensors").is_file()


def test_a_card_tells_the_step_of_its_weights_and_names_of_any_kind(tmp_path):
    strange = make_audio(tmp_path / os.fsdecode(b"\xe9"), 4)
    out = tmp_path / "out"
    train(options(strange, out, "wav2vec2", max_steps=3, log_every=3, export_every=2))
    assert "Not finished: step 2 of 3" in (out / "exports/step-0000002/README.md").read_text()
    with pytest.raises(UserError, match="has 3 steps behind it"):
        train(options(strange, out, "wav2vec2", max_steps=2, resume=True))


def test_a_run_whose_audio_is_gone_stops_and_measures_nothing(audio, tmp_path, monkeypatch):
    def gone(clips, clip):
        raise AudioError("no such file")

    run = options(audio, tmp_path / "out", "wav2vec2", max_steps=20, valid=[str(make_audio(tmp_path / "valid", 3, 7))])
    with monkeypatch.context() as patch, pytest.raises(UserError, match="no clip of 10 steps in a row could be used"):
        patch.setattr(batching, "read_clip", gone)
        train(dataclasses.replace(run, valid=None))
    assert {row["loss"] for row in rows_of(tmp_path / "out") if "loss" in row} == {None}
    accelerator = mock.Mock(process_index=0, num_processes=1)
    monkeypatch.setattr(batching, "read_clip", gone)
    recipe = loop.open_run(dataclasses.replace(run, output_dir=tmp_path / "other"), {}).recipe
    training = mock.Mock(accelerator=accelerator, recipe=recipe)
    clips = Clips([tmp_path / "other/valid.arrow"])
    monkeypatch.setattr(validation, "gather_object", list)
    assert validation.validate(training, clips, 0) == {"valid_skipped": 3.0}


def test_a_run_of_mfcc_targets_takes_no_others(audio, tmp_path):
    run = options(audio, tmp_path, max_steps=2, save_every=2)
    train(run)
    with pytest.raises(UserError, match="begun with MFCC targets"):
        train(dataclasses.replace(run, resume=True, targets_from=str(audio)))


def test_the_card_adds_up_what_was_heard_and_held_out_losses_are_of_all_processes(prepared, tmp_path, monkeypatch):
    run = mock.Mock(indices=[prepared], out=tmp_path, valid=None)
    rows = [{"audio_seconds": 3600}, {"audio_seconds": 7200}]
    assert "- 3.00 hours heard in training, repeats included" in card._data(run, rows)

    monkeypatch.setattr(validation, "gather_object", lambda parts: [*parts, (10, 0, {"loss": 70.0})])
    values = dict.fromkeys(("loss", "accuracy", "codebook_perplexity"), 0.0)
    training = mock.MagicMock(recipe=get_recipe("wav2vec2", "tiny", SMALL), objective=lambda *_: values)
    training.accelerator.configure_mock(process_index=0, num_processes=1)
    training.inputs.return_value = ()
    clips = Clips([prepared])
    masked = 0
    load = validation.load_batches

    def counted(*args):
        nonlocal masked
        for batch in load(*args):
            masked += batch.n_masked
            yield batch

    monkeypatch.setattr(validation, "load_batches", counted)
    assert validation.validate(training, clips, 0)["valid_loss"] == pytest.approx(70 / (masked + 10))
