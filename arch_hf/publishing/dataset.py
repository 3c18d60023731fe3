"""A prepared corpus onto the Hub: its Parquet shards, card and eval.yaml, if its licence allows."""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

from arch_hf.data.registry import CORPUS_NAMES, get_corpus
from arch_hf.errors import UserError
from arch_hf.publishing.hub import Upload, command_again
from arch_hf.terminal import say

FACTS_FILE = "arch.json"
FILES = ["README.md", "eval.yaml", FACTS_FILE]


def push_dataset(folder: Path, repo_id: str, private: bool = False, dry_run: bool = False) -> str:
    """Upload a folder that `arch-hf prepare` made. Run again after an interruption, it goes on where it stopped; shards of an
    earlier version that the folder no longer holds are removed in the same commit.

    Args:
        folder: the prepared folder.
        repo_id: the data set on the Hub, "arch/esc50".
        private: for nobody else's eyes; the only way for a corpus that may not be published again.
        dry_run: only say what would go there.

    Returns:
        The URL of the data set, or that nothing was sent.

    Raises:
        UserError: the folder is not whole, the licence forbids it, or the Hub refuses.
    """
    folder = Path(folder)
    facts = _read_facts(folder)
    check_licence(facts, private)
    check_whole(folder, facts)
    if facts.get("missing_clips"):
        say(f"{folder}: this copy lacks {len(facts['missing_clips'])} clips; its card says so", sys.stderr)
    shards = [f"data/{split}-*-of-*.parquet" for split in facts["splits"]]
    credits = [Path(name).name for name in facts.get("credits", [])]
    upload = Upload(
        folder,
        repo_id,
        "dataset",
        f"{facts['title']}, as read by arch-hf",
        private=private,
        only=FILES + shards + credits,
        delete=["data/*.parquet"],
        dry_run=dry_run,
    )
    again = command_again("dataset", folder, repo_id=repo_id, private=private, dry_run=dry_run)
    return upload.send(safe=f"Nothing is lost; to go on: {again}")


def _read_facts(folder: Path) -> dict:
    try:
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        facts["corpus"], facts["title"], facts["splits"]
        return facts
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder} is not a folder that `arch-hf prepare` made (no readable {FACTS_FILE} in it)"
        ) from None


def check_licence(facts: dict, private: bool) -> None:
    """The package's word counts for the twelve, the folder's own for any other corpus."""
    name, rehost, reason = facts["corpus"], facts.get("rehost"), facts.get("rehost_reason", "")
    if name in CORPUS_NAMES:
        corpus = get_corpus(name)
        rehost, reason = corpus.rehost, corpus.rehost_reason
    if rehost != "public" and not private:
        raise UserError(
            f"{name} may not be published again: {reason or 'its licence is not known to allow it.'} "
            "For your own use, upload it with --private"
        )


def check_whole(folder: Path, facts: dict) -> None:
    """Every split has all its shards, and these hold as many clips as the folder says."""
    for name in ("README.md", "eval.yaml", *facts.get("credits", [])):
        if not (folder / name).is_file():
            raise UserError(f"{folder} lacks {name}: prepare the corpus again")
    for split, clips in facts["splits"].items():
        shards = sorted((folder / "data").glob(f"{split}-*-of-*.parquet"))
        try:
            rows = sum(pq.read_metadata(shard).num_rows for shard in shards)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: a shard of {split} is damaged ({error}): prepare the corpus again") from None
        if rows != clips:
            raise UserError(f"{folder}: split {split} holds {rows} of {clips} clips: prepare the corpus again")
