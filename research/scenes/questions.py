"""Questions about presence, place and motion in clips of the synthetic world, and the words that its texts use."""

import numpy as np

from elysium.training.synthetic.expressions import MOTION_GAP, PLACE_GAP, simple_questions
from elysium.training.synthetic.scene import Scene
from elysium.training.synthetic.sprites import COLOURS, KINDS

WORLD_WORDS = [
    *COLOURS,
    *KINDS,
    *"left right large small top bottom moving still one that is the a an up down yes no there on or to move".split(),
]


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
        if abs(centre[0] - 0.5) > PLACE_GAP / 2:
            pairs.append((f"Is the {name} on the left or on the right?", "left" if centre[0] < 0.5 else "right"))
        if visible[-1, index] and abs(centre[-1] - centre[0]) > MOTION_GAP:
            towards = "left" if centre[-1] < centre[0] else "right"
            pairs.append((f"Does the {name} move to the left or to the right?", towards))
    return pairs
