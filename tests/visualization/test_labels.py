"""Where labels are placed, checked on their plates."""

import itertools

import pytest
from PIL import Image

from elysium.visualization.labels import LabelWriter


def plates(boxes, *, width=320, height=240, text="a label"):
    image = Image.new("RGB", (width, height))
    writer, taken = LabelWriter(width, height, 13), []
    for box in boxes:
        writer.write(image, text, " 50%", (0, 200, 0), box, taken)
    return taken


def test_a_label_stands_above_its_box_or_inside_its_top_where_there_is_no_room():
    [(left, _, _, bottom)] = plates([(50, 60, 100, 120)])
    assert (left, bottom) == (50, 60)
    [(left, top, _, _)] = plates([(50, 3, 100, 120)])
    assert (left, top) == (50, 3)


@pytest.mark.parametrize("box", [(0, 0, 9, 9), (310, 0, 320, 9), (0, 230, 9, 240), (310, 230, 320, 240), None])
def test_labels_of_objects_in_one_place_are_whole_and_apart(box):
    found = plates([box] * 8)
    assert all(left >= 0 and right <= 320 and top >= 0 and bottom <= 240 for left, top, right, bottom in found)
    for one, other in itertools.combinations(found, 2):
        assert one[3] <= other[1] or other[3] <= one[1] or one[2] <= other[0] or other[2] <= one[0]


def test_long_labels_are_shortened_and_keep_their_ending():
    [(left, _, right, _)] = plates([(50, 60, 100, 120)], text="word " * 100)
    assert right - left < 0.75 * 320
    assert LabelWriter(320, 240, 13)._fit("word " * 100, " 50%").runs[-1].text.endswith("… 50%")


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
def test_images_smaller_than_a_label_do_not_fail(size):
    assert len(plates([(0, 0, 1, 1), None], width=size[0], height=size[1])) == 2


def test_a_label_does_not_cover_another_object_where_there_is_room_below():
    image, taken = Image.new("RGB", (320, 240)), []
    LabelWriter(320, 240, 13).write(image, "a label", "", (0, 200, 0), (50, 100, 90, 150), taken, [(60, 40, 120, 149)])
    assert taken[0][1] == 150
