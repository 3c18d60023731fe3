"""An entry on a model's page names all that was asked beyond the plain case, so that no number stands there as the answer to another question."""

import csv
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from huggingface_hub.repocard_data import eval_results_to_model_index

from arch_hf.audio import encode_wav
from arch_hf.evaluate import evaluate_model
from arch_hf.job import JobOptions
from arch_hf.publishing.card import claim
from arch_hf.publishing.entries import entry_of


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    """options -> the entry of the main job's own result, as if its data lay on the Hub."""
    folder = tmp_path_factory.mktemp("asked")
    noise = np.random.default_rng(0)
    (folder / "clips").mkdir()
    with open(folder / "clips/metadata.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file_name", "pitch", "kind", "split"])
        for i in range(24):
            wave = np.sin(2 * np.pi * (200, 2000)[i % 2] * np.arange(2000) / 16000) + 0.1 * noise.standard_normal(2000)
            (folder / f"clips/{i}.wav").write_bytes(encode_wav(0.5 * wave.astype(np.float32), 16000))
            rows.writerow(
                [f"{i}.wav", ("low", "high")[i % 2], ("thin", "thick")[i // 2 % 2], ("train", "test")[i % 3 == 0]]
            )

    def entry(**options):
        options = {"dataset_options": {"label_column": "pitch"}, **options}
        (result,) = evaluate_model(
            "logmel", [folder / "clips"], output_dir=folder / "results", cache_dir=folder / "cache", **options
        )
        dataset = msgspec.structs.replace(result.dataset, id="me/clips", revision="c" * 40)
        return entry_of(msgspec.structs.replace(result, dataset=dataset))

    return entry


# What is asked beyond the plain case -> what the entry's arguments say of it.
BEYOND = [
    ({"seeds": 2}, {"seeds": 2}),
    ({"shots": [1]}, {"shots": [1]}),
    ({"also": ["retrieval"]}, {"also": ["retrieval"]}),
    ({"probe": "knn"}, {"probe": "knn", "protocol": "arch-v1-knn"}),
    ({"protocol": "strict"}, {"protocol": "strict"}),
    ({"dtype": "bfloat16"}, {"dtype": "bfloat16"}),
    ({"limit": 8}, {"limit": 8, "incomplete": "limited to 8 clips per split"}),
    ({"dataset_options": {"label_column": "kind"}}, {"options": {"label": "kind"}}),
]  # fmt: skip
# What is in an entry whatever its value, or moves no number of the last layer that is published.
ELSEWHERE = {"revision", "layers"}
NO_NUMBER = {"output_dir", "cache_dir", "batch_seconds", "data_dir", "streaming", "overwrite", "trust_remote_code"}


def test_every_option_of_a_job_is_in_the_table():
    named = {option for asked, _ in BEYOND for option in asked} - {"protocol"}
    assert named | ELSEWHERE | NO_NUMBER == set(JobOptions.__annotations__)


@pytest.mark.parametrize("asked, said", BEYOND, ids=lambda value: ",".join(value))
def test_what_is_asked_beyond_the_plain_case_is_named(asked, said, answer):
    plain, other = answer(), answer(**asked)
    assert {key: other.args.get(key) for key in said} == said
    assert all(plain.args.get(key) != value for key, value in said.items())
    moved = {"identity", "ci95", "dataset_fingerprint", "protocol", "seeds", *said}
    assert {key for key in plain.args.keys() | other.args.keys() if plain.args.get(key) != other.args.get(key)} <= moved
    (written,) = eval_results_to_model_index("m", [other.result])[0]["results"]
    assert written["metrics"][0]["args"] == other.args
    apart = {"probe", "protocol", "dtype", "dataset_options"} & asked.keys()
    assert (other.claim != plain.claim) == bool(apart)
    assert claim(written["dataset"], written["metrics"][0]) == other.claim
    unnamed = {key: value for key, value in other.args.items() if key != "options"}
    assert not other.is_plain and replace(other, args=unnamed).is_plain == (not {"probe", "dtype"} & asked.keys())


def test_another_probe_is_not_called_linear_on_a_board(answer):
    assert "knn probe on frozen" in answer(probe="knn").as_eval_result()["notes"]
    assert "linear probe on frozen" in answer().as_eval_result()["notes"]
