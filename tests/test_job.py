"""What Python code may ask of the main job: each option in every form that its kind has, and one line for what is of another kind."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from arch_hf.errors import UserError
from arch_hf.evaluate import evaluate_model
from arch_hf.job import Job, JobOptions, as_fields, jobs_for

# What one asks of one job, but not through its options.
ASKED_APART = {"model_id", "datasets", "model_name", "protocol"}


class Levels:
    sampling_rate, identity = 8000, "levels"

    def __init__(self, model_id):
        self.model_id = model_id

    def embed(self, waveforms):
        return np.array([[clip.std()] for clip in waveforms])


def test_every_field_of_a_job_is_an_option():
    assert JobOptions.__annotations__.keys() == {field.name for field in fields(Job)} - ASKED_APART


@pytest.mark.parametrize(
    ("option", "value", "kept"),
    [
        ("layers", (0, np.int64(6)), "0,6"),
        ("layers", np.array([0, 6]), "0,6"),
        ("layers", "all", "all"),
        ("output_dir", Path("here"), "here"),
        ("cache_dir", Path("here"), "here"),
        ("data_dir", Path("here"), "here"),
        ("data_dir", None, None),
        ("seeds", np.int64(2), 2),
        ("limit", np.int32(2), 2),
        ("limit", None, None),
        ("shots", [np.int64(5)], (5,)),
        ("also", ["pairs"], ("pairs",)),
        ("batch_seconds", np.float32(2), 2.0),
        ("overwrite", np.True_, True),
        ("dataset_options", None, {}),
    ],
)
def test_options_are_kept_in_one_form(option, value, kept):
    (found,) = as_fields({option: value}).values()
    assert found == kept and type(found) is type(kept)


@pytest.mark.parametrize(
    "asked",
    [
        {"seeds": "3"},
        {"seeds": 1.0},
        {"seeds": True},
        {"seeds": None},
        {"limit": "6"},
        {"limit": 6.5},
        {"batch_seconds": "30"},
        {"layers": 0},
        {"layers": None},
        {"layers": b"0"},
        {"layers": [0.5]},
        {"shots": 5},
        {"shots": "5"},
        {"shots": [1.5]},
        {"also": "retrieval"},
        {"also": None},
        {"output_dir": None},
        {"data_dir": 5},
        {"streaming": "no"},
        {"trust_remote_code": "false"},
        {"dataset_options": [1]},
        {"dataset_options": {"limit": 3}},
        {"datasets": []},
        {"datasets": iter(())},
        {"datasets": 5},
        {"datasets": [None]},
        {"datasets": np.array([1, 2])},
        {"protocol": []},
        {"protocol": None},
        {"model_name": 5},
    ],
    ids=lambda asked: "-".join(f"{name}={type(value).__name__}" for name, value in asked.items()),
)
def test_what_is_of_another_kind_is_one_line_that_names_it(asked):
    (name,) = asked
    with pytest.raises(UserError, match=rf"^{name} (is|has) ") as caught:
        evaluate_model("logmel", **{"datasets": ["synthetic_events"], **asked})
    assert "\n" not in str(caught.value) and "a fault of arch-hf" not in str(caught.value)


def test_no_model_is_left_out_in_silence():
    with pytest.raises(UserError, match="two models are called mine"):
        evaluate_model([Levels("mine"), "mine"], ["synthetic_events"])
    with pytest.raises(UserError, match="mfcc is a baseline that is built in"):
        evaluate_model(Levels("mfcc"), ["synthetic_events"])
    with pytest.raises(UserError, match="there is no model"):
        evaluate_model([], ["synthetic_events"])
    with pytest.raises(UserError, match="names a model twice"):
        jobs_for(["logmel", "logmel"], ["strict"], ["a", "b"])


def test_the_baseline_is_asked_the_same_in_the_plain_way():
    asked = {"seeds": 1, "limit": 4, "protocol": "strict", "data_dir": "here", "output_dir": "there"}
    apart = {"revision": "v1", "layers": "0,1", "dtype": "bfloat16", "batch_seconds": 3.0, "also": ("pairs",)}
    job = Job(model_id="me/model", model_name="mine", trust_remote_code=True, **asked, **apart)
    assert job.baseline() == Job(model_id="mfcc", dtype="float32", **asked)


def test_layers_are_chosen_by_number_and_the_last_one_is_minus_one():
    assert Job(layers="2,0,2,-1,3").chosen_layers(4) == [2, 0, -1]
    assert Job(layers="all").chosen_layers(3) == [0, 1, -1]


def test_what_is_not_plain_is_in_the_name_of_the_file():
    job = Job(
        revision="v1", seeds=1, shots=(5, 10), also=("pairs",), dataset_options={"label_column": "what", "config": "x"}
    )
    assert job.asked("bfloat16") == ("rev-v1", "bfloat16", "seeds1", "shots5-10", "also-pairs", "label-what")
    assert Job().asked("float32") == ()
