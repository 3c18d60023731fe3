"""The embedding store: every clip is encoded once, ever, and nothing half-written is read.

A store is a folder per *recipe* (weights, preprocessing, dtype, padding, seconds, layers), named by the recipe's hash and holding
`recipe.json` and any number of shards. A shard is a safetensors file of two tensors, `digests` (uint8 [clips, 16]: which
audio) and `embeddings` (float32 [clips, dim] or [clips, layers, dim]), with the SHA-256 of both in its header.

Clips are known by the digest of their encoded bytes, not by name or position: two corpora, two folds or two runs that hold the
same audio share one embedding, and a clip whose audio was changed in place is a new clip. Shards are only ever added, each
under a name of its own and renamed into place when whole, so that any number of processes may write at once without a lock;
the worst that can happen is that two of them encode the same clip.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from arch_hf.files import DIGEST_BYTES, checksum, write_atomically


def read_shard(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A shard's `digests` and `embeddings`, checked against its checksum.

    Raises:
        ValueError: if the file is damaged, truncated or no shard; the message says which.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            digests, embeddings = file.get_tensor("digests"), file.get_tensor("embeddings")
            expected = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"not a whole shard ({error})") from None
    if checksum(digests, embeddings) != expected:
        raise ValueError("checksum does not match")
    return digests, embeddings


class EmbeddingStore:
    """The embeddings of one recipe.

    Args:
        root: the cache folder; the store lives in `root/embeddings/<hash of the recipe>`.
        recipe: everything an embedding depends on besides the audio, as plain JSON values.
        warn: called with one line for each damaged shard that was set aside.

    Example:
        >>> import tempfile
        >>> from arch_hf.files import audio_digest
        >>> store = EmbeddingStore(Path(tempfile.mkdtemp()), {"weights_sha256": "ab", "padding": "none"})
        >>> one, two = audio_digest(b"one"), audio_digest(b"two")
        >>> store.add([one], np.ones((1, 3), np.float32))
        >>> one in store, two in store
        (True, False)
        >>> store.read([one, one]).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """

    def __init__(self, root: Path, recipe: dict, warn=lambda line: None):
        text = json.dumps(recipe, sort_keys=True, indent=1)
        self.recipe = recipe
        self.folder = Path(root) / "embeddings" / hashlib.sha256(text.encode()).hexdigest()[:24]
        self._warn = warn
        self._shards: dict[str, np.ndarray] = {}
        self._rows: dict[bytes, tuple[str, int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the shards that other processes have added since; set damaged ones aside."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name in self._shards:
                continue
            try:
                digests, _ = read_shard(path)
            except ValueError as error:
                self._warn(f"warning: {path} is damaged ({error}); set aside, its clips will be encoded again")
                _set_aside(path)
                continue
            self._index(path.name, digests)

    def _index(self, name: str, digests: np.ndarray) -> None:
        self._shards[name] = digests
        for row, digest in enumerate(digests):
            self._rows.setdefault(digest.tobytes(), (name, row))

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, digests: Sequence[bytes], embeddings: np.ndarray) -> None:
        """Store float32 embeddings [clips, dim] or [clips, layers, dim] under their clips' digests, as one new shard."""
        if len(digests) == 0:
            return
        keys = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), DIGEST_BYTES)
        embeddings = np.ascontiguousarray(embeddings, np.float32)
        recipe_path = self.folder / "recipe.json"
        if not recipe_path.exists():
            write_atomically(recipe_path, json.dumps(self.recipe, sort_keys=True, indent=1).encode())
        name = f"{uuid.uuid4().hex}.safetensors"
        metadata = {"sha256": checksum(keys, embeddings)}
        write_atomically(self.folder / name, save({"digests": keys, "embeddings": embeddings}, metadata))
        self._index(name, keys)

    def read(self, digests: Sequence[bytes], layer: int | None = None) -> np.ndarray:
        """The embeddings of these clips in this order: float32 [clips, dim] (or [clips, layers, dim] when `layer` is None and
        the store holds all layers). `layer` picks one of a store of all layers.

        Raises:
            KeyError: if a clip is not in the store.
        """
        wanted: dict[str, list[tuple[int, int]]] = {}
        for position, digest in enumerate(digests):
            name, row = self._rows[digest]
            wanted.setdefault(name, []).append((position, row))
        out = None
        for name, pairs in wanted.items():
            with safe_open(self.folder / name, framework="numpy") as file:
                embeddings = file.get_tensor("embeddings")
            if layer is not None:
                embeddings = embeddings[:, layer]
            if out is None:
                out = np.empty((len(digests), *embeddings.shape[1:]), np.float32)
            positions, rows = np.array(pairs).T
            out[positions] = embeddings[rows]
        return out if out is not None else np.empty((0, 0), np.float32)


def _set_aside(path: Path) -> None:
    try:
        os.replace(path, path.with_suffix(".damaged"))
    except OSError:
        pass  # a read-only cache: the shard is ignored, and stays where it is


def stores(root: Path) -> Iterator[tuple[Path, dict, list[Path]]]:
    """Every store under the cache folder: its folder, its recipe ({} when unreadable) and its shards."""
    for folder in sorted((Path(root) / "embeddings").glob("*/")):
        try:
            recipe = json.loads((folder / "recipe.json").read_text())
        except (OSError, ValueError):
            recipe = {}
        yield folder, recipe, sorted(folder.glob("*.safetensors"))
