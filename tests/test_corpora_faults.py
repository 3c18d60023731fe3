"""What a user does wrong with a corpus, and what they are told: one line, and nothing left behind."""

import json
import os
import shutil

import datasets
import pytest
import raw_trees
from datasets import Audio, load_dataset

from arch_hf.audio import audio_info, decode, load_audio
from arch_hf.cli import build_parser
from arch_hf.data import get_corpus, load_corpus
from arch_hf.data.official.prepare import prepare
from arch_hf.data.official.validate import validate
from arch_hf.errors import UserError


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def arch_hf(*argv):
    args = build_parser().parse_args([str(arg) for arg in argv])
    return args.run(args)


def edit(path, old, new):
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new if isinstance(new, bytes) else new.encode(), 1))


TABLE = "ESC-50-master/meta/esc50.csv"
FAULTS = {
    # corpus, file, what stands there, what is put there, what the message must hold
    "a missing column": ("esc50", TABLE, "category", "kind", ["esc50.csv:1:", "no column category", "filename"]),
    "bad UTF-8": ("esc50", TABLE, "rain", b"ra\xffn", ["esc50.csv:5:", "not UTF-8", "column"]),
    "a label outside the classes": (
        "esc50",
        TABLE,
        "hand_saw",
        "chainsaw2",
        ["esc50.csv:3:", "'chainsaw2'", "not one of dog"],
    ),
    "a fold that is none": ("esc50", TABLE, "wav,3,", "wav,34,", ["esc50.csv:5:", "fold is '34'"]),
    "a field too few": ("esc50", TABLE, ",10,rain", ",rain", ["esc50.csv:5:", "6 fields", "7"]),
    "a path that leaves": ("esc50", TABLE, "3-1-A-10.wav", "../../etc/passwd", ["esc50.csv:5:", "refused"]),
    "an absolute path": ("esc50", TABLE, "3-1-A-10.wav", "/etc/passwd", ["esc50.csv:5:", "refused"]),
    "a clip listed twice": (
        "esc50",
        TABLE,
        "4-2-A-10.wav",
        "3-1-A-10.wav",
        ["3-1-A-10", "more than once, '3-1-A-10' first, with unlike records"],
    ),
    "an unknown tag": ("fsd50k", "FSD50K.ground_truth/dev.csv", "Dog", "Doge", ["dev.csv:3:", "'Doge'", "200 classes"]),
    "an unknown split": ("fsd50k", "FSD50K.ground_truth/dev.csv", ",val", ",eval", ["dev.csv:3:", "train, val"]),
    "a quote left open": ("fsd50k", "FSD50K.ground_truth/eval.csv", "/m/0", '"/m/0', ["eval.csv:2:", "quoted"]),
    "no header lines": (
        "fma_small",
        "fma_metadata/tracks.csv",
        "genre_top",
        "genre",
        ["tracks.csv:2:", "track,genre_top"],
    ),
    "an unknown genre": (
        "fma_small",
        "fma_metadata/tracks.csv",
        ",International,",
        ",Jazz,",
        ["tracks.csv:", "'Jazz'"],
    ),
    "an id that is none": (
        "fma_small",
        "fma_metadata/tracks.csv",
        "\n1482,",
        "\nx,",
        ["tracks.csv:", "'x', not a whole number"],
    ),
    "a tag neither 0 nor 1": (
        "magnatagatune",
        "annotations_final.csv",
        '"1"',
        '"2"',
        ["annotations_final.csv:2:", "'2'"],
    ),
    "an unknown instrument": (
        "irmas",
        "IRMAS-TestingData-Part1/Part1/01. The Best - [Speak No Evil]-8.txt",
        "sax",
        "saxx",
        ["-8.txt:2:", "'saxx'", "cel, cla"],
    ),
    "an unknown subset": (
        "medley_solos_db",
        "Medley-solos-DB_metadata.csv",
        "training,v",
        "extra,v",
        ["metadata.csv:3:", "'extra'"],
    ),
    "no JSON": (
        "slurp",
        "dataset/slurp/train.jsonl",
        '{"slurp_id": 2',
        '{"slurp_id" 2',
        ["train.jsonl:2:", "not JSON"],
    ),
    "a missing key": ("slurp", "dataset/slurp/test.jsonl", '"action"', '"act"', ["test.jsonl:1:", "no column action"]),
    "an unknown scenario": (
        "slurp",
        "dataset/slurp/devel.jsonl",
        '"email"',
        '"mail"',
        ["devel.jsonl:1:", "scenario is 'mail'"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_metadata_is_refused_with_its_line(fault, tmp_path):
    name, file, old, new, told = FAULTS[fault]
    raw_trees.build(name, tmp_path / "raw")
    edit(tmp_path / "raw" / file, old, new)
    with pytest.raises(UserError) as error:
        prepare(get_corpus(name), tmp_path / "raw", tmp_path / "out/corpus")
    assert all(part in str(error.value) for part in told), str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() or not os.listdir(tmp_path / "out")


def test_a_wrong_raw_folder_is_named_with_what_was_expected(tmp_path):
    raw_trees.build("audio_mnist", tmp_path / "digits")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_bytes(b"PK")
    raw_trees.write(tmp_path / "packed/ESC-50.zip", "PK")
    for raw, told in (
        ("digits", "meta/esc50.csv"),
        ("empty", "is empty; expected audio/*.wav and meta/esc50.csv"),
        ("nowhere", "no such folder"),
        ("file.zip", "unpack it"),
        ("packed", "; ESC-50.zip is still packed"),
    ):
        with pytest.raises(UserError, match="--raw_dir") as error:
            arch_hf("prepare", "esc50", "--raw_dir", tmp_path / raw)
        assert told in str(error.value)
    for name in ("ravdess", "vivae", "emovo", "irmas"):  # corpora without a listing
        with pytest.raises(UserError, match=f"holds no .*; expected {get_corpus(name).layout[:10]}"):
            arch_hf("prepare", name, "--raw_dir", tmp_path / "digits")
    with pytest.raises(UserError, match="give --raw_dir"):
        arch_hf("prepare", "esc50")
    with pytest.raises(UserError, match="did you mean 'esc50'"):
        arch_hf("prepare", "esc5", "--raw_dir", tmp_path / "digits")
    assert sorted(os.listdir(tmp_path)) == ["digits", "empty", "file.zip", "packed"]


def test_a_link_out_of_the_raw_folder_is_refused(tmp_path):
    raw_trees.build("emovo", tmp_path / "raw")
    secret = raw_trees.write(tmp_path / "secret.wav", raw_trees.sound())
    inside = tmp_path / "raw/EMOVO/f1/dis-f1-b1.wav"
    inside.unlink()
    inside.symlink_to("../f2/dis-f2-b1.wav")  # within the folder: fine
    assert prepare(get_corpus("emovo"), tmp_path / "raw", tmp_path / "a").clips == 24
    inside.unlink()
    inside.symlink_to(secret)
    with pytest.raises(UserError, match=r"dis-f1-b1.wav is a link to .*secret.wav, outside --raw_dir"):
        prepare(get_corpus("emovo"), tmp_path / "raw", tmp_path / "b")


def test_missing_files_are_an_error_unless_the_user_goes_on(tmp_path, capsys):
    tree = raw_trees.build("esc50", tmp_path / "raw")
    tree.files["3-1-A-10"].unlink()
    tree.files["5-3-A-0"].unlink()
    with pytest.raises(UserError, match=r"2 of 6 audio files .*audio/3-1-A-10.wav, audio/5-3-A-0.wav.*--allow_partial"):
        arch_hf("prepare", "esc50", "--raw_dir", tmp_path / "raw")
    assert not (tmp_path / "arch").exists()
    assert arch_hf("prepare", "esc50", "--raw_dir", tmp_path / "raw", "--allow_partial") == 0
    assert "incomplete: the full corpus has 2000 clips" in capsys.readouterr().err
    card = (tmp_path / "arch/esc50/README.md").read_text()
    assert "2 files were missing when it was made: `3-1-A-10`, `5-3-A-0`" in card and "fold_3 0 of 400" in card
    assert arch_hf("validate", "esc50") == 1
    out = capsys.readouterr().out
    assert (
        "missing splits: fold_3, fold_5" in out
        and "2 clips were missing when it was prepared: 3-1-A-10, 5-3-A-0" in out
    )
    assert "fold_1 has 1 clips, the full corpus 400" in out and "rooster" in out
    for path in tree.files.values():
        path.unlink(missing_ok=True)
    with pytest.raises(UserError, match="none of the audio files"):
        arch_hf("prepare", "esc50", "--raw_dir", tmp_path / "raw", "--output_dir", "b", "--allow_partial")


def test_an_existing_folder_is_replaced_only_when_it_is_ours_and_asked_for(tmp_path):
    raw_trees.build("emovo", tmp_path / "raw")
    argv = ["prepare", "emovo", "--raw_dir", tmp_path / "raw"]
    assert arch_hf(*argv) == 0
    with pytest.raises(UserError, match="exists already; give --overwrite"):
        arch_hf(*argv)
    (tmp_path / "arch/emovo/README.md").write_text("old")
    assert arch_hf(*argv, "--overwrite") == 0
    assert (tmp_path / "arch/emovo/README.md").read_text() != "old"
    shard = next((tmp_path / "arch/emovo/data").iterdir())
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"a Parquet file cannot be read|does not load"):
        arch_hf("validate", "emovo")
    raw_trees.write(tmp_path / "thesis/chapter1.txt", "precious")
    with pytest.raises(UserError, match="was not made by prepare"):
        arch_hf(*argv, "--output_dir", tmp_path / "thesis", "--overwrite")
    with pytest.raises(UserError, match="cannot write to"):
        arch_hf(*argv, "--output_dir", tmp_path / "thesis/chapter1.txt/out")
    assert sorted(os.listdir(tmp_path / "arch")) == ["emovo"]
    assert (tmp_path / "thesis/chapter1.txt").read_text() == "precious"


def test_re_encoding_gives_mono_flac_at_the_rate(tmp_path, capsys):
    tree = raw_trees.build("us8k", tmp_path / "raw")
    argv = ["prepare", "us8k", "--raw_dir", tmp_path / "raw", "--sampling_rate", "16000", "--num_proc", "3"]
    assert arch_hf(*argv) == 0
    data = load_corpus("us8k")
    assert len(data) == 11
    for i, clip_id in enumerate(data.table.clip_id):
        audio = data.audio(i)
        info = audio_info(audio)
        assert audio[:4] == b"fLaC" and (info.sampling_rate, info.channels) == (16000, 1)
        expected = load_audio(tree.files[clip_id], 16000)
        assert abs(decode(audio)[0] - expected).max() <= 1 / 32768, clip_id
    assert json.loads((tmp_path / "arch/us8k/arch.json").read_text())["sampling_rate"] == 16000
    # A clip that does not decode is then an error that names it; kept as it is, it is named and left to the user.
    bad = tree.files["100033-3-0-2"]
    for content, reason in ((b"", "0 bytes"), (b"RIFF", "not audio"), (bad.read_bytes()[:-200], "truncated")):
        bad.write_bytes(content)
        with pytest.raises(UserError, match=f"100033-3-0-2.wav cannot be re-encoded: .*{reason}"):
            arch_hf(*argv, "--output_dir", "b")
        assert not (tmp_path / "b").exists()
    assert arch_hf(*argv[:4], "--output_dir", "kept") == 0
    found = validate(get_corpus("us8k"), tmp_path / "kept")
    assert any("1 clips cannot be decoded: 100033-3-0-2 (truncated" in fault for fault in found.faults)
    for flag in ("--sampling_rate", "--num_proc"):
        with pytest.raises(SystemExit):
            arch_hf(*argv, "--output_dir", "c", flag, "0")
        assert f"{flag} is 0" in capsys.readouterr().err


def test_a_killed_write_leaves_nothing_under_the_name(tmp_path, monkeypatch):
    import arch_hf.data.official.shards as module

    raw_trees.build("emovo", tmp_path / "raw")

    def fill_the_disk(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.SplitWriter, "_flush", fill_the_disk)
    with pytest.raises(UserError, match=r"cannot write .*No space left on device"):
        arch_hf("prepare", "emovo", "--raw_dir", tmp_path / "raw")
    assert os.listdir(tmp_path / "arch") == []


@pytest.mark.parametrize("name", ["irmas", "fma_small", "magnatagatune", "emovo", "vivae"])
def test_what_may_not_be_published_again_is_refused_before_any_work(name):
    with pytest.raises(UserError, match=f"{name} may not be published again: .*--private"):
        arch_hf("prepare", name, "--raw_dir", "nowhere", "--push_to_hub", "me")
    assert "may not be published again" not in str(get_corpus("esc50").rehost_reason)


def test_leakage_and_duplicates_are_reported(tmp_path, capsys):
    tree = raw_trees.build("esc50", tmp_path / "raw")
    shutil.copy(tree.files["4-2-A-10"], tree.files["5-3-A-0"])
    arch_hf("prepare", "esc50", "--raw_dir", tmp_path / "raw")
    raw_trees.build("us8k", tmp_path / "raw2")
    edit(tmp_path / "raw2/UrbanSound8K/metadata/UrbanSound8K.csv", ".wav,100032", ".wav,131943")
    arch_hf("prepare", "us8k", "--raw_dir", tmp_path / "raw2")
    capsys.readouterr()
    assert arch_hf("validate", "esc50", "--leakage") == 1
    out = capsys.readouterr().out
    assert "note: 1 sets of clips are the same audio, byte for byte: 4-2-A-10 = 5-3-A-0" in out
    assert "leakage: groups in the splits: 1 of 5 groups are on more than one side: 131943" in out
    assert "leakage: the same audio in different splits: 1 sets: 4-2-A-10 (fold_4) = 5-3-A-0 (fold_5)" in out
    assert "shared with us8k: 2, of 3 clips here: 1-131943-A-49, 1-100032-A-0, 2-131943-B-49" in out
    assert "leakage: Freesound ids shared with fsd50k: unknown" in out
    raw_trees.build("ravdess", tmp_path / "raw3")
    arch_hf("prepare", "ravdess", "--raw_dir", tmp_path / "raw3")
    arch_hf("validate", "ravdess", "--leakage")
    out = capsys.readouterr().out
    assert "leakage: groups in the splits: none is on more than one side" in out
    assert "groups in the paper's splits: " in out and "of 24 groups are on more than one side" in out


MINE = """
import re
from arch_hf.data.spec import Clip, Corpus

def read(raw):
    for path, match in raw.matching(r"(cat|dog)-(\\d)\\.wav", "cat-1.wav and the like"):
        split = {"1": "train", "2": "validation"}.get(match[2], "test")
        yield Clip(path, path.stem, split, match[1], group=match[2])

CORPUS = Corpus(
    name="pets", title="Pets", domain="events", task="single_label", classes=("cat", "dog"),
    splits={"train": 2, "validation": 2, "test": 4}, max_seconds=2.5, licence="mit", citation="@misc{me}",
    homepage="https://example.org", read=read, groups=("1", "2", "3", "4"), class_clips=(4, 4),
)
"""


def test_a_users_own_corpus_is_one_file(tmp_path, capsys):
    (tmp_path / "pets.py").write_text(MINE)
    for i, kind in enumerate(("cat", "dog")):
        for number in range(1, 5):
            raw_trees.write(tmp_path / f"raw/{kind}-{number}.wav", raw_trees.sound(seed=i * 10 + number))
    assert arch_hf("prepare", "pets.py", "--raw_dir", "raw") == 0
    assert arch_hf("validate", "pets.py", "--leakage") == 0
    assert "complete and as specified" in capsys.readouterr().out
    data = load_corpus("arch/pets")
    assert (data.corpus.name, data.corpus.max_seconds, data.corpus.domain, data.corpus.classes) == (
        "pets",
        2.5,
        "events",
        ("cat", "dog"),
    )
    assert data.table.clip_id[:2] == ["cat-1", "dog-1"] and data.targets().tolist() == [0, 1] * 2 + [0, 0, 1, 1]
    assert load_dataset("arch/pets")["test"].cast_column("audio", Audio(decode=False))[0]["clip_id"] == "cat-3"
    assert len(load_corpus("pets", data_dir="arch")) == 8
    card, benchmark = ((tmp_path / "arch/pets" / name).read_text() for name in ("README.md", "eval.yaml"))
    assert "# Pets" in card and "name: Pets" in benchmark
    assert not any(
        word in card + benchmark for word in ("ARCH", "2405.00934", "arch-benchmark", "official distribution")
    )
    # What its file gets wrong is told too.
    for old, new, told in (
        ('"test")', '"tset")', "in the split 'tset', not one of train"),
        ("match[1], group", "match[0], group", "has the label 'cat-1.wav'"),
        ("CORPUS", "CORPSE", "defines no CORPUS"),
        ("import re", "import nothing_like_it", "wrong.py cannot be imported: ModuleNotFoundError"),
    ):
        (tmp_path / "wrong.py").write_text(MINE.replace(old, new))
        with pytest.raises(UserError, match=told):
            arch_hf("prepare", "wrong.py", "--raw_dir", "raw", "--output_dir", "x")
    with pytest.raises(UserError, match="no such corpus file"):
        arch_hf("prepare", "nowhere.py", "--raw_dir", "raw")
