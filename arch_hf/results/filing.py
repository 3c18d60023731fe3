"""Results on disk: the answer that is there already, and a new one in its place, without ever losing one that answers another question."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from filelock import FileLock

from arch_hf.errors import UserError
from arch_hf.files import write_atomically
from arch_hf.results.answer import predictions_path, read_answer
from arch_hf.results.folder import SUPERSEDED
from arch_hf.results.question import Question
from arch_hf.results.result import Result


def find_answer(question: Question, output_dir: str | Path) -> Result | None:
    """The complete result that lies in the question's place already, if it answers this very question."""
    return read_answer(question.path(output_dir), question.identity, question.model.id, question.dataset.id)


def file_answer(
    question: Question, answer: Result, predictions: bytes, output_dir: str | Path
) -> tuple[Result, str | None]:
    """Write a result, and the predictions beside it; returns the result as written, and what to tell of a result that stood in its place.

    Raises:
        UserError: the folder cannot be written.
    """
    path = question.path(output_dir)
    answer = msgspec.structs.replace(answer, predictions_sha256=hashlib.sha256(predictions).hexdigest())
    with _only_one(path.parent):
        note = make_room(path, question.identity)
        write_atomically(predictions_path(path), predictions)
        answer.write(path)
    return answer, note


def rewrite(answers: Sequence[tuple[Question, Result]], output_dir: str | Path) -> None:
    """Write answers once more, with something beside their numbers changed; not where another run has written another result in the meantime."""
    for question, answer in answers:
        path = question.path(output_dir)
        with _only_one(path.parent):
            try:
                there = Result.read(path)
            except UserError:
                continue
            if (there.identity, there.predictions_sha256) == (answer.identity, answer.predictions_sha256):
                answer.write(path)


def make_room(path: Path, identity: str) -> str | None:
    """Move what lies under a result's name aside unless it answers the same question; returns a line that says so, if it was moved.

    No result ever replaces one that answers another question (other weights under the same id, other data under the same name, an older protocol).
    """
    if not path.is_file():
        return None
    try:
        other, why = Result.read(path).identity, "answered another question (other weights, settings, data or protocol)"
    except UserError:
        other, why = None, "is no result of this version, or was changed"
    if other == identity:
        return None
    tag = (other or hashlib.sha256(path.read_bytes()).hexdigest())[:8]
    aside = path.with_name(f"{path.stem}{SUPERSEDED}{tag}.json")
    try:
        for old, new in (
            (predictions_path(path), predictions_path(aside)),
            (path, aside),
        ):  # the result last: while it is here, it is whole
            if old.is_file():
                old.replace(new)
    except OSError as error:
        raise UserError(f"cannot rename {path} ({error.strerror}), which {why}: move it away") from None
    return f"{path} {why}: it is now {aside.name}"


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """One process at a time writes into a folder of results, where its file system knows locks: between seeing what lies there and writing in
    its place, nobody else writes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=60)
    except (
        OSError,
        NotImplementedError,
    ):  # read-only (the write says so), a file system without locks, or one that hangs
        yield
        return
    try:
        yield
    finally:
        lock.release()
