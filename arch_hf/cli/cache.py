"""`arch-hf cache ls|verify|prune`: the embeddings on disk."""

import shutil
import time
from pathlib import Path

from arch_hf.errors import UserError
from arch_hf.terminal import say

ABANDONED = 3600  # seconds after which a temporary file is of a run that was killed: a living one renames its own within moments


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "cache", help="list, verify or prune the stored embeddings", example="arch-hf cache ls"
    )
    parser.add_argument("action", choices=["ls", "verify", "prune"])
    parser.add_argument("--cache_dir", help="default: $ARCH_HF_CACHE or ~/.cache/huggingface/arch_hf")
    parser.add_argument("--store", help="with prune: remove this whole store (the name that ls prints)")
    parser.set_defaults(run=run, check=check)


def check(args) -> None:
    if args.store and args.action != "prune":
        raise UserError(f"--store goes with prune: {args.action} looks at all stores")


def run(args) -> int:
    from arch_hf.files import default_cache_dir

    root = Path(args.cache_dir) if args.cache_dir else default_cache_dir()
    return {"ls": _ls, "verify": _verify, "prune": _prune}[args.action](root, args.store)


def _ls(root: Path, _) -> int:
    from arch_hf.embedding.store import clips_in, stores
    from arch_hf.results.text import align

    rows = [["store", "model", "dtype", "padding", "layers", "clips", "MB"]]
    for folder, recipe, shards in stores(root):
        size = sum(path.stat().st_size for path in shards if path.exists()) / 1e6
        cells = [f"{recipe.get('class', '?')} {str(recipe.get('weights_sha256', '?'))[:12]}"]
        cells += [str(recipe.get(key, "?")) for key in ("dtype", "padding", "layers")]
        rows.append([folder.name, *cells, str(clips_in(shards)), f"{size:.1f}"])
    say(align(rows) if len(rows) > 1 else f"no embeddings in {root}")
    return 0


def _verify(root: Path, _) -> int:
    from tqdm.auto import tqdm

    from arch_hf.embedding.store import read_shard, stores

    damaged, whole, shards = [], 0, []
    for folder, recipe, paths in stores(root):
        shards += paths
        if paths and not recipe:
            damaged.append(f"{folder / 'recipe.json'}: not what this store is named after")
    for path in tqdm(shards, desc="verify", unit="shard", leave=False):
        try:
            read_shard(path)
            whole += 1
        except FileNotFoundError:  # removed by somebody else in the meantime
            continue
        except ValueError as error:
            damaged.append(f"{path}: {error}")
    say("\n".join([*damaged, f"{whole} of {len(shards)} shards are whole" if shards else f"no embeddings in {root}"]))
    return int(bool(damaged))


def _prune(root: Path, store: str | None) -> int:
    """Remove what no run reads: damaged shards, the temporary files of killed runs, and notes of results that are gone; or one whole store."""
    if store:
        return _remove_store(root / "embeddings", store)
    from arch_hf.cli.asked_before import NOTES, notes_of_nothing

    temporary = [path for place in ("embeddings/*", "clip_index", NOTES) for path in root.glob(f"{place}/.*.tmp")]
    litter = [*root.glob("embeddings/*/*.damaged"), *filter(_is_abandoned, temporary), *notes_of_nothing(root)]
    removed = 0
    for path in litter:
        try:
            path.unlink(missing_ok=True)
            removed += 1
        except OSError as error:
            raise UserError(f"cannot remove {path} ({error.strerror}); {removed} files were removed") from None
    say(f"removed {removed} files")
    return 0


def _is_abandoned(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > ABANDONED
    except OSError:  # renamed or removed in the meantime: its writer is alive
        return False


def _remove_store(embeddings: Path, store: str) -> int:
    """Under another name first, so that a run that reads it finds it whole or not at all."""
    if store not in {path.name for path in embeddings.glob("*/")}:
        raise UserError(f"no store {store} in {embeddings}: see arch-hf cache ls")
    folder, going = embeddings / store, embeddings / f".{store}.{time.time_ns()}.removed"
    try:
        folder.rename(going)
        shutil.rmtree(going)
    except OSError as error:
        raise UserError(f"cannot remove {folder} ({error.strerror})") from None
    say(f"removed {folder}")
    return 0
