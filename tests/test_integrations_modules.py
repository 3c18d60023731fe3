"""X-ARES and HEAR: what their programs ask of an encoder."""

import importlib
import importlib.util
import io
import json
import sys
import tarfile
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from tiny_models import make_tiny

from arch_hf.embedding import AudioEncoder
from arch_hf.errors import UserError
from arch_hf.integrations import hear, xares
from arch_hf.integrations.module import EncoderModule
from arch_hf.integrations.xares import FrozenEncoder

RATE = 16000


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE)).astype("f4"))


def padded(clips: list[torch.Tensor], width: int | None = None) -> torch.Tensor:
    """As X-ARES makes a batch of clips: zeros behind each."""
    out = torch.zeros(len(clips), width or max(map(len, clips)))
    for row, clip in zip(out, clips, strict=True):
        row[: len(clip)] = clip
    return out


@pytest.mark.parametrize("family", ["hubert", "wav2vec2-large", "whisper", "ast", "clap", "sew", "encodec"])
def test_frames_of_a_padded_batch_average_to_what_embed_gives_alone(tmp_path, family):
    encoder = FrozenEncoder(str(make_tiny(family, tmp_path)))
    rate = encoder.sampling_rate
    clips = [noise(seconds * rate / RATE, seed) for seed, seconds in enumerate((0.5, 1.3, 0.9))]
    alone = encoder.encoder.embed([clip.numpy() for clip in clips])
    together, beside_a_long_one = encoder(padded(clips)), encoder(padded([*clips, noise(2 * rate / RATE, 9)]))
    assert together.dtype == torch.float32 and together.shape[::2] == (3, encoder.output_dim)
    np.testing.assert_allclose(together.mean(1).numpy(), alone, atol=2e-6)
    np.testing.assert_allclose(beside_a_long_one[:3].mean(1).numpy(), alone, atol=2e-6)


def test_a_clip_that_ends_in_silence_is_told_from_padding(tmp_path, monkeypatch):
    """X-ARES's own function pads, in whichever process; without it a clip ends with its last sample that is not zero."""
    module = ModuleType("xares.audiowebdataset")

    def pad(tensors, padding_value=0.0):
        width = max(map(len, tensors))
        rows = [F.pad(tensor, (0, width - len(tensor)), value=padding_value) for tensor in tensors]
        return torch.stack(rows), torch.tensor([len(tensor) for tensor in tensors])

    silent_end = torch.cat([noise(0.5), torch.zeros(RATE // 2)])
    clips = [silent_end, noise(1.7, 2)]
    encoder = FrozenEncoder(str(make_tiny("hubert", tmp_path)))
    cut = encoder.encoder.embed([noise(0.5).numpy()])[0]
    np.testing.assert_allclose(encoder(pad(clips)[0]).mean(1)[0].numpy(), cut, atol=2e-6)
    module.pad = pad
    monkeypatch.setitem(sys.modules, "xares.audiowebdataset", module)
    encoder = FrozenEncoder(str(tmp_path))
    FrozenEncoder(str(tmp_path))  # watches once only
    batch, lengths = module.pad(clips)
    assert torch.equal(batch, pad(clips)[0]) and lengths.tolist() == [len(clip) for clip in clips]
    assert module.pad(clips, padding_value=-1.0)[0][0, -1] == -1
    whole = encoder.encoder.embed([clip.numpy() for clip in clips])
    np.testing.assert_allclose(encoder(batch).mean(1).numpy(), whole, atol=2e-6)
    np.testing.assert_allclose(encoder(module.pad([silent_end])[0]).mean(1).numpy(), whole[:1], atol=2e-6)


def test_digital_silence_does_not_depend_on_its_batch(tmp_path):
    encoder = FrozenEncoder(str(make_tiny("hubert", tmp_path)))
    short, long = encoder(torch.zeros(1, RATE)), encoder(torch.zeros(1, 3 * RATE))
    np.testing.assert_array_equal(short.mean(1).numpy(), long.mean(1).numpy())


def test_long_clips_go_in_equal_pieces(tmp_path, monkeypatch):
    encoder = FrozenEncoder(str(make_tiny("hubert", tmp_path)))
    monkeypatch.setattr(xares, "PIECE_SECONDS", 1.0)
    clip = noise(2.4).numpy()
    pieces = [frames.states for frames in encoder.encoder.frames(np.array_split(clip, 3))]
    np.testing.assert_allclose(encoder(torch.from_numpy(clip))[0].numpy(), np.concatenate(pieces), atol=1e-6)
    assert encoder(noise(2)).shape[1] == 2 * encoder.encoder.n_frames(RATE)  # two pieces, not three


def test_the_class_is_named_after_the_checkpoint(tmp_path):
    """X-ARES keeps vectors and scores under the name of the class."""
    names = [
        type(FrozenEncoder(str(make_tiny("hubert", tmp_path / f"{seed}/model", seed)))).__name__ for seed in (0, 1)
    ]
    again = type(FrozenEncoder(str(tmp_path / "0/model"))).__name__
    half = type(FrozenEncoder(str(tmp_path / "0/model"), dtype="bfloat16")).__name__
    assert names[0] == again and len({*names, half}) == 3
    assert all(name.endswith("Encoder") and name.isidentifier() for name in (*names, half))


def test_the_runner_finds_one_encoder_in_the_module_and_its_model_in_the_environment(monkeypatch):
    """What xares.run does with `arch_hf/integrations/xares.py`: the one name that ends with "Encoder", called without arguments."""
    module = importlib.import_module("arch_hf/integrations/xares.py".replace("/", ".")[:-3])
    (name,) = [name for name in dir(module) if name.endswith("Encoder")]
    monkeypatch.setenv("ARCH_HF_MODEL_ID", "logmel")
    encoder = getattr(module, name)()
    assert isinstance(encoder, torch.nn.Module) and encoder.output_dim == 128
    assert encoder(torch.randn(2, 50000)).shape == (2, 1, 128)
    monkeypatch.delenv("ARCH_HF_MODEL_ID")
    with pytest.raises(UserError, match="no model is named"):
        getattr(module, name)()


def test_hops_are_those_of_the_frames(tmp_path):
    for family, hop in (
        ("hubert", 20.0),
        ("whisper", 20.0),
        ("ast", 100.0),
        ("sew", 20.0),
        ("wav2vec2-adapter", 160.0),
    ):
        encoder = FrozenEncoder(str(make_tiny(family, tmp_path / family)))
        times = encoder.encoder.frames([noise(4).numpy()])[0].times
        assert encoder.hop_size_in_ms == pytest.approx(hop)
        assert 1000 * np.diff(times).mean() == pytest.approx(hop)


def test_a_module_moves_to_where_it_is_sent(monkeypatch):
    module = EncoderModule("logmel", device="cpu")
    loads = []
    monkeypatch.setattr(module, "_load", lambda: loads.append(module._options["device"]) or module.encoder)
    assert module.to("cpu") is module and module.to(torch.float32) is module and not loads
    module.to(torch.device("meta"))
    assert loads == [torch.device("meta")]


def test_the_environment_names_the_revision_too(monkeypatch):
    asked = []
    load = AudioEncoder.from_pretrained
    monkeypatch.setattr(
        AudioEncoder, "from_pretrained", lambda *named, **options: asked.append(named) or load("logmel")
    )
    monkeypatch.setenv("ARCH_HF_MODEL_ID", "me/model")
    EncoderModule()
    monkeypatch.setenv("ARCH_HF_REVISION", "v2")
    EncoderModule()
    EncoderModule("me/other", "v3")
    assert asked == [("me/model", None), ("me/model", "v2"), ("me/other", "v3")]


def make_tars(folder, n_folds: int = 2) -> None:
    """Tars as X-ARES's: a sound and its label as JSON, a file a fold; clips of several lengths."""
    folder.mkdir(parents=True)
    for fold in range(n_folds):
        with tarfile.open(folder / f"wds-audio-fold-{fold}-0000000.tar", "w") as tar:
            for i in range(8):
                label = i % 2
                time = np.arange(int(RATE * (0.4 + 0.1 * i))) / RATE
                sound = (
                    0.2 * np.sin(2 * np.pi * (300, 900)[label] * time)
                    + 0.05 * noise(len(time) / RATE + 1, i).numpy()[: len(time)]
                )
                wav = io.BytesIO()
                soundfile.write(wav, sound, RATE, format="WAV")
                for suffix, content in (("wav", wav.getvalue()), ("json", json.dumps({"label": label}).encode())):
                    entry = tarfile.TarInfo(f"clip{fold}{i}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    (folder / ".audio_tar_ready").touch()


def xares_runs() -> bool:
    """Whether X-ARES is installed and torchaudio, which it needs, loads beside this PyTorch."""
    if importlib.util.find_spec("xares") is None:
        return False
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


@pytest.mark.skipif(not xares_runs(), reason="the extra xares is not installed, or torchaudio does not load")
def test_a_task_of_xares_runs_to_its_scores_for_two_checkpoints(tmp_path, monkeypatch):
    from xares.audio_encoder_checker import check_audio_encoder
    from xares.task import TaskConfig, XaresTask

    monkeypatch.chdir(tmp_path)
    make_tars(tmp_path / "env/tones")
    scores, folders = [], []
    for seed in (0, 1):
        encoder = FrozenEncoder(str(make_tiny("hubert", tmp_path / f"{seed}", seed)))
        assert check_audio_encoder(encoder)
        config = TaskConfig(
            name="tones", encoder=encoder, k_fold_splits=[0, 1], output_dim=2, epochs=2, num_encoder_workers=0,
            label_processor=lambda label: label["label"], env_root=str(tmp_path / "env"), do_knn=False,
        )  # fmt: skip
        task = XaresTask(config)
        task.make_encoded_tar()
        scores.append(task.run_mlp()[0])
        folders.append(task.ckpt_dir)
        vectors = stored_means(task.encoded_tar_dir)
        for key, clip in sounds(tmp_path / "env/tones").items():
            alone = encoder.encoder.embed([clip])[0]
            found = next(vector for name, vector in vectors.items() if name.startswith(key))
            np.testing.assert_allclose(found, alone, atol=2e-6)
    assert folders[0] != folders[1] and all(0 <= score <= 1 for score in scores)


def stored_means(folder) -> dict[str, np.ndarray]:
    return {name: np.load(file).mean(0) for name, file in members(folder, ".npy")}


def sounds(folder) -> dict[str, np.ndarray]:
    return {name[:-4]: soundfile.read(file, dtype="float32")[0] for name, file in members(folder, ".wav")}


def members(folder, ending):
    """Name and content of each file of that ending in a folder's tars."""
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for entry in tar:
                if entry.name.endswith(ending):
                    yield entry.name, io.BytesIO(tar.extractfile(entry).read())


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "whisper", "logmel"])
def test_what_hears_validator_asks_by_hand(tmp_path, family):
    """The checks of hearvalidator 2021.0.6, which no Python from 3.9 on can install."""
    model = hear.load_model("logmel" if family == "logmel" else str(make_tiny(family, tmp_path)))
    assert isinstance(model, torch.nn.Module) and model.to("cpu") is model
    assert model.sample_rate in (16000, 22050, 32000, 44100, 48000)
    assert type(model.scene_embedding_size) is int and type(model.timestamp_embedding_size) is int
    for length in (1.07, 1.98, 4.0):
        audio = torch.rand(2, int(length * model.sample_rate)) * 2 - 1
        embeddings, times = hear.get_timestamp_embeddings(audio, model)
        assert embeddings.dtype == torch.float32 and embeddings.shape == (
            2,
            times.shape[1],
            model.timestamp_embedding_size,
        )
        assert times.shape[0] == 2 and times.max() <= 1000 * length and times.min() >= 0
        if times.shape[1] > 1:
            steps = times.diff()
            assert (steps - steps.mean()).abs().max() <= 1 and steps.max() <= 50
            assert times.min() <= steps.mean() and times.max() >= 1000 * length - 50
    scenes = hear.get_scene_embeddings(torch.rand(4, int(2.74 * model.sample_rate)) * 2 - 1, model)
    assert scenes.dtype == torch.float32 and scenes.shape == (4, model.scene_embedding_size)


def test_hears_embeddings_are_ours(tmp_path):
    model = hear.load_model(str(make_tiny("hubert", tmp_path)))
    audio = torch.stack([noise(1.5, seed) for seed in (1, 2)])
    scenes = hear.get_scene_embeddings(audio, model)
    embeddings, times = hear.get_timestamp_embeddings(audio, model)
    np.testing.assert_allclose(scenes.numpy(), model.encoder.embed(list(audio.numpy())), atol=1e-6)
    np.testing.assert_allclose(embeddings.mean(1).numpy(), scenes.numpy(), atol=2e-6)
    assert times[0, :2].tolist() == pytest.approx([12.5, 32.5])
    with pytest.raises(ValueError, match="sounds, samples"):
        hear.get_scene_embeddings(audio[0], model)


@pytest.mark.parametrize(
    "shape, line", [((2, 0), "sounds 0 to 1 have no samples"), ((1, 0), "sound 0 has no samples"), ((0, 9), "no sound")]
)
def test_a_batch_without_sound_is_one_line(shape, line):
    model = hear.load_model("logmel")
    for take in (hear.get_scene_embeddings, hear.get_timestamp_embeddings):
        with pytest.raises(UserError, match=line) as error:
            take(torch.zeros(shape), model)
        assert len(str(error.value).splitlines()) == 1
    if shape[0]:
        with pytest.raises(UserError, match=line):
            FrozenEncoder("logmel")(torch.zeros(shape))


def test_hears_times_lie_within_the_sound(tmp_path):
    """Also of a sound shorter than what one frame hears, which is padded."""
    model = hear.load_model(str(make_tiny("hubert", tmp_path)))
    _, times = hear.get_timestamp_embeddings(torch.randn(2, 100), model)
    assert times.tolist() == [[3.125], [3.125]]


def test_hear_takes_only_its_own_rates(tmp_path):
    with pytest.raises(UserError, match="takes audio at 24000 Hz, which HEAR does not give"):
        hear.load_model(str(make_tiny("encodec", tmp_path)))


def test_other_names_of_the_environment_variable_are_not_read(monkeypatch):
    monkeypatch.setenv("ARCH_HF_MODEL_ID", "logmel")
    assert hear.load_model().encoder.model_id == "logmel"
    assert SimpleNamespace(**vars(hear)).load_model("mfcc").encoder.model_id == "mfcc"
