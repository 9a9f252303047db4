"""Forty hostile requests to a page that `space_load.py` serves: is anything read, does anything break or leak?"""

import json
import re
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from elysium.tracking.checkpoints import DEFAULT_MODEL

SECRET = "the server keeps this to itself"
MODEL = DEFAULT_MODEL
MARK = {"_type": "gradio.FileData"}
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"
LEAK = re.compile(r"Traceback \(most recent|site-packages|/tmp/|/home/|File \"", re.IGNORECASE)


class Listener(BaseHTTPRequestHandler):
    """An address that nobody may fetch; `hits` counts those who did."""

    hits = 0

    def do_GET(self) -> None:  # noqa: N802  the base class names it
        """Answers and counts."""
        Listener.hits += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(SECRET.encode())

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing to stderr."""


@contextmanager
def listener() -> Iterator[str]:
    """Serves the address that nobody may fetch."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/secret.mp4"
    finally:
        server.shutdown()


class Attacker:
    """Sends requests as nobody's client does, and gives all that comes back.

    Args:
        address: of the page.
        folder: for files to send, with the server's secret in it.
        url: that nobody may fetch.
        video: a good video.
    """

    def __init__(self, address: str, folder: Path, url: str, video: Path) -> None:
        # No connection is used twice: one whose body was refused half way is closed.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=address, timeout=120, follow_redirects=True, limits=limits)
        self.folder, self.url, self.video = folder, url, video
        self.secret = folder / "secret.mp4"
        self.secret.write_text(SECRET)

    def call(self, endpoint: str, data: Any) -> str:
        """What an endpoint says, from its first word to its last."""
        body, kind = json.dumps({"data": data}), {"content-type": "application/json"}
        reply = self.http.post(f"/gradio_api/call/{endpoint}", content=body, headers=kind)
        if reply.status_code != 200:
            return f"{reply.status_code} {reply.text}"
        return self.http.get(f"/gradio_api/call/{endpoint}/{reply.json()['event_id']}").text

    def get(self, route: str) -> str:
        """What a route says; its body, where it serves one."""
        reply = self.http.get(route)
        return f"{reply.status_code} {reply.text}"

    def post(self, route: str, body: bytes | Iterator[bytes], kind: str = "application/json") -> str:
        """What a route says to a body."""
        reply = self.http.post(route, content=body, headers={"content-type": kind})
        return f"{reply.status_code} {reply.text}"

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """A file that was really uploaded."""
        reply = self.http.post("/gradio_api/upload", files={"files": (name, content)})
        return {"path": reply.json()[0], "meta": MARK} if reply.status_code == 200 else {"path": "", "meta": MARK}

    def asked(self, video: Any, words: Any = "a cup", boxes: Any = None, model: Any = MODEL) -> str:
        """A request to track."""
        return self.call("track", [video, None, words, boxes, model])

    def sent(self, name: str, content: bytes) -> str:
        """A request to track a file of this content."""
        return self.asked(self.upload(name, content))


def huge_png(side: int) -> bytes:
    """A PNG whose header declares a side that its few bytes do not have."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0" * 99)]
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in [*chunks, b"IEND"])
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def attacks(who: Attacker) -> dict[str, Callable[[], str]]:
    """The requests, by what each tries."""
    good = who.video.read_bytes()
    return _names(who) | _routes(who) | _files(who, good) | _values(who, who.upload("good.mp4", good))


def _names(who: Attacker) -> dict[str, Callable[[], str]]:
    """Files that were never uploaded."""

    def named(path: str) -> dict[str, Any]:
        return {"path": path, "meta": MARK}

    return {
        "path of the server": lambda: who.asked(named("/etc/passwd")),
        "path beside the page": lambda: who.asked(named(str(who.secret))),
        "path upwards": lambda: who.asked(named("../../../../etc/passwd")),
        "path without a mark": lambda: who.asked({"path": str(who.secret)}),
        "path as text": lambda: who.asked(str(who.secret)),
        "path in the words": lambda: who.asked(None, words=named(str(who.secret))),
        "path in the boxes": lambda: who.asked(None, boxes=[named(str(who.secret))]),
        "path in the model": lambda: who.asked(None, model=named(str(who.secret))),
        "path of a device": lambda: who.asked(named("/dev/zero")),
        "address": lambda: who.asked(named(who.url)),
        "address in the words": lambda: who.asked(None, words=named(who.url)),
        "address in the boxes": lambda: who.asked(None, boxes={"deep": [named(who.url)]}),
        "address behind a path": lambda: who.asked(named("/etc/passwd") | {"url": who.url}),
        "address of another kind": lambda: who.asked(named("file:///etc/passwd")),
        "picture by its address": lambda: who.call("ground", [None, {"url": who.url, "meta": MARK}, "a", MODEL]),
    }


def _routes(who: Attacker) -> dict[str, Callable[[], str]]:
    """Gradio's own routes."""
    endless = json.dumps({"data": [None, None, "a" * 2_000_000, None, MODEL]}).encode()
    return {
        "route to a path": lambda: who.get("/gradio_api/file=/etc/passwd"),
        "route to the secret": lambda: who.get(f"/gradio_api/file={who.secret}"),
        "route to an address": lambda: who.get(f"/gradio_api/file={who.url}"),
        "proxy to an address": lambda: who.get(f"/gradio_api/proxy={who.url}"),
        "route upwards": lambda: who.get("/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd"),
        "endless words": lambda: who.post("/gradio_api/call/track", endless),
        "endless words in pieces": lambda: who.post("/gradio_api/call/track", (endless[:9999] for _ in range(99))),
        "broken JSON": lambda: who.post("/gradio_api/call/track", b'{"data": ['),
        "JSON that never ends inwards": lambda: who.post("/gradio_api/call/track", b"[" * 90_000),
        "a function that is none": lambda: who.call("eval", ["1"]),
    }


def _files(who: Attacker, good: bytes) -> dict[str, Callable[[], str]]:
    """Files that are not what they say."""
    playlist = f"#EXTM3U\n#EXTINF:1,\nfile://{who.secret}\n".encode()
    return {
        "playlist as a video": lambda: who.sent("a.mp4", playlist),
        "list of files as a video": lambda: who.sent("a.mp4", f"ffconcat version 1.0\nfile {who.secret}".encode()),
        "video cut short": lambda: who.sent("a.mp4", good[: len(good) // 3]),
        "video of noise": lambda: who.sent("a.mp4", good[:32] + bytes(range(256)) * 400),
        "file of 51 MB": lambda: who.sent("a.mp4", bytes(51_000_000)),
        "name upwards": lambda: who.sent("../../../../tmp/a.mp4", b"x"),
        "picture of 60000 px": lambda: who.call("ground", [None, who.upload("a.png", huge_png(60_000)), "a", MODEL]),
        "PostScript as a picture": lambda: who.call(
            "ground", [None, who.upload("a.png", b"%!PS-Adobe-3.0\n(/etc/passwd) run"), "a", MODEL]
        ),
    }


def _values(who: Attacker, good: dict[str, Any]) -> dict[str, Callable[[], str]]:
    """A good video with values that cannot be."""
    return {
        "markup in the words": lambda: who.asked(good, words=SCRIPT),
        "boxes that are text": lambda: who.asked(good, boxes="1,2,3,4"),
        "boxes beyond numbers": lambda: who.asked(good, boxes=[[1e308, -1e308, 1e309, 10**30]]),
        "a thousand boxes": lambda: who.asked(good, boxes=[[1, 1, 9, 9]] * 1000),
        "another model": lambda: who.asked(good, model="../../etc"),
        "a question of null bytes": lambda: who.call("ask", [good, None, "\x00" * 200, MODEL]),
        "too few values": lambda: who.call("track", [good]),
    }


def measure_hostile(address: str, folder: Path, video: Path) -> dict[str, Any]:
    """Sends them all, one after another; what was read, leaked or broken."""
    with listener() as url:
        who = Attacker(address, folder, url, video)
        read, leaked, broken, said = [], [], [], {}
        for name, attack in attacks(who).items():
            try:
                text = attack()
            except httpx.TransportError as error:
                text = f"closed: {type(error).__name__}"
            said[name] = " ".join(text.split())[:120]
            read += [name] * (SECRET in text or "root:x:" in text)
            leaked += [name] * _leaks(text, who)
            broken += [name] * (who.http.get("/").status_code != 200)
        return {
            "requests": len(said),
            "read": read,
            "leaked": leaked,
            "broken": broken,
            "addresses_fetched": Listener.hits,
            "said": said,
        }


def _leaks(text: str, who: Attacker) -> bool:
    """Whether an answer tells of the server, or shows a visitor's markup as markup."""
    # Results carry their place in the page's own cache, where clients download them; a refusal repeats what was asked.
    own = re.sub(r'"(path|url)": ?"[^"]*"', "", text).replace(str(who.secret), "")
    shown = " ".join(re.findall(r"<ul.*?</ul>", text))  # the one part of an answer that is shown as HTML
    return bool(LEAK.search(own)) or "<script" in shown or "<img" in shown


def folder_mb(folder: Path) -> float:
    """What a folder takes, in millions of bytes."""
    done = subprocess.run(["du", "-sb", str(folder)], capture_output=True, text=True, check=True)
    return round(int(done.stdout.split()[0]) / 1e6, 1)
