"""Simulate what the semantic encoders say of a synthetic scene, so that all their classes can be asked for by words.

Cut-outs with names cover a few hundred of the encoders' classes, and an emoji of a cup looks to them like none. So
objects without a name are assumed to be of a class, and the evidence is drawn as the encoders give it on photographs:
posteriors that spread over classes alike, objects that are missed or taken for another, boxes that are a little off,
over the evidence of a real background (`evidence_pool`).
Letters: T frames, O tracked objects, N patches, C classes.
"""

import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from elysium.training.synthetic import RenderedClip
from elysium.training.synthetic.sprites import Sprite
from research.scenes.world import StudyScene
from research.semantic.class_names import fits, load_class_names, phrases, related

# First column of each encoder: the classifier, the COCO detector and the Open Images detector.
ENCODER_STARTS = (0, 1000, 1080, 1103)
# How often a class is drawn from each encoder: what the detectors know is what people mostly ask for.
_SHARE_OF_ENCODER = (0.5, 0.33, 0.17)
_OFTEN = {"person": 12.0}  # names that are drawn so many times as often
# What people add to a name that no evidence tells: a third of the questions has such words, which change nothing.
_SHARE_DETAILED = 0.35
_SIZES = ("big", "small", "large", "little", "tall", "old", "new", "other", "whole", "only")
_AGES = ("young", "old", "tall", "standing", "walking", "sitting", "running", "other", "smiling")
_COLOURS = ("red", "blue", "green", "black", "white", "grey", "yellow", "brown", "dark", "light", "pink", "striped")
_CLOTHES = ("shirt", "jacket", "coat", "dress", "shorts", "trousers", "skirt", "suit", "sweater", "t-shirt", "hat")
_CARRIED = ("bag", "backpack", "cap", "helmet", "umbrella", "scarf", "phone", "stick", "hat", "glasses")
_PLACES = (
    "on the grass", "on the road", "on the roof", "in the street", "by the wall", "against the wall", "on the table",
    "in the background", "in front", "in the picture", "held by a hand", "in the hand", "in the water", "on the floor",
    "on the ground", "next to the door", "under the tree", "in the garden", "in the room", "on the chair",
    "closest to the camera", "in the middle", "near the window", "on the pavement", "behind the fence",
)  # fmt: skip
# Colours of things and of people's clothes; of the coloured ones, half have another of their name in another colour.
CLOTH = {
    "red": (200, 32, 36), "green": (44, 140, 60), "blue": (40, 75, 190), "yellow": (232, 208, 52),
    "orange": (236, 132, 40), "purple": (130, 62, 170), "white": (240, 240, 240), "black": (24, 24, 28),
    "grey": (128, 128, 130), "pink": (232, 140, 176), "brown": (118, 76, 46),
}  # fmt: skip
_SHARE_COLOURED = 0.4
_SHARE_TWINS = 0.5
_OPACITIES = (0.0, 0.0, 0.2, 0.45)  # of faint objects
_DYED_ROWS = ((0.15, 0.35), (0.55, 0.85))  # where a person's clothes begin and end, in heights
_SHARE_SEEN = 0.9  # of objects, by each encoder that knows the class
_SHARE_MISTAKEN = 0.1
# Of objects of no class of a detector: it takes most of them for something, a third of these for a person.
_SHARE_FALSE_CLASS = 0.6
_SHARE_TAKEN_FOR_PERSON = 0.33
_BOX_DEVIATION = 0.06  # of a detected box, in box sizes
_FALSE_DETECTIONS = 0.4  # mean number in a clip, beside those of the background
_ALIKE, _ALIKE_SCORES = 0.6, (0.08, 0.8)  # mean number for each detected object; their scores over its own


@dataclass(frozen=True)
class AssumedClass:
    """Class that an object of a scene is assumed to be.

    Args:
        name: what it is called first.
        columns: its class of each encoder; None where the encoder has none.
    """

    name: str
    columns: tuple[int | None, int | None, int | None]

    @property
    def is_person(self) -> bool:
        """Return whether words for a person fit it."""
        return bool(fits("person")[[column for column in self.columns if column is not None]].any())


class ClassPainter:
    """Assume classes for the objects of scenes.

    Args:
        share: of the objects without a name, those that are given one.
    """

    def __init__(self, share: float) -> None:
        self.share, self.entries = share, load_class_names()
        self._fits = lru_cache(maxsize=None)(fits)
        weights = np.array([_OFTEN.get(entry.name, 1.0) for entry in self.entries])
        for share, (start, stop) in zip(_SHARE_OF_ENCODER, pairwise(ENCODER_STARTS), strict=True):
            weights[start:stop] *= share / (stop - start)
        self._frequency = weights / weights.sum()

    def paint(
        self, scene: StudyScene, rng: np.random.Generator, *, share_faint: float = 0.0
    ) -> list[AssumedClass | None]:
        """Return the assumed class of each tracked object, and name the objects by phrases that fit them alone.

        Args:
            scene: its nameless objects get names and colours.
            rng: draws everything.
            share_faint: of the objects without a colour of their own, those that become faint or cannot be seen: only
                the evidence tells where they are.
        """
        objects = [scene.objects[index] for index in scene.tracked]
        found: list[AssumedClass | None] = [self._class_of(item.sprite.kind, rng) for item in objects]
        taken = [item.sprite.kind for item in objects if item.sprite.kind]
        twin: tuple[int, str, str] | None = None  # column, phrase and colour of what the next object is, too
        for place, item in enumerate(objects):
            if item.sprite.kind or rng.random() >= self.share:
                continue
            if twin is not None:
                column, phrase, other = twin
                colour, twin = str(rng.choice([word for word in CLOTH if word != other])), None
            else:
                column = self._draw_column(rng)
                drawn = self._phrase_apart(column, _columns_of(found), taken, rng)
                if drawn is None:
                    continue
                phrase = drawn
                colour = str(rng.choice(list(CLOTH))) if rng.random() < _SHARE_COLOURED else None
                if colour is not None and rng.random() < _SHARE_TWINS:
                    twin = column, phrase, colour
            known = AssumedClass(self.entries[column].name, self._columns(column, phrase, rng))
            found[place] = known
            sprite = item.sprite if colour is None else _dyed(item.sprite, colour, band=known.is_person, rng=rng)
            item.sprite = replace(sprite, kind=phrase, colour=colour)
            if colour is None and rng.random() < share_faint:
                item.opacity = float(rng.choice(_OPACITIES))
            taken.append(phrase)
        return found

    def absent_phrase(
        self, classes: list[AssumedClass | None], taken: list[str], rng: np.random.Generator
    ) -> str | None:
        """Return a phrase that fits nothing in the scene, or None."""
        return self._phrase_apart(self._draw_column(rng), _columns_of(classes), taken, rng)

    def _draw_column(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self.entries), p=self._frequency))

    def _phrase_apart(self, column: int, others: list[int], taken: list[str], rng: np.random.Generator) -> str | None:
        """Return a phrase of a class that names none of the others; None also where a taken one names the class."""
        if any(self._fits(word)[column] for word in taken):
            return None
        options = phrases(self.entries[column], narrower=True)
        words, weights = list(options), np.array(list(options.values()))
        for index in rng.choice(len(words), size=min(3, len(words)), replace=False, p=weights / weights.sum()):
            word = words[index]
            if word not in taken and not self._fits(word)[others].any():
                return word
        return None

    def _class_of(self, kind: str | None, rng: np.random.Generator) -> AssumedClass | None:
        """Return the class that a name means, or None where the encoders have none."""
        if not kind:
            return None
        fitting = np.flatnonzero(self._fits(kind))
        if not len(fitting):
            return None
        columns = [fitting[(fitting >= a) & (fitting < b)] for a, b in pairwise(ENCODER_STARTS)]
        chosen = [int(rng.choice(each)) if len(each) else None for each in columns]
        return AssumedClass(kind, (chosen[0], chosen[1], chosen[2]))

    def _columns(
        self, column: int, phrase: str, rng: np.random.Generator
    ) -> tuple[int | None, int | None, int | None]:
        """Return classes of all encoders that one object may have: of the phrase, or else of what is related."""
        chosen: list[int | None] = []
        fitting = self._fits(phrase)
        for start, stop in pairwise(ENCODER_STARTS):
            alike = [column] if start <= column < stop else [j for j in self._related[column] if start <= j < stop]
            named = [j for j in alike if fitting[j]] or alike
            chosen.append(int(rng.choice(named)) if named else None)
        return chosen[0], chosen[1], chosen[2]

    @cached_property
    def _related(self) -> list[list[int]]:
        """Return the classes that an object of each class may have, too."""
        return [[j for j, other in enumerate(self.entries) if related(entry, other)] for entry in self.entries]


def detailed(text: str, known: AssumedClass | None, rng: np.random.Generator) -> str:
    """Return a text prompt, often with words about clothes or the place, which no evidence tells.

    Args:
        text: phrase with an article, such as "the mug".
        known: class of the object; None where its look tells what it is, so that words must be true.
        rng: draws the words.
    """
    if known is None:
        return text
    is_person, dyed = known.is_person, re.fullmatch(rf"the ({'|'.join(CLOTH)}) (.+)|the (.+) that is (\w+)", text)
    if is_person and dyed:
        colour, name = dyed[1] or dyed[4], dyed[2] or dyed[3]
        name = "person" if name == "one" else name
        worn = (f"in {colour}", f"in {colour}", f"wearing {colour}", f"in the {colour} {rng.choice(_CLOTHES)}")
        return f"the {name} {rng.choice(worn)}"
    if dyed or rng.random() >= _SHARE_DETAILED:
        return text
    if rng.random() < 0.35:
        return re.sub(r"^(the|a|an) ", f"the {rng.choice(_AGES if is_person else _SIZES)} ", text)
    if is_person and rng.random() < 0.75:
        if rng.random() < 0.6:
            article = rng.choice(["the ", "a ", ""])
            return f"{text} in {article}{rng.choice(_COLOURS)} {rng.choice(_CLOTHES)}"
        return f"{text} with {rng.choice(['the', 'a'])} {rng.choice(_COLOURS)} {rng.choice(_CARRIED)}"
    return f"{text} {rng.choice(_PLACES)}"


def _dyed(sprite: Sprite, colour: str, *, band: bool, rng: np.random.Generator) -> Sprite:
    """Return a sprite in a colour, with its own light and shade; with ``band`` in its middle alone, like clothes."""
    paint = np.clip(np.array(CLOTH[colour]) + rng.normal(0, 12, 3), 0, 255)
    start, end = (rng.uniform(*rows) for rows in _DYED_ROWS) if band else (0.0, 1.0)
    levels = []
    for level in sprite.levels:
        pixels = level.astype(np.float32)
        alpha = pixels[..., 3:] / 255
        rows = np.flatnonzero(alpha.any((1, 2)))
        low, high = (round(rows[0] + share * (rows[-1] + 1 - rows[0])) for share in (start, end))
        light = pixels[low:high, :, :3].mean(-1, keepdims=True) / np.maximum(alpha[low:high], 1 / 255)
        shown = alpha[low:high] > 0.5
        middle = max(float(np.median(light[shown])), 1.0) if shown.any() else 128.0
        shade = np.clip(0.55 + 0.45 * light / middle, 0.5, 1.3)
        pixels[low:high, :, :3] = np.minimum(paint * shade, 255) * alpha[low:high]
        levels.append(pixels.round().astype(np.uint8))
    return replace(sprite, levels=(levels[0], levels[1], levels[2]))


def _columns_of(classes: list[AssumedClass | None]) -> list[int]:
    return [column for known in classes if known for column in known.columns if column is not None]


@dataclass(frozen=True, eq=False)
class EvidencePool:
    """Evidence of real backgrounds, and how alike the classifier's classes are.

    Args:
        columns (`np.ndarray` of shape `(M, N, 16)`): the strongest classes of each patch of M images.
        values (`np.ndarray` of shape `(M, N, 16)`): their scores.
        boxes (`np.ndarray` of shape `(M, N, 4)`): boxes of detections, xyxy in 0..1.
        box_scores (`np.ndarray` of shape `(M, N)`): their scores.
        likeness (`np.ndarray` of shape `(1000, 1000)`): cosines of the classifier's weights.
    """

    columns: NDArray[np.int16]
    values: NDArray[np.float16]
    boxes: NDArray[np.float16]
    box_scores: NDArray[np.float16]
    likeness: NDArray[np.float16]

    @classmethod
    def load(cls, path: str | Path) -> "EvidencePool":
        """Read a pool that `evidence_pool` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(**{name: stored[name] for name in ("columns", "values", "boxes", "box_scores", "likeness")})

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Return scores (N, C), boxes (N, 4) and box scores (N,) of a random background."""
        index = int(rng.integers(len(self.columns)))
        scores = np.zeros((self.columns.shape[1], ENCODER_STARTS[-1]), np.float32)
        np.put_along_axis(scores, self.columns[index].astype(np.int64), self.values[index].astype(np.float32), 1)
        return scores, self.boxes[index].astype(np.float32), self.box_scores[index].astype(np.float32)


def simulate_evidence(
    classes: list[AssumedClass | None],
    clip: RenderedClip,
    coverage: NDArray[np.float32],
    pool: EvidencePool,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return scores (T, N, C), boxes (T, N, 4) and box scores (T, N) as the encoders might give them.

    Args:
        classes: O assumed classes.
        clip: the rendered clip.
        coverage (`np.ndarray` of shape `(T, O, N)`): share of each patch that shows an object.
        pool: evidence of backgrounds.
        rng: draws everything.
    """
    num_frames, _, num_patches = coverage.shape
    background, boxes, box_scores = pool.draw(rng)
    scores = np.repeat(background[None], num_frames, 0)
    boxes, box_scores = np.repeat(boxes[None], num_frames, 0), np.repeat(box_scores[None], num_frames, 0)
    _paint_classifier(scores, classes, coverage, pool.likeness, rng)
    # Detections of the background that lie on objects are gone with what was there.
    hidden = coverage.sum(1) > 0.5
    scores[..., ENCODER_STARTS[1] :][hidden] = 0
    box_scores[hidden] = 0
    for encoder in (1, 2):
        low, high = ENCODER_STARTS[encoder], ENCODER_STARTS[encoder + 1]
        people = low + np.flatnonzero(fits("person")[low:high])
        for o, known in enumerate(classes):
            column = None if known is None else known.columns[encoder]
            if column is None and rng.random() < _SHARE_FALSE_CLASS:
                person = rng.random() < _SHARE_TAKEN_FOR_PERSON
                false = int(rng.choice(people)) if person and len(people) else int(rng.integers(low, high))
                score = 0.05 + 0.9 * rng.beta(1, 2.2)
                _detect(scores, boxes, box_scores, clip, o, false, (score, score), rng)
            elif column is not None and rng.random() < _SHARE_SEEN:
                if rng.random() < _SHARE_MISTAKEN:
                    _detect(scores, boxes, box_scores, clip, o, int(rng.integers(low, high)), (0.05, 0.5), rng)
                score = rng.uniform(0.15, 0.98)
                for _ in range(rng.poisson(_ALIKE)):  # weaker ones of the same class, elsewhere
                    box, weaker = _random_box(rng), score * rng.uniform(*_ALIKE_SCORES)
                    for t in range(num_frames):
                        _paint_box(scores[t], boxes[t], box_scores[t], box, column, weaker)
                _detect(scores, boxes, box_scores, clip, o, column, (score, score), rng)
        for _ in range(rng.poisson(_FALSE_DETECTIONS)):
            box, column, score = _random_box(rng), int(rng.integers(low, high)), rng.uniform(0.05, 0.3)
            for t in range(num_frames):
                _paint_box(scores[t], boxes[t], box_scores[t], box, column, score)
    return scores, boxes, box_scores


def _paint_classifier(
    scores: NDArray[np.float32],
    classes: list[AssumedClass | None],
    coverage: NDArray[np.float32],
    likeness: NDArray[np.float16],
    rng: np.random.Generator,
) -> None:
    """Mix the posteriors of the objects into the background's, blurred as a receptive field blurs them."""
    num_frames, num_objects, num_patches = coverage.shape
    side = round(num_patches**0.5)
    count = ENCODER_STARTS[1]
    area = coverage.sum(-1)  # (T, O) in patches
    spread = 0.6 * coverage + 0.4 * _blurred(coverage.reshape(-1, side, side)).reshape(coverage.shape)
    spread *= np.minimum(1, np.sqrt(area / 3))[..., None]  # a small object is lost in its surroundings
    spread /= np.maximum(1, spread.sum(1, keepdims=True))
    scores[..., :count] *= (1 - spread.sum(1))[..., None]
    for o, known in enumerate(classes):
        column = None if known is None else known.columns[0]
        strength = rng.uniform(9, 20)
        if column is None or rng.random() >= _SHARE_SEEN:
            column, strength = int(rng.integers(count)), rng.uniform(2, 8)
        elif rng.random() < _SHARE_MISTAKEN:
            column = int(rng.choice(np.argsort(likeness[column])[-12:]))
        logits = strength * likeness[column].astype(np.float32) + rng.standard_normal(count)
        # Cells are sure of different parts: some of the class, some of another, and much the same in the next frame.
        steady = rng.uniform(0.2, 1.0, num_patches)
        stray = rng.standard_normal((num_patches, count)).astype(np.float32)
        for t in range(num_frames):
            seen = spread[t, o] > 0
            sure = np.clip(steady[seen] + 0.1 * rng.standard_normal(seen.sum()), 0.1, 1.1)
            shaken = logits * sure[:, None] + (1.3 - sure[:, None]) * 2.0 * stray[seen]
            posterior = np.exp(shaken - shaken.max(1, keepdims=True))
            posterior /= posterior.sum(1, keepdims=True)
            scores[t, seen, :count] += spread[t, o, seen, None] * posterior


def _blurred(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps (M, S, S), each place the mean of the 3x3 around it."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    side = maps.shape[1]
    return sum(padded[:, i : i + side, j : j + side] for i in range(3) for j in range(3)) / 9


def _detect(
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    box_scores: NDArray[np.float32],
    clip: RenderedClip,
    index: int,
    column: int,
    score_range: tuple[float, float],
    rng: np.random.Generator,
) -> None:
    """Paint detections of one object into the frames that show it."""
    score = rng.uniform(*score_range)
    for t in np.flatnonzero(clip.visible[:, index]):
        fraction = min(1.0, 2 * float(clip.visible_fraction[t, index]))
        shown = score * fraction * rng.uniform(0.7, 1.0)
        if shown < 0.05 or rng.random() < 0.1:
            continue
        box = clip.boxes_xyxy_norm[t, index]
        extent = np.tile(box[2:] - box[:2], 2)
        moved = np.clip(box + extent * rng.normal(0, _BOX_DEVIATION, 4), 0, 1).astype(np.float32)
        if (moved[2:] - moved[:2]).min() > 0.01:
            _paint_box(scores[t], boxes[t], box_scores[t], moved, column, shown)


def _paint_box(
    scores: NDArray[np.float32],
    boxes: NDArray[np.float32],
    box_scores: NDArray[np.float32],
    box: NDArray[np.float32],
    column: int,
    score: float,
) -> None:
    """Give the patches whose centre lies in a box, or the one around its centre, the box's class and place."""
    side = round(len(scores) ** 0.5)
    centres = (np.arange(side) + 0.5) / side
    inside = ((centres > box[1]) & (centres < box[3]))[:, None] & ((centres > box[0]) & (centres < box[2]))
    if not inside.any():
        middle = np.minimum((box[:2] + box[2:]) / 2 * side, side - 1).astype(int)
        inside[middle[1], middle[0]] = True
    patches = inside.ravel()
    scores[patches, column] = np.maximum(scores[patches, column], score)
    better = patches & (box_scores < score)
    boxes[better], box_scores[better] = box, score


def _random_box(rng: np.random.Generator) -> NDArray[np.float32]:
    size = np.exp(rng.uniform(np.log(0.05), np.log(0.7), 2))
    low = rng.uniform(0, 1 - size)
    return np.concatenate([low, low + size]).astype(np.float32)
