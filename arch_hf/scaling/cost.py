"""How long a cell takes on a machine, before it runs: from what was measured, and from operations counted.

A cell decodes and encodes every clip, then trains probes. The encoder's operations per second of audio are Table 2's or are counted; what a
machine does in a second is measured on this one, or taken from a table of accelerators. Where a result of the model was made on a device of the
same kind, the speed measured there counts instead. All this is for time limits, orders of magnitude and budgets, no more.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from arch_hf.data import load_corpus
from arch_hf.data.registry import CORPUS_NAMES, SYNTHETIC_NAMES, get_corpus
from arch_hf.data.spec import Corpus
from arch_hf.distributed import find_device, n_cores
from arch_hf.embedding import AudioEncoder
from arch_hf.embedding.baselines import BASELINES
from arch_hf.embedding.speed import gflop_per_second, machine_gflops
from arch_hf.errors import UserError
from arch_hf.job import Job
from arch_hf.probing.protocols import AdamW
from arch_hf.results.result import Result
from arch_hf.results.table2 import ARCHITECTURES, TABLE2_MODELS

START_S = 30.0  # imports, loading the model, finding the data
DECODE_S = 1e-3  # of one core for a second of audio: MP3, the slowest codec of the twelve, with resampling
PROBE_SHARE = 0.25  # of a CPU's speed with encoders, that it reaches with probes (benchmarks/README.md, "Probe")
ITERATIONS = 40  # of L-BFGS for one strength, warm-started from the one before
PROBE_STEP_S = 1e-4  # of an accelerator, for a step of many small kernels
ENCODER_SHARE = 0.4  # of an accelerator's peak that an encoder reaches
BASE_SIZE = (13, 768)  # hidden states and their size, of the models whose own are not known
# Peak TFLOP/s of a dense matrix product: float32 without tensor cores, and half precision with them. From NVIDIA's data sheets.
ACCELERATORS: Mapping[str, tuple[float, float]] = {
    "t4": (8.1, 65.0),
    "a10g": (31.5, 70.0),
    "l4": (30.3, 121.0),
    "l40s": (91.6, 362.0),
    "a100": (19.5, 312.0),
    "h100": (66.9, 989.0),
    "h200": (66.9, 989.0),
    "rtx pro 6000": (125.0, 503.0),
}


@dataclass(frozen=True)
class Machine:
    """Where cells run: `kind` is "cpu" or "cuda", `gflops` what an encoder gets of it per second (in units of 1e9), `price` in dollars an
    hour, 0 where nobody asks for one."""

    name: str
    kind: str
    gflops: float
    cores: int
    price: float = 0.0


@dataclass(frozen=True)
class Cost:
    """Seconds that a cell takes, and whether the encoder's part of it is known from a result of the model on such a device."""

    seconds: float
    measured: bool


@dataclass(frozen=True)
class ModelSize:
    """What of a model says how long it takes: operations per second of audio in units of 1e9, hidden states, their size, and the seconds of its
    window, where it has one."""

    gflop: float
    n_layers: int
    width: int
    window: float | None = None


def this_machine(device: str | None = None, dtype: str | None = None) -> Machine:
    """The machine that this runs on, measured."""
    import torch

    best = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    which = find_device(device) if device else best or torch.device("cpu")
    name = torch.cuda.get_device_name(which) if which.type == "cuda" else which.type
    return Machine(f"this machine ({name})", which.type, machine_gflops(which, dtype), n_cores())


def accelerator(name: str, dtype: str | None = None) -> Machine:
    """A machine with one accelerator of the table, and eight cores.

    Raises:
        UserError: it is not in the table.

    Examples:
        >>> accelerator("A100").gflops, accelerator("a100", "bfloat16").gflops
        (7800.0, 124800.0)
    """
    key = name.lower()
    if key not in ACCELERATORS:
        raise UserError(f"unknown --machine {name!r}: choose one of here, {', '.join(ACCELERATORS)}")
    full, half = ACCELERATORS[key]
    peak = half if dtype in ("bfloat16", "float16") else full
    return Machine(name, "cuda", 1000 * peak * ENCODER_SHARE, cores=8)


def model_size(cell: Job) -> ModelSize:
    """Of a model of Table 2 what is known of it; any other is loaded, and its operations are counted.

    Examples:
        >>> model_size(Job("facebook/hubert-base-ls960"))
        ModelSize(gflop=14.33, n_layers=13, width=768, window=None)
    """
    for row in TABLE2_MODELS:
        if row.model_id == cell.model_id:
            settings = cast(Mapping[str, int], ARCHITECTURES[row.architecture][1])
            n_layers = settings.get("num_hidden_layers", BASE_SIZE[0] - 1) + 1
            return ModelSize(row.gflop_per_second, n_layers, settings.get("hidden_size", BASE_SIZE[1]))
    encoder = AudioEncoder.from_pretrained(cell.model_id, cell.revision, trust_remote_code=cell.trust_remote_code)
    gflop = 0.0 if cell.model_id in BASELINES else gflop_per_second(encoder)
    window = encoder.inputs.window / encoder.sampling_rate if encoder.inputs.window else None
    return ModelSize(gflop, encoder.n_layers, encoder.embedding_size, window)


@dataclass(frozen=True)
class DataSize:
    """What of a dataset says how long it takes: clips, seconds of each on average, classes, folds that are tested, and training clips of one."""

    corpus: Corpus
    clips: int
    seconds: float
    classes: int
    folds: int
    train: int


def data_size(cell: Job) -> DataSize:
    """Of a built-in corpus by its facts, without looking at it; any other is loaded."""
    (name,) = cell.datasets
    short = name.removeprefix("arch/")
    if short in CORPUS_NAMES + SYNTHETIC_NAMES:
        corpus = get_corpus(short)
        sizes = {split: min(n, cell.limit or n) for split, n in corpus.splits.items()}
        classes = corpus.table1[2] if corpus.table1 else len(corpus.classes)
    else:
        options = {"limit": cell.limit, "streaming": cell.streaming, **cell.dataset_options}
        data = load_corpus(name, data_dir=cell.data_dir, **options)
        corpus, splits = data.corpus, list(data.table.split)
        sizes = {split: splits.count(split) for split in corpus.splits}
        classes = len(corpus.classes)
    clips = sum(sizes.values())
    seconds = corpus.table1[1] if corpus.table1 else corpus.max_seconds or cell.rules.max_seconds or BASE_SECONDS
    if corpus.is_cross_validated:
        return DataSize(corpus, clips, seconds, classes, len(sizes), round(0.8 * clips * (1 - 1 / len(sizes))))
    return DataSize(corpus, clips, seconds, classes, 1, sizes.get("train", clips))


BASE_SECONDS = 10.0  # of a clip, where nothing is known


def estimate(cell: Job, model: ModelSize, data: DataSize, machine: Machine, speed: float | None = None) -> Cost:
    """How long the cell takes; `speed` is how many seconds of audio the model was seen to take in a second on such a device.

    Examples:
        >>> cell = Job("facebook/hubert-base-ls960", ("esc50",))
        >>> machine = Machine("a laptop", "cpu", gflops=186, cores=2)
        >>> round(estimate(cell, model_size(cell), data_size(cell), machine).seconds / 60)
        14
    """
    rules = cell.rules
    most = rules.max_seconds or data.corpus.max_seconds or data.seconds
    each = most if rules.padding == "max_length" else min(data.seconds, most)
    if model.window:
        each = math.ceil(each / model.window) * model.window
    audio = data.clips * each
    encode = audio / speed if speed else audio * model.gflop / machine.gflops
    decode = data.clips * data.seconds * DECODE_S / machine.cores
    layers = 1 if cell.layers == "last" else model.n_layers if cell.layers == "all" else cell.layers.count(",") + 1
    probe = layers * _probe_seconds(cell, model, data, machine)
    if machine.kind == "cpu":
        return Cost(START_S + encode + decode + probe, speed is not None)  # the same cores do all of it
    return Cost(START_S + max(encode, decode) + probe, speed is not None)


def _probe_seconds(cell: Job, model: ModelSize, data: DataSize, machine: Machine) -> float:
    """How long the probes of one layer take. On an accelerator those of all folds and seeds train together."""
    training = cell.rules.training
    if isinstance(training, AdamW):
        runs, passes, steps = (
            data.folds * cell.seeds,
            training.epochs,
            training.epochs * data.train / training.batch_size,
        )
    else:  # nothing is random in it
        runs, passes = data.folds, len(training.strengths) * ITERATIONS
        steps = passes
    if machine.kind == "cpu":
        flop = runs * passes * data.train * 6 * model.width * data.classes
        return flop / 1e9 / (PROBE_SHARE * machine.gflops)
    return steps * PROBE_STEP_S


def estimate_all(cells: Sequence[Job], machine: Machine, results: Sequence[Result] = ()) -> list[Cost]:
    """How long each cell takes on the machine; results that are there already say how fast models were seen to be."""
    speeds = measured_speeds(results, machine.kind)
    models = {model_id: model_size(cell) for model_id, cell in {cell.model_id: cell for cell in cells}.items()}
    data = {name: data_size(cell) for name, cell in {cell.datasets: cell for cell in cells}.items()}
    return [
        estimate(
            cell,
            models[cell.model_id],
            data[cell.datasets],
            machine,
            speeds.get((cell.shown_name, cell.dtype or "float32")),
        )
        for cell in cells
    ]


def measured_speeds(results: Sequence[Result], kind: str) -> dict[tuple[str, str], float]:
    """The fastest that each model was seen on a device of that kind: (name, dtype) -> seconds of audio per second."""
    speeds: dict[tuple[str, str], float] = {}
    for result in results:
        speed, key = result.timing.audio_s_per_s, (result.model.id, result.environment.get("dtype", "float32"))
        if speed and result.environment.get("device") == kind:
            speeds[key] = max(speed, speeds.get(key, 0.0))
    return speeds
