"""Fetch the official files of a corpus: in parallel, resumable, checksummed. A file under its final name is whole.

While `x.zip` comes in it is `x.zip.part`, and `x.zip.part.json` holds its URL and the server's validator (a strong ETag or a
date): they decide whether a later run may go on where this one stopped.
"""

import hashlib
import json
import os
import random
import re
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from tqdm import tqdm

from arch_hf.data.official import transfer
from arch_hf.data.official.disk import check_free_space, human_size, only_writer, report_write_errors
from arch_hf.data.official.transfer import Transient
from arch_hf.data.spec import Source
from arch_hf.errors import UserError

ATTEMPTS = 6  # in a row that bring no new byte
BACKOFF_SECONDS = 1.0  # before the second attempt; doubles with each, with jitter
LONGEST_BACKOFF_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 900.0  # a server that asks for more is given up
TIMEOUT_SECONDS = (20.0, 30.0)  # to connect; without a byte
CHUNK_BYTES = 1 << 18


def fetch_sources(sources: Sequence[Source], target_dir: Path, *, max_workers: int = 4) -> list[Path]:
    """Download every source into `target_dir`, and return the files in the order of `sources`.

    A file that is there already is checked against its size and checksum, and not fetched again; one that does not match
    is moved aside as `NAME.wrong`. A transfer that stops half-way is resumed, in this run or the next. Where neither size
    nor checksum is known, a file is whole when the server's own Content-Length, or its last chunk, says so.

    Args:
        sources: what to fetch; http and https only.
        target_dir: made when missing. Only one process at a time may write there.
        max_workers: files fetched at the same time.

    Raises:
        UserError: a file cannot be had (404, bad certificate, host down, ...), is not the one expected (size, checksum), or
            does not fit the disk. No wrong file is left under its final name.

    Examples:
        >>> import tempfile
        >>> fetch_sources([], Path(tempfile.gettempdir()))
        []
        >>> fetch_sources([Source("ftp://example.org/x.zip")], Path(tempfile.gettempdir()))
        Traceback (most recent call last):
        arch_hf.errors.UserError: x.zip: only http and https are downloaded, not ftp://example.org/x.zip
    """
    if not sources:
        return []
    target_dir = Path(target_dir)
    stop = threading.Event()
    downloads = [_Download(source, target_dir, stop) for source in sources]
    names = [download.name for download in downloads]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two sources would both become {target_dir / name}")
    with only_writer(target_dir):
        missing = sum(download.missing_bytes() for download in downloads)
        check_free_space(target_dir, missing, f"to download {', '.join(names[:3])}{', ...' * (len(names) > 3)}")
        with ThreadPoolExecutor(max_workers, thread_name_prefix="download") as pool:
            futures = [pool.submit(download.run) for download in downloads]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:  # also Ctrl-C: the others stop at their next chunk and keep their .part
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
    return [download.target for download in downloads]


def file_name(source: Source) -> str:
    """The plain name under which a source is kept.

    Examples:
        >>> file_name(Source("https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip?download=1"))
        'Audio_Speech_Actors_01-24.zip'
    """
    name = source.filename or unquote(urlsplit(source.url).path.rpartition("/")[2])
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", name):
        raise UserError(f"{source.url}: {name!r} is not a plain file name")
    return name


class _Stopped(Exception):
    """Another file failed, or the user pressed Ctrl-C."""


class _Download:
    """One source on its way to its file. `run` is the work of one thread."""

    def __init__(self, source: Source, folder: Path, stop: threading.Event):
        self.source, self.folder, self.stop = source, folder, stop
        self.name = file_name(source)
        url = urlsplit(source.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise UserError(f"{self.name}: only http and https are downloaded, not {source.url}")
        self.host = url.hostname
        self.target = folder / self.name
        self.part = folder / f"{self.name}.part"
        self.facts = folder / f"{self.name}.part.json"
        self.by_hand = f"or fetch it another way, put it at {self.target} and run the same command again"
        self.has_checksum = bool(source.md5 or source.sha1)
        self.total = source.size  # bytes of the whole file, as far as known
        self.furthest = 0  # a server that always breaks at the same byte makes no progress
        self.is_doubtful = False  # pieced together, or its end unstated: a wrong checksum earns one fresh start
        self.has_started_over = False

    def missing_bytes(self) -> int:
        """How many bytes are still to come, as far as the source states its size."""
        if self.source.size is None or _size(self.target) == self.source.size:
            return 0
        return max(0, self.source.size - _size(self.part))

    def run(self) -> None:
        with report_write_errors(self.folder, f"downloading {self.name}", self._still_needed):
            if self._is_there():
                return
            self.furthest = _size(self.part)
            bar = tqdm(desc=self.name, total=self.total, unit="B", unit_scale=True, mininterval=0.5)
            with requests.Session() as session, bar:
                session.headers.update({"User-Agent": "arch-hf", "Accept-Encoding": "identity"})
                self._persist(session, bar)

    def _still_needed(self) -> int | None:
        return None if self.total is None else self.total - _size(self.part)

    def _is_there(self) -> bool:
        """Whether the right file is in place. A wrong one is moved aside: it may be the user's own."""
        if not self.target.exists():
            return False
        problem = self._mismatch(self.target)
        if problem:
            aside = self.folder / f"{self.name}.wrong"
            os.replace(self.target, aside)
            self._say(f"not the expected file ({problem}): moved to {aside} and fetched anew")
        return not problem

    def _say(self, text: str) -> None:
        tqdm.write(f"{self.name}: {text}", file=sys.stderr)

    def _persist(self, session: requests.Session, bar: tqdm) -> None:
        """Transfer, again and again while that brings new bytes, until the file is whole and in place."""
        failures = 0
        while True:
            before = self.furthest
            try:
                self._transfer(session, bar)
                self._finish()
                return
            except Transient as fault:
                if not _size(self.part):
                    self._discard()
                failures = 1 if self.furthest > before else failures + 1
                seconds = self._seconds_to_wait(fault, failures)
                bar.set_postfix_str(f"{fault}; again in {seconds:.0f} s")
            if self.stop.wait(seconds):
                raise _Stopped
            bar.set_postfix_str("")

    def _seconds_to_wait(self, fault: Transient, failures: int) -> float:
        """How long to wait before the next attempt; UserError when there is no point in one."""
        if failures >= ATTEMPTS:
            kept = f"{human_size(_size(self.part))} are kept; " if _size(self.part) else ""
            raise UserError(
                f"{self.name}: {self.host} failed {failures} times in a row, last: {fault} ({self.source.url}); "
                f"{kept}run the same command again to go on, {self.by_hand}"
            )
        if fault.wait is None:
            backoff = min(LONGEST_BACKOFF_SECONDS, BACKOFF_SECONDS * 2 ** (failures - 1))
            return backoff * random.uniform(0.5, 1.5)
        if fault.wait > LONGEST_RETRY_AFTER_SECONDS:
            minutes = f"{fault.wait / 60:.0f} minutes"
            raise UserError(
                f"{self.name}: {self.host} asks to come back in {minutes} ({fault}): run the same command then"
            )
        return fault.wait

    def _transfer(self, session: requests.Session, bar: tqdm) -> None:
        """Bring the .part as near to its end as one request can."""
        offset, expected = self._resume_point()
        self.is_doubtful = offset > 0
        if offset and offset == self.source.size:
            return  # complete, but for its check
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and expected:
            headers["If-Range"] = expected
        with self._network_faults():
            response = session.get(self.source.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS)
        with response:
            status = response.status_code
            if status == 416 and offset and response.headers.get("Content-Range") == f"bytes */{offset}":
                return
            if status == 416 and offset:
                self._discard()
                raise Transient("it has a shorter file now", wait=0)
            self._check_status(response)
            total = transfer.content_length(response)
            if status == 206:
                start, total = transfer.content_range(response)
                if start != offset or (expected and transfer.validator(response) not in (None, expected)):
                    self._discard()
                    raise Transient("the file changed there", wait=0)
            else:
                offset, self.is_doubtful = 0, False
            self._check_content(response, total)
            self._receive(response, offset, bar)

    def _network_faults(self):
        return transfer.network_faults(self.name, self.host, self.by_hand)

    def _resume_point(self) -> tuple[int, str | None]:
        """Where to go on, and the validator that the server's file must still have."""
        try:
            facts = json.loads(self.facts.read_text(encoding="utf-8"))
            url, validator = facts["url"], facts["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0, None
        offset = _size(self.part)
        is_too_long = self.source.size is not None and offset > self.source.size
        if url != self.source.url or is_too_long or not (validator or self.has_checksum):
            return 0, None
        return offset, validator

    def _check_status(self, response: requests.Response) -> None:
        answer = f"{response.status_code} {response.reason}"
        if response.status_code in transfer.TRANSIENT_STATUS:
            raise Transient(f"it answered {answer}", transfer.retry_after(response))
        if response.status_code not in (200, 206):
            raise UserError(
                f"{self.name}: {self.host} answered {answer} for {self.source.url}: "
                f"look for the file's new place on the corpus's homepage, {self.by_hand}"
            )

    def _check_content(self, response: requests.Response, total: int | None) -> None:
        """Refuse what cannot be the file before its bytes come. `total`: the whole file's length as the server has it."""
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        is_other = self.source.size is not None and total not in (None, self.source.size)
        encoding = response.headers.get("Content-Encoding", "identity")
        by_host = f"{self.name}: {self.host}"
        if is_page and (is_other or not self.has_checksum):
            raise UserError(f"{by_host} sent a web page instead: open {self.source.url} in a browser, {self.by_hand}")
        if is_other:
            raise UserError(
                f"{by_host} offers {total} bytes where {self.source.size} are expected, so the file changed at its "
                f"source ({self.source.url}): update arch-hf, {self.by_hand}"
            )
        if not self.has_checksum:  # nothing later would tell
            if self.source.url.startswith("https:") and not response.url.startswith("https:"):
                raise UserError(f"{by_host} redirects from https to http, where anyone may change it; {self.by_hand}")
            if encoding != "identity" and not self.name.endswith((".gz", ".tgz")):
                raise UserError(f"{by_host} compresses it on the way ({encoding}), though asked not to; {self.by_hand}")
        self.total = total if total is not None else self.source.size
        if self.total is None and not transfer.is_chunked(response):
            self.is_doubtful = True
            if not self.has_checksum:
                self._say(f"{self.host} does not say how long it is, so a broken transfer would not show")

    def _receive(self, response: requests.Response, offset: int, bar: tqdm) -> None:
        """Write the body from `offset` on into the .part."""
        if self.total is not None:
            check_free_space(self.folder, self.total - offset, f"to download {self.name}")
        position = offset
        bar.total, bar.n = self.total, offset
        bar.refresh()
        with open(self.part, "ab" if offset else "wb") as part:
            if not offset:
                facts = {"url": self.source.url, "validator": transfer.validator(response)}
                self.facts.write_text(json.dumps(facts), encoding="utf-8")
            while self.total is None or position <= self.total:
                with self._network_faults():
                    chunk = response.raw.read1(CHUNK_BYTES, decode_content=False)
                if not chunk:
                    break
                part.write(chunk)
                bar.update(len(chunk))
                position += len(chunk)
                self.furthest = max(self.furthest, position)
                if self.stop.is_set():
                    raise _Stopped
            part.flush()
            os.fsync(part.fileno())
        if not position:
            raise Transient("it sent nothing")
        if self.total is not None and position < self.total:
            raise Transient("the connection dropped")

    def _finish(self) -> None:
        """Check the .part and give it its final name."""
        problem = self._mismatch(self.part)
        if not problem:
            os.replace(self.part, self.target)
            self.facts.unlink(missing_ok=True)
            return
        self._discard()
        if self.is_doubtful and not self.has_started_over:
            self.has_started_over = True
            raise Transient(f"wrong content, {problem}", wait=0)
        raise UserError(
            f"{self.name}: {self.host} sent a wrong file ({problem}), which was removed: run the same command again; "
            f"if this comes back, the file changed at its source ({self.source.url}): update arch-hf"
        )

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.facts.unlink(missing_ok=True)

    def _mismatch(self, path: Path) -> str | None:
        """How a file differs from what the source states, or None."""
        size = path.stat().st_size
        if self.source.size not in (None, size):
            return f"{size} bytes, expected {self.source.size}"
        for algorithm, expected in (("md5", self.source.md5), ("sha1", self.source.sha1)):
            if expected and (checksum := self._checksum(path, algorithm)) != expected.lower():
                return f"{algorithm} {checksum}, expected {expected.lower()}"
        return None

    def _checksum(self, path: Path, algorithm: str) -> str:
        digest = hashlib.new(algorithm, usedforsecurity=False)
        options = {"unit": "B", "unit_scale": True, "delay": 1, "leave": False}
        with tqdm(desc=f"checking {path.name}", total=path.stat().st_size, **options) as bar, open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                if self.stop.is_set():
                    raise _Stopped
                digest.update(chunk)
                bar.update(len(chunk))
        return digest.hexdigest()


def _size(path: Path) -> int:
    """The size of a file in bytes, 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
