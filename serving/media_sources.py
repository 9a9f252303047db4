"""Files of a request: `data:` URLs always, paths and URLs only where the server allows them."""

import base64
import binascii
import http.client
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from elysium.processing.untrusted_media import check_untrusted
from elysium.processing.video_io import VideoInfo

from .request_schema import RequestError

FILE_MB = 100  # 10^6 bytes
IMAGE_PIXELS = 50_000_000
FRAME_PIXELS = 3840 * 2160
VIDEO_S = 600.0
FETCH_S = 30.0
_CHUNK = 1 << 20  # base64 is decoded in pieces, so that a large one does not block other threads
_REDIRECTS = 3
_DATA_HEAD = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(;[\w-]+=[^;,]*)*;base64", re.IGNORECASE)
_NEVER = (
    ipaddress.ip_network("2002::/16"),  # 6to4 and NAT64 contain an IPv4 address
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("64:ff9b:1::/48"),
)


@dataclass(frozen=True)
class MediaSources:
    """Allowed sources of files in requests.

    Args:
        allow_paths: folders whose files may be given by path; None allows every file, an empty list none.
        allow_urls: hosts for downloads, `example.org` or `example.org:8080`; loopback, private, link-local and
            reserved addresses are always refused.
    """

    allow_paths: Sequence[Path] | None = ()
    allow_urls: Sequence[str] = ()

    def open(self, url: str, kind: str, folder: Path) -> tuple[Path, VideoInfo]:
        """Return the local file for a URL or path of a request, with its size and length, which are within the limits.

        Args:
            url: `data:` URL, path, `file:` or `http(s):` URL.
            kind: required kind of file, "image" or "video".
            folder: folder for sent or downloaded files; the caller removes it.

        Raises:
            RequestError: the file is not allowed, missing, too large, or not of this kind.
        """
        scheme = url[:8].lower().partition(":")[0]
        if scheme == "data":
            path = _write_data(url, kind, folder)
        elif scheme in ("http", "https"):
            path = self._fetch(url, kind, folder)
        else:
            path = self._local(url, kind)
        return path, _check_file(path, kind)

    # --- paths ---
    def _local(self, url: str, kind: str) -> Path:
        if self.allow_paths is not None and not self.allow_paths:
            raise RequestError(
                f"{_a(kind)} must be a data: URL, got {url[:80]!r}; paths are off (--allow-path DIR opens a folder)"
            )
        text = unquote(urlsplit(url).path) if url[:7].lower() == "file://" else url
        shown = repr(url[:200])
        if "\0" in text or ".." in Path(text).parts:
            raise RequestError(f"a path must not contain '..' or null characters, got {shown}; use a plain path")
        try:
            path = Path(text).resolve()
            if self.allow_paths is not None and not any(
                path.is_relative_to(Path(folder).resolve()) for folder in self.allow_paths
            ):
                raise RequestError(f"a path must lie in a folder given as --allow-path, got {shown}")
            regular = path.is_file()
        except (OSError, RuntimeError):
            regular = False
        if not regular:
            raise RequestError(f"{_a(kind)} must be a file, an http or a data: URL, got {shown}; check the path")
        return path

    # --- http(s): URLs ---
    def _fetch(self, url: str, kind: str, folder: Path) -> Path:
        deadline_s = time.monotonic() + FETCH_S
        for _ in range(_REDIRECTS + 1):
            connection, target = self._connect(url, deadline_s)
            try:
                connection.request(
                    "GET", target, headers={"User-Agent": "elysium-serve", "Accept": f"{kind}/*,*/*;q=0.5"}
                )
                response = connection.getresponse()
                if response.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, response.headers.get("Location", ""))
                    continue
                if response.status != 200:
                    raise RequestError(
                        f"a URL must respond with status 200, got {response.status} from {url[:200]!r}; check the URL"
                    )
                path = folder / "fetched"
                self._download(response, path, deadline_s)
                return path
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                raise RequestError(f"{url[:200]!r} cannot be fetched: {type(error).__name__}; check the URL") from None
            finally:
                connection.close()
        raise RequestError(f"a URL may redirect at most {_REDIRECTS} times, got more; use the final URL")

    def _connect(self, url: str, deadline_s: float) -> tuple[http.client.HTTPConnection, str]:
        """Return a connection to the checked address of an allowed host, and the request target."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            host, port = "", 0
        if not host or parts.scheme not in ("http", "https") or parts.username is not None or not url.isascii():
            raise RequestError(f"a URL must be http(s)://HOST/…, got {url[:200]!r}")
        allowed = {entry.lower() for entry in self.allow_urls}
        if f"{host}:{port}" not in allowed and not (host in allowed and port in (80, 443)):
            raise RequestError(
                f"host {host[:100]!r} is not allowed here; --allow-url HOST opens it, or send a data: URL"
            )
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise RequestError(f"a URL must respond within {FETCH_S:g} s, got no response; try again")
        address = public_address(host, port)
        kind = _PinnedHttps if parts.scheme == "https" else _PinnedHttp
        connection = kind(host, port, timeout=left_s)
        connection.address = address
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if re.search(r"[\s\x00-\x1f\x7f]", target):
            raise RequestError(f"a URL must not contain blanks, got {url[:200]!r}; write them as %20")
        return connection, target

    def _download(self, response: http.client.HTTPResponse, path: Path, deadline_s: float) -> None:
        written = 0
        with path.open("wb") as file:
            while chunk := response.read1(_CHUNK):
                written += file.write(chunk)
                _check_size(written)
                if time.monotonic() > deadline_s:
                    raise RequestError(f"a file must be fetched within {FETCH_S:g} s, got {written}")


class _PinnedHttp(http.client.HTTPConnection):
    """Connection to an address that was checked, even if the name now resolves to another."""

    address: str

    def connect(self) -> None:
        self.sock = socket.create_connection((self.address, self.port), self.timeout)


class _PinnedHttps(_PinnedHttp):
    """Pinned connection over TLS, with the certificate of the host's name."""

    def connect(self) -> None:
        super().connect()
        self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


def public_address(host: str, port: int) -> str:
    """Return a public address of a host.

    Raises:
        RequestError: the host is unknown, or any of its addresses is loopback, private, link-local or reserved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise RequestError(f"host {host[:100]!r} is not known; check the URL") from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not addresses or not all(map(is_public, addresses)):
        raise RequestError(f"host {host[:100]!r} must have a public address, got one of this machine or its network")
    return addresses[0]


def is_public(address: str) -> bool:
    """Return whether an IP address is public.

    >>> [is_public(a) for a in ("8.8.8.8", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::7f00:1")]
    [True, False, False, False, False]
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if any(parsed in network for network in _NEVER):
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def _write_data(url: str, kind: str, folder: Path) -> Path:
    """Write the file of a data: URL."""
    head, comma, payload = url.partition(",")
    if not comma or len(head) > 300 or not _DATA_HEAD.fullmatch(head):
        raise RequestError(f"a data: URL must be data:{kind}/…;base64,…, got {head[:60]!r}; encode the file in base64")
    path = folder / "sent"
    written = 0
    with path.open("xb") as file:
        for start in range(0, len(payload), _CHUNK):
            try:
                written += file.write(base64.b64decode(payload[start : start + _CHUNK], validate=True))
            except (binascii.Error, ValueError) as error:
                raise RequestError(f"{_a(kind)} in a data: URL must be base64 after the comma, got {error}") from None
            _check_size(written)
    return path


def _check_file(path: Path, kind: str) -> VideoInfo:
    """Return size and length of a file; refuse other kinds of file, and files beyond the limits."""
    _check_size(path.stat().st_size)
    try:
        info = check_untrusted(
            path, is_video=kind == "video", max_pixels=FRAME_PIXELS if kind == "video" else IMAGE_PIXELS
        )
    except (ValueError, OSError, SyntaxError) as error:
        raise RequestError(str(error).replace(str(path), "the file")) from None
    if kind == "video" and (info.duration_s or 0.0) > VIDEO_S:
        raise RequestError(f"a video must last at most {VIDEO_S:g} s, got {info.duration_s:.0f} s; cut it")
    return info


def _check_size(size: int) -> None:
    if size > FILE_MB * 1_000_000:
        raise RequestError(f"a file must have at most {FILE_MB} MB, got more; send a smaller one")


def _a(kind: str) -> str:
    return "an image" if kind == "image" else "a video"
