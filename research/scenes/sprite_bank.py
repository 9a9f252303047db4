"""Bank of the sprite world: named sprites from real images, and photographs as backgrounds.

A bank is one `.npz` file that `fetch_sprites` or `fetch_renders` writes, or several joined. What is held out is fixed
by names alone, so that every bank and every run holds out the same: a tenth of the classes (their words are never
taught), a tenth of the other sprites, and a fifth of the backgrounds. All views of a model are held out together.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from elysium.training.synthetic.sprites import SPRITE_SIDE, Sprite

Part = Literal["train", "seen_classes", "held_out_classes"]
PARTS: tuple[Part, ...] = ("train", "seen_classes", "held_out_classes")
NAMES_FILE = Path(__file__).with_name("everyday_names.txt")
_MARGIN = 4
_LEAST_COVER = 0.12


@dataclass(frozen=True, eq=False)
class SpriteBank:
    """Sprites and backgrounds.

    Args:
        sprites (`np.ndarray` of shape `(N, 128, 128, 4)`): uint8 RGBA, colour premultiplied.
        names: of each, such as "racing car"; "" for one without a name.
        keys: of each, where it is from; unique. Views of one model differ in what follows the "#" alone.
        backgrounds: uint8 RGB images of any size.
        background_keys: of each; unique.

    Raises:
        ValueError: lengths that differ, or an empty bank.
    """

    sprites: NDArray[np.uint8]
    names: list[str]
    keys: list[str]
    backgrounds: list[NDArray[np.uint8]]
    background_keys: list[str]

    def __post_init__(self) -> None:
        if not len(self.sprites) == len(self.names) == len(self.keys) > 0:
            raise ValueError(
                f"a bank must have a name and a key for each sprite, got {len(self.sprites)}, {len(self.names)} and "
                f"{len(self.keys)}; build it again with fetch_sprites"
            )
        if len(self.backgrounds) != len(self.background_keys):
            raise ValueError(
                f"a bank must have a key for each background, got {len(self.backgrounds)} and "
                f"{len(self.background_keys)}; build it again with fetch_sprites"
            )

    def save(self, path: Path) -> None:
        """Write the bank; backgrounds are stored as JPEG."""
        encoded = [
            cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1] for image in self.backgrounds
        ]
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                sprites=self.sprites,
                names=np.array(self.names),
                keys=np.array(self.keys),
                backgrounds=np.concatenate(encoded) if encoded else np.zeros(0, np.uint8),
                background_sizes=np.array([len(item) for item in encoded], dtype=np.int64),
                background_keys=np.array(self.background_keys, dtype=str),
            )

    @classmethod
    def load(cls, paths: str | Path | Sequence[str | Path]) -> "SpriteBank":
        """Read a bank from a file, or from several that are joined.

        Raises:
            ValueError: no such file, another kind of file, or a key that two files have.
        """
        banks = [cls._read(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        if not banks:
            raise ValueError("a bank of sprites must have a file, got none; give an .npz file of fetch_sprites")
        if len(banks) == 1:
            return banks[0]
        owners = Counter(key for bank in banks for key in {*bank.keys, *bank.background_keys})
        shared = [key for key, count in owners.items() if count > 1]
        if shared:
            raise ValueError(f"the files of a bank must share no key, got {shared[0]!r} twice; give each file once")
        return cls(
            np.concatenate([bank.sprites for bank in banks]),
            [name for bank in banks for name in bank.names],
            [key for bank in banks for key in bank.keys],
            [image for bank in banks for image in bank.backgrounds],
            [key for bank in banks for key in bank.background_keys],
        )

    @classmethod
    def _read(cls, path: str | Path) -> "SpriteBank":
        try:
            with np.load(path, allow_pickle=False) as stored:
                parts = np.split(stored["backgrounds"], np.cumsum(stored["background_sizes"])[:-1])
                images = [
                    np.ascontiguousarray(cv2.imdecode(part, cv2.IMREAD_COLOR)[..., ::-1])
                    for part in parts
                    if len(part)
                ]
                lists = [stored[name].tolist() for name in ("names", "keys", "background_keys")]
                return cls(stored["sprites"], lists[0], lists[1], images, lists[2])
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"a bank of sprites must be an .npz file of fetch_sprites, got {path} ({error}); run "
                "python -m research.scenes.fetch_sprites"
            ) from error

    @property
    def classes(self) -> list[str]:
        """The names, each once, in alphabetical order."""
        return sorted(set(self.names) - {""})

    def chosen(self, part: Part) -> list[int]:
        """Return the indices of the sprites of a part.

        "train": training sprites; "seen_classes": held-out sprites whose names occur in training, or without a name;
        "held_out_classes": sprites whose names are held out.
        """
        places = range(len(self.keys))
        unseen_name = [is_held_out_class(self.names[place]) for place in places]
        if part == "held_out_classes":
            return [place for place in places if unseen_name[place]]
        models = [model_of(key) for key in self.keys]
        # A model that is the only one of its name is kept: holding it out would hold out the name. Models with views
        # and sprites without are counted apart, so that a bank's parts stay when another is joined.
        groups = [(name, "#" in key) for name, key in zip(self.names, self.keys, strict=True)]
        shared = Counter(group for group, _ in set(zip(groups, models, strict=True)))
        kept = [name != "" and shared[group] == 1 for name, group in zip(self.names, groups, strict=True)]
        return [
            place
            for place in places
            if not unseen_name[place]
            and (not kept[place] and _bucket(f"sprite {models[place]}", 10) == 0) == (part == "seen_classes")
        ]

    def chosen_backgrounds(self, part: Part) -> list[int]:
        """The backgrounds of a part: four fifths to learn from, the others for everything that is held out."""
        held_out = [_bucket(f"background {key}", 5) == 0 for key in self.background_keys]
        return [place for place, held in enumerate(held_out) if held == (part != "train")]


def everyday_names() -> list[str]:
    """Names of everyday things, in one word each: those that elysium-tiny is taught last and longest."""
    return NAMES_FILE.read_text(encoding="utf-8").split()


def is_held_out_class(name: str) -> bool:
    """Return whether a name is held out from training: one in ten, by its hash.

    >>> [name for name in ("ant", "bee", "cat", "dog", "elephant", "fox") if is_held_out_class(name)]
    ['bee']
    """
    return name != "" and _bucket(f"class {name}", 10) == 0


def model_of(key: str) -> str:
    """Return the key that all views of a model share; a sprite without views has its own.

    >>> model_of("sweethome3d/scopia/cat#2"), model_of("emoji/1f408")
    ('sweethome3d/scopia/cat', 'emoji/1f408')
    """
    return key.partition("#")[0]


def _bucket(text: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") % count


def normalise_sprite(rgba: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """A sprite cropped to what can be seen, scaled to the sprite's side, colour premultiplied.

    Args:
        rgba (`np.ndarray` of shape `(H, W, 4)`): colour not premultiplied.

    Returns:
        `np.ndarray` of shape `(128, 128, 4)`; None for one that is all but empty, a thin line, or tiny.
    """
    seen = rgba[..., 3] > 40
    if seen.sum() < 400:
        return None
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    cut = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    height, width = cut.shape[:2]
    side = SPRITE_SIDE - 2 * _MARGIN
    scale = side / max(height, width)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    if min(size) < 20 or (cut[..., 3] > 40).mean() < _LEAST_COVER:
        return None
    cut[..., :3] *= cut[..., 3:] / 255
    small = cv2.resize(cut, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((SPRITE_SIDE, SPRITE_SIDE, 4), np.uint8)
    top, left = (SPRITE_SIDE - size[1]) // 2, (SPRITE_SIDE - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = np.clip(small + 0.5, 0, 255).astype(np.uint8)
    return canvas


def as_sprite(
    rgba: NDArray[np.uint8], name: str, *, colours: NDArray[np.float32] | None = None, attribute: str | None = None
) -> Sprite:
    """A sprite of the bank as the renderer takes it, in three sizes.

    Args:
        rgba (`np.ndarray` of shape `(128, 128, 4)`): premultiplied.
        name: "" for none.
        colours (`np.ndarray` of shape `(3, 3)`): turns its colours, None to leave them.
        attribute: what the turned colours are called, such as "grey".
    """
    levels = [rgba]
    if colours is not None:
        turned = np.clip(cv2.transform(rgba[..., :3].astype(np.float32), colours), 0, 255)
        # Premultiplied colour never exceeds its alpha.
        levels = [np.dstack([np.minimum(turned, rgba[..., 3:]).astype(np.uint8), rgba[..., 3]])]
    for _ in range(2):
        half = levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA))
    return Sprite((levels[0], levels[1], levels[2]), colour=attribute, kind=name or None)
