"""Kill the main job with SIGKILL again and again, run it on, and compare what it gives in the end with an undisturbed run.

    python benchmarks/killed.py --model_id FOLDER --datasets arch/audio_mnist --data_dir DATA [--kills 20] [--processes 2]

The instants are random; every fourth kill waits for a shard that is being written, every fourth for a result. With --processes 2
every other kill hits one process of the two, not the launcher. After every kill all stored shards must be whole and the shards
of before unchanged; in the end no clip may lie in the store twice (encoded again), and the result must equal the undisturbed
one in every number that is not a time.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from arch_hf.embedding.store import read_shard

MAIN_JOB = Path(__file__).resolve().parent.parent / "evaluate.py"


class Campaign:
    """One cache and one folder of results, from empty to a finished run, however often it is killed."""

    def __init__(self, folder: Path, args):
        self.folder, self.args = folder, args
        self.cache, self.results = folder / "cache", folder / "results"
        self.shards: dict[Path, bytes] = {}

    def start(self) -> subprocess.Popen:
        launcher = [sys.executable]
        if self.args.processes > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={self.args.processes}"]
        flags = ["--model_id", self.args.model_id, "--datasets", *self.args.datasets, "--layers", self.args.layers]
        flags += ["--protocol", self.args.protocol, "--output_dir", str(self.results), "--cache_dir", str(self.cache)]
        flags += ["--data_dir", self.args.data_dir] if self.args.data_dir else []
        log = open(self.folder / "log.txt", "ab")  # noqa: SIM115 - belongs to the child
        return subprocess.Popen([*launcher, str(MAIN_JOB), *flags], stdout=log, stderr=log, start_new_session=True)

    def finish(self) -> dict[str, dict]:
        """Run to the end undisturbed; the results without their times."""
        code = self.start().wait()
        assert code == 0, f"exit status {code}; see {self.folder / 'log.txt'}"
        return self.outcome()

    def outcome(self) -> dict[str, dict]:
        found = {}
        for path in sorted(self.results.rglob("*.json")):
            result = json.loads(path.read_text())
            del result["timing"], result["environment"]["command"]  # the command names the folders
            found[path.name] = result
        for path in sorted(self.results.rglob("*.predictions.safetensors")):
            found[path.name] = path.read_bytes()
        return found

    def kill(self, when: str, one_of_them: bool, most: float) -> str | None:
        """Start the job and kill it. Returns what it was doing, or None where it was done first."""
        folder = {"shard": self.cache / "embeddings", "result": self.results}.get(when)
        left = set(folder.rglob("*.tmp")) if folder else set()  # by an earlier kill
        job = self.start()
        instant = time.monotonic() + random.uniform(0, most)
        while job.poll() is None:
            if folder is None and time.monotonic() > instant:
                break
            if folder is not None and any(path not in left for path in folder.rglob("*.tmp")):
                break
            time.sleep(0.05 if folder is None else 0.001)  # a file is written in a few milliseconds
        ranks = psutil.Process(job.pid).children() if self.args.processes > 1 and job.poll() is None else []
        if one_of_them and ranks:
            random.choice(ranks).kill()
        elif job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            for rank in ranks:  # the launcher puts them into groups of their own
                with contextlib.suppress(psutil.NoSuchProcess):
                    rank.kill()
        if job.wait() == 0:  # the launcher ends the other processes of one that died
            return None
        who = "one process" if one_of_them and ranks else "all"
        leftovers = [path.name for path in self.folder.rglob("*.tmp")]
        return f"{who}, {len(leftovers)} half-written file(s) left"

    def check(self) -> tuple[int, int]:
        """Every shard is whole, those of before are as before; how many clips are stored, and how many of them twice."""
        digests = []
        for path in self.cache.glob("embeddings/*/*.safetensors"):
            digests += [path.parent.name.encode() + row.tobytes() for row in read_shard(path)[0]]
            content = path.read_bytes()
            assert self.shards.setdefault(path, content) == content, f"{path} has changed"
        missing = [path for path in self.shards if not path.exists()]
        assert not missing, f"{missing[0]} is gone"
        return len(digests), len(digests) - len(set(digests))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_id", required=True)
    parser.add_argument("--datasets", nargs="+", required=True)
    parser.add_argument("--data_dir")
    parser.add_argument("--layers", default="last")
    parser.add_argument("--protocol", default="arch-v1")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        run(Path(temporary), args)


def run(folder: Path, args) -> None:
    (folder / "undisturbed").mkdir()
    start = time.monotonic()
    reference = Campaign(folder / "undisturbed", args)
    expected = reference.finish()
    wall = time.monotonic() - start
    n_clips, _ = reference.check()
    print(f"undisturbed: {wall:.0f} s, {n_clips} embeddings, {len(expected)} files", flush=True)
    kills = runs = 0
    while kills < args.kills:
        runs += 1
        campaign = Campaign(folder / f"run{runs}", args)
        campaign.folder.mkdir()
        while kills < args.kills:
            when = ("instant", "shard", "instant", "result")[kills % 4]
            what = campaign.kill(when, args.processes > 1 and kills % 2 == 1, wall / 2)
            stored, twice = campaign.check()
            if what is None:
                break
            kills += 1
            print(f"kill {kills} (run {runs}, at {when}): {what}; {stored} stored, {twice} of them twice", flush=True)
        outcome = campaign.finish()
        stored, twice = campaign.check()
        different = [name for name in expected.keys() | outcome.keys() if expected.get(name) != outcome.get(name)]
        print(
            f"run {runs} finished: {stored} stored, {twice} twice, different files: {different or 'none'}", flush=True
        )
        assert not different and not twice and stored == n_clips
        shutil.rmtree(campaign.folder)
    print(f"{kills} kills in {runs} runs: every result as undisturbed")


if __name__ == "__main__":
    main()
