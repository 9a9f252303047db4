# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Video containers through PyAV: choice of the stream, rotation, frame count, times and damaged files."""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .images_elysium import on_white
from .media_info_elysium import DecodedFrame, MediaFile, VideoError, VideoInfo

# These demuxers follow a text file to other files or draw its letters: never what a user means by a video.
REFUSED_FORMATS = frozenset({"tty", "hls", "concat", "image2", "dash"})
IDENTITY = (1, 0, 0, 1)
# Matrices by the degrees that a frame is turned counterclockwise.
_TURNS = {0: IDENTITY, 90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), -180: (-1, 0, 0, -1), -90: (0, 1, -1, 0)}
_NO_TIMESTAMPS, _TIMES_MAY_JUMP = 0x0080, 0x0200  # AVFMT_NOTIMESTAMPS, AVFMT_TS_DISCONT
# From FFmpeg's own tools (dts_delta_threshold): a longer gap in a transport stream is a new clock, not a pause.
_LONGEST_PAUSE_S = 10.0
# Frames to be skipped for a seek to pay: all packets are listed first.
_LEAST_SKIPPED = 64
# The decoders of VP8 and VP9 that read transparency; FFmpeg's own leave it out.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def orient(image: NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Turn an image as its display matrix says: pixel (x, y) goes to ``(a x + c y, b x + d y)``.

    Args:
        image (`np.ndarray` of shape `(H, W, 3)`): as decoded.
        matrix: a, b, c, d, of which only the signs and the larger diagonal count (turns by 90 degrees and mirrors).
    """
    a, _, c, d = matrix
    if _is_sideways(matrix):
        image, a, d = image.transpose(1, 0, 2), c, matrix[1]
    image = image[:, ::-1] if a < 0 else image
    image = image[::-1] if d < 0 else image
    return np.ascontiguousarray(image)


def _is_sideways(matrix: tuple[int, int, int, int]) -> bool:
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


class ContainerSource:
    """Decode a file that FFmpeg demuxes."""

    def __init__(self, file: MediaFile) -> None:
        self.file = file
        with closing(_open(file)) as container:
            stream = _video_stream(container, file)
            decoder = _decoder(stream)
            first = next((frame for _, frame in _decode(container, stream, decoder) if frame is not None), None)
            if first is None:
                raise VideoError(
                    f"a video must hold at least one frame that decodes, got none in {file.name}; "
                    "the file is damaged or cut short: copy or download it again"
                )
            self.size = (first.width, first.height)
            self._matrix = _display_matrix(first)
            # AVI stores the order of decoding only: FFmpeg's guesses for reordered frames are out of order.
            self._sorts_times = container.format.name == "avi" and decoder.reorder_depth > 0
            self._has_times = not container.format.flags & _NO_TIMESTAMPS
            self._video_s: float | None = None
            self.info = self._describe(container, stream)

    def _describe(self, container: Any, stream: Any) -> VideoInfo:
        width, height = self.size
        aspect = _positive(stream.sample_aspect_ratio) or Fraction(1)
        if _is_sideways(self._matrix):
            width, height, aspect = height, width, 1 / aspect
        # The average of a stream without times is FFmpeg's default, not what the stream says.
        rates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
        fps = next(filter(None, map(_positive, rates if self._has_times else rates[1:])), None)
        if fps is None:
            raise VideoError(
                f"a video must declare its frame rate, got none in {self.file.name}; "
                "convert it to mp4, or extract its frames into a folder"
            )
        count = _declared_frames(container, stream)
        if container.format.name == "avi" and count is not None:
            duration_s: float | None = float(count / fps)  # the header's own length may be wrong
        elif stream.duration is not None and stream.time_base is not None:
            duration_s = float(stream.duration * stream.time_base)
        else:
            duration_s = _tagged_duration_s(stream)
        whole_s = container.duration / av.time_base if container.duration is not None else None
        # The file may end later than its video where it has sound.
        self._video_s = duration_s or (whole_s if len(container.streams) == 1 else None)
        return VideoInfo(self.file.name, width, height, float(fps), count, duration_s or whole_s, aspect)

    def decode(self, warnings: list[str]) -> Generator[DecodedFrame]:
        """Decode what can be decoded; append to ``warnings`` what could not."""
        decoded = damaged = resized = 0
        last_s: float | None = None
        with closing(_open(self.file)) as container:
            stream = _video_stream(container, self.file)
            stream.thread_type = "AUTO"
            clock = _Clock(1 / self.info.fps, may_jump=bool(container.format.flags & _TIMES_MAY_JUMP))
            stored: deque[int] | None = deque() if self._sorts_times else None
            for is_error, frame in _decode(container, stream, _decoder(stream), stored):
                damaged += is_error or frame.is_corrupt
                if frame is None:
                    continue
                time_s, duration_s = self._times(frame, stream, stored)
                last_s = clock.at(time_s, is_key_frame=bool(frame.key_frame))
                decoded += 1
                resized += (frame.width, frame.height) != self.size
                yield DecodedFrame(last_s, duration_s, partial(self._to_rgb, frame))
        warnings += self._shortfall(decoded, last_s)
        if damaged:
            warnings.append(
                f"{self.file.name} is damaged in {damaged} place(s): frames there are missing or incomplete"
            )
        if resized:
            warnings.append(
                f"{resized} frames of {self.file.name} had another size and were scaled to the first frame's"
            )

    def decode_at(self, wanted: Collection[int]) -> tuple[int, list[tuple[int, DecodedFrame]]] | None:
        """Decode few frames that are far apart, each from the keyframe before it: the frames that `decode` gives.

        Only an mp4 in which every packet is a frame with a time of its own is read so. Damage in what is skipped is
        not noticed.

        Args:
            wanted: indices of frames, at least one.

        Returns:
            The number of frames of the file, and the frames with their indices, in order; None where most frames
            would be decoded anyway, or where it is not sure that they would be the same.
        """
        last = max(wanted)
        if last + 1 - len(wanted) < _LEAST_SKIPPED or not self._has_times:
            return None
        with closing(_open(self.file)) as container:
            stream = _video_stream(container, self.file)
            listed = _list_frames(container, stream) if "mp4" in container.format.name else None
            if listed is None or len(listed.times) != self.info.num_frames or last >= len(listed.times):
                return None
            groups: dict[tuple[int, int], list[int]] = {}
            for index in sorted(wanted):
                groups.setdefault(listed.keyframe_before(index), []).append(index)
            if 2 * sum(inside[-1] + 1 - key for (key, _), inside in groups.items()) > last + 1:
                return None
            stream.thread_type = "AUTO"
            found: list[tuple[int, DecodedFrame]] = []
            for (_, dts), inside in groups.items():
                container.seek(dts, stream=stream)
                frames = _decode_until(container, stream, [listed.times[index] for index in inside])
                if frames is None:
                    return None
                for index, frame in zip(inside, frames, strict=True):
                    time_s = listed.seconds(index, stream.time_base)
                    _, duration_s = self._times(frame, stream, None)
                    if index + 1 < len(listed.times):
                        duration_s = listed.seconds(index + 1, stream.time_base) - time_s
                    found.append((index, DecodedFrame(time_s, duration_s, partial(self._to_rgb, frame))))
        return len(listed.times), found

    def _times(self, frame: Any, stream: Any, stored: deque[int] | None) -> tuple[float | None, float | None]:
        """Return when the file shows the frame and for how long; None where it does not say."""
        time_base = frame.time_base or stream.time_base
        if not self._has_times or time_base is None:
            return None, None
        duration_s = float(frame.duration * time_base) if frame.duration else None
        if stored:
            return float(stored.popleft() * stream.time_base), duration_s
        return (None if frame.pts is None else float(frame.pts * time_base)), duration_s

    def _shortfall(self, decoded: int, span_s: float | None) -> list[str]:
        """Return a warning where fewer frames decoded, or for a shorter time, than the file declares."""
        declared, duration_s = self.info.num_frames, self._video_s
        if declared is not None:
            short = f"decoded {decoded} of {declared} frames of {self.file.name}; the file is cut short or damaged"
            return [short] if decoded < declared else []
        if duration_s is None or span_s is None or duration_s - span_s <= max(0.5, 0.05 * duration_s):
            return []
        return [
            f"decoded {decoded} frames, up to {span_s:.1f} of the {duration_s:.1f} s that {self.file.name} declares; "
            "the file may be cut short"
        ]

    def _to_rgb(self, frame: Any) -> NDArray[np.uint8]:
        width, height = self.size
        try:
            if frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components):
                image = on_white(frame.reformat(width, height, "rgba").to_ndarray())
            else:
                image = frame.to_ndarray(format="rgb24", width=width, height=height)
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(
                f"frames must have colours that FFmpeg can convert, got {frame.format.name} in {self.file.name} "
                f"({error}); convert the video to H.264"
            ) from error
        return image if self._matrix == IDENTITY else orient(image, self._matrix)


class _Clock:
    """Make the times of frames start at 0 and never fall, also where joined files begin to count anew.

    Args:
        step_s: time from one frame to the next where the file does not say.
        may_jump: whether the format counts on after a change of clock, so that a long gap is none.
    """

    def __init__(self, step_s: float, *, may_jump: bool) -> None:
        self._step_s, self._may_jump = step_s, may_jump
        self._offset_s = 0.0
        self._last_s: float | None = None

    def at(self, time_s: float | None, *, is_key_frame: bool) -> float:
        """Return the seconds since the first frame of one that the file shows at ``time_s``."""
        if self._last_s is None:
            self._offset_s, self._last_s = -(time_s or 0.0), 0.0
            return 0.0
        following_s = self._last_s + self._step_s
        if time_s is None:
            self._last_s = following_s
            return following_s
        gap_s = time_s + self._offset_s - self._last_s
        is_new_clock = (gap_s < -1e-6 and (is_key_frame or gap_s < -1)) or (
            self._may_jump and gap_s > _LONGEST_PAUSE_S
        )
        if is_new_clock:
            self._offset_s = following_s - time_s
        self._last_s = max(self._last_s, time_s + self._offset_s)
        return self._last_s


@dataclass(frozen=True)
class _ListedFrames:
    """Hold when each frame of a stream is shown, and its keyframes, each with its place and when it is decoded."""

    times: list[int]
    keyframes: list[tuple[int, int]]

    def keyframe_before(self, index: int) -> tuple[int, int]:
        """Return the last keyframe that is shown no later than a frame."""
        return self.keyframes[bisect_right(self.keyframes, (index, math.inf)) - 1]

    def seconds(self, index: int, time_base: Fraction) -> float:
        """Return the seconds from the first frame to another, as `_Clock` counts them."""
        first, *_ = self.times
        return float(self.times[index] * time_base) - float(first * time_base)


def _list_frames(container: Any, stream: Any) -> _ListedFrames | None:
    """List the frames by their packets, without decoding; None where packets and frames may not be the same."""
    packets = []
    for packet in _packets(container, stream):
        if packet is None or (packet.size and (None in (packet.pts, packet.dts) or packet.is_discard)):
            return None
        if packet.size:
            packets.append((packet.pts, packet.dts, packet.is_keyframe))
    times = sorted({pts for pts, _, _ in packets})
    places = {pts: place for place, pts in enumerate(times)}
    keyframes = sorted((places[pts], dts) for pts, dts, is_keyframe in packets if is_keyframe)
    if len(times) != len(packets) or not keyframes or keyframes[0][0] != 0:
        return None
    return _ListedFrames(times, keyframes)


def _decode_until(container: Any, stream: Any, wanted: list[int]) -> list[Any] | None:
    """Decode on to the frames that are shown at these times; None where one is missing, or anything is damaged."""
    found = {}
    for is_error, frame in _decode(container, stream, _decoder(stream)):
        if is_error or frame.is_corrupt or frame.pts is None:
            return None
        if frame.pts in wanted:
            found[frame.pts] = frame
        if frame.pts >= wanted[-1]:
            break
    return [found[time] for time in wanted] if len(found) == len(wanted) else None


def count_packets(file: MediaFile) -> int:
    """Return how many packets of video there are, without decoding: about as many as frames."""
    with closing(_open(file)) as container:
        stream = _video_stream(container, file)
        return sum(1 for packet in _packets(container, stream) if packet is not None and packet.size)


def _open(file: MediaFile) -> Any:
    content = file.opened()
    try:
        # "file:" keeps a colon in a name from being read as a protocol.
        place = f"file:{content}" if isinstance(content, Path) else content
        container = av.open(place, options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise VideoError(
            f"a video must be a file that FFmpeg can open, got {file.name} ({error.strerror}); if it is cut short "
            "before its index (moov), or is another kind of file renamed, get the original video"
        ) from error
    if REFUSED_FORMATS & set(container.format.name.split(",")):
        container.close()
        raise VideoError(f"a video must hold images itself, got {file.name}, a text file; get the original video")
    return container


def _video_stream(container: Any, file: MediaFile) -> Any:
    """Return the video stream that players choose: the first flagged default, else the first; never a cover."""
    kinds = av.stream.Disposition
    streams = [s for s in container.streams.video if not s.disposition & (kinds.attached_pic | kinds.timed_thumbnails)]
    whole = [s for s in streams if not s.disposition & kinds.dependent]
    if whole:
        return next((s for s in whole if s.disposition & kinds.default), whole[0])
    if streams:
        raise VideoError(
            f"an image must be stored whole, got {file.name} in {len(streams)} tiles, which FFmpeg does not join; "
            "convert it to JPEG or PNG"
        )
    if container.streams.audio:
        raise VideoError(f"a video must have a video stream, got only audio in {file.name}; choose another file")
    raise VideoError(
        f"a video must have a video stream, got none in {file.name}; "
        "if the file is cut short before its index (moov), copy or download it again"
    )


def _decoder(stream: Any) -> Any:
    """Return what decodes the stream: its own decoder, or one that reads its transparency."""
    name = _ALPHA_DECODERS.get(stream.codec_context.name) if stream.metadata.get("alpha_mode") == "1" else None
    return stream.codec_context if name is None else av.CodecContext.create(name, "r")


def _positive(value: Any) -> Fraction | None:
    """Return a rate or ratio, None where it is missing or not above 0."""
    return Fraction(value) if value is not None and math.isfinite(value) and value > 0 else None


def _tagged_duration_s(stream: Any) -> float | None:
    """Return the seconds in Matroska's DURATION tag (``00:00:02.007``) of a stream, None where there is none."""
    try:
        hours, minutes, seconds = map(float, stream.metadata["DURATION"].split(":"))
    except (KeyError, ValueError):
        return None
    return hours * 3600 + minutes * 60 + seconds or None


def _declared_frames(container: Any, stream: Any) -> int | None:
    """Return how many frames the index of an mp4 or AVI lists (an edit list cuts some away), else what is declared."""
    if not stream.frames:
        return None
    listed = 0
    if "mp4" in container.format.name or container.format.name == "avi":
        listed = sum(not entry.is_discard and entry.size > 0 for entry in stream.index_entries)
    return listed if listed > 1 else int(stream.frames)


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """Return a, b, c, d of the frame's 3x3 display matrix (16.16 fixed point) as signs that `orient` reads."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return IDENTITY
        a, b, _, c, d = np.sign(np.round(np.frombuffer(data, dtype=np.int32)[:5] / 2**16)).astype(int).tolist()
    except (ValueError, KeyError):
        # PyAV refuses all side data of a frame where it does not know the kind of one (EXIF, and what is to come).
        return _TURNS.get(frame.rotation, IDENTITY)
    return a, b, c, d


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield packets, and None where demuxing fails, which ends it."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:
            yield None
            return
        yield packet


def _decode(container: Any, stream: Any, decoder: Any, stored: deque[int] | None = None) -> Iterator[tuple[bool, Any]]:
    """Yield ``(False, frame)``, and ``(True, None)`` where something does not decode; go on after it.

    The times of the packets are appended to ``stored``; whoever gives it takes one for every frame.
    """
    for packet in _packets(container, stream):
        if packet is None:
            yield True, None
            return
        if not packet.size and packet.dts is not None:
            continue  # a frame that AVI leaves out: the one before it stands longer
        if stored is not None and packet.size:
            stored.append(packet.dts)
        try:
            for frame in decoder.decode(packet if packet.size else None):
                yield False, frame
        except av.FFmpegError:
            if stored:
                stored.pop()
            yield True, None
