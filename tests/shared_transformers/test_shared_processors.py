"""transformers' shared tests of processors, on ours."""

import unittest
from typing import Any
from unittest.mock import patch

from tiny import tiny_processor, tiny_tokenizer
from transformers_tests.test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin
from transformers_tests.test_processing_common import ProcessorTesterMixin
from transformers_tests.test_video_processing_common import VideoProcessingTestMixin, prepare_video_inputs

from elysium.processing.image_processing_elysium import ElysiumImageProcessor
from elysium.processing.processing_elysium import ElysiumProcessor
from elysium.processing.video_processing_elysium import ElysiumVideoProcessor, ElysiumVideoProcessorKwargs  # noqa: F401  (the tests look here)

SIDE = {"height": 20, "width": 20}


class ElysiumImageProcessingTester(ImageProcessingTester):
    image_processing_classes = {"pil": ElysiumImageProcessor}

    def __init__(self, parent: unittest.TestCase) -> None:
        super().__init__(parent=parent, size=SIDE)


class ElysiumImageProcessingTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = ElysiumImageProcessingTester


class RowsOfVideos(ElysiumVideoProcessor):
    """The tests want a row for each video; ours gives the frames of all of them, which here are equally many each."""

    def __call__(self, videos: Any, **kwargs: Any) -> Any:
        features = super().__call__(videos, **kwargs)
        frames = features["pixel_values_videos"]
        features["pixel_values_videos"] = frames.reshape(len(features["video_num_frames"]), -1, *frames.shape[1:])
        return features


RowsOfVideos.__name__ = ElysiumVideoProcessor.__name__  # by which it is saved, and found again


class ElysiumVideoProcessingTester:
    """Makes settings and videos of several sizes."""

    batch_size, num_frames, num_channels = 5, 4, 3
    min_resolution, max_resolution = 30, 80

    def prepare_video_processor_dict(self) -> dict[str, Any]:
        mean = [0.5, 0.5, 0.5]
        return {"do_resize": True, "size": SIDE, "do_normalize": True, "image_mean": mean, "image_std": mean}

    def expected_output_video_shape(self, videos: list) -> tuple[int, ...]:
        return (self.num_frames, self.num_channels, SIDE["height"], SIDE["width"])

    def prepare_video_inputs(self, equal_resolution: bool = False, return_tensors: str = "pil") -> list:
        return prepare_video_inputs(
            batch_size=self.batch_size,
            num_frames=self.num_frames,
            num_channels=self.num_channels,
            min_resolution=self.min_resolution,
            max_resolution=self.max_resolution,
            equal_resolution=equal_resolution,
            return_tensors=return_tensors,
        )


class ElysiumVideoProcessingTest(VideoProcessingTestMixin, unittest.TestCase):
    fast_video_processing_class = RowsOfVideos

    def setUp(self) -> None:
        super().setUp()
        self.video_processor_tester = ElysiumVideoProcessingTester()

    @property
    def video_processor_dict(self) -> dict[str, Any]:
        return self.video_processor_tester.prepare_video_processor_dict()

    def test_video_processor_from_dict_with_kwargs(self) -> None:
        """The shared one wants a shortest edge and a crop; ours squeezes the whole picture to a square."""
        changed = ElysiumVideoProcessor.from_dict(self.video_processor_dict, size={"height": 42, "width": 42})
        self.assertEqual(dict(changed.size), {"height": 42, "width": 42})
        self.assertEqual(dict(ElysiumVideoProcessor.from_dict(self.video_processor_dict).size), SIDE)


class ElysiumProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = ElysiumProcessor

    @property
    def video_sampling_expectations(self) -> list[dict[str, Any]]:
        """For shapes.mp4, of 64 frames at 12 a second; frames of all videos are flattened into the first dimension."""
        return [
            {"num_frames": 3, "fps": None, "expected_dim": 0, "output_length": 3},
            {"num_frames": None, "fps": 4, "do_sample_frames": True, "expected_dim": 0, "output_length": 21},
            {"do_sample_frames": False, "fps": 10, "expected_dim": 0, "output_length": 64},
            {"do_sample_frames": False, "expected_dim": 0, "output_length": 64},
            {"expected_dim": 0, "output_length": 64},
        ]

    @classmethod
    def setUpClass(cls) -> None:
        # `import elysium` marks the classes so that their code is saved too; the tests compare files without it.
        for marked in (ElysiumProcessor, ElysiumImageProcessor, ElysiumVideoProcessor):
            cls.enterClassContext(patch.object(marked, "_auto_class", None))
        super().setUpClass()

    @classmethod
    def _setup_image_processor(cls) -> ElysiumImageProcessor:
        return ElysiumImageProcessor(size=SIDE)

    @classmethod
    def _setup_video_processor(cls) -> ElysiumVideoProcessor:
        return ElysiumVideoProcessor(size=SIDE)

    @classmethod
    def _setup_tokenizer(cls) -> Any:
        return tiny_tokenizer()

    @staticmethod
    def prepare_processor_dict() -> dict[str, Any]:
        return {"chat_template": tiny_processor().chat_template, "num_kept_tokens": 3}
