"""Find near-duplicate videos in a dataset, and between the two sides of a split.

By images: 64 bits of a perceptual hash (OpenCV's `img_hash.pHash`) of each of the first, middle and last frame;
few differing bits mean the same image, re-encoded or rescaled. Two fingerprints of 192 bits that differ in at most n
bits agree in one of n + 1 bands, so only videos with a band in common are compared, and no pair is missed.

By captions: the share of word triples that two captions have in common (Broder, "On the resemblance and containment of
documents", 1997). Two sets with a Jaccard index of j or more share one of their rarest triples (prefix filter, Bayardo
et al., WWW 2007), so only such captions are compared, and no pair is missed. (datatrove's MinHash finds pairs
only with a probability, and in several passes over files.)
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from elysium.evaluation.opencv_trackers import without_contrib
from elysium.readers.frame_sources import row_frames

MAX_BITS, MIN_JACCARD = 11, 0.8
_HASH_BITS = 64
_TRIPLE = 3


@dataclass(frozen=True, eq=False)
class VideoPrint:
    """Hold the fingerprint of a video.

    Args:
        vid: Name of the video.
        picture_bits (`np.ndarray` of shape `(192,)`): Hashes of the first, middle and last frame; uint8, 0 or 1.
        caption: Caption; may be empty.
    """

    vid: str
    picture_bits: NDArray[np.uint8]
    caption: str


def fingerprints(rows: Iterable[Mapping[str, Any]], root: str | Path | None) -> Iterator[VideoPrint]:
    """Yield a fingerprint for each video of ElysiumTrack-1M records, from its first record.

    Args:
        rows: Records with `vid`, `frames` or `video`, and optionally ``metadata["caption"]``.
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
        pictures = [frames.read([place])[0] for place in (0, last // 2, last)]
        metadata = row.get("metadata")
        caption = metadata.get("caption") if isinstance(metadata, Mapping) else None
        yield VideoPrint(vid, np.concatenate([picture_hash(picture) for picture in pictures]), str(caption or ""))


def picture_hash(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the perceptual hash of an RGB image `(H, W, 3)`: 64 bits `(64,)`.

    Raises:
        RuntimeError: OpenCV lacks its contributed modules.
    """
    if not hasattr(cv2, "img_hash"):
        raise RuntimeError(without_contrib("the perceptual hash"))
    return np.unpackbits(cv2.img_hash.pHash(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)).ravel())


def duplicate_pictures(prints: Sequence[VideoPrint], *, max_bits: int = MAX_BITS) -> list[list[int]]:
    """Return groups of videos with the same images; pairs are chained.

    Args:
        prints: Fingerprints of the videos.
        max_bits: Maximum number of the 192 bits that differ in a pair. Higher values find more, and take longer.

    Returns:
        Indices into ``prints``, ascending, of each group of two or more.

    Raises:
        ValueError: ``max_bits`` outside of 0..63.
    """
    if not 0 <= max_bits < _HASH_BITS:
        raise ValueError(f"max_bits must be in 0..{_HASH_BITS - 1}, got {max_bits}; other pictures differ in about 90")
    if not prints:
        return []
    bits, owner = np.unique(np.stack([one.picture_bits for one in prints]), axis=0, return_inverse=True)
    groups = DisjointSet(range(len(bits)))
    for band in np.array_split(np.arange(bits.shape[1]), max_bits + 1):
        alike = _places_by_key(row.tobytes() for row in np.packbits(bits[:, band], axis=1))
        for places in alike:
            for position, place in enumerate(places[:-1]):
                others = places[position + 1 :]
                near = (bits[others] != bits[place]).sum(axis=1) <= max_bits
                for other in np.array(others)[near].tolist():
                    groups.merge(place, other)
    return _members(groups, owner.ravel().tolist())


def duplicate_captions(prints: Sequence[VideoPrint], *, min_jaccard: float = MIN_JACCARD) -> list[list[int]]:
    """Return groups of videos with almost the same caption; pairs are chained, empty captions are in no group.

    Args:
        prints: Fingerprints of the videos.
        min_jaccard: Minimum Jaccard index of the word triples of two captions.

    Returns:
        Indices into ``prints``, ascending, of each group of two or more.

    Raises:
        ValueError: ``min_jaccard`` outside of 0..1, or 0.
    """
    if not 0 < min_jaccard <= 1:
        raise ValueError(f"min_jaccard must be above 0 and at most 1, got {min_jaccard}")
    triples = [word_triples(one.caption) for one in prints]
    distinct = sorted({found for found in triples if found}, key=sorted)
    number = {found: place for place, found in enumerate(distinct)}
    counts = Counter(triple for found in distinct for triple in found)
    prefixes: dict[str, list[int]] = defaultdict(list)
    for place, found in enumerate(distinct):
        rarest_first = sorted(found, key=lambda triple: (counts[triple], triple))
        for triple in rarest_first[: len(found) - math.ceil(min_jaccard * len(found) - 1e-9) + 1]:
            prefixes[triple].append(place)
    groups = DisjointSet(range(len(distinct)))
    for places in prefixes.values():
        for one, other in combinations(places, 2):
            if not groups.connected(one, other) and _jaccard(distinct[one], distinct[other]) >= min_jaccard:
                groups.merge(one, other)
    return _members(groups, [number.get(found) for found in triples])


def duplicate_report(prints: Sequence[VideoPrint]) -> dict[str, Any]:
    """Return groups of near-duplicates as plain values.

    Returns:
        The number of `videos`; `same_pictures` and `same_captions`, lists of groups of their names.
    """
    return {
        "videos": len(prints),
        "same_pictures": [[prints[place].vid for place in group] for group in duplicate_pictures(prints)],
        "same_captions": [[prints[place].vid for place in group] for group in duplicate_captions(prints)],
    }


def leak_report(train: Sequence[VideoPrint], val: Sequence[VideoPrint]) -> dict[str, Any]:
    """Return the videos of a validation set that are in the training set.

    Returns:
        Names of `same_videos`; `same_pictures` and `same_captions`, lists of groups ``{"train": names, "val": names}``
        with both sides; `leaked_val_videos`, how many of the validation set's videos are in either of the first two.
    """
    prints = [*train, *val]
    report: dict[str, Any] = {"train_videos": len(train), "val_videos": len(val)}
    same = {one.vid for one in train} & {one.vid for one in val}
    report["same_videos"] = sorted(same)
    leaked = {place for place, one in enumerate(val) if one.vid in same}
    for name, find in (("same_pictures", duplicate_pictures), ("same_captions", duplicate_captions)):
        groups = [group for group in find(prints) if group[0] < len(train) <= group[-1]]
        report[name] = [
            {
                "train": [prints[place].vid for place in group if place < len(train)],
                "val": [prints[place].vid for place in group if place >= len(train)],
            }
            for group in groups
        ]
        if name == "same_pictures":
            leaked.update(place - len(train) for group in groups for place in group if place >= len(train))
    return report | {"leaked_val_videos": len(leaked)}


def word_triples(caption: str) -> frozenset[str]:
    """Return the triples of consecutive words in lower case; the whole of a shorter caption.

    >>> sorted(word_triples("A red car drives"))
    ['a red car', 'red car drives']
    """
    words = ["".join(filter(str.isalnum, word)) for word in caption.lower().split()]
    words = [word for word in words if word]
    if not words:
        return frozenset()
    return frozenset(" ".join(words[start : start + _TRIPLE]) for start in range(max(1, len(words) - _TRIPLE + 1)))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)


def _places_by_key(keys: Iterable[Hashable]) -> list[list[int]]:
    """Return groups of two or more indices with the same key."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    return [found for found in places.values() if len(found) > 1]


def _members(groups: DisjointSet, owners: Sequence[int | None]) -> list[list[int]]:
    """Return groups of two or more indices into ``owners`` whose numbers are in one set; None is in no group."""
    found: dict[int, list[int]] = defaultdict(list)
    for place, owner in enumerate(owners):
        if owner is not None:
            found[groups[owner]].append(place)
    return sorted(group for group in found.values() if len(group) > 1)
