"""Streaming video output: H.264 in mp4 that browsers play."""

import math
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .atomic_files import OutputError, temporary_sibling

SUFFIXES = (".mp4", ".m4v", ".mov")
TICKS_PER_SECOND = 90_000


class VideoWriter:
    """Writes frames as H.264, yuv420p, index first (faststart). The file is whole or not there.

    A picture with an odd side gets its last column or row repeated, since yuv420p has only even sides.

    Args:
        path: of the file, ending in .mp4, .m4v or .mov.
        fps: frames per second, above 0.
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.
        quality: constant rate factor of x264: 18 looks like the source, 28 is small.

    Raises:
        ValueError: another suffix, or fps or size not above 0.
        OutputError: the folder cannot be written.
    """

    def __init__(self, path: str | Path, fps: float, width: int, height: int, *, quality: int = 20) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"a video must be saved as {', '.join(SUFFIXES)}, got {str(path)!r}; change the suffix")
        if not (math.isfinite(fps) and fps > 0 and width > 0 and height > 0):
            raise ValueError(f"fps, width and height must be above 0, got {fps}, {width}x{height}; take the input's")
        self.fps, self.width, self.height = float(fps), width, height
        self.num_written = 0
        self._rate = Fraction(fps).limit_denominator(1001)
        # A whole number of ticks for every frame at the nominal rate, and fine enough for varying times.
        self._ticks = self._rate.numerator * math.ceil(TICKS_PER_SECOND / self._rate.numerator)
        self._last_pts = -1
        self._quality = quality
        self._container: Any = None
        self._stream: Any = None
        self._temporary: Path | None = None

    def __enter__(self) -> "VideoWriter":
        self._temporary = temporary_sibling(self.path)
        try:
            self._container = av.open(str(self._temporary), "w", options={"movflags": "+faststart"})
            self._stream = self._add_stream()
        except BaseException:
            self._discard()
            raise
        return self

    def _add_stream(self) -> Any:
        options = {"crf": str(self._quality), "preset": "veryfast"}
        stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        stream.width, stream.height = self.width + self.width % 2, self.height + self.height % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, self._ticks)
        # Said outright, so that no player guesses the colours from the height.
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        return stream

    def write(self, image: NDArray[np.uint8], *, timestamp_s: float | None = None) -> None:
        """Adds a frame.

        Args:
            image (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB.
            timestamp_s: seconds from the start, above the frame before; by default ``i / fps``.

        Raises:
            ValueError: another shape or dtype, or the writer is not open.
        """
        if self._container is None:
            raise ValueError("a VideoWriter must be open to write, got a closed one; use `with VideoWriter(…)`")
        if image.shape != (self.height, self.width, 3) or image.dtype != np.uint8:
            raise ValueError(
                f"image must be uint8 of shape {(self.height, self.width, 3)}, got {image.dtype} {image.shape}; "
                "give every frame the size that the writer was made with"
            )
        if self.width % 2 or self.height % 2:
            image = np.pad(image, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        at = Fraction(self.num_written) / self._rate if timestamp_s is None else timestamp_s
        self._last_pts = max(self._last_pts + 1, round(at * self._ticks))
        frame.pts, frame.time_base = self._last_pts, Fraction(1, self._ticks)
        frame.duration = int(self._ticks / self._rate)
        self._container.mux(self._stream.encode(frame))
        self.num_written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def _finish(self) -> None:
        if self.num_written == 0:
            raise ValueError(f"a video must have at least one frame, got none for {self.path}; write frames first")
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
            assert self._temporary is not None
            self._temporary.replace(self.path)
        except (av.FFmpegError, OSError) as failure:
            raise OutputError(f"{self.path} must be writable to its end, got {failure}; free disk space") from failure

    def _discard(self) -> None:
        """Closes what is open and removes the temporary file, if it has not been renamed."""
        container, self._container = self._container, None
        try:
            if container is not None:
                container.close()
        except av.FFmpegError:
            pass  # an unfinished file has no trailer to write
        finally:
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)
