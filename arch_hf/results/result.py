"""The result of one model on one corpus: a JSON file that says everything, written whole or not at all."""

import hashlib
import json
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

from arch_hf.data.registry import CORPUS_NAMES
from arch_hf.errors import UserError
from arch_hf.files import write_atomically
from arch_hf.probing.protocols import get_protocol

SCHEMA_VERSION = 1


def model_folder(output_dir: str | Path, model_id: str) -> Path:
    """Where a model's results lie: its id, or its local path as given, with "/" as "__".

    Example:
        >>> model_folder("results", "facebook/hubert-base-ls960").as_posix()
        'results/facebook__hubert-base-ls960'
    """
    name = model_id.rstrip("/").replace("/", "__")
    return Path(output_dir) / (Path(model_id).resolve().name if name in ("", ".", "..") else name)


def result_name(head: dict) -> str:
    """The file name of a result: `<corpus>.json` for arch-v1 on the last layer, with what differs from that in between.

    Example:
        >>> result_name({"dataset": {"id": "arch/esc50"}, "protocol": {"name": "arch-v1"}, "layer": -1})
        'esc50.json'
        >>> result_name({"dataset": {"id": "user/birds"}, "protocol": {"name": "strict"}, "layer": 6})
        'user__birds.strict.layer6.json'
    """
    parts = [head["dataset"]["id"].removeprefix("arch/").strip("/").replace("/", "__")]
    if head["protocol"]["name"] != "arch-v1":
        parts.append(head["protocol"]["name"])
    if head["layer"] != -1:
        parts.append(f"layer{head['layer']}")
    return ".".join(parts) + ".json"


def write_result(path: str | Path, result: dict) -> None:
    """Write a result atomically, as strict JSON (a number that is not finite is an error, not `NaN`)."""
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(Path(path), text.encode() + b"\n")


def read_result(path: str | Path) -> dict:
    """Read one result.

    Raises:
        UserError: if the file is not JSON, not a result, or of a newer schema than this package knows.
    """
    try:
        result = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise UserError(f"no result at {path}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from None
    if not isinstance(result, dict) or not {"schema_version", "model", "dataset", "metrics"} <= result.keys():
        raise UserError(f"{path} is not an arch-hf result")
    if result["schema_version"] > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {result['schema_version']}, this arch-hf knows {SCHEMA_VERSION}: upgrade arch-hf"
        )
    return result


def head_of(job, encoder, data, found, layer: int) -> dict:
    """The first half of a result: which model, data, protocol and layer. Two results with equal heads answer the same question.

    Args:
        job: the `Job`.
        encoder: an `AudioEncoder`.
        data: a `CorpusData`.
        found: its `Catalogue`.
        layer: -1 for the last, else the index of a hidden state.
    """
    corpus = data.corpus
    return {
        "schema_version": SCHEMA_VERSION,
        "complete": False,
        "model": {**encoder.describe(), "n_layers": encoder.n_layers},
        "dataset": {
            "id": dataset_id(data),
            "config": data.config,
            "revision": data.revision,
            "fingerprint": _fingerprint(data, found),
            "domain": corpus.domain,
            "task": corpus.task,
            "n_clips": len(data.table),
            "n_clips_expected": sum(corpus.splits.values()) if job.limit is None else None,
            "n_classes": len(data.class_names(get_protocol(job.protocol).label_column)),
            "limit": job.limit,
            "excluded_clips": list(data.excluded),
        },
        "protocol": job.protocol_block(corpus),
        "layer": layer,
    }


def dataset_id(data) -> str:
    """`arch/<corpus>` for the twelve, wherever the folder lies (the fingerprint says whether it is the same data); else as loaded."""
    return f"arch/{data.corpus.name}" if data.corpus.name in CORPUS_NAMES else data.id


def _fingerprint(data, found) -> str:
    """SHA-256 over every clip's id, audio, split, group and labels: the same data has the same one wherever it lies."""
    sha = hashlib.sha256()
    table, names = (
        data.table,
        [name for name in ("label", "labels", "arch_v1_label") if name in data.clips.column_names],
    )
    labels = data.clips.select_columns(names).with_format(None)[:]
    for i, clip_id in enumerate(table.clip_id):
        row = [clip_id, found.digests[i].hex(), table.split[i], table.group[i], *(labels[name][i] for name in names)]
        sha.update(json.dumps(row).encode() + b"\n")
    return sha.hexdigest()


def read_if_same(path: Path, head: dict) -> dict | None:
    """The complete result at `path` if it answers the question that `head` asks, else None."""
    if not path.is_file():
        return None
    try:
        old = read_result(path)
    except UserError:
        return None  # damaged or foreign: it is computed and written again
    same = all(_question(old.get(key)) == _question(head[key]) for key in ("model", "dataset", "protocol", "layer"))
    return old if same and old["complete"] else None


def _question(block):
    """A block without what may differ between equal questions: where the dataset was loaded from, the excluded clips."""
    volatile = ("revision", "excluded_clips", "n_clips")
    return {k: v for k, v in block.items() if k not in volatile} if isinstance(block, dict) else block


def assemble(
    head: dict, body: dict, data, failures: dict[int, str], work, probe_s: float, encoder, accelerator
) -> dict:
    """A whole result from its head, the scores (`score_corpus`), the clips that failed and the work done (`Extraction`)."""
    failed = [{"clip_id": data.table.clip_id[i], "reason": reason} for i, reason in sorted(failures.items())]
    dataset = head["dataset"]
    rate = work.extract_s if work.clips else None
    result = {
        **head,
        "complete": not failed,
        "dataset": {
            **dataset,
            "n_clips": dataset["n_clips"] - len(failed),
            "excluded_clips": dataset["excluded_clips"] + failed,
        },
        **body,
        "published": None,
        "timing": {
            "decode_s": round(work.decode_s, 3),
            "extract_s": round(work.extract_s, 3),
            "probe_s": round(probe_s, 3),
            "clips_per_s": round(work.clips / rate, 2) if rate else None,
            "audio_s_per_s": round(work.audio_s / rate, 2) if rate else None,
        },
        "environment": {
            **{name: version(name.replace("_", "-")) for name in ("arch_hf", "torch", "transformers", "datasets")},
            "device": accelerator.device.type,
            "dtype": str(encoder.dtype).removeprefix("torch."),
            "n_processes": accelerator.num_processes,
            "command": shlex.join(sys.argv),
        },
    }
    result["published"] = _published(result, data.corpus)
    return result


def _published(result: dict, corpus) -> dict | None:
    """The score of Table 2 beside ours, where the model, the corpus, the protocol and the layer are the paper's."""
    from arch_hf.results.table2 import published_score

    value = published_score(result["model"]["id"], corpus.name)
    if value is None or result["protocol"]["name"] != "arch-v1" or result["layer"] != -1 or why_not_comparable(result):
        return None
    ours = result["metrics"][corpus.metric]["mean"]
    return {"value": value, "source": "arXiv 2405.00934, Table 2", "delta": ours - value}


def why_not_comparable(result: dict) -> str | None:
    """Why a result must not stand beside published numbers, or None when it may.

    Example:
        >>> why_not_comparable({"complete": True, "dataset": {"n_clips": 40, "n_clips_expected": 2000}})
        'holds 40 of 2000 clips'
    """
    dataset = result["dataset"]
    if not result["complete"]:
        return "incomplete: some clips could not be used"
    if dataset.get("limit"):
        return f"limited to {dataset['limit']} clips per split"
    expected, excluded = dataset.get("n_clips_expected"), len(dataset.get("excluded_clips", ()))
    if expected and dataset["n_clips"] + excluded < expected:
        return f"holds {dataset['n_clips']} of {expected} clips"
    return None
