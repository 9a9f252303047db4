"""Track boxes with SAM 2 video of transformers: masks from the first box on, and the boxes around them.

The inference session is used directly, because the processor needs torchvision.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import Sam2VideoInferenceSession, Sam2VideoModel

from elysium.processing.boxes_elysium import Box

from .video_records import Trajectory

# ImageNet's, as SAM 2's processor configurations have them.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The prompt encoder's labels of a box: its upper left and its lower right corner.
_CORNERS = (2, 3)


class Sam2Tracker:
    """Track all objects of a video in one pass.

    Args:
        name: Hub id or folder of the checkpoint.
        device: cpu, cuda …; by default a GPU if there is one.

    Raises:
        OSError: no such checkpoint.
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = Sam2VideoModel.from_pretrained(name).to(self._device).eval()
        self._side = int(self._model.config.image_size)

    @torch.inference_mode()
    def follow(self, frames: NDArray[np.uint8], boxes_xyxy_norm: Sequence[Box]) -> list[Trajectory]:
        """Return a trajectory for each box; scores are the model's probability that the object is visible."""
        height, width = frames.shape[1:3]
        session = Sam2VideoInferenceSession(
            video_height=height, video_width=width, inference_device=self._device, dtype=torch.float32
        )
        for number, box in enumerate(boxes_xyxy_norm):
            corners = torch.tensor(box, dtype=torch.float32).reshape(1, 1, 2, 2) * self._side
            inputs = {"point_coords": corners, "point_labels": torch.tensor(_CORNERS).reshape(1, 1, 2)}
            session.add_point_inputs(session.obj_id_to_idx(number), 0, inputs)
        session.obj_with_new_inputs = list(range(len(boxes_xyxy_norm)))
        boxes = np.full((len(boxes_xyxy_norm), len(frames), 4), np.nan)
        scores = np.zeros((len(boxes_xyxy_norm), len(frames)))
        for index, frame in enumerate(frames):
            output = self._model(session, frame=self._pixels(frame))
            session.processed_frames[index] = None  # the memory bank keeps what is needed of it
            there = torch.sigmoid(output.object_score_logits.float()).reshape(-1).cpu().numpy()
            masks = (output.pred_masks[:, 0] > 0).cpu().numpy()
            for number, mask in enumerate(masks):
                around = box_around(mask) if there[number] > 0.5 else None
                if index == 0:
                    around = boxes_xyxy_norm[number]  # as prompted
                if around is not None:
                    boxes[number, index], scores[number, index] = around, there[number]
        indices = np.arange(len(frames))
        return [Trajectory(indices, own, score) for own, score in zip(boxes, scores, strict=True)]

    def _pixels(self, frame: NDArray[np.uint8]) -> torch.Tensor:
        """Return a frame as input of the model, `(1, 3, S, S)`."""
        small = Image.fromarray(frame).resize((self._side, self._side), Image.Resampling.BILINEAR)
        values = (np.asarray(small, dtype=np.float32) / 255 - _MEAN) / _STD
        return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None].to(self._device)


def box_around(mask: NDArray[np.bool_]) -> Box | None:
    """Return the box x1, y1, x2, y2 in 0..1 around a mask `(h, w)`; None if it is empty.

    >>> box_around(np.eye(4, dtype=bool))
    (0.0, 0.0, 1.0, 1.0)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    height, width = mask.shape
    return (
        float(columns[0] / width),
        float(rows[0] / height),
        float((columns[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )
