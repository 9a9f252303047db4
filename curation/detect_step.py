"""Step 4: a zero-shot detector must find each phrase in the first, middle and last frame."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .curation_step import CurationError, Step, StepSettings, check_model, is_function_name, made_by_function, number
from .video_records import Candidate, Detection, Drop, VideoRecord, best_detection, key_frames

STEP = "detect"
# Boxes below this score are ignored; those between it and the threshold give the value of a drop.
_FLOOR = 0.05
# Videos wait with their frames for a full batch; at this many bytes the batch runs as it is.
_MAX_WAITING_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class Query:
    """Hold one image and one phrase for a detector.

    Args:
        video_id: Name of the video.
        frame_idx: Index among the decoded frames.
        text: Phrase without article.
        image (`np.ndarray` of shape `(H, W, 3)`): Image, uint8 RGB.
    """

    video_id: str
    frame_idx: int
    text: str
    image: NDArray[np.uint8]


class Detector(Protocol):
    """Define what the step needs of a detector."""

    def detect(self, queries: Sequence[Query]) -> list[list[Detection]]:
        """Return the boxes of each query, in any order."""


@dataclass(frozen=True, kw_only=True)
class DetectSettings(StepSettings):
    """Hold the settings of step 4.

    Args:
        detector: Hub id or folder of a zero-shot object detector of transformers, ``package.module:function`` that
            makes one, or (in Python) such a function.
        min_detection_score: Score that the best box must exceed in each key frame.
        detection_batch: Number of queries per pass of the detector. Higher values are faster and need more memory.
        device: Device of detector and tracker: cpu, cuda …; by default a GPU if there is one.
    """

    detector: str | Callable[[], Detector] = "IDEA-Research/grounding-dino-base"
    min_detection_score: float = number(0.6, 0, 1)
    detection_batch: int = number(16, 1)
    device: str | None = None


def judge_detections(
    candidate: Candidate, record: VideoRecord, *, found: Sequence[Detection], min_score: float
) -> Candidate | Drop:
    """Return the candidate with its detections, or drop it if the best one of a key frame scores too low."""
    scores = []
    for name, index in key_frames(record.num_frames).items():
        best = best_detection(found, index)
        scores.append(0.0 if best is None else best.score)
        if scores[-1] <= min_score:
            return Drop(f"score_{name}", scores[-1])
    kept = tuple(one for one in found if one.score > min_score)
    return replace(candidate, detections=kept).measured(detection_score=min(scores))


def detect_step(settings: DetectSettings) -> Step:
    """Return the step.

    Its batches span phrases, frames and videos, but never chunks: the scores of a chunk depend on nothing outside it.
    """
    return Step(STEP, partial(_detect, settings=settings), partial(_batches, size=settings.detection_batch))


def _detect(records: list[VideoRecord], *, settings: DetectSettings) -> Iterator[VideoRecord]:
    queries = [query for record in records for query in _queries(record)]
    answers: list[list[Detection]] = []
    for start in range(0, len(queries), settings.detection_batch):
        detector = load_detector(settings.detector, settings.device)
        answers += detector.detect(queries[start : start + settings.detection_batch])
    left = iter(answers)

    def judge(candidate: Candidate, record: VideoRecord) -> Candidate | Drop:
        found = [one for _ in key_frames(record.num_frames) for one in next(left)]
        return judge_detections(candidate, record, found=found, min_score=settings.min_detection_score)

    for record in records:
        yield record.judge(STEP, judge)


def _queries(record: VideoRecord) -> Iterator[Query]:
    for candidate in record.candidates:
        assert record.clip is not None
        for index in key_frames(record.num_frames).values():
            yield Query(record.video.video_id, index, candidate.phrase.text, record.clip.frames[index])


def _batches(records: Iterable[VideoRecord], *, size: int) -> Iterator[list[VideoRecord]]:
    waiting: list[VideoRecord] = []
    for record in records:
        if waiting and (
            record.video.chunk != waiting[0].video.chunk
            or sum(3 * len(one.candidates) for one in waiting) >= size
            or sum(one.clip.frames.nbytes for one in waiting if one.clip is not None) >= _MAX_WAITING_BYTES
            or len(waiting) >= size  # videos without phrases never fill a batch
        ):
            yield waiting
            waiting = []
        waiting.append(record)
    if waiting:
        yield waiting


class TransformersDetector:
    """Detect with a zero-shot object detector of transformers: Grounding DINO, OWL-ViT, OWLv2 and the like.

    Its processor must have `post_process_grounded_object_detection`.

    Args:
        name: Hub id or folder of the checkpoint.
        device: cpu, cuda …; by default a GPU if there is one.

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
            raise _no_detector(name, str(error).splitlines()[0]) from error
        self._model: Any = model.to(self._device).eval()
        # The other processors pad to a length of their own.
        self._padding = {"padding": True} if model.config.model_type.endswith("grounding-dino") else {}

    def detect(self, queries: Sequence[Query]) -> list[list[Detection]]:
        """Return the boxes of each query, from one pass of the model; each image has its one phrase as text."""
        import torch

        inputs = self._processor(
            images=[query.image for query in queries],
            text=[[query.text] for query in queries],
            truncation=True,
            return_tensors="pt",
            **self._padding,
        ).to(self._device)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        found = self._processor.post_process_grounded_object_detection(
            outputs, threshold=_FLOOR, target_sizes=[query.image.shape[:2] for query in queries]
        )
        return [_detections(query, boxes) for query, boxes in zip(queries, found, strict=True)]


def _detections(query: Query, found: dict[str, Any]) -> list[Detection]:
    """Return pixel boxes as detections, clipped to the image, without those thinner than a pixel."""
    height, width = query.image.shape[:2]
    boxes = found["boxes"].float().cpu().numpy() / np.array([width, height, width, height])
    boxes = np.clip(np.nan_to_num(boxes.astype(np.float64)), 0, 1)
    return [
        Detection(query.frame_idx, (float(x1), float(y1), float(x2), float(y2)), float(score))
        for (x1, y1, x2, y2), score in zip(boxes, found["scores"].float().cpu().numpy(), strict=True)
        if (x2 - x1) * width >= 1 and (y2 - y1) * height >= 1
    ]


@cache
def load_detector(detector: str | Callable[[], Detector], device: str | None = None) -> Detector:
    """Return a detector by name or from the function that makes it; loaded once per process.

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
    """Check that a detector exists, without loading its weights.

    Raises:
        CurationError: it does not.
    """
    if not isinstance(detector, str):
        return
    if is_function_name(detector):
        made_by_function(detector)
        return
    from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES

    check_model(detector, MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES, _no_detector)


def _no_detector(name: str, reason: str) -> CurationError:
    return CurationError(
        f"the detector must be a zero-shot object detector of transformers, got {name} ({reason}); give the folder of "
        "a downloaded checkpoint, or a Hub id with the network there, such as IDEA-Research/grounding-dino-base"
    )
