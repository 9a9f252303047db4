"""Labels in other alphabets, with fonts that have their letters and without any."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elysium.processing.structures import Track, TrackingResult, VideoClip
from elysium.visualization import fonts
from elysium.visualization.annotate import annotate_frame
from elysium.visualization.contact_sheet import contact_sheet
from elysium.visualization.fonts import FontFile, TextLine, missing_letters, readable_label, split_by_font

GREY = np.full((240, 320, 3), 128, np.uint8)
FIXTURES = Path(__file__).parents[1] / "fixtures" / "fonts"
CHINESE, EMOJI = (FontFile(str(FIXTURES / name)) for name in ("chinese.otf", "emoji.ttf"))
BOX = [(60, 60, 200, 200)]


@pytest.fixture
def system_fonts(monkeypatch):
    """Gives the system only the fonts that are named."""

    def only(*files):
        monkeypatch.setattr(fonts, "_system_fonts", lambda: files)
        forget()

    def forget():
        for function in (fonts.find_font, fonts.split_by_font, fonts.readable_label):
            function.cache_clear()

    yield only
    monkeypatch.undo()
    forget()


def ink(text, size=40):
    """The letters of one line in black on white."""
    line = TextLine(text, size)
    image = Image.new("RGB", (line.width_px + 4, line.height_px), "white")
    line.draw(image, (2, 0), "black")
    return np.array(image)


def test_labels_in_chinese_are_drawn_with_a_font_that_has_their_letters(system_fonts):
    system_fonts(CHINESE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        red, blue = (annotate_frame(GREY, BOX, [label]) for label in ("红色的圆", "蓝色的星"))
    assert (red != blue).any()
    assert split_by_font("红色的圆") == (("红色的圆", CHINESE),)


def test_labels_whose_letters_no_font_has_become_numbers_with_a_warning_once(system_fonts):
    system_fonts()
    with pytest.warns(UserWarning, match="'红色的圆' is drawn as 'object 2'.*fonts-noto-cjk") as caught:
        drawn = [annotate_frame(GREY, BOX, ["红色的圆"], track_ids=[2]) for _ in range(3)]
    assert len(caught) == 1
    np.testing.assert_array_equal(drawn[2], annotate_frame(GREY, BOX, ["object 2"], track_ids=[2]))


def test_a_label_of_several_scripts_is_drawn_in_several_fonts(system_fonts):
    system_fonts(EMOJI, CHINESE)
    runs = split_by_font("🔴 圆 left")
    assert [text for text, _ in runs] == ["🔴", " ", "圆 ", "left"]
    assert [file for _, file in runs] == [EMOJI, fonts.default_font(), CHINESE, fonts.default_font()]
    assert not missing_letters("🔴 圆 left")


def test_emoji_are_drawn_in_colour_at_the_size_of_the_letters(system_fonts):
    system_fonts(EMOJI)
    drawn = ink("🔴 x", size=40)
    red = (drawn[..., 0] > 180) & (drawn[..., 1] < 90)
    rows, columns = np.nonzero(red)
    assert 25 < np.ptp(rows) < 55
    assert 25 < np.ptp(columns) < 55
    assert (drawn[:, columns.max() + 3 :] < 60).all(axis=-1).any()


def test_emoji_that_no_font_has_are_left_out_where_words_remain(system_fonts):
    system_fonts()
    with pytest.warns(UserWarning, match="is drawn as 'red car 2'"):
        assert readable_label("👨‍👩‍👧 red car 🔴 2", 1) == "red car 2"
    with pytest.warns(UserWarning, match="is drawn as 'object 3'"):
        assert readable_label("🔴", 3) == "object 3"


def test_scripts_whose_letters_join_need_the_library_that_joins_them(system_fonts, monkeypatch):
    system_fonts(CHINESE)
    monkeypatch.setattr(fonts.features, "check", lambda name: False)
    assert missing_letters("red سيارة") == set("سيارة")
    assert missing_letters("红色") == set()


def test_spaces_joiners_and_variation_selectors_need_no_font():
    assert missing_letters("a b\u200d\ufe0f\u3000c\u200f") == set()


def test_accents_that_are_written_apart_are_joined_before_a_font_is_chosen():
    np.testing.assert_array_equal(ink("e\u0301t"), ink("\u00e9t"))


def test_a_file_that_is_no_font_is_passed_over(system_fonts, tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    system_fonts(FontFile(str(tmp_path / "broken.ttf")), CHINESE)
    assert split_by_font("圆") == (("圆", CHINESE),)


def test_fonts_of_the_system_are_found_and_tried_with_plain_faces_first(monkeypatch, system_fonts):
    paths = ["/a/Bold.ttf", *(file.path for file in (EMOJI, CHINESE)), "/a/LastResort.otf"]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: paths)
    found = fonts._system_fonts.__wrapped__()
    assert found == (CHINESE, EMOJI, FontFile("/a/Bold.ttf"))
    system_fonts(*found)
    assert [fonts.find_font(frozenset(letters)) for letters in ("红色", "🔴")] == [CHINESE, EMOJI]


def test_a_contact_sheet_names_objects_in_chinese(system_fonts, tmp_path):
    system_fonts(CHINESE)
    clip = VideoClip.from_frames(GREY[None], fps=1)
    sheets = []
    for label in ("红色的圆", "蓝色的星"):
        track = Track(
            frame_indices=[0],
            timestamps_s=[0.0],
            boxes_xyxy_px=BOX,
            valid=[True],
            scores=[0.5],
            reasons=[None],
            track_id=1,
            text=label,
            width=320,
            height=240,
        )
        result = TrackingResult("clip.mp4", 1, 320, 240, "elysium-tiny", True, [track])
        contact_sheet(clip, result, tmp_path / "sheet.png")
        sheets.append(np.array(Image.open(tmp_path / "sheet.png")))
    assert (sheets[0][40:75] != sheets[1][40:75]).any()
