"""A stand-in for the Hugging Face Hub on 127.0.0.1: as much of its HTTP interface as reading and publishing ask for.

Small files come with a commit and large ones by the LFS protocol before it, so a client must say
HF_HUB_DISABLE_XET=1.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import transformers.utils.hub
from hub_card_rules import card_errors
from huggingface_hub import constants

_KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
_API = re.compile(
    r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>[a-z-]+)(?:/(?P<rest>.+))?)?"
)
_FILE = re.compile(r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_LFS = re.compile(r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch")
_OBJECT = re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
# What the Hub's own .gitattributes sends by LFS.
LARGE = (".safetensors", ".parquet", ".mp4", ".whl", ".tar", ".npz")


@dataclass
class Repository:
    """What one repository holds, and what was done to it."""

    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    sdk: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)  # the paths of each

    @property
    def revision(self) -> str:
        """Of the content, as 40 hexadecimal digits."""
        digests = "".join(f"{name} {hashlib.sha1(content).hexdigest()}\n" for name, content in self.files.items())
        return hashlib.sha1(digests.encode()).hexdigest()


class HubStandIn:
    """Repositories of models, data sets and Spaces by `(kind, id)`.

    Args:
        repo_id: of a data set that is there from the beginning, such as "user/tracks".
        folder: what it holds.

    Attributes:
        asked: method, path and range of every request.
        uploads: paths by LFS, by their hash, in the order in which they came.
        uploads_left: so many more are taken, the next is refused; None for all.
    """

    def __init__(self, repo_id: str | None = None, folder: Path | None = None) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        if repo_id is not None and folder is not None:
            files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
            held = {name: file.read_bytes() for name, file in files.items()}
            self.repositories["dataset", repo_id] = Repository(held)
        self.asked: list[str] = []
        self.uploads: list[str] = []
        self.uploads_left: int | None = None
        self._objects: dict[str, bytes] = {}
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator["HubStandIn"]:
        """Answers while the block runs."""
        thread = Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def environment(self, home: Path) -> dict[str, str]:
        """Variables of a process that takes this for the Hub and keeps its caches and token in `home`."""
        own = {"HF_ENDPOINT": self.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "HF_TOKEN": "hf_stand_in"}
        return own | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def stand_in_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lets the Hub's client in this process take this for the Hub."""
        monkeypatch.setattr(constants, "ENDPOINT", self.endpoint)
        template = self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None)  # it may know another address from before
        monkeypatch.setenv("HF_TOKEN", "hf_stand_in")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_POST = do_PUT = do_GET

            def log_message(self, *args: object) -> None:
                """Silent."""

        return Handler

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answers one request; what the Hub has besides is 404."""
        url = urlsplit(request.path)
        path, query = unquote(url.path), parse_qs(url.query)
        self.asked.append(" ".join(filter(None, (request.command, request.path, request.headers.get("Range")))))
        body = _read_body(request)
        if path == "/api/repos/create":
            self._create(request, json.loads(body))
        elif path == "/api/validate-yaml":
            asked = json.loads(body)
            errors = [{"message": text} for text in card_errors(asked["content"], asked["repoType"])]
            status = HTTPStatus.BAD_REQUEST if errors else HTTPStatus.OK
            _send_json(request, {"errors": errors, "warnings": []}, status)
        elif found := _OBJECT.fullmatch(path):
            self._take_object(request, found["oid"], body)
        elif found := _LFS.fullmatch(path):
            self._plan_objects(request, json.loads(body))
        elif (found := _FILE.fullmatch(path)) and (held := self._find(found)):
            _send_file(request, held, found["path"])
        elif (found := _API.fullmatch(path)) and (held := self._find(found)):
            self._answer_api(request, held, found, query, body)
        else:
            _send(request, HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": "RepoNotFound"})

    def _find(self, found: re.Match[str]) -> Repository | None:
        return self.repositories.get((_KINDS[found["kind"] or "models"], found["repo"]))

    def _create(self, request: BaseHTTPRequestHandler, asked: dict) -> None:
        repo_id, kind = f"{asked['organization']}/{asked['name']}", asked.get("type", "model")
        prefix = "" if kind == "model" else f"{kind}s/"
        status = HTTPStatus.CONFLICT if (kind, repo_id) in self.repositories else HTTPStatus.OK
        if status == HTTPStatus.OK:
            private = asked.get("visibility") == "private"
            self.repositories[kind, repo_id] = Repository(private=private, sdk=asked.get("sdk"))
        _send_json(request, {"url": f"{self.endpoint}/{prefix}{repo_id}", "name": repo_id}, status)

    def _plan_objects(self, request: BaseHTTPRequestHandler, asked: dict) -> None:
        """Says where objects go that are not here yet."""
        objects = []
        for wanted in asked["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self._objects:
                entry["actions"] = {"upload": {"href": f"{self.endpoint}/lfs/{wanted['oid']}"}}
            objects.append(entry)
        _send_json(request, {"transfer": "basic", "objects": objects})

    def _take_object(self, request: BaseHTTPRequestHandler, oid: str, body: bytes) -> None:
        with self._lock:
            if self.uploads_left == 0 or hashlib.sha256(body).hexdigest() != oid:
                _send(request, HTTPStatus.FORBIDDEN, b"no more", {})
                return
            if self.uploads_left is not None:
                self.uploads_left -= 1
            self._objects[oid] = body
            self.uploads.append(oid)
        _send(request, HTTPStatus.OK, b"", {})

    def _answer_api(
        self, request: BaseHTTPRequestHandler, held: Repository, found: re.Match[str], query: dict, body: bytes
    ) -> None:
        what = found["what"]
        if what == "tree":
            recursive = query.get("recursive", ["false"])[0].lower() == "true"
            value: object = _tree(held, found["rest"].partition("/")[2], recursive)
            if not value:
                return _send(request, HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": "EntryNotFound"})
        elif what == "paths-info":
            value = [_entry(held, name) for name in parse_qs(body.decode())["paths"] if name in held.files]
        elif what == "preupload":
            value = {"files": [_upload_mode(held, file["path"]) for file in json.loads(body)["files"]]}
        elif what == "variables":
            asked = json.loads(body)
            held.variables[asked["key"]] = asked["value"]
            value = {name: {"value": text} for name, text in held.variables.items()}
        elif what == "commit":
            self._commit(held, body)
            prefix = "" if found["kind"] == "models" else f"{found['kind']}/"
            address = f"{self.endpoint}/{prefix}{found['repo']}/commit/{held.revision}"
            value = {"commitUrl": address, "commitOid": held.revision}
        else:
            siblings = [{"rfilename": name} for name in held.files]
            value = {"_id": "0", "id": found["repo"], "sha": held.revision, "siblings": siblings}
            value |= {"private": held.private, "sdk": held.sdk}
        return _send_json(request, value)

    def _commit(self, held: Repository, body: bytes) -> None:
        paths = []
        for line in body.decode().splitlines():
            item = json.loads(line)
            if item["key"] == "file":
                held.files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            elif item["key"] == "lfsFile":
                held.files[item["value"]["path"]] = self._objects[item["value"]["oid"]]
            else:
                continue
            paths.append(item["value"]["path"])
        held.commits.append(sorted(paths))


def _upload_mode(held: Repository, name: str) -> dict[str, object]:
    """How a file is to come, and what is here under its name."""
    large, content = name.endswith(LARGE), held.files.get(name)
    oid = None
    if content is not None:
        blob = b"blob %d\0" % len(content) + content
        oid = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(blob).hexdigest()
    return {"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}


def _tree(held: Repository, folder: str, recursive: bool) -> list[dict[str, object]]:
    """What is in a folder: its files, and its folders unless it is listed to the bottom."""
    inside = [name for name in held.files if name.startswith(f"{folder}/" if folder else "")]
    depth = folder.count("/") + 1 if folder else 0
    files = [name for name in inside if recursive or name.count("/") == depth]
    folders = sorted({"/".join(name.split("/")[: depth + 1]) for name in inside if name not in files})
    return [_entry(held, name) for name in files] + [
        {"type": "directory", "path": name, "size": 0, "oid": "0"} for name in folders
    ]


def _entry(held: Repository, name: str) -> dict[str, object]:
    content = held.files[name]
    return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def _read_body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    body = b""
    while size := int(request.rfile.readline().split(b";")[0], 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


def _send_file(request: BaseHTTPRequestHandler, held: Repository, name: str) -> None:
    content = held.files.get(name)
    if content is None:
        _send(request, HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": held.revision})
        return
    headers = {
        "X-Repo-Commit": held.revision,
        "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    wanted = _RANGE.fullmatch(request.headers.get("Range") or "")
    if not wanted:
        _send(request, HTTPStatus.OK, content, headers)
        return
    start, end = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
    headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
    _send(request, HTTPStatus.PARTIAL_CONTENT, content[start : end + 1], headers)


def _send_json(request: BaseHTTPRequestHandler, value: object, status: HTTPStatus = HTTPStatus.OK) -> None:
    _send(request, status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _send(request: BaseHTTPRequestHandler, status: HTTPStatus, content: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)
