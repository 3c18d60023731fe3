"""What the processes of one launch do together, with real processes: agree, share out, fail as one, pass on what one of them lacks."""

import json
from pathlib import Path

import numpy as np
import pytest
from accelerate import debug_launcher
from ranks import one_of_two, rank

from arch_hf.distributed import Ranks, SharedError, find_device
from arch_hf.embedding import exchange
from arch_hf.embedding.exchange import bring_from_other_machines
from arch_hf.embedding.store import EmbeddingStore
from arch_hf.errors import UserError
from arch_hf.files import audio_digest


def on_two(work, folder) -> list:
    """What `work(ranks, folder)` gives on each of two processes, as JSON."""
    debug_launcher(_one, (work, folder), num_processes=2)
    return [json.loads((Path(folder) / f"rank{rank}.json").read_text()) for rank in range(2)]


def _one(work, folder):
    ranks = one_of_two()
    (Path(folder) / f"rank{ranks.rank}.json").write_text(json.dumps(work(ranks, folder)))


def outcome(action):
    try:
        return action()
    except UserError as error:
        return f"{type(error).__name__}: {error}"


def fail_in_turn(ranks, _):
    """Steps of a job that go wrong on one process only, each followed by a step that both must reach together."""

    def fails(where):
        if ranks.rank == where:
            raise UserError(f"rank {where} has had enough")
        return "fine"

    def alone():
        """Fails between two meetings, while the other one waits in the next of them."""
        try:
            if ranks.rank == 1:
                raise KeyError("alone")
            ranks.wait()
            return "fine"
        except Exception as error:
            return str(ranks.tell(error))

    def inside():
        """Fails in the middle of what is done together, while the other waits in a meeting inside of it."""
        return ranks.together(lambda: fails(1) and ranks.share_out([1, 2], lambda jobs: jobs))

    seen = []
    for step in (
        lambda: ranks.together(lambda: fails(0)),
        alone,
        inside,
        lambda: ranks.share_out([1, 2], lambda _: [fails(0)]),
    ):
        seen.append(outcome(step))
        seen.append(outcome(lambda: ranks.gather(ranks.rank)))
    seen.append(outcome(lambda: ranks.agree("dataset", ranks.rank)))
    seen.append(outcome(lambda: ranks.agree("dataset", "same")))
    seen.append(ranks.on_main(lambda: f"of {ranks.rank}"))
    return seen


def test_whatever_fails_on_one_fails_on_all_and_they_go_on_together(tmp_path):
    first, second = on_two(fail_in_turn, tmp_path)
    assert first == second
    assert first[0] == "SharedError: rank 0 has had enough" and first[4] == "SharedError: rank 1 has had enough"
    assert "KeyError: 'alone'" in first[2] and "traceback" in first[2]
    assert first[1] == first[3] == first[5] == first[7] == [0, 1]
    assert first[6].endswith("rank 0 has had enough") and "the same dataset" in first[8]
    assert first[9:] == ["same", "of 0"]


def shares(ranks, _):
    """Jobs for all, for each of two machines, and for one that both are on."""
    answers = ranks.share_out(range(5), lambda jobs: [10 * job for job in jobs])
    together = ranks.share_locally(["b", "a", f"of {ranks.rank}"])
    ranks.machine = f"machine {ranks.rank}"
    return [answers, together, ranks.share_locally(["b", "a", f"of {ranks.rank}"])]


def test_each_job_is_done_once_and_answered_in_its_place(tmp_path):
    first, second = on_two(shares, tmp_path)
    assert first[0] == second[0] == [0, 10, 20, 30, 40]
    assert sorted(first[1] + second[1]) == ["a", "b", "of 0", "of 1"]
    assert (first[2], second[2]) == (["a", "b", "of 0"], ["a", "b", "of 1"])


DIGESTS = [audio_digest(bytes([i])) for i in range(60)]
VECTORS = np.arange(60 * 3, dtype=np.float32).reshape(-1, 3)


def two_caches(ranks, folder):
    """Each has half of the embeddings, in a cache of its own; afterwards each has all of them, and sent nothing that nobody needed."""
    ranks.machine = f"machine {ranks.rank}"
    exchange.PIECE_BYTES = 7 * 12  # seven embeddings
    store = EmbeddingStore(Path(folder) / ranks.machine, {"recipe": 1})
    mine = range(ranks.rank, 60, 2)
    mine = [*mine, 4, 5]  # both have these: nobody sends them
    store.add([DIGESTS[i] for i in mine], VECTORS[mine])
    sent = []
    from_rank = ranks.from_rank
    ranks.from_rank = lambda sender, value: sent.append((sender, value is not None)) or from_rank(sender, value)
    bring_from_other_machines(store, DIGESTS, ranks)
    again = EmbeddingStore(Path(folder) / ranks.machine, {"recipe": 1})
    again.check(again.shards_of(DIGESTS))
    np.testing.assert_array_equal(again.read(DIGESTS), VECTORS)
    return sent


def test_caches_that_are_not_shared_exchange_what_is_missing_in_pieces(tmp_path):
    first, second = on_two(two_caches, tmp_path)
    assert [sender for sender, _ in first] == [0] * 5 + [1] * 5  # 29 embeddings from each, seven at a time
    assert all(has == (sender == 0) for sender, has in first) and all(has == (sender == 1) for sender, has in second)


def seen_late(ranks, folder):
    """One shared cache, of which the second process does not see what the first has written: a network file system may take a minute."""
    store = EmbeddingStore(Path(folder) / "cache", {"recipe": 1})
    if ranks.rank == 0:
        store.add(DIGESTS[:40], VECTORS[:40])
    ranks.wait()
    if ranks.rank == 1:
        store.add(DIGESTS[40:], VECTORS[40:])
        own = set(store.folder.glob("*.safetensors")) - {
            path for path in store.folder.glob("*.safetensors") if path.name not in store._shards
        }
        glob = type(store.folder).glob

        def late(folder, pattern):
            return [path for path in glob(folder, pattern) if path in own or path.name in store._shards]

        type(store.folder).glob = late
    store.refresh() if ranks.rank == 1 else None
    before = sum(digest in store for digest in DIGESTS)
    bring_from_other_machines(store, DIGESTS, ranks)
    np.testing.assert_array_equal(store.read(DIGESTS), VECTORS)
    return before


def test_a_process_that_sees_shards_late_is_sent_what_it_does_not_see(tmp_path):
    assert on_two(seen_late, tmp_path)[1] == 20


def full_disk(ranks, folder):
    """The first process cannot write what the second has."""
    ranks.machine = f"machine {ranks.rank}"
    store = EmbeddingStore(Path(folder) / ranks.machine, {"recipe": 1})
    store.add(DIGESTS[ranks.rank :: 2], VECTORS[ranks.rank :: 2])
    if ranks.rank == 0:
        store.add = lambda *_: (_ for _ in ()).throw(UserError("the disk is full"))
    failed = outcome(lambda: bring_from_other_machines(store, DIGESTS, ranks))
    return [failed, outcome(lambda: ranks.gather(ranks.rank))]


def test_a_full_disk_on_one_machine_stops_both_at_the_same_place(tmp_path):
    first, second = on_two(full_disk, tmp_path)
    assert first == second == ["SharedError: the disk is full", [0, 1]]


def test_one_process_alone_needs_nobody():
    alone = rank()
    assert alone.gather(3) == [3] and alone.on_main(lambda: "x") == "x" and alone.from_rank(0, "x") == "x"
    assert alone.share_locally(["b", "a", "b"]) == ["a", "b"] and alone.agree("data", 1) == 1
    with pytest.raises(SharedError, match="enough"):
        alone.together(lambda: (_ for _ in ()).throw(UserError("enough")))
    shared = SharedError("known to all")
    assert alone.tell(shared) is shared


@pytest.mark.parametrize("strategy", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_a_launchers_settings_for_training_are_said_and_not_used(strategy, monkeypatch, capsys):
    monkeypatch.setenv(f"ACCELERATE_USE_{strategy}", "true")
    assert Ranks.launched().size == 1
    assert f"settings for {strategy} are of training" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["gpu", "", 5.0])
def test_what_is_no_device_is_one_line(name):
    with pytest.raises(UserError, match=f"^--device {name}: no such device; there are cpu"):
        find_device(name)


def test_a_dtype_that_no_encoder_runs_in_is_refused():
    ranks = rank()
    assert ranks.dtype is None
    ranks.accelerator.mixed_precision = "bf16"
    assert ranks.dtype == "bfloat16"
    ranks.accelerator.mixed_precision = "fp8"
    with pytest.raises(UserError, match="--mixed_precision fp8: encoders run in float32"):
        ranks.dtype  # noqa: B018
