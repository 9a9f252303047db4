"""Fuzzes the parser of boxes with random and mutated answers, and says what it recovered.

    python -m research.box_text.parser_fuzz --count 100000

Every answer is written here, not by the codec, and each of its characters carries the place that it came from through
every mutation. A frame is intact where all characters of ``Frame i: <box>`` or ``Frame i: none`` still stand side by
side in their order (and no letter or digit has grown onto ``none``). The parser sees only the text.

Checked for every string: no exception; one sound reading for each expected frame; and for each intact frame exactly
the box that was written. Where mutation made a rival, that is, the same label stands before the intact copy too, there
is no one right answer: then the frame must be read as something, either the written box or what stands at the rival.
A violation is printed with its string and its seed, and the exit code is 1.

The baseline is what a simple reader does: all brackets in order, and nothing at all when their number is wrong.
"""

import argparse
import json
import math
import platform
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from benchmarks.bench import hardware, markdown_table
from elysium.processing.boxes_elysium import ParsedBox, parse_frames

STATUSES = {"ok", "absent", "missing", "malformed", "out_of_range", "inverted", "empty"}
TYPICAL = "Frame :[],.none0123456789-(){}<>\n"
PIECES = [
    "Frame ",
    "Frame 1: ",
    "frame 2:",
    "[1,2,3,4]",
    "none",
    "[0,0,0,0]",
    "], [",
    "Frame 3: [9,9,1,1]",
    "999999999",
]
UNICODE = "\u0000\u200b\u200d\ufeff\u202e\u0301\u00a0\u2028\ud800\udfff\uff11\uff3b\u0661\u00b2é界🚗\U0010ffff\x1b\t"

Character = tuple[str, int | None]  # and the place in the unmutated answer that it came from


@dataclass
class Answer:
    """A written answer: where each frame's text stands in it, and the integers written (`None` for ``none``)."""

    text: str
    spans: list[tuple[int, int]]
    boxes: list[tuple[int, ...] | None]
    rounding: str


@dataclass
class Tally:
    """Counts for one kind of string; `damaged_box` are boxes read where the frame's own text was not intact."""

    strings: int = 0
    frames: int = 0
    intact: int = 0
    recovered: int = 0
    contested: int = 0
    damaged_box: int = 0
    baseline_strings: int = 0
    baseline_intact: int = 0
    baseline_recovered: int = 0
    seconds: float = 0.0
    baseline_seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)


def write_answer(rng: random.Random) -> Answer:
    """An answer for 1 to 12 frames."""
    rounding = rng.choice(["floor", "round"])
    text = ""
    spans: list[tuple[int, int]] = []
    boxes: list[tuple[int, ...] | None] = []
    for frame in range(1, rng.randint(1, 12) + 1):
        largest = 100 - (rounding == "floor")
        xs, ys = sorted(rng.sample(range(largest + 1), 2)), sorted(rng.sample(range(largest + 1), 2))
        box = None if rng.random() < 0.15 else (xs[0], ys[0], xs[1], ys[1])
        written = f"Frame {frame}: " + ("[{},{},{},{}]".format(*box) if box else "none")
        spans.append((len(text), len(text) + len(written)))
        boxes.append(box)
        text += written + ", "
    return Answer(text[:-2] + ".", spans, boxes, rounding)


def delete(chars: list[Character], rng: random.Random) -> list[Character]:
    start = rng.randrange(len(chars) + 1)
    return chars[:start] + chars[start + rng.choice([1, 1, 1, 2, 5, 20]) :]


def insert(chars: list[Character], rng: random.Random) -> list[Character]:
    start = rng.randrange(len(chars) + 1)
    noise = rng.choice(PIECES) if rng.random() < 0.3 else "".join(rng.choices(TYPICAL, k=rng.randint(1, 4)))
    return chars[:start] + [(character, None) for character in noise] + chars[start:]


def truncate(chars: list[Character], rng: random.Random) -> list[Character]:
    cut = rng.randrange(len(chars) + 1)
    return chars[:cut] if rng.random() < 0.8 else chars[cut:]


def swap(chars: list[Character], rng: random.Random) -> list[Character]:
    """Exchanges two neighbouring runs of characters."""
    first, second, third = sorted(rng.randrange(len(chars) + 1) for _ in range(3))
    if rng.random() < 0.5:
        second, third = first + 1, first + 2
    return chars[:first] + chars[second:third] + chars[first:second] + chars[third:]


def duplicate(chars: list[Character], rng: random.Random) -> list[Character]:
    start, target = rng.randrange(len(chars) + 1), rng.randrange(len(chars) + 1)
    return chars[:target] + chars[start : start + rng.choice([1, 2, 8, 30, 100])] + chars[target:]


def add_unicode(chars: list[Character], rng: random.Random) -> list[Character]:
    """Puts characters from all over Unicode between or in place of others."""
    chars = list(chars)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(chars) + 1)
        noise = rng.choice(UNICODE) if rng.random() < 0.7 else chr(rng.randrange(sys.maxunicode + 1))
        chars[start : start + rng.choice([0, 1])] = [(noise, None)]
    return chars


MUTATIONS: dict[str, Callable[[list[Character], random.Random], list[Character]]] = {
    "deletion": delete,
    "insertion": insert,
    "truncation": truncate,
    "swap": swap,
    "duplication": duplicate,
    "unicode": add_unicode,
}


def mutate(answer: Answer, kind: str, rng: random.Random) -> list[Character]:
    if kind == "random":
        return [(character, None) for character in random_text(rng)]
    chars: list[Character] = [(character, place) for place, character in enumerate(answer.text)]
    names = (
        rng.choices(list(MUTATIONS), k=rng.randint(2, 6)) if kind == "several" else [kind] * rng.choice([1, 1, 2, 3])
    )
    for name in names:
        chars = MUTATIONS[name](chars, rng)
    return chars


def random_text(rng: random.Random) -> str:
    """No answer at all: typical characters, pieces and Unicode in any order."""
    sources = [TYPICAL, PIECES, UNICODE, ["[" * 50, "9" * 50, " " * 50, "Frame 1: ["]]
    return "".join(rng.choice(rng.choice(sources)) for _ in range(rng.randrange(60)))


def intact_starts(answer: Answer, chars: list[Character]) -> dict[int, int]:
    """Where the first intact copy of each frame starts in the mutated text, by frame; others are left out."""
    origins = [origin for _, origin in chars]
    starts: dict[int, int] = {}
    for frame, (start, end) in enumerate(answer.spans, start=1):
        whole = list(range(start, end))
        for at, origin in enumerate(origins):
            if origin != start or origins[at : at + len(whole)] != whole:
                continue
            following = chars[at + len(whole)][0] if at + len(whole) < len(chars) else ""
            if answer.boxes[frame - 1] is None and (following.isalnum() or following == "_"):
                continue
            starts[frame] = at
            break
    return starts


def first_mentions(text: str) -> dict[int, int]:
    """Where ``frame <i>`` stands first, by i, in any case, with any white space and whatever follows."""
    mentions: dict[int, int] = {}
    for match in re.finditer(r"frame\s*([0-9]{1,100})", text, re.IGNORECASE):
        mentions.setdefault(int(match[1]), match.start())
    return mentions


def right_reading(answer: Answer, frame: int, reading: ParsedBox) -> bool:
    """Whether a reading is exactly what was written for the frame, the shares of the picture included."""
    box = answer.boxes[frame - 1]
    if box is None:
        return reading.status == "absent" and reading.box_xyxy_norm is None
    shift = 0.5 if answer.rounding == "floor" else 0.0
    norm = [(number + shift) / 100 for number in box]
    return (
        reading.status == "ok"
        and reading.box_xyxy_bin == box
        and all(abs(a - b) < 1e-12 for a, b in zip(norm, reading.box_xyxy_norm or (), strict=True))
    )


def unsound(readings: list[ParsedBox], num_frames: int, text: str) -> str | None:
    """What is wrong with readings, whatever the text holds: the frames accounted for, and what each field may be."""
    if [reading.frame for reading in readings] != list(range(1, num_frames + 1)):
        return "frames are not 1..T"
    for reading in readings:
        box = reading.box_xyxy_norm
        if reading.status not in STATUSES:
            return f"frame {reading.frame} has the unknown status {reading.status}"
        if reading.valid != (reading.status == "ok") or reading.valid != (box is not None):
            return f"frame {reading.frame} has a box that does not fit its status"
        if box is not None and not (
            0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1 and all(map(math.isfinite, box))
        ):
            return f"frame {reading.frame} has the impossible box {box}"
        if reading.span is not None and not 0 <= reading.span[0] < reading.span[1] <= len(text):
            return f"frame {reading.frame} has a span outside the text"
    return None


def check_recovery(answer: Answer, chars: list[Character], readings: list[ParsedBox], tally: Tally) -> list[str]:
    """Compares the readings of a mutated answer with what is intact in it; returns the violations."""
    text = "".join(character for character, _ in chars)
    starts, mentions = intact_starts(answer, chars), first_mentions(text)
    problems, uncontested = [], []
    for reading in readings:
        start = starts.get(reading.frame)
        if start is None:
            tally.damaged_box += reading.valid
        elif mentions[reading.frame] == start:
            uncontested.append(reading.frame)
            if not right_reading(answer, reading.frame, reading):
                problems.append(f"intact frame {reading.frame} was read as {reading}")
        else:
            tally.contested += 1
            rival = reading.readable and reading.span is not None and reading.span[0] < start
            if not rival and not right_reading(answer, reading.frame, reading):
                problems.append(f"contested frame {reading.frame} was read as {reading}")
    tally.intact += len(uncontested)
    tally.recovered += len(uncontested) - sum(problem.startswith("intact") for problem in problems)
    run_baseline(answer, text, uncontested, tally)
    return problems


def run_baseline(answer: Answer, text: str, intact: list[int], tally: Tally) -> None:
    """All brackets in order, and nothing when their number is wrong; how many of the intact frames are then right."""
    started = time.process_time()
    found = [tuple(map(int, numbers)) for numbers in re.findall(r"\[(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})\]", text)]
    tally.baseline_seconds += time.process_time() - started
    tally.baseline_strings += 1
    tally.baseline_intact += len(intact)
    if len(found) == len(answer.boxes):
        tally.baseline_recovered += sum(found[frame - 1] == answer.boxes[frame - 1] for frame in intact)


def fuzz_one(kind: str, rng: random.Random, tally: Tally) -> list[str]:
    """Makes one string of a kind, parses it, and returns the violations."""
    answer = write_answer(rng)
    chars = mutate(answer, kind, rng)
    text = "".join(character for character, _ in chars)
    tally.strings += 1
    started = time.process_time()
    try:
        readings = parse_frames(text, len(answer.boxes), rounding=answer.rounding)
    except Exception as error:  # what this benchmark is there to find
        return [f"raised {error!r}; rounding {answer.rounding}, text {text!r}"]
    tally.seconds += time.process_time() - started
    tally.frames += len(readings)
    tally.statuses.update(reading.status for reading in readings)
    problem = unsound(readings, len(answer.boxes), text)
    problems = [problem] if problem else check_recovery(answer, chars, readings, tally)
    return [f"{problem}; rounding {answer.rounding}, text {text!r}" for problem in problems]


def print_table(tallies: dict[str, Tally]) -> None:
    columns = ("strings", "frames", "intact", "recovered", "contested", "damaged_box")
    lines = []
    for kind, tally in tallies.items():
        share = f"{tally.baseline_recovered / tally.baseline_intact:.3f}" if tally.baseline_intact else "-"
        speed = round(tally.strings / max(tally.seconds, 1e-9))
        lines.append([kind, *(getattr(tally, column) for column in columns), share, speed])
    print(markdown_table(["kind", *columns, "baseline", "strings/s"], lines))
    print("\nstrings/s: parsing alone, in processor time of one core")
    print("baseline: share of the intact frames that brackets in order read right")


def add_up(tallies: dict[str, Tally]) -> Tally:
    total = Tally()
    for tally in tallies.values():
        for item in fields(Tally):
            setattr(total, item.name, getattr(total, item.name) + getattr(tally, item.name))
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes the parser of boxes with random and mutated answers.")
    parser.add_argument("--count", type=int, default=100_000, help="how many strings")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first string; string n has the seed + n")
    arguments = parser.parse_args()

    kinds = ["random", *MUTATIONS, "several"]
    tallies = {kind: Tally() for kind in kinds}
    violations = 0
    for number in range(arguments.count):
        seed, kind = arguments.seed + number, kinds[number % len(kinds)]
        for problem in fuzz_one(kind, random.Random(seed), tallies[kind]):
            violations += 1
            if violations <= 20:
                print(f"VIOLATION, seed {seed}, {kind}: {problem}")
    total = add_up(tallies)
    print_table({**tallies, "all": total})
    speed = total.strings / max(total.seconds, 1e-9)
    result = {
        "benchmark": "parser_fuzz",
        "hardware": hardware(),
        "python": platform.python_version(),
        "seed": arguments.seed,
        "strings": total.strings,
        "violations": violations,
        "frames": total.frames,
        "intact": total.intact,
        "recovered": total.recovered,
        "contested": total.contested,
        "damaged_read_as_box": total.damaged_box,
        "statuses": dict(total.statuses.most_common()),
        "strings_per_s": round(speed),
        "baseline_recovered_share": round(total.baseline_recovered / max(total.baseline_intact, 1), 4),
        "baseline_speed_ratio": round(speed * total.baseline_seconds / max(total.baseline_strings, 1), 3),
    }
    print(json.dumps(result))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
