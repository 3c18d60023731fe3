"""Results made by hand for the tests of reports."""

from pathlib import Path

import msgspec

from arch_hf.reports.board import build_board, reference_protocol
from arch_hf.reports.columns import TWELVE
from arch_hf.results import schema1
from arch_hf.results.folder import Filed
from arch_hf.results.result import Result, check

VERSION = reference_protocol()[1]


def make_result(corpus="esc50", score=0.5, model="us/ours", revision=None, **changes) -> dict:
    column = next((column for column in TWELVE if column.key == corpus), None)
    single = column is None or column.metric == "accuracy"
    metric = "accuracy" if single else "map_macro"
    result = {
        "schema_version": 1,
        "complete": True,
        "model": {
            "id": model,
            "revision": revision,
            "weights_sha256": None,
            "class": "HubertModel",
            "n_parameters": 94_371_712,
        },
        "dataset": {
            "id": corpus,
            "config": None,
            "domain": column.domain if column else "events",
            "task": "single_label" if single else "multi_label",
            "n_clips": 100,
            "n_classes": 2,
            "excluded_clips": [],
        },
        "protocol": {"name": "arch-v1", "version": VERSION},
        "layer": -1,
        "metrics": {metric: {"mean": score, "std": 0.01, "ci95": [max(0.0, score - 0.03), min(1.0, score + 0.02)]}},
        "runs": [{"fold": "fold_1", "seed": 0, "metrics": {metric: score}}],
        "baselines": {"majority": {metric: 0.1}},
        "published": None,
        "per_class": [
            {"class": "cat", "n_test": 50, "recall" if single else "average_precision": score},
            {"class": "dog", "n_test": 0, "recall" if single else "average_precision": 0.0},
        ],
        "confusion": [[30.5, 19.5], [0.0, 0.0]] if single else None,
    }
    result["model"] |= changes.pop("facts", {})
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = result[key] | value
        else:
            result[key] = value
    return result


def board_of(*results):
    return build_board([Filed(Path(), as_result(result)) for result in results])


def as_result(old):
    return check(msgspec.convert(schema1.upgrade(old), Result))
