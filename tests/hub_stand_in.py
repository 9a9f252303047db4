"""A stand-in for the Hugging Face Hub on 127.0.0.1: as much of its HTTP interface as reading a data set asks for."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

_API = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree|paths-info)/(?P<rest>.+))?")
_FILE = re.compile(r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class HubStandIn:
    """One data set under one name, in one revision.

    Args:
        repo_id: such as "user/tracks".
        folder: what the repository holds.
    """

    def __init__(self, repo_id: str, folder: Path) -> None:
        self.repo_id, self.folder = repo_id, folder
        self.files = {str(file.relative_to(folder)): file for file in sorted(folder.rglob("*")) if file.is_file()}
        self.revision = hashlib.sha1("".join(self.files).encode()).hexdigest()
        self.asked: list[str] = []  # method, path and range of every request
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

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *args: object) -> None:
                """Silent."""

        return Handler

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answers one request; what the Hub has besides is 404."""
        url = urlsplit(request.path)
        path, recursive = unquote(url.path), parse_qs(url.query).get("recursive", ["false"])[0].lower() == "true"
        self.asked.append(" ".join(filter(None, (request.command, request.path, request.headers.get("Range")))))
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if (file := _FILE.fullmatch(path)) and file["repo"] == self.repo_id:
            self._send_file(request, file["path"])
        elif (api := _API.fullmatch(path)) and api["repo"] == self.repo_id:
            if api["what"] == "tree":
                value: object = self._tree(api["rest"].partition("/")[2], recursive)
                if not value:
                    return _send(request, HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": "EntryNotFound"})
            elif api["what"] == "paths-info":
                value = [self._entry(name) for name in parse_qs(body.decode())["paths"] if name in self.files]
            else:
                value = self._repository()
            _send(request, HTTPStatus.OK, json.dumps(value).encode(), {"Content-Type": "application/json"})
        else:
            _send(request, HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": "RepoNotFound"})

    def _repository(self) -> dict[str, object]:
        siblings = [{"rfilename": name} for name in self.files]
        return {"_id": "0", "id": self.repo_id, "sha": self.revision, "siblings": siblings, "private": False}

    def _tree(self, folder: str, recursive: bool) -> list[dict[str, object]]:
        """What is in a folder: its files, and its folders unless it is listed to the bottom."""
        inside = [name for name in self.files if name.startswith(f"{folder}/" if folder else "")]
        depth = folder.count("/") + 1 if folder else 0
        files = [name for name in inside if recursive or name.count("/") == depth]
        folders = sorted({"/".join(name.split("/")[: depth + 1]) for name in inside if name not in files})
        return [self._entry(name) for name in files] + [
            {"type": "directory", "path": name, "size": 0, "oid": "0"} for name in folders
        ]

    def _entry(self, name: str) -> dict[str, object]:
        content = self.files[name].read_bytes()
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _send_file(self, request: BaseHTTPRequestHandler, name: str) -> None:
        if name not in self.files:
            _send(request, HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = self.files[name].read_bytes()
        headers = {
            "X-Repo-Commit": self.revision,
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


def _send(request: BaseHTTPRequestHandler, status: HTTPStatus, content: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)
