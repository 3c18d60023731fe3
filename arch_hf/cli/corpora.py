"""`arch-hf prepare` and `arch-hf validate`."""

import sys
from pathlib import Path

from arch_hf.cli.parser import whole_number
from arch_hf.errors import UserError
from arch_hf.terminal import say


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "prepare",
        help="turn a corpus's raw archive into a folder for load_dataset",
        example="arch-hf prepare esc50 --raw_dir raw/esc50 --download",
        description="Read a corpus's raw archive and write Parquet shards, a dataset card and eval.yaml.",
    )
    parser.add_argument(
        "corpus", metavar="CORPUS", help="one of the twelve (arch-hf list corpora), or path/to/mycorpus.py"
    )
    parser.add_argument("--raw_dir", type=Path, help="the unpacked archive, with or without its top folder")
    parser.add_argument("--output_dir", type=Path, help="default: arch/CORPUS")
    parser.add_argument(
        "--download", action="store_true", help="fetch and unpack the official archives into --raw_dir first"
    )
    parser.add_argument(
        "--sampling_rate", type=whole_number(1), help="re-encode to mono FLAC at this rate; default: bytes as they are"
    )
    parser.add_argument("--num_proc", type=whole_number(1), default=1, help="clips to work on at a time; default: 1")
    parser.add_argument(
        "--allow_partial", action="store_true", help="go on without audio files that the metadata lists"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an --output_dir that prepare made before")
    parser.add_argument("--push_to_hub", metavar="NAMESPACE", help="upload to NAMESPACE/CORPUS afterwards")
    parser.add_argument("--private", action="store_true", help="with --push_to_hub: as a private repo")
    parser.set_defaults(run=run_prepare, check=check_prepare)

    parser = subparsers.add_parser(
        "validate",
        help="check a prepared corpus against its specification",
        example="arch-hf validate esc50 --path arch/esc50",
        description="Check counts, classes, splits, durations and decodability of a prepared corpus. Status 1 if it is wrong.",
    )
    parser.add_argument("corpus", metavar="CORPUS", help="one of the twelve, or path/to/mycorpus.py")
    parser.add_argument("--path", type=Path, help="the prepared folder; default: arch/CORPUS")
    parser.add_argument("--num_proc", type=whole_number(1), default=1, help="clips to decode at a time; default: 1")
    parser.add_argument(
        "--leakage",
        action="store_true",
        help="also report clips and groups on both sides of a split, and Freesound ids shared with other corpora beside it",
    )
    parser.set_defaults(run=run_validate)


def check_prepare(args) -> None:
    if args.private and not args.push_to_hub:
        raise UserError("--private goes with --push_to_hub")


def run_prepare(args) -> int:
    from arch_hf.data.registry import SYNTHETIC_NAMES, get_corpus

    corpus = get_corpus(args.corpus)
    if corpus.name in SYNTHETIC_NAMES:
        raise UserError(f"{corpus.name} needs no preparation: evaluate it as it is")
    if args.push_to_hub:
        from arch_hf.publishing.dataset import check_licence, push_dataset
        from arch_hf.publishing.hub import check_repo_id

        check_repo_id(f"{args.push_to_hub}/{corpus.name}")
        check_licence(
            {"corpus": corpus.name, "rehost": corpus.rehost, "rehost_reason": corpus.rehost_reason}, args.private
        )
    from arch_hf.data.official.aside import check_target
    from arch_hf.data.official.prepare import prepare

    output_dir = args.output_dir or Path("arch") / corpus.name
    check_target(output_dir, args.overwrite)
    raw_dir = _raw_dir(corpus, args.raw_dir, args.download)
    prepared = prepare(
        corpus,
        raw_dir,
        output_dir,
        sampling_rate=args.sampling_rate,
        num_proc=args.num_proc,
        allow_partial=args.allow_partial,
        overwrite=args.overwrite,
    )
    _report(prepared, output_dir)
    if args.push_to_hub:
        say(push_dataset(output_dir, f"{args.push_to_hub}/{corpus.name}", private=args.private))
    return 0


def _raw_dir(corpus, raw_dir: Path | None, download: bool) -> Path:
    if not download:
        if raw_dir is None:
            raise UserError(f"give --raw_dir, the folder with {corpus.layout or 'the unpacked archive'}, or --download")
        return raw_dir
    if not corpus.sources:
        raise UserError(f"{corpus.name} has no download; get it from {corpus.homepage} and give --raw_dir")
    from arch_hf.data.official.archives import check_programs, extract_all
    from arch_hf.data.official.download import fetch_sources, file_name

    raw_dir = raw_dir or Path("raw") / corpus.name
    check_programs([file_name(source) for source in corpus.sources])
    extract_all(fetch_sources(corpus.sources, raw_dir / "downloads"), raw_dir)
    return raw_dir


def _report(prepared, output_dir: Path) -> None:
    corpus = prepared.corpus
    sizes = ", ".join(f"{name} {split['clips']}" for name, split in prepared.splits.items())
    say(
        f"{corpus.title}: {prepared.clips} clips, {prepared.seconds / 3600:.2f} h, {len(corpus.classes)} classes ({sizes})"
    )
    if prepared.excluded:
        say(f"excluded, as known to be bad: {', '.join(clip['clip_id'] for clip in prepared.excluded)}")
    if known := [clip_id for clip_id in prepared.missing if clip_id in corpus.known_missing]:
        say(f"not in the official archive: {', '.join(known)}")
    if prepared.short_splits:
        full = sum(corpus.splits.values()) - len(prepared.excluded) - len(known)
        say(f"incomplete: the full corpus has {full} clips; arch-hf validate names what is missing", file=sys.stderr)
    if prepared.unreadable:
        first = prepared.unreadable[0]
        say(
            f"{len(prepared.unreadable)} clips do not read as audio, {first['clip_id']} first ({first['reason']})",
            file=sys.stderr,
        )
    if prepared.missing_credits:
        files = ", ".join(prepared.missing_credits)
        say(
            f"before you pass it on: its licence wants {files} of the archive beside it, not in --raw_dir",
            file=sys.stderr,
        )
    say(f"written to {output_dir}")
    say(f'load_dataset("{output_dir}"), or: arch-hf evaluate --model_id MODEL --datasets {output_dir}')


def run_validate(args) -> int:
    from arch_hf.data.registry import get_corpus

    corpus = get_corpus(args.corpus)
    from arch_hf.data.official.validate import report, validate

    validation = validate(corpus, args.path or Path("arch") / corpus.name, num_proc=args.num_proc, leakage=args.leakage)
    say(report(validation))
    return 1 if validation.faults else 0
