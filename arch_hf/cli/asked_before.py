"""The same question asked again, answered from the results on disk before anything is imported that only computing needs.

A run that leaves a complete answer to all that it was asked notes, beside the cache, which results these are, and a digest of everything that it
was asked of: the flags, the environment, the installed packages, and the state of every file of the package, the models and the datasets.
While all of it is as it was, the results are read back, and checked as ever. Anything else, and whatever no file tells (the Hub, which may
have moved on; a model's own code; audio outside of a dataset's folder), goes the ordinary way, which compares weights and clips themselves. So does
a run that had something to say that its results do not hold.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from huggingface_hub import constants

from arch_hf.data.registry import SYNTHETIC_NAMES, candidate_folders
from arch_hf.data.tree import state_of_file, walk
from arch_hf.errors import UserError
from arch_hf.files import shipped, write_atomically
from arch_hf.job import BASELINE_MODEL, DEFAULT_MODEL, CorpusRun, Job
from arch_hf.results.answer import read_answer
from arch_hf.results.layers import with_layer_curve
from arch_hf.terminal import times_said

# Flags with which there is more to do than to answer, or more to look at than files.
_NOT_WITH = ("dry_run", "push_to_hub", "results_dataset", "overwrite", "streaming", "suite", "trust_remote_code")
# Variables of a terminal and a shell, which no number depends on.
_OF_TERMINALS = re.compile(r"_|PWD|OLDPWD|SHLVL|TERM.*|COLUMNS|LINES|SSH_.*|TMUX.*|WINDOWID|XDG_SESSION.*|PYTEST_.*")
_PACKAGES = (".dist-info", ".egg-info", ".egg-link", ".pth")
_TEXTS = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".md", ".yaml", ".yml")  # small files that say what others are
_LARGEST_TEXT = 1 << 20
NOTES = "asked_before"  # the folder of the notes, in the cache
_MOST_FILES = 100_000  # with more, looking at each takes longer than it saves


class _Noted(msgspec.Struct, frozen=True):
    """Which results answered one corpus of one job: of each the path, from `folder`, and the identity of its question."""

    folder: str
    job: int
    corpus: str
    notes: tuple[str, ...]
    model_id: str
    dataset_id: str
    paths: tuple[str, ...]
    identities: tuple[str, ...]


@dataclass(frozen=True)
class AskedBefore:
    """What one command asks, in the current `folder`: `note` is the file in which its answers are noted, `places` the files and folders that it is asked of, `around` what
    surrounds it, `state` the digest of all of it, and `files` those in the places."""

    jobs: Sequence[Job]
    folder: str
    note: Path
    places: tuple[Path, ...]
    around: str
    state: str
    files: frozenset[str]

    @classmethod
    def of(cls, args: argparse.Namespace, jobs: Sequence[Job]) -> "AskedBefore | None":
        """What the flags ask; None where files alone do not tell whether the answer is still the same."""
        places = None if any(getattr(args, flag) for flag in _NOT_WITH) else _places(jobs)
        if places is None:
            return None
        with contextlib.suppress(OSError):  # a folder that cannot be read, a current one that was removed
            folder = os.getcwd()
            asked = json.dumps([vars(args), folder], sort_keys=True, default=lambda value: type(value).__name__)
            note = jobs[0].cache / NOTES / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json"
            around = _surroundings()
            found = _look(places, around)
            return None if found is None else cls(jobs, folder, note, places, around, *found)
        return None

    def answers(self) -> list[CorpusRun] | None:
        """The answers, if they were noted and are whole."""
        with contextlib.suppress(OSError, ValueError, msgspec.DecodeError):
            state, noted = _read_note(self.note)
            if state == self.state:
                runs = [self._read(each) for each in noted]
                return [run for run in runs if run] if all(runs) else None
        return None

    def _read(self, noted: _Noted) -> CorpusRun | None:
        results = {}
        for path, identity in zip(noted.paths, noted.identities, strict=True):
            result = read_answer(Path(path), identity, noted.model_id, noted.dataset_id)
            if result is None:
                return None
            results[result.layer] = result
        if with_layer_curve(results) != results:  # another run has looked at fewer layers, which has to be put right
            return None
        paths = tuple(map(Path, noted.paths))
        return CorpusRun(self.jobs[noted.job], noted.corpus, tuple(results.values()), paths, notes=noted.notes)

    def noting(self, runs: Iterable[CorpusRun]) -> Iterator[CorpusRun]:
        """The same runs; after the last one their answers are noted, if all are complete and nothing has changed in the meantime."""
        noted: list[_Noted] | None = []
        said = times_said()
        for run in runs:
            inside = all(os.path.abspath(path) in self.files and "/../" not in path for path in run.named_files)
            whole = run.results and inside and all(result.complete for result in run.results)
            if noted is not None and whole and times_said() == said:
                first, paths = run.results[0], tuple(map(str, run.paths))
                identities = tuple(str(result.identity) for result in run.results)
                job = self.jobs.index(run.job)
                about = (self.folder, job, str(run.corpus), run.notes, first.model.id, first.dataset.id)
                noted.append(_Noted(*about, paths, identities))
            else:
                noted = None
            yield run
            said = times_said()  # what the results themselves were told with is told again
        noted = noted if times_said() == said else None
        asked = sum(len(job.corpora) for job in self.jobs)
        if noted is not None and len(noted) == asked and _look(self.places, self.around) == (self.state, self.files):
            content = msgspec.json.encode(noted)
            digest = hashlib.sha256(content).hexdigest()
            with contextlib.suppress(UserError):  # a full disk: it is only slower next time
                write_atomically(self.note, f"{self.state}\n{digest}\n".encode() + content)


def _read_note(path: Path) -> tuple[str, list[_Noted]]:
    """What was asked, as a digest, and what answered it.

    Raises:
        OSError, ValueError, msgspec.DecodeError: it cannot be read, or is damaged.
    """
    state, digest, content = path.read_bytes().split(b"\n", 2)
    if digest.decode() != hashlib.sha256(content).hexdigest():
        raise ValueError(f"{path} is damaged")
    return state.decode(), msgspec.json.decode(content, type=list[_Noted])


def notes_of_nothing(cache: Path) -> Iterator[Path]:
    """The notes that can answer nothing any more: of results of which one is gone, or damaged."""
    for note in sorted(cache.glob(f"{NOTES}/*.json")):
        try:
            named = [Path(noted.folder, path) for noted in _read_note(note)[1] for path in noted.paths]
        except FileNotFoundError:  # removed by somebody else in the meantime
            continue
        except (OSError, ValueError, msgspec.DecodeError):
            named = []
        if not named or not all(path.is_file() for path in named):
            yield note


def _places(jobs: Sequence[Job]) -> tuple[Path, ...] | None:
    """Where the models and datasets of the jobs are, or would be if they came to be; None where that is not on this disk, or not there alone."""
    places = [Path(__file__).parent.parent, shipped("dataset_scripts")]
    for job in jobs:
        if job.data_dir is not None and not os.path.isdir(job.data_dir):
            return None
        if job.model_id not in (DEFAULT_MODEL, BASELINE_MODEL):
            copies = Path(constants.HF_HUB_CACHE) / f"models--{job.model_id.replace('/', '--')}"
            pinned = constants.HF_HUB_OFFLINE or re.fullmatch("[0-9a-f]{40}", job.revision or "")
            here = [Path(job.model_id), *([copies] if pinned else [])]
            if not any(map(os.path.isdir, here)):
                return None
            places += here
        for name in job.corpora:
            folders = [] if name in SYNTHETIC_NAMES else candidate_folders(name, job.data_dir)
            if folders and not any(map(os.path.isdir, folders)):
                return None
            places += folders
    return tuple(dict.fromkeys(places))


def _look(places: Sequence[Path], around: str) -> tuple[str, frozenset[str]] | None:
    """The digest of everything that answers depend on, and the files in the places; None where they are too many, cannot be read, or name
    others elsewhere to be read with them."""
    digest, files = hashlib.sha256(os.fsencode(around)), set()
    with contextlib.suppress(OSError, UserError):
        for place in places:
            is_folder = os.path.isdir(place)
            digest.update(os.fsencode(f"\n{place}: {is_folder or state_of_file(str(place))}"))
            for name, entry in walk(place, hidden=True) if is_folder else ():
                if name.endswith(".pyc"):
                    continue
                state, text = state_of_file(entry.path), None
                if name.endswith(_TEXTS) and state and state[0] <= _LARGEST_TEXT and os.path.isfile(entry.path):
                    text = Path(entry.path).read_bytes()
                digest.update(os.fsencode(f"\n{name} {state} {hashlib.sha256(text or b'').hexdigest()}"))
                files.add(os.path.abspath(entry.path))
                if len(files) > _MOST_FILES or _leads_away(entry.name, text):
                    return None
        return digest.hexdigest(), frozenset(files)
    return None


def _leads_away(name: str, text: bytes | None) -> bool:
    """Whether a file may name others elsewhere: the base of an adapter, a card's data files, shards of weights or of a saved dataset. One that is
    too large to be looked into may."""
    if name not in ("README.md", ".huggingface.yaml") and not name.endswith((".index.json", "state.json")):
        return name == "adapter_config.json"
    if text is not None and name == "README.md":
        text = text.lstrip().removeprefix(b"---").split(b"\n---", 1)[0].partition(b"configs:")[2]
    return text is None or re.search(rb"://|\.\.|(?:^|[\s\"'\[\]{},:])[/~]", text) is not None


def _surroundings() -> str:
    """The Python, its packages with their versions, and the environment."""
    folders = [folder for folder in sys.path if os.path.isdir(folder)]
    packages = sorted(name for folder in folders for name in os.listdir(folder) if name.endswith(_PACKAGES))
    variables = sorted(item for item in os.environ.items() if not _OF_TERMINALS.fullmatch(item[0]))
    return json.dumps([sys.version, sys.executable, packages, variables])
