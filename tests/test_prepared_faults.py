"""What prepare has written, changed or lost afterwards; and archives that are known to lack a clip. With the private parts of `datasets` gone."""

import json
import os
import shutil
from pathlib import Path

import datasets
import pytest
import raw_trees
from datasets import Audio, Dataset, Features, IterableDataset, Value

from arch_hf.cli import build_parser
from arch_hf.compat import datasets_library
from arch_hf.data import get_corpus, load_corpus
from arch_hf.data.official.prepare import prepare
from arch_hf.data.official.prepared import changed_shards, read_facts
from arch_hf.data.official.raw import RawFolder
from arch_hf.data.official.validate import validate
from arch_hf.errors import UserError


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def arch_hf(*argv):
    args = build_parser().parse_args([str(arg) for arg in argv])
    return args.run(args)


@pytest.fixture
def emovo(tmp_path):
    raw_trees.build("emovo", tmp_path / "raw")
    prepare(get_corpus("emovo"), "raw", "arch/emovo")
    return tmp_path / "arch/emovo"


def test_each_shard_has_a_checksum_that_validate_and_the_first_read_look_at(emovo, tmp_path):
    facts = read_facts(emovo)
    assert sorted(facts["shards"]) == sorted(f"data/{path.name}" for path in (emovo / "data").iterdir())
    assert all(noted["bytes"] == (emovo / name).stat().st_size for name, noted in facts["shards"].items())
    assert changed_shards(emovo, facts) == []
    shard = sorted((emovo / "data").iterdir())[2]
    content = bytearray(shard.read_bytes())
    content[content.find(b"WAVEfmt") + 60] ^= 1  # one bit of one clip's audio
    shard.write_bytes(content)
    wrong = f"data/{shard.name} is not what prepare wrote: its bytes have changed"
    assert validate(get_corpus("emovo"), emovo).faults[0] == wrong
    for streaming in (False, True):
        with pytest.raises(UserError, match=f"{wrong}; prepare the corpus again"):
            load_corpus("emovo", streaming=streaming).measured(tmp_path / "index")
    shard.unlink()
    assert changed_shards(emovo, facts) == [f"data/{shard.name} cannot be read (No such file or directory)"]
    assert changed_shards(emovo, {"corpus": "emovo"}) == []  # prepared by a version that noted none


def test_a_corpus_that_was_prepared_is_read_once(emovo, tmp_path, monkeypatch):
    load_corpus("emovo").measured(tmp_path / "index")
    monkeypatch.setattr("arch_hf.data.load.changed_shards", lambda *_: pytest.fail("the shards were read again"))
    load_corpus("emovo").measured(tmp_path / "index")


@pytest.mark.parametrize(("key", "value"), [("task", None), ("max_seconds", None), ("corpus", 3), ("task", "guess")])
def test_facts_that_lack_something_are_refused(emovo, key, value):
    facts = json.loads((emovo / "arch.json").read_text())
    facts[key] = value
    (emovo / "arch.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"arch.json does not say .*; prepare the corpus again"):
        load_corpus("emovo")


def test_the_old_copy_of_a_killed_overwrite_is_named_and_put_back(emovo, capsys):
    old = emovo.with_name(".emovo.1a2b.old")
    emovo.rename(old)  # killed between the two renames
    with pytest.raises(UserError, match=r"arch/emovo is gone: .*its old copy is arch/.emovo.1a2b.old; mv "):
        load_corpus("emovo")
    with pytest.raises(UserError, match="exists already; give --overwrite"):
        arch_hf("prepare", "emovo", "--raw_dir", "raw")
    assert "its old copy is put back" in capsys.readouterr().err
    assert len(load_corpus("emovo")) and not old.exists()
    shutil.copytree(emovo, old)  # killed before the old copy was removed
    assert arch_hf("prepare", "emovo", "--raw_dir", "raw", "--overwrite") == 0
    assert str(old.relative_to(Path.cwd())) in capsys.readouterr().err and old.exists()


def test_what_the_official_archive_is_known_to_lack_needs_no_flag(tmp_path, capsys):
    tree = raw_trees.build("slurp", tmp_path / "raw")
    path = next((tmp_path / "raw").rglob("train.jsonl"))
    lines = path.read_text().splitlines()
    first = json.loads(lines[0])
    known = "audio-1434527177-headset"
    first["recordings"].append({"file": f"{known}.flac", "status": "correct"})
    path.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    assert arch_hf("prepare", "slurp", "--raw_dir", "raw") == 0
    assert f"not in the official archive: {known}" in capsys.readouterr().out
    found = validate(get_corpus("slurp"), tmp_path / "arch/slurp")
    assert f"not in the official archive: {known}" in found.notes and not any(known in fault for fault in found.faults)
    data = load_corpus("slurp")
    assert len(data) == len(tree.clips) and data.missing == [known]
    assert data.excluded == [{"clip_id": known, "reason": "not there when the corpus was prepared"}]
    assert data.n_expected == sum(get_corpus("slurp").splits.values()) - 1
    os.remove(next((tmp_path / "raw").rglob("*.flac")))
    with pytest.raises(UserError, match=r"1 of .* audio files that the metadata lists are not in raw"):
        arch_hf("prepare", "slurp", "--raw_dir", "raw", "--overwrite")
    assert arch_hf("prepare", "slurp", "--raw_dir", "raw", "--overwrite", "--allow_partial") == 0
    data = load_corpus("slurp")
    assert (
        len(data.missing) == 2 == len(data.excluded) and data.n_expected == sum(get_corpus("slurp").splits.values()) - 1
    )


def test_a_name_that_is_not_utf8_is_told_with_the_remedy(tmp_path):
    (tmp_path / "raw/sub").mkdir(parents=True)
    (tmp_path / "raw/sub" / os.fsdecode(b"Caf\xe9.wav")).write_bytes(b"x")
    with pytest.raises(UserError, match=r"the name sub/Caf\\xe9.wav is not UTF-8: rename it, or unpack .*cp437"):
        RawFolder(tmp_path / "raw")


def test_links_to_folders_inside_of_the_raw_folder_are_followed_once(tmp_path):
    (tmp_path / "raw/elsewhere").mkdir(parents=True)
    (tmp_path / "raw/elsewhere/1.wav").write_bytes(b"x")
    (tmp_path / "raw/fold1").symlink_to("elsewhere", target_is_directory=True)
    (tmp_path / "raw/elsewhere/up").symlink_to("..", target_is_directory=True)  # round in a circle
    assert RawFolder(tmp_path / "raw").files == ["elsewhere/1.wav", "fold1/1.wav"]
    (tmp_path / "raw/out").symlink_to("/", target_is_directory=True)
    with pytest.raises(UserError, match="outside --raw_dir"):
        RawFolder(tmp_path / "raw")


def test_without_the_private_parts_of_the_library_it_works_more_slowly(tmp_path, monkeypatch):
    rows = Dataset.from_dict({"name": ["a", "b"]}, features=Features({"name": Value("string")}))
    assert datasets_library.fingerprint_of(rows) and datasets_library.fingerprint_of(object()) is None

    def rows_of():
        yield {"name": "a", "number": 1}

    stream = IterableDataset.from_generator(rows_of)
    expected = Features({"name": Value("string"), "number": Value("int64")})
    assert datasets_library.features_of(stream) == expected
    monkeypatch.delattr(IterableDataset, "_resolve_features")
    assert datasets_library.features_of(IterableDataset.from_generator(rows_of)) == expected
    with datasets_library.audio_as_it_is():
        assert Audio().encode_example("a.wav") == {"bytes": None, "path": "a.wav"}
    monkeypatch.delattr(Audio, "encode_example")
    with datasets_library.audio_as_it_is():
        assert not hasattr(Audio, "encode_example")
    was_offline = datasets.config.HF_HUB_OFFLINE
    with datasets_library.offline():
        assert datasets.config.HF_HUB_OFFLINE
    assert was_offline == datasets.config.HF_HUB_OFFLINE
    monkeypatch.delattr(datasets.config, "HF_HUB_OFFLINE")
    with datasets_library.offline():
        assert not hasattr(datasets.config, "HF_HUB_OFFLINE")
    # an index that cannot be known again is made in each run
    monkeypatch.setattr("arch_hf.data.load.fingerprint_of", lambda _: None)
    data = load_corpus("synthetic_events", limit=8)
    assert data.audio_key() is None
    assert (
        data.measured(tmp_path).index.digests
        == load_corpus("synthetic_events", limit=8).measured(tmp_path).index.digests
    )
    assert not list(tmp_path.rglob("clip_index"))
