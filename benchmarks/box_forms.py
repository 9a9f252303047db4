"""What a box costs in each form: characters, tokens, and the error that writing it brings.

    python benchmarks/box_forms.py --tokenizer checkpoints/elysium-tiny [--tokenizer DIR …]

A tokenizer is a folder that `AutoTokenizer` reads, or a `.gguf` file in one (which needs the packages gguf and
protobuf). Tokens of a box are those that it adds behind ``Frame 1:``, its space included. The boxes are random,
seeded, the same for every form. The error is the mean distance of a coordinate from its decoded one, in percent of the
picture. The form `elysium` is the baseline of the ratio.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean

from elysium.processing.boxes_elysium import FORMS, ROUNDINGS, BoxFloats, format_box, format_frames, parse_box

LABEL = "Frame 1:"


def random_boxes(count: int, seed: int) -> list[BoxFloats]:
    """Boxes in 0..1 whose sides are at least 2% of the picture."""
    rng = random.Random(seed)
    boxes: list[BoxFloats] = []
    while len(boxes) < count:
        (x1, x2), (y1, y2) = (sorted((rng.random(), rng.random())) for _ in range(2))
        if min(x2 - x1, y2 - y1) >= 0.02:
            boxes.append((x1, y1, x2, y2))
    return boxes


def load_counter(path: Path) -> Callable[[str], int]:
    """A function that counts the tokens of a text, without the tokens that open a sequence."""
    from transformers import AutoTokenizer  # slow to import

    if not path.exists():
        raise FileNotFoundError(f"a tokenizer must be a folder or a .gguf file, got {path}, which does not exist")
    if path.suffix == ".gguf":
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    else:
        tokenizer = AutoTokenizer.from_pretrained(path)
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def error_percent(boxes: list[BoxFloats], form: str, rounding: str) -> float:
    """Mean distance of a written and read coordinate from the true one, in percent of the picture."""
    distances = []
    for box in boxes:
        decoded = parse_box(format_box(box, rounding=rounding, form=form), rounding=rounding, form=form).box_xyxy_norm
        if decoded is None:
            raise RuntimeError(f"the form {form} did not read back {box}")
        distances += [abs(true - read) for true, read in zip(box, decoded, strict=True)]
    return 100 * mean(distances)


def measure(boxes: list[BoxFloats], form: str, counters: dict[str, Callable[[str], int]]) -> dict[str, object]:
    """The row of a form: characters and tokens of a box, tokens of an answer of 8 frames, errors."""
    texts = [format_box(box, form=form) for box in boxes]
    answers = [format_frames(boxes[start : start + 8], form=form) for start in range(0, len(boxes) - 7, 8)]
    row: dict[str, object] = {"form": form, "example": texts[0], "characters": round(mean(map(len, texts)), 2)}
    for name, count in counters.items():
        tokens = [count(f"{LABEL} {text}") - count(LABEL) for text in texts]
        row[f"tokens {name}"] = round(mean(tokens), 2)
        row[f"most tokens {name}"] = max(tokens)
        row[f"tokens of 8 frames {name}"] = round(mean(map(count, answers)), 1)
    for rounding in ROUNDINGS:
        row[f"error % {rounding}"] = round(error_percent(boxes, form, rounding), 4)
    return row


def print_table(rows: list[dict[str, object]], names: list[str]) -> None:
    print(f"{'form':<12}{'example':<31}{'characters':>11}{'error %':>9}")
    for row in rows:
        print(f"{row['form']:<12}{row['example']:<31}{row['characters']:>11}{row['error % floor']:>9}")
    for name in names:
        print(f"\n{name:<31}{'tokens/box':>11}{'most':>6}{'8 frames':>10}{'ratio':>7}")
        for row in rows:
            cells = (f"tokens {name}", f"most tokens {name}", f"tokens of 8 frames {name}", f"ratio {name}")
            tokens, most, frames, ratio = (row[cell] for cell in cells)
            print(f"{row['form']:<31}{tokens:>11}{most:>6}{frames:>10}{ratio:>7}")


def main() -> int:
    parser = argparse.ArgumentParser(description="What a box costs in each form.")
    parser.add_argument("--tokenizer", type=Path, action="append", default=[], help="folder or .gguf file; repeatable")
    parser.add_argument("--count", type=int, default=1000, help="how many boxes, at least 8")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.count < 8:
        parser.error(f"--count must be at least 8, the frames of one answer, got {arguments.count}")
    names = [path.stem for path in arguments.tokenizer]
    if len(set(names)) < len(names):
        parser.error(
            f"--tokenizer must be given with different names, got {', '.join(names)}; link one by another name"
        )

    boxes = random_boxes(arguments.count, arguments.seed)
    try:
        counters = {name: load_counter(path) for name, path in zip(names, arguments.tokenizer, strict=True)}
    except (OSError, ImportError) as error:
        parser.error(str(error))
    rows = [measure(boxes, form, counters) for form in FORMS]
    for name in counters:
        baseline = float(str(rows[0][f"tokens {name}"]))
        for row in rows:
            row[f"ratio {name}"] = round(float(str(row[f"tokens {name}"])) / baseline, 2)
    print_table(rows, names)
    print(json.dumps({"benchmark": "box_forms", "count": arguments.count, "seed": arguments.seed, "forms": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
