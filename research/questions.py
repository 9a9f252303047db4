"""Count how often a checkpoint answers questions about videos rightly, by kind of question.

    python -m research.questions --model elysium-small --clips 60 --out research/results/small_questions.json

Two sets of clips: scenes of coloured shapes that no training saw (a world of their own, 16 frames of 480x360), and the
real clips of both splits. The truth is the generator's, and for real clips the true boxes, `NOUNS`, `NOT_SHOWN` and
`COLOURS_SHOWN`. A side is asked for where the object is off the middle by a tenth of the width at first, a movement
where it goes an eighth of it from first to last. Every scene is asked for shapes that it has and for two that it has
not, and to count its objects. An answer is right where it is the word of the truth. The last line is JSON.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.bench import hardware, markdown_table, write_record
from elysium.processing.structures import VideoClip
from elysium.tracking.tracker import Tracker
from elysium.training.synthetic.dataset import CLIP_SCENE
from elysium.training.synthetic.render import render_clip
from elysium.training.synthetic.scene import World
from elysium.training.synthetic.sprites import COLOURS, KINDS
from research.real_clips import chosen_entries
from research.scenes.questions import scene_questions, with_article
from research.tracking_table.clips import Clip, read_real_clip

WORLD_SEED = 7001
NOUNS = {
    "cup": "cup", "cockatoo": "bird", "woman_in_red": "woman", "woman_on_grass": "woman", "coin": "coin",
    "cyclist": "man", "man_in_black": "man", "box": "box", "rabbit": "rabbit", "car_behind_fence": "car",
    "parked_bicycle": "bicycle", "woman_walking": "woman", "jumper": "man", "man_on_treadmill": "man",
}  # fmt: skip
NOT_SHOWN = ("giraffe", "pizza", "guitar", "airplane")
COLOURS_SHOWN = {"cup": "black", "box": "yellow", "coin": "brown", "cockatoo": "white"}
OFF_MIDDLE, MOVES = 0.1, 0.12

Question = tuple[VideoClip, str, str]  # clip, question, answer


def kind_of(question: str, answer: str) -> str:
    """Return the kind of a question.

    >>> kind_of("Is there an owl?", "no"), kind_of("Is the owl on the left or on the right?", "left")
    ('there, and it is not', 'side')
    """
    if question.startswith("Is there"):
        return "there, and it is" if answer == "yes" else "there, and it is not"
    starts = {
        "Is the": "side",
        "Does": "movement",
        "What colour": "colour",
        "What shape": "shape",
        "How many": "count",
    }
    return next(kind for start, kind in starts.items() if question.startswith(start))


def scene_set(count: int) -> Iterator[Question]:
    """Yield questions about generated scenes."""
    world, rng = World(WORLD_SEED), np.random.default_rng(0)
    for number in range(count):
        scene = world.sample(number, CLIP_SCENE)
        clip = render_clip(scene, 16, (480, 360))
        names, kinds = {item.name for item in scene.objects}, {item.sprite.kind for item in scene.objects}
        missing = [[f"{colour} {kind}" for colour in COLOURS for kind in KINDS if f"{colour} {kind}" not in names]]
        missing.append([kind for kind in KINDS if kind not in kinds])
        pairs = scene_questions(scene, clip.boxes_xyxy_norm, clip.visible, None)
        pairs += [(f"Is there {with_article(str(rng.choice(some)))}?", "no") for some in missing if some]
        pairs.append(("How many objects are there?", str(len(scene.tracked))))
        video = VideoClip.from_frames(clip.frames, fps=12)
        yield from ((video, question, answer) for question, answer in pairs)


def real_set() -> Iterator[Question]:
    """Yield questions about the real clips."""
    for entry in [*chosen_entries("headline", None), *chosen_entries("selection", None)]:
        clip = read_real_clip(entry)
        yield from ((clip.video, question, answer) for question, answer in real_questions(clip, NOUNS[clip.name]))


def real_questions(clip: Clip, noun: str) -> Iterator[tuple[str, str]]:
    """Yield questions about the object of a clip, and about things that it does not show."""
    yield f"Is there {with_article(noun)}?", "yes"
    yield from ((f"Is there {with_article(other)}?", "no") for other in NOT_SHOWN)
    centres = (clip.boxes_xyxy_px[:, 0] + clip.boxes_xyxy_px[:, 2]) / 2 / clip.video.width
    first, last = centres[clip.visible][[0, -1]]
    if abs(first - 0.5) > OFF_MIDDLE:
        yield f"Is the {noun} on the left or on the right?", "left" if first < 0.5 else "right"
    if abs(last - first) > MOVES:
        yield f"Does the {noun} move to the left or to the right?", "left" if last < first else "right"
    if clip.name in COLOURS_SHOWN:
        yield f"What colour is the {noun}?", COLOURS_SHOWN[clip.name]


def count_right(tracker: Tracker, questions: Sequence[Question]) -> dict[str, dict[str, int]]:
    """Return for each kind the number of questions, of right answers, and of the truth that is most frequent."""
    answers = tracker.ask_many([(video, question) for video, question, _ in questions])
    asked: dict[str, Counter[str]] = {}
    right: Counter[str] = Counter()
    for (_, question, truth), answer in zip(questions, answers, strict=True):
        kind = kind_of(question, truth)
        asked.setdefault(kind, Counter())[truth] += 1
        right[kind] += answer == truth
    return {
        kind: {"asked": truths.total(), "right": right[kind], "most_frequent": max(truths.values())}
        for kind, truths in asked.items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Ask, print the counts and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="elysium-small", help="checkpoint folder, shipped name or Hub id")
    parser.add_argument("--clips", type=int, default=60, help="generated scenes (default: 60)")
    parser.add_argument("--out", type=Path, help="JSON to write")
    arguments = parser.parse_args(argv)
    tracker = Tracker.from_pretrained(arguments.model, device="cpu")
    sets = {"scenes": list(scene_set(arguments.clips)), "real clips": list(real_set())}
    found = {name: count_right(tracker, questions) for name, questions in sets.items()}
    rows = [
        [name, kind, *map(str, counts.values())] for name, kinds in found.items() for kind, counts in kinds.items()
    ]
    print(markdown_table(["clips", "question", "asked", "right", "most frequent truth"], rows))
    record = {"model": arguments.model, "hardware": hardware(), "generated_clips": arguments.clips}
    write_record(record | {"counts": found}, arguments.out)


if __name__ == "__main__":
    main()
