"""A local HTTP server that serves files well, with Range and ETag, until its script says to answer badly."""

import hashlib
import re
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """How one request is answered; by default as a good server would."""

    status: int | None = None  # instead of 200 or 206; the body is then empty
    headers: dict = field(default_factory=dict)
    content: bytes | None = None  # other bytes than the file's
    etag: str | None = "own"  # "own": made from the content; None: no ETag
    honours_ranges: bool = True
    ignores_if_range: bool = False
    shifts_range: int = 0  # answer with a range that starts this much later
    states_length: bool = True  # else the end of the connection is the end of the file
    chunked: bool = False
    stop_after: int | None = None  # drop the connection after so many bytes of the body
    reset: bool = False  # drop it with a reset
    stall: float = 0.0  # seconds of silence at the point where it would drop
    hold: threading.Event | None = None  # wait for this before the body


class FaultServer:
    """`files`: path -> content. `script`: path -> answers to the coming requests; after them, `always` or a good answer.

    `requests` lists (path, headers) as they came.
    """

    def __init__(self, tls: ssl.SSLContext | None = None):
        self.files: dict[str, bytes] = {}
        self.script: dict[str, list[Answer]] = {}
        self.always: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict]] = []
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.http.daemon_threads = True
        self.http.fault_server = self
        if tls:
            self.http.socket = tls.wrap_socket(self.http.socket, server_side=True)
        self.root = f"{'https' if tls else 'http'}://localhost:{self.http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def reset(self) -> None:
        for record in (self.files, self.script, self.always, self.requests):
            record.clear()

    def next_answer(self, path: str, headers: dict) -> Answer:
        with self.lock:
            self.requests.append((path, headers))
            waiting = self.script.get(path)
            return waiting.pop(0) if waiting else self.always.get(path, Answer())

    def ranges(self, path: str) -> list[str | None]:
        """The Range header of each request for `path`."""
        return [headers.get("Range") for asked, headers in self.requests if asked == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every small body waits 40 ms

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:  # the client left
            pass

    def do_GET(self):
        server = self.server.fault_server
        answer = server.next_answer(self.path, dict(self.headers))
        if answer.status is not None:
            return self.answer_empty(answer.status, answer.headers)
        if self.path not in server.files:
            return self.answer_empty(404, {})
        content = server.files[self.path] if answer.content is None else answer.content
        etag = f'"{hashlib.sha1(content).hexdigest()}"' if answer.etag == "own" else answer.etag
        self.answer_file(answer, content, etag)

    def answer_empty(self, status: int, headers: dict) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer_file(self, answer: Answer, content: bytes, etag: str | None) -> None:
        headers, status, body = dict(answer.headers), 200, content
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_current = answer.ignores_if_range or self.headers.get("If-Range", etag) in (
            etag,
            headers.get("Last-Modified"),
        )
        if wanted and answer.honours_ranges and is_current:
            start = int(wanted[1])
            if start >= len(content):
                return self.answer_empty(416, {"Content-Range": f"bytes */{len(content)}"})
            start += answer.shifts_range
            status, body = 206, content[start:]
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if etag:
            headers["ETag"] = etag
        if answer.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif answer.states_length:
            headers.setdefault("Content-Length", str(len(body)))
        else:
            headers["Connection"] = "close"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if answer.hold:
            answer.hold.wait(10)
        self.send_body(answer, body)
        self.close_connection = self.close_connection or not answer.states_length

    def send_body(self, answer: Answer, body: bytes) -> None:
        piece = body if answer.stop_after is None else body[: answer.stop_after]
        if answer.chunked:
            for start in range(0, len(piece), 10_000):
                chunk = piece[start : start + 10_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        else:
            self.wfile.write(piece)
        if answer.stop_after is not None:
            self.wfile.flush()
            time.sleep(answer.stall)
            if answer.reset:  # a close with nothing to linger for is a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif answer.chunked:
            self.wfile.write(b"0\r\n\r\n")
