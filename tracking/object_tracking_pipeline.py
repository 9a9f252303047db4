"""``pipeline("object-tracking")``: what transformers' users type, over `Tracker`."""

from typing import Any

from transformers import Pipeline

from elysium.processing.structures import TrackingResult


class ObjectTrackingPipeline(Pipeline):
    """Track objects through a video.

        import elysium
        from transformers import pipeline

        tracker = pipeline("object-tracking", model="elysium-7b")
        tracks = tracker("video.mp4", text="the red car")

    A call takes what `Tracker.track` takes: a path or a `VideoClip` (or a list of them), `text` or `box_xyxy_px`,
    `fps`, `zoom`, `reground` and `options` (`TrackingOptions`). It returns one dictionary
    for each object, ``{"id", "text" or "init_box_xyxy_px", "frames": [{"frame_idx", "time_s", "box_xyxy_px", "score"},
    …]}``, in pixels of the video.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_feature_extractor = False

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:
        return {}, kwargs, {}

    def preprocess(self, input_: Any, **_: Any) -> dict[str, Any]:
        """Nothing is read here: a long video streams through the tracker."""
        return {"video": input_}

    def _forward(self, input_tensors: dict[str, Any], **settings: Any) -> TrackingResult:
        from .tracker import Tracker

        return Tracker(self.model, self.processor).track(input_tensors["video"], **settings)

    def postprocess(self, model_outputs: TrackingResult, **_: Any) -> list[dict[str, Any]]:
        return model_outputs.to_dict()["tracks"]
