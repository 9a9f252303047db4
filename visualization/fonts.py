"""Choose system fonts that have the letters of a label."""

import importlib.util
import unicodedata
import warnings
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

SKIPPED_FONTS = ("lastresort", "blank")  # they claim every letter but draw a box, or nothing
STYLED = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "serif", "condensed")
# Pixel sizes of bitmap emoji fonts: Noto, Apple's and others.
BITMAP_SIZES = (109, 160, 136, 128, 96, 72, 64)
NO_LETTER = "\U0010ffff"  # never assigned, so every font draws its missing-glyph sign


@dataclass(frozen=True)
class FontFile:
    """Font file of the system; of a collection the first font."""

    path: str

    @lru_cache(maxsize=64)  # noqa: B019 - instances are frozen and few
    def load(self, size: int, layout: ImageFont.Layout | None = None) -> ImageFont.FreeTypeFont:
        """Return the font at a size in pixels; a bitmap font has only its own size.

        Raises:
            OSError: FreeType cannot read the file.
        """
        for pixels in (size, *BITMAP_SIZES):
            try:
                return ImageFont.truetype(self.path, pixels, layout_engine=layout)
            except OSError as error:
                failure = error
        raise failure

    @property
    def is_bitmap(self) -> bool:
        """Return whether the font is a bitmap font of one size, as fonts of coloured emoji are."""
        return self.load(BITMAP_SIZES[0] - 1).size != BITMAP_SIZES[0] - 1

    @lru_cache(maxsize=4096)  # noqa: B019
    def has(self, letter: str) -> bool:
        """Return whether it draws a letter, rather than the missing-glyph sign."""
        try:
            font = self.load(20, ImageFont.Layout.BASIC)
            mask, missing = font.getmask(letter), font.getmask(NO_LETTER)
        except (OSError, ValueError):
            return False
        return mask.getbbox() is not None and (mask.size != missing.size or bytes(mask) != bytes(missing))


@dataclass(frozen=True)
class Run:
    """Part of a text drawn with one font.

    Args:
        text: the letters.
        font: the font at its drawn size.
        scale: scale of a bitmap font to the requested size; 1.0 for others.
    """

    text: str
    font: ImageFont.FreeTypeFont
    scale: float = 1.0

    @property
    def length_px(self) -> float:
        """Width up to the start of the next run."""
        return self.scale * self.font.getlength(self.text)

    @property
    def box_px(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the ink, relative to the run's start on the baseline."""
        left, top, right, bottom = (self.scale * side for side in self.font.getbbox(self.text, anchor="ls"))
        return left, top, right, bottom


class TextLine:
    """Line of text in the fonts that have its letters.

    Args:
        text: the text.
        size: font size in pixels.
    """

    def __init__(self, text: str, size: int) -> None:
        self.size = size
        self.runs: list[Run] = []
        for letters, file in split_by_font(unicodedata.normalize("NFC", text)):
            font = file.load(size)
            self.runs.append(Run(letters, font, size / font.size if file.is_bitmap else 1.0))
        reference = default_font().load(size).getbbox("Tg", anchor="ls")
        boxes = [run.box_px for run in self.runs]
        self.width_px = round(sum(run.length_px for run in self.runs) + 0.5)
        self.ascent_px = round(max([-reference[1], *(-box[1] for box in boxes)]))
        self.descent_px = round(max([reference[3], *(box[3] for box in boxes)]))

    @property
    def height_px(self) -> int:
        """Height of the ink, at least that of Latin letters."""
        return self.ascent_px + self.descent_px

    def draw(self, image: Image.Image, xy: tuple[float, float], color: str | tuple[int, int, int]) -> None:
        """Draw on an RGB ``image`` with the upper left corner at ``xy``."""
        draw = ImageDraw.Draw(image)
        x, baseline = xy[0], xy[1] + self.ascent_px
        for run in self.runs:
            if run.scale == 1.0:
                draw.text((x, baseline), run.text, font=run.font, fill=color, anchor="ls")
            else:
                _paste_bitmaps(image, run, (x, baseline), color)
            x += run.length_px


def _paste_bitmaps(
    image: Image.Image, run: Run, start: tuple[float, float], color: str | tuple[int, int, int]
) -> None:
    """Draw emoji at the size of their bitmap font, and scale them down."""
    left, top, right, bottom = run.font.getbbox(run.text, anchor="ls")
    layer = Image.new("RGBA", (max(1, round(right - left)), max(1, round(bottom - top))))
    drawn = ImageDraw.Draw(layer)
    drawn.text((-left, -top), run.text, font=run.font, fill=color, anchor="ls", embedded_color=True)
    size = max(1, round(layer.width * run.scale)), max(1, round(layer.height * run.scale))
    small = layer.resize(size, Image.Resampling.LANCZOS)
    image.paste(small, (round(start[0] + left * run.scale), round(start[1] + top * run.scale)), small)


@cache
def default_font() -> FontFile:
    """Return DejaVu Sans (many alphabets), which comes with matplotlib."""
    spec = importlib.util.find_spec("matplotlib")  # not imported: that is slow
    assert spec is not None and spec.origin is not None  # supervision needs it
    return FontFile(str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"))


def drawn_letters(text: str) -> frozenset[str]:
    """Return the letters with ink: no spaces, joiners, direction marks or variation selectors.

    >>> sorted(drawn_letters("a b\\u200d\\ufe0f"))
    ['a', 'b']
    """
    unseen = ("Zs", "Zl", "Zp", "Cc", "Cf")
    return frozenset(
        c
        for c in text
        if unicodedata.category(c) not in unseen and not unicodedata.name(c, "").startswith("VARIATION")
    )


@lru_cache(maxsize=1024)
def find_font(letters: frozenset[str]) -> FontFile | None:
    """Return a font that has all the letters, None if the system has none."""
    others = frozenset(letter for letter in letters if not default_font().has(letter))
    if not others:
        return default_font()
    return next((file for file in _system_fonts() if all(file.has(letter) for letter in letters)), None)


@lru_cache(maxsize=1024)
def split_by_font(text: str) -> tuple[tuple[str, FontFile], ...]:
    """Split a text into runs of one font each; a single run if one font has all letters.

    Letters that no font has go to the default font; `missing_letters` lists them.
    """
    letters = drawn_letters(text)
    whole = find_font(letters)
    if whole is not None and not (whole.is_bitmap and any(letter.isalnum() for letter in letters)):
        return ((text, whole),) if text else ()
    default = default_font()
    others = frozenset(letter for letter in letters if not default.has(letter))
    found = [find_font(others), *(find_font(frozenset(letter)) for letter in sorted(others))]
    files = [default, *dict.fromkeys(file for file in found if file is not None)]
    runs: list[tuple[str, FontFile]] = []
    for letter in text:
        before = runs[-1][1] if runs else default
        stays = not letter.isalnum() and not (letter.isspace() and before.is_bitmap)
        if stays and (letter not in letters or before.has(letter)):
            file = before
        else:
            file = next((file for file in files if file.has(letter)), default)
        if runs and runs[-1][1] == file:
            runs[-1] = runs[-1][0] + letter, file
        else:
            runs.append((letter, file))
    return tuple(runs)


def missing_letters(text: str) -> set[str]:
    """Return the letters of a text that no font has, or that PIL cannot shape as their script requires."""
    letters = drawn_letters(unicodedata.normalize("NFC", text))
    missing = {letter for letter in letters if find_font(frozenset(letter)) is None}
    if not features.check("raqm"):  # PIL then places letters one by one from left to right
        missing |= {
            c for c in letters if unicodedata.bidirectional(c) in ("R", "AL") or unicodedata.category(c) == "Mc"
        }
    return missing


@lru_cache(maxsize=1024)
def readable_label(label: str, track_id: int) -> str:
    """Return a drawable label: without emoji that no font has, or ``object 1`` if letters are missing.

    Warns once per label if the result differs from the label.

    Args:
        label: label of the object.
        track_id: number of the object, from 1.
    """
    label = " ".join(label.split())
    missing = missing_letters(label)
    if not missing:
        return label
    unjoined = (c for c in label if c not in missing and unicodedata.category(c) != "Cf")
    kept = " ".join("".join(unjoined).split())
    symbols_only = all(unicodedata.category(c)[0] in "SC" for c in missing)
    drawn = kept if symbols_only and any(c.isalnum() for c in kept) else f"object {track_id}"
    warnings.warn(
        f"the label {label!r} is drawn as {drawn!r}: no font of this system has its {''.join(sorted(missing))!r}; "
        "install one that has, such as Noto (fonts-noto-cjk, fonts-noto-core, fonts-noto-color-emoji)",
        stacklevel=2,
    )
    return drawn


@cache
def _system_fonts() -> tuple[FontFile, ...]:
    """Return the fonts of the system, plain faces first."""
    from matplotlib import font_manager  # slow, and only letters beyond the default font need it

    paths = [Path(path) for path in font_manager.findSystemFonts()]
    fonts = [path for path in paths if not any(name in path.name.lower() for name in SKIPPED_FONTS)]
    fonts.sort(key=lambda path: (any(style in path.name.lower() for style in STYLED), path.name))
    return tuple(FontFile(str(path)) for path in fonts)
