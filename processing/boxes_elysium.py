"""Boxes as text and back: the only box codec and parser of the package.

A box is four numbers ``x1, y1, x2, y2``. Its name carries format and unit: ``box_xyxy_px`` (pixels),
``box_xyxy_norm`` (0..1 of width and height), ``box_xyxy_bin`` (integers, 0..99).

Two pairs of encoding and decoding exist, and ``encode(decode(b)) == b`` holds for both:

- ``floor``: ``b = min(99, floor(100 v))``, ``v = (b + 0.5) / 100``. A box whose two ends fall in one bin spans that
  bin, ``b / 100 .. (b + 1) / 100``; so a box that spans exactly one bin is written as that bin twice.
- ``round``: ``b = round(100 v)``, ``v = b / 100``. 100 occurs; a box whose two ends fall in one bin has no area.

Writing raises on input that is no box. Parsing never raises on a string: every expected frame gets a
[`ParsedBox`], which holds a box or names why there is none.

>>> format_frames([(0.23, 0.45, 0.46, 0.72), None])
'Frame 1: [23,45,46,72], Frame 2: none.'
>>> [box.status for box in parse_frames("Frame 1: [23,45,46,72], Frame 2: [23,", 3)]
['ok', 'malformed', 'missing']
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
BoxInts = tuple[int, int, int, int]

ROUNDINGS = ("floor", "round")
NUM_BINS = 100  # along each axis
ABSENT_TEXT = "none"
_SLACK = 1e-6  # of the image, for inputs that went through float32
_EXCERPT_CHARACTERS = 80


@dataclass(frozen=True)
class ParsedBox:
    """Result of parsing a text for one frame.

    Args:
        frame (`int`): Number of the frame, from 1, as in ``Frame 1``.
        status (`str`): Why there is a box, or why not:

            - ``"ok"``: a box with area.
            - ``"absent"``: the text says that the object cannot be seen (``none``, or four zeros).
            - ``"missing"``: the text does not mention the frame.
            - ``"malformed"``: the frame is mentioned, but no box and no ``none`` stands there.
            - ``"out_of_range"``: a coordinate is negative or above 100.
            - ``"inverted"``: x1 > x2 or y1 > y2.
            - ``"empty"``: no width or no height (with `rounding="round"` only).
        box_xyxy_norm (tuple of 4 `float`, *optional*): The box in 0..1. Only with the status ``"ok"``.
        box_xyxy_bin (tuple of 4 `int`, *optional*): The integers as read. With the statuses ``"ok"``, ``"inverted"``,
            ``"empty"``, and ``"absent"`` where four zeros were read.
        text (`str`): What was matched, or the start of what could not be read.
        span (tuple of 2 `int`, *optional*): Character offsets of the bracketed coordinates, or of ``none``, in the
            parsed text. `None` for ``"missing"`` and ``"malformed"``.
    """

    frame: int
    status: str
    box_xyxy_norm: Box | None = None
    box_xyxy_bin: BoxInts | None = None
    text: str = ""
    span: tuple[int, int] | None = None

    @property
    def valid(self) -> bool:
        """Return whether there is a box."""
        return self.status == "ok"

    @property
    def readable(self) -> bool:
        """Return whether the text answers for this frame: with a box, or with `none`."""
        return self.status in ("ok", "absent")


# Everything is possessive and an opening bracket cannot match inside, so reading is linear.
_BOX = re.compile(r"\[ N , N , N , N \]".replace("N", "(-?+[0-9]++)").replace(" ", r"\s*+"))
_LABEL = re.compile(r"(?i:frame)\s*+([0-9]{1,9}+)\s*+:\s*+")
_ABSENT = re.compile(r"(?i:none)(?!\w)")
_ABSENT_ALONE = re.compile(r"\s*+((?i:none))\s*+\.?\s*+")


def px_to_norm(box_xyxy_px: Sequence[float], width: float, height: float) -> Box:
    """Convert pixels to shares of width and height.

    Args:
        box_xyxy_px (sequence of 4 `float`): x1, y1, x2, y2 in pixels, right and lower edge exclusive.
        width (`float`): Width of the image in pixels.
        height (`float`): Height of the image in pixels.

    Raises:
        ValueError: no four finite numbers, outside the image, x1 > x2 or y1 > y2, or a size that is not positive.

    >>> px_to_norm((64, 0, 128, 72), 128, 144)
    (0.5, 0.0, 1.0, 0.5)
    """
    _check_size(width, height)
    x1, y1, x2, y2 = _check_box(box_xyxy_px, "box_xyxy_px", width, height)
    return (x1 / width, y1 / height, x2 / width, y2 / height)


def norm_to_px(box_xyxy_norm: Sequence[float], width: float, height: float) -> Box:
    """Convert shares of width and height (0..1) to pixels; the inverse of [`px_to_norm`], with the same errors.

    >>> norm_to_px((0.5, 0.0, 1.0, 0.5), 128, 144)
    (64.0, 0.0, 128.0, 72.0)
    """
    _check_size(width, height)
    x1, y1, x2, y2 = _check_box(box_xyxy_norm, "box_xyxy_norm", 1.0, 1.0)
    return (x1 * width, y1 * height, x2 * width, y2 * height)


def norm_to_bin(box_xyxy_norm: Sequence[float], rounding: str = "floor") -> BoxInts:
    """Convert shares of width and height to the integers of the text.

    Args:
        box_xyxy_norm (sequence of 4 `float`): x1, y1, x2, y2 in 0..1.
        rounding (`str`): ``"floor"`` gives 0..99, ``"round"`` gives 0..100 (Python's `round`: a half goes to even).

    Raises:
        ValueError: no four finite numbers in 0..1, x1 > x2 or y1 > y2, or an unknown rounding.

    >>> norm_to_bin((0.239, 0.451, 0.999, 1.0)), norm_to_bin((0.239, 0.451, 0.999, 1.0), "round")
    ((23, 45, 99, 99), (24, 45, 100, 100))
    """
    _check_choice("rounding", rounding, ROUNDINGS)
    x1, y1, x2, y2 = _check_box(box_xyxy_norm, "box_xyxy_norm", 1.0, 1.0)
    bin_x1, bin_x2 = _axis_to_bin(x1 * NUM_BINS, x2 * NUM_BINS, rounding)
    bin_y1, bin_y2 = _axis_to_bin(y1 * NUM_BINS, y2 * NUM_BINS, rounding)
    return (bin_x1, bin_y1, bin_x2, bin_y2)


def bin_to_norm(box_xyxy_bin: Sequence[int], rounding: str = "floor") -> Box:
    """Convert the integers of the text to shares of width and height; both roundings read 0..100.

    Args:
        box_xyxy_bin (sequence of 4 `int`): x1, y1, x2, y2 in 0..100.
        rounding (`str`): ``"floor"`` gives the centres of the bins, or the whole bin where both ends fall in it;
            ``"round"`` gives ``b / 100``.

    Raises:
        ValueError: not four integers in 0..100, x1 > x2 or y1 > y2, or an unknown rounding.

    >>> bin_to_norm((23, 45, 46, 45)), bin_to_norm((23, 45, 46, 45), "round")
    ((0.235, 0.45, 0.465, 0.46), (0.23, 0.45, 0.46, 0.45))
    """
    _check_choice("rounding", rounding, ROUNDINGS)
    values = _check_box(box_xyxy_bin, "box_xyxy_bin", NUM_BINS, NUM_BINS)
    if any(value != int(value) for value in values):
        raise ValueError(f"box_xyxy_bin must be 4 integers, got {values}; encode shares of 0..1 by norm_to_bin")
    x1, y1, x2, y2 = (int(value) for value in values)
    norm_x1, norm_x2 = _axis_to_norm(x1, x2, rounding)
    norm_y1, norm_y2 = _axis_to_norm(y1, y2, rounding)
    return (norm_x1, norm_y1, norm_x2, norm_y2)


def format_box(box_xyxy_norm: Sequence[float], *, rounding: str = "floor") -> str:
    """Write a box as text. A box that would be written as four zeros, which read as absent, gets 1 for x2 and y2.

    Args:
        box_xyxy_norm (sequence of 4 `float`): x1, y1, x2, y2 in 0..1.
        rounding (`str`): One of `ROUNDINGS`.

    Raises:
        ValueError: no box in 0..1, or an unknown rounding.

    >>> format_box((0.023, 0.45, 0.461, 0.72))
    '[2,45,46,72]'
    """
    box_bin = norm_to_bin(box_xyxy_norm, rounding)
    return "[{},{},{},{}]".format(*(box_bin if any(box_bin) else (0, 0, 1, 1)))


def format_frames(boxes_xyxy_norm: Sequence[Sequence[float] | None], *, rounding: str = "floor") -> str:
    """Write the answer of a tracking task: a box, or ``none`` where the object cannot be seen, for each frame.

    Args:
        boxes_xyxy_norm (sequence of T boxes): Each x1, y1, x2, y2 in 0..1, or `None` where the object cannot be seen.
        rounding: As in [`format_box`].

    Raises:
        ValueError: no frames; or a frame's box is none, named by its number.

    >>> format_frames([(0.1, 0.2, 0.3, 0.4), None, (0.5, 0.6, 0.7, 0.8)])
    'Frame 1: [10,20,30,40], Frame 2: none, Frame 3: [50,60,70,80].'
    """
    if len(boxes_xyxy_norm) == 0:
        raise ValueError("boxes_xyxy_norm must hold a box or None for at least one frame, got no frames")
    parts = []
    for frame, box in enumerate(boxes_xyxy_norm, start=1):
        try:
            text = ABSENT_TEXT if box is None else format_box(box, rounding=rounding)
        except ValueError as error:
            raise ValueError(f"Frame {frame}: {error}") from error
        parts.append(f"Frame {frame}: {text}")
    return ", ".join(parts) + "."


def parse_box(text: str, *, rounding: str = "floor") -> ParsedBox:
    """Parse the answer of an image task: the first readable box in the text, whatever surrounds it.

    Args:
        text (`str`): Any string.
        rounding: As the text was written, see [`format_box`].

    Returns:
        [`ParsedBox`] of ``Frame 1``: the first readable box; else the first box, with what is wrong with it; else
        ``"absent"`` for the word ``none`` alone; else ``"malformed"``, or ``"missing"`` for a blank text.

    >>> parse_box("It is at [23,45,46,72].").box_xyxy_bin
    (23, 45, 46, 72)
    """
    _check_text(text, rounding)
    boxes = [_parse_match(match, 1, rounding) for match in _BOX.finditer(text)]
    if boxes:
        return next((box for box in boxes if box.readable), boxes[0])
    if absent := _ABSENT_ALONE.fullmatch(text):
        return ParsedBox(1, "absent", text=absent[1], span=absent.span(1))
    excerpt = text.strip()[:_EXCERPT_CHARACTERS]
    return ParsedBox(1, "malformed" if excerpt else "missing", text=excerpt)


def parse_frames(text: str, num_frames: int, *, rounding: str = "floor") -> list[ParsedBox]:
    """Parse the answer of a tracking task, in time linear in the length of the text.

    The box of a frame must stand directly after its label, ``Frame i:``. Where a label stands more than once,
    the first occurrence that can be read wins. Labels of other frames are passed over. Where one
    frame is expected and the text has no label at all, it is read as by [`parse_box`].

    Args:
        text (`str`): Any string.
        num_frames (`int`): T, the number of expected frames.
        rounding: As the text was written, see [`format_box`].

    Returns:
        list of T [`ParsedBox`], in the order of the frames. Nothing that the text holds raises.
    """
    _check_text(text, rounding)
    if num_frames < 0:
        raise ValueError(f"num_frames must be 0 or more, got {num_frames}")
    boxes = [ParsedBox(frame, "missing") for frame in range(1, num_frames + 1)]
    label = _LABEL.search(text)
    if num_frames == 1 and label is None:
        return [parse_box(text, rounding=rounding)]
    while label is not None:
        frame, following = int(label[1]), _LABEL.search(text, label.end())  # a value ends at the next label
        if 1 <= frame <= num_frames and not boxes[frame - 1].readable:
            end = len(text) if following is None else following.start()
            parsed = _parse_value(text, frame, label.end(), end, rounding)
            if parsed.readable or boxes[frame - 1].status == "missing":
                boxes[frame - 1] = parsed
        label = following
    return boxes


def _parse_value(text: str, frame: int, start: int, end: int, rounding: str) -> ParsedBox:
    """Parse the value directly after a label, `text[start:end]`."""
    if match := _BOX.match(text, start, end):
        return _parse_match(match, frame, rounding)
    if match := _ABSENT.match(text, start, end):
        return ParsedBox(frame, "absent", text=match.group(), span=match.span())
    return ParsedBox(frame, "malformed", text=text[start : min(end, start + _EXCERPT_CHARACTERS)])


def _parse_match(match: re.Match[str], frame: int, rounding: str) -> ParsedBox:
    """Parse four integers in brackets."""
    span, excerpt = match.span(), match.group()[:_EXCERPT_CHARACTERS]
    values = [float(number) for number in match.groups()]  # any number of digits, which int() refuses
    if not all(0 <= value <= NUM_BINS for value in values):
        return ParsedBox(frame, "out_of_range", text=excerpt, span=span)
    x1, y1, x2, y2 = box_bin = (int(values[0]), int(values[1]), int(values[2]), int(values[3]))
    if not any(box_bin):
        return ParsedBox(frame, "absent", box_xyxy_bin=box_bin, text=excerpt, span=span)
    if x1 > x2 or y1 > y2:
        return ParsedBox(frame, "inverted", box_xyxy_bin=box_bin, text=excerpt, span=span)
    box_norm = bin_to_norm(box_bin, rounding)
    if box_norm[0] == box_norm[2] or box_norm[1] == box_norm[3]:
        return ParsedBox(frame, "empty", box_xyxy_bin=box_bin, text=excerpt, span=span)
    return ParsedBox(frame, "ok", box_norm, box_bin, excerpt, span)


def _axis_to_bin(low: float, high: float, rounding: str) -> tuple[int, int]:
    """Encode the two ends of one axis, given in bins."""
    if rounding == "round":
        return round(low), round(high)
    edge = round(low)
    if max(abs(low - edge), abs(high - edge - 1)) <= _SLACK * NUM_BINS:
        return edge, edge  # exactly one bin: what _axis_to_norm gives for that bin twice
    return min(NUM_BINS - 1, math.floor(low)), min(NUM_BINS - 1, math.floor(high))


def _axis_to_norm(low: int, high: int, rounding: str) -> tuple[float, float]:
    """Decode the two ends of one axis."""
    if rounding == "round":
        return low / NUM_BINS, high / NUM_BINS
    low, high = min(NUM_BINS - 1, low), min(NUM_BINS - 1, high)
    if low == high:
        return low / NUM_BINS, (low + 1) / NUM_BINS
    return (low + 0.5) / NUM_BINS, (high + 0.5) / NUM_BINS


def _check_box(box: Sequence[float], name: str, width: float, height: float) -> Box:
    """Return four finite numbers inside the image, in order; an excess of `_SLACK` of the image is clamped."""
    try:
        x1, y1, x2, y2 = values = tuple(map(float, box))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be 4 numbers x1,y1,x2,y2, got {box!r}") from error
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{name} must be finite, got {values}; give None for a frame without a box")
    pairs = list(zip(values, (width, height, width, height), strict=True))
    if not all(-_SLACK * limit <= value <= (1 + _SLACK) * limit for value, limit in pairs):
        raise ValueError(f"{name} must lie in 0..{width:g} by 0..{height:g}, got {values}; clip it, or check its unit")
    if x1 > x2 or y1 > y2:
        raise ValueError(f"{name} must have x1 <= x2 and y1 <= y2, got {values}; is it x,y,w,h?")
    x1, y1, x2, y2 = (min(max(value, 0.0), float(limit)) for value, limit in pairs)
    return (x1, y1, x2, y2)


def _check_size(width: float, height: float) -> None:
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise ValueError(f"width and height must be positive numbers of pixels, got {width} and {height}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _check_text(text: str, rounding: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    _check_choice("rounding", rounding, ROUNDINGS)
