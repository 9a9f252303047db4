# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Video processor without torchvision: the frames of all videos become one flat batch (sum T, 3, S, S)."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import VideoProcessorMixin
from transformers.video_utils import VideoMetadata, make_batched_metadata

from .image_processing_elysium import MEDIA, SquareResize, array_options, fetch_images
from .images_elysium import is_array, video_array
from .media_elysium import read_frames
from .media_info_elysium import downloaded


@dataclass
class DecodedVideoMetadata(VideoMetadata):
    """Metadata of a decoded video: its true number of frames, and when each sampled frame is shown.

    Args:
        timestamps_s: seconds after the first frame of the sampled frames.
    """

    timestamps_s: list[float] | None = None

    @property
    def timestamps(self) -> list[float]:
        """Return the seconds after the first frame of the sampled frames, as the file has them."""
        return super().timestamps if self.timestamps_s is None else self.timestamps_s


def flat_videos(videos: Any, depth: int = 0) -> list[Any]:
    """Return the videos of an input, however nested: each an address or a file's bytes, an array or a list of frames.

    A list of images is a video; a list of addresses is one only inside two other lists, as chat messages give it.

    Args:
        videos: one video, or lists of them.
        depth: number of lists around it.

    Raises:
        ValueError: a list without frames, or what is no video.
    """
    if isinstance(videos, Image.Image):
        return [[videos]]
    if isinstance(videos, MEDIA):
        return [videos]
    if is_array(videos):
        return list(videos) if videos.ndim == 5 else [videos]
    if not isinstance(videos, list | tuple):
        raise ValueError(
            f"a video must be a path, a URL, a file's bytes, an array or a list of frames, got {type(videos).__name__}"
        )
    if not videos and depth != 1:  # a conversation may have no videos
        raise ValueError("a video must have at least one frame, got an empty list; check where the frames come from")
    if videos and all(_is_frame(item) or (depth > 1 and isinstance(item, MEDIA)) for item in videos):
        return [list(videos)]
    return [video for item in videos for video in flat_videos(item, depth + 1)]


def _is_frame(value: Any) -> bool:
    return isinstance(value, Image.Image) or (is_array(value) and value.ndim in (2, 3))


def _decode(video: Any, sample_indices_fn: Callable | None) -> tuple[np.ndarray, VideoMetadata]:
    """Return sampled frames (T, H, W, 3) of a video, all where nothing samples, and what is known of it."""

    def choose(total: int, fps: float) -> Sequence[int]:
        metadata = VideoMetadata(total_num_frames=total, fps=fps, duration=total / fps, video_backend="pyav")
        return range(total) if sample_indices_fn is None else [int(i) for i in sample_indices_fn(metadata=metadata)]

    frames, reader = read_frames(downloaded(video), choice=None if sample_indices_fn is None else choose)
    for message in reader.warnings:
        warnings.warn(message, stacklevel=2)
    return np.stack([frame.image for frame in frames]), DecodedVideoMetadata(
        total_num_frames=reader.num_decoded,
        fps=reader.info.fps,
        width=reader.info.width,
        height=reader.info.height,
        duration=reader.num_decoded / reader.info.fps,
        video_backend="pyav",
        frames_indices=[frame.index for frame in frames],
        timestamps_s=[frame.timestamp_s for frame in frames],
    )


def _check_sampling(num_frames: Any, fps: Any) -> None:
    """Refuse values of which no number of frames can be made."""
    if num_frames is not None and fps is not None:
        raise ValueError(f"give num_frames or fps, not both, got num_frames={num_frames} and fps={fps}; leave one out")
    if num_frames is not None and (
        isinstance(num_frames, bool) or not isinstance(num_frames, Integral) or num_frames < 1
    ):
        raise ValueError(
            f"num_frames must be an integer of 1 or more, got {num_frames!r}; leave it out for the default"
        )
    if fps is not None and not (isinstance(fps, Real) and 0 < float(fps) < math.inf):
        raise ValueError(f"fps must be a number above 0, got {fps!r}; leave it out, or give num_frames")


class ElysiumVideoProcessorKwargs(VideosKwargs, total=False):  # type: ignore[call-arg]
    """Settings of transformers' video processors, and the number of frames that the checkpoint was trained on."""

    max_trained_frames: int | None


class ElysiumVideoProcessor(SquareResize, VideoProcessorMixin, PilBackend):
    """Resize each frame to S x S, rescale and normalise it; videos given as paths are decoded by PyAV.

    The aspect is not kept: boxes are percent of width and of height.

    `max_trained_frames` is the most frames of a video that the checkpoint was trained on; None where it is not known.
    A video file is sampled to as many frames unless `num_frames` or `fps` say otherwise; arrays and lists of frames
    are sampled only where one of them or `do_sample_frames=True` asks for it. `do_sample_frames=False` takes all.

    The output has `pixel_values_videos` (sum T, 3, S, S) and `video_num_frames`, T of each video.
    """

    valid_kwargs = ElysiumVideoProcessorKwargs

    do_sample_frames = None  # None: files are sampled, frames given as they are are not
    num_frames = None
    fps = None
    max_trained_frames = None
    model_input_names = ["pixel_values_videos"]

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Preprocess as transformers does; `num_frames` and `fps` are checked, and cause sampling.

        Args:
            videos: see `flat_videos`; arrays of any layout and range are recognised (see `images_elysium`).
            **kwargs: settings of transformers' video processors.

        Raises:
            ValueError: `num_frames` below 1, `fps` not above 0, or both; or what is no video.
        """
        num_frames, fps = kwargs.get("num_frames"), kwargs.get("fps")
        _check_sampling(num_frames, fps)
        if num_frames is not None or fps is not None:
            kwargs |= {"num_frames": num_frames, "fps": fps}  # one that is given leaves no room for a default of both
            if kwargs.get("do_sample_frames") is None:
                kwargs["do_sample_frames"] = True
        options = array_options(kwargs, self.do_rescale)
        sampled = kwargs.get("do_sample_frames") or (kwargs.get("do_sample_frames") is None and self.do_sample_frames)
        given = [self._frames(video, bool(sampled), options) for video in flat_videos(videos)]
        return super().preprocess(given, **kwargs)

    def _frames(self, video: Any, sampled: bool, options: dict[str, Any]) -> Any:
        """Return frames as an array (T, H, W, 3); a file as it is."""
        if is_array(video):
            return video_array(video, **options)
        if not isinstance(video, list):
            return video
        if sampled and not all(map(_is_frame, video)):  # in the words of transformers, which callers look for
            raise ValueError(
                "Sampling frames from a list of images is not supported! Set `do_sample_frames=False`; "
                f"got {len(video)} addresses of frames"
            )
        return video_array(self.fetch_images(video), **options)

    def sample_frames(
        self, metadata: VideoMetadata, num_frames: int | None = None, fps: float | None = None, **kwargs: Any
    ) -> np.ndarray:
        """Return the indices of frames spread evenly over a video, never more than it has.

        Args:
            metadata: with `total_num_frames`, and `fps` where frames are sampled by rate.
            num_frames: this many, from the first frame to the last; by default `max_trained_frames`.
            fps: frames per second in place of ``num_frames``.
            **kwargs: not used.
        """
        total = int(metadata.total_num_frames)
        if fps is None:
            num_frames = num_frames or self.max_trained_frames or total
            return np.linspace(0, total - 1, min(num_frames, total)).round().astype(int)
        if not metadata.fps:
            raise ValueError(
                f"fps must be sampled from a video of known rate, got fps={fps} for one without; pass num_frames, or "
                "video_metadata with the rate"
            )
        count = min(total, max(1, int(total / metadata.fps * fps)))
        return np.arange(count) * total // count

    def fetch_videos(self, video_url_or_urls: Any, sample_indices_fn: Callable | None = None) -> Any:
        """Read paths, URLs and `data:` URLs (nested lists allowed) through the decoder that tracking uses."""
        if isinstance(video_url_or_urls, list):
            fetched = [self.fetch_videos(one, sample_indices_fn=sample_indices_fn) for one in video_url_or_urls]
            return list(zip(*fetched, strict=True))
        return _decode(video_url_or_urls, sample_indices_fn)

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Read images through the loader that tracking and training use."""
        return fetch_images(image_url_or_urls)

    def _decode_and_sample_videos(
        self,
        videos: Any,
        video_metadata: Any = None,
        do_sample_frames: bool | None = None,
        sample_indices_fn: Callable | None = None,
    ) -> tuple[list[np.ndarray], list[VideoMetadata]]:
        """Read and sample each video by its own kind."""
        if video_metadata is None:
            video_metadata = [None] * len(videos)
        else:
            video_metadata = make_batched_metadata(videos, video_metadata=video_metadata)
        of_files = sample_indices_fn
        if do_sample_frames is None:
            of_files = partial(self.sample_frames, num_frames=self.num_frames, fps=self.fps)
        found = [
            self._sample(video, metadata, sample_indices_fn) if is_array(video) else _decode(video, of_files)
            for video, metadata in zip(videos, video_metadata, strict=True)
        ]
        return [frames for frames, _ in found], [metadata for _, metadata in found]

    @staticmethod
    def _sample(
        frames: np.ndarray, metadata: VideoMetadata | None, sample_indices_fn: Callable | None
    ) -> tuple[np.ndarray, VideoMetadata]:
        """Sample frames that are given as they are; the metadata may be of the video that they come from."""
        count = len(frames)
        metadata = metadata or VideoMetadata(total_num_frames=count)
        indices = list(range(count) if metadata.frames_indices is None else metadata.frames_indices)
        if len(indices) != count:
            raise ValueError(
                f"video_metadata must have an index for each frame, got {len(indices)} frames_indices and {count} "
                "frames; leave frames_indices out"
            )
        if sample_indices_fn is not None:
            whole = metadata.fps is None or metadata.total_num_frames in (None, count)
            rate = metadata.fps if whole else metadata.sampled_fps
            chosen = sample_indices_fn(metadata=VideoMetadata(total_num_frames=count, fps=rate))
            frames, indices = frames[chosen], [indices[index] for index in chosen]
        metadata.frames_indices = indices
        return frames, metadata

    def _prepare_input_videos(self, videos: Any, device: Any = None, **settings: Any) -> list[list[np.ndarray]]:
        return [[self.process_image(np.asarray(frame), **settings) for frame in video] for video in videos]

    def _preprocess(self, videos: list[list[np.ndarray]], return_tensors: Any = None, **settings: Any) -> BatchFeature:
        frames = [frame for video in videos for frame in video]
        none = dict.fromkeys(("do_center_crop", "crop_size", "do_pad", "pad_size"))
        images = PilBackend._preprocess(self, frames, return_tensors=None, **(settings | none))
        data = {"pixel_values_videos": np.stack(images["pixel_values"]), "video_num_frames": list(map(len, videos))}
        return BatchFeature(data, tensor_type=return_tensors)


__all__ = ["ElysiumVideoProcessor", "flat_videos"]
