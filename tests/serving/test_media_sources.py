"""What a request may name: files of allowed folders, public addresses of allowed hosts, data: URLs."""

import base64
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from elysium.serving import media_sources
from elysium.serving.media_sources import MediaSources, public_address
from elysium.serving.request_schema import RequestError

SHAPES = Path(__file__).parents[1] / "fixtures" / "media" / "shapes.mp4"


class Web(BaseHTTPRequestHandler):
    """Gives the video, redirects, and remembers what was fetched."""

    fetched: list[str] = []
    redirects: dict[str, str] = {}

    def do_GET(self) -> None:
        self.fetched.append(self.path)
        if self.path in self.redirects:
            self.send_response(302)
            self.send_header("Location", self.redirects[self.path])
            self.end_headers()
            return
        self.send_response(200 if self.path.startswith("/shapes") else 404)
        self.send_header("Content-Type", "video/mp4")
        self.end_headers()
        self.wfile.write(SHAPES.read_bytes())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    Web.fetched, Web.redirects = [], {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def taken_as_public(monkeypatch) -> None:
    """The address of this machine counts as one of the internet: there is no other one to test with."""
    monkeypatch.setattr(media_sources, "is_public", lambda address: True)


def opened(sources: MediaSources, url: str, folder: Path) -> bytes:
    return sources.open(url, "video", folder)[0].read_bytes()


def test_paths_and_addresses_are_off_by_default_and_data_is_on(tmp_path) -> None:
    sources = MediaSources()
    for url in (str(SHAPES), SHAPES.as_uri()):
        with pytest.raises(RequestError, match="paths are off"):
            sources.open(url, "video", tmp_path)
    with pytest.raises(RequestError, match="--allow-url HOST opens it"):
        sources.open("https://example.org/a.mp4", "video", tmp_path)
    data = "data:video/mp4;base64," + base64.b64encode(SHAPES.read_bytes()).decode()
    assert opened(sources, data, tmp_path) == SHAPES.read_bytes()


def test_a_link_that_leads_out_of_an_allowed_folder_is_refused(tmp_path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside.mp4"
    inside.mkdir()
    outside.write_bytes(SHAPES.read_bytes())
    (inside / "own.mp4").write_bytes(SHAPES.read_bytes())
    (inside / "out.mp4").symlink_to(outside)
    (inside / "own_link.mp4").symlink_to(inside / "own.mp4")
    sources = MediaSources(allow_paths=[inside])
    assert opened(sources, str(inside / "own_link.mp4"), tmp_path) == SHAPES.read_bytes()
    assert opened(sources, (inside / "own.mp4").as_uri(), tmp_path) == SHAPES.read_bytes()
    for path in (inside / "out.mp4", outside, f"{inside}/../outside.mp4"):
        with pytest.raises(RequestError, match="must lie in a folder|must not contain"):
            sources.open(str(path), "video", tmp_path)


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("FILE_MB", 0, "at most 0 MB"),
        ("FRAME_PIXELS", 1000, "at most 1000 pixels"),
        ("VIDEO_S", 1, "at most 1 s"),
    ],
)
def test_files_too_large_or_too_long_are_refused(tmp_path, monkeypatch, limit, value, reason) -> None:
    monkeypatch.setattr(media_sources, limit, value)
    with pytest.raises(RequestError, match=reason):
        MediaSources(None).open(str(SHAPES), "video", tmp_path)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
     "240.0.0.1",
     "::1", "::", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"],
)  # fmt: skip
def test_an_address_that_is_not_public_is_never_connected_to(address, monkeypatch, tmp_path) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found = [(family, socket.SOCK_STREAM, 6, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    monkeypatch.setattr(socket, "create_connection", lambda *args: pytest.fail("connected"))
    with pytest.raises(RequestError, match="must have a public address"):
        MediaSources(allow_urls=["example.org"]).open("https://example.org/a.mp4", "video", tmp_path)


def test_a_host_with_one_private_address_among_public_ones_is_refused(monkeypatch) -> None:
    found = [(2, 1, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    with pytest.raises(RequestError, match="must have a public address"):
        public_address("example.org", 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]"])
def test_this_machine_is_not_fetched_from_even_where_it_is_allowed(web, host, tmp_path) -> None:
    port = web.partition(":")[2]
    sources = MediaSources(allow_urls=[f"{host.strip('[]')}:{port}"])
    with pytest.raises(RequestError):
        sources.open(f"http://{host}:{port}/shapes.mp4", "video", tmp_path)
    assert not Web.fetched


def test_an_allowed_address_is_fetched_and_redirects_are_checked_like_it(web, taken_as_public, tmp_path) -> None:
    Web.redirects = {
        "/a": "/shapes.mp4",
        "/loop": "/loop",
        "/other": "http://elsewhere.org/x",
        "/file": "file:///etc/passwd",
    }
    sources = MediaSources(allow_urls=[web])
    assert opened(sources, f"http://{web}/a", tmp_path) == SHAPES.read_bytes()
    for route, reason in (
        ("loop", "redirect at most 3 times"),
        ("other", "'elsewhere.org' is not allowed"),
        ("file", "a URL must be http"),
        ("nothing", "must respond with status 200, got 404"),
    ):
        with pytest.raises(RequestError, match=reason):
            sources.open(f"http://{web}/{route}", "video", tmp_path)


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(web, monkeypatch, tmp_path) -> None:
    """A name may resolve to another address a moment later (DNS rebinding)."""
    answers = iter(["8.8.8.8", "127.0.0.1"])
    connected: list[tuple] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [(2, 1, 6, "", (next(answers), 80))])

    def connect(address, timeout):
        connected.append(address)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(RequestError, match="cannot be fetched"):
        MediaSources(allow_urls=["example.org"]).open("http://example.org/a.mp4", "video", tmp_path)
    assert connected == [("8.8.8.8", 80)]


def test_a_fetched_file_that_goes_on_after_the_limit_is_dropped(web, taken_as_public, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(media_sources, "FILE_MB", 0)
    sources = MediaSources(allow_urls=[web])
    with pytest.raises(RequestError, match="at most 0 MB"):
        sources.open(f"http://{web}/shapes.mp4", "video", tmp_path)
