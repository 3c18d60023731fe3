"""A run goes on: after a kill, a signal, a divergence, a clip that breaks it, a damaged checkpoint, an overflow of fp16."""

import dataclasses
import json
import os
import re
import shutil
import signal
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from pretraining_runs import NOISY, SMALL, curve, fresh, history, make_audio, options, rows_of, train
from transformers import AutoModel

from arch_hf.errors import UserError
from arch_hf.pretraining import checkpoints, loop
from arch_hf.pretraining.recorder import Recorder
from arch_hf.pretraining.records import read_rows
from arch_hf.pretraining.step import judge, take_step


@pytest.fixture(autouse=True)
def new_process():
    fresh()
    yield
    fresh()


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return make_audio(tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module", params=["wav2vec2", "hubert"])
def undisturbed(request, audio, tmp_path_factory):
    """A run of each objective with all that is drawn at random, and lines of three steps."""
    out = tmp_path_factory.mktemp("runs") / request.param
    run = options(audio, out, request.param, overrides=NOISY, max_steps=20, log_every=3)
    train(run)
    return run


def at_step(monkeypatch, steps, act):
    """Have `act` done as these steps begin, counted over all runs of the process."""
    take, steps = loop.take_step, list(steps)

    def acting(training, step, batches, asked):
        if steps and step == steps[0]:
            steps.pop(0)
            act()
        return take(training, step, batches, asked)

    monkeypatch.setattr(loop, "take_step", acting)


def interrupt():
    raise KeyboardInterrupt


def weights_of(out):
    return AutoModel.from_pretrained(out).state_dict()


def same_weights(one, other):
    ours, theirs = weights_of(one), weights_of(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("killed_at", [5, 17])
def test_killed_and_resumed_gives_the_undisturbed_curve_and_weights(undisturbed, tmp_path, killed_at, monkeypatch):
    if undisturbed.objective == "wav2vec2" and killed_at == 5:
        pytest.skip("one of the two objectives is enough at a checkpoint's own step")
    run = dataclasses.replace(undisturbed, output_dir=tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        at_step(patch, [killed_at], interrupt)
        train(run)
    assert max(checkpoints.checkpoint_steps(run.output_dir)) == killed_at // 5 * 5
    assert (run.output_dir / "curves.png").exists() and "ended: KeyboardInterrupt" in (
        run.output_dir / "train.log"
    ).read_text()
    (run.output_dir / "checkpoints/.step-0000099.partial").mkdir()  # what a kill during a checkpoint leaves
    with (run.output_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 18, "lo')  # and during a line
    torch.manual_seed(99)
    train(dataclasses.replace(run, resume=True))
    assert curve(run.output_dir) == curve(undisturbed.output_dir)
    assert same_weights(run.output_dir, undisturbed.output_dir)
    assert not list((run.output_dir / "checkpoints").glob(".*"))


def test_sigterm_at_any_step_writes_a_checkpoint_and_the_curve_continues(undisturbed, tmp_path, monkeypatch, capsys):
    run = dataclasses.replace(undisturbed, output_dir=tmp_path / "run", save_every=1000, resume=True)
    at = sorted(np.random.default_rng(0).choice(np.arange(1, 19), size=4, replace=False).tolist())
    at_step(monkeypatch, at, lambda: os.kill(os.getpid(), signal.SIGTERM))
    for step in at:
        with pytest.raises(SystemExit) as ended:
            train(run)
        # A signal that comes while a step is under way is heard as the next one begins.
        assert ended.value.code == 143 and max(checkpoints.checkpoint_steps(run.output_dir)) in (step + 1, step + 2)
    train(run)
    assert curve(run.output_dir) == curve(undisturbed.output_dir) and same_weights(
        run.output_dir, undisturbed.output_dir
    )
    card = (run.output_dir / "README.md").read_text()
    assert card.count("stopped by SIGTERM") == 4 and card.count("resumed") == 4
    assert "--resume goes on" in capsys.readouterr().err


def test_sigusr1_writes_a_checkpoint_and_the_run_goes_on(audio, tmp_path, monkeypatch):
    run = options(audio, tmp_path / "run", "wav2vec2", max_steps=8, save_every=1000)
    at_step(monkeypatch, [2], lambda: os.kill(os.getpid(), signal.SIGUSR1))
    train(run)
    steps = list(checkpoints.checkpoint_steps(run.output_dir))
    assert steps[-1] == 8 and steps[0] in (3, 4) and len(steps) == 2


def test_what_steers_a_run_may_change_and_stands_in_its_history_and_what_defines_it_may_not(audio, tmp_path):
    run = options(audio, tmp_path / "run", max_steps=4, save_every=1)
    train(run)
    assert list(checkpoints.checkpoint_steps(run.output_dir)) == [3, 4]
    before = (run.output_dir / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="holds a run of 4 steps: add --resume"):
        train(run)
    for change, message in (
        ({"seed": 2}, r"another configuration: seed was 1, is 2\."),
        ({"overrides": ("mask_length=7",)}, r"mask_length was 5, is 7"),
        ({"objective": "wav2vec2"}, r"was begun with --objective hubert"),
        ({"audio": [str(make_audio(tmp_path / "other", clips=3))]}, r"begun with other clips than --audio now has"),
    ):
        with pytest.raises(UserError, match=message):
            train(dataclasses.replace(run, resume=True, **change))
    record = (run.output_dir / "run.json").read_text()
    (run.output_dir / "run.json").write_text('{"objective": "hubert"}')  # as 0.1 wrote it
    with pytest.raises(UserError, match=r"holds checkpoints without a run\.json that this version reads"):
        train(dataclasses.replace(run, resume=True))
    (run.output_dir / "run.json").write_text(record)
    (run.output_dir / "model.safetensors").unlink()  # killed after the last checkpoint, before the export
    train(dataclasses.replace(run, resume=True))
    assert (run.output_dir / "model.safetensors").read_bytes() == before
    # The same clips elsewhere, a lower rate, more steps; what was told at the beginning need not be repeated.
    shutil.copytree(audio, tmp_path / "moved")
    more = options(tmp_path / "moved", run.output_dir, max_steps=6, overrides=("learning_rate=1e-3",), resume=True)
    train(dataclasses.replace(more, seed=None, save_every=None, log_every=None))
    changed = history(run.output_dir)[-1]["changed"]
    assert changed["learning_rate"] == [0.003, 0.001] and changed["max_steps"] == [4, 6] and "save_every" not in changed
    card = (run.output_dir / "README.md").read_text()
    (told,) = [
        line for line in card.splitlines() if line.startswith("- step 4: resumed, changed:") and "learning_rate" in line
    ]
    assert "learning_rate 0.003 → 0.001" in told and "max_steps 4 → 6" in told and str(tmp_path) not in card
    assert [row["step"] for row in rows_of(run.output_dir)] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_diverges_goes_on_with_a_lower_rate(audio, tmp_path):
    run = options(audio, tmp_path / "run", max_steps=60, overrides=(*SMALL, "warmup_fraction=0"))
    wild = dataclasses.replace(run, overrides=(*run.overrides, "learning_rate=1e30"))
    with pytest.raises(
        UserError, match=r"step \d+: .* 10 steps in a row.* diverged; .*--resume --set learning_rate="
    ) as error:
        train(wild)
    assert "there is no checkpoint yet" in str(error.value) or "last whole checkpoint" in str(error.value)
    assert len(read_rows(wild.output_dir / "skipped_steps.jsonl")) >= 10
    shutil.rmtree(wild.output_dir)
    # With a checkpoint from before: the rate is raised to where it diverges, and lowered again.
    train(dataclasses.replace(run, max_steps=5))
    with pytest.raises(UserError, match=r"the last whole checkpoint is of step 5\."):
        train(dataclasses.replace(run, max_steps=60, overrides=("learning_rate=1e30",), resume=True))
    train(dataclasses.replace(run, max_steps=12, overrides=("learning_rate=1e-3",), resume=True))
    assert [row["step"] for row in rows_of(run.output_dir)] == list(range(1, 13))
    assert np.isfinite([row["loss"] for row in rows_of(run.output_dir)]).all()
    card = (run.output_dir / "README.md").read_text()
    assert "learning_rate 0.003 → 1e+30" in card and "learning_rate 1e+30 → 0.001" in card
    # The steps that led nowhere are no steps of this run any more; that there was such an end, the history tells.
    assert re.search(r"- step \d+: ended \(.* has diverged\)", card) and "not finite, skipped" not in card
    assert not read_rows(run.output_dir / "skipped_steps.jsonl")


def test_a_loss_that_explodes_stops_the_run_and_leaves_no_checkpoint_of_it(audio, tmp_path, monkeypatch):
    monkeypatch.setattr("arch_hf.pretraining.records.EXPLODED", 0.5)  # now a loss that only halves slowly has exploded
    monkeypatch.setattr("arch_hf.pretraining.recorder.EXPLODED", 0.5)
    run = options(audio, tmp_path / "run", max_steps=60, save_every=3)
    with pytest.raises(UserError, match=r"rose from .* diverged; there is no checkpoint yet"):
        train(run)
    assert "no checkpoint of step 3" in (run.output_dir / "train.log").read_text()
    assert (run.output_dir / "curves.png").exists()


def test_a_clip_that_breaks_a_step_is_named_and_the_step_skipped(audio, tmp_path):
    folder = tmp_path / "audio"
    shutil.copytree(audio, folder)
    loud = np.zeros(16000, np.float32)
    loud[::2] = 3e38  # finite as it is, not finite once it is squared
    soundfile.write(folder / "loud.wav", loud, 16000, subtype="FLOAT")
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    run = options(folder, tmp_path / "run", "wav2vec2", max_steps=30, overrides=SMALL)
    out = train(run)
    skipped = [json.loads(line) for line in (out / "skipped_steps.jsonl").read_text().splitlines()]
    assert skipped and all("loud.wav" in row["clips"] for row in skipped)
    (left_out,) = read_rows(out / "skipped.jsonl")
    assert left_out["clip"].endswith("nan.wav") and "not finite" in left_out["reason"]
    rows = rows_of(out)
    bad = {row["step"] for row in skipped}
    assert {row["step"] for row in rows if row["loss"] is None} == bad and sum(
        row["not_finite"] for row in rows
    ) == len(bad)
    assert all(np.isfinite(value).all() for value in weights_of(out).values())
    assert f"- step {skipped[0]['step']}: not finite, skipped" in (out / "README.md").read_text()


def test_a_damaged_checkpoint_falls_back_to_the_one_before(undisturbed, tmp_path, capsys):
    for damage in ("weights", "state", "missing"):
        out = tmp_path / damage
        shutil.copytree(undisturbed.output_dir, out)
        newest = out / "checkpoints/step-0000020"
        if damage == "weights":
            data = bytearray((newest / "model.safetensors").read_bytes())
            data[-5] ^= 1
            (newest / "model.safetensors").write_bytes(data)
        elif damage == "state":
            (newest / "state.json").write_text("{")
        else:
            (newest / "optimizer.safetensors").unlink()
        train(dataclasses.replace(undisturbed, output_dir=out, resume=True))
        assert "the checkpoint of step 20 is damaged" in capsys.readouterr().out
        assert curve(out) == curve(undisturbed.output_dir) and same_weights(out, undisturbed.output_dir)
        assert (
            "damaged checkpoint" in (out / "README.md").read_text()
            and (out / "checkpoints/damaged-step-0000020").is_dir()
        )
    for folder in (out / "checkpoints").glob("step-*"):
        (folder / "sha256.json").unlink()
    for resume in (True, True, False):  # nor does a second start begin anew where the first one put all aside
        with pytest.raises(UserError, match="no checkpoint is whole"):
            train(dataclasses.replace(undisturbed, output_dir=out, resume=resume))


@pytest.mark.parametrize("undisturbed", ["hubert"], indirect=True)
def test_centroids_that_are_not_what_was_written_are_refused(undisturbed, tmp_path):
    for where in (-3, 20):  # a centroid, and the header
        out = tmp_path / str(where)
        shutil.copytree(undisturbed.output_dir, out)
        data = bytearray((out / "kmeans.safetensors").read_bytes())
        data[where] ^= 1
        (out / "kmeans.safetensors").write_bytes(data)
        with pytest.raises(UserError, match="is damaged: put it back"):
            train(dataclasses.replace(undisturbed, output_dir=out, resume=True, max_steps=30))


def test_a_micro_batch_without_a_usable_clip_counts_nothing(audio, tmp_path, monkeypatch):
    run = options(audio, tmp_path / "alone", max_steps=3)
    alone = train(run)

    def with_an_empty_one(training, step, batches, asked):
        return take_step(training, step, [dataclasses.replace(batches[0], empty=True), *batches], asked)

    monkeypatch.setattr(loop, "take_step", with_an_empty_one)
    beside = train(dataclasses.replace(run, output_dir=tmp_path / "beside"))
    assert curve(beside) == curve(alone) and same_weights(beside, alone)


def test_an_overflow_of_fp16_lowers_the_loss_scale_and_is_no_divergence(audio, tmp_path, monkeypatch):
    """torch's own gradient scaler and half precision, on a CPU: the scale begins so high that gradients overflow for a while."""
    make = loop.make_accelerator

    def with_scaler(options):
        accelerator = make(options)
        accelerator.native_amp = True
        accelerator.state._mixed_precision = "fp16"
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=5)
        return accelerator

    monkeypatch.setattr(loop, "make_accelerator", with_scaler)
    run = options(audio, tmp_path / "run", "hubert", max_steps=40, save_every=20)
    out = train(run)
    rows = rows_of(out)
    overflows = [row["step"] for row in rows if row["loss"] is None]
    assert overflows[:12] == list(range(1, 13))  # more in a row than would end a run
    assert all(row["not_finite"] == 0 for row in rows) and not (out / "skipped_steps.jsonl").exists()
    scales = [row["loss_scale"] for row in rows]
    assert scales[0] == 2.0**40 and scales[-1] < scales[0]
    losses = [row["loss"] for row in rows if row["loss"] is not None]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    # The scale is part of the checkpoint: a resumed run has the same curve.
    shutil.rmtree(out / "checkpoints/step-0000040")
    train(dataclasses.replace(run, resume=True))
    assert rows_of(out)[-1]["loss"] == rows[-1]["loss"] and rows_of(out)[-1]["loss_scale"] == rows[-1]["loss_scale"]


def test_an_overflow_at_the_smallest_scale_is_the_models():
    class Scaler:
        def __init__(self, scale):
            self.get_scale = lambda: scale

    row = {"loss": 1.0, "gradient_norm": float("inf")}
    assert judge(row, None) == {"kept": False, "not_finite": True}
    assert judge(row, Scaler(8.0)) == {"kept": False, "not_finite": False, "overflow": True, "loss_scale": 8.0}
    assert judge(row, Scaler(0.5))["not_finite"] and judge({**row, "loss": float("nan")}, Scaler(8.0))["not_finite"]
    assert judge({"loss": 1.0, "gradient_norm": 2.0}, Scaler(8.0))["kept"]


def test_a_checkpoint_keeps_how_many_steps_in_a_row_did_not_count():
    recorder = mock.Mock(**{"metrics.pending": [], "not_finite.in_a_row": 4})
    assert Recorder.state(recorder)["in_a_row"] == 4
