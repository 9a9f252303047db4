"""Elysium: track, ground and describe objects in videos and images, from a box or a text prompt.

``import elysium`` makes transformers' Auto classes know the model; the names below are loaded when first used.

    import elysium

    tracker = elysium.Tracker.from_pretrained("elysium-small")
    result = tracker.track("video.mp4", text="the red car")
    result.save("boxes.json")
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from elysium.registration import register_with_transformers

if TYPE_CHECKING:
    from elysium.modeling_elysium.configuration_elysium import ElysiumConfig
    from elysium.modeling_elysium.modeling_elysium import ElysiumForConditionalGeneration, ElysiumModel
    from elysium.processing.processing_elysium import ElysiumProcessor
    from elysium.processing.structures import Track, TrackingResult, VideoClip, load_tracking_result
    from elysium.processing.video_io import VideoReader, VideoWriter, read_video
    from elysium.processing.video_processing_elysium import ElysiumVideoProcessor
    from elysium.tracking.options import TrackingOptions
    from elysium.tracking.session import TrackingSession
    from elysium.tracking.tracker import Tracker
    from elysium.visualization.annotate import annotate_video
    from elysium.visualization.contact_sheet import contact_sheet

_HOMES = {
    "ElysiumConfig": "modeling_elysium.configuration_elysium",
    "ElysiumForConditionalGeneration": "modeling_elysium.modeling_elysium",
    "ElysiumModel": "modeling_elysium.modeling_elysium",
    "ElysiumProcessor": "processing.processing_elysium",
    "ElysiumVideoProcessor": "processing.video_processing_elysium",
    "Track": "processing.structures",
    "Tracker": "tracking.tracker",
    "TrackingOptions": "tracking.options",
    "TrackingResult": "processing.structures",
    "TrackingSession": "tracking.session",
    "VideoClip": "processing.structures",
    "VideoReader": "processing.video_io",
    "VideoWriter": "processing.video_io",
    "annotate_video": "visualization.annotate",
    "contact_sheet": "visualization.contact_sheet",
    "load_tracking_result": "processing.structures",
    "read_video": "processing.video_io",
}

__all__ = [
    "ElysiumConfig",
    "ElysiumForConditionalGeneration",
    "ElysiumModel",
    "ElysiumProcessor",
    "ElysiumVideoProcessor",
    "Track",
    "Tracker",
    "TrackingOptions",
    "TrackingResult",
    "TrackingSession",
    "VideoClip",
    "VideoReader",
    "VideoWriter",
    "annotate_video",
    "contact_sheet",
    "load_tracking_result",
    "read_video",
]

# Threads of torch that wait sleep and do not spin, which would hold up other programs and themselves (docs/speed.md).
# OpenMP reads this when torch is first imported; OMP_WAIT_POLICY=ACTIVE in the environment lets them spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    """Load a public name, or the version, when it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("elysium-vlm")
    if name not in _HOMES:
        raise AttributeError(f"module 'elysium' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    value = getattr(importlib.import_module(f"elysium.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *_HOMES})


register_with_transformers()
