"""Referring expressions and questions of the synthetic world."""

import numpy as np

from .scene import Scene
from .sprites import COLOURS, KINDS

WORLD_WORDS = [
    *COLOURS,
    *KINDS,
    *"left right large small top bottom moving still one that is the a an up down yes no there on or to move".split(),
]
_SIZE_RATIO = 1.45
_PLACE_GAP = 0.2
_MOTION_GAP = 0.12


def description(scene: Scene, index: int) -> str | None:
    """Return the object's name without an article ("red circle"), None for an object without a name."""
    return scene.objects[index].name


def referring_expressions(scene: Scene, index: int, boxes_xyxy_norm: np.ndarray, visible: np.ndarray) -> list[str]:
    """Expressions that fit this object alone among the tracked ones; empty where none does.

    Args:
        index: of the object in ``scene.tracked``.
        boxes_xyxy_norm: (T, O, 4) of the tracked objects.
        visible: (T, O).
    """
    objects = [scene.objects[i] for i in scene.tracked]
    target = objects[index]
    if target.name is None:
        return []
    colour, kind = target.sprite.colour, target.sprite.kind
    same_name = [i for i, item in enumerate(objects) if item.name == target.name and i != index]
    if not same_name:
        alone = sum(item.sprite.kind == kind for item in objects) == 1
        if colour is None:  # a cut-out with a name: another of its kind that has a colour would be meant as well
            return [f"the {kind}"] if alone else []
        unique = [f"the {colour} {kind}", f"the {kind} that is {colour}"]
        if alone:
            unique.append(f"the {kind}")
        if sum(item.sprite.colour == colour for item in objects) == 1:
            unique.append(f"the {colour} one")
        return unique
    if len(same_name) > 1 or not visible[0, index] or not visible[0, same_name[0]]:
        return []
    return _among_twins(target.name, boxes_xyxy_norm[:, index], boxes_xyxy_norm[:, same_name[0]])


def _among_twins(name: str, boxes: np.ndarray, other_boxes: np.ndarray) -> list[str]:
    """Expressions by place and size in frame 1 and by motion, for one of two objects of the same name."""
    box, other = boxes[0], other_boxes[0]
    side, other_side = np.sqrt((box[2:] - box[:2]).prod()), np.sqrt((other[2:] - other[:2]).prod())
    centre, other_centre = (box[:2] + box[2:]) / 2, (other[:2] + other[2:]) / 2
    found = []
    if side > _SIZE_RATIO * other_side:
        found.append(f"the large {name}")
    elif other_side > _SIZE_RATIO * side:
        found.append(f"the small {name}")
    for axis, (low, high) in enumerate((("left", "right"), ("top", "bottom"))):
        if abs(centre[axis] - other_centre[axis]) > _PLACE_GAP:
            found.append(f"the {low if centre[axis] < other_centre[axis] else high} {name}")
    last, other_last = boxes[-1], other_boxes[-1]
    if last.any() and other_last.any():
        shift = (last[:2] + last[2:]) / 2 - centre
        other_shift = (other_last[:2] + other_last[2:]) / 2 - other_centre
        for axis, (back, forth) in enumerate((("left", "right"), ("up", "down"))):
            if abs(shift[axis]) > _MOTION_GAP and shift[axis] * other_shift[axis] <= 0:
                found.append(f"the {name} moving {back if shift[axis] < 0 else forth}")
    return found


def with_article(name: str) -> str:
    """Return a name with its indefinite article.

    >>> with_article("owl"), with_article("red cross")
    ('an owl', 'a red cross')
    """
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def scene_questions(
    scene: Scene, boxes_xyxy_norm: np.ndarray, visible: np.ndarray, absent_name: str | None
) -> list[tuple[str, str]]:
    """Return questions on a clip with their answers.

    They ask for presence, place in frame 1 and motion of objects with a unique name; `simple_questions` is included.

    Args:
        boxes_xyxy_norm: (T, O, 4) of the tracked objects.
        visible: (T, O).
        absent_name: of something that the scene does not hold; None where no such name is known.
    """
    objects = [scene.objects[i] for i in scene.tracked]
    names = [item.name for item in objects]
    pairs = simple_questions(scene)
    if absent_name is not None:
        pairs.append((f"Is there {with_article(absent_name)}?", "no"))
    for index, name in enumerate(names):
        if name is None or names.count(name) > 1 or not visible[0, index]:
            continue
        if sum(item.sprite.kind == objects[index].sprite.kind for item in objects) == 1:
            pairs.append((f"Is there {with_article(name)}?", "yes"))
        centre = (boxes_xyxy_norm[:, index, 0] + boxes_xyxy_norm[:, index, 2]) / 2
        if abs(centre[0] - 0.5) > _PLACE_GAP / 2:
            pairs.append((f"Is the {name} on the left or on the right?", "left" if centre[0] < 0.5 else "right"))
        if visible[-1, index] and abs(centre[-1] - centre[0]) > _MOTION_GAP:
            towards = "left" if centre[-1] < centre[0] else "right"
            pairs.append((f"Does the {name} move to the left or to the right?", towards))
    return pairs


def simple_questions(scene: Scene) -> list[tuple[str, str]]:
    """Questions on the whole scene with their answers: counts, and the colour of a kind that stands alone."""
    named = [scene.objects[i] for i in scene.tracked if scene.objects[i].name is not None]
    pairs: list[tuple[str, str]] = []
    for kind in KINDS:
        colours = [item.sprite.colour for item in named if item.sprite.kind == kind]
        if len(colours) == 1 and colours[0] is not None:
            pairs.append((f"What colour is the {kind}?", colours[0]))
    for colour in COLOURS:
        kinds = [item.sprite.kind for item in named if item.sprite.colour == colour]
        if len(kinds) == 1:
            pairs.append((f"What shape is {colour}?", kinds[0]))
    return pairs
