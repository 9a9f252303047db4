"""Files of a request: `data:` URLs always, paths and URLs only where the server allows them.

The result is a local file that contains its own pixels and whose header is within the limits.
"""

import base64
import binascii
import http.client
import ipaddress
import mimetypes
import re
import socket
import ssl
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urljoin, urlsplit

import av
from PIL import Image

from elysium.processing.video_io import VideoError, probe_video

Kind = Literal["image", "video"]

_CHUNK = 1 << 20  # base64 is decoded in pieces, so that a large one does not block other threads
_REDIRECTS = 3
_USER_AGENT = "elysium-serve"
_DATA_HEAD = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w-]+=[^;,]*)*);base64", re.IGNORECASE)
# Signatures (offset, bytes) of images; only Pillow reads WebP, also as a video.
_IMAGES = (
    (0, b"\x89PNG"),
    (0, b"\xff\xd8\xff"),
    (8, b"WEBP"),
    (0, b"GIF8"),
    (0, b"BM"),
    (0, b"II*\0"),
    (0, b"MM\0*"),
)
_IMAGE_SIGNATURES = (*_IMAGES, (4, b"ftyp"))
# libavformat's containers with their own frames; playlists (HLS, DASH, concat, SDP) refer to other files.
_CONTAINERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,ivf,h264,hevc,m4v,mjpeg,gif,apng"
_NEVER = (
    ipaddress.ip_network("2002::/16"),  # 6to4 and NAT64 contain an IPv4 address
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("64:ff9b:1::/48"),
)


class MediaError(ValueError):
    """A file of a request cannot be used; the message is for the client and contains no path of the server."""


@dataclass(frozen=True)
class MediaLimits:
    """Maximum values for one file.

    Args:
        file_mb: size in MB (10^6 bytes).
        image_pixels: width times height of an image.
        frame_pixels: width times height of a video.
        video_s: duration of a video in seconds.
        fetch_s: seconds for a download.
    """

    file_mb: int = 100
    image_pixels: int = 50_000_000
    frame_pixels: int = 3840 * 2160
    video_s: float = 600.0
    fetch_s: float = 30.0

    @property
    def file_bytes(self) -> int:
        """Size in bytes."""
        return self.file_mb * 1_000_000


@dataclass(frozen=True)
class OpenedFile:
    """Checked file.

    Args:
        path: local path.
        duration_s: duration of a video in seconds; None if unknown, and for an image.
    """

    path: Path
    duration_s: float | None


@dataclass(frozen=True)
class MediaSources:
    """Allowed sources of files in requests.

    Args:
        allow_paths: folders whose files may be given by path; None allows every file, an empty list none.
        allow_urls: hosts for downloads, `example.org` or `example.org:8080`; loopback, private, link-local and
            reserved addresses are always refused.
        limits: limits of a file.
    """

    allow_paths: Sequence[Path] | None = ()
    allow_urls: Sequence[str] = ()
    limits: MediaLimits = MediaLimits()

    def open(self, url: str, kind: Kind, folder: Path) -> "OpenedFile":
        """Return the checked local file for a URL or path of a request.

        Args:
            url: `data:` URL, path, `file:` or `http(s):` URL.
            kind: required kind of file.
            folder: folder for sent or downloaded files; the caller removes it.

        Raises:
            MediaError: the file is not allowed, missing, too large, or not of this kind.
        """
        scheme = url[:8].lower().partition(":")[0]
        if scheme == "data":
            path = self._write_data(url, kind, folder)
        elif scheme in ("http", "https"):
            path = self._fetch(url, kind, folder)
        else:
            path = self._local(url, kind)
        return OpenedFile(path, self._check_file(path, kind))

    # --- data: URLs ---
    def _write_data(self, url: str, kind: Kind, folder: Path) -> Path:
        head, comma, payload = url.partition(",")
        matched = _DATA_HEAD.fullmatch(head) if len(head) < 300 else None
        if not comma or matched is None:
            raise MediaError(
                f"a data: URL must be data:{kind}/…;base64,…, got {head[:60]!r}; encode the file in base64"
            )
        path = folder / f"sent{_suffix(matched[1])}"
        written = 0
        with path.open("xb") as file:
            for start in range(0, len(payload), _CHUNK):
                try:
                    written += file.write(base64.b64decode(payload[start : start + _CHUNK], validate=True))
                except (binascii.Error, ValueError) as error:
                    raise MediaError(
                        f"{_a(kind)} in a data: URL must be base64 after the comma, got {error}"
                    ) from None
                self._check_size(written)
        return path

    # --- paths ---
    def _local(self, url: str, kind: Kind) -> Path:
        if self.allow_paths is not None and not self.allow_paths:
            raise MediaError(
                f"{_a(kind)} must be a data: URL, got {url[:80]!r}; paths are off (--allow-path DIR opens a folder)"
            )
        text = unquote(urlsplit(url).path) if url[:7].lower() == "file://" else url
        shown = repr(url[:200])
        if "\0" in text or ".." in Path(text).parts:
            raise MediaError(f"a path must not contain '..' or null characters, got {shown}; use a plain path")
        try:
            path = Path(text).resolve()
            if self.allow_paths is not None and not any(
                path.is_relative_to(Path(folder).resolve()) for folder in self.allow_paths
            ):
                raise MediaError(f"a path must lie in a folder given as --allow-path, got {shown}")
            regular = stat.S_ISREG(path.stat().st_mode)
        except (OSError, RuntimeError):
            regular = False
        if not regular:
            raise MediaError(f"{_a(kind)} must be a file, an http or a data: URL, got {shown}; check the path")
        return path

    # --- http(s): URLs ---
    def _fetch(self, url: str, kind: Kind, folder: Path) -> Path:
        deadline_s = time.monotonic() + self.limits.fetch_s
        for _ in range(_REDIRECTS + 1):
            connection, target = self._connect(url, deadline_s)
            try:
                connection.request("GET", target, headers={"User-Agent": _USER_AGENT, "Accept": f"{kind}/*,*/*;q=0.5"})
                response = connection.getresponse()
                if response.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, response.headers.get("Location", ""))
                    continue
                if response.status != 200:
                    raise MediaError(
                        f"a URL must respond with status 200, got {response.status} from {url[:200]!r}; check the URL"
                    )
                path = folder / f"fetched{_suffix(response.headers.get_content_type())}"
                self._download(response, path, deadline_s)
                return path
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                raise MediaError(f"{url[:200]!r} cannot be fetched: {type(error).__name__}; check the URL") from None
            finally:
                connection.close()
        raise MediaError(f"a URL may redirect at most {_REDIRECTS} times, got more; use the final URL")

    def _connect(self, url: str, deadline_s: float) -> tuple[http.client.HTTPConnection, str]:
        """Return a connection to the checked address of an allowed host, and the request target."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            host, port = "", 0
        if not host or parts.scheme not in ("http", "https") or parts.username is not None or not url.isascii():
            raise MediaError(f"a URL must be http(s)://HOST/…, got {url[:200]!r}")
        allowed = {entry.lower() for entry in self.allow_urls}
        if f"{host}:{port}" not in allowed and not (host in allowed and port in (80, 443)):
            raise MediaError(
                f"host {host[:100]!r} is not allowed here; --allow-url HOST opens it, or send a data: URL"
            )
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise MediaError(f"a URL must respond within {self.limits.fetch_s:g} s, got no response; try again")
        address = public_address(host, port)
        kind = _PinnedHttps if parts.scheme == "https" else _PinnedHttp
        connection = kind(host, port, timeout=left_s)
        connection.address = address
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if re.search(r"[\s\x00-\x1f\x7f]", target):
            raise MediaError(f"a URL must not contain blanks, got {url[:200]!r}; write them as %20")
        return connection, target

    def _download(self, response: http.client.HTTPResponse, path: Path, deadline_s: float) -> None:
        written = 0
        with path.open("wb") as file:
            while chunk := response.read1(_CHUNK):
                written += file.write(chunk)
                self._check_size(written)
                if time.monotonic() > deadline_s:
                    raise MediaError(f"a file must be fetched within {self.limits.fetch_s:g} s, got {written}")

    # --- checks of a file ---
    def _check_size(self, size: int) -> None:
        if size > self.limits.file_bytes:
            raise MediaError(f"a file must have at most {self.limits.file_mb} MB, got more; send a smaller one")

    def _check_file(self, path: Path, kind: Kind) -> float | None:
        """Return the duration; refuse other kinds of file, and files that are too large once decoded."""
        self._check_size(path.stat().st_size)
        if not _holds_its_pixels(path, kind):
            known = {
                "image": "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF",
                "video": "MP4, MOV, WebM, MKV, AVI, GIF or TS",
            }
            raise MediaError(f"{_a(kind)} must be {known[kind]}, got a file of another kind; convert it")
        try:
            if kind == "image":
                with Image.open(path) as image:
                    width, height = image.size
                duration_s = None
            else:
                info = probe_video(path)
                width, height, duration_s = info.width, info.height, info.duration_s
        except (VideoError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MediaError(f"{_a(kind)} cannot be read: {str(error).replace(str(path), 'the file')}") from None
        most = self.limits.image_pixels if kind == "image" else self.limits.frame_pixels
        if width * height > most:
            raise MediaError(f"{_a(kind)} must have at most {most} pixels, got {width}x{height}; make it smaller")
        if duration_s is not None and duration_s > self.limits.video_s:
            raise MediaError(f"a video must last at most {self.limits.video_s:g} s, got {duration_s:.0f} s; cut it")
        return duration_s


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
        MediaError: the host is unknown, or any of its addresses is loopback, private, link-local or reserved.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise MediaError(f"host {host[:100]!r} is not known; check the URL") from None
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    if not addresses or not all(map(is_public, addresses)):
        raise MediaError(f"host {host[:100]!r} must have a public address, got one of this machine or its network")
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


def _holds_its_pixels(path: Path, kind: Kind) -> bool:
    """Return whether a file contains its own pixels, rather than references to other files."""
    with path.open("rb") as file:
        first = file.read(16)
    if any(first[at : at + len(magic)] == magic for at, magic in (_IMAGE_SIGNATURES if kind == "image" else _IMAGES)):
        return True
    if kind == "image":
        return False
    try:
        with av.open(str(path), options={"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}):
            return True
    except (av.FFmpegError, ValueError):
        return False


def _suffix(media_type: str | None) -> str:
    return mimetypes.guess_extension(media_type or "") or ""


def _a(kind: Kind) -> str:
    return "an image" if kind == "image" else "a video"
