"""Whatever lies in a folder and is not read is said in one line, with how many and the first names."""

import shutil
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Audio, ClassLabel, Dataset, Features, Value

from arch_hf.audio import begins_as_audio, encode_flac, encode_wav
from arch_hf.data import load_corpus
from arch_hf.data.check import check_dataset
from arch_hf.errors import UserError

NOISE = np.random.default_rng(0).standard_normal((16, 1600)).astype(np.float32) / 10
CLIPS = [encode_wav(samples, 16000) for samples in NOISE]


@pytest.fixture
def classes(tmp_path):
    """Two splits of two classes of four clips, as folders."""
    for i, clip in enumerate(CLIPS):
        folder = tmp_path / "clips" / ("train", "test")[i % 2] / ("dog", "owl")[i // 2 % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.wav").write_bytes(clip)
    return tmp_path / "clips"


def parquet(folder, cell, column="audio", feature=None):
    """A train and a test file of eight clips; `cell(i)` is the audio of each."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    features = Features({column: feature or Audio(decode=False), "label": ClassLabel(names=["dog", "owl"])})
    for part, split in enumerate(("train", "test")):
        rows = [{column: cell(8 * part + i), "label": i % 2} for i in range(8)]
        table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
        pq.write_table(table, folder / f"data/{split}-00000-of-00001.parquet")
    return folder


def unread(folder, **options):
    return [note.partition(": ")[2] for note in load_corpus(str(folder), **options).notes if "not read" in note]


def embedded(i):
    return {"bytes": CLIPS[i], "path": f"{i}.wav"}


def test_a_folder_that_is_read_whole_says_nothing(classes):
    for name in ("README.md", "LICENSE", "train/dog/notes.txt", "train/dog/cover.jpg", ".hidden"):
        (classes / name).write_text("not a clip")
    assert len(load_corpus(str(classes))) == 16 and unread(classes) == []


def test_audio_files_without_an_ending_or_with_an_unknown_one(classes):
    (classes / "train/dog/a").write_bytes(CLIPS[0])
    (classes / "train/owl/b").write_bytes(encode_flac(NOISE[1], 16000))
    (classes / "test/owl/c.pcm").write_bytes(NOISE[2].tobytes())
    (classes / "test/owl/d.1").write_bytes(CLIPS[3])
    (classes / "Makefile").write_text("all:")
    (line,) = unread(classes)
    assert line.startswith("not read: 4 files whose names do not end as those of audio do: rename them")
    assert "(test/owl/c.pcm, test/owl/d.1, train/dog/a and 1 more)" in line
    assert [note for note in check_dataset(str(classes)).notes if note == line]


def test_a_folder_of_nothing_but_them_is_refused(tmp_path):
    for name in ("dog/a", "owl/b"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(CLIPS[0])
    with pytest.raises(UserError, match=r"holds no audio that is called so; not read: 2 files .* \(dog/a, owl/b\)"):
        load_corpus(str(tmp_path))


def test_beside_a_list_too(classes):
    rows = "".join(f"{path.relative_to(classes)},x{i % 2}\n" for i, path in enumerate(sorted(classes.rglob("*.wav"))))
    (classes / "metadata.csv").write_text("file_name,sound\n" + rows)
    (classes / "train/dog/a").write_bytes(CLIPS[0])
    assert "(train/dog/a)" in unread(classes, label_column="sound")[0]


@pytest.mark.parametrize("streaming", [False, True])
def test_audio_files_beside_parquet(streaming, tmp_path):
    folder = parquet(tmp_path / "rows", embedded)
    assert unread(folder, streaming=streaming) == []
    (folder / "more").mkdir()
    for i in range(5):
        (folder / f"more/{i}.wav").write_bytes(CLIPS[i])
    (line,) = unread(folder, streaming=streaming)
    assert (
        line
        == "not read: 5 audio files beside its rows, which name none of them (more/0.wav, more/1.wav, more/2.wav and 2 more)"
    )


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("column, feature", [("audio", None), ("path", Value("string"))])
def test_those_that_its_rows_name_are_read(column, feature, streaming, tmp_path):
    folder = tmp_path / "rows"
    (folder / "wav").mkdir(parents=True)
    for i, clip in enumerate(CLIPS):
        (folder / f"wav/{i}.wav").write_bytes(clip)
    parquet(folder, lambda i: f"wav/{i}.wav" if feature else {"bytes": None, "path": f"wav/{i}.wav"}, column, feature)
    assert unread(folder, streaming=streaming) == []
    (folder / "wav/new.wav").write_bytes(CLIPS[0])
    (line,) = unread(folder, streaming=streaming)
    assert line.startswith("not read: 1 audio files") and "(wav/new.wav)" in line


def test_audio_files_beside_a_saved_dataset(tmp_path):
    rows = {
        "audio": [{"bytes": clip, "path": None} for clip in CLIPS],
        "label": ["dog", "owl"] * 8,
        "fold": [1, 1, 2, 2] * 4,
    }
    Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
    assert unread(tmp_path / "saved") == []
    (tmp_path / "saved/x.flac").write_bytes(CLIPS[0])
    assert "(x.flac)" in unread(tmp_path / "saved")[0]


def test_archives_beside_what_is_read(classes):
    with zipfile.ZipFile(classes / "rest.zip", "w") as archive:
        archive.writestr("train/dog/99.wav", CLIPS[0])
    (line,) = unread(classes)
    assert line == "not read: 1 archives beside what is read: unpack them (rest.zip)"


def test_what_cannot_be_read_in_passing_is_said(classes, tmp_path):
    shutil.make_archive(str(tmp_path / "all"), "zip", classes)
    one = parquet(tmp_path / "rows", embedded) / "data/train-00000-of-00001.parquet"
    for path in (tmp_path / "all.zip", one):
        options = {"fold_column": "none"} if path == one else {}
        for streaming in (False, True):
            notes = load_corpus(str(path), streaming=streaming, **options).notes
            assert sum("--streaming reads without a copy, but" in note for note in notes) == streaming
    assert len(load_corpus(str(classes), streaming=True)) == 16
    assert not any("--streaming" in note for note in load_corpus(str(classes), streaming=True).notes)


def test_a_configuration_of_what_has_none_is_refused(classes):
    with pytest.raises(UserError, match=r"--config fine: .*clips has no configurations"):
        load_corpus(str(classes), config="fine")


def test_what_begins_as_audio(tmp_path):
    for name, content in (
        ("wav", CLIPS[0]),
        ("flac", encode_flac(NOISE[0], 16000)),
        ("mp3", bytes.fromhex("fffb9064") + b"\0" * 600),
    ):
        (tmp_path / name).write_bytes(content)
        assert begins_as_audio(tmp_path / name)
    for name, content in (("text", b"all: clean"), ("nothing", b""), ("page", b"<html>")):
        (tmp_path / name).write_bytes(content)
        assert not begins_as_audio(tmp_path / name)
    assert not begins_as_audio(tmp_path / "absent")
