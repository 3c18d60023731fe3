"""`arch-hf cache ls|verify|prune`: the embeddings on disk."""

import shutil
from pathlib import Path

from arch_hf.errors import UserError
from arch_hf.terminal import say


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser(
        "cache", help="list, verify or prune the stored embeddings", example="arch-hf cache ls"
    )
    parser.add_argument("action", choices=["ls", "verify", "prune"])
    parser.add_argument("--cache_dir", help="default: $ARCH_HF_CACHE or ~/.cache/huggingface/arch_hf")
    parser.add_argument("--store", help="with prune: remove this whole store (the name that ls prints)")
    parser.set_defaults(run=run)


def run(args) -> int:
    from arch_hf.files import default_cache_dir

    root = Path(args.cache_dir) if args.cache_dir else default_cache_dir()
    return {"ls": _ls, "verify": _verify, "prune": _prune}[args.action](root, args.store)


def _ls(root: Path, _) -> int:
    from safetensors import safe_open

    from arch_hf.embedding.store import stores
    from arch_hf.results.text import align

    rows = [["store", "model", "dtype", "padding", "layers", "clips", "MB"]]
    for folder, recipe, shards in stores(root):
        clips = 0
        for shard in shards:
            with safe_open(shard, framework="numpy") as file:
                clips += file.get_slice("digests").get_shape()[0]
        size = sum(shard.stat().st_size for shard in shards) / 1e6
        cells = [f"{recipe.get('class', '?')} {recipe.get('weights_sha256', '?')[:12]}"]
        cells += [str(recipe.get(key, "?")) for key in ("dtype", "padding", "layers")]
        rows.append([folder.name, *cells, str(clips), f"{size:.1f}"])
    say(align(rows) if len(rows) > 1 else f"no embeddings in {root}")
    return 0


def _verify(root: Path, _) -> int:
    from arch_hf.embedding.store import read_shard, stores
    from arch_hf.progress import progress_bar

    shards = [shard for _, _, paths in stores(root) for shard in paths]
    damaged = []
    for shard in progress_bar("verify", len(shards), True, shards, unit="shard"):
        try:
            read_shard(shard)
        except ValueError as error:
            damaged.append(f"{shard}: {error}")
    say("\n".join([*damaged, f"{len(shards) - len(damaged)} of {len(shards)} shards are whole"]))
    return int(bool(damaged))


def _prune(root: Path, store: str | None) -> int:
    """Remove what no run reads: damaged shards and the temporary files of killed runs; or one whole store."""
    embeddings = root / "embeddings"
    if store:
        folder = embeddings / store
        if folder.parent != embeddings or not folder.is_dir():
            raise UserError(f"no store {store} in {embeddings}: see arch-hf cache ls")
        shutil.rmtree(folder)
        say(f"removed {folder}")
        return 0
    litter = [*root.glob("embeddings/*/*.damaged"), *root.glob("embeddings/*/.*.tmp"), *root.glob("clip_index/.*.tmp")]
    for path in litter:
        path.unlink(missing_ok=True)
    say(f"removed {len(litter)} files")
    return 0
