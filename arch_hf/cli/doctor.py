"""`arch-hf doctor`: is this machine ready? Codecs, disk, devices, versions, the Hub."""

import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "evaluate", "huggingface_hub", "safetensors")
LIBRARIES += ("soundfile", "soxr", "scikit-learn", "matplotlib")


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "doctor", help="check codecs, disk, devices, versions and the Hub", example="arch-hf doctor"
    )
    parser.add_argument("--cache_dir", help="default: $ARCH_HF_CACHE or ~/.cache/huggingface/arch_hf")
    parser.set_defaults(run=run)


def run(args) -> int:
    from arch_hf.files import default_cache_dir

    root = Path(args.cache_dir) if args.cache_dir else default_cache_dir()
    checks = [*_libraries(), *_codecs(), _disk(root), *_devices(), _hub()]
    for good, line in checks:
        print(f"{'ok ' if good else 'BAD'}  {line}")
    return int(not all(good for good, _ in checks))


def _libraries():
    for name in LIBRARIES:
        try:
            yield True, f"{name} {version(name)}"
        except PackageNotFoundError:
            optional = name == "matplotlib"
            yield optional, f"{name} is not installed: pip install {'arch-hf[plots]' if optional else name}"


def _codecs():
    """The formats of the corpora, decoded for real."""
    import io

    import numpy as np
    import soundfile

    from arch_hf.audio import load_audio
    from arch_hf.errors import AudioError

    tone = 0.1 * np.sin(np.arange(22050) * 0.05)
    formats = [("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]
    for container, subtype in formats:
        out = io.BytesIO()
        try:
            soundfile.write(out, tone, 22050, format=container, subtype=subtype)
            samples = load_audio(out.getvalue(), 16000)
            yield abs(len(samples) - 16000) < 1600, f"codec {container} {subtype}"
        except (AudioError, ValueError, RuntimeError) as error:
            yield False, f"codec {container} {subtype}: {error}: upgrade soundfile (pip install -U soundfile)"


def _disk(root: Path):
    existing = next(parent for parent in [root, *root.absolute().parents] if parent.exists())
    free = shutil.disk_usage(existing).free / 1e9
    writable = os.access(existing, os.W_OK)
    return writable and free > 1, f"cache {root}: {free:.0f} GB free{'' if writable else ', but it cannot be written'}"


def _devices():
    import torch

    yield True, f"CPU, {os.cpu_count()} cores, torch uses {torch.get_num_threads()}"
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield True, f"GPU {index}: {device.name}, {device.total_memory / 1e9:.0f} GB"
    if not torch.cuda.is_available():
        yield True, "no GPU that torch can use: everything runs on the CPU"


def _hub():
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    if constants.HF_HUB_OFFLINE:
        return True, "the Hub: offline by HF_HUB_OFFLINE, only folders and what is cached can be used"
    try:
        return True, f"the Hub at {constants.ENDPOINT}: logged in as {HfApi().whoami()['name']}"
    except LocalTokenNotFoundError:
        return (
            True,
            f"the Hub at {constants.ENDPOINT}: no token; public models only, nothing can be pushed (hf auth login)",
        )
    except HfHubHTTPError as error:
        return False, f"the Hub at {constants.ENDPOINT} refuses the token ({error.response.status_code}): hf auth login"
    except Exception as error:  # no network, a proxy, a certificate: the HTTP client has a class for each
        return False, f"the Hub at {constants.ENDPOINT} cannot be reached ({type(error).__name__})"
