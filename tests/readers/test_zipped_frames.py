"""Rows beside a zip of their frames: what is read of it, from a folder and streamed, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hub_stand_in import HubStandIn
from miniatures import build_elysium_track

from elysium.readers import zipped_frames
from elysium.readers.frame_sources import DatasetError
from elysium.readers.zipped_frames import ZippedFolder
from elysium.training.catalogue import open_source


def build_zipped(root: Path, *, top: bool) -> tuple[list, list[str]]:
    """An ElysiumTrack folder whose frames are in one zip; its rows as they were, and the files that are left."""
    build_elysium_track(root)
    source = open_source({"source": "elysium-track", "path": str(root)})
    frames = [np.stack(list(source[index].frames)) for index in range(len(source))]
    (folder,) = [path for path in root.iterdir() if path.is_dir()]
    with zipfile.ZipFile(root / f"{folder.name}.zip", "w") as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(root if top else folder))
    shutil.rmtree(folder)
    return frames, sorted(path.name for path in root.iterdir())


@pytest.mark.parametrize("top", [True, False], ids=["with its folder", "without"])
def test_frames_are_read_out_of_the_zip_beside_the_rows_and_nothing_is_extracted(top, tmp_path):
    frames, left = build_zipped(tmp_path, top=top)
    source = open_source({"source": "elysium-track", "path": str(tmp_path)})
    for index, wanted in enumerate(frames):
        row = source[index]
        assert (row.frames.read([1, 3]) == wanted[[1, 3]]).all()
        assert row.frames.size == (wanted.shape[2], wanted.shape[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == left


STREAM = """
import numpy as np
from elysium.training.mixture import stream
mixture = stream(["user/zipped"], split="train", buffer=1)
found = {}
for item in mixture.dataset.take(2):
    row = mixture.sample(item)
    found[row.key] = row.frames.read([0, 2])
np.savez("found.npz", **found)
"""


def test_rows_beside_a_zip_are_streamed_from_the_hub(tmp_path):
    frames, _ = build_zipped(tmp_path / "data", top=True)
    with HubStandIn("user/zipped", tmp_path / "data").running() as hub:
        environment = os.environ | hub.environment(tmp_path / "home")
        done = subprocess.run(
            [sys.executable, "-c", STREAM], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    for wanted, key in zip(frames, sorted(found), strict=True):
        assert (found[key] == wanted[[0, 2]]).all()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../secret.jpg", "named by a path below it, got '../secret.jpg'"),
        ("a/../../secret.jpg", "named by a path below it"),
        ("/etc/passwd", "named by a path below it"),
        ("..\\secret.jpg", "named by a path below it"),
        ("", "named by a path below it"),
        ("no.jpg", r"in a zip file beside its rows, got no no.jpg in .*frames.zip"),
        ("bomb.jpg", "at most 1 MiB, got more of 'bomb.jpg'"),
        ("damaged.jpg", "can be read, got .* for 'damaged.jpg'"),
    ],
)
def test_a_member_that_leads_out_or_is_a_bomb_or_damaged_is_refused(path, message, tmp_path, monkeypatch):
    monkeypatch.setattr(zipped_frames, "_MEMBER_BYTES", 1 << 20)
    archive = tmp_path / "frames.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("../secret.jpg", b"out")
        packed.writestr("bomb.jpg", bytes(64 << 20))
        packed.writestr("damaged.jpg", b"content that is damaged" * 20)
    content = bytearray(archive.read_bytes())
    place = content.find(b"damaged.jpg") + 20
    content[place : place + 8] = b"\xff" * 8
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        ZippedFolder((str(archive),)).read(path)


def test_a_zip_that_is_none_is_named(tmp_path):
    (tmp_path / "frames.zip").write_bytes(b"no zip")
    with pytest.raises(DatasetError, match="zip file must be one that can be read, got .*frames.zip"):
        ZippedFolder((str(tmp_path / "frames.zip"),)).read("a.jpg")


def test_rows_whose_frames_are_nowhere_say_so(tmp_path):
    build_zipped(tmp_path, top=True)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    rows[0]["frames"][0] = "frames/nowhere.jpg"  # others are in the zip
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows[0]) + "\n")
    row = open_source({"source": "elysium-track", "path": str(tmp_path)})[0]
    with pytest.raises(DatasetError, match="got no frames/nowhere.jpg in .*zip"):
        row.frames.read([0])
