"""Miniatures of the data sets of expressions and questions, in their exact official layouts: squares of pure colours.

Three pictures of 96x72 with a red, a green and a blue square of 24 pixels each; videos of moving squares.
"""

import csv
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from seeing_model import squares

from elysium.processing.video_io import VideoWriter

WIDTH, HEIGHT, SIDE = 96, 72, 24
COLOURS = ("red", "green", "blue")
# Upper left corners by picture (its COCO id) and colour.
CORNERS = {
    9: {"red": (4, 6), "green": (40, 10), "blue": (60, 40)},
    25: {"red": (60, 40), "green": (8, 40), "blue": (30, 8)},
    581857: {"red": (36, 24), "green": (2, 2), "blue": (70, 46)},
}
# ref_id, picture, colour, split, sentences
REFERENCES = (
    (11, 9, "red", "train", ["red square"]),
    (12, 9, "green", "val", ["the green square", "green one"]),
    (13, 25, "blue", "val", ["the blue square"]),
    (14, 581857, "red", "testA", ["the red square", "red thing in the middle"]),
    (15, 581857, "blue", "testB", ["the blue square"]),
)
GOOGLE_SPLITS = {"testA": "train", "testB": "val"}  # Google's partition has no testA and testB


def picture_name(number: int) -> str:
    return f"COCO_train2014_{number:012d}.jpg"


def picture_with(number: int) -> np.ndarray:
    frames, _ = squares(1, CORNERS[number], width=WIDTH, height=HEIGHT, side=SIDE)
    return frames[0]


def box_xywh(number: int, colour: str) -> list[float]:
    return [float(value) for value in (*CORNERS[number][colour], SIDE, SIDE)]


def box_xyxy(number: int, colour: str) -> list[float]:
    x, y, width, height = box_xywh(number, colour)
    return [x, y, x + width, y + height]


def python2_pickle(value) -> bytes:
    """A pickle as Python 2 wrote it: protocol 0, its `str` as byte strings, its `unicode` where it is not ASCII."""
    return _python2(value) + b"."


def _python2(value) -> bytes:
    if isinstance(value, dict):
        return b"(d" + b"".join(_python2(key) + _python2(item) + b"s" for key, item in value.items())
    if isinstance(value, list):
        return b"(l" + b"".join(_python2(item) + b"a" for item in value)
    if isinstance(value, int):
        return b"I%d\n" % value
    if isinstance(value, bytes):
        return b"S" + repr(value)[1:].encode() + b"\n"
    return b"S" + repr(value).encode() + b"\n" if value.isascii() else b"V" + value.encode("latin-1") + b"\n"


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in CORNERS:
        Image.fromarray(picture_with(number)).save(folder / picture_name(number), quality=95)


def reference_rows(*, google: bool = False) -> list[dict]:
    rows = []
    for ref_id, picture, _, split, sentences in REFERENCES:
        split = GOOGLE_SPLITS.get(split, split) if google else split
        rows.append(
            {
                "sent_ids": [ref_id * 10 + number for number in range(len(sentences))],
                # as the real files have it: the annotation's number stands in the name, which no picture has
                "file_name": picture_name(picture).replace(".jpg", f"_{ref_id}.jpg"),
                "ann_id": ref_id + 100,
                "ref_id": ref_id,
                "image_id": picture,
                "split": split,
                "sentences": [
                    {"tokens": text.split(), "raw": text.capitalize(), "sent_id": ref_id * 10 + number, "sent": text}
                    for number, text in enumerate(sentences)
                ],
                "category_id": 1,
            }
        )
    return rows


def instances() -> dict:
    return {
        "info": {},
        "licenses": [],
        "images": [
            {"id": number, "file_name": picture_name(number), "width": WIDTH, "height": HEIGHT, "license": 1}
            for number in CORNERS
        ],
        "annotations": [
            {
                "id": ref_id + 100,
                "image_id": picture,
                "bbox": box_xywh(picture, colour),
                "area": 576,
                "category_id": 1,
                "iscrowd": 0,
            }
            for ref_id, picture, colour, *_ in REFERENCES
        ],
        "categories": [{"id": 1, "name": "square", "supercategory": "shape"}],
    }


def build_refer(root: Path, *, pictures="images/train2014") -> Path:
    """The folder `data` of the `refer` repository: three data sets, RefCOCOg in both of its partitions."""
    write_pictures(root / pictures)
    for dataset, names in (("refcoco", ["unc"]), ("refcoco+", ["unc"]), ("refcocog", ["umd", "google"])):
        folder = root / dataset
        folder.mkdir(parents=True)
        (folder / "instances.json").write_text(json.dumps(instances()))
        for name in names:
            rows = reference_rows(google=name == "google")
            (folder / f"refs({name}).p").write_bytes(python2_pickle(rows))
    return root


def encoded_rows(split="val") -> list[dict]:
    """As `lmms-lab/RefCOCO` has them: encoded pictures, all sentences of an object in `answer`, x,y,w,h."""
    rows = []
    for ref_id, picture, colour, own, sentences in REFERENCES:
        if own == split:
            path = Path(picture_name(picture))
            rows.append(
                {
                    "question_id": str(ref_id),
                    "image": {"bytes": _png(picture), "path": path.name},
                    "question": "Please carefully observe the area circled in the image and come up with a caption.",
                    "answer": sentences,
                    "segmentation": [0.0],
                    "bbox": box_xywh(picture, colour),
                    "iscrowd": 0,
                    "file_name": path.name,
                }
            )
    return rows


def write_parquet(path: Path, rows: list[dict]) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def _png(number: int) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(picture_with(number)).save(buffer, "PNG")
    return buffer.getvalue()


def write_video(path: Path, *, num_frames=20) -> Path:
    """Squares that move; any suffix, since a decoder looks at the content."""
    frames, _ = squares(num_frames, CORNERS[9], width=WIDTH, height=HEIGHT, side=SIDE)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        first, *rest = [Image.fromarray(frame) for frame in frames]
        first.save(path, save_all=True, append_images=rest, duration=100, loop=0)
        return path
    whole = path.with_name(f"{path.stem}.whole.mp4")
    with VideoWriter(whole, 10.0, WIDTH, HEIGHT) as writer:
        for frame in frames:
            writer.write(frame)
    shutil.move(whole, path)
    return path


def build_msvd_qa(root: Path) -> Path:
    """Two videos with YouTube's names, four questions."""
    names = {"vid1201": "-4wsuPCjDBc_5_15", "vid1202": "-7KMZQEsJW4_205_208"}
    for name in names.values():
        write_video(root / "YouTubeClips" / f"{name}.avi")
    (root / "youtube_mapping.txt").write_text("".join(f"{name} {number}\n" for number, name in names.items()))
    rows = [
        ("how many frames are there?", "16", 1201),
        ("what moves?", "square", 1201),
        ("who moves?", "nobody", 1202),
        ("how many frames are seen?", "12", 1202),
    ]
    _write_question_list(root / "test_qa.json", rows)
    return root


def build_msrvtt_qa(root: Path) -> Path:
    """One video, whose number is part of its name."""
    write_video(root / "video" / "video7010.mp4")
    _write_question_list(root / "test_qa.json", [("how many frames are there?", "16", 7010)])
    return root


def _write_question_list(path: Path, rows) -> None:
    listed = [
        {"answer": answer, "category_id": 14, "id": 158581 + number, "question": question, "video_id": video}
        for number, (question, answer, video) in enumerate(rows)
    ]
    path.write_text(json.dumps(listed))


def build_tgif_qa(root: Path) -> Path:
    """FrameQA: one GIF, questions of two types."""
    name = "tumblr_nk172bbdPI1u1lr18o1_250"
    write_video(root / "gifs" / f"{name}.gif")
    with (root / "Test_frameqa_question.csv").open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["gif_name", "question", "answer", "type", "vid_id", "key"])
        table.writerow([name, "how many frames are there ?", "sixteen", 1, "FRAMEQA1", 25])
        table.writerow([name, 'what is "red" ?', "square", 0, "FRAMEQA2", 26])
    return root


def build_activitynet_qa(root: Path) -> Path:
    """Three videos, each with another suffix; answers in another order than questions."""
    names = ("1QIUV7WYKXg", "qqgl0BR4Nqo", "sJFgo9H6zNo")
    for name, suffix in zip(names, (".mp4", ".mkv", ".webm"), strict=True):
        write_video(root / "videos" / f"v_{name}{suffix}")
    questions = [
        {"video_name": name, "question": "how many frames are there", "question_id": f"v_{name}_1"} for name in names
    ]
    answers = [
        {"answer": answer, "type": kind, "question_id": f"v_{name}_1"}
        for name, answer, kind in zip(names, ("16", "yes", "11"), (7, 3, 7), strict=True)
    ]
    (root / "test_q.json").write_text(json.dumps(questions))
    (root / "test_a.json").write_text(json.dumps(answers[::-1]))
    return root


def build_plain_qa(root: Path) -> Path:
    """`test.jsonl` beside its video."""
    write_video(root / "clips" / "one.mp4")
    rows = [
        {"video": "clips/one.mp4", "question": "how many frames are there?", "answer": "16", "type": "count"},
        {"video": "clips/one.mp4", "question": "is it red?", "answer": "no"},
    ]
    (root / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def malicious_pickle(path: Path, marker: Path) -> Path:
    """A pickle that writes a file when it is loaded without care."""

    class Payload:
        def __reduce__(self):
            return (Path.touch, (marker,))

    path.write_bytes(pickle.dumps([Payload()]))
    return path
