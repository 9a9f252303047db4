"""Draw boxes, labels and trails on frames with supervision; every object keeps one colour.

Boxes are x1, y1, x2, y2 in pixels of the image.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from elysium.processing.structures import DOUBTED, Track, TrackingResult
from elysium.processing.video_io import VideoReader, VideoWriter

from .fonts import readable_label
from .labels import Label, LabelWriter

with warnings.catch_warnings():
    # Without OpenCV supervision draws with NumPy: the same image, 16 instead of 6 ms per 640x480 frame.
    warnings.filterwarnings("ignore", message="OpenCV")
    import supervision as sv

# Neighbours in the list differ in hue; all stand out from foliage, asphalt and skin.
OBJECT_COLORS = sv.ColorPalette.from_hex(
    ["#00B8F5", "#FF4D6D", "#FFC21A", "#2ED573", "#A66BFF", "#FF7A1A", "#00D6C6", "#F062C0", "#B5D334", "#5C7CFF"]
)
REASON_NOTES = {"absent": "not found", "unreadable": "no readable answer"}


@dataclass(frozen=True)
class Mark:
    """One object in one frame.

    Args:
        track_id: 1 or more; selects the colour.
        label: text beside the box.
        box_xyxy_px: box in pixels of the image, None without a box.
        score: 0..1, None to leave it out of the label.
        reason: "absent" or "unreadable" without a box; shown in a corner, the lower left if it is free.
        doubted: whether the box is dashed, since it may be wrong.
    """

    track_id: int
    label: str
    box_xyxy_px: Sequence[float] | None
    score: float | None = None
    reason: str | None = None
    doubted: bool = False


def object_color(track_id: int) -> sv.Color:
    """Return the colour of an object, counted from 1; the colours repeat after ten objects."""
    return OBJECT_COLORS.by_idx((track_id - 1) % len(OBJECT_COLORS.colors))


def font_size(width: int, height: int) -> int:
    """Return a readable font size in pixels for an image of this size."""
    return max(13, round(0.025 * min(width, height)))


def marks_at(tracks: Iterable[Track], frame_idx: int) -> list[Mark]:
    """Return a mark for every track that contains the frame; a box that the user gave has no score."""
    marks = []
    for track in tracks:
        position = int(np.searchsorted(track.frame_indices, frame_idx))
        if position == len(track) or track.frame_indices[position] != frame_idx:
            continue
        valid = bool(track.valid[position])
        marks.append(
            Mark(
                track_id=track.track_id,
                label=track.label,
                box_xyxy_px=tuple(track.boxes_xyxy_px[position]) if valid else None,
                score=float(track.scores[position]) if track.found[position] else None,
                reason=track.reasons[position],
                doubted=bool(track.doubt[position] >= DOUBTED),
            )
        )
    return marks


class FrameAnnotator:
    """Draw on the frames of one video, in order; keeps earlier positions for the trails.

    Args:
        width: width of the frames in pixels; line widths and font size depend on it.
        height: height of the frames in pixels.
        trail_frames: length of the trails in frames; 0 draws none.
    """

    def __init__(self, width: int, height: int, *, trail_frames: int = 30) -> None:
        thickness = max(2, round(min(width, height) / 350))
        track = sv.ColorLookup.TRACK
        self._dash_px = 2 * thickness
        self._boxes = sv.BoxAnnotator(OBJECT_COLORS, thickness=thickness, color_lookup=track)
        self._labels = LabelWriter(width, height, font_size(width, height), line_px=thickness)
        self._trails = None
        if trail_frames > 0:
            self._trails = sv.TraceAnnotator(
                OBJECT_COLORS, trace_length=trail_frames, thickness=thickness, color_lookup=track
            )

    def annotate(self, image: NDArray[np.uint8], marks: Sequence[Mark]) -> NDArray[np.uint8]:
        """Return a copy of ``image`` (uint8 RGB of shape ``(H, W, 3)``) with the marks on it."""
        seen = [mark for mark in marks if mark.box_xyxy_px is not None]
        scene = np.ascontiguousarray(image[..., ::-1])  # supervision draws in OpenCV's order, BGR
        detections = _detections(seen)
        if self._trails is not None:
            scene = self._trails.annotate(scene, detections)
        if not marks:
            return np.ascontiguousarray(scene[..., ::-1])
        scene = self._draw_boxes(scene, [mark for mark in seen if not mark.doubted])
        if doubted := [mark for mark in seen if mark.doubted]:
            rows, columns = np.indices(scene.shape[:2], sparse=True)
            is_gap = (rows + columns) // self._dash_px % 2 == 1
            scene = np.where(is_gap[..., None], scene, self._draw_boxes(scene.copy(), doubted))
        labelled = Image.fromarray(np.ascontiguousarray(scene[..., ::-1]))
        missing = [mark for mark in marks if mark.box_xyxy_px is None]
        self._labels.write(labelled, [_label(mark, numbered=len(marks) > 1) for mark in [*seen, *missing]])
        return np.array(labelled)

    def _draw_boxes(self, scene: NDArray[np.uint8], marks: Sequence[Mark]) -> NDArray[np.uint8]:
        return self._boxes.annotate(scene, _detections(marks)) if marks else scene


def _label(mark: Mark, *, numbered: bool) -> Label:
    """Return the label of a mark: its text with the score, or why there is no box; with its number among several."""
    if mark.box_xyxy_px is None:
        ending = f": {REASON_NOTES.get(mark.reason or '', 'no box')}"
    else:
        ending = "" if mark.score is None else f" {mark.score:.0%}"
    text = readable_label(mark.label, mark.track_id)
    text = numbered_label(text, mark.track_id) if numbered else text
    return Label(mark.track_id, text, ending, object_color(mark.track_id).as_rgb(), mark.box_xyxy_px)


def numbered_label(text: str, track_id: int) -> str:
    """Return a label that starts with the number of its object, by which labels without room for a text name it.

    >>> numbered_label("the cup", 2), numbered_label("object 2", 2)
    ('#2 the cup', 'object 2')
    """
    return text if text == f"object {track_id}" else f"#{track_id} {text}"


def _detections(marks: Sequence[Mark]) -> sv.Detections:
    """Return the boxes with ids that select the colour; `ColorPalette.by_idx` counts from 0 and wraps around."""
    if not marks:
        return sv.Detections.empty()
    return sv.Detections(
        xyxy=np.array([mark.box_xyxy_px for mark in marks], dtype=np.float32),
        tracker_id=np.array([mark.track_id - 1 for mark in marks]),
    )


def annotate_frame(
    image: NDArray[np.uint8],
    boxes_xyxy_px: Sequence[Sequence[float] | None],
    labels: Sequence[str],
    *,
    scores: Sequence[float | None] | None = None,
    track_ids: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Return an image with boxes and labels on it.

    Args:
        image (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB; it is not changed.
        boxes_xyxy_px: a box for every object, None for an object that is not visible.
        labels: text for every object.
        scores: 0..1 for every object, shown as percent; by default not shown.
        track_ids: numbers from 1, which select the colours; by default 1, 2, 3, …

    Raises:
        ValueError: the lists differ in length.
    """
    count = len(boxes_xyxy_px)
    scores = [None] * count if scores is None else scores
    track_ids = range(1, count + 1) if track_ids is None else track_ids
    if not len(labels) == len(scores) == len(track_ids) == count:
        raise ValueError(
            "boxes_xyxy_px, labels, scores and track_ids must have one entry for every object, "
            f"got {count}, {len(labels)}, {len(scores)} and {len(track_ids)}; use None for what is missing"
        )
    marks = [
        Mark(track_id, label, box, score, None if box is not None else "absent")
        for track_id, label, box, score in zip(track_ids, labels, boxes_xyxy_px, scores, strict=True)
    ]
    return FrameAnnotator(image.shape[1], image.shape[0], trail_frames=0).annotate(image, marks)


def annotate_video(
    video: str | Path,
    result: TrackingResult,
    path: str | Path,
    *,
    trail_frames: int = 30,
    on_frame: Callable[[int], object] | None = None,
) -> int:
    """Write an annotated copy of a video with the same times and shape; return the number of frames.

    Args:
        video: the tracked video; a folder of images gets the frame rate of ``result``.
        result: its tracks; with an incomplete result the copy ends after the last tracked frame.
        path: output file ending in .mp4, .m4v or .mov.
        trail_frames: length of the trails in frames; 0 draws none.
        on_frame: called with the number of frames written so far, for a progress bar.

    Raises:
        ValueError: the result is complete, and the video has another size or number of frames.
        VideoError: the video cannot be read.
        OutputError: the copy cannot be written.
    """
    last = max((int(track.frame_indices[-1]) for track in result.tracks if len(track)), default=-1)
    count = 0
    with VideoReader(video, folder_fps=result.fps) as reader:
        info = reader.info
        result.check_size(info.width, info.height)
        annotator = FrameAnnotator(info.width, info.height, trail_frames=trail_frames)
        with VideoWriter(path, info.fps, info.width, info.height, pixel_aspect=info.pixel_aspect) as writer:
            for frame in reader:
                if not result.complete and frame.index > max(last, 0):
                    break
                drawn = annotator.annotate(frame.image, marks_at(result.tracks, frame.index))
                writer.write(drawn, timestamp_s=frame.timestamp_s, duration_s=frame.duration_s)
                count += 1
                if on_frame is not None:
                    on_frame(count)
            result.check_length(count)
    return count
