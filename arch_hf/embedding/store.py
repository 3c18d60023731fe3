"""The embedding store: every clip is encoded once, ever, and nothing half-written is read.

A store is a folder per *recipe* (weights, preprocessing, dtype, padding, seconds, layers), named by the recipe's hash and holding
`recipe.json` and any number of shards. A shard is a safetensors file of two tensors, `digests` (uint8 [clips, 16]: which
audio) and `embeddings` (float32 [clips, dim] or [clips, layers, dim]). Its header names the store that it belongs to and the versions that
made it, and holds a checksum over all of this.

Clips are known by the digest of their encoded bytes, not by name or position: two corpora, two folds or two runs that hold the
same audio share one embedding, and a clip whose audio was changed in place is a new clip. Shards are only ever added, each
under a name of its own and renamed into place when whole, so that any number of processes may write at once without a lock;
the worst that can happen is that two of them encode the same clip. Which of the two is read does not depend on who looks: it is the one in the
shard whose name comes first.

Opening a store reads which clips its shards hold. Their checksums are compared before the embeddings are used, once for all processes of a
machine (`arch_hf.embedding.corpus`): hashing every shard on every process would take longer than encoding a small corpus.
"""

import hashlib
import json
import os
import platform
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

import arch_hf
from arch_hf.errors import UserError
from arch_hf.files import DIGEST_BYTES, checksum, write_atomically

FORMAT = 2  # of the shards
_LIBRARIES = ("torch", "transformers")


def read_shard(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A shard's `digests` and `embeddings`, checked against its checksum and the store in which it lies.

    Raises:
        FileNotFoundError: it is gone.
        ValueError: if the file is damaged, truncated, of another store or no shard; the message says which.
    """
    with _opened(path) as file:
        digests, embeddings, header = file.get_tensor("digests"), file.get_tensor("embeddings"), file.metadata() or {}
    if checksum(digests, embeddings, text=_stamp(header)) != header.get("sha256"):
        raise ValueError("checksum does not match")
    if header.get("store") != path.parent.name:
        raise ValueError(f"it was written for the store {header.get('store')}")
    return digests, embeddings


class _opened:
    """A shard opened for reading; what safetensors and the system say about a file that is none is a ValueError."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Any:
        try:
            self.file = safe_open(self.path, framework="numpy").__enter__()
        except (SafetensorError, OSError) as error:
            self._raise(error)
        return self.file

    def __exit__(self, _: Any, error: BaseException | None, traceback: Any) -> None:
        self.file.__exit__(None, None, None)
        if isinstance(error, (SafetensorError, OSError)):
            self._raise(error)

    def _raise(self, error: BaseException) -> None:
        if isinstance(error, FileNotFoundError):
            raise error
        raise ValueError(f"not a whole shard ({error})") from None


def _stamp(header: dict[str, str]) -> str:
    """What a shard says of itself, as its checksum covers it."""
    return json.dumps([header.get("store"), header.get("made_by")])


@dataclass(frozen=True)
class _Shard:
    """What is known of a shard without reading its embeddings."""

    digests: np.ndarray
    made_by: str


def _look_into(path: Path) -> _Shard:
    """
    Raises:
        FileNotFoundError, ValueError: as `read_shard`; the checksum of the embeddings is not compared here.
    """
    with _opened(path) as file:
        digests, shape, header = (
            file.get_tensor("digests"),
            file.get_slice("embeddings").get_shape(),
            file.metadata() or {},
        )
    if digests.shape != (shape[0], DIGEST_BYTES) or len(shape) not in (2, 3):
        raise ValueError("it does not say whose embeddings it holds")
    if checksum(digests) != header.get("digests_sha256"):
        raise ValueError("checksum does not match")
    return _Shard(digests, header.get("made_by", ""))


class EmbeddingStore:
    """The embeddings of one recipe.

    Args:
        root: the cache folder; the store lies in `root/embeddings/<hash of the recipe>`.
        recipe: everything an embedding depends on besides the audio, as plain JSON values.
        maker: the versions and the device by which embeddings are made here; kept beside them.
        warn: called with one line for each damaged shard that was set aside.

    Examples:
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

    def __init__(self, root: Path, recipe: dict, maker: str = "", warn: Callable[[str], None] = lambda line: None):
        self.recipe = recipe
        self.folder = Path(root) / "embeddings" / store_name(recipe)
        self._maker = maker
        self._warn = warn
        self._shards: dict[str, _Shard] = {}
        self._rows: dict[bytes, tuple[str, int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """See what other processes have added or removed since; set aside what is no shard."""
        there = {path.name: path for path in sorted(self.folder.glob("*.safetensors"))}
        self._shards = {name: shard for name, shard in self._shards.items() if name in there}
        for name in there.keys() - self._shards.keys():
            try:
                self._shards[name] = _look_into(there[name])
            except FileNotFoundError:  # removed in between
                continue
            except ValueError as error:
                self._set_aside(there[name], error)
        self._index()

    def _index(self) -> None:
        self._rows = {}
        for name, shard in sorted(self._shards.items()):
            for row, digest in enumerate(shard.digests):
                self._rows.setdefault(digest.tobytes(), (name, row))

    def _set_aside(self, path: Path, error: Exception) -> None:
        self._warn(f"warning: {path} is damaged ({error}); set aside, its clips will be encoded again")
        try:
            os.replace(path, path.with_suffix(".damaged"))
        except OSError:
            pass  # a read-only cache: the shard is ignored, and stays where it is

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def shards_of(self, digests: Iterable[bytes]) -> list[str]:
        """The names of the shards from which the embeddings of these clips would be read, in order."""
        return sorted({self._rows[digest][0] for digest in digests if digest in self._rows})

    def check(self, names: Iterable[str]) -> list[str]:
        """Compare the checksums of these shards; set aside what is damaged, and return its names."""
        damaged = []
        for name in names:
            try:
                read_shard(self.folder / name)
            except FileNotFoundError:
                damaged.append(name)
            except ValueError as error:
                self._set_aside(self.folder / name, error)
                damaged.append(name)
        self.forget(damaged)
        return damaged

    def forget(self, names: Iterable[str]) -> None:
        """Read nothing from these shards, whether they are still there or not."""
        for name in names:
            self._shards.pop(name, None)
        self._index()

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
        header = {"store": self.folder.name, "made_by": self._maker, "digests_sha256": checksum(keys)}
        header["sha256"] = checksum(keys, embeddings, text=_stamp(header))
        write_atomically(self.folder / name, save({"digests": keys, "embeddings": embeddings}, header))
        self._shards[name] = _Shard(keys, self._maker)
        self._index()

    def read(self, digests: Sequence[bytes], layer: int | None = None) -> np.ndarray:
        """The embeddings of these clips in this order: float32 [clips, dim] (or [clips, layers, dim] when `layer` is None and
        the store holds all layers). `layer` picks one of a store of all layers.

        Raises:
            KeyError: if a clip is not in the store.
            UserError: if a shard is gone or cannot be read any more.
        """
        wanted: dict[str, list[tuple[int, int]]] = {}
        for position, digest in enumerate(digests):
            name, row = self._rows[digest]
            wanted.setdefault(name, []).append((position, row))
        out = None
        for name, pairs in wanted.items():
            try:
                with _opened(self.folder / name) as file:
                    part = file.get_slice("embeddings")
                    embeddings = part[:] if layer is None else part[:, layer % part.get_shape()[1]]
            except (OSError, ValueError) as error:
                raise UserError(
                    f"embeddings in {self.folder} were removed or damaged while they were in use ({error}): start again, "
                    "and what is missing is encoded anew"
                ) from None
            if out is None:
                out = np.empty((len(digests), *embeddings.shape[1:]), np.float32)
            positions, rows = np.array(pairs).T
            out[positions] = embeddings[rows]
        return out if out is not None else np.empty((0, 0), np.float32)

    def makers(self, digests: Iterable[bytes]) -> list[str]:
        """The versions and devices that have made the embeddings of these clips."""
        return sorted({self._shards[name].made_by for name in self.shards_of(digests)})


def store_name(recipe: dict) -> str:
    """The name of a recipe's folder.

    Examples:
        >>> store_name({"a": 1, "b": 2}) == store_name({"b": 2, "a": 1}) != store_name({"a": 1, "b": 3})
        True
    """
    text = json.dumps([FORMAT, recipe], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def maker(device: str) -> str:
    """What an embedding that is made here owes to this machine: other versions and devices may give other last digits.

    Examples:
        >>> maker("cpu").startswith("arch_hf ")
        True
    """
    others = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"arch_hf {arch_hf.__version__}, {others}, {platform.machine()} {device}"


def stores(root: Path) -> Iterator[tuple[Path, dict, list[Path]]]:
    """Every store under the cache folder: its folder, its recipe ({} when unreadable or not the one it is named after) and its shards."""
    for folder in sorted((Path(root) / "embeddings").glob("[!.]*/")):
        try:
            recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
            recipe = recipe if isinstance(recipe, dict) and store_name(recipe) == folder.name else {}
        except (OSError, ValueError):
            recipe = {}
        yield folder, recipe, sorted(folder.glob("*.safetensors"))


def clips_in(shards: Iterable[Path]) -> int:
    """How many clips these shards hold; one that is damaged, or gone, holds none."""
    n = 0
    for path in shards:
        try:
            n += len(_look_into(path).digests)
        except (OSError, ValueError):
            continue
    return n
