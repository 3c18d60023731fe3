"""The embedding store: whole shards only, damage noticed, several writers at once."""

import itertools
import os
import shutil

import numpy as np
import pytest

from arch_hf.embedding.store import EmbeddingStore
from arch_hf.errors import UserError
from arch_hf.files import audio_digest

RECIPE = {"weights_sha256": "ab", "layers": "last"}


def digests(*names):
    return [audio_digest(name.encode()) for name in names]


def vectors(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 5), np.float32)


def shards(store):
    return sorted(store.folder.glob("*.safetensors"))


def test_reads_what_was_added_in_any_order_and_after_reopening(tmp_path):
    store = EmbeddingStore(tmp_path, RECIPE)
    first, second = vectors(3), vectors(2, seed=1)
    store.add(digests("a", "b", "c"), first)
    store.add(digests("d", "e"), second)
    for view in (store, EmbeddingStore(tmp_path, RECIPE)):
        np.testing.assert_array_equal(view.read(digests("e", "a", "c", "a")), [second[1], first[0], first[2], first[0]])
        assert len(view) == 5


def test_stores_of_different_recipes_do_not_meet(tmp_path):
    EmbeddingStore(tmp_path, RECIPE).add(digests("a"), vectors(1))
    assert digests("a")[0] not in EmbeddingStore(tmp_path, {**RECIPE, "weights_sha256": "cd"})


def test_one_layer_of_a_store_of_all(tmp_path):
    store = EmbeddingStore(tmp_path, RECIPE)
    layers = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    store.add(digests("a", "b"), layers)
    np.testing.assert_array_equal(store.read(digests("b", "a"), layer=-1), layers[::-1, -1])
    np.testing.assert_array_equal(store.read(digests("a"), layer=0), layers[:1, 0])


def test_two_writers_see_each_other_after_a_refresh(tmp_path):
    one, two = EmbeddingStore(tmp_path, RECIPE), EmbeddingStore(tmp_path, RECIPE)
    one.add(digests("a", "b"), vectors(2))
    two.add(digests("b", "c"), vectors(2, seed=1))
    one.refresh()
    assert one.read(digests("a", "b", "c")).shape == (3, 5)


@pytest.mark.parametrize("damage", ["flip a byte", "cut short", "empty", "foreign"])
def test_a_damaged_shard_is_said_set_aside_and_encoded_again(tmp_path, damage):
    store = EmbeddingStore(tmp_path, RECIPE)
    store.add(digests("a"), vectors(1))
    store.add(digests("b"), vectors(1, seed=1))
    path = next(path for path in shards(store) if path.name == store._rows[digests("a")[0]][0])
    content = bytearray(path.read_bytes())
    if damage == "flip a byte":
        content[-3] ^= 1
    path.write_bytes({"cut short": content[:-4], "empty": b"", "foreign": b"{}" * 50}.get(damage, content))
    said = []
    again = EmbeddingStore(tmp_path, RECIPE, warn=said.append)
    again.check(again.shards_of(digests("a", "b")))
    assert len(said) == 1 and path.name in said[0]
    assert digests("a")[0] not in again and digests("b")[0] in again
    assert not path.exists() and path.with_suffix(".damaged").exists()
    again.add(digests("a"), vectors(1))
    np.testing.assert_array_equal(again.read(digests("a")), vectors(1))


def test_every_single_flipped_byte_is_noticed(tmp_path):
    store = EmbeddingStore(tmp_path, RECIPE)
    store.add(digests("a"), vectors(1))
    path = shards(store)[0]
    whole = path.read_bytes()
    noticed = 0
    for position, bit in itertools.product(range(len(whole)), (0, 4)):
        content = bytearray(whole)
        content[position] ^= 1 << bit
        path.write_bytes(content)
        view = EmbeddingStore(tmp_path, RECIPE)
        view.check(view.shards_of(digests("a")))
        if digests("a")[0] in view:  # a flip in the padding of the header changes nothing that is read
            np.testing.assert_array_equal(view.read(digests("a")), vectors(1))
        else:
            noticed += 1
        path.with_suffix(".damaged").unlink(missing_ok=True)
    assert noticed > 1.9 * len(whole)


def test_a_shard_of_another_store_is_not_taken(tmp_path):
    other = EmbeddingStore(tmp_path, {**RECIPE, "dtype": "bfloat16"})
    other.add(digests("a"), vectors(1))
    store, said = EmbeddingStore(tmp_path, RECIPE, warn=lambda line: said.append(line)), []
    store.folder.mkdir()
    shutil.copy(shards(other)[0], store.folder)
    store.refresh()
    store.check(store.shards_of(digests("a")))
    assert digests("a")[0] not in store and "written for the store" in said[0]


def test_of_two_embeddings_of_one_clip_all_read_the_same(tmp_path):
    one, two = EmbeddingStore(tmp_path, RECIPE), EmbeddingStore(tmp_path, RECIPE)
    one.add(digests("a"), vectors(1))
    two.add(digests("a"), vectors(1, seed=1))
    for store in (one, two):
        store.refresh()
    np.testing.assert_array_equal(one.read(digests("a")), two.read(digests("a")))


def test_what_is_removed_while_it_is_in_use_is_one_line(tmp_path):
    store = EmbeddingStore(tmp_path, RECIPE)
    store.add(digests("a"), vectors(1))
    shutil.rmtree(store.folder)
    with pytest.raises(UserError, match=r"removed or damaged while they were in use.*start again"):
        store.read(digests("a"))
    assert store.check(store.shards_of(digests("a"))) and digests("a")[0] not in store
    store.add(digests("a"), vectors(1))
    assert EmbeddingStore(tmp_path, RECIPE).read(digests("a")).shape == (1, 5)


def test_a_shard_says_what_made_it(tmp_path):
    EmbeddingStore(tmp_path, RECIPE, maker="torch 1, cpu").add(digests("a"), vectors(1))
    EmbeddingStore(tmp_path, RECIPE, maker="torch 2, cuda").add(digests("b"), vectors(1))
    store = EmbeddingStore(tmp_path, RECIPE)
    assert store.makers(digests("a", "b")) == ["torch 1, cpu", "torch 2, cuda"] and store.makers(digests("a")) == [
        "torch 1, cpu"
    ]


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    store = EmbeddingStore(tmp_path, RECIPE)
    store.add(digests("a"), vectors(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left on device.*what was stored is kept"):
        store.add(digests("b"), vectors(1))
    assert len(shards(store)) == 1 and not list(store.folder.glob(".*"))
