"""Other benchmarks' programs with our encoder, against their own wrappers in the same run.

    python benchmarks/integrations.py mteb --model FOLDER --digits FOLDER --work FOLDER [--rounds 2]
    python benchmarks/integrations.py xares --models FOLDER ... --esc50 FOLDER --work FOLDER [--example xares/example/wav2vec2/wav2vec2_encoder.py]

mteb: the model is a HuBERT in a folder; the digits are the Free Spoken Digit Dataset in AudioMNIST's layout. mteb's own FSDD task runs on them (its
columns, a local Parquet for the Hub id) with our encoder and with mteb's HubertWrapper: the accuracy of every experiment, which clips
differ and why, and clips per second of each one's `encode`. Needs the extra `mteb`. The clips have the model's rate already, so that
nobody resamples.

xares: its own task, five folds, on tars made of ESC-50 (or of a part of it in the same layout), for each model and for X-ARES's wav2vec2 example, whose
hard-wired model is replaced by a random one of its width; how far a clip's vector moves with the clips beside it. Needs the extra `xares` and a
torchaudio that decodes.
"""

import argparse
import csv
import importlib.util
import io
import json
import os
import shutil
import sys
import tarfile
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
from datasets import Audio, ClassLabel, Dataset, Features
from sklearn.base import clone

from arch_hf.audio import encode_wav, load_audio
from arch_hf.data.streaming import audio_as_it_is
from arch_hf.embedding import AudioEncoder
from arch_hf.integrations.audio_columns import clips_of, decoded_by_us

RATE = 16000
TEST_REPETITIONS = 5  # FSDD's own split: the first five recordings of each digit by each speaker


def write_digits(raw: Path, folder: Path) -> None:
    """The digits at RATE in Parquet, with FSDD's columns and splits."""
    rows = {"train": [], "test": []}
    for path in sorted(raw.rglob("*.wav")):
        digit, speaker, repetition = path.stem.split("_")
        audio = {"bytes": encode_wav(load_audio(path, RATE), RATE), "path": path.name}
        split = "test" if int(repetition) < TEST_REPETITIONS else "train"
        rows[split].append({"audio": audio, "label": int(digit), "speaker": speaker})
    speakers = sorted({row["speaker"] for part in rows.values() for row in part})
    names = ClassLabel(names=[str(digit) for digit in range(10)]), ClassLabel(names=speakers)
    features = Features(audio=Audio(), label=names[0], speaker=names[1])
    (folder / "data").mkdir(parents=True, exist_ok=True)
    with audio_as_it_is():
        for split, part in rows.items():
            table = Dataset.from_list(part, features=features)
            table.to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))


class Timed:
    """A wrapper of mteb whose `encode` is timed, and whose vectors are kept; `instead` are vectors to give in place of its own."""

    def __init__(self, model, instead=None, dtype=np.float32):
        self.model, self.seconds, self.clips, self.vectors = model, np.zeros(2), 0, {}
        self.instead, self.dtype = instead or {}, dtype

    def __getattr__(self, name):
        return getattr(self.model, name)

    def encode(self, inputs, *, hf_split: str, **kwargs):
        start = np.array([time.perf_counter(), time.process_time()])
        vectors = self.model.encode(inputs, hf_split=hf_split, **kwargs)
        self.seconds += np.array([time.perf_counter(), time.process_time()]) - start
        self.clips += len(vectors)
        digests = clips_of(inputs.dataset, "audio", "").digests
        self.vectors |= dict(zip(digests, vectors, strict=True))
        given = [self.instead.get(digest, own) for digest, own in zip(digests, vectors, strict=True)]
        return np.stack(given).astype(self.dtype)

    def similarity(self, *vectors):
        return self.model.similarity(*vectors)

    def similarity_pairwise(self, *vectors):
        return self.model.similarity_pairwise(*vectors)

    @property
    def rates(self) -> np.ndarray:
        """Clips per second of the clock and of a core; others' work on the machine does not lengthen the second."""
        return self.clips / self.seconds


def local_tasks(folder: Path) -> SimpleNamespace:
    """mteb's FSDD and two more tasks over the same clips: who speaks, and clusters of digits."""
    from mteb.abstasks import AbsTaskClustering
    from mteb.tasks import FSDD

    def here(name: str, **others):
        dataset = {"path": str(folder), "revision": "local"}
        return FSDD.metadata.model_copy(update={"dataset": dataset, "name": name, **others})

    class LocalFSDD(FSDD):
        metadata = here("LocalFSDD")

    class LocalSpeakers(FSDD):
        metadata = here("LocalSpeakers")
        label_column_name = "speaker"

    class LocalClustering(AbsTaskClustering):
        metadata = here("LocalClustering", type="AudioClustering", main_score="v_measure")
        input_column_name, label_column_name = "audio", "label"
        max_fraction_of_documents_to_embed = None

    return SimpleNamespace(digits=LocalFSDD, speakers=LocalSpeakers, clustering=LocalClustering)


def run_mteb(task_class, model, exact: bool = False) -> dict:
    """mteb's evaluator on one task, without its cache of results; the scores of its first split. `exact` lets its classifier's solver go on to the
    optimum, where mteb stops it after 100 steps."""
    import mteb

    task = task_class()
    if exact:
        task.evaluator_model = clone(task.evaluator_model).set_params(max_iter=100_000, tol=1e-8)
    with decoded_by_us():
        found = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
    (scores,) = found.task_results[0].scores["test"]
    return scores


def last_frame_lost(n_samples: int, n_frames: int) -> bool:
    """Whether HubertWrapper's division (samples / (samples / frames), the first in float32) gives a frame too few."""
    ratio = n_samples / n_frames
    return int((torch.tensor([n_samples]).float() / ratio).long()) < n_frames


def without_torchaudio() -> None:
    """mteb's wrapper imports torchaudio before it looks whether there is anything to resample."""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        sys.modules["torchaudio"] = ModuleType("torchaudio")


def compare_mteb(args) -> None:
    from mteb.models import ModelMeta
    from mteb.models.model_implementations.hubert_models import HubertWrapper

    from arch_hf.integrations.mteb import MtebEncoder

    without_torchaudio()
    torch.set_num_threads(args.threads)
    folder = args.work / "digits"
    shutil.rmtree(folder, ignore_errors=True)
    write_digits(args.digits, folder)
    tasks = local_tasks(folder)
    encoder = AudioEncoder.from_pretrained(args.model)
    again = []
    for i in range(args.rounds):
        cache = args.work / f"cache{i}"
        shutil.rmtree(cache, ignore_errors=True)
        theirs = Timed(HubertWrapper(args.model, revision=None, device="cpu"))
        theirs.model.mteb_model_meta = ModelMeta.create_empty({"name": "mteb/hubert", "modalities": ["audio"]})
        ours = Timed(MtebEncoder(encoder, cache))
        whole = []
        for model in (theirs, ours):
            start = np.array([time.perf_counter(), time.process_time()])
            run_mteb(tasks.digits, model)
            whole.append(np.array([time.perf_counter(), time.process_time()]) - start)
        encoded = ours.stored.encoded
        second = Timed(MtebEncoder(AudioEncoder.from_pretrained(args.model), cache))
        for name in ("digits", "speakers", "clustering"):
            found = run_mteb(getattr(tasks, name), second)
            again.append((name, found["main_score"], second.stored.encoded))
        for k, what in enumerate(("clips/s", "clips/s of a core")):
            rates = [model.rates[k] for model in (theirs, ours, second)]
            print(
                f"round {i}: theirs {rates[0]:.0f} {what}, ours {rates[1]:.0f} ({rates[1] / rates[0]:.1f} times), "
                f"again {rates[2]:.0f} ({rates[2] / rates[0]:.1f} times); {encoded} clips encoded at first; the whole task, with mteb's "
                f"loading and its classifier: {whole[0][k]:.1f} s and {whole[1][k]:.1f} s ({whole[0][k] / whole[1][k]:.1f} times)"
            )
    for name, score, encoded in again:
        print(f"{name}: {score:.4f}, {encoded} clips encoded")
    lost = report_differences(folder, encoder, theirs.vectors, ours.vectors)
    compare_draws(tasks.digits, second.model, theirs.vectors, lost, args)


def compare_draws(task_class, stored, theirs: dict, lost: list[bytes], args) -> None:
    """The accuracy of every draw with each kind of vectors, beside that of theirs."""
    from arch_hf.integrations.mteb import MtebEncoder

    plain = AudioEncoder.from_pretrained(args.model, fast=False)
    plain.batch_seconds = 0.001  # one clip at a time
    plain_model = MtebEncoder(plain, args.work / "plain")
    of_lost = {digest: theirs[digest] for digest in lost}
    rng = np.random.default_rng(0)
    columns = [("ours", stored, {}), (f"ours but for the {len(lost)} clips that lose a frame", stored, of_lost)]
    columns += [("the same, modules as transformers made them, one clip at a time", plain_model, of_lost)]
    for i in range(3):
        noisy = {digest: (v * (1 + 1e-6 * rng.standard_normal(v.shape))).astype("f4") for digest, v in theirs.items()}
        columns.append((f"theirs with noise of 1e-6, {i}", stored, noisy))
    for exact in (False, True):
        dtype = np.float64 if exact else np.float32

        def draws(model, instead, exact=exact, dtype=dtype) -> np.ndarray:
            scores = run_mteb(task_class, Timed(model, instead, dtype), exact)
            return np.array([one["accuracy"] for one in scores["scores_per_experiment"]])

        reference = draws(stored, theirs)
        print(f"accuracy of every draw, {'at the optimum, in float64' if exact else 'as mteb solves it'}")
        print(f"  theirs: {' '.join(f'{value:.4f}' for value in reference)}")
        for name, model, instead in columns:
            found = draws(model, instead)
            equal = found == reference
            print(
                f"  {name}: {' '.join(f'{value:.4f}' for value in found)}; {equal.sum()} of {len(equal)} equal",
                flush=True,
            )


def report_differences(folder: Path, encoder: AudioEncoder, theirs: dict, ours: dict) -> list[bytes]:
    """How far the vectors lie apart: of clips that lose their last frame by rounding, and of all others. Returns the digests of the former."""
    from datasets import load_dataset

    distances: dict[bool, list[float]] = {True: [], False: []}
    shortened = []
    for part in load_dataset(str(folder)).values():
        clips = clips_of(part, "audio", "")
        for i, digest in enumerate(clips.digests):
            if digest in theirs:
                samples = load_audio(clips.audio(i), RATE)
                lost = last_frame_lost(len(samples), encoder.n_frames(len(samples)))
                distances[lost].append(float(np.abs(theirs[digest] - ours[digest]).max()))
                shortened += [digest] if lost else []
    for lost, found in distances.items():
        what = "lose their last frame to rounding" if lost else "keep all frames"
        print(
            f"{len(found)} clips {what}: largest difference {max(found, default=0):.2e}, median {np.median(found or [0]):.2e}"
        )
    return shortened


def write_tars(raw: Path, folder: Path) -> int:
    """ESC-50's clips and their classes in X-ARES's form, a tar a fold, the first half of each cut to 1 to 4 s; returns how many classes there
    are."""
    folder.mkdir(parents=True)
    rows = list(csv.DictReader((raw / "meta" / "esc50.csv").open(encoding="utf-8")))
    classes = sorted({row["category"] for row in rows})
    by_fold: dict[str, list[dict]] = {}
    for row in rows:
        by_fold.setdefault(row["fold"], []).append(row)
    for fold, members in by_fold.items():
        with tarfile.open(folder / f"wds-audio-fold-{fold}-0000000.tar", "w") as tar:
            for i, row in enumerate(members):
                samples = (
                    load_audio(raw / "audio" / row["filename"], RATE) * 0.9
                )  # X-ARES drops clips that reach full scale
                cut = samples[: RATE * (1 + i % 4)] if 2 * i < len(members) else samples
                label = json.dumps({"label": classes.index(row["category"])}).encode()
                for suffix, content in (("wav", encode_wav(cut, RATE)), ("json", label)):
                    entry = tarfile.TarInfo(f"{Path(row['filename']).stem}.{suffix}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    (folder / ".audio_tar_ready").touch()
    return len(classes)


def stored_means(folder: Path) -> dict[str, np.ndarray]:
    """What X-ARES has stored, averaged over time as its MLP does, by the name of the clip."""
    means = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for entry in tar:
                if entry.name.endswith(".npy"):
                    # X-ARES puts the number of the batch behind the name, which has an A to F of its own at its end.
                    name = entry.name.removesuffix(".npy").rstrip("0123456789")
                    frames = torch.from_numpy(np.load(io.BytesIO(tar.extractfile(entry).read())))
                    means[name] = frames.T.contiguous().mean(-1).numpy()
    return means


def the_example(path: Path, work: Path):
    """X-ARES's wav2vec2 encoder with a random model of its width under the name that it asks for; its folder."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder = work / "facebook" / "wav2vec2-large-100k-voxpopuli"
    torch.manual_seed(0)
    sizes = {"hidden_size": 1024, "num_hidden_layers": 1, "num_attention_heads": 8, "intermediate_size": 1024}
    Wav2Vec2Model(
        Wav2Vec2Config(**sizes, conv_dim=[64] * 7, num_conv_pos_embeddings=16, feat_extract_norm="layer")
    ).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    spec = importlib.util.spec_from_file_location("wav2vec2_encoder", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Wav2vec2Encoder, folder


def compare_xares(args) -> None:
    import xares.audiowebdataset  # noqa: F401  before our encoder, as in X-ARES's runner
    from xares.audio_encoder_checker import check_audio_encoder
    from xares.task import TaskConfig, XaresTask

    from arch_hf.integrations.xares import FrozenEncoder

    torch.set_num_threads(args.threads)
    args.work = args.work.absolute()
    models, example = [str(Path(model).absolute()) for model in args.models], args.example and args.example.absolute()
    shutil.rmtree(args.work, ignore_errors=True)
    n_classes = write_tars(args.esc50, args.work / "one" / "esc50")
    shutil.copytree(args.work / "one", args.work / "sixteen")
    os.chdir(args.work)
    makers = [lambda model=model: FrozenEncoder(model) for model in models]
    if example:
        theirs, folder = the_example(example, args.work)
        makers += [theirs, lambda: FrozenEncoder(str(folder))]
    for make in makers:
        encoder = make()
        assert check_audio_encoder(encoder)
        vectors, scores = [], None
        for batch, name in ((1, "one"), (16, "sixteen")):
            config = TaskConfig(
                name="esc50", encoder=encoder, k_fold_splits=[1, 2, 3, 4, 5], output_dim=n_classes, env_root=args.work / name,
                batch_size_encode=batch, label_processor=lambda label: label["label"], num_encoder_workers=args.workers, torch_num_threads=args.threads,
            )  # fmt: skip
            task = XaresTask(config)
            start = time.perf_counter()
            task.make_encoded_tar()
            seconds = time.perf_counter() - start
            vectors.append(stored_means(task.encoded_tar_dir))
            if name == "sixteen":
                scores = task.run_mlp()[0], task.run_knn()[0]
        alone, together = vectors
        assert alone.keys() == together.keys()
        moved = [np.abs(alone[key] - together[key]).max() / max(np.abs(alone[key]).max(), 1e-12) for key in alone]
        print(
            f"{type(encoder).__name__}: {len(alone)} clips, MLP {scores[0]:.4f}, kNN {scores[1]:.4f}; a clip's vector beside fifteen "
            f"others moves by {max(moved):.1e} (median {np.median(moved):.1e}) of its largest number; {seconds:.0f} s to encode"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("mteb")
    command.add_argument("--model", required=True)
    command.add_argument("--digits", type=Path, required=True)
    command.add_argument("--work", type=Path, required=True, help="for the Parquet and the stores; overwritten")
    command.add_argument("--rounds", type=int, default=2)
    command.add_argument("--threads", type=int, default=2, help="of PyTorch; set OMP_NUM_THREADS=1 for scikit-learn")
    command.set_defaults(run=compare_mteb)
    command = commands.add_parser("xares")
    command.add_argument("--models", nargs="+", required=True)
    command.add_argument("--esc50", type=Path, required=True)
    command.add_argument("--example", type=Path)
    command.add_argument("--work", type=Path, required=True, help="for tars and scores; overwritten")
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--workers", type=int, default=0, help="processes that read the tars")
    command.set_defaults(run=compare_xares)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
