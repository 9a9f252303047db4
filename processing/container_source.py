"""Video containers through PyAV: which stream, which way up, how many frames, and what of a damaged file decodes."""

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .video_info import Moment, VideoError, VideoInfo

# These demuxers follow a text file to other files or draw its letters: never what a user means by a video.
REFUSED_FORMATS = frozenset({"tty", "hls", "concat", "image2", "dash"})
IDENTITY = (1, 0, 0, 1)


def orient(image: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Turns a picture as its display matrix says: pixel (x, y) goes to ``(a x + c y, b x + d y)``.

    Args:
        image (`np.ndarray` of shape `(H, W, 3)`): as decoded.
        matrix: a, b, c, d, of which only the signs and the larger diagonal count (turns by 90 degrees and mirrors).
    """
    a, b, c, d = matrix
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    if transposed:
        image, a, d = image.transpose(1, 0, 2), c, b
    image = image[:, ::-1] if a < 0 else image
    image = image[::-1] if d < 0 else image
    return np.ascontiguousarray(image)


class ContainerSource:
    """A file that FFmpeg demuxes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(self._open()) as container:
            stream = _video_stream(container, path)
            first = next((frame for _, frame in _decode(container, stream) if frame is not None), None)
            if first is None:
                raise VideoError(
                    f"a video must hold at least one frame that decodes, got none in {path}; "
                    "the file is damaged or cut short: copy or download it again"
                )
            self.size = (first.width, first.height)
            self.info = self._describe(container, stream, _display_matrix(first))

    def _open(self) -> Any:
        try:
            # "file:" keeps a colon in a name from being read as a protocol.
            container = av.open(f"file:{self.path}", options={"protocol_whitelist": "file"})
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                f"a video must be a file that FFmpeg can open, got {self.path} ({error.strerror}); if it is cut short "
                "before its index (moov), or is another kind of file renamed, get the original video"
            ) from error
        if REFUSED_FORMATS & set(container.format.name.split(",")):
            container.close()
            raise VideoError(
                f"a video must hold pictures itself, got {self.path}, a text file; get the original video"
            )
        return container

    def _describe(self, container: Any, stream: Any, matrix: tuple[int, int, int, int]) -> VideoInfo:
        width, height = self.size
        if abs(matrix[1]) + abs(matrix[2]) > abs(matrix[0]) + abs(matrix[3]):
            width, height = height, width
        fps = float(stream.average_rate or stream.guessed_rate or stream.base_rate or 0)
        if not (math.isfinite(fps) and fps > 0):
            raise VideoError(
                f"a video must declare its frame rate, got none in {self.path}; "
                "convert it to mp4, or extract its frames into a folder"
            )
        duration_s = None
        if stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            duration_s = container.duration / av.time_base
        return VideoInfo(str(self.path), width, height, fps, _declared_frames(container, stream), duration_s)

    def moments(self, warnings: list[str]) -> Generator[Moment]:
        """Decodes what can be decoded; appends to ``warnings`` what could not."""
        decoded = damaged = resized = 0
        times_s: list[float] = []  # of the first frame and the latest
        with closing(self._open()) as container:
            stream = _video_stream(container, self.path)
            stream.thread_type = "AUTO"
            matrix = IDENTITY
            for is_error, frame in _decode(container, stream):
                damaged += is_error or frame.is_corrupt
                if frame is None:
                    continue
                if decoded == 0:
                    matrix = _display_matrix(frame)
                decoded += 1
                resized += (frame.width, frame.height) != self.size
                if frame.time is not None:
                    times_s[1:] = [frame.time]
                yield Moment(frame.time, partial(self._to_rgb, frame, matrix))
        warnings += self._shortfall(decoded, times_s[-1] - times_s[0] if times_s else None)
        if damaged:
            warnings.append(f"{self.path} is damaged in {damaged} place(s): frames there are missing or incomplete")
        if resized:
            warnings.append(f"{resized} frames of {self.path} had another size and were scaled to the first frame's")

    def _shortfall(self, decoded: int, span_s: float | None) -> list[str]:
        """A warning where fewer frames decoded, or for a shorter time, than the file declares."""
        declared, duration_s = self.info.num_frames, self.info.duration_s
        if declared is not None:
            short = f"decoded {decoded} of {declared} frames of {self.path}; the file is cut short or damaged"
            return [short] if decoded < declared else []
        if duration_s is None or span_s is None or duration_s - span_s <= max(0.5, 0.05 * duration_s):
            return []
        return [
            f"decoded {decoded} frames, up to {span_s:.1f} of the {duration_s:.1f} s that {self.path} declares; "
            "the file may be cut short"
        ]

    def _to_rgb(self, frame: Any, matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        width, height = self.size
        image = frame.to_ndarray(format="rgb24", width=width, height=height)
        return image if matrix == IDENTITY else orient(image, matrix)


def _video_stream(container: Any, path: Path) -> Any:
    """The first video stream that is no cover picture."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if streams:
        return streams[0]
    if container.streams.audio:
        raise VideoError(f"a video must have a video stream, got only audio in {path}; choose another file")
    raise VideoError(
        f"a video must have a video stream, got none in {path}; "
        "if the file is cut short before its index (moov), copy or download it again"
    )


def _declared_frames(container: Any, stream: Any) -> int | None:
    """Frames that the file says it has, less those that the edit list of an mp4 cuts away."""
    if not stream.frames:
        return None
    if "mp4" not in container.format.name:
        return int(stream.frames)
    return sum(not entry.is_discard for entry in stream.index_entries) or int(stream.frames)


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """a, b, c, d of the frame's 3x3 display matrix (16.16 fixed point) as signs that `orient` reads."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return IDENTITY
    a, b, _, c, d = np.sign(np.round(np.frombuffer(data, dtype=np.int32)[:5] / 2**16)).astype(int).tolist()
    return a, b, c, d


def _decode(container: Any, stream: Any) -> Iterator[tuple[bool, Any]]:
    """Yields ``(False, frame)``, and ``(True, None)`` where something does not decode; goes on after it."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:
            yield True, None
            return
        try:
            for frame in packet.decode():
                yield False, frame
        except av.FFmpegError:
            yield True, None
