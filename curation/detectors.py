"""Zero-shot object detectors: a picture and a phrase in, boxes out."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .curation_settings import CurationError
from .video_records import Detection

# Below it a box is no sign of anything; between it and the threshold, it says how far off a drop was.
_FLOOR = 0.05


@dataclass(frozen=True, eq=False)
class Query:
    """A question to a detector.

    Args:
        video_id: of the video.
        frame_idx: 0-based, among the decoded frames.
        text: the phrase, without article.
        picture (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB.
    """

    video_id: str
    frame_idx: int
    text: str
    picture: NDArray[np.uint8]


class Detector(Protocol):
    """What the detection step asks."""

    def detect(self, queries: Sequence[Query]) -> list[list[Detection]]:
        """The boxes of each query, in any order, none where there are none."""


class TransformersDetector:
    """Grounding DINO, OWL-ViT, OWLv2, or another model of transformers' zero-shot object detection whose processor
    has `post_process_grounded_object_detection`.

    Args:
        name: Hub id or folder of the checkpoint.
        device: cpu, cuda …; None takes a GPU where there is one.

    Raises:
        CurationError: it cannot be loaded.
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        import torch
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._processor: Any = AutoProcessor.from_pretrained(name)
            model = AutoModelForZeroShotObjectDetection.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise no_detector(name, str(error).splitlines()[0]) from error
        self._model: Any = model.to(self._device).eval()
        # The others' processors pad to a length of their own.
        self._padding = {"padding": True} if model.config.model_type.endswith("grounding-dino") else {}

    def detect(self, queries: Sequence[Query]) -> list[list[Detection]]:
        """One batch through the model: each query is a picture with its one phrase."""
        import torch

        inputs = self._processor(
            images=[query.picture for query in queries],
            text=[[query.text] for query in queries],
            truncation=True,
            return_tensors="pt",
            **self._padding,
        ).to(self._device)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        found = self._processor.post_process_grounded_object_detection(
            outputs, threshold=_FLOOR, target_sizes=[query.picture.shape[:2] for query in queries]
        )
        return [_detections(query, boxes) for query, boxes in zip(queries, found, strict=True)]


def _detections(query: Query, found: dict[str, Any]) -> list[Detection]:
    """Boxes of pixels, cut to the picture, as detections; those thinner than one are left out."""
    height, width = query.picture.shape[:2]
    boxes = found["boxes"].float().cpu().numpy() / np.array([width, height, width, height])
    boxes = np.clip(np.nan_to_num(boxes.astype(np.float64)), 0, 1)
    return [
        Detection(query.frame_idx, (float(x1), float(y1), float(x2), float(y2)), float(score))
        for (x1, y1, x2, y2), score in zip(boxes, found["scores"].float().cpu().numpy(), strict=True)
        if (x2 - x1) * width >= 1 and (y2 - y1) * height >= 1
    ]


@cache
def load_detector(detector: str | Callable[[], Detector], device: str | None = None) -> Detector:
    """A detector by name or by the function that makes it, once in a process.

    Raises:
        CurationError: it cannot be loaded.
    """
    if not isinstance(detector, str):
        return detector()
    made: Detector = (
        made_by_function(detector) if is_function_name(detector) else TransformersDetector(detector, device)
    )
    return made


def check_detector(detector: str | Callable[[], Detector]) -> None:
    """Makes sure, before the work, that a detector is there, without its weights.

    Raises:
        CurationError: it is not.
    """
    if isinstance(detector, str) and is_function_name(detector):
        made_by_function(detector)
    elif isinstance(detector, str):
        from transformers import AutoConfig
        from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES

        try:
            kind = AutoConfig.from_pretrained(detector).model_type
        except (OSError, ValueError) as error:
            raise no_detector(detector, str(error).splitlines()[0]) from error
        if kind not in MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES:
            raise no_detector(detector, f"its kind is {kind}")


def no_detector(name: str, reason: str) -> CurationError:
    """What is said where a detector cannot be had."""
    return CurationError(
        f"the detector must be a zero-shot object detector of transformers, got {name} ({reason}); give the folder of "
        "a downloaded checkpoint, or a Hub id with the network there, such as IDEA-Research/grounding-dino-base"
    )


def is_function_name(name: str) -> bool:
    """Whether a name is ``package.module:function``.

    >>> is_function_name("mine.detectors:make"), is_function_name("IDEA-Research/grounding-dino-base")
    (True, False)
    """
    module, colon, function = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), function])


def made_by_function(name: str) -> Any:
    """What ``package.module:function`` returns.

    Raises:
        CurationError: no such module or function.
    """
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError) as error:
        raise CurationError(
            f"a detector or tracker of your own must be package.module:function, got {name} ({error}); check the "
            "name, and that Python finds the package"
        ) from error
