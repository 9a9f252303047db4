# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Video processor: frames (T, H, W, 3) of each video to one flat batch (sum T, 3, S, S), without torchvision."""

import base64
import binascii
import os
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling
from transformers.video_processing_utils import VideoProcessorMixin
from transformers.video_utils import (
    VideoMetadata,
    default_sample_indices_fn,
    is_valid_video,
    load_video,
    make_batched_metadata,
    make_batched_videos,
    read_video_pyav,
)

_ALL_FRAMES = 2**40


def _frames_to_rgb(videos: Any) -> Any:
    """Pictures of any mode (grey, palette, with alpha) in a list, however nested, as RGB; anything else as it is."""
    if isinstance(videos, (list, tuple)):
        return [_frames_to_rgb(item) for item in videos]
    return videos.convert("RGB") if isinstance(videos, Image.Image) else videos


def _decode(video: Any, sample_indices_fn: Callable) -> tuple[np.ndarray, VideoMetadata]:
    """Sampled frames (T, H, W, 3) of a video. Some files (WebM, MPEG-TS) do not say how many frames they hold; these
    are decoded whole, then sampled."""

    def sample(metadata: VideoMetadata, **kwargs: Any) -> Any:
        return sample_indices_fn(metadata=metadata, **kwargs) if metadata.total_num_frames else range(_ALL_FRAMES)

    if isinstance(video, str) and video.startswith("data:"):
        frames, metadata = read_video_pyav(_bytes_of(video), sample)
    elif isinstance(video, str) and not video.startswith(("http://", "https://")) and not os.path.isfile(video):
        raise FileNotFoundError(f"a video must be a file, an http or a data: URL, got {video[:200]!r}; check the path")
    else:
        frames, metadata = load_video(video, backend="pyav", sample_indices_fn=sample)
    if isinstance(metadata, VideoMetadata) and not metadata.total_num_frames:
        metadata.total_num_frames = len(frames)
        metadata.duration = len(frames) / metadata.fps if metadata.fps else None
        metadata.frames_indices = sample_indices_fn(metadata=metadata)
        frames = frames[metadata.frames_indices]
    return frames, metadata


def _bytes_of(data_url: str) -> BytesIO:
    """The file in a `data:video/mp4;base64,…` URL, which is how a client sends a video that the server cannot open."""
    head, _, payload = data_url.partition(",")
    try:
        return BytesIO(base64.b64decode(payload, validate=True))
    except binascii.Error as error:
        raise ValueError(
            f"a video in a data: URL must be base64 after the comma, got {head[:40]!r} and {len(payload)} characters "
            f"({error}); encode the file with base64"
        ) from error


class ElysiumVideoProcessor(VideoProcessorMixin, PilBackend):
    """Resizes each frame to S x S (the aspect is not kept: boxes are percent of width and of height), rescales and
    normalises it. Videos given as paths are decoded by PyAV.

    Returns `pixel_values_videos` (sum T, 3, S, S) and `video_num_frames`, T of each video.
    """

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"height": 336, "width": 336}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_sample_frames = False
    num_frames = None
    fps = None
    model_input_names = ["pixel_values_videos"]

    def sample_frames(
        self, metadata: VideoMetadata, num_frames: int | None = None, fps: float | None = None, **kwargs: Any
    ) -> np.ndarray:
        """Indices of frames spread evenly over the video; more than it has are clamped to all of them."""
        if num_frames is not None and metadata.total_num_frames is not None:
            num_frames = min(num_frames, metadata.total_num_frames)
        return default_sample_indices_fn(metadata=metadata, num_frames=num_frames, fps=fps, **kwargs)

    def fetch_videos(self, video_url_or_urls: Any, sample_indices_fn: Callable | None = None) -> Any:
        """Decodes paths, URLs and `data:` URLs (nested lists allowed) through PyAV, which carries its own FFmpeg."""
        if isinstance(video_url_or_urls, list):
            fetched = [self.fetch_videos(one, sample_indices_fn=sample_indices_fn) for one in video_url_or_urls]
            return list(zip(*fetched, strict=True))
        return _decode(video_url_or_urls, sample_indices_fn or default_sample_indices_fn)

    def _decode_and_sample_videos(
        self,
        videos: Any,
        video_metadata: Any = None,
        do_sample_frames: bool | None = None,
        sample_indices_fn: Callable | None = None,
    ) -> tuple[list[np.ndarray], list[VideoMetadata]]:
        videos = make_batched_videos(_frames_to_rgb(videos))
        video_metadata = make_batched_metadata(videos, video_metadata=video_metadata)
        if is_valid_video(videos[0]):
            if do_sample_frames and sample_indices_fn is not None:
                sampled = []
                for video, metadata in zip(videos, video_metadata, strict=True):
                    metadata.frames_indices = sample_indices_fn(metadata=metadata)
                    sampled.append(video[metadata.frames_indices])
                videos = sampled
        elif isinstance(videos[0], list):
            if do_sample_frames:  # in the words of transformers' own video processors, which callers look for
                raise ValueError(
                    "Sampling frames from a list of images is not supported! Set `do_sample_frames=False`; "
                    f"got {len(videos[0])} images for the first video."
                )
            videos = [
                np.stack([self.process_image(image, do_convert_rgb=True) for image in frames])
                for frames in self.fetch_images(videos)
            ]
        else:
            videos, video_metadata = self.fetch_videos(videos, sample_indices_fn=sample_indices_fn)
        return videos, video_metadata

    def _prepare_input_videos(
        self, videos: Any, do_convert_rgb: bool | None = None, input_data_format: Any = None, device: Any = None
    ) -> list[list[np.ndarray]]:
        return [
            [
                self.process_image(
                    np.asarray(frame), do_convert_rgb=do_convert_rgb, input_data_format=input_data_format
                )
                for frame in video
            ]
            for video in videos
        ]

    def _preprocess(
        self,
        videos: list[list[np.ndarray]],
        do_resize: bool | None = None,
        size: Any = None,
        resample: Any = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: Any = None,
        image_std: Any = None,
        return_tensors: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        frames: list[np.ndarray] = []
        for video in videos:
            for frame in video:
                if do_resize:
                    frame = self.resize(frame, size=size, resample=resample)
                if do_rescale:
                    frame = self.rescale(frame, rescale_factor)
                if do_normalize:
                    frame = self.normalize(frame, image_mean, image_std)
                frames.append(frame)
        data = {"pixel_values_videos": np.stack(frames), "video_num_frames": [len(video) for video in videos]}
        return BatchFeature(data, tensor_type=return_tensors)


__all__ = ["ElysiumVideoProcessor"]
