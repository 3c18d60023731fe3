"""The answer to a question: a result's file with the predictions beside it, if both are whole and of this very question."""

import hashlib
from pathlib import Path

from arch_hf.errors import UserError
from arch_hf.results.result import Result

PREDICTIONS = ".predictions.safetensors"


def read_answer(path: Path, identity: str, model_id: str, dataset_id: str) -> Result | None:
    """The complete result that lies there, if it answers the question of that identity under these names, and the predictions beside it, where
    there are any, are its own."""
    try:
        result = Result.read(path)
        read_predictions(path, result)
    except FileNotFoundError:
        pass  # who needs no comparison may remove the predictions
    except UserError:
        return None  # none, damaged or of somebody else: it is computed, and what lies there is kept aside
    same = (result.identity, result.model.id, result.dataset.id) == (identity, model_id, dataset_id)
    return result if same and result.complete else None


def predictions_path(result_path: str | Path) -> Path:
    """
    Examples:
        >>> predictions_path("results/me__model/esc50.json").as_posix()
        'results/me__model/esc50.predictions.safetensors'
    """
    return Path(result_path).with_suffix(PREDICTIONS)


def read_predictions(result_path: str | Path, result: Result) -> bytes:
    """The content of the predictions file beside a result.

    Raises:
        FileNotFoundError: there is none.
        UserError: it cannot be read, or is of another run than the result.
    """
    path = predictions_path(result_path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): evaluate again with --overwrite") from None
    if result.predictions_sha256 not in (None, hashlib.sha256(content).hexdigest()):  # schema 1 did not say
        raise UserError(
            f"{path} is damaged, or of another run than {Path(result_path).name}: evaluate again with --overwrite"
        )
    return content
