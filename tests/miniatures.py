"""Miniatures of the tracking benchmarks in their exact official layouts: pictures of moving squares with true boxes.

Every builder writes into a folder and returns it.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from seeing_model import squares

WIDTH, HEIGHT, SIDE = 96, 72, 24
LENGTH = 10
STARTS = {"red": (4, 8), "blue": (30, 40)}


def pictures_and_boxes(num_frames=LENGTH, colour="red", hidden=()):
    """Frames (T, H, W, 3) and the boxes of one square as x,y,w,h (T, 4), NaN where it is hidden."""
    frames, boxes = squares(num_frames, STARTS, width=WIDTH, height=HEIGHT, side=SIDE, hidden=hidden)
    corners = boxes[colour]
    return frames, np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def write_pictures(folder: Path, frames, name="{:08d}.jpg", first=1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start=first):
        Image.fromarray(frame).save(folder / name.format(number), quality=95)


def write_numbers(path: Path, values, *, between=",", fmt="%g") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, values, delimiter=between, fmt=fmt)


def build_lasot(root: Path, names=("airplane-1", "airplane-2", "cup-7")) -> Path:
    """The second sequence's square is out of view in frames 4 and 5; its truth is zero there."""
    for number, name in enumerate(names):
        hidden = (3, 4) if number == 1 else ()
        frames, boxes = pictures_and_boxes(colour="red" if number % 2 == 0 else "blue", hidden=hidden)
        place = root / name.split("-")[0] / name
        write_pictures(place / "img", frames)
        write_numbers(place / "groundtruth.txt", np.nan_to_num(boxes))
        away = ",".join(str(int(frame in hidden)) for frame in range(len(frames)))
        (place / "out_of_view.txt").write_text(away + "\n")
        (place / "full_occlusion.txt").write_text(",".join("0" * len(frames)) + "\n")
        (place / "nlp.txt").write_text(f"the {'red' if number % 2 == 0 else 'blue'} square\n")
    return root


def build_got10k(root: Path, split="val", names=("GOT-10k_Val_000001", "GOT-10k_Val_000002")) -> Path:
    """In the second sequence frame 6 is covered; of the test split only the first box is written."""
    for number, name in enumerate(names):
        hidden = (5,) if number == 1 else ()
        frames, boxes = pictures_and_boxes(hidden=hidden)
        place = root / split / name
        write_pictures(place, frames)
        boxes = np.nan_to_num(boxes, nan=1.0)
        write_numbers(place / "groundtruth.txt", boxes[:1] if split == "test" else boxes, fmt="%.4f")
        if split != "test":
            cover = np.array([0 if frame in hidden else 8 for frame in range(len(frames))])
            for label, values in (("cover", cover), ("absence", cover == 0), ("cut_by_image", cover * 0)):
                write_numbers(place / f"{label}.label", values, fmt="%d")
            meta = f"[METAINFO]\nurl: x\nobject_class: {'cat' if number else 'car'}\nresolution: ({WIDTH}, {HEIGHT})\n"
            (place / "meta_info.ini").write_text(meta)
    (root / split / "list.txt").write_text("\n".join(names) + "\n")
    return root


def build_otb(root: Path) -> Path:
    """Commas, tabs and spaces; a folder with two objects; a folder with an empty second file; a part of the frames."""
    frames, boxes = pictures_and_boxes()
    for name, between in (("Boy", ","), ("Coke", "\t"), ("Human4", " ")):
        write_pictures(root / name / "img", frames, "{:04d}.jpg")
        write_numbers(root / name / "groundtruth_rect.txt", boxes, between=between)
    (root / "Human4" / "groundtruth_rect.txt").rename(root / "Human4" / "groundtruth_rect.2.txt")
    (root / "Human4" / "groundtruth_rect.1.txt").write_text("\n")
    write_pictures(root / "Jogging" / "img", frames, "{:04d}.jpg")
    for number, colour in enumerate(("red", "blue"), start=1):
        write_numbers(root / "Jogging" / f"groundtruth_rect.{number}.txt", pictures_and_boxes(colour=colour)[1])
    # David's annotation starts at frame 300.
    write_pictures(root / "David" / "img", [frames[0]] * 299 + list(frames), "{:04d}.jpg")
    write_numbers(root / "David" / "groundtruth_rect.txt", boxes, between="\t")
    return root


def build_uav123(root: Path) -> Path:
    """A whole sequence whose square is hidden in frame 3, and a part, frames 1573 to 2437, of a longer one."""
    frames, boxes = pictures_and_boxes(hidden=(2,))
    write_pictures(root / "data_seq" / "UAV123" / "bike1", frames, "{:06d}.jpg")
    write_numbers(root / "anno" / "UAV123" / "bike1.txt", boxes)
    frames, boxes = pictures_and_boxes()
    bird = root / "data_seq" / "UAV123" / "bird1"
    write_pictures(bird, frames[:1], "{:06d}.jpg")
    for number in range(2, 1573):
        (bird / f"{number:06d}.jpg").symlink_to(bird / "000001.jpg")
    write_pictures(bird, frames, "{:06d}.jpg", first=1573)
    write_numbers(root / "anno" / "UAV123" / "bird1_3.txt", boxes)
    return root


def build_nfs(root: Path) -> Path:
    """30 fps frames under an annotation in steps of 240 fps, and one in its own steps with a line too many."""
    frames, boxes = pictures_and_boxes()
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    for name, repeat in (("airboard_1", 8), ("ball", 1)):
        place = root / name / "30"
        write_pictures(place / name, frames, "{:05d}.jpg")
        rows = np.repeat(corners, repeat, axis=0)
        rows = rows if repeat > 1 else np.concatenate([rows, rows[-1:]])
        lines = [f'0 {" ".join(f"{v:g}" for v in row)} {i} 0 0 0 "{name}"' for i, row in enumerate(rows)]
        (place / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


def build_trackingnet(root: Path) -> Path:
    """One sequence to train with, whole, and one to test with, of which the first box is given."""
    frames, boxes = pictures_and_boxes()
    for part, name, rows in (("TRAIN_0", "abc_0", boxes), ("TEST", "xyz_1", boxes[:1])):
        write_pictures(root / part / "frames" / name, frames, "{:d}.jpg", first=0)
        write_numbers(root / part / "anno" / f"{name}.txt", rows)
    return root


def build_tnl2k(root: Path) -> Path:
    """The square is gone in frame 7."""
    frames, boxes = pictures_and_boxes(colour="blue", hidden=(6,))
    write_pictures(root / "Bird_video_01" / "imgs", frames, "{:05d}.png")
    write_numbers(root / "Bird_video_01" / "groundtruth.txt", np.nan_to_num(boxes))
    (root / "Bird_video_01" / "language.txt").write_text("the blue square")
    return root


def elysium_rows(root: Path, names=("a", "b"), *, hidden=(4,)) -> list[dict]:
    """Rows as ElysiumTrack-1M has them, whose pictures are written below `root`."""
    rows = []
    for name, colour in zip(names, ("red", "blue"), strict=True):
        frames, boxes = pictures_and_boxes(colour=colour, hidden=hidden)
        write_pictures(root / "frames" / name, frames, "{:04d}.jpg", first=0)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        norm = corners / [WIDTH, HEIGHT, WIDTH, HEIGHT]
        rows.append(
            {
                "source": "webvid",
                "id": f"part/{name}",
                "vid": name,
                "metadata": {},
                "frames": [f"frames/{name}/{number:04d}.jpg" for number in range(len(frames))],
                "object_class": "square",
                "box": [None if np.isnan(box).any() else box.tolist() for box in norm],
                "object_description": f"the {colour} square",
                "frame_size": [WIDTH, HEIGHT],
            }
        )
    return rows


def build_elysium_track(root: Path) -> Path:
    """`rows.jsonl` beside its frames."""
    rows = elysium_rows(root)
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root
