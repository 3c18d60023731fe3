"""Audio on its way to pretraining: what is found, prepared, planned and read."""

import io
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, Dataset, Features, Value
from pretraining_runs import SMALL

from arch_hf.audio import encode_flac, encode_wav, load_audio
from arch_hf.cli import main as arch_hf
from arch_hf.errors import AudioError, UserError
from arch_hf.pretraining import kmeans, prepare_audio, shards, sources
from arch_hf.pretraining.batching import Batches, Plan, group_by_length
from arch_hf.pretraining.clips import Clip, Clips, fingerprint_of, write_index
from arch_hf.pretraining.loading import load_batches
from arch_hf.pretraining.prepare_audio import Source
from arch_hf.pretraining.recipes import get_recipe
from arch_hf.pretraining.runs import index_folders


def noise(samples, seed=0, channels=1):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, size=(samples, channels)).astype(np.float32).squeeze()


@pytest.fixture(scope="module")
def pile(tmp_path_factory):
    """A pile as one finds it: rates, channels, lengths, formats, sub-folders, and two files that cannot be used."""
    folder = tmp_path_factory.mktemp("pile")
    (folder / "deep/er").mkdir(parents=True)
    for number in range(9):
        (folder / f"{number}.flac").write_bytes(encode_flac(noise(24000 + 4800 * number, number, 2), 48000))
    (folder / "deep/er/mono.WAV").write_bytes(encode_wav(noise(16000, 20), 16000))
    (folder / "deep/long.wav").write_bytes(encode_wav(noise(80000, 21), 16000))
    (folder / "cut.flac").write_bytes(encode_flac(noise(48000, 22), 48000)[:20000])
    (folder / "page.wav").write_bytes(b"<html>not audio</html>")
    return folder


def contents(folder):
    """Every file's bytes; the manifest says no time."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def prepared(pile, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "audio"
    prepare_audio.prepare_audio(Source((str(pile),), max_seconds=3.0), out, workers=1)
    return out


def test_shards_hold_the_very_samples_and_name_what_was_skipped(pile, prepared):
    clips = Clips([prepared])
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert manifest["clips"] == len(clips) == 12 and manifest["hours"] == pytest.approx(clips.hours)
    found = {clip.name: clip for clip in map(clips.__getitem__, range(len(clips)))}
    for name in [*(f"{number}.flac" for number in range(9)), "deep/er/mono.WAV"]:
        plain = load_audio(str(pile / name), 16000)
        stored = shards.decode(clips.read(found[name]), found[name])
        np.testing.assert_array_equal(stored, np.clip(np.rint(plain * 32768), -32768, 32767) / np.float32(32768))
    whole = load_audio(str(pile / "deep/er/mono.WAV"), 16000)
    np.testing.assert_array_equal(
        shards.decode(clips.read(found["deep/er/mono.WAV"]), found["deep/er/mono.WAV"]), whole
    )
    pieces = [found[name] for name in ("deep/long.wav#0.000", "deep/long.wav#2.500")]
    joined = np.concatenate([shards.decode(clips.read(piece), piece) for piece in pieces])
    np.testing.assert_array_equal(joined, load_audio(str(pile / "deep/long.wav"), 16000))
    skipped = [json.loads(line) for line in (prepared / "skipped.jsonl").read_text().splitlines()]
    assert {row["clip"] for row in skipped} == {"cut.flac", "page.wav"} and all(row["reason"] for row in skipped)


def test_shards_are_plain_tar_files_of_audio_and_names(prepared):
    clips, members = Clips([prepared]), {}
    for path in prepared.glob("*.tar"):
        with tarfile.open(path) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}
    keys = sorted({name.split(".")[0] for name in members})
    assert len(keys) == 12 and sorted(members) == sorted(f"{key}.{kind}" for key in keys for kind in ("flac", "json"))
    by_name = {json.loads(members[f"{key}.json"])["name"]: members[f"{key}.flac"] for key in keys}
    assert all(clips.read(clips[i]) == by_name[clips[i].name] for i in range(12))


def test_the_same_shards_come_out_of_any_number_of_processes_and_of_any_number_of_starts(
    pile, prepared, tmp_path, monkeypatch
):
    expected = contents(prepared)
    monkeypatch.setattr(prepare_audio, "SHARDS", 1)
    out, made = tmp_path / "audio", prepare_audio.make_shard

    def killed(job):
        made(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare_audio, "make_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare_audio.prepare_audio(Source((str(pile),), max_seconds=3.0), out, workers=1)
    with pytest.raises(UserError, match="was not finished; run arch-hf prepare-audio again"):
        shards.read_manifest(out)
    monkeypatch.setattr(prepare_audio, "make_shard", made)
    prepare_audio.prepare_audio(Source((str(pile),), max_seconds=3.0), out, workers=2)
    assert contents(out) == expected
    # Run on a finished folder, it mends what has rotted.
    tar = out / "shard-00000.tar"
    tar.write_bytes(tar.read_bytes()[:-2000] + bytes(2000))
    os.truncate(tar, os.path.getsize(tar))
    data = bytearray(expected["shard-00000.tar"])
    data[3000] ^= 1
    tar.write_bytes(data)
    prepare_audio.prepare_audio(Source((str(pile),), max_seconds=3.0), out, workers=1)
    assert contents(out) == expected
    with pytest.raises(UserError, match=r"begun with another source: max_seconds was 3.0, is 4.0"):
        prepare_audio.prepare_audio(Source((str(pile),), max_seconds=4.0), out, workers=1)


def test_prepare_audio_goes_on_after_sigkill(pile, prepared, tmp_path):
    out = tmp_path / "audio"
    command = [sys.executable, "-c", "import sys; from arch_hf.cli import main; sys.exit(main())", "prepare-audio"]
    command += [str(pile), "--output_dir", str(out), "--max_seconds", "3", "--workers", "1"]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / "plan.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert contents(out) == contents(prepared)


def test_a_csv_of_segments_and_a_dataset_are_prepared(pile, tmp_path, capsys):
    (pile / "list.csv").write_text("path,start,end\n8.flac,0.25,0.75\n0.flac,,\n8.flac,9,\nnowhere.wav,,\n")
    try:
        assert (
            arch_hf(["prepare-audio", str(pile / "list.csv"), "--output_dir", str(tmp_path / "cut"), "--workers", "1"])
            == 0
        )
    finally:
        (pile / "list.csv").unlink()
    assert "2 clips" in capsys.readouterr().out
    clips = Clips([tmp_path / "cut"])
    found = {clip.name: clip for clip in map(clips.__getitem__, range(2))}
    whole = load_audio(str(pile / "8.flac"), 16000)[4000:12000]
    piece = found["8.flac#0.250-0.750"]
    np.testing.assert_allclose(shards.decode(clips.read(piece), piece), whole, atol=1 / 65536)
    skipped = {json.loads(line)["clip"] for line in (tmp_path / "cut/skipped.jsonl").read_text().splitlines()}
    assert skipped == {"8.flac#9.000-", "nowhere.wav"}

    rows = [{"audio": {"bytes": path.read_bytes(), "path": path.name}} for path in sorted(pile.glob("*.flac"))]
    features = Features({"audio": {"bytes": Value("binary"), "path": Value("string")}})
    (tmp_path / "parquet").mkdir()
    dataset = Dataset.from_list(rows, features=features).cast_column("audio", Audio(decode=False))
    dataset.to_parquet(tmp_path / "parquet/train.parquet", batch_size=4)
    assert (
        arch_hf(["prepare-audio", str(tmp_path / "parquet"), "--output_dir", str(tmp_path / "out"), "--workers", "1"])
        == 0
    )
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["clips"], manifest["skipped"], len(manifest["shards"])) == (9, 1, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{tmp}/nowhere"], "no such folder"),
        (["{tmp}/empty"], "no audio file found"),
        (["{pile}", "--config", "full"], "go with a dataset"),
        (["{pile}", "--workers", "0"], "--workers is 0: give 1 or more"),
        (["{pile}", "--max_seconds", "0"], "give a number above 0"),
        (["{tmp}/bad.csv"], "a csv of segments has the columns path,start,end"),
        (["{tmp}/nan.csv"], "line 2: expected a path, and start before end"),
        (["{tmp}/begin.csv"], "no column 'start'"),
        (["{pile}", "{pile}"], "is in two of them"),
        (["{tmp}/broken"], "none of 1 clips could be used, the first because: truncated"),
    ],
)
def test_a_mistake_in_preparing_is_one_line(flags, message, pile, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.wav").write_bytes(encode_wav(noise(9000), 16000)[:9000])
    (tmp_path / "bad.csv").write_text("YTID,0,10,x\n")
    (tmp_path / "nan.csv").write_text("path,start,end\na.wav,nan,\n")
    (tmp_path / "begin.csv").write_text("path,begin,end\na.wav,1,2\n")
    words = [flag.format(tmp=tmp_path, pile=pile) for flag in flags]
    try:
        status = arch_hf(["prepare-audio", *words, "--output_dir", str(tmp_path / "out")])
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2)
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    assert arch_hf(["prepare-audio", str(pile), "--output_dir", str(tmp_path / "full")]) == 1
    assert "is not empty" in capsys.readouterr().err


@pytest.fixture(params=["miniaudio", "soundfile"])
def decoder(request, monkeypatch):
    """What decodes the shards: the library of the extra, and the other one where that is not installed."""
    if request.param == "soundfile":
        monkeypatch.setattr(shards, "miniaudio", None)
    elif shards.miniaudio is None:
        pytest.skip("miniaudio is not installed")


def test_a_clip_comes_out_of_its_shard_as_it_was_rounded(decoder):
    sound = np.random.default_rng(0).normal(0, 0.4, 20_000).astype(np.float32)
    expected = np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.float32) / 32768
    assert 1 in np.abs(expected)  # what is beyond is clipped
    for n in (1, 100, 4096, 20_000):
        samples = shards.decode(shards.encode(sound[:n]), Clip("a", "b", 0, 1, n))
        assert samples.dtype == np.float32 and np.array_equal(samples, expected[:n])


def test_a_damaged_clip_of_a_shard_is_named(prepared, decoder):
    clips = Clips([prepared])
    with pytest.raises(AudioError, match="damaged in its shard"):
        shards.decode(b"no FLAC at all", clips[0])
    data = bytearray(clips.read(clips[0]))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(AudioError, match="damaged in its shard"):
        shards.decode(bytes(data), clips[0])
    with pytest.raises(AudioError, match="damaged in its shard"):
        shards.decode(clips.read(clips[0]), clips[1])


def fake_clips(folder, samples, per_shard, name="a"):
    """An index of clips that do not exist."""
    rows = [Clip(f"{name}{i}", f"shard-{i // per_shard:05d}.tar", 0, 1, int(n)) for i, n in enumerate(samples)]
    folder.mkdir(exist_ok=True)
    write_index(folder / "clips.arrow", rows, fingerprint_of((row.name, row.samples) for row in rows))
    return Clips([folder])


def test_an_index_is_mapped_and_joins_others(tmp_path):
    first = fake_clips(tmp_path / "a", [16000, 8000, 4000], per_shard=2)
    both = Clips([tmp_path / "a", fake_clips(tmp_path / "b", [100, 200], 2, "b").indices[0]])
    assert both.blocks.tolist() == [0, 2, 3, 5] and both.samples.tolist() == [16000, 8000, 4000, 100, 200]
    assert both[4].name == "b1" and both[4].file == str(tmp_path / "b/shard-00000.tar")
    assert pickle.loads(pickle.dumps(both))[2] == both[2]
    assert first.samples.base is not None and not first.samples.flags.writeable  # the file's own pages
    assert both.fingerprint != first.fingerprint


@pytest.mark.parametrize("clips_at_most", [0, 3])
def test_micro_batches_stay_within_the_budget(clips_at_most):
    samples = (np.random.default_rng(0).uniform(0.3, 8, size=300) * 16000).astype(int)
    settings = ["micro_batch_seconds=12", "crop_seconds=5", f"micro_batch_clips={clips_at_most}"]
    groups = group_by_length(samples, get_recipe("hubert", "tiny", settings), np.random.default_rng(0))
    assert sorted(np.concatenate([clips for clips, _ in groups])) == list(range(300))
    for clips, crop in groups:
        assert len(clips) * crop <= 12 * 16000 and len(clips) <= (clips_at_most or 300)
        lengths = np.minimum(samples[clips], 5 * 16000)
        assert crop == lengths.min() and lengths.max() <= 1.25 * lengths.min()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """2,300 clips in 23 shards, some too short, in several windows."""
    samples = (np.random.default_rng(0).uniform(0.1, 4, size=2300) * 16000).astype(int)
    return fake_clips(tmp_path_factory.mktemp("many"), samples, per_shard=100)


def epoch_of(clips, recipe, world, position=None, steps=None):
    """What all processes take until the first epoch is over or so many steps are done: clips in order, and the last position."""
    plans = [iter(Plan(clips, recipe, 7, rank, world, position)) for rank in range(world)]
    taken, done = [], 0
    while steps is None or done < steps:
        step = [next(plan) for plan in plans for _ in range(recipe.micro_batches // world)]
        taken += [planned for planned in step if planned.key[1] == 0]
        position, done = step[-1].position, done + 1
        if step[-1].key[1] > 0:
            break
    return taken, position


def test_an_epoch_takes_every_clip_once_over_any_number_of_processes_and_when_that_changes(many, monkeypatch):
    monkeypatch.setattr("arch_hf.pretraining.batching.WINDOW", 500)
    recipe = get_recipe("hubert", "tiny", ["micro_batch_seconds=8", "micro_batches=6"])
    usable = np.flatnonzero(many.samples >= round(0.2 * 16000))
    assert len(usable) < len(many)
    orders = []
    for world in (1, 2, 3):
        taken, _ = epoch_of(many, recipe, world)
        clips = np.concatenate([planned.clips for planned in taken])
        np.testing.assert_array_equal(np.sort(clips), usable)
        orders.append(clips)
    np.testing.assert_array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[0], orders[2])
    first, position = epoch_of(many, recipe, 2, steps=37)
    rest, _ = epoch_of(many, recipe, 3, json.loads(json.dumps(position)))
    resumed = np.concatenate([planned.clips for planned in [*first, *rest]])
    np.testing.assert_array_equal(resumed, orders[0])
    assert len({planned.key for planned in [*first, *rest]}) == len(first) + len(rest)


def test_reading_stays_within_a_window_and_is_shuffled_anew_each_epoch(many, monkeypatch):
    monkeypatch.setattr("arch_hf.pretraining.batching.WINDOW", 500)
    plan = Plan(many, get_recipe("hubert", "tiny"), 7)
    windows = plan.windows(0)
    assert [len(window) for window in windows] == [5, 5, 5, 5, 3]
    assert sorted(np.concatenate(windows)) == list(range(23))
    assert [w.tolist() for w in windows] != [w.tolist() for w in plan.windows(1)]
    clips = np.concatenate([chosen for chosen, _ in plan.groups(0, 0, windows[0])])
    assert set(clips // 100) == set(windows[0]) and (np.diff(clips // 100) != 0).mean() > 0.5


def test_a_broken_clip_is_left_out_and_named_and_moves_no_other_crop(tmp_path):
    recipe = get_recipe("wav2vec2", "tiny")
    rows, whole = [], []
    for i in range(3):
        (tmp_path / f"{i}.wav").write_bytes(encode_wav(noise(24000, i), 16000))
        rows.append((i, Clip(f"{i}", str(tmp_path / f"{i}.wav"), -1, 0, 24000)))
    batches = Batches(fake_clips(tmp_path / "index", [24000] * 3, 3), recipe)
    whole = batches.assemble(rows, 8000, (1, 2), {})
    (tmp_path / "1.wav").write_bytes(encode_wav(noise(24000, 1), 16000)[:2000])
    torn = batches.assemble(rows, 8000, (1, 2), {})
    assert [name for name, _ in torn.broken] == ["1"] and "truncated" in torn.broken[0][1] and torn.names == ["0", "2"]
    torch.testing.assert_close(torn.waveforms, whole.waveforms[[0, 2]])
    (tmp_path / "1.wav").write_bytes(b"")
    nothing = batches.assemble(rows[1:2], 8000, (1, 2), {})
    assert nothing.empty and nothing.n_masked == 0 and nothing.broken == [("1", "empty file (0 bytes)")]


def test_hubert_crops_begin_at_a_frame_of_the_clip(prepared):
    clips = Clips([prepared])
    recipe = get_recipe("hubert", "tiny", [*SMALL, "crop_seconds=0.4"])
    ramp = {i: np.arange(4000, dtype=np.uint16) for i in range(len(clips))}
    plan = [planned for planned, _ in zip(Plan(clips, recipe, 0), range(8), strict=False)]
    for batch in load_batches(clips, recipe, plan, 0, ramp.__getitem__):
        for name, waveform, labels in zip(batch.names, batch.waveforms.numpy(), batch.goal, strict=True):
            clip = next(clip for clip in map(clips.__getitem__, range(len(clips))) if clip.name == name)
            first = int(labels[0])
            assert labels.tolist() == list(range(first, first + len(labels)))
            samples = shards.decode(clips.read(clip), clip)
            np.testing.assert_array_equal(waveform, samples[320 * first : 320 * first + len(waveform)])


def test_folders_are_searched_and_what_cannot_be_used_is_named(tmp_path):
    (tmp_path / "in/a/b").mkdir(parents=True)
    for name, length in (("a/one.wav", 16000), ("a/b/two.WAV", 8000), ("short.wav", 100)):
        (tmp_path / "in" / name).write_bytes(encode_wav(np.zeros(length, np.float32), 16000))
    (tmp_path / "in/noise.flac").write_bytes(b"no audio at all")
    (tmp_path / "in/notes.txt").write_text("not audio")
    folder = str(tmp_path / "in")
    skipped = dict(index_folders([folder], 0.2, tmp_path / "clips.arrow"))
    clips = Clips([tmp_path / "clips.arrow"])
    assert [clips[i].name for i in range(len(clips))] == ["a/b/two.WAV", "a/one.wav"]
    assert clips.samples.tolist() == [8000, 16000] and clips.read(clips[0]) == f"{folder}/a/b/two.WAV"
    assert "too short: 0.01 s" in skipped[f"{folder}/short.wav"] and "not audio" in skipped[f"{folder}/noise.flac"]
    with pytest.raises(UserError, match=r"none of 4 clips can be used: 3 too short .* 1 unreadable"):
        index_folders([folder], 2.0, tmp_path / "x.arrow")
    with pytest.raises(UserError, match="no such folder"):
        index_folders([str(tmp_path / "nowhere")], 0.2, tmp_path / "x.arrow")


def test_a_link_in_a_circle_gives_no_clip_twice(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.wav").write_bytes(encode_wav(noise(9000), 16000))
    (tmp_path / "in/again").symlink_to(tmp_path)
    assert [name for _, name in sources.find_files([str(tmp_path)])[0]] == ["in/a.wav"]


def test_audiosets_segment_lists_choose_the_clips(tmp_path):
    lines = ["# Segments csv", "# num_ytids=3", "# YTID, start_seconds, end_seconds, positive_labels"]
    lines += [f'{name}, 30.000, 40.000, "/m/09x0r,/m/05zppz"' for name in ("--aE2O5G5WE", "-0DdlOuIFUI", "YYYYYYYYYYY")]
    (tmp_path / "segments.csv").write_text("\n".join(lines))
    (tmp_path / "clips").mkdir()
    for name in ("Y--aE2O5G5WE.wav", "-0DdlOuIFUI_30000_40000.flac", "zzzzzzzzzzz.wav"):
        (tmp_path / "clips" / name).write_bytes(encode_wav(np.zeros(16000, np.float32), 16000))
    files, skipped = sources.find_files([str(tmp_path / "clips")], [str(tmp_path / "segments.csv")])
    assert len(files) == 2 and not any("zzz" in path for path, _ in files)
    assert skipped == [("YYYYYYYYYYY", "in the segment list, not in the folder")]
    (tmp_path / "other.csv").write_text(json.dumps({"no": "csv"}))
    with pytest.raises(UserError, match="expected AudioSet's lines"):
        sources.find_files([str(tmp_path / "clips")], [str(tmp_path / "other.csv")])


def test_names_that_are_no_unicode_are_kept(tmp_path):
    (tmp_path / "in").mkdir()
    name = os.fsdecode(b"caf\xe9.wav")
    (tmp_path / "in" / name).write_bytes(encode_wav(noise(8000), 16000))
    prepare_audio.prepare_audio(Source((str(tmp_path / "in"),)), tmp_path / "out", workers=1)
    clips = Clips([tmp_path / "out"])
    assert clips[0].name == name and soundfile.info(io.BytesIO(clips.read(clips[0]))).frames == 8000


def test_all_processes_keep_the_place_behind_the_whole_step(prepared):
    clips, recipe = Clips([prepared]), get_recipe("hubert", "tiny", [*SMALL, "micro_batches=4"])
    plans = [list(itertools.islice(Plan(clips, recipe, 0, rank, 2), 2)) for rank in (0, 1)]
    assert {json.dumps(planned.position) for plan in plans for planned in plan} == {json.dumps(plans[1][1].position)}


def test_the_clustering_hears_its_share_in_an_order_of_its_own(prepared):
    clips = Clips([prepared])
    recipe = get_recipe("hubert", "tiny", [*SMALL, "micro_batches=1", "micro_batch_clips=1", "kmeans_share=0.3"])
    sample, seconds = kmeans._sample(clips, recipe, 0)
    heard = [planned for _, planned in sample]
    longest = recipe.crop_seconds
    assert 0.3 * seconds <= sum(planned.samples for planned in heard) / 16000 < 0.3 * seconds + longest
    first = list(itertools.islice(Plan(clips, recipe, 0), len(heard)))
    assert [list(one.clips) for one in heard] != [list(one.clips) for one in first]
