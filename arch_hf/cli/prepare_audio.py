"""arch-hf prepare-audio: from a pile of audio to shards for pretraining."""

import argparse
from pathlib import Path

from arch_hf.cli.parser import positive, whole_number


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "prepare-audio",
        help="turn a pile of audio into shards for pretraining",
        description="Turn folders of audio, a csv of segments or a dataset into shards of 16 kHz mono FLAC, which pretrain.py --audio DIR reads "
        "fast. Killed and started again, it goes on; run on a finished folder, it verifies the shards.",
        example="arch-hf prepare-audio agkphysics/AudioSet --config full --output_dir audioset-16k",
    )
    parser.add_argument(
        "source",
        nargs="+",
        help="folders of audio files, one csv with the columns path,start,end, or one dataset (Hub id or folder)",
    )
    parser.add_argument("--output_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--config", help="the dataset's configuration, as AudioSet's balanced, unbalanced, full")
    parser.add_argument("--split", help="the dataset's split (default train)")
    parser.add_argument(
        "--segments",
        nargs="+",
        action="extend",
        default=[],
        metavar="CSV",
        help="AudioSet's segment lists: only these clips of the folders",
    )
    parser.add_argument(
        "--max_seconds", type=positive, default=30.0, help="longer recordings are cut into equal pieces (default 30)"
    )
    parser.add_argument("--workers", type=whole_number(1), help="processes (default: one for each core)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from arch_hf.pretraining.prepare_audio import Source, prepare_audio
    from arch_hf.terminal import say

    source = Source(tuple(args.source), args.config, args.split, tuple(args.segments), args.max_seconds)
    manifest = prepare_audio(source, args.output_dir, args.workers)
    say(
        f"{args.output_dir}: {manifest['clips']} clips, {manifest['hours']:.2f} h, {manifest['bytes'] / 1e9:.3f} GB in "
        f"{len(manifest['shards'])} shards; {manifest['skipped']} skipped"
        + (" (skipped.jsonl says why)" if manifest["skipped"] else "")
    )
