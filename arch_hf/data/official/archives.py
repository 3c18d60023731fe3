"""Extract the archives that the corpora come in, safely: nothing outside the target, nothing half-done under a final name."""

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, BinaryIO, cast

from tqdm import tqdm

from arch_hf.data.official import splitzip
from arch_hf.data.official.disk import check_free_space, only_writer, report_write_errors
from arch_hf.data.official.members import Member, checked_members
from arch_hf.errors import UserError

BLOCK_BYTES = 4096  # a small file takes a whole block of the disk
COPY_BYTES = 1 << 20
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,  # a zip's password; NotImplementedError, a zip's compression
)


def extract_all(paths: Sequence[Path], target_dir: Path) -> None:
    """Extract every archive among `paths` into `target_dir`, as `unzip` or `tar` there would. What is no archive stays as it is.

    Knows zip, tar, tar.gz, split zips (`x.z01`, ..., `x.zip`, through 7-Zip or zip) and zips cut into `x.zip.001`, `x.zip.002`, ...
    An archive is extracted beside the target and then moved into place. What it wrote is noted in `.NAME.extracted`: as
    long as the archive and those files are there, with their sizes, calling again does nothing.

    Raises:
        UserError: an archive is missing, damaged, holds what could reach outside the folder, or does not fit the disk; or
            a split zip meets neither 7-Zip nor zip. Nothing of that archive is left behind.

    Examples:
        >>> import tempfile, zipfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with zipfile.ZipFile(Path(folder, "x.zip"), "w") as archive:
        ...         archive.writestr("audio/dog.wav", b"bow")
        ...     extract_all([Path(folder, "x.zip")], Path(folder, "raw"))
        ...     Path(folder, "raw", "audio", "dog.wav").read_bytes()
        b'bow'
    """
    archives = _find_archives([Path(path) for path in paths])
    if archives:
        target_dir = Path(target_dir)
        with only_writer(target_dir):
            for archive in archives:
                _extract(archive, target_dir)


def check_programs(names: Sequence[str]) -> None:
    """Raise UserError now, rather than after the download, when `names` hold a split zip and no program here reads one.

    Examples:
        >>> check_programs(["ESC-50.zip", "annotations.csv"])
    """
    for name in names:
        if re.search(r"\.z\d\d$", name):
            splitzip.find_program(f"{name[:-4]}.zip")


@dataclass(frozen=True)
class _Archive:
    kind: str  # "zip", "tar", "split zip"
    files: tuple[Path, ...]  # in order

    @property
    def name(self) -> str:
        return self.files[-1].name if self.kind == "split zip" else self.files[0].name.removesuffix(".001")


def _find_archives(paths: Sequence[Path]) -> list[_Archive]:
    """The archives among `paths`, in order, each with all its parts."""
    _require(paths)
    archives: dict[Path, _Archive] = {}
    for path in paths:
        name = path.name.lower()
        if re.search(r"\.zip\.\d{3}$", name):
            whole = path.with_suffix("")
            numbers = [other.suffix[1:] for other in paths if other.with_suffix("") == whole]
            last = max(int(number) for number in numbers if re.fullmatch(r"\d{3}", number))
            parts = [whole.with_name(f"{whole.name}.{number:03d}") for number in range(1, last + 1)]
            _require(parts)
            archives[whole] = _Archive("zip", tuple(parts))
        elif re.search(r"\.z\d\d$", name):
            _require([path.with_suffix(".zip")])
        elif name.endswith(".zip"):
            before = splitzip.parts_before(path)
            _require(before)
            archives[path] = _Archive("split zip" if before else "zip", (*before, path))
        elif name.endswith((".tar.gz", ".tgz", ".tar")):
            archives[path] = _Archive("tar", (path,))
    return list(archives.values())


def _require(paths: Iterable[Path]) -> None:
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"missing, or not a file: {', '.join(missing)}")


def _extract(archive: _Archive, target: Path) -> None:
    """Extract one archive beside its place, then move it there."""
    note = target / f".{archive.name}.extracted"
    if _is_extracted(archive, note, target):
        return
    scratch = target / f".{archive.name}.extracting"
    needed = 0
    with report_write_errors(target, f"extracting {archive.name}", lambda: needed):
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
        try:
            with _report_damage(archive), _READERS[archive.kind](archive.files, scratch) as (members, unpack):
                wanted = checked_members(archive.name, members)
                files = {path: member for path, member in wanted.items() if member.kind == "file"}
                needed = sum(-(-member.size // BLOCK_BYTES) * BLOCK_BYTES for member in files.values())
                check_free_space(target, needed, f"to extract {archive.name}")
                tree = scratch / "tree"
                for path, member in wanted.items():
                    (tree / path if member.kind == "folder" else (tree / path).parent).mkdir(
                        parents=True, exist_ok=True
                    )
                n_bytes = sum(member.size for member in files.values())
                with tqdm(
                    desc=f"extracting {archive.name}", total=n_bytes, unit="B", unit_scale=True, mininterval=0.5
                ) as bar:
                    unpack(files, tree, bar)
                _check_tree(files, tree)
            _move_into(tree, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        facts = {"archive": _stamp(archive), "files": {path: member.size for path, member in files.items()}}
        aside = note.with_name(f"{note.name}.new")
        aside.write_text(json.dumps(facts), encoding="utf-8")
        os.replace(aside, note)


def _stamp(archive: _Archive) -> list:
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in archive.files]


def _is_extracted(archive: _Archive, note: Path, target: Path) -> bool:
    """Whether this very archive was extracted here and all its files are still there."""
    try:
        facts = json.loads(note.read_text(encoding="utf-8"))
        return facts["archive"] == _stamp(archive) and all(
            os.stat(os.path.join(target, path)).st_size == size for path, size in facts["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def _report_damage(archive: _Archive) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{archive.name} is damaged or not complete ({reason}): delete {', '.join(map(str, archive.files))} "
            "and fetch it again"
        ) from None


def _check_tree(files: Mapping[str, Member], tree: Path) -> None:
    """Whether `tree` holds these files, whole, and nothing else: another program may have written it."""
    n_left = len(files)
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            facts, member = os.lstat(path), files.get(os.path.relpath(path, tree).replace(os.sep, "/"))
            if member is None or not stat.S_ISREG(facts.st_mode) or facts.st_size != member.size:
                expected = f"{member.size} bytes" if member else "no such file"
                raise EOFError(f"{name} came out with {facts.st_size} bytes, expected {expected}")
            n_left -= 1
    if n_left:
        raise EOFError(f"{n_left} of {len(files)} files did not come out")


def _move_into(source: Path, target: Path) -> None:
    """Move what `source` holds into `target`: a folder in one step where `target` has none of that name."""
    for entry in sorted(os.listdir(source)):
        here, there = source / entry, target / entry
        if here.is_dir() and there.is_dir():
            _move_into(here, there)
        else:
            os.replace(here, there)


def _copy(stream: IO[bytes] | None, path: Path, bar: tqdm) -> None:
    with open(path, "wb") as file:
        while stream is not None and (chunk := stream.read(COPY_BYTES)):
            file.write(chunk)
            bar.update(len(chunk))


# One reader per kind: a context that gives the members and a function (files, folder, bar) that writes `files` below `folder`.
# `scratch` is a folder that the reader may fill; it is removed afterwards.

Unpack = Callable[[Mapping[str, Member], Path, tqdm], None]


@contextlib.contextmanager
def _read_zip(files: Sequence[Path], scratch: Path) -> Iterator[tuple[list[Member], Unpack]]:
    with io.BufferedReader(_Joined(files), COPY_BYTES) as whole, zipfile.ZipFile(whole) as archive:

        def unpack(wanted: Mapping[str, Member], folder: Path, bar: tqdm) -> None:
            for path, member in wanted.items():
                with archive.open(member.handle) as stream:
                    _copy(stream, folder / path, bar)

        _, n_members = splitzip.end_record(whole)
        if n_members not in (0xFFFF, len(archive.infolist())):  # 0xFFFF: too many for the record
            raise EOFError(f"lists {len(archive.infolist())} of its {n_members} members")
        yield [_zip_member(info) for info in archive.infolist()], unpack


def _zip_member(info: zipfile.ZipInfo) -> Member:
    kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link"}
    kind = kinds.get(stat.S_IFMT(info.external_attr >> 16), "device")  # the upper half is 0 when not zipped on Unix
    name = _zip_name(info)
    return Member(name, info.file_size, "folder" if name.endswith("/") and kind == "file" else kind, info)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name as its author had it. Without the UTF-8 flag the standard says cp437, yet macOS and Linux write UTF-8."""
    name = info.orig_filename
    if name.isascii() or info.flag_bits & 0x800:
        return name
    raw, extra = name.encode("cp437"), info.extra
    while len(extra) >= 4:  # Info-ZIP's Unicode Path (APPNOTE 4.6.9)
        tag, size = struct.unpack("<HH", extra[:4])
        if tag == 0x7075 and size > 5 and struct.unpack("<L", extra[5:9])[0] == zlib.crc32(raw):
            return extra[9 : 4 + size].decode("utf-8")
        extra = extra[4 + size :]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return name


class _Joined(io.RawIOBase):
    """Files read as one, without writing their concatenation."""

    def __init__(self, paths: Sequence[Path]):
        self._files = [open(path, "rb", buffering=0) for path in paths]  # noqa: SIM115 - closed in close()
        self._ends = list(accumulate(path.stat().st_size for path in paths))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._ends[-1]}[whence]
        if position < 0:
            raise ValueError(f"seek to {position}")
        self._position = position
        return position

    def readinto(self, buffer) -> int:
        index = bisect_right(self._ends, self._position)
        if index == len(self._ends):
            return 0
        file, start = self._files[index], self._ends[index - 1] if index else 0
        file.seek(self._position - start)
        n = file.readinto(buffer)
        self._position += n
        return n

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


@contextlib.contextmanager
def _read_tar(files: Sequence[Path], scratch: Path) -> Iterator[tuple[list[Member], Unpack]]:
    """Reads the archive twice: whatever is wrong with it must show before anything is written."""
    with open(files[0], "rb") as file:
        total = files[0].stat().st_size
        with (
            tqdm(desc=f"checking {files[0].name}", total=total, unit="B", unit_scale=True, delay=1, leave=False) as bar,
            _open_tar(file) as (archive, stream),
        ):
            members = []
            for info in archive:
                members.append(_tar_member(info))
                bar.update(file.tell() - bar.n)
            while stream.read(COPY_BYTES):  # to the checksum at its end
                bar.update(file.tell() - bar.n)

        def unpack(wanted: Mapping[str, Member], folder: Path, bar: tqdm) -> None:
            paths = {member.handle: path for path, member in wanted.items()}
            file.seek(0)
            with _open_tar(file) as (archive, _):
                for info in archive:
                    if path := paths.get(info.offset):
                        _copy(archive.extractfile(info), folder / path, bar)

        yield members, unpack


@contextlib.contextmanager
def _open_tar(file: BinaryIO) -> Iterator[tuple[tarfile.TarFile, BinaryIO]]:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    with contextlib.ExitStack() as opened:
        stream = cast(BinaryIO, opened.enter_context(gzip.open(file)) if packed else file)
        yield opened.enter_context(tarfile.open(fileobj=stream, mode="r:")), stream


def _tar_member(info: tarfile.TarInfo) -> Member:
    if info.isreg():
        kind = "file"
    elif info.isdir():
        kind = "folder"
    else:
        kind = "symbolic link" if info.issym() else "hard link" if info.islnk() else "device"
    return Member(info.name, info.size, kind, info.offset)


@contextlib.contextmanager
def _read_split_zip(files: Sequence[Path], scratch: Path) -> Iterator[tuple[list[Member], Unpack]]:
    last = files[-1]
    kind, program = splitzip.find_program(last.name)
    if kind == "zip":
        check_free_space(
            scratch.parent, sum(path.stat().st_size for path in files), f"to join the parts of {last.name}"
        )
        scratch.mkdir()
        splitzip.join(program, last, scratch / last.name)
        with _read_zip([scratch / last.name], scratch) as reader:
            yield reader
        return

    def unpack(wanted: Mapping[str, Member], folder: Path, bar: tqdm) -> None:
        sizes = {member.name: member.size for member in wanted.values()}
        splitzip.unpack(program, last, folder, lambda name: bar.update(sizes.get(name, 0)))

    yield splitzip.list_members(program, last), unpack


_READERS = {"zip": _read_zip, "tar": _read_tar, "split zip": _read_split_zip}
