"""elysium-small as it ships: what it finds in real pictures by words, its size, and what is inside."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from elysium.processing.overlap import paired_iou
from elysium.tracking.checkpoints import SHIPPED
from elysium.tracking.options import TrackingOptions
from elysium.tracking.tracker import Tracker
from research.real_clips import chosen_entries
from research.tracking_table.clips import read_real_clip

FOLDER = SHIPPED / "elysium-small"


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return Tracker.from_pretrained("elysium-small", device="cpu")


@pytest.fixture(scope="module")
def clips() -> dict:
    return {entry["name"]: read_real_clip(entry) for entry in chosen_entries("selection", ["parked_bicycle", "box"])}


@pytest.mark.parametrize(
    ("clip", "text"),
    [
        ("parked_bicycle", "the bicycle"),
        ("parked_bicycle", "the bike against the wall"),
        ("parked_bicycle", "the bicycles"),  # a plural asks for one of them
        ("box", "the yellow box"),
        ("box", "the box held by a hand"),
    ],
)
def test_what_words_name_is_found_in_a_frame_of_a_real_video_and_followed(tracker, clips, clip, text):
    truth = clips[clip]
    frames = range(40, 44)
    track = tracker.track([truth.video.frames[t] for t in frames], text, fps=10).tracks[0]
    assert track.valid.all()
    assert paired_iou(track.boxes_xyxy_px, truth.boxes_xyxy_px[40:44]).min() > 0.5


def test_a_box_on_what_took_the_objects_place_is_doubted_and_boxes_do_not_depend_on_it(tracker, clips):
    frames = [clips["box"].video.frames[t] for t in range(12)]
    frames[6:] = [frame[..., ::-1] for frame in frames[6:]]  # a blue box lies there instead
    box = clips["box"].first_box_xyxy_px
    track = tracker.track(frames, box_xyxy_px=box, fps=10).tracks[0]
    without = tracker.track(frames, box_xyxy_px=box, fps=10, options=TrackingOptions(doubt_weights=[])).tracks[0]
    assert track.doubt[0] == 0 and (track.doubt[1:6] < 0.2).all()
    assert (track.doubt[6:][track.valid[6:]] >= 0.5).all() and "may have switched at 0.6 s" in track.summary()
    assert np.isnan(without.doubt).all()
    np.testing.assert_array_equal(track.boxes_xyxy_px, without.boxes_xyxy_px)


def test_words_for_other_things_do_not_all_find_the_same(tracker, clips):
    frame = clips["parked_bicycle"].video.frames[40]
    boxes = {text: tracker.ground(frame, text).box_xyxy_px for text in ("the bicycle", "the car", "the person")}
    assert len(set(boxes.values())) == 3


def test_it_is_small_and_its_encoders_are_a_shard_of_their_own():
    index = json.loads((FOLDER / "model.safetensors.index.json").read_text())
    sizes = {file.name: file.stat().st_size for file in FOLDER.glob("*.safetensors")}
    assert sum(sizes.values()) < 80e6 and set(index["weight_map"].values()) == set(sizes)
    encoders, others = sorted(sizes)
    with safe_open(FOLDER / encoders, "pt") as first, safe_open(FOLDER / others, "pt") as second:
        assert all("semantic_encoders" in name for name in first.keys())  # noqa: SIM118 -- no mapping
        assert not any("semantic_encoders" in name for name in second.keys())  # noqa: SIM118
