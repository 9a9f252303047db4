"""Write referring expressions and questions about scenes of the synthetic world."""

import numpy as np

from .scene import Scene
from .sprites import COLOURS, KINDS

_SIZE_RATIO = 1.45
PLACE_GAP = 0.2
MOTION_GAP = 0.12


def referring_expressions(scene: Scene, index: int, boxes_xyxy_norm: np.ndarray, visible: np.ndarray) -> list[str]:
    """Return expressions that fit one object alone among the tracked ones; empty where none does.

    Args:
        scene: with the objects.
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
        if colour is None:  # a sprite with a name: another of its kind that has a colour would be meant as well
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
    """Return expressions by place, size and motion for one of two objects of the same name."""
    box, other = boxes[0], other_boxes[0]
    side, other_side = np.sqrt((box[2:] - box[:2]).prod()), np.sqrt((other[2:] - other[:2]).prod())
    centre, other_centre = (box[:2] + box[2:]) / 2, (other[:2] + other[2:]) / 2
    found = []
    if side > _SIZE_RATIO * other_side:
        found.append(f"the large {name}")
    elif other_side > _SIZE_RATIO * side:
        found.append(f"the small {name}")
    for axis, (low, high) in enumerate((("left", "right"), ("top", "bottom"))):
        if abs(centre[axis] - other_centre[axis]) > PLACE_GAP:
            found.append(f"the {low if centre[axis] < other_centre[axis] else high} {name}")
    last, other_last = boxes[-1], other_boxes[-1]
    if last.any() and other_last.any():
        shift = (last[:2] + last[2:]) / 2 - centre
        other_shift = (other_last[:2] + other_last[2:]) / 2 - other_centre
        for axis, (back, forth) in enumerate((("left", "right"), ("up", "down"))):
            if abs(shift[axis]) > MOTION_GAP and shift[axis] * other_shift[axis] <= 0:
                found.append(f"the {name} moving {back if shift[axis] < 0 else forth}")
    return found


def simple_questions(scene: Scene) -> list[tuple[str, str]]:
    """Return questions with answers: the colour of a kind, and the kind of a colour, that one object alone has."""
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
