"""A repository of the loopback Hub, and the conditions that the real Hub sets on what is pushed."""

import hashlib
import re
from dataclasses import dataclass, field

import yaml

LFS_SUFFIXES = (".safetensors", ".bin", ".parquet", ".png", ".wav")
CARD = re.compile(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))")


@dataclass
class Repo:
    kind: str  # "models", "datasets" or "spaces"
    id: str
    private: bool = False
    sdk: str | None = None
    commits: dict = field(default_factory=dict)  # sha -> {path: bytes}
    refs: dict = field(default_factory=dict)  # "main", "refs/pr/1" -> sha
    log: list = field(default_factory=list)  # (ref, summary) of each commit
    pulls: list = field(default_factory=list)  # titles
    closed: set = field(default_factory=set)  # numbers of those that were turned down

    def commit(self, ref, files, summary, parent=None):
        sha = hashlib.sha1(f"{self.id}{len(self.commits)}{summary}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[ref] = sha
        self.log.append((ref, summary))
        return sha

    def files(self, ref="main"):
        return self.commits[self.refs.get(ref, ref)]


class Refusal(Exception):
    """An answer of the real Hub that says no."""

    def __init__(self, status, message, code=None):
        self.status, self.message, self.code = status, message, code


def git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_lfs(path):
    return path.endswith(LFS_SUFFIXES)


def check_card(text):
    """The Hub's own conditions on a card's metadata, as far as model-index goes (hub-docs, modelcard.md)."""
    match = CARD.search(text)
    data = (yaml.safe_load(match.group(2)) if match else None) or {}
    for entry in data.get("model-index") or []:
        if not isinstance(entry.get("name"), str):
            raise Refusal(400, '"model-index[0].name" must be a string')
        for result in entry.get("results") or []:
            complete = result.get("task", {}).get("type") and result.get("dataset", {}).get("type")
            if not complete or not result["dataset"].get("name") or not result.get("metrics"):
                raise Refusal(400, '"model-index[0].results" lacks a required field')
            if any("type" not in metric or "value" not in metric for metric in result["metrics"]):
                raise Refusal(400, '"model-index[0].results[0].metrics[0]" lacks type or value')


def check_eval_results(text):
    """hub-docs, eval-results: a list; dataset.id, dataset.task_id and value are required; a source needs a URL."""
    entries = yaml.safe_load(text)
    if not isinstance(entries, list) or not entries:
        raise Refusal(400, ".eval_results: a list was expected")
    for entry in entries:
        if not {"id", "task_id"} <= entry.get("dataset", {}).keys() or "value" not in entry:
            raise Refusal(400, ".eval_results: dataset.id, dataset.task_id and value are required")
        if "source" in entry and "url" not in entry["source"]:
            raise Refusal(400, ".eval_results: source.url is required")


def eval_result_entries(files):
    """What a model's info says of its `.eval_results`: the entries, or that a file is wrong."""
    answer = []
    for path in sorted(path for path in files if path.startswith(".eval_results/")):
        try:
            check_eval_results(files[path].decode())
            answer += [{"filename": path, "data": entry} for entry in yaml.safe_load(files[path])]
        except Refusal as refusal:
            answer.append({"filename": path, "error": refusal.message})
    return answer
