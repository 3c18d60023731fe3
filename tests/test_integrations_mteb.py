"""mteb's evaluator with our encoder: where mteb is installed with itself, else with a stand-in that follows its protocol."""

import importlib.util
import io
import shutil
from types import SimpleNamespace

import datasets
import mteb_stand_in
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from datasets import Audio, ClassLabel, Dataset, Features
from datasets.exceptions import DatasetNotFoundError
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from tiny_models import make_tiny

from arch_hf.audio import load_audio
from arch_hf.cli import main
from arch_hf.distributed import Ranks
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.corpus import embed_corpus
from arch_hf.embedding.key import EmbedSettings
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.errors import UserError
from arch_hf.evaluate import load_clips, settings_for
from arch_hf.files import audio_digest
from arch_hf.integrations import audio_columns
from arch_hf.integrations.audio_columns import DecodedOnDemand, clips_of, decoded_by_us, encoded
from arch_hf.integrations.clips import Clips, StoredEncoder
from arch_hf.integrations.mteb import MtebEncoder, find_tasks, run_tasks
from arch_hf.job import Job
from arch_hf.probing.protocols import get_protocol
from arch_hf.results.benchmark import BenchmarkScore, read_benchmarks
from arch_hf.results.folder import read_results

RATE = 8000
CLASSES = ["low", "middle", "high"]
needs_mteb = pytest.mark.skipif(importlib.util.find_spec("mteb") is None, reason="the extra mteb is not installed")


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "mteb"))
    monkeypatch.chdir(tmp_path)


def tone(label: int, seed: int) -> np.ndarray:
    """A noisy tone of its class's pitch, 0.2 to 0.9 s long."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(RATE * rng.uniform(0.2, 0.9))) / RATE
    return (0.03 * np.sin(2 * np.pi * (300, 500, 800)[label] * time) + 0.15 * rng.standard_normal(len(time))).astype(
        "f4"
    )


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def make_rows(clips: list[bytes], labels: list[int]) -> Dataset:
    features = Features(audio=Audio(), label=ClassLabel(names=CLASSES))
    data = {"audio": [{"bytes": clip, "path": None} for clip in clips], "label": labels}
    table = pa.Table.from_pydict(data, features.arrow_schema)
    return Dataset(table, info=datasets.DatasetInfo(features=features))


@pytest.fixture
def folder(tmp_path):
    """45 clips to draw from and 24 to test, in Parquet; two of them are the same recording."""
    (tmp_path / "tones/data").mkdir(parents=True)
    start = 0
    for split, n in (("train", 45), ("test", 24)):
        labels = [i % 3 for i in range(n)]
        clips = [wav(tone(label, start + i)) for i, label in enumerate(labels)]
        if split == "train":
            clips[3] = clips[0]
        make_rows(clips, labels).to_parquet(tmp_path / f"tones/data/{split}-00000-of-00001.parquet")
        start += n
    return tmp_path / "tones"


def of_mteb(name: str, folder, look: bool = False):
    """The task of the stand-in as one of mteb's own."""
    from mteb.tasks import FSDD

    class Tones(FSDD):
        metadata = FSDD.metadata.model_copy(
            update={"name": name, "dataset": {"path": str(folder), "revision": "local"}}
        )

        def dataset_transform(self, num_proc=None, **kwargs):
            if look:
                self.dataset = self.dataset.filter(lambda row: len(row["audio"]["array"]) >= 500)

    return Tones()


@pytest.fixture(params=["stand-in", pytest.param("mteb", marks=needs_mteb)])
def make_task(request, monkeypatch):
    """Makes a task, of the stand-in or of mteb itself."""
    if request.param == "mteb":
        return of_mteb
    mteb_stand_in.install(monkeypatch)
    return mteb_stand_in.Task


def by_hand(encoder: AudioEncoder, folder) -> list[float]:
    """The accuracy of every draw by the stand-in's protocol, on what `embed` gives, clip by clip."""
    task = mteb_stand_in.Task("tones", folder)
    task.load()

    def encode(rows, split):
        clips = [row["bytes"] for row in rows.cast_column("audio", Audio(decode=False))["audio"]]
        return np.stack([encoder.embed([load_audio(clip, encoder.sampling_rate)])[0] for clip in clips])

    return task.evaluate(encode)


@pytest.mark.parametrize("look", [False, True])
def test_scores_are_those_of_the_protocol_and_clips_are_encoded_once(tmp_path, folder, make_task, look):
    encoder = AudioEncoder.from_pretrained(make_tiny("hubert", tmp_path / "hubert"))
    model = MtebEncoder(encoder, tmp_path / "cache")
    (first,) = run_tasks(model, [make_task("tones", folder, look)])
    assert first.error is None
    assert first.score.single == pytest.approx(by_hand(encoder, folder), abs=1e-9)
    assert first.score.score == pytest.approx(np.mean(first.score.single), abs=1e-5)
    n_encoded = model.stored.encoded
    assert 24 + 24 - 1 <= n_encoded <= 45 + 24 - 1  # at least eight per class, at most all; the double once
    (second,) = run_tasks(model, [make_task("again", folder, look)])
    assert second.score.single == first.score.single
    assert model.stored.encoded == n_encoded
    another = MtebEncoder(AudioEncoder.from_pretrained(tmp_path / "hubert"), tmp_path / "cache")
    (third,) = run_tasks(another, [make_task("later", folder, look)])
    assert third.score.single == first.score.single and another.stored.encoded == 0


def test_what_strict_has_stored_serves_mteb_and_the_other_way(tmp_path, folder, monkeypatch):
    mteb_stand_in.install(monkeypatch)
    encoder = AudioEncoder.from_pretrained(make_tiny("hubert", tmp_path / "hubert"))
    ranks = Ranks.launched()

    def embed_for_strict(cache, layers):
        job = Job(protocol="strict", cache_dir=str(cache), layers=layers)
        corpus = load_clips(job, str(folder), ranks)
        settings = settings_for(job, corpus, job.chosen_layers(encoder.n_layers))
        return embed_corpus(encoder, corpus, settings, ranks).work.clips

    for layers in ("last", "all"):
        cache = tmp_path / layers
        assert embed_for_strict(cache, layers) == 68
        model = MtebEncoder(encoder, cache)
        (outcome,) = run_tasks(model, [mteb_stand_in.Task("tones", folder)], overwrite=True)
        assert outcome.score.single == pytest.approx(by_hand(encoder, folder), abs=1e-9)
        assert model.stored.encoded == 0
    model = MtebEncoder(encoder, tmp_path / "mteb first")
    list(run_tasks(model, [mteb_stand_in.Task("tones", folder)], overwrite=True))
    assert model.stored.encoded == 68
    assert embed_for_strict(tmp_path / "mteb first", "last") == 0


def test_a_clip_that_strict_would_cut_is_taken_whole(tmp_path):
    long = wav(0.3 * np.random.default_rng(0).standard_normal(int(31 * RATE)).astype("f4"))
    short = wav(tone(0, 1))
    encoder = AudioEncoder.from_pretrained("logmel")
    stored = StoredEncoder(encoder, tmp_path / "cache")
    rows = make_rows([long, short, long], [0, 1, 2])
    vectors = stored.embed(clips_of(rows, "audio", "rows"))
    expected = encoder.embed([load_audio(clip, encoder.sampling_rate) for clip in (long, short, long)])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert stored.encoded == 2


def test_a_clip_of_just_the_length_that_strict_takes_is_shared_with_it(tmp_path):
    strict, encoder = get_protocol("strict"), AudioEncoder.from_pretrained("logmel")
    longest, longer = (wav(np.full(int(strict.max_seconds * RATE) + more, 0.1, "f4")) for more in (0, 1))
    StoredEncoder(encoder, tmp_path).embed(clips_of(make_rows([longest, longer], [0, 1]), "audio", "rows"))
    settings = EmbedSettings(tmp_path, strict.padding, strict.max_seconds, "last")
    store = EmbeddingStore(settings.cache, settings.key(encoder))
    assert audio_digest(longest) in store and audio_digest(longer) not in store


def test_two_checkpoints_under_one_name_share_no_score(tmp_path, folder, make_task):
    scores = []
    for seed in (0, 1):
        shutil.rmtree(tmp_path / "hubert", ignore_errors=True)
        encoder = AudioEncoder.from_pretrained(make_tiny("hubert", tmp_path / "hubert", seed))
        (outcome,) = run_tasks(MtebEncoder(encoder, tmp_path / "cache"), [make_task("tones", folder)])
        scores.append(outcome.score)
        assert scores[-1].single == pytest.approx(by_hand(encoder, folder), abs=1e-9)
    assert scores[0].file != scores[1].file and scores[0].single != scores[1].single
    assert scores[0].encoder != scores[1].encoder


def test_two_ways_to_encode_share_no_score(tmp_path, monkeypatch):
    """Of one checkpoint, whose name and revision are the same."""
    mteb_stand_in.install(monkeypatch)
    folder = make_tiny("hubert", tmp_path)
    plain, again, half = (
        MtebEncoder(AudioEncoder.from_pretrained(folder, dtype=dtype), tmp_path / "cache").mteb_model_meta
        for dtype in ("float32", "float32", "bfloat16")
    )
    assert (plain.name, plain.revision) == (half.name, half.revision)
    assert plain.experiment_kwargs == again.experiment_kwargs != half.experiment_kwargs


def test_the_command_runs_tasks_and_writes_scores_beside_our_results(tmp_path, folder, monkeypatch, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    make_rows([wav(tone(0, 1)), b"RIFF but no more", wav(tone(1, 2))], [0, 1, 2]).to_parquet(
        broken / "data/test-00000-of-00001.parquet"
    )
    tasks = [mteb_stand_in.Task(*pair) for pair in (("good", folder), ("bad", broken), ("fine", folder))]
    mteb_stand_in.install(monkeypatch, tasks)
    command = ["mteb", "--model_id", "logmel", "--output_dir", "out", "--cache_dir", "cache", "--tasks"]
    assert main([*command, "good", "bad", "fine"]) == 1
    out, err = capsys.readouterr()
    assert "good" in out and "fine" in out and "bad" not in out and "MTEB" in out
    errors = [line for line in err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and errors[0].startswith("error: bad, split test, clip 1: ")
    scores, skipped = read_benchmarks("out")
    assert [score.task for score in scores] == ["fine", "good"] and not skipped
    assert scores[0].benchmark == "MTEB" and scores[0].model.id == "logmel" and scores[0].dataset == str(folder)
    assert scores[0].protocol == "logistic regression on 8 clips per class, 10 draws"
    assert read_results("out") == ([], [])  # never among our own
    monkeypatch.setattr(StoredEncoder, "embed", None)  # what has a result is read back
    assert main([*command, "good"]) == 0


@pytest.mark.parametrize(
    "error, remedy",
    [
        (ConnectionError("Couldn't reach 'mteb/tones' on the Hub (LocalEntryNotFoundError)"), "check the network"),
        (DatasetNotFoundError("Dataset 'mteb/tones' is a gated dataset on the Hub."), "check that your token may read"),
    ],
)
def test_data_that_the_hub_does_not_give_is_no_fault_of_ours(tmp_path, monkeypatch, error, remedy):
    mteb_stand_in.install(monkeypatch)

    def load(task):
        raise error

    monkeypatch.setattr(mteb_stand_in.Task, "load", load)
    model = MtebEncoder(AudioEncoder.from_pretrained("logmel"), tmp_path / "cache")
    (outcome,) = run_tasks(model, [mteb_stand_in.Task("tones", tmp_path)])
    message = str(outcome.error)
    assert "mteb/tones" in message and remedy in message and "traceback" not in message


def test_a_score_that_is_no_number_stops_no_other_task(tmp_path, folder, monkeypatch, capsys):
    tasks = [mteb_stand_in.Task("odd", folder), mteb_stand_in.Task("good", folder)]
    tasks[0].evaluate = lambda encode: [float("nan")]
    tasks[1].evaluate = lambda encode: [0.5, 1.0]
    mteb_stand_in.install(monkeypatch, tasks)
    command = ["mteb", "--model_id", "logmel", "--output_dir", "out", "--cache_dir", "cache", "--tasks", "odd", "good"]
    assert main(command) == 1
    assert "error: odd: its accuracy is no number: see " in capsys.readouterr().err
    assert [score.score for score in read_benchmarks("out")[0]] == [0.75]


@pytest.mark.parametrize(
    "kind, protocol",
    [
        ("AudioMultilabelClassification", "logistic regression of each label on 8 clips per class, 10 draws"),
        ("AudioClassification", "nearest neighbours on 8 clips per class, 10 draws"),
        ("AudioClustering", "mini-batch k-means"),
        ("AudioPairClassification", "similarity of pairs, best over four similarities"),
        ("Any2AnyRetrieval", "cosine similarity"),
    ],
)
def test_a_score_says_its_protocol_and_that_of_each_subset(tmp_path, folder, monkeypatch, kind, protocol):
    mteb = mteb_stand_in.install(monkeypatch)
    parts = [{"hf_subset": name, "main_score": score} for name, score in (("de", 0.2), ("en", 0.4))]
    content = {"scores": {"test": parts}, "mteb_version": "2.26", "dataset_revision": "read"}
    result = SimpleNamespace(task_results=[mteb_stand_in.TaskResult(content)])
    monkeypatch.setattr(mteb, "evaluate", lambda *args, **options: result)
    model = MtebEncoder(AudioEncoder.from_pretrained("logmel"), tmp_path / "cache")
    task = mteb_stand_in.Task("tones", folder, type=kind)
    several = kind == "AudioMultilabelClassification"
    task.evaluator_model = MultiOutputClassifier(LogisticRegression()) if several else KNeighborsClassifier()
    (outcome,) = run_tasks(model, [task])
    score = outcome.score
    assert (score.kind, score.protocol, score.score) == (kind, protocol, pytest.approx(0.3))
    assert (score.subsets, score.single) == ({"test/de": 0.2, "test/en": 0.4}, ())
    assert (score.version, score.dataset_revision) == (
        "2.26",
        "read",
    )  # of the file that mteb gave, not of what is installed


def test_the_command_computes_as_the_launcher_says(tmp_path, folder, monkeypatch):
    mteb_stand_in.install(monkeypatch, [mteb_stand_in.Task("tones", folder)])
    monkeypatch.setattr(Ranks, "dtype", "bfloat16")  # --mixed_precision bf16
    command = [
        "mteb",
        "--model_id",
        str(make_tiny("hubert", tmp_path / "hubert")),
        "--tasks",
        "tones",
        "--cache_dir",
        "cache",
    ]
    assert main([*command, "--output_dir", "launched"]) == 0
    assert main([*command, "--output_dir", "asked", "--dtype", "float32"]) == 0
    dtypes = [read_benchmarks(name)[0][0].environment["dtype"] for name in ("launched", "asked")]
    assert dtypes == ["bfloat16", "float32"]


def test_a_changed_score_is_noticed(tmp_path, folder, monkeypatch):
    mteb_stand_in.install(monkeypatch)
    model = MtebEncoder(AudioEncoder.from_pretrained("logmel"), tmp_path / "cache")
    (outcome,) = run_tasks(model, [mteb_stand_in.Task("tones", folder)])
    path = outcome.score.write("out")
    assert BenchmarkScore.read(path) == outcome.score
    path.write_text(path.read_text().replace('"task": "tones"', '"task": "birds"'))
    assert read_benchmarks("out") == (
        [],
        [f"{path} was changed after it was written (its checksum does not match)"],
    )


def test_tasks_are_found_by_name_and_must_be_of_audio(tmp_path, monkeypatch):
    text = mteb_stand_in.Task("captions", tmp_path, modalities=["audio", "text"])
    mteb_stand_in.install(monkeypatch, [text, mteb_stand_in.Task("tones", tmp_path)])
    assert [task.metadata.name for task in find_tasks(["tones"])] == ["tones"]
    with pytest.raises(UserError, match=r"^mteb has no task 'tone' \(did you mean tones\?\)$"):
        find_tasks(["tone"])
    with pytest.raises(UserError) as error:
        find_tasks(["tone", "tones", "Tonnes", "caption", "zzz"])
    expected = "mteb has no task 'tone' (did you mean tones?), 'Tonnes' (did you mean tones?), 'caption', 'zzz'"
    assert str(error.value) == expected  # what is not of audio alone is not suggested
    with pytest.raises(UserError, match="captions: not of audio alone"):
        find_tasks(["tones", "captions"])
    with pytest.raises(UserError, match="captions: not of audio alone"):
        find_tasks(benchmark="everything")
    with pytest.raises(UserError, match=r"^mteb has no benchmark 'Every thing' \(did you mean everything\?\)$"):
        find_tasks(benchmark="Every thing")


def test_without_mteb_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "mteb", None)
    monkeypatch.setattr(importlib, "import_module", _missing)
    assert main(["mteb", "--model_id", "logmel", "--tasks", "ESC50"]) == 1
    assert capsys.readouterr().err == 'error: mteb is not installed: pip install "arch-hf[mteb]"\n'
    assert main(["mteb", "--model_id", "logmel"]) == 1


def _missing(name, package=None, real=importlib.import_module):
    if name.partition(".")[0] == "mteb":
        raise ModuleNotFoundError(f"No module named {name!r}", name="mteb")
    return real(name, package)


def test_tasks_and_a_benchmark_do_not_go_together(capsys):
    with pytest.raises(SystemExit):
        main(["mteb", "--model_id", "logmel", "--tasks", "A", "--benchmark", "B"])
    assert "give one of them" in capsys.readouterr().err


def test_every_form_of_audio_gives_its_samples(tmp_path):
    samples = tone(1, 5)
    path = tmp_path / "clip.wav"
    path.write_bytes(wav(samples))
    stereo = np.stack([samples, -samples / 2])

    class Decoder:  # as torchcodec's, which an array is asked of
        def __getitem__(self, key):
            return {"array": samples, "sampling_rate": RATE}[key]

    forms = [{"bytes": wav(samples), "path": None}, {"bytes": None, "path": str(path)}, Decoder()]
    forms += [{"array": samples.tolist(), "sampling_rate": RATE}, {"array": samples, "sampling_rate": RATE}]
    forms += [DecodedOnDemand(forms[0])]
    for form in forms:
        np.testing.assert_allclose(load_audio(encoded(form), RATE), samples, atol=2**-15)
    mixed = load_audio(encoded({"array": stereo, "sampling_rate": RATE}), RATE)
    np.testing.assert_allclose(mixed, samples / 4, atol=1e-7)
    rows = [{"audio": form} for form in forms]
    clips = clips_of(rows, "audio", "rows")
    assert len(clips.digests) == len(forms) and clips.digests[0] == clips.digests[1] == clips.digests[5]
    with pytest.raises(UserError, match="rows, clip 1: no audio"):
        clips_of([{"audio": forms[0]}, {"audio": {"bytes": None, "path": None}}], "audio", "rows")


def test_rows_are_decoded_when_looked_at_and_an_empty_clip_is_a_runtime_error():
    rows = make_rows([wav(tone(0, 1)), wav(np.zeros(0, "f4"))], [0, 1])
    with decoded_by_us():
        assert rows[0]["audio"]["sampling_rate"] == RATE
        assert len(rows.cast_column("audio", Audio(sampling_rate=16000))[0]["audio"]["array"]) == 2 * len(tone(0, 1))
        with pytest.raises(RuntimeError):  # what torchcodec raises, and tasks of mteb expect
            rows[1]["audio"]["array"]
        assert rows.filter(lambda row: row["label"] == 0).num_rows == 1
    assert Audio.decode_example.__module__ == "datasets.features.audio"


def test_transforms_of_rows_keep_the_audio_as_it_is():
    clips = [wav(tone(0, 1)), wav(tone(1, 2))]
    rows = make_rows(clips, [0, 1])

    def add(row):
        row["gender_id"] = row["label"]
        return row

    with decoded_by_us():
        mapped = rows.map(add)
    assert [encoded(row) for row in mapped.cast_column("audio", Audio(decode=False))["audio"]] == clips


def test_clips_of_more_than_a_day_are_refused(tmp_path, monkeypatch):
    """Just as long as that is taken, a sample more is not."""
    monkeypatch.setattr("arch_hf.integrations.clips.WHOLE_SECONDS", 0.1)
    stored = StoredEncoder(AudioEncoder.from_pretrained("logmel"), tmp_path)
    just, longer = (
        {"audio": {"bytes": wav(np.full(n, 0.1, "f4")), "path": None}} for n in (RATE // 10, RATE // 10 + 1)
    )
    assert stored.embed(clips_of([just], "audio", "rows")).shape == (1, 128)
    with pytest.raises(UserError, match=r"rows, clip 1: is .* long"):
        stored.embed(clips_of([just, longer], "audio", "rows"))


def test_no_clips_give_no_vectors(tmp_path):
    stored = StoredEncoder(AudioEncoder.from_pretrained("logmel"), tmp_path)
    assert stored.embed(Clips(lambda _: b"", [], str)).size == 0


@needs_mteb
def test_mteb_takes_the_encoder_for_one_of_its_own(tmp_path):
    import mteb

    encoder = AudioEncoder.from_pretrained("logmel")
    model = MtebEncoder(encoder, tmp_path)
    assert isinstance(model, mteb.EncoderProtocol)
    meta = model.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.modalities) == ("local/logmel", 128, ["audio"])
    vectors = np.random.default_rng(0).standard_normal((3, 4)).astype("f4")
    assert model.similarity(vectors, vectors).shape == (3, 3)
    assert np.allclose(np.asarray(model.similarity_pairwise(vectors, vectors)), 1, atol=1e-6)
    assert len(find_tasks(benchmark="MAEB(v1, audio-only)")) == 19


def test_the_draws_are_of_the_tasks_own_metric(tmp_path, folder, monkeypatch):
    mteb_stand_in.install(monkeypatch)
    model = MtebEncoder(AudioEncoder.from_pretrained("logmel"), tmp_path / "cache")
    plain, other = run_tasks(
        model, [mteb_stand_in.Task("plain", folder), mteb_stand_in.Task("other", folder, main_score="errors")]
    )
    assert other.score.metric == "errors" and plain.score.single != other.score.single
    assert other.score.single == pytest.approx([1 - each for each in plain.score.single])
    assert other.score.score == pytest.approx(np.mean(other.score.single), abs=1e-5)


@needs_mteb
def test_clusters_pairs_and_retrieval_of_mteb_run_too(tmp_path, folder):
    from mteb.abstasks import AbsTaskClustering, AbsTaskPairClassification
    from mteb.tasks import FSDD

    def here(name, kind, main_score, path=folder):
        update = {"name": name, "type": kind, "main_score": main_score}
        return FSDD.metadata.model_copy(update=update | {"dataset": {"path": str(path), "revision": "local"}})

    class Clusters(AbsTaskClustering):
        metadata = here("Clusters", "AudioClustering", "v_measure")
        input_column_name, label_column_name = "audio", "label"
        max_fraction_of_documents_to_embed, max_documents_per_cluster, n_clusters = None, 24, 2

    rows = datasets.load_dataset(str(folder), split="test")
    pairs = rows.rename_columns({"audio": "audio1"}).add_column(
        "audio2", rows.cast_column("audio", Audio(decode=False))["audio"][::-1]
    )
    pairs = pairs.remove_columns("label").add_column("label", [i % 2 for i in range(24)])
    pairs = pairs.cast_column("audio2", Audio())
    (tmp_path / "pairs/data").mkdir(parents=True)
    pairs.to_parquet(tmp_path / "pairs/data/test-00000-of-00001.parquet")

    class Pairs(AbsTaskPairClassification):
        metadata = here("Pairs", "AudioPairClassification", "max_ap", tmp_path / "pairs")
        input1_column_name, input2_column_name, label_column_name = "audio1", "audio2", "label"

    model = MtebEncoder(AudioEncoder.from_pretrained("logmel"), tmp_path / "cache")
    clusters, paired = run_tasks(model, [Clusters(), Pairs()])
    assert clusters.error is None and 0 <= clusters.score.score <= 1
    assert paired.error is None and 0 <= paired.score.score <= 1
    assert model.stored.encoded == 24
    assert paired.score.protocol == "similarity of pairs, best over four similarities"
    assert audio_columns.Audio.decode_example.__module__ == "datasets.features.audio"
