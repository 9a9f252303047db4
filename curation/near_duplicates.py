"""Find videos with the same images in a dataset, and between the two sides of a split.

A fingerprint holds 64 bits of a perceptual hash (OpenCV's `img_hash.pHash`) of each of the first, middle and last
frame; few differing bits mean the same image, re-encoded or rescaled. Two fingerprints of 192 bits that differ in at
most n bits agree in one of n + 1 bands, so only videos with a band in common are compared, and no pair is missed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from elysium.evaluation.opencv_trackers import without_contrib
from elysium.readers.elysium_track import rows_of
from elysium.readers.frame_sources import row_frames

MAX_BITS = 11  # of 192; other images differ in about 90


@dataclass(frozen=True, eq=False)
class VideoPrint:
    """Hold the fingerprint of a video.

    Args:
        vid: Name of the video.
        image_bits (`np.ndarray` of shape `(192,)`): Hashes of the first, middle and last frame; uint8, 0 or 1.
    """

    vid: str
    image_bits: NDArray[np.uint8]

    @classmethod
    def of_frames(cls, vid: str, frames: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> "VideoPrint":
        """Return the fingerprint of the first, middle and last frame `(H, W, 3)`."""
        chosen = (frames[0], frames[(len(frames) - 1) // 2], frames[-1])
        return cls(vid, np.concatenate([image_hash(frame) for frame in chosen]))

    @classmethod
    def of_hex(cls, vid: str, digits: str) -> "VideoPrint":
        """Return the fingerprint that `hex` wrote."""
        return cls(vid, np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8)))

    def hex(self) -> str:
        """Return the bits as 48 hexadecimal digits."""
        return np.packbits(self.image_bits).tobytes().hex()


def fingerprints(rows: Iterable[Mapping[str, Any]], root: str | Path | None) -> Iterator[VideoPrint]:
    """Yield a fingerprint for each video of ElysiumTrack-1M records, from its first record.

    Args:
        rows: Records with `vid`, and `frames` or `video`.
        root: Folder that their paths are relative to; None if they hold their frames.

    Raises:
        DatasetError: frames cannot be read.
    """
    known: set[str] = set()
    for row in rows:
        vid = str(row["vid"])
        if vid in known:
            continue
        known.add(vid)
        frames = row_frames(dict(row), None if root is None else Path(root))
        last = len(frames) - 1
        yield VideoPrint.of_frames(vid, [frames.read([place])[0] for place in (0, last // 2, last)])


def held_out_prints(source: str) -> list[VideoPrint]:
    """Return the fingerprint of each video of other records.

    Args:
        source: JSONL file, folder with one, or Hub id, whose split validation is read.

    Raises:
        DatasetError: it cannot be read.
    """
    prints: list[VideoPrint] = []
    for root, rows in groupby(rows_of(source, "validation"), key=lambda found: found[1]):
        prints += fingerprints((row for row, _ in rows), root)
    return prints


def image_hash(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the perceptual hash of an RGB image `(H, W, 3)`: 64 bits `(64,)`.

    Raises:
        RuntimeError: OpenCV lacks its contributed modules.
    """
    if not hasattr(cv2, "img_hash"):
        raise RuntimeError(without_contrib("the perceptual hash"))
    return np.unpackbits(cv2.img_hash.pHash(cv2.cvtColor(image, cv2.COLOR_RGB2BGR)).ravel())


def duplicate_videos(prints: Sequence[VideoPrint]) -> list[list[int]]:
    """Return groups of videos with the same images; pairs are chained.

    Returns:
        Indices into ``prints``, ascending, of each group of two or more.
    """
    if not prints:
        return []
    bits, owner = np.unique(np.stack([one.image_bits for one in prints]), axis=0, return_inverse=True)
    groups = DisjointSet(range(len(bits)))
    for band in np.array_split(np.arange(bits.shape[1]), MAX_BITS + 1):
        alike: dict[bytes, list[int]] = defaultdict(list)
        for place, values in enumerate(bits[:, band]):
            others = alike[values.tobytes()]
            differing = (bits[others] != bits[place]).sum(axis=1)
            for other, count in zip(others, differing, strict=True):
                if count <= MAX_BITS:
                    groups.merge(place, other)
            others.append(place)
    found: dict[int, list[int]] = defaultdict(list)
    for place, number in enumerate(owner.ravel().tolist()):
        found[groups[number]].append(place)
    return sorted(group for group in found.values() if len(group) > 1)


def leak_report(train: Sequence[VideoPrint], val: Sequence[VideoPrint]) -> dict[str, Any]:
    """Return the videos of a validation set that are in the training set.

    Returns:
        Names of `same_videos`; `same_pictures`, a list of groups ``{"train": names, "val": names}`` with both sides;
        `leaked_val_videos`, how many of the validation set's videos are in either.
    """
    groups = [group for group in duplicate_videos([*train, *val]) if group[0] < len(train) <= group[-1]]
    same = {one.vid for one in train} & {one.vid for one in val}
    leaked = {place for place, one in enumerate(val) if one.vid in same}
    leaked |= {place - len(train) for group in groups for place in group if place >= len(train)}
    return {
        "train_videos": len(train),
        "val_videos": len(val),
        "same_videos": sorted(same),
        "same_pictures": [
            {
                "train": [train[place].vid for place in group if place < len(train)],
                "val": [val[place - len(train)].vid for place in group if place >= len(train)],
            }
            for group in groups
        ],
        "leaked_val_videos": len(leaked),
    }
