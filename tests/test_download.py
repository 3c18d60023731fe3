"""Downloads from a server that fails in every way it can: the end is the right file, or a clear error and no file."""

import errno
import hashlib
import io
import os
import random
import re
import shutil
import ssl
import subprocess
import threading
import zipfile
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arch_hf.cli import corpora as cli
from arch_hf.data import get_corpus
from arch_hf.data.official import disk, download
from arch_hf.data.official.download import fetch_sources, file_name
from arch_hf.data.official.raw import RawFolder
from arch_hf.data.spec import Source
from arch_hf.errors import UserError
from tests.fault_server import Answer, FaultServer

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA1 = hashlib.sha1(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def shared_server():
    with FaultServer() as server:
        yield server


@pytest.fixture
def server(shared_server, monkeypatch):
    shared_server.reset()
    shared_server.files["/x.zip"] = CONTENT
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.002)
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", (5.0, 0.3))
    return shared_server


def source(server, path="/x.zip", **facts) -> Source:
    return Source(f"{server.root}{path}", **facts)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".arch-hf.lock"}


def drop(after=100_000, **more):
    return Answer(stop_after=after, **more)


IN_AN_HOUR = format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)
FACTS = [
    {"md5": MD5, "size": len(CONTENT)},
    {"sha1": SHA1},
    {"size": len(CONTENT)},
    {},
]


@pytest.mark.parametrize("facts", FACTS, ids=lambda facts: "+".join(facts) or "nothing known")
@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([], id="good"),
        pytest.param([drop(), drop(0), drop(50_000)], id="drops"),
        pytest.param([drop(70_000, reset=True)], id="reset"),
        pytest.param([drop(70_000, stall=0.5)], id="stall"),
        pytest.param([drop(honours_ranges=False), Answer(honours_ranges=False)], id="no Range"),
        pytest.param([drop(chunked=True), Answer(chunked=True)], id="broken chunks"),
        pytest.param([drop(chunked=True, etag=None), Answer(chunked=True, etag=None)], id="chunks, no validator"),
        pytest.param([drop(etag='W/"weak"'), Answer(etag='W/"weak"')], id="weak ETag"),
        pytest.param([drop(etag=None, headers={"Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT"})], id="date"),
        pytest.param([drop(), Answer(shifts_range=7)], id="wrong range"),
        pytest.param([drop(content=OTHER)], id="changed half-way"),
        pytest.param([drop(content=OTHER), Answer(ignores_if_range=True)], id="changed, If-Range ignored"),
        pytest.param([Answer(429, {"Retry-After": "0"})], id="429"),
        pytest.param([Answer(503), Answer(500), Answer(502), Answer(504)], id="5xx"),
        pytest.param([drop(), Answer(503, {"Retry-After": "Thu, 01 Jan 2015 00:00:00 GMT"})], id="Retry-After date"),
        pytest.param([Answer(302, {"Location": "/moved.zip"})], id="redirect"),
    ],
)
def test_right_file_after(answers, facts, server, tmp_path):
    server.files["/moved.zip"] = CONTENT
    server.script["/x.zip"] = list(answers)
    assert fetch_sources([source(server, **facts)], tmp_path) == [tmp_path / "x.zip"]
    assert (tmp_path / "x.zip").read_bytes() == CONTENT
    assert left_in(tmp_path) == {"x.zip"}


@pytest.mark.parametrize("answer", [Answer(states_length=False), Answer(states_length=False, honours_ranges=False)])
@pytest.mark.parametrize("facts", FACTS, ids=lambda facts: "+".join(facts) or "nothing known")
def test_no_content_length(answer, facts, server, tmp_path, capsys):
    server.always["/x.zip"] = answer
    if facts:  # a broken transfer looks whole, but for the size or the checksum
        server.script["/x.zip"] = [drop(states_length=False)]
    fetch_sources([source(server, **facts)], tmp_path)
    assert (tmp_path / "x.zip").read_bytes() == CONTENT
    assert ("a broken transfer would not show" in capsys.readouterr().err) == (not facts)


@pytest.mark.parametrize(
    ("always", "facts", "message", "kept"),
    [
        pytest.param(Answer(404), {}, "answered 404 .*/x.zip.* put it at ", None, id="404"),
        pytest.param(Answer(403), {"md5": MD5}, "answered 403", None, id="403"),
        pytest.param(
            Answer(content=OTHER), {"md5": MD5}, f"md5 {hashlib.md5(OTHER).hexdigest()}, expected {MD5}", None
        ),
        pytest.param(Answer(content=OTHER), {"sha1": SHA1}, f"expected {SHA1}", None, id="sha1"),
        pytest.param(Answer(content=OTHER[:-1]), {"size": 300_000}, "299999 bytes where 300000", None, id="truncated"),
        pytest.param(
            Answer(content=OTHER + b"1", states_length=False), {"size": 300_000}, "wrong file", None, id="too long"
        ),
        pytest.param(drop(states_length=False), {"md5": MD5}, "wrong file", None, id="truncated, no length"),
        pytest.param(drop(states_length=False), {"size": 300_000}, None, None, id="truncated, size known"),
        pytest.param(drop(honours_ranges=False), {"md5": MD5}, "6 times.*connection dropped.*100.0 kB", 100_000),
        pytest.param(drop(chunked=True, honours_ranges=False), {}, "connection dropped", 100_000, id="broken chunks"),
        pytest.param(Answer(503), {}, "6 times in a row.*answered 503", None, id="503"),
        pytest.param(Answer(429, {"Retry-After": "3600"}), {}, "come back in 60 minutes .*429", None, id="429"),
        pytest.param(
            Answer(429, {"Retry-After": IN_AN_HOUR}), {}, "come back in [1-6][0-9] minutes .*429", None, id="429 date"
        ),
        pytest.param(Answer(301, {"Location": "/x.zip"}), {}, "in circles", None, id="circle"),
        pytest.param(Answer(301, {"Location": "file:///etc/passwd"}), {}, "not http", None, id="file redirect"),
        pytest.param(Answer(headers={"Content-Type": "text/html; charset=utf-8"}), {}, "web page", None, id="page"),
        pytest.param(Answer(headers={"Content-Encoding": "br"}), {}, "compresses", None, id="compressed"),
        pytest.param(Answer(content=b""), {}, "sent nothing", None, id="empty"),
        pytest.param(drop(0, stall=0.5), {}, "no answer in time", None, id="silent"),
    ],
)
def test_clear_error_and_no_file_after(always, facts, message, kept, server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", (5.0, 0.05))
    server.always["/x.zip"] = always
    if message is None:  # goes on where it stopped, each time: the right file in the end
        fetch_sources([source(server, **facts)], tmp_path)
        assert (tmp_path / "x.zip").read_bytes() == CONTENT
        return
    with pytest.raises(UserError, match=message) as caught:
        fetch_sources([source(server, **facts)], tmp_path)
    assert str(caught.value).startswith("x.zip: localhost ")
    assert "\n" not in str(caught.value)
    if kept:
        assert (tmp_path / "x.zip.part").stat().st_size == kept
    else:
        assert left_in(tmp_path) == set()


def test_a_host_that_is_not_there(server, tmp_path):
    with pytest.raises(UserError, match="localhost failed 6 times in a row, last: it takes no connection"):
        fetch_sources([Source("http://localhost:9/x.zip")], tmp_path)


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
def test_bad_certificate(tmp_path, server):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout {key} -out {certificate}"
    subprocess.run(make.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with FaultServer(context) as untrusted:
        untrusted.files["/x.zip"] = CONTENT
        with pytest.raises(
            UserError, match=r"certificate of localhost is not valid \(self.signed certificate\).*put it at"
        ):
            fetch_sources([source(untrusted, md5=MD5)], tmp_path / "new")
    assert not untrusted.requests
    assert left_in(tmp_path / "new") == set()


def test_tls_that_is_no_tls_is_tried_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    with pytest.raises(UserError, match="2 times in a row, last: the TLS connection failed"):
        fetch_sources([Source(server.root.replace("http:", "https:") + "/x.zip")], tmp_path)


def test_resumes_within_a_run_with_the_validator(server, tmp_path):
    server.script["/x.zip"] = [drop(1), drop(99_999), drop(0)]
    fetch_sources([source(server)], tmp_path)
    assert server.ranges("/x.zip") == [None, "bytes=1-", "bytes=100000-", "bytes=100000-"]
    assert server.requests[1][1]["If-Range"] == f'"{SHA1}"'


@pytest.mark.parametrize("facts", [{"md5": MD5}, {}])
def test_the_next_run_goes_on_where_this_one_stopped(facts, server, tmp_path):
    server.script["/x.zip"] = [drop(200_000), *[drop(0)] * 5]
    with pytest.raises(UserError, match=r"200\.0 kB are kept; run the same command again"):
        fetch_sources([source(server, **facts)], tmp_path)
    server.requests.clear()
    fetch_sources([source(server, **facts)], tmp_path)
    assert server.ranges("/x.zip") == ["bytes=200000-"]
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_a_whole_part_needs_no_byte(server, tmp_path):
    """Killed between the last byte and the final name: with the size known not even a request, else one answered 416."""
    (tmp_path / "x.zip.part").write_bytes(CONTENT)
    facts = f'{{"url": "{server.root}/x.zip", "validator": null}}'
    (tmp_path / "x.zip.part.json").write_text(facts)
    fetch_sources([source(server, md5=MD5, size=len(CONTENT))], tmp_path)
    assert not server.requests
    os.replace(tmp_path / "x.zip", tmp_path / "x.zip.part")
    (tmp_path / "x.zip.part.json").write_text(facts)
    fetch_sources([source(server, md5=MD5)], tmp_path)
    assert server.ranges("/x.zip") == [f"bytes={len(CONTENT)}-"]
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "facts", ["", "[]", '{"url": 3}', '{"url": "http://elsewhere/x.zip", "validator": "\\"a\\""}', "\0"]
)
def test_a_part_of_unknown_origin_is_not_continued(facts, server, tmp_path):
    (tmp_path / "x.zip.part").write_bytes(OTHER[:1000])
    (tmp_path / "x.zip.part.json").write_text(facts)
    fetch_sources([source(server)], tmp_path)
    assert server.ranges("/x.zip") == [None]
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_a_spoilt_part_costs_one_fresh_start(server, tmp_path):
    (tmp_path / "x.zip.part").write_bytes(OTHER[:1000])
    (tmp_path / "x.zip.part.json").write_text(f'{{"url": "{server.root}/x.zip", "validator": null}}')
    fetch_sources([source(server, sha1=SHA1)], tmp_path)
    assert server.ranges("/x.zip") == ["bytes=1000-", None]
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_a_file_that_became_shorter_is_fetched_anew(server, tmp_path):
    server.script["/x.zip"] = [drop(400_000, content=OTHER + OTHER, etag='"same"'), Answer(etag='"same"')]
    fetch_sources([source(server)], tmp_path)
    assert server.ranges("/x.zip") == [None, "bytes=400000-", None]
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_a_file_that_is_there_is_checked_and_not_fetched(server, tmp_path, capsys):
    (tmp_path / "x.zip").write_bytes(CONTENT)
    for facts in FACTS:
        fetch_sources([source(server, **facts)], tmp_path)
    assert not server.requests
    (tmp_path / "x.zip").write_bytes(OTHER)
    fetch_sources([source(server, md5=MD5)], tmp_path)
    assert (tmp_path / "x.zip").read_bytes() == CONTENT
    assert (tmp_path / "x.zip.wrong").read_bytes() == OTHER
    assert re.search(rf"md5 {hashlib.md5(OTHER).hexdigest()}, expected {MD5}\): moved to", capsys.readouterr().err)


class FullDisk(io.FileIO):
    """A file on a disk with room for 200,000 bytes."""

    def write(self, data):
        if self.tell() + len(data) > 200_000:
            super().write(memoryview(data)[: 200_000 - self.tell()])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_disk_that_fills_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "open", lambda path, mode: FullDisk(path, mode), raising=False)
    with pytest.raises(
        UserError, match=r"disk full while downloading x.zip: 100\.0 kB more needed in .*free some space"
    ):
        fetch_sources([source(server)], tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.002)
    fetch_sources([source(server)], tmp_path)
    assert server.ranges("/x.zip") == [None, "bytes=200000-"]
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("facts", [{"size": len(CONTENT)}, {}])
def test_too_small_a_disk_is_seen_before(facts, server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=250_000))
    with pytest.raises(UserError, match=r"to download x.zip: 300\.0 kB needed in .*, 250\.0 kB free"):
        fetch_sources([source(server, **facts)], tmp_path)
    assert len(server.requests) == (0 if facts else 1)
    assert left_in(tmp_path) == set()


def test_files_come_at_the_same_time_and_in_order(server, tmp_path):
    everyone = threading.Barrier(4)

    class Meeting:
        def wait(self, seconds):
            everyone.wait(seconds)  # breaks unless four requests are under way at once

    names = [f"/{i}.bin" for i in range(4)]
    for i, name in enumerate(names):
        server.files[name] = CONTENT[i:]
        server.script[name] = [Answer(hold=Meeting())]
    paths = fetch_sources([source(server, name) for name in names], tmp_path / "made" / "for it", max_workers=4)
    assert [path.read_bytes() for path in paths] == [CONTENT[i:] for i in range(4)]


def test_one_that_fails_stops_the_others_which_keep_their_part(server, tmp_path):
    failed = threading.Event()
    server.files["/slow.bin"] = CONTENT * 40
    server.script["/slow.bin"] = [drop(150_000, stall=0.25)]
    server.script["/gone.bin"] = [Answer(404, {}, hold=failed)]
    with pytest.raises(UserError, match=r"gone\.bin.*404"):
        fetch_sources([source(server, "/slow.bin"), source(server, "/gone.bin")], tmp_path)
    assert not (tmp_path / "slow.bin").exists()
    server.files["/gone.bin"] = b"found"
    fetch_sources([source(server, "/slow.bin"), source(server, "/gone.bin")], tmp_path)
    assert (tmp_path / "slow.bin").read_bytes() == CONTENT * 40


def test_two_processes_do_not_write_the_same_folder(server, tmp_path):
    with disk.only_writer(tmp_path), pytest.raises(UserError, match="another arch-hf"):
        fetch_sources([source(server)], tmp_path)
    fetch_sources([source(server)], tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        Source("http://localhost/"),
        Source("http://localhost/.."),
        Source("http://localhost/a%2Fb.zip"),
        Source("http://localhost/x.zip", filename="../x.zip"),
        Source("http://localhost/x.zip", filename="/etc/x.zip"),
        Source("http://localhost/x.zip", filename="a\\b.zip"),
        Source("http://localhost/x.zip", filename="a\0"),
        Source("file:///etc/passwd"),
        Source("ftp://localhost/x.zip"),
        Source("http:///x.zip"),
    ],
    ids=lambda source: f"{source.url} {source.filename!r}",
)
def test_unsafe_sources_are_refused(wrong, tmp_path):
    with pytest.raises(UserError, match=r"plain file name|only http and https"):
        fetch_sources([wrong], tmp_path)


def test_names(server, tmp_path):
    assert file_name(Source("https://localhost/a/b%20c.zip?download=1")) == "b c.zip"
    with pytest.raises(UserError, match="two sources would both become"):
        fetch_sources([source(server), source(server, "/a/x.zip")], tmp_path)


def test_prepare_downloads_and_extracts_what_the_corpus_then_reads(server, tmp_path):
    files = [f"VIVAE/full_set/S{speaker:02d}_fear_low_{speaker}.wav" for speaker in (1, 2)]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in files:
            archive.writestr(name, name)
    server.files["/x.zip"] = (tmp_path / "x.zip").read_bytes()
    server.script["/x.zip"] = [drop(100), Answer(503)]
    corpus = replace(get_corpus("vivae"), sources=(source(server, size=len(server.files["/x.zip"])),))
    raw_dir = cli._raw_dir(corpus, tmp_path / "raw", download=True)
    clips = list(corpus.read(RawFolder(raw_dir)))
    assert sorted(clip.path.read_text() for clip in clips) == files
    cli._raw_dir(corpus, tmp_path / "raw", download=True)
    assert server.ranges("/x.zip") == [None, "bytes=100-", "bytes=100-"]


offsets = st.integers(0, 5000)
faults = st.builds(
    Answer,
    content=st.sampled_from([None, None, OTHER[:5000], OTHER[:4000]]),
    etag=st.sampled_from(["own", "own", None, 'W/"same"', '"same"']),
    honours_ranges=st.booleans(),
    ignores_if_range=st.booleans(),
    shifts_range=st.sampled_from([0, 0, 0, 5]),
    states_length=st.booleans(),
    chunked=st.booleans(),
    stop_after=st.none() | offsets,
    reset=st.booleans(),
) | st.builds(Answer, status=st.sampled_from([404, 416, 429, 500, 503]))


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=st.lists(st.lists(faults, max_size=5), min_size=1, max_size=2), size=st.sampled_from([None, 5000]))
def test_never_a_wrong_file_whatever_the_server_does(runs, size, server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    server.files["/x.zip"] = CONTENT[:5000]
    wanted = source(server, size=size, md5=hashlib.md5(CONTENT[:5000]).hexdigest())
    for answers in [*runs, []]:
        server.script["/x.zip"] = list(answers)
        try:
            fetch_sources([wanted], folder)
        except UserError:
            assert not (folder / "x.zip").exists()
    assert (folder / "x.zip").read_bytes() == CONTENT[:5000]  # the last run meets a good server
    assert left_in(folder) == {"x.zip"}
