"""A file as the decoder gets it: bytes that can be read at any place, and the stretches of them that are audio."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from arch_hf.errors import AudioError

_BLOCK = 1 << 20
# So many bytes may be missing from the end: writers that count their own header among the samples overstate the size by as much.
_SPARE_BYTES = 128
_SPARE_SHARE = 0.05
_EXTRA_BYTES = 16  # padding behind the end


class Source:
    """A clip's bytes, in memory or on disk: `at` reads some of them, `size` counts all.

    Raises:
        AudioError: if there is no such file, it cannot be read, or it is empty.
    """

    def __init__(self, source: bytes | str | Path):
        self._file: BinaryIO
        self.content: bytes | None = None  # where they are in memory
        if isinstance(source, (bytes, bytearray, memoryview)):
            self.content = bytes(source)
            self._file, self.size = io.BytesIO(self.content), len(source)
        else:
            path = Path(source)
            if not path.is_file():
                raise AudioError("no such file")
            try:
                self._file = path.open("rb")
            except OSError as error:
                raise AudioError(f"cannot be read ({error.strerror})") from None
            self.size = path.stat().st_size
        if self.size == 0:
            self._file.close()
            raise AudioError("empty file (0 bytes)")

    def at(self, offset: int, n_bytes: int) -> bytes:
        """Up to `n_bytes` bytes from `offset` on; fewer at the end, none beyond it."""
        if n_bytes <= 0 or not 0 <= offset < self.size:
            return b""
        if self.content is not None:
            return self.content[offset : offset + n_bytes]
        self._file.seek(offset)
        try:
            return self._file.read(min(n_bytes, self.size - offset))
        except OSError as error:
            raise AudioError(f"cannot be read ({error.strerror})") from None

    def find(self, wanted: bytes, start: int) -> int:
        """Where `wanted` first stands at `start` or later; -1 if nowhere."""
        while start < self.size:
            block = self.at(start, _BLOCK + len(wanted))
            if (place := block.find(wanted)) >= 0:
                return start + place
            start += _BLOCK
        return -1

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


@dataclass(frozen=True)
class Part:
    """A stretch of a file that the decoder takes for a whole one.

    `patches` (place in the file, bytes) are put over the bytes from `start` to `stop`, and `padding` zeros behind them, where a header does
    not know what the file holds. `frames` is the number of samples of each channel where frames or pages tell it, and not the header.
    `doubtful` says whether only the decoder can tell that the part is whole, by coming to its end; `suspect` is what is known of that at once.
    """

    start: int
    stop: int
    patches: tuple[tuple[int, bytes], ...] = ()
    padding: int = 0
    frames: int | None = None
    doubtful: Callable[[], bool] = field(default=lambda: False, compare=False)
    suspect: bool = False


def check_whole(stated: int, present: int, to_the_end: bool = False) -> None:
    """Refuse a file that holds fewer bytes of audio than its header states; or more, where the audio goes `to_the_end` of the file.

    Raises:
        AudioError: if so.
    """
    missing = stated - present
    if missing > _SPARE_BYTES or missing > _SPARE_SHARE * stated:
        share = min(0.99, max(0.01, missing / stated))
        raise AudioError(f"truncated: {share:.0%} of the data that the header promises is missing")
    if to_the_end and -missing > _EXTRA_BYTES:
        raise AudioError(f"holds {-missing} bytes more than its header knows of: is it one file?")


def as_file(source: Source, part: Part) -> BinaryIO:
    """A part as a file for libsndfile.

    Led astray by a damaged header, libsndfile may ask for places that there are not; it is not told so by an exception, which nobody
    could catch in its callback.
    """
    if isinstance(source.content, bytes) and part == Part(0, source.size, frames=part.frames, suspect=part.suspect):
        return _Memory(source.content)
    return cast(BinaryIO, _PartFile(source, part))


class _Memory(io.BytesIO):
    """Bytes as they are: the common case, at the speed of C."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class _PartFile:
    """A part with its patches and its padding."""

    def __init__(self, source: Source, part: Part):
        self._source, self._part, self._place = source, part, 0
        self._size = part.stop - part.start + part.padding

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer) -> int:
        content = self._bytes(min(len(buffer), self._size - self._place))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def _bytes(self, n_bytes: int) -> bytes:
        part, begin = self._part, self._part.start + self._place
        content = self._source.at(begin, min(n_bytes, part.stop - begin))
        if len(content) == n_bytes and not part.patches:
            return content
        patched = bytearray(content.ljust(n_bytes, b"\0") if part.padding else content)
        for place, patch in part.patches:
            for i in range(max(0, begin - place), min(len(patch), begin + len(patched) - place)):
                patched[place + i - begin] = patch[i]
        return bytes(patched)
