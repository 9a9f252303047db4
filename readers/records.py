"""`TrackingSequence`: one object in one video with its true boxes, as all readers of tracking datasets return it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .frame_sources import DatasetError, Frames


@dataclass(frozen=True, eq=False, kw_only=True)
class TrackingSequence:
    """One object in one video.

    Args:
        name: unique in its dataset; also the name of its result file.
        frames: the images, opened only when needed; scoring results needs none.
        boxes_xywh_px (`np.ndarray` of shape `(T, 4)`): left, top, width, height in pixels as the annotation
            gives them; NaN or without area where there is none. `(1, 4)` where the truth of a test set is withheld.
        visible (`np.ndarray` of shape `(T,)`): bool, False where the annotation says that the object cannot be seen.
        text: text prompt for the object, or None.
        object_class: name of its class, or None.
        size: width and height of the frames in pixels where the annotation says so, else None.
        group: a part of the dataset that is also scored on its own, or None.

    Raises:
        DatasetError: the shapes do not fit.
    """

    name: str
    frames: Frames
    boxes_xywh_px: NDArray[np.float64]
    visible: NDArray[np.bool_]
    text: str | None = None
    object_class: str | None = None
    size: tuple[int, int] | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if self.boxes_xywh_px.ndim != 2 or self.boxes_xywh_px.shape[1] != 4 or not len(self.boxes_xywh_px):
            raise DatasetError(
                f"a sequence must have four numbers for each frame, got {self.boxes_xywh_px.shape} for {self.name}; "
                "check its annotation"
            )
        if self.visible.shape != (len(self.boxes_xywh_px),):
            raise DatasetError(
                f"a sequence must have a flag for each of its {len(self.boxes_xywh_px)} boxes, got "
                f"{self.visible.shape[0]} for {self.name}; check its labels of occlusion and absence"
            )

    @property
    def truth_is_withheld(self) -> bool:
        """Return whether only the first box is given, as in test sets that a server scores."""
        return len(self.boxes_xywh_px) == 1

    @property
    def picture_size(self) -> tuple[int, int]:
        """Return width and height in pixels: as annotated, else of the first frame."""
        return self.size or self.frames.size

    def first_box_xyxy_px(self) -> tuple[float, float, float, float]:
        """Return the box of frame 1, cut to the image.

        Raises:
            DatasetError: frame 1 has no box.
        """
        box = self.box_xyxy_px(0)
        if box is None:
            right, bottom = self.picture_size
            raise DatasetError(
                f"frame 1 must have a box inside the {right}x{bottom} image to track by box, got "
                f"{self.boxes_xywh_px[0].tolist()} (x,y,w,h) for {self.name}; leave the sequence out or "
                "use a text prompt"
            )
        return box

    def box_xyxy_px(self, frame: int) -> tuple[float, float, float, float] | None:
        """Return the box of a frame, cut to the image; None where it has no area inside."""
        x, y, width, height = self.boxes_xywh_px[frame]
        x1, y1, x2, y2 = np.clip([x, y, x + width, y + height], 0, [*self.picture_size] * 2).tolist()
        return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None  # None for NaN as well

    def check_length(self) -> None:
        """Check that there are as many frames as boxes.

        Raises:
            DatasetError: the numbers differ.
        """
        if len(self.boxes_xywh_px) not in (1, len(self.frames)):
            raise DatasetError(
                f"a sequence must have a box for each frame, got {len(self.boxes_xywh_px)} boxes and "
                f"{len(self.frames)} frames for {self.name}; extract its archive again"
            )


ReadSequence = Callable[[], TrackingSequence]
