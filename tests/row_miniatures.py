"""Miniatures of the data sets that training reads, in their official layouts: squares of pure colours.

Every builder writes into a folder and returns it.
"""

import csv
import json
import shutil
from pathlib import Path

from PIL import Image
from question_miniatures import CORNERS, HEIGHT, SIDE, WIDTH, box_xywh, picture_with, write_video

VIDEO_FRAMES = 20
CSV_COLUMNS = ("video", "frame_idx", "x1", "y1", "x2", "y2", "object", "text")


def write_picture(path: Path, number: int) -> Path:
    """A picture of `question_miniatures` under another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture_with(number)).save(path, quality=95)
    return path


def spoken(*texts: str) -> list[dict]:
    """Turns of a human and of gpt, one after the other."""
    return [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]


def pretrain_entries() -> list[dict]:
    """As `blip_laion_cc_sbu_558k.json` has them: the placeholder before or behind the question."""
    return [
        {
            "id": "004539375",
            "image": "00453/004539375.jpg",
            "conversations": spoken("Render a clear and concise summary of the photo.\n<image>", "squares on black"),
        },
        {
            "id": "002239345",
            "image": "00223/002239345.jpg",
            "conversations": spoken("<image>\nWrite a terse but informative summary.", "three squares – ünïcode"),
        },
    ]


def build_llava_pretrain(root: Path, entries: list | None = None, *, images="") -> Path:
    """The JSON file, and pictures beside it or in a folder there."""
    for entry, number in zip(pretrain_entries(), CORNERS, strict=False):
        write_picture(root / images / entry["image"], number)
    written = json.dumps(pretrain_entries() if entries is None else entries, indent=2, ensure_ascii=False)
    (root / "blip_laion_cc_sbu_558k.json").write_text(written, encoding="utf-8")
    return root


def instruct_entries() -> list[dict]:
    """As `llava_v1_5_mix665k.json` has them: one without a picture, and one id twice."""
    several = spoken("<image>\nWhat is red?", "a square", "And what is blue?", "another square")
    return [
        {"id": "000000033471", "image": "coco/train2017/000000033471.jpg", "conversations": several},
        {"id": "wgByO4Y_0", "model": "", "conversations": spoken("Who are you?", "nobody")},
        {
            "id": "000000033471",
            "image": "coco/train2017/000000033471.jpg",
            "conversations": spoken("How many squares are in <image> here?", "three"),
        },
    ]


def build_llava_instruct(root: Path, entries: list | None = None, *, name="llava_v1_5_mix665k.json") -> Path:
    """The JSON file, and the folders of its data sets beside it."""
    write_picture(root / "coco" / "train2017" / "000000033471.jpg", 9)
    (root / name).write_text(json.dumps(instruct_entries() if entries is None else entries))
    return root


def genome_region(region_id: int, image_id: int, colour: str, **changes) -> dict:
    """A region of Visual Genome: the square of a colour."""
    x, y, width, height = (round(value) for value in box_xywh(image_id, colour))
    region = {"region_id": region_id, "image_id": image_id, "x": x, "y": y, "width": width, "height": height}
    return region | {"phrase": f"the {colour} square"} | changes


def genome_entries() -> list[dict]:
    """Two pictures: regions inside, over the edge, beside the picture, without width and without words."""
    return [
        {
            "id": 9,
            "regions": [
                genome_region(1382, 9, "red"),
                genome_region(1383, 9, "green", x=-10, width=30, y=60, height=30),
                genome_region(1384, 9, "green", x=WIDTH, width=10),
                genome_region(1385, 9, "blue", width=0),
                genome_region(1386, 9, "blue", phrase=" "),
                genome_region(1387, 9, "blue"),
            ],
        },
        {"id": 25, "regions": [genome_region(2001, 25, "blue", phrase="the blue square ")]},
    ]


def build_visual_genome(root: Path, entries: list | None = None) -> Path:
    """One picture in each of the two folders of pictures."""
    write_picture(root / "VG_100K" / "9.jpg", 9)
    write_picture(root / "VG_100K_2" / "25.jpg", 25)
    (root / "region_descriptions.json").write_text(json.dumps(genome_entries() if entries is None else entries))
    sizes = [
        {
            "image_id": number,
            "width": WIDTH,
            "height": HEIGHT,
            "url": f"https://x/VG_100K/{number}.jpg",
            "coco_id": None,
        }
        for number in (9, 25)
    ]
    (root / "image_data.json").write_text(json.dumps(sizes))
    return root


def videochat_entries() -> list[dict]:
    """A conversation with an instruction, a caption that has nothing but one, and an entry about a picture."""
    return [
        {
            "video": "webvid/001/1.mp4",
            "QA": [
                {"i": "Watch the video.", "q": "How many squares move? ", "a": "three"},
                {"i": "Watch the video.", "q": "Is one red?", "a": " yes"},
            ],
        },
        {"video": "webvid/001/2.5.mp4", "QA": [{"i": "Describe the video.", "q": "", "a": "Squares move."}]},
        {"image": "coco/1.jpg", "QA": [{"i": "", "q": "What is it?", "a": "a square"}]},
        {"video": "webvid/3.mkv", "type": "conversation", "QA": [{"q": "What moves?", "a": "squares"}]},
    ]


def build_videochat(root: Path, entries: list | None = None, *, videos="videos") -> Path:
    """Videos of which one is stored with another suffix than its entry says."""
    first = write_video(root / videos / "webvid" / "001" / "1.mp4", num_frames=VIDEO_FRAMES)
    (root / videos / "webvid" / "001" / "2.5.webm").write_bytes(first.read_bytes())
    (root / videos / "webvid" / "3.mkv").write_bytes(first.read_bytes())
    (root / "videochat_instruct_11k.json").write_text(json.dumps(videochat_entries() if entries is None else entries))
    return root


def square_box(frame: int, colour="red") -> list[int]:
    """x1,y1,x2,y2 in pixels of a square in a frame of `write_video`: it moves by 2 to the right until the edge."""
    x, y = CORNERS[9][colour]
    room = WIDTH - SIDE - x
    offset = (2 * frame) % (2 * room)
    x += min(offset, 2 * room - offset)
    return [x, y, x + SIDE, y + SIDE]


def user_lines(frames=(0, 5, 10), colour="red", *, absent=(), text=None) -> list[list]:
    """Lines of a CSV file about one square of `cup.mp4`, in the order of `CSV_COLUMNS`."""
    boxes = [[""] * 4 if frame in absent else square_box(frame, colour) for frame in frames]
    return [
        ["cup.mp4", frame, *box, colour, text or f"the {colour} square"]
        for frame, box in zip(frames, boxes, strict=True)
    ]


def write_csv(path: Path, lines: list[list], columns=CSV_COLUMNS, *, delimiter=",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        table.writerow(columns)
        table.writerows(lines)
    return path


def build_user_folder(root: Path, lines: list[list] | None = None, columns=CSV_COLUMNS) -> Path:
    """`cup.mp4` with 20 frames of moving squares beside `boxes.csv`, by default about the red and the blue square."""
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "cup.mp4").exists():
        write_video(root / "cup.mp4", num_frames=VIDEO_FRAMES)
    both = user_lines() + user_lines((0, 3), "blue", absent=(3,))
    write_csv(root / "boxes.csv", both if lines is None else lines, columns)
    return root


def copy_video(root: Path, name: str) -> Path:
    """`cup.mp4` of a folder once more, below it."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / "cup.mp4", root / name)
    return root / name
