"""Where labels are placed, checked on their rectangles."""

import itertools

import pytest
from PIL import Image

from elysium.visualization.label_layout import choose_place
from elysium.visualization.labels import PATIENCE_FRAMES, Label, LabelWriter

BOX = (50, 60, 100, 120)


def overlap(one, other) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def labels(boxes, *, text="a label"):
    return [Label(number, text, " 50%", (0, 200, 0), box) for number, box in enumerate(boxes, start=1)]


def rectangles(boxes, *, width=320, height=240, text="a label", writer=None):
    writer = writer or LabelWriter(width, height, 13)
    return [plate.place.rectangle for plate in writer.layout(labels(boxes, text=text))]


def crowd(*, columns, rows, width, height, side):
    """Boxes in a grid, as wide apart as they are."""
    steps_x, steps_y = width // columns, height // rows
    corners = [(x * steps_x + 30, y * steps_y + 30) for y in range(rows) for x in range(columns)]
    return [(x, y, x + side, y + side) for x, y in corners]


@pytest.mark.parametrize(
    ("box", "boxes", "taken", "found"),
    [
        (BOX, [BOX], [], (50, 50, 90, 60)),  # above its box
        ((50, 3, 100, 120), [(50, 3, 100, 120)], [], (50, 120, 90, 130)),  # no room above
        ((290, 60, 320, 120), [(290, 60, 320, 120)], [], (280, 50, 320, 60)),  # moved into the image
        (BOX, [BOX, (40, 40, 80, 59)], [], (50, 120, 90, 130)),  # a neighbour above
        (BOX, [BOX, (40, 40, 110, 59), (40, 121, 110, 140)], [], (100, 60, 140, 70)),  # neighbours above and below
        (BOX, [BOX], [(45, 45, 95, 60)], (50, 120, 90, 130)),  # another label above
        ((0, 0, 320, 240), [(0, 0, 320, 240)], [], (0, 0, 40, 10)),  # inside a box that fills the image
        (None, [BOX], [], (2, 228, 42, 238)),  # a note in the lower left corner
        (None, [(0, 200, 60, 240)], [], (278, 228, 318, 238)),  # which an object takes
    ],
)
def test_a_label_of_40_by_10_pixels_goes_to_the_first_place_where_it_hides_nothing(box, boxes, taken, found):
    assert choose_place((40, 10), box, boxes, taken, (320, 240)).rectangle == found


def test_a_label_keeps_its_position_while_it_fits_though_an_earlier_one_is_free_again():
    below = choose_place((40, 10), BOX, [BOX, (40, 40, 110, 59)], [], (320, 240))
    moved = (53, 62, 103, 122)
    assert choose_place((40, 10), moved, [moved], [], (320, 240), below.position).rectangle == (53, 122, 93, 132)
    assert choose_place((40, 10), moved, [moved], [], (320, 240)).rectangle == (53, 52, 93, 62)
    covered = [moved, (50, 125, 80, 160)]
    assert choose_place((40, 10), moved, covered, [], (320, 240), below.position).rectangle == (53, 52, 93, 62)


@pytest.mark.parametrize(("width", "height", "side"), [(320, 240, 16), (640, 480, 24), (1280, 720, 40)])
def test_labels_of_many_small_objects_hide_no_object_and_no_label_and_are_inside_the_image(width, height, side):
    boxes = crowd(columns=4, rows=3, width=width, height=height, side=side)
    found = rectangles(boxes, width=width, height=height, text="the man in the leather jacket")
    assert all(left >= 0 and top >= 0 and right <= width and bottom <= height for left, top, right, bottom in found)
    assert not any(overlap(label, box) for label in found for box in boxes)
    assert not any(overlap(one, other) for one, other in itertools.combinations(found, 2))


def test_small_objects_have_small_labels_and_crowded_ones_their_number_alone():
    large, small = LabelWriter(640, 480, 13).layout(labels([(50, 100, 250, 400), (400, 100, 420, 120)]))
    assert (large.line.size, small.line.size) == (13, 11)
    assert large.line.runs[0].text == small.line.runs[0].text == "a label 50%"
    crowded = LabelWriter(320, 240, 13).layout(labels(crowd(columns=8, rows=8, width=320, height=200, side=10)))
    assert {plate.line.runs[0].text for plate in crowded if plate.form == 2} & {"#20", "#30"}


def test_a_label_that_another_object_passes_moves_once_and_does_not_come_back():
    writer, positions = LabelWriter(320, 240, 13), []
    for x in range(0, 300, 4):
        plates = writer.layout(labels([(150, 100, 180, 130), (x, 80, x + 20, 96)]))
        assert plates[0].place.fits
        positions.append(plates[0].place.position)
    assert [one for one, after in itertools.pairwise(positions) if one != after] == [0]


def test_a_label_that_stays_is_not_driven_away_by_an_earlier_one_that_moves():
    writer, second = LabelWriter(320, 240, 13), (180, 85, 210, 115)
    _, before = writer.layout(labels([(20, 100, 50, 130), second]))
    first, after = writer.layout(labels([(180, 5, 200, 66), second]))
    assert after.place == before.place and first.place.fits
    alone = LabelWriter(320, 240, 13).layout(labels([(180, 5, 200, 66)]))[0]
    assert overlap(alone.place.rectangle, after.place.rectangle)


def test_a_label_shrinks_at_once_and_grows_again_only_after_a_while():
    crowded = [(x, y, x + 12, y + 12) for x in range(5, 320, 24) for y in range(5, 240, 24)]
    writer = LabelWriter(320, 240, 13)
    forms = [
        writer.layout(labels([(150, 102, 160, 112), *(crowded if frame in range(5, 9) else [])]))[0].form
        for frame in range(9 + PATIENCE_FRAMES + 2)
    ]
    assert forms == [1] * 5 + [2] * (4 + PATIENCE_FRAMES) + [1] * 2


@pytest.mark.parametrize("box", [(0, 0, 9, 9), (310, 0, 320, 9), (0, 230, 9, 240), (310, 230, 320, 240), None])
def test_labels_of_objects_in_one_place_are_whole_and_apart(box):
    found = rectangles([box] * 8)
    assert all(left >= 0 and right <= 320 and top >= 0 and bottom <= 240 for left, top, right, bottom in found)
    assert not any(overlap(one, other) for one, other in itertools.combinations(found, 2))


def test_long_labels_are_shortened_and_keep_their_ending():
    [plate] = LabelWriter(320, 240, 13).layout(labels([(50, 60, 200, 200)], text="word " * 100))
    assert plate.line.width_px <= 13 * 16
    assert plate.line.runs[-1].text.endswith("… 50%")


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
def test_images_smaller_than_a_label_do_not_fail(size):
    image, writer = Image.new("RGB", size), LabelWriter(*size, 13)
    writer.write(image, labels([(0, 0, 1, 1), None]))
    assert len(writer.layout(labels([(0, 0, 1, 1), None]))) == 2
