"""Archives as the corpora come, and as an attacker or a broken disk would make them."""

import errno
import gzip
import io
import os
import random
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arch_hf.data.official import archives, disk, splitzip
from arch_hf.data.official.archives import check_programs, extract_all
from arch_hf.errors import UserError

NOISE = random.Random(0).randbytes(60_000)
FILES = {
    "top/audio/[cel][cla]0001__1.wav": NOISE,
    "top/audio/02 - Ave María.wav": b"RIFF" * 2000,
    "top/audio/naïve – Ünïcode 音.wav": b"x",
    "top/empty.mp3": b"",
    "top/meta.csv": b"filename,fold\n" * 300,
    "flat.wav": b"flat",
}


def make_zip(path: Path, files=FILES, **options) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files=FILES, extra=()) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


def make_cut_zip(path: Path) -> list[Path]:
    whole = make_zip(path).read_bytes()
    path.unlink()
    cuts = [0, 1000, len(whole) - 30, len(whole)]  # the last cut goes through the end record
    parts = [path.with_name(f"{path.name}.{number:03d}") for number in (1, 2, 3)]
    for part, start, end in zip(parts, cuts, cuts[1:], strict=False):
        part.write_bytes(whole[start:end])
    return parts


def make_split_zip(path: Path, files=FILES) -> list[Path]:
    tree = path.parent / "tree"
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    subprocess.run(["zip", "-q", "-r", "-s", "64k", str(path.absolute()), *os.listdir(tree)], cwd=tree, check=True)
    shutil.rmtree(tree)
    return sorted(path.parent.glob("*.z*"))


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder but our own notes."""
    ours = (".arch-hf.lock", ".extracted")
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(ours))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_member(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


needs_zip = pytest.mark.skipif(not shutil.which("zip"), reason="makes a split zip with zip")
needs_7z = pytest.mark.skipif(not any(map(shutil.which, splitzip.SEVEN_ZIP)), reason="needs 7-Zip")


@pytest.fixture(
    params=[
        "zip",
        "tar.gz",
        "cut",
        pytest.param("7z", marks=[needs_zip, needs_7z]),
        pytest.param("zip -s", marks=needs_zip),
    ]
)
def paths(request, tmp_path, monkeypatch):
    """The same files in each form."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    if request.param == "zip":
        return [make_zip(folder / "corpus.zip")]
    if request.param == "tar.gz":
        return [make_tar(folder / "corpus.tar.gz")]
    if request.param == "cut":
        return make_cut_zip(folder / "corpus.zip")
    if request.param == "zip -s":
        monkeypatch.setattr(splitzip, "SEVEN_ZIP", ())
    return make_split_zip(folder / "corpus.zip")


def test_all_files_come_out(paths, tmp_path):
    table = tmp_path / "downloads" / "table.csv"
    table.write_text("a,b\n")
    target = tmp_path / "raw"
    extract_all([*paths, table], target)
    assert tree(target) == FILES
    assert {path.name for path in target.iterdir()} == {
        "top",
        "flat.wav",
        ".arch-hf.lock",
        ".corpus.zip.extracted",
    } or ((target / ".corpus.tar.gz.extracted").exists() and len(list(target.iterdir())) == 4)
    assert table.read_text() == "a,b\n"


def test_again_does_nothing_unless_something_is_missing_or_new(paths, tmp_path):
    target = tmp_path / "raw"
    extract_all(paths, target)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.suffix != ".lock"}
    extract_all(paths, target)
    assert before == {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.suffix != ".lock"}
    (target / "top" / "meta.csv").unlink()
    (target / "top" / "mine.txt").write_text("kept")
    extract_all(paths, target)
    assert tree(target) == {**FILES, "top/mine.txt": b"kept"}
    (target / "flat.wav").write_bytes(b"cut")
    os.utime(paths[-1], ns=(0, 0))
    extract_all(paths, target)
    assert tree(target) == {**FILES, "top/mine.txt": b"kept"}


def test_a_killed_run_leaves_nothing_in_the_way(tmp_path):
    path = make_zip(tmp_path / "corpus.zip")
    (tmp_path / "raw" / ".corpus.zip.extracting" / "tree" / "top").mkdir(parents=True)
    (tmp_path / "raw" / ".corpus.zip.extracting" / "tree" / "top" / "half.wav").write_bytes(b"ha")
    extract_all([path], tmp_path / "raw")
    assert tree(tmp_path / "raw") == FILES


BAD_NAMES = ["../out.wav", "top/../../out.wav", "/tmp/out.wav", "C:/out.wav", "C:out.wav", "top\\..\\..\\out.wav", ".."]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_member_that_leads_outside_is_refused(make, name, tmp_path):
    path = make(tmp_path / ("x.zip" if make is make_zip else "x.tar.gz"), {**FILES, name: b"out"})
    with pytest.raises(UserError, match=r"x\.\S+ is refused, nothing was written: its member ") as caught:
        extract_all([path], tmp_path / "in" / "raw")
    assert repr(name) in str(caught.value)
    assert tree(tmp_path / "in") == {}
    assert set(tree(tmp_path)) == {path.name}


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        (tar_member("top/l", tarfile.SYMTYPE, "/etc/passwd"), "symbolic link"),
        (tar_member("top/l", tarfile.SYMTYPE, "meta.csv"), "symbolic link"),
        (tar_member("top/l", tarfile.LNKTYPE, "top/meta.csv"), "hard link"),
        (tar_member("top/l", tarfile.CHRTYPE), "device"),
        (tar_member("top/l", tarfile.BLKTYPE), "device"),
        (tar_member("top/l", tarfile.FIFOTYPE), "device"),
        (zip_member("top/l", stat.S_IFLNK | 0o777), "symbolic link"),
        (zip_member("top/l", stat.S_IFCHR | 0o777), "device"),
        (zip_member("top/l", stat.S_IFIFO | 0o777), "device"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_links_and_devices_are_refused(member, kind, tmp_path):
    if isinstance(member, tarfile.TarInfo):
        path = make_tar(tmp_path / "x.tar.gz", extra=[member])
    else:
        path = make_zip(tmp_path / "x.zip", {**FILES, member: b"/etc/passwd"})
    with pytest.raises(UserError, match=rf"'top/l' is a {kind}"):
        extract_all([path], tmp_path / "raw")
    assert tree(tmp_path / "raw") == {}


@needs_zip
@pytest.mark.parametrize("program", [pytest.param("7z", marks=needs_7z), "zip -s"])
def test_a_link_in_a_split_zip_is_refused(program, tmp_path, monkeypatch):
    if program == "zip -s":
        monkeypatch.setattr(splitzip, "SEVEN_ZIP", ())
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.wav").write_bytes(NOISE * 2)
    (tmp_path / "tree" / "l").symlink_to("/etc/passwd")
    subprocess.run(["zip", "-q", "-r", "-y", "-s", "64k", "../x.zip", "."], cwd=tmp_path / "tree", check=True)
    with pytest.raises(UserError, match="'l' is a symbolic link"):
        extract_all(sorted(tmp_path.glob("x.z*")), tmp_path / "raw")
    assert tree(tmp_path / "raw") == {}


@needs_zip
@needs_7z
@pytest.mark.parametrize("name", ["../out.wav", "/tmp/o.wav"])
def test_a_split_zip_that_leads_outside_is_refused(name, tmp_path):
    """zip itself makes none, so the stored name is overwritten with a bad one of its length."""
    own = f"{'q' * (len(name) - 4)}.wav"
    parts = make_split_zip(tmp_path / "x.zip", {"a.wav": NOISE, own: b"out", "z.wav": NOISE})
    for part in parts:
        part.write_bytes(part.read_bytes().replace(own.encode(), name.encode()))
    with pytest.raises(UserError, match=r"x\.zip is refused, nothing was written"):
        extract_all(parts, tmp_path / "in" / "raw")
    assert tree(tmp_path / "in") == {}


def test_of_two_members_with_one_name_none_is_lost_in_silence(tmp_path):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        for name, content in (("a.wav", b"one"), ("./a.wav", b"one"), ("b.wav", b"1"), ("b.wav", b"two")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(UserError, match=r"'b\.wav' occurs twice, with different sizes"):
        extract_all([tmp_path / "x.tar.gz"], tmp_path / "raw")
    assert tree(tmp_path / "raw") == {}


def test_mac_files_are_left_out(tmp_path):
    junk = {"__MACOSX/top/._a.wav": b"j", "top/.DS_Store": b"j", ".DS_Store": b"j", "top/._b.wav": b"j"}
    for path in (make_zip(tmp_path / "x.zip", {**FILES, **junk}), make_tar(tmp_path / "x.tar.gz", {**junk, **FILES})):
        extract_all([path], tmp_path / path.suffix)
        assert tree(tmp_path / path.suffix) == FILES


@needs_zip
@needs_7z
def test_mac_files_of_a_split_zip_are_left_out(tmp_path):
    junk = {"__MACOSX/top/._a.wav": NOISE, "top/.DS_Store": b"j", "top/._b.wav": b"j"}
    extract_all(make_split_zip(tmp_path / "x.zip", {**FILES, **junk}), tmp_path / "raw")
    assert tree(tmp_path / "raw") == FILES


def rename_in_zip(path: Path, old: bytes, new: bytes, *, utf8_flag: bool = False, unicode_path: str = "") -> None:
    """Put raw bytes where the name of the only member is, in both headers, and clear the flag that Python sets."""
    extra = b""
    if unicode_path:
        payload = struct.pack("<BL", 1, zlib.crc32(new)) + unicode_path.encode()
        extra = struct.pack("<HH", 0x7075, len(payload)) + payload
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo(old.decode())
        info.extra = extra
        archive.writestr(info, b"sound")
    data = path.read_bytes().replace(old, new)
    assert len(old) == len(new)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("stored", "unicode_path", "expected"),
    [
        ("Café – ñ.wav".encode(), "", "Café – ñ.wav"),  # macOS and Linux: UTF-8 without saying so
        ("Café.wav".encode("cp437"), "", "Café.wav"),  # DOS and Windows
        ("Caf?.wav".encode("cp437").replace(b"?", b"\xe9"), "Café.wav", "Café.wav"),  # Info-ZIP's extra field
        ("Ãlk.wav".encode(), "", "Ãlk.wav"),
    ],
)
def test_names_that_are_not_ascii(stored, unicode_path, expected, tmp_path):
    path = tmp_path / "x.zip"
    rename_in_zip(path, b"q" * len(stored), stored, unicode_path=unicode_path)
    extract_all([path], tmp_path / "raw")
    assert tree(tmp_path / "raw") == {expected: b"sound"}


def test_a_zip_made_in_one_pass_with_zip64_is_no_bomb(tmp_path):
    """As fma's, which `unzip` takes for a bomb: sizes after the data, 64-bit fields, strong compression."""

    class Pipe(io.RawIOBase):
        def __init__(self, file):
            self.file = file

        def writable(self):
            return True

        def write(self, data):
            return self.file.write(data)

    with open(tmp_path / "x.zip", "wb") as file, zipfile.ZipFile(Pipe(file), "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(50):
            with archive.open(zipfile.ZipInfo(f"fma/{i:06d}.mp3"), "w", force_zip64=True) as member:
                member.write(bytes(200_000))
    extract_all([tmp_path / "x.zip"], tmp_path / "raw")
    assert tree(tmp_path / "raw") == {f"fma/{i:06d}.mp3": bytes(200_000) for i in range(50)}


def test_what_does_not_fit_is_refused_before_it_is_written(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "x.zip", {f"{i}.wav": bytes(1_000_000) for i in range(5)})  # 5 kB that become 5 MB
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=4_000_000))
    with pytest.raises(UserError, match=r"not enough disk space to extract x\.zip: 5\.0 MB needed in .*, 4\.0 MB free"):
        extract_all([path], tmp_path / "raw")
    assert tree(tmp_path / "raw") == {}


class FullDisk(io.FileIO):
    def write(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_fills_up_leaves_nothing_behind(paths, tmp_path, monkeypatch):
    if paths[0].suffix == ".z01" and splitzip.SEVEN_ZIP:
        monkeypatch.setattr(splitzip, "unpack", lambda *_: FullDisk(os.devnull).write(b""))
    monkeypatch.setattr(
        archives, "open", lambda p, mode, **k: (FullDisk if mode == "wb" else open)(p, mode), raising=False
    )
    with pytest.raises(UserError, match=r"disk full while extracting corpus\.\S+: \S+ kB more needed in .*raw"):
        extract_all(paths, tmp_path / "raw")
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {".arch-hf.lock"}


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "raw" / "flat.wav").mkdir(parents=True)
    with pytest.raises(UserError, match=r"error while extracting x\.zip in .*flat\.wav"):
        extract_all([make_zip(tmp_path / "x.zip")], tmp_path / "raw")


def test_missing_parts_are_named(tmp_path):
    parts = make_cut_zip(tmp_path / "mp3.zip")
    with pytest.raises(UserError, match=r"missing, or not a file: .*mp3\.zip\.002$"):
        parts[1].rename(tmp_path / "elsewhere")
        extract_all([parts[0], parts[2]], tmp_path / "raw")
    (tmp_path / "elsewhere").rename(parts[1])
    with pytest.raises(UserError, match=r"mp3\.zip is damaged or not complete"):
        extract_all(parts[:2], tmp_path / "raw")
    with pytest.raises(UserError, match=r"missing, or not a file: .*gone\.zip$"):
        extract_all([tmp_path / "gone.zip"], tmp_path / "raw")


def last_of_split(path: Path, n_before: int) -> Path:
    """As much of a split zip's last file as tells that it is one."""
    make_zip(path, {"a.wav": b"a"})
    data = path.read_bytes()
    end = data.rfind(b"PK\x05\x06")
    path.write_bytes(data[: end + 4] + struct.pack("<HH", n_before, n_before) + data[end + 8 :])
    return path


def test_split_zip_without_its_parts_or_without_a_program(tmp_path, monkeypatch):
    path = last_of_split(tmp_path / "FSD50K.dev_audio.zip", 2)
    (tmp_path / "FSD50K.dev_audio.z01").write_bytes(b"")
    with pytest.raises(UserError, match=r"missing, or not a file: \S+/FSD50K\.dev_audio\.z02$"):
        extract_all([path], tmp_path / "raw")
    (tmp_path / "FSD50K.dev_audio.z02").write_bytes(b"")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"dev_audio\.zip is a split zip.*7-Zip or zip.*neither is installed.*apt install"
    ) as one:
        extract_all([path, tmp_path / "FSD50K.dev_audio.z01"], tmp_path / "raw")
    with pytest.raises(UserError) as other:  # the same words before the download
        check_programs(["FSD50K.ground_truth.zip", "FSD50K.dev_audio.z01", "FSD50K.dev_audio.zip"])
    assert str(one.value) == str(other.value)
    assert tree(tmp_path / "raw") == {}
    with pytest.raises(UserError, match=r"missing, or not a file: \S+/lone\.zip"):
        (tmp_path / "lone.z01").write_bytes(b"")
        extract_all([tmp_path / "lone.z01"], tmp_path / "raw")


@needs_zip
@pytest.mark.parametrize("program", [pytest.param("7z", marks=needs_7z), "zip -s"])
def test_damage_in_a_split_zip(program, tmp_path, monkeypatch):
    if program == "zip -s":
        monkeypatch.setattr(splitzip, "SEVEN_ZIP", ())
    parts = make_split_zip(tmp_path / "x.zip", {"a.wav": NOISE * 3})
    data = bytearray(parts[0].read_bytes())
    data[30_000] ^= 1
    parts[0].write_bytes(data)
    with pytest.raises(UserError, match=r"x\.zip.*(could not read it|damaged)"):
        extract_all(parts, tmp_path / "raw")
    assert tree(tmp_path / "raw") == {}


SMALL = {"a/b.wav": b"b" * 300, "a/c.wav": NOISE[:200], "d.csv": b"1,2\n"}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return {
        "x.zip": make_zip(folder / "x.zip", SMALL).read_bytes(),
        "x.tar.gz": make_tar(folder / "x.tar.gz", SMALL).read_bytes(),
    }


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), name=st.sampled_from(["x.zip", "x.tar.gz"]))
def test_whatever_is_broken_the_files_are_right_or_not_there(data, name, small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    whole = bytearray(small[name])
    if data.draw(st.booleans(), "cut"):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1), "at")]
    else:
        for _ in range(data.draw(st.integers(1, 3), "flips")):
            whole[data.draw(st.integers(0, len(whole) - 1), "at")] ^= data.draw(st.integers(1, 255), "by")
    (folder / name).write_bytes(whole)
    try:
        extract_all([folder / name], folder / "raw")
    except UserError as error:
        assert "\n" not in str(error)
        assert tree(folder / "raw") == {}
    else:  # a flip in a name or a date is no damage that a checksum of the content could tell
        assert sorted(tree(folder / "raw").values()) == sorted(SMALL.values())


def test_a_zip_that_lists_fewer_members_than_it_has_is_not_taken_for_whole(tmp_path):
    """One wrong length in its directory swallows the entries that follow, and zipfile does not count."""
    data = bytearray(make_zip(tmp_path / "x.zip", SMALL).read_bytes())
    first = data.find(b"PK\x01\x02")
    data[first + 30 : first + 32] = struct.pack("<H", data.rfind(b"PK\x05\x06") - first - 46 - len("a/b.wav"))
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.zip is damaged or not complete \(.*1 of its 3 members|Corrupt extra"):
        extract_all([tmp_path / "x.zip"], tmp_path / "raw")


def test_a_tar_cut_at_a_member_is_not_taken_for_whole(tmp_path):
    """Without its end-of-stream marker gzip is cut, even where the tar inside ends between two files."""
    whole = gzip.decompress(make_tar(tmp_path / "x.tar.gz", SMALL).read_bytes())
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(whole[:1024])[:-8])
    with pytest.raises(UserError, match=r"x\.tar\.gz is damaged or not complete"):
        extract_all([tmp_path / "x.tar.gz"], tmp_path / "raw")
