"""Fetch images from public packages and build the bank of the sprite world.

    python -m research.scenes.fetch_sprites data/sprites.npz             # emoji alone (MIT)
    python -m research.scenes.fetch_sprites data/sprites.npz --photos    # and photographs (Debian packages)

It asks npm for two packages and, with --photos, apt-get for three, each by its own client, which must be installed.
The emoji (Microsoft's Fluent 3D emoji, MIT) may be passed on. The photographed sprites of Tux Paint are under the GPL
2, the wallpapers under licences of their own: train with them, but do not pass the bank on.
"""

import io
import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from elysium.processing.atomic_files import atomic_path
from research.scenes.sprite_bank import SpriteBank, normalise_sprite

EMOJI, EMOJI_NAMES = "@lobehub/fluent-emoji-3d@1.1.0", "emoji-datasource-google@16.0.0"
STAMPS = "tuxpaint-stamps-default"
WALLPAPERS = ("plasma-workspace-wallpapers", "lomiri-wallpapers-16.04")
CONCRETE = {"Animals & Nature", "Food & Drink", "Activities", "Travel & Places", "Objects"}
# Groups of stamps that are drawings, letters or signs.
_NO_PHOTOS = ("symbols", "cartoon", "hanukkah", "roadsigns")
_BACKGROUND_SIDE = 512
Entry = tuple[str, str, NDArray[np.uint8]]  # key, name, RGBA


class FetchError(RuntimeError):
    """A package cannot be had; the message says which and what to do."""


def run_in(folder: Path, command: list[str]) -> None:
    """Run a command in a folder.

    Raises:
        FetchError: it is not installed, or fails.
    """
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise FetchError(f"fetching needs {command[0]}, got no such program; install it") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise FetchError(f"{' '.join(command)} must succeed, got: {last}; check the network and the name") from error


def plain_name(short_name: str) -> str:
    """An emoji's short name as words; clocks are clocks whatever they show.

    >>> plain_name("racing_car"), plain_name("dog2"), plain_name("clock1230"), plain_name("8ball")
    ('racing car', 'dog', 'clock', '8 ball')
    """
    words = re.sub(r"[_-]+", " ", re.sub(r"\d+$", "", short_name))
    return re.sub(r"^(\d+)", r"\1 ", words).strip()


def emoji_entries(folder: Path) -> Iterator[Entry]:
    """Named images of concrete objects, and nameless ones of people and faces."""
    for package in (EMOJI, EMOJI_NAMES):
        run_in(folder, ["npm", "pack", "--silent", package])
    images, names = (next(folder.glob(pattern)) for pattern in ("*fluent-emoji*.tgz", "emoji-datasource*.tgz"))
    with tarfile.open(names) as archive:
        listed: list[dict[str, Any]] = json.load(archive.extractfile("package/emoji.json"))
    by_code = {entry["unified"].lower().replace("-fe0f", ""): entry for entry in listed}
    with tarfile.open(images) as archive:
        for member in archive:
            code = Path(member.name).stem.lower().replace("-fe0f", "")
            entry = by_code.get(code)
            if not member.name.endswith(".webp") or entry is None or entry["category"] in ("Flags", "Symbols"):
                continue
            data = archive.extractfile(member).read()
            name = plain_name(entry["short_name"]) if entry["category"] in CONCRETE else ""
            yield f"emoji/{code}", name, np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def extract_debian(package: str, folder: Path) -> Path:
    """The files of a Debian package, below a folder of its name."""
    run_in(folder, ["apt-get", "download", package])
    archive = next(folder.glob(f"{package}_*.deb"))
    run_in(folder, ["dpkg-deb", "-x", archive.name, package])
    return folder / package


def caption_name(caption: str) -> str:
    """The name in a stamp's caption where it is nothing but a name of one or two words, else "".

    >>> caption_name("A guinea fowl."), caption_name("The letter M."), caption_name("A compact disc for music!")
    ('guinea fowl', '', '')
    """
    found = re.fullmatch(r"An? ([a-z]+(?: [a-z]+)?)\.", caption.strip())
    return found[1] if found else ""


def photo_entries(folder: Path) -> Iterator[Entry]:
    """Photographed sprites, with the names that their captions give."""
    stamps = extract_debian(STAMPS, folder) / "usr" / "share" / "tuxpaint" / "stamps"
    for path in sorted(stamps.rglob("*.png")):
        group = path.relative_to(stamps).as_posix()
        if any(part in group for part in _NO_PHOTOS):
            continue
        caption = path.with_suffix(".txt")
        name = caption_name(caption.read_text("utf-8").splitlines()[0]) if caption.is_file() else ""
        with Image.open(path) as image:
            yield f"stamp/{group}", name, np.asarray(image.convert("RGBA"))


def wallpaper_entries(folder: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Photographs, scaled down to what backgrounds need: key and image."""
    for package in WALLPAPERS:
        place = extract_debian(package, folder)
        found = [path for path in place.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
        # Wallpapers come in several sizes, one folder each; the largest stands for all.
        best: dict[str, Path] = {}
        for path in found:
            key = path.parent.parent.parent.name if path.parent.name == "images" else path.stem
            if key not in best or path.stat().st_size > best[key].stat().st_size:
                best[key] = path
        for key, path in sorted(best.items()):
            image = cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_2)
            if image is None or min(image.shape[:2]) < _BACKGROUND_SIDE // 2:
                continue
            scale = _BACKGROUND_SIDE / min(image.shape[:2])
            small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            yield f"{package}/{key}", np.ascontiguousarray(small[:, : 2 * _BACKGROUND_SIDE, ::-1])


def build_bank(folder: Path, *, photos: bool) -> SpriteBank:
    """Fetch the packages into a folder and build the bank.

    Raises:
        FetchError: a package cannot be had.
    """
    entries = list(emoji_entries(folder)) + (list(photo_entries(folder)) if photos else [])
    kept = [(key, name, cut) for key, name, rgba in entries if (cut := normalise_sprite(rgba)) is not None]
    backgrounds = list(wallpaper_entries(folder)) if photos else []
    return SpriteBank(
        sprites=np.stack([cut for _, _, cut in kept]),
        names=[name for _, name, _ in kept],
        keys=[key for key, _, _ in kept],
        backgrounds=[image for _, image in backgrounds],
        background_keys=[key for key, _ in backgrounds],
    )


def main(
    out: Annotated[Path, typer.Argument(help="The .npz file to write.")],
    photos: Annotated[bool, typer.Option("--photos", help="Add photographed sprites and wallpapers.")] = False,
) -> None:
    """Fetch sprites and backgrounds and write the bank."""
    with tempfile.TemporaryDirectory() as folder:
        bank = build_bank(Path(folder), photos=photos)
    with atomic_path(out) as temporary:
        bank.save(temporary)
    named = sum(name != "" for name in bank.names)
    print(
        f"Bank: {out} ({len(bank.keys)} sprites, {named} with one of {len(bank.classes)} names, "
        f"{len(bank.backgrounds)} photographs)"
    )


if __name__ == "__main__":
    typer.run(main)
