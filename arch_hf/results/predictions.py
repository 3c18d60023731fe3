"""The predictions beside a result: what the probe said of each test clip, from which two results are compared."""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from arch_hf.errors import UserError
from arch_hf.probing.statistics import TestSet
from arch_hf.results.answer import predictions_path, read_predictions
from arch_hf.results.result import Result

ARRAYS = ("clip", "fold", "unit", "target", "scores")  # as `arch_hf.probing.summary` makes them


class PredictedClips:
    """The tested clips of one result with their scores.

    `clip_ids` name the rows of `arrays`: "fold", "unit" int64 [tested], "target" int64 [tested] or multi-hot [tested, classes], "scores" float32
    [seeds, tested, classes].

    Raises:
        UserError: there is no such file, it cannot be read, or it is of another run than the result.
    """

    def __init__(self, result_path: str | Path, result: Result):
        path = predictions_path(result_path)
        try:
            content = read_predictions(result_path, result)
            arrays, header = load(content), json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            names = json.loads(header["__metadata__"]["clip_ids"])
            self.arrays = {name: arrays[name] for name in ARRAYS}
            self.clip_ids = [names[clip] for clip in self.arrays["clip"]]
        except FileNotFoundError:
            raise UserError(f"no {path.name} beside {result_path}: evaluate again with --overwrite") from None
        except (OSError, SafetensorError, KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): evaluate again with --overwrite") from None

    @cached_property
    def row(self) -> dict[str, int]:
        """clip_id -> row."""
        return {clip_id: row for row, clip_id in enumerate(self.clip_ids)}

    def rows(self, clip_ids: Sequence[str]) -> np.ndarray:
        """The rows of clips, int64 [clips]."""
        return np.array([self.row[clip_id] for clip_id in clip_ids], dtype=np.int64)

    def in_common(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What two results on the same data must share for these rows: folds, targets, and units numbered anew."""
        fold, target, unit = (self.arrays[name][rows] for name in ("fold", "target", "unit"))
        return {"fold": fold, "target": target, "unit": np.unique(unit, return_inverse=True)[1]}

    def test_sets(self, rows: np.ndarray) -> list[TestSet]:
        """These rows, fold by fold."""
        shared, scores = self.in_common(rows), self.arrays["scores"][:, rows]
        return [
            TestSet(scores[:, chosen], shared["target"][chosen], shared["unit"][chosen])
            for chosen in (shared["fold"] == fold for fold in np.unique(shared["fold"]))
        ]

    def fingerprint(self) -> str:
        """The same for two results that tested the same clips with the same labels, folds and units."""
        rows = self.rows(sorted(self.clip_ids))
        sha = hashlib.sha256(json.dumps(sorted(self.clip_ids)).encode())
        for values in self.in_common(rows).values():
            sha.update(values.astype(np.int64).tobytes())
        return sha.hexdigest()
