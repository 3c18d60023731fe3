"""What others have published, pinned by digests: the splits unit by unit, as the readers make them of files with the official names, and the scores
of Table 2."""

import csv
import hashlib
import json
from importlib.resources import files

import msgspec
import pytest

from arch_hf.data import get_corpus
from arch_hf.data.official.prepare import read_clips
from arch_hf.data.official.raw import RawFolder
from arch_hf.probing.protocols import PUBLISHED_SPLITS
from arch_hf.probing.record import Score
from arch_hf.results.result import DatasetFacts, ModelFacts, Result, check
from arch_hf.results.table import remarks, results_table
from arch_hf.results.table2 import TABLE2_MODELS, beside_published, published_score

TAG_COLUMNS = "\t".join(get_corpus("magnatagatune").classes)


def audio_mnist(root):
    """60 speakers in the five folds of the corpus's own evaluation (Becker et al., the repository's preprocess_data.py)."""
    for speaker in range(1, 61):
        write(root / f"AudioMNIST/data/{speaker:02d}/0_{speaker:02d}_0.wav")


def magnatagatune(root):
    """16 folders: 0 to b train, c validation, d to f test (the split of most papers since Dieleman and Schrauwen, ICASSP 2014)."""
    ones = "\t".join("1" * len(get_corpus("magnatagatune").classes))
    lines = [f"clip_id\t{TAG_COLUMNS}\tmp3_path"]
    for number, folder in enumerate("0123456789abcdef"):
        write(root / f"{folder}/song-{number}-0-29.mp3")
        lines.append(f"{number}\t{ones}\t{folder}/song-{number}-0-29.mp3")
    write(root / "annotations_final.csv", "\n".join(lines))


def ravdess(root):
    """24 actors in six folds of four in order, two men and two women each."""
    for actor in range(1, 25):
        write(root / f"Actor_{actor:02d}/03-01-01-01-01-01-{actor:02d}.wav")


def emovo(root):
    """Six actors, each a fold."""
    for actor in ("f1", "f2", "f3", "m1", "m2", "m3"):
        write(root / f"EMOVO/{actor}/dis-{actor}-b1.wav")


def vivae(root):
    """Eleven speakers, each a fold."""
    for speaker in range(1, 12):
        write(root / f"VIVAE/full_set/S{speaker:02d}_anger_low_01.wav")


# How many units of which kind, and the SHA-256 of {unit: split}, typed from the sources above and not from the code.
PINNED = {
    audio_mnist: (60, "speaker", "b65022c5c62cd46d06dc97423b3fa218ddf1e751bf422ab9281ca8d3bed993e3"),
    magnatagatune: (16, "folder", "52bf0777dd9b45d9ee748531783b5d4fda231ad0634a3365b6250b64852f807e"),
    ravdess: (24, "actor", "d8e5803dcd9c89e64402e4e7e5565f8c17f60ebffb2a041350842da32972e5c2"),
    emovo: (6, "actor", "b9a98584bb779d97a311e16dc27963cce38dd1bd647e58a77ee6c658ee6f95e4"),
    vivae: (11, "speaker", "b4ef55af0882124a5e130294bf9b0dd7e9227c8f523e55ac5b8afeed03b6d549"),
}


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("build", PINNED, ids=lambda build: build.__name__)
def test_every_unit_is_in_its_published_split(build, tmp_path):
    build(tmp_path)
    n_units, unit, digest = PINNED[build]
    clips = list(read_clips(get_corpus(build.__name__), RawFolder(tmp_path)))
    mapping = {clip.path.parent.name if unit == "folder" else clip.group: clip.split for clip in clips}
    assert len(mapping) == n_units
    assert hashlib.sha256(json.dumps(mapping, sort_keys=True).encode()).hexdigest() == digest, mapping


def test_the_digests_are_of_the_published_mappings():
    """Written once more, in another form than the readers hold them."""
    folds = {
        "audio_mnist": "12 47 59 15 27 41 4 11 21 31 44 50|26 52 60 18 32 42 5 13 22 33 45 51|28 56 7 19 35 1 6 16 23 34 46 53|"
        "36 57 9 24 37 2 8 17 29 39 48 54|43 58 14 25 38 3 10 20 30 40 49 55",
        "ravdess": "1 2 3 4|5 6 7 8|9 10 11 12|13 14 15 16|17 18 19 20|21 22 23 24",
    }
    expected = {
        name: {f"{int(unit):02d}": f"fold_{i}" for i, units in enumerate(text.split("|"), 1) for unit in units.split()}
        for name, text in folds.items()
    }
    expected["magnatagatune"] = {
        folder: "train" if folder < "c" else "validation" if folder == "c" else "test" for folder in "0123456789abcdef"
    }
    expected["emovo"] = {actor: f"fold_{i}" for i, actor in enumerate(["f1", "f2", "f3", "m1", "m2", "m3"], 1)}
    expected["vivae"] = {f"S{i:02d}": f"fold_{i}" for i in range(1, 12)}
    for build, (_, _, digest) in PINNED.items():
        mapping = json.dumps(expected[build.__name__], sort_keys=True)
        assert hashlib.sha256(mapping.encode()).hexdigest() == digest, build.__name__


def test_table_2_is_as_it_was_checked():
    """If this fails, a published score has changed: it is right here if it is what the paper's Table 2 says."""
    content = (files("arch_hf.results") / "table2.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == "fb72c2bd6cdda1d968fa1ac8cb594c616402fbcfc8acb78c4045a3226bde8e1c"
    rows = list(csv.DictReader(content.decode().splitlines()))
    assert len(rows) == len(TABLE2_MODELS) == 16
    assert published_score("facebook/hubert-base-ls960", "esc50") == 0.589


def test_ours_minus_theirs():
    esc50 = DatasetFacts(id="arch/esc50", task="single_label", n_clips=2000, n_clips_expected=2000)
    facts = {"complete": True, "model": ModelFacts(id="facebook/hubert-base-ls960"), "dataset": esc50, "layer": -1}
    result = Result(**facts, protocol={"name": "arch-v1", "version": "1"}, metrics={"accuracy": Score(mean=0.6)})
    published = beside_published(result)
    assert published.value == 0.589 and published.delta == pytest.approx(0.011)
    whole = msgspec.structs.replace(result, published=published)
    assert check(whole) is whole
    wrong = msgspec.structs.replace(published, delta=-published.delta)
    with pytest.raises(ValueError, match="which it has not"):
        check(msgspec.structs.replace(result, published=wrong))
    for change in (
        {"layer": 3},
        {"protocol": {"name": "strict", "version": "1"}},
        {"complete": False},
        {"dataset": msgspec.structs.replace(esc50, options={"label": "x"})},
        {"dataset": msgspec.structs.replace(esc50, id="./arch/esc50")},
        {"model": ModelFacts(id="somebody/else")},
    ):
        assert beside_published(msgspec.structs.replace(result, **change)) is None, change


def _ravdess(mean, **changes):
    facts = DatasetFacts(id="arch/ravdess", task="single_label", n_clips=1440, n_clips_expected=1440)
    protocol = {"name": "arch-v1", "version": "2.0"}
    result = Result(
        complete=True, model=ModelFacts(id="facebook/hubert-base-ls960"), dataset=facts, layer=-1, protocol=protocol,
        metrics={"accuracy": Score(mean=mean)}, **changes,
    )  # fmt: skip
    return msgspec.structs.replace(result, published=beside_published(result))


def test_no_verdict_within_what_the_papers_unknown_draw_makes():
    theirs = published_score("facebook/hubert-base-ls960", "ravdess")
    near, far = _ravdess(theirs + 0.03), _ravdess(theirs - 0.05)
    assert near.published.uncertainty == far.published.uncertainty == 0.039
    assert not near.published.is_decided and far.published.is_decided
    assert "+3.00 ± 3.9" in results_table([near]) and "-5.00 ± 3.9" in results_table([far])
    assert any("no verdict on the difference to Table 2" in line and "3.9 points" in line for line in remarks(near))
    assert not remarks(far)


@pytest.mark.parametrize(("units", "said"), [(1, True), (2, True), (5, True), (6, False)])
def test_an_interval_of_few_units_is_said_to_be_one(units, said):
    """As `compare` gives no verdict then, the interval of one score must not pass for a finding."""
    result = _ravdess(0.5, bootstrap={"unit": "group", "n_units": units})
    result = msgspec.structs.replace(result, published=None, metrics={"accuracy": Score(mean=0.5, ci95=(0.4, 0.6))})
    assert any(f"drawn from {units} group{'s' * (units != 1)} alone" in line for line in remarks(result)) == said
    assert not remarks(msgspec.structs.replace(result, metrics={"accuracy": Score(mean=0.5)}))


def test_an_interval_without_width_is_said_to_hold_for_these_clips_alone():
    perfect = msgspec.structs.replace(
        _ravdess(1.0, bootstrap={"unit": "group", "n_units": 24}),
        metrics={"accuracy": Score(mean=1.0, ci95=(1.0, 1.0))},
    )
    (said,) = (line for line in remarks(perfect) if "no width" in line)
    assert "up to 11.7% of all units could be unlike these 24" in said  # 1 - 0.05 ** (1 / 24)
    some = msgspec.structs.replace(perfect, metrics={"accuracy": Score(mean=0.99, ci95=(0.98, 1.0))})
    assert not any("no width" in line for line in remarks(some))


def test_a_remark_on_the_solutions_names_the_layer():
    note = "validation chose the smallest strength of the grid, 1e-06, in 2 of 5 runs"
    last = _ravdess(0.5, probe_notes=(note,))
    third = msgspec.structs.replace(last, layer=3)
    name = last.dataset.id
    assert [line for line in (*remarks(last), *remarks(third)) if note in line] == [
        f"{name}: {note}",
        f"{name} (layer 3): {note}",
    ]


def test_a_complete_copy_with_another_split_is_not_compared():
    """As FMA's was, whose test and validation clips version 1.0 had exchanged."""
    same = _ravdess(0.5, split_digest=PUBLISHED_SPLITS["ravdess"])
    assert same.caveat is None and same.published
    other = _ravdess(0.5, split_digest="0" * 16)
    assert "not the published one: prepare the corpus again" in other.caveat and other.published is None
    strict = msgspec.structs.replace(other, protocol={"name": "strict", "version": "2.0"})
    assert strict.caveat is None
