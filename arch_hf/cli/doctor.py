"""`arch-hf doctor`: is this machine ready? Versions, codecs, disk, devices and their speed, the Hub, and what each command lacks."""

import importlib.util
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from arch_hf.terminal import say

LIBRARIES = (
    "torch transformers datasets accelerate evaluate huggingface_hub safetensors soundfile soxr scikit-learn".split()
)
# What not everybody needs: module -> who does, and where it comes from.
OPTIONAL = {
    "matplotlib": ("arch-hf report draws no plots", 'pip install "arch-hf[plots]"'),
    "tensorboard": ("pretrain.py writes no TensorBoard log", 'pip install "arch-hf[pretraining]"'),
    "trackio": ("pretrain.py --report_to trackio is refused", 'pip install "arch-hf[pretraining]"'),
    "miniaudio": ("arch-hf pretrain decodes its audio half as fast", 'pip install "arch-hf[pretraining]"'),
    "shtab": ("arch-hf completion is refused", 'pip install "arch-hf[completion]"'),
}
DECODED_SECONDS = 5.0
NEEDS_HUB = (
    "models and datasets by an id of the Hub that are not cached, prepare --download, publish and jobs cannot be used; folders, what is cached and "
    "what is built in can"
)

Line = tuple[bool | None, str]  # is it good (None: nobody needs to do anything about it), and what to say


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="check versions, codecs, disk, devices and the Hub, and say what is missing for which command",
        description="Check this machine: versions, codecs and how fast they decode, disk, CPU and GPU and how fast an encoder runs on them, "
        "whether the Hub answers and who you are there, and what is missing for which command. Status 1 if something of this machine needs mending "
        "(BAD); what only some commands miss, as a network, is no fault (--).",
        example="arch-hf doctor",
    )
    parser.add_argument("--cache_dir", metavar="DIR", help="default: $ARCH_HF_CACHE or ~/.cache/huggingface/arch_hf")
    parser.set_defaults(run=run)


def run(args) -> int:
    from arch_hf.files import default_cache_dir

    root = Path(args.cache_dir) if args.cache_dir else default_cache_dir()
    wrong = 0
    for checks in (_libraries(), _codecs(), [_disk(root)], _devices(), _hub(), _missing()):
        for good, line in checks:
            say(f"{'--' if good is None else 'ok' if good else 'BAD':3}  {line}")
            wrong += good is False
    say(f"{wrong} of the above need{'s' * (wrong == 1)} mending" if wrong else "ready")
    return int(wrong > 0)


def _libraries() -> Iterator[Line]:
    """That they are there, the package itself has seen."""
    import arch_hf

    yield True, f"arch-hf {arch_hf.__version__}, Python {platform.python_version()} on {platform.platform(terse=True)}"
    yield True, ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


def _codecs() -> Iterator[Line]:
    """The formats of the corpora, decoded and resampled for real."""
    import io

    import numpy as np
    import soundfile

    from arch_hf.audio import load_audio
    from arch_hf.errors import AudioError

    rate, wanted = 44_100, 16_000
    tone = 0.1 * np.sin(np.arange(round(DECODED_SECONDS * rate)) * 0.05)
    formats = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]
    for container, subtype in [*formats, ("MP3", "MPEG_LAYER_III")]:
        out = io.BytesIO()
        try:
            soundfile.write(out, tone, rate, format=container, subtype=subtype)
            load_audio(out.getvalue(), wanted)
            start = time.perf_counter()
            samples = load_audio(out.getvalue(), wanted)
            took = 1000 * (time.perf_counter() - start)
            good = abs(len(samples) - DECODED_SECONDS * wanted) < 0.1 * wanted
            yield good, f"codec {container} {subtype}: {took:.1f} ms for {DECODED_SECONDS:g} s of 44.1 kHz, to 16 kHz"
        except (AudioError, ValueError, RuntimeError) as error:
            yield False, f"codec {container} {subtype}: {error}: upgrade soundfile (pip install -U soundfile)"


def _disk(root: Path) -> Line:
    existing = next(parent for parent in [root, *root.absolute().parents] if parent.exists())
    free = shutil.disk_usage(existing).free / 1e9
    writable = os.access(existing, os.W_OK)
    advice = "" if writable else ", but it cannot be written: choose another with --cache_dir or ARCH_HF_CACHE"
    return writable and free > 1, f"cache {root}: {free:.0f} GB free{advice}"


def _devices() -> Iterator[Line]:
    """Each device by name, with the speed of a small encoder on it."""
    import torch

    from arch_hf.distributed import n_cores

    yield True, f"CPU {cpu_name()}: {n_cores()} cores, torch uses {torch.get_num_threads()}; {_speed('cpu')}"
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or not torch.accelerator.is_available():
        yield None, "no GPU that torch can use: everything runs on the CPU"
        return
    kind = accelerator.type
    for index in range(torch.accelerator.device_count()):
        name = f"{kind}:{index}"
        if kind == "cuda":
            facts = torch.cuda.get_device_properties(index)
            name += f" {facts.name}, {facts.total_memory / 1e9:.0f} GB"
        yield True, f"{name}; {_speed(f'{kind}:{index}')}"


def _speed(device: str) -> str:
    from arch_hf.embedding.speed import machine_gflops
    from arch_hf.results.table2 import ARCHITECTURES

    gflops = machine_gflops(device)
    base = gflops / ARCHITECTURES["hubert-base"][3]
    return f"{gflops:.0f} GFLOP/s in a small encoder, so HuBERT base takes about {base:.3g} s of audio per second"


def cpu_name() -> str:
    """What the CPU calls itself."""
    try:
        line = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        line = None
    return line[1] if line else platform.processor() or platform.machine()


def _hub() -> Iterator[Line]:
    """Asked for real: whether it answers, and what the token may do."""
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError

    where = f"the Hub at {constants.ENDPOINT}"
    if constants.HF_HUB_OFFLINE:
        yield None, f"{where}: not asked, since HF_HUB_OFFLINE is set: {NEEDS_HUB}"
        return
    api, start = HfApi(), time.perf_counter()
    try:
        api.repo_exists("facebook/hubert-base-ls960")
        yield True, f"{where}: answers in {1000 * (time.perf_counter() - start):.0f} ms"
    except Exception as error:  # no network, a proxy, a certificate: the HTTP client has a class for each
        yield None, f"{where}: no answer ({type(error).__name__}): {NEEDS_HUB}"
        return
    if get_token() is None:
        yield None, f"{where}: no token; public models and data only, nothing can be pushed (hf auth login)"
        return
    try:
        who = api.whoami()
        role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
        reads_only = "; the token may read only: nothing can be pushed" if role == "read" else ""
        yield True, f"{where}: you are {who['name']}{reads_only}"
    except HfHubHTTPError as error:
        yield False, f"{where}: refuses the token ({error.response.status_code}): hf auth login"


def _missing() -> Iterator[Line]:
    """What some command would miss."""
    from arch_hf.data.official.splitzip import find_program
    from arch_hf.errors import UserError

    for name, (loss, remedy) in OPTIONAL.items():
        if importlib.util.find_spec(name) is None:
            yield None, f"{name} is not installed: {loss} ({remedy})"
    try:
        find_program("FSD50K.dev_audio.zip")
    except UserError as error:
        yield None, f"arch-hf prepare fsd50k --download: {error}"
