"""What a box costs in each form, and how well a small model learns to write it.

    python -m research.box_text.coordinate_forms --tokenizer llama-32k.gguf --tokenizer checkpoints/elysium-tiny
    python -m research.box_text.coordinate_forms --train --tower runs/tower.safetensors --bank runs/sprites.npz

1. Cost: characters, tokens, and the error that writing brings, of every form in forms.py. A tokenizer is
   a folder of `AutoTokenizer`, or a `.gguf` file in one (which needs the packages gguf and protobuf). Tokens of a box
   are those that it adds behind ``Frame 1:``, its space included. The boxes are random, seeded, the same for every
   form. The error is the mean distance of a coordinate from its decoded one, in percent of the picture. The form
   `elysium` is the baseline of the ratio.
2. Accuracy (`--train`): one small model for each form, from nothing, for the same steps on the same kept features
   (see compression.py) with T-Selector and a supervised gate at 25 of 100 tokens a frame. Greedy decoding, in which
   the form's own marks are given; a coordinate is read at the middle of its unit, an inverted pair turned round.
   Coordinates of one token may be learned as a scale (`scale`: near integers share a label's weight, the expected
   coordinate has a loss) or, as digits have to be, as classes.

The last line is JSON.
"""

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.bench import hardware, markdown_table, write_record
from elysium.processing.boxes_elysium import ROUNDINGS, Box
from research.box_text.forms import FORMS, Form
from research.compression.answers import BoxForm
from research.compression.features import NUM_PATCHES
from research.compression.report import spread
from research.compression.run import BASE_HOLD, BASE_PEAK, add_arguments, prepare, start_pool
from research.compression.runs import Run, do_runs, load_coder
from research.compression.variants import variants

LABEL = "Frame 1:"
FIGURES = ("rec_iou", "rec_over_half", "sot_iou", "sot_over_half", "first_box_repeated")
KEPT = 25
TRAINED = (
    BoxForm(name="integers, scale"),
    BoxForm(name="integers", scale_losses=False),
    BoxForm(name="integers by digit", base=10, digits=2, scale_losses=False),
    BoxForm(name="per mille by digit", base=10, digits=3, scale_losses=False),
    BoxForm(name="decimals by digit", base=10, digits=3, lead="0.", scale_losses=False),
    BoxForm(name="centre and size, scale", centre=True),
)


def random_boxes(count: int, seed: int) -> list[Box]:
    """Boxes in 0..1 whose sides are at least 2% of the picture."""
    rng = random.Random(seed)
    boxes: list[Box] = []
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


def error_percent(boxes: list[Box], form: Form, rounding: str) -> float:
    """Mean distance of a written and read coordinate from the true one, in percent of the picture."""
    distances = []
    for box in boxes:
        decoded = form.read(form.write(box, rounding), rounding)
        distances += [abs(true - read) for true, read in zip(box, decoded, strict=True)]
    return 100 * mean(distances)


def measure(boxes: list[Box], form: Form, counters: dict[str, Callable[[str], int]]) -> dict[str, Any]:
    """The row of a form: characters and tokens of a box, tokens of an answer of 8 frames, errors."""
    texts = [form.write(box) for box in boxes]
    answers = [form.write_frames(boxes[start : start + 8]) for start in range(0, len(boxes) - 7, 8)]
    row: dict[str, Any] = {"form": form.name, "example": texts[0], "characters": round(mean(map(len, texts)), 2)}
    for name, count in counters.items():
        tokens = [count(f"{LABEL} {text}") - count(LABEL) for text in texts]
        row[f"tokens {name}"] = round(mean(tokens), 2)
        row[f"most tokens {name}"] = max(tokens)
        row[f"tokens of 8 frames {name}"] = round(mean(map(count, answers)), 1)
    for rounding in ROUNDINGS:
        row[f"error % {rounding}"] = round(error_percent(boxes, form, rounding), 4)
    return row


def measure_costs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each form in forms.py, with ratios to the first; printed.

    Raises:
        ValueError: tokenizers of one name, or one that is not there.
    """
    names = [path.stem for path in arguments.tokenizer]
    if len(set(names)) < len(names):
        raise ValueError(
            f"--tokenizer must be given with different names, got {', '.join(names)}; link one by another"
        )
    try:
        counters = {name: load_counter(path) for name, path in zip(names, arguments.tokenizer, strict=True)}
    except (OSError, ImportError) as error:
        raise ValueError(str(error)) from error
    boxes = random_boxes(arguments.count, arguments.seed)
    rows = [measure(boxes, form, counters) for form in FORMS.values()]
    for name in names:
        for row in rows:
            row[f"ratio {name}"] = round(row[f"tokens {name}"] / rows[0][f"tokens {name}"], 2)
    print_costs(rows, names)
    return rows


def print_costs(rows: list[dict[str, Any]], names: list[str]) -> None:
    """One table of the forms, and one for each tokenizer."""
    keys = ("form", "example", "characters", "error % floor")
    print(markdown_table(["form", "example", "characters", "error %"], [[row[key] for key in keys] for row in rows]))
    for name in names:
        keys = ("form", f"tokens {name}", f"most tokens {name}", f"tokens of 8 frames {name}", f"ratio {name}")
        heading = [name, "tokens/box", "most", "8 frames", "ratio"]
        print("\n" + markdown_table(heading, [[row[key] for key in keys] for row in rows]))


def measure_accuracy(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each form of `TRAINED`; printed as they are done, and as a table in Markdown."""
    variant = variants(KEPT, NUM_PATCHES)["selector+gate"]
    settings = {"steps": arguments.steps, "learning_rate": BASE_PEAK, "hold": BASE_HOLD, "guided": True}
    runs = [
        Run(variant=variant, form=form, seed=seed, **settings) for seed in range(arguments.seeds) for form in TRAINED
    ]
    with start_pool(arguments.workers) as pool:
        place = prepare(arguments, pool)
        records = do_runs(runs, place, pool)
    rows: list[dict[str, Any]] = []
    for form in TRAINED:
        found = [record["figures"] for record in records if record["settings"]["form"]["name"] == form.name]
        box = load_coder(form).box((0.758, 0.259, 0.844, 0.421))[0]
        figures = {key: [round(values[key], 4) for values in found] for key in FIGURES}
        rows.append({"form": form.name, "tokens a box": len(box), "units": form.units} | figures)
    print_accuracy(rows, arguments)
    return rows


def print_accuracy(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Markdown, one line a form."""
    repeated = rows[0]["first_box_repeated"][0]
    print(f"\nseeds: {arguments.seeds}; {arguments.steps} steps each; first box repeated: SOT IoU {repeated:.3f}")
    lines = [
        [row["form"], row["tokens a box"], row["units"], *(spread(np.array(row[key]), 3) for key in FIGURES[:4])]
        for row in rows
    ]
    heading = ["form", "tokens a box", "units", "REC IoU", "REC > 0.5", "SOT IoU", "SOT > 0.5"]
    print(markdown_table(heading, lines))


def main() -> int:
    """Measures, prints tables and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, action="append", default=[], help="folder or .gguf file; repeatable")
    parser.add_argument("--count", type=int, default=1000, help="how many boxes, at least 8")
    parser.add_argument("--seed", type=int, default=0, help="of the boxes")
    parser.add_argument("--train", action="store_true", help="also train a model for each form")
    add_arguments(parser)
    parser.add_argument("--steps", type=int, default=240, help="of each model")
    parser.add_argument("--seeds", type=int, default=2, help="of each form")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    if arguments.count < 8:
        parser.error(f"--count must be at least 8, the frames of one answer, got {arguments.count}")
    try:
        record = {"benchmark": "coordinate_forms", "count": arguments.count, "costs": measure_costs(arguments)}
    except ValueError as error:
        parser.error(str(error))
    if arguments.train:
        accuracy = {"steps": arguments.steps, "seeds": arguments.seeds, "forms": measure_accuracy(arguments)}
        record |= {"accuracy": accuracy, "hardware": hardware()}
    write_record(record, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
