"""A Hugging Face Hub on loopback, in memory: enough of it for the real clients, with faults on demand.

The endpoints are those that huggingface_hub, datasets, transformers and evaluate call. What a push must satisfy on the real Hub is
checked here too: the card's metadata, `.eval_results/*.yaml`, the token, the parent commit.

    with HubServer() as hub:
        hub.environment()  # HF_ENDPOINT and friends, for a subprocess
        hub.fail("POST", "/commit/", 503, times=2)
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from hub_jobs import RentedMachines
from hub_repo import Refusal, Repo, check_card, check_eval_results, eval_result_entries, git_oid, is_lfs

DATE = "2024-05-01T12:00:00.000Z"


@dataclass
class Fault:
    """Answers `times` matching requests with `status`, or cuts the connection: "request" after `read` bytes of the body, or
    "response" when the work is done and the answer is due."""

    method: str
    part: str
    status: int = 0
    times: int = 1
    headers: dict = field(default_factory=dict)
    body: dict | str | None = None
    cut: str = ""
    read: int = 1000


class HubServer:
    def __init__(self, token="hf_loopback_secret", read_only_token="hf_read_only_secret"):
        self.token, self.read_only_token = token, read_only_token
        self.repos, self.blobs, self.faults, self.hooks, self.requests = {}, {}, [], [], []
        self.lock, self.sent = threading.RLock(), 0  # bytes of all answers
        self.rented = RentedMachines()
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.http.shutdown()
        self.http.server_close()

    def environment(self, home):
        """Variables that send the clients of a subprocess here; `home` is an empty folder."""
        return {
            "HF_ENDPOINT": self.url, "HF_TOKEN": self.token, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0",
        }  # fmt: skip

    def repo(self, kind, repo_id):
        return self.repos[kind, repo_id]

    def create(self, kind, repo_id, files=None, private=False, sdk=None):
        repo = self.repos[kind, repo_id] = Repo(kind, repo_id, private, sdk)
        repo.commit("main", {".gitattributes": b"", **(files or {})}, "initial commit")
        return repo

    def fail(self, method, part, status=0, **how):
        self.faults.append(Fault(method, part, status, **how))

    def before(self, method, part, action):
        """Do `action` once, just before the first such request is handled: somebody else was faster."""
        self.hooks.append((method, part, action))

    def count(self, method, part):
        return sum(m == method and part in path for m, path, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # an answer in one packet: else each waits 40 ms for an acknowledgement
    disable_nagle_algorithm = True
    server_hub: HubServer

    def log_message(self, *args):
        pass

    def _handle(self):
        hub, self.body_read = self.server_hub, False
        url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        hub.requests.append((self.command, self.path, self.headers.get("Authorization")))
        for hook in [h for h in hub.hooks if h[0] == self.command and h[1] in self.path]:
            hub.hooks.remove(hook)
            hook[2]()
        fault = next((f for f in hub.faults if f.times and f.method == self.command and f.part in self.path), None)
        if fault:
            fault.times -= 1
            if fault.cut == "request":
                self.rfile.read(min(fault.read, int(self.headers.get("Content-Length") or 0)))
                self.close_connection = True
                self.connection.close()
                return
            if not fault.cut:
                self._body()
                return self._answer(
                    fault.status, fault.body if fault.body is not None else {"error": "fault"}, fault.headers
                )
        try:
            with hub.lock:
                status, content, headers = self._route(unquote(url.path) if "/resolve/" in url.path else url.path)
        except Refusal as refusal:
            self._body()
            headers = {"X-Error-Code": refusal.code} if refusal.code else {}
            headers["X-Error-Message"] = refusal.message
            message = (
                {"errors": [{"message": refusal.message}]} if refusal.status == 400 else {"error": refusal.message}
            )
            status, content = refusal.status, message
        self._body()
        if fault:  # cut == "response": done, but nobody is told
            self.close_connection = True
            self.connection.close()
            return
        self._answer(status, content, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _body(self):
        if self.body_read:
            return b""
        self.body_read = True
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status, content, headers):
        data = (
            content
            if isinstance(content, bytes)
            else content.encode()
            if isinstance(content, str)
            else json.dumps(content).encode()
        )
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        if "Content-Type" not in headers:
            self.send_header(
                "Content-Type", "application/json" if not isinstance(content, (bytes, str)) else "text/plain"
            )
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.server_hub.sent += len(data)
            self.wfile.write(data)

    # -- who may do what ------------------------------------------------------------------------------------------------

    def _authorised(self, write):
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if write and token == self.server_hub.read_only_token:
            raise Refusal(403, "Forbidden: pass a token with the role write")
        return token == self.server_hub.token or (not write and token == self.server_hub.read_only_token)

    def _write(self):
        if not self._authorised(write=True):
            raise Refusal(401, "Invalid username or password.")

    def _repo(self, kind, repo_id):
        repo = self.server_hub.repos.get((kind, repo_id))
        if repo is None or (repo.private and not self._authorised(write=False)):
            signed_in = self._authorised(write=False)
            raise Refusal(404 if signed_in else 401, "Repository not found", "RepoNotFound" if signed_in else None)
        return repo

    # -- routes ---------------------------------------------------------------------------------------------------------

    def _route(self, path):
        hub, method = self.server_hub, self.command
        if path == "/api/whoami-v2":
            if not self._authorised(write=False):
                raise Refusal(401, "Invalid credentials in Authorization header")
            return 200, {"type": "user", "name": "somebody", "orgs": [{"name": "arch"}]}, {}
        if path == "/api/validate-yaml":
            check_card(json.loads(self._body())["content"])
            return 200, {"errors": [], "warnings": []}, {}
        if path == "/api/repos/create":
            return self._create(json.loads(self._body()))
        if path.startswith(("/api/jobs/", "/api/buckets/")):
            if path != "/api/jobs/hardware":
                self._write()
            body = self._body() if method == "POST" else b""
            return hub.rented.answer(method, path, self.query, json.loads(body or b"{}"))
        if match := re.fullmatch(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._write()
            return self._batch(json.loads(self._body()))
        if match := re.fullmatch(r"/lfs/(\w+)", path):
            data = self._body()
            if hashlib.sha256(data).hexdigest() != match.group(1):
                raise Refusal(400, "checksum mismatch")
            hub.blobs[match.group(1)] = data
            return 200, b"", {}
        if match := re.fullmatch(r"/(?:(datasets|spaces)/)?([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", path):
            return self._resolve(*match.groups())
        if match := re.fullmatch(r"/api/(models|datasets|spaces)/([^/]+/[^/]+)(?:/(.*))?", path):
            kind, repo_id, rest = match.groups()
            verb, _, rest = (rest or "revision/main").partition("/")
            handler = getattr(self, f"_api_{verb.replace('-', '_')}", None)
            if handler:
                return handler(self._repo(kind, repo_id), rest)
        raise Refusal(404, f"no such endpoint: {method} {path}")

    def _create(self, wish):
        self._write()
        kind = {"dataset": "datasets", "space": "spaces"}.get(wish.get("type"), "models")
        repo_id = f"{wish.get('organization') or 'somebody'}/{wish['name']}"
        url = f"{self.server_hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}"
        if (kind, repo_id) in self.server_hub.repos:
            return 409, {"error": "You already created this repo", "url": url}, {}
        private = wish.get("private") or wish.get("visibility") == "private"
        self.server_hub.create(kind, repo_id, private=bool(private), sdk=wish.get("sdk"))
        return 200, {"url": url, "name": repo_id}, {}

    def _batch(self, wish):
        objects = []
        for item in wish["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.server_hub.blobs:
                answer["actions"] = {"upload": {"href": f"{self.server_hub.url}/lfs/{item['oid']}"}}
            objects.append(answer)
        return 200, {"objects": objects, "transfer": "basic"}, {}

    def _resolve(self, kind, repo_id, revision, path):
        repo = self._repo(kind or "models", repo_id)
        sha, files = self._at(repo, revision)
        if path not in files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        data = files[path]
        oid = hashlib.sha256(data).hexdigest() if is_lfs(path) else git_oid(data)
        headers = {"ETag": f'"{oid}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if is_lfs(path):
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": len(data)}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            return 206, data[first : last + 1], headers
        return 200, data, headers

    def _at(self, repo, revision):
        revision = unquote(revision)
        sha = repo.refs.get(revision, revision)
        if sha not in repo.commits:
            raise Refusal(404, "Invalid rev id", "RevisionNotFound")
        return sha, repo.commits[sha]

    def _api_revision(self, repo, revision):
        sha, files = self._at(repo, revision)
        info = {
            "_id": repo.id, "id": repo.id, "author": repo.id.split("/")[0], "sha": sha, "private": repo.private, "gated": False,
            "disabled": False, "downloads": 0, "likes": 0, "tags": [], "lastModified": DATE, "createdAt": DATE,
            "siblings": [{"rfilename": path} for path in sorted(files)],
        }  # fmt: skip
        if repo.kind == "models":
            info["modelId"] = repo.id
            info["evalResults"] = eval_result_entries(files)
        if repo.kind == "spaces":
            info["sdk"] = repo.sdk
        return 200, info, {}

    @staticmethod
    def _entry(path, data):
        entry = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
        if is_lfs(path):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _listing(self, files, folder, recursive):
        prefix = folder.strip("/") + "/" if folder.strip("/") else ""
        entries, folders = [], set()
        for path in sorted(files):
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            folders.update(
                prefix + "/".join(parts[:depth]) for depth in range(1, len(parts) if recursive else min(2, len(parts)))
            )
            if recursive or len(parts) == 1:
                entries.append(self._entry(path, files[path]))
        return [
            {"type": "directory", "path": path, "oid": git_oid(path.encode()), "size": 0} for path in sorted(folders)
        ] + entries

    def _api_tree(self, repo, rest):
        revision, _, folder = rest.partition("/")
        _, files = self._at(repo, revision)
        entries = self._listing(files, unquote(folder), self.query.get("recursive", "").lower() in ("1", "true"))
        if not entries:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        return 200, entries, {}

    def _api_paths_info(self, repo, revision):
        _, files = self._at(repo, revision)
        body = self._body()
        paths = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode())["paths"]
        found = [self._entry(path, files[path]) for path in paths if path in files]
        folders = [path for path in paths if any(name.startswith(path.rstrip("/") + "/") for name in files)]
        found += [{"type": "directory", "path": path, "oid": git_oid(path.encode()), "size": 0} for path in folders]
        return 200, found, {}

    def _api_preupload(self, repo, revision):
        self._write()
        _, files = self._at(repo, revision)
        answer = []
        for item in json.loads(self._body())["files"]:
            path, data = item["path"], files.get(item["path"])
            oid = None if data is None else hashlib.sha256(data).hexdigest() if is_lfs(path) else git_oid(data)
            answer.append(
                {"path": path, "uploadMode": "lfs" if is_lfs(path) else "regular", "shouldIgnore": False, "oid": oid}
            )
        return 200, {"files": answer}, {}

    def _api_discussions(self, repo, _):
        pulls = [
            {
                "num": number, "title": title, "author": {"name": "somebody"}, "createdAt": DATE,
                "status": "closed" if number in repo.closed else "open",
                "repo": {"name": repo.id, "type": "model"}, "isPullRequest": True,
            }
            for number, title in enumerate(repo.pulls, start=1)
        ]  # fmt: skip
        pulls = [pull for pull in pulls if pull["status"] == self.query.get("status", pull["status"])]
        return 200, {"count": len(pulls), "start": 0, "discussions": pulls}, {}

    def _api_commit(self, repo, revision):
        pull = self.query.get("create_pr") == "1"
        if pull and not self._authorised(write=False):
            raise Refusal(401, "Invalid username or password.")
        if not pull:
            self._write()
        sha, files = self._at(repo, revision)
        lines = [json.loads(line) for line in self._body().splitlines()]
        header = lines[0]["value"]
        if pull and header.get("parentCommit"):
            sha, files = self._at(repo, header["parentCommit"])
        elif header.get("parentCommit") not in (None, sha):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(files)
        for line in lines[1:]:
            self._apply(files, line["key"], line["value"])
        ref = unquote(revision)
        if pull:
            repo.pulls.append(header["summary"])
            ref = f"refs/pr/{len(repo.pulls)}"
        sha = repo.commit(ref, files, header["summary"])
        url = f"{self.server_hub.url}/{'' if repo.kind == 'models' else repo.kind + '/'}{repo.id}"
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{url}/commit/{sha}", "hookOutput": ""}
        if pull:
            answer["pullRequestUrl"] = f"{url}/discussions/{len(repo.pulls)}"
        return 200, answer, {}

    def _apply(self, files, key, value):
        path = value["path"]
        if key == "file":
            files[path] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            if value["oid"] not in self.server_hub.blobs:
                raise Refusal(400, f"LFS object {value['oid']} was never uploaded")
            files[path] = self.server_hub.blobs[value["oid"]]
        elif key == "deletedFile":
            files.pop(path)
        if path == "README.md" and key == "file":
            check_card(files[path].decode("utf-8-sig"))
        if path.startswith(".eval_results/") and key == "file":
            check_eval_results(files[path].decode())
