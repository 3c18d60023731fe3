"""`arch-hf pretrain`: from a pile of audio to an encoder; the same as `pretrain.py`."""

import argparse
import importlib.util
from pathlib import Path

from arch_hf.cli.parser import whole_number
from arch_hf.errors import UserError, all_of

TRACKERS = ("tensorboard", "trackio", "wandb")


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "pretrain",
        help="pretrain an encoder on a pile of audio",
        description="Pretrain an audio encoder, from a pile of audio to a checkpoint for AutoModel.",
        epilog="Many GPUs: accelerate launch pretrain.py, or torchrun ... pretrain.py, with the same flags.",
        example="arch-hf pretrain --objective hubert --size base --audio PREPARED --output_dir OUT",
    )
    add = parser.add_argument
    add("--objective", choices=["wav2vec2", "hubert"], required=True)
    add("--size", choices=["tiny", "base", "large"], default="base")
    add(
        "--audio",
        nargs="+",
        action="extend",
        required=True,
        metavar="FOLDER_OR_DATASET",
        help="folders that arch-hf prepare-audio made, folders of audio files, or one dataset (Hub id or folder), which is prepared first",
    )
    add("--output_dir", type=Path, required=True, metavar="OUT")
    add("--max_steps", type=whole_number(1), metavar="N", help="optimiser steps (default: the recipe's)")
    add(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in OUT, if any; what steers the run may change",
    )
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="overrides",
        metavar="NAME=VALUE",
        help="change numbers of the recipe",
    )
    add("--seed", type=whole_number(0), help="(default 0)")
    add(
        "--dry_run",
        nargs="?",
        const="",
        metavar="GPU",
        help="say what the run will take, on a named GPU (h100, a100, ...), and end",
    )
    _add_targets(parser.add_argument_group("HuBERT's targets").add_argument)
    _add_data(parser.add_argument_group("data").add_argument)
    _add_records(parser.add_argument_group("what is kept and told").add_argument)
    parser.set_defaults(run=run, check=check)


def _add_targets(add) -> None:
    add("--targets_from", metavar="CHECKPOINT", help="later iterations: the model whose layer is clustered")
    add(
        "--layer",
        type=whole_number(1),
        help="that layer, 1 being the first block's output (default: 6 for base, 9 for large)",
    )
    add("--cache_targets", action="store_true", default=None, help="label all prepared audio once, before training")


def _add_data(add) -> None:
    add(
        "--segments",
        nargs="+",
        action="extend",
        metavar="CSV",
        help="AudioSet's segment lists: take only these clips of the folders",
    )
    add("--audio_config", help="the dataset's configuration, as AudioSet's balanced, unbalanced, full")
    add("--audio_split", help="the dataset's split (default train)")
    add(
        "--workers",
        type=whole_number(0),
        help="decoding processes for each training process (default: its cores; 1 without a GPU)",
    )
    add(
        "--valid",
        nargs="+",
        action="extend",
        metavar="FOLDER",
        help="held-out audio: the objective on it is measured as training goes",
    )
    add(
        "--probe",
        nargs="+",
        action="extend",
        metavar="CORPUS",
        help="small corpora: the main job's score on them is measured as training goes",
    )
    add("--valid_every", type=whole_number(1), metavar="STEPS", help="how often (default 1000)")


def _add_records(add) -> None:
    add("--save_every", type=whole_number(1), metavar="STEPS", help="checkpoints to go on from (default 1000)")
    add("--keep_checkpoints", type=whole_number(1), metavar="K", help="how many of them stay (default 2)")
    add(
        "--export_every",
        type=whole_number(1),
        metavar="STEPS",
        help="also write OUT/exports/step-N for AutoModel on the way",
    )
    add("--log_every", type=whole_number(1), metavar="STEPS", help="steps to a line of the curve (default 10)")
    add("--log_with", nargs="+", action="extend", choices=TRACKERS, default=[], help="accelerate's trackers")
    add("--gradient_checkpointing", action="store_true", default=None, help="less memory for more time")


def check(args: argparse.Namespace) -> None:
    """Raise UserError for what can be seen before anything is loaded."""
    from arch_hf.pretraining.options import Options

    all_of(lambda: _trackers(args.log_with), lambda: _numbers(args), lambda: _options(args, Options).check())


def _numbers(args: argparse.Namespace) -> None:
    """Each number of the recipe is given once."""
    from arch_hf.pretraining.options import TWO_WAYS

    names = [text.partition("=")[0] for text in args.overrides]
    for name in dict.fromkeys(names):
        flag = TWO_WAYS.get(name)
        if flag is not None and getattr(args, flag) is not None:
            raise UserError(f"--set {name}= and --{flag} say the same number: give one of them")
        if names.count(name) > 1:
            raise UserError(f"--set gives {name} twice: once is enough")


def _trackers(names: list[str]) -> None:
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--log_with {name}: it is not installed; pip install 'arch-hf[pretraining]' {name}")


def _options(args: argparse.Namespace, options_class):
    names = options_class.__dataclass_fields__
    values = {name: value for name, value in vars(args).items() if name in names}
    return options_class(**{**values, "overrides": tuple(args.overrides), "log_with": tuple(args.log_with)})


def run(args: argparse.Namespace) -> None:
    from arch_hf.pretraining.options import Options

    options = _options(args, Options)
    if args.dry_run is not None:
        from arch_hf.pretraining.estimate import dry_run
        from arch_hf.terminal import say

        say(dry_run(options, args.dry_run or None))
        return
    from arch_hf.pretraining.loop import pretrain

    pretrain(options)
