"""The command line of `pretrain.py`."""

import argparse
import importlib.util
from pathlib import Path

from arch_hf.errors import UserError, run_command


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pretrain.py", description="Pretrain an audio encoder, from a pile of audio to a checkpoint for AutoModel."
    )
    add = parser.add_argument
    add("--objective", choices=["wav2vec2", "hubert"], required=True)
    add("--size", choices=["tiny", "base", "large"], default="base")
    add(
        "--audio",
        nargs="+",
        required=True,
        metavar="FOLDER_OR_DATASET",
        help="folders of audio files, or one dataset (Hub id or folder)",
    )
    add("--output_dir", type=Path, required=True, metavar="OUT")
    add("--max_steps", type=int, help="optimiser steps; the recipe's own by default")
    add("--resume", action="store_true", help="go on from the last checkpoint in OUT, if there is one")
    add("--targets_from", metavar="CHECKPOINT", help="HuBERT's later iterations: the model whose layer is clustered")
    add("--layer", type=int, default=6, help="that layer, 1 being the first block's output (default 6)")
    add("--segments", nargs="+", metavar="CSV", help="AudioSet's segment lists: take only these clips of the folders")
    add("--audio_config", help="the dataset's configuration, as AudioSet's balanced, unbalanced, full")
    add("--audio_split", help="the dataset's split (default train)")
    add("--set", nargs="+", default=[], dest="overrides", metavar="NAME=VALUE", help="change numbers of the recipe")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=2, help="decoding processes per training process (default 2)")
    add("--save_every", type=int, default=1000, metavar="STEPS")
    add("--keep_checkpoints", type=int, default=2, metavar="K")
    add("--log_every", type=int, default=10, metavar="STEPS")
    add("--log_with", nargs="+", choices=["tensorboard", "trackio"], default=[], help="accelerate's trackers")
    add("--gradient_checkpointing", action="store_true", help="less memory for more time")
    return parser


def run(args: argparse.Namespace) -> int:
    for name, least in (
        ("workers", 0),
        ("save_every", 1),
        ("keep_checkpoints", 1),
        ("log_every", 1),
        ("layer", 0),
        ("seed", 0),
    ):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: must be {least} or more")
    for tracker in args.log_with:
        if importlib.util.find_spec(tracker) is None:
            raise UserError(f"--log_with {tracker}: it is not installed; pip install 'arch-hf[pretraining]'")
    from arch_hf.pretraining.loop import pretrain
    from arch_hf.pretraining.preparation import Options

    pretrain(Options(**{**vars(args), "overrides": tuple(args.overrides), "log_with": tuple(args.log_with)}))
    return 0


def main(argv: list[str] | None = None) -> int:
    return run_command(run, build_parser().parse_args(argv))
