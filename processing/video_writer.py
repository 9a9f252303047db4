"""Streaming video output: H.264 in mp4 that browsers play."""

import math
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .atomic_files import OutputError, atomic_path

SUFFIXES = (".mp4", ".m4v", ".mov")
MAX_SIDE_PX = 16384  # of x264
MAX_FPS = 100_000
MAX_TICKS = 2**31 - 1  # between two frames of an mp4


@dataclass(frozen=True)
class VideoFormat:
    """Size, pixel aspect and clock of an encoded video, chosen within the limits of H.264 and mp4.

    Args:
        width: of the frames to be encoded, in pixels.
        height: of the frames to be encoded, in pixels.
        fps: frames per second, above 0 and at most 100,000.
        pixel_aspect: width of a pixel as shown, divided by its height.

    Raises:
        ValueError: a size or rate that no video can have.
    """

    width: int
    height: int
    fps: float
    pixel_aspect: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0 and self.width > 0 and self.height > 0):
            got = f"{self.fps}, {self.width}x{self.height}"
            raise ValueError(f"fps, width and height must be above 0, got {got}; take the input's")
        if self.fps > MAX_FPS:
            raise ValueError(f"fps of a video must be at most {MAX_FPS}, got {self.fps:g}; give a lower rate")

    @property
    def is_scaled(self) -> bool:
        """Return whether a side is above the encoder's limit, so that the frames are scaled down."""
        return max(self.width, self.height) > MAX_SIDE_PX

    @property
    def size_px(self) -> tuple[int, int]:
        """Return width and height as encoded: even, and at most 16384.

        >>> VideoFormat(65, 48, 10.0).size_px, VideoFormat(20000, 16, 10.0).size_px
        ((66, 48), (16384, 14))
        """
        if not self.is_scaled:
            return self.width + self.width % 2, self.height + self.height % 2
        scale = MAX_SIDE_PX / max(self.width, self.height)
        width, height = (max(2, 2 * round(side * scale / 2)) for side in (self.width, self.height))
        return width, height

    @property
    def sample_aspect(self) -> Fraction:
        """Return the pixel aspect as encoded, corrected for sides that were rounded by the scaling."""
        if not self.is_scaled:
            return max(Fraction(1, 1000), self.pixel_aspect.limit_denominator(1000))
        width, height = self.size_px
        return (self.pixel_aspect * Fraction(self.width, self.height) * Fraction(height, width)).limit_denominator(
            1000
        )

    @property
    def rate(self) -> Fraction:
        """Return the frame rate as a fraction of small numbers.

        >>> VideoFormat(64, 48, 29.97002997).rate, VideoFormat(64, 48, 1 / 3600).rate
        (Fraction(30000, 1001), Fraction(1, 3600))
        """
        if self.fps >= 1:
            return Fraction(self.fps).limit_denominator(1001)
        return 1 / Fraction(1 / self.fps).limit_denominator(1001)

    @property
    def ticks(self) -> int:
        """Return the ticks per second: a whole number of them for every frame, fine enough for varying times."""
        at_least = 10_000 if self.fps >= 1 else 1000  # two frames may then be 59 hours, or 24 days, apart
        return self.rate.numerator * math.ceil(at_least / self.rate.numerator)


class VideoWriter:
    """Write frames as H.264, yuv420p, index first (faststart); the file is whole or not there.

    A frame with an odd side gets its last column or row repeated, since yuv420p has only even sides. Frames with a
    side above 16384 pixels are scaled down, with a warning. There are no B-frames, which would need the times of later
    frames and shift the start of a video whose frames are hours apart; files are a fifth larger for it.

    Args:
        path: of the file, ending in .mp4, .m4v or .mov.
        fps: frames per second, above 0.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        pixel_aspect: width of a pixel as shown, divided by its height.
        quality: constant rate factor of x264: 18 looks like the source, 28 is small.

    Raises:
        ValueError: another suffix, or fps or size not above 0.
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        width: int,
        height: int,
        *,
        pixel_aspect: Fraction = Fraction(1),
        quality: int = 20,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"a video must be saved as {', '.join(SUFFIXES)}, got {str(path)!r}; change the suffix")
        self.format = VideoFormat(width, height, float(fps), pixel_aspect)
        self.num_written = 0
        self._last_pts = -1
        self._durations: deque[int] = deque()  # of the frames that the encoder has not given back yet
        self._quality = quality
        self._container: Any = None
        self._stream: Any = None
        self._output = ExitStack()  # renames the file, or removes it

    def __enter__(self) -> "VideoWriter":
        if self.format.is_scaled:
            width, height = self.format.size_px
            warnings.warn(
                f"the annotated video is {width}x{height}: frames of {self.format.width}x{self.format.height} are "
                f"above the {MAX_SIDE_PX} pixels of a side that H.264 encoders allow",
                stacklevel=2,
            )
        with ExitStack() as output:
            temporary = output.enter_context(atomic_path(self.path))
            output.callback(self._close_quietly)
            with self._output_errors():
                self._container = av.open(str(temporary), "w", options={"movflags": "+faststart"})
                self._stream = self._add_stream()
            self._output = output.pop_all()
        return self

    def _add_stream(self) -> Any:
        options = {"crf": str(self._quality), "preset": "veryfast", "bf": "0"}
        stream = self._container.add_stream("libx264", rate=self.format.rate, options=options)
        stream.width, stream.height = self.format.size_px
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, self.format.ticks)
        # Explicit, so that no player guesses the colours from the height.
        context = stream.codec_context
        context.sample_aspect_ratio = self.format.sample_aspect
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        return stream

    def write(
        self, image: NDArray[np.uint8], *, timestamp_s: float | None = None, duration_s: float | None = None
    ) -> None:
        """Add a frame.

        Args:
            image (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB.
            timestamp_s: seconds from the start, above the frame before; by default ``i / fps``.
            duration_s: seconds that it is shown where no frame comes after it; by default ``1 / fps``.

        Raises:
            ValueError: another shape or dtype, or the writer is not open.
            OutputError: the file cannot be written on, or the frame comes too long after the one before it.
        """
        if self._container is None:
            raise ValueError("a VideoWriter must be open to write, got a closed one; use `with VideoWriter(…)`")
        width, height, ticks = self.format.width, self.format.height, self.format.ticks
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise ValueError(
                f"image must be uint8 of shape {(height, width, 3)}, got {image.dtype} {image.shape}; "
                "give every frame the size that the writer was made with"
            )
        at = Fraction(self.num_written) / self.format.rate if timestamp_s is None else timestamp_s
        pts = max(self._last_pts + 1, round(at * ticks))
        if pts - self._last_pts > MAX_TICKS:
            raise OutputError(
                f"frames of an mp4 must be at most {MAX_TICKS / ticks / 3600:.1f} hours apart, got one at "
                f"{float(at):.0f} s after one at {self._last_pts / ticks:.0f} s; cut the video there"
            )
        frame = self._to_yuv(image)
        frame.pts, frame.time_base = pts, Fraction(1, ticks)
        lasts = ticks / self.format.rate if duration_s is None else duration_s * ticks
        self._durations.append(min(max(1, round(lasts)), MAX_TICKS))
        self._mux(frame)
        self._last_pts = pts
        self.num_written += 1

    def _to_yuv(self, image: NDArray[np.uint8]) -> Any:
        width, height = self.format.size_px
        if not self.format.is_scaled:
            image = np.pad(image, ((0, height - len(image)), (0, width - image.shape[1]), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        return frame.reformat(width, height, format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")

    def _mux(self, frame: Any | None) -> None:
        """Encode a frame, or flush the encoder where it is None."""
        with self._output_errors():
            for packet in self._stream.encode(frame):
                packet.duration = self._durations.popleft()
                self._container.mux(packet)

    @contextmanager
    def _output_errors(self) -> Iterator[None]:
        """Turn what the encoder raises while it writes into an `OutputError`."""
        try:
            yield
        except (av.FFmpegError, OSError) as failure:
            raise OutputError(
                f"{self.path} must be writable to its end, got: {failure.strerror or type(failure).__name__}; free "
                "disk space or choose another path"
            ) from failure

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._output.__exit__(kind, error, trace)
            return
        with self._output:
            self._finish()

    def _finish(self) -> None:
        if self.num_written == 0:
            raise ValueError(f"a video must have at least one frame, got none for {self.path}; write frames first")
        self._mux(None)
        container, self._container = self._container, None
        with self._output_errors():
            container.close()

    def _close_quietly(self) -> None:
        """Close the container where it is open; an unfinished file has no trailer to write."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(av.FFmpegError, OSError):
                container.close()
