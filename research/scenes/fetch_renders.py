"""Fetch named 3-D models from a Debian package, render each from several sides and write a bank of sprites.

    pip install panda3d                                       # the renderer; nothing else needs it
    python -m research.scenes.fetch_renders data/renders.npz

The package is sweethome3d-furniture: 820 models of people, animals, vehicles, furniture and household things. They
are under CC BY 3.0 or CC0, so the bank may be passed on with the attribution that is written beside it.
"""

import re
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from elysium.processing.atomic_files import atomic_path
from research.scenes.fetch_sprites import FetchError, extract_debian
from research.scenes.sprite_bank import SpriteBank, normalise_sprite

if TYPE_CHECKING:
    from research.scenes.model_renderer import ModelRenderer  # needs panda3d

PACKAGE = "sweethome3d-furniture"
NAMES_FILE = Path(__file__).with_name("render_names.txt")
_BY = ("CC BY 3.0", "https://creativecommons.org/licenses/by/3.0/")
_BY_US = ("CC BY 3.0 US", "https://creativecommons.org/licenses/by/3.0/us/")
_CC0 = ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/")
COLLECTIONS = {
    "BlendSwap-CC-0": _CC0,
    "BlendSwap-CC-BY": _BY,
    "KatorLegaz": _BY_US,
    "Reallusion": _BY_US,
    "Scopia": _BY,
}
# Models that are seen from all sides; others, such as wardrobes, from the front.
_ALL_SIDES = {"Characters", "Vehicles", "Exterior", "Staircases"}
_FRONT_DEG, _PITCH_DEG = 70.0, (5.0, 35.0)
_GOLDEN = 0.618
# Limits of a sprite that shows something: brightness 0..255, its deviation, and the share of its area that covers what
# is behind it.
_MOST_BRIGHTNESS, _LEAST_DEVIATION, _LEAST_OPAQUE = 240, 1.0, 0.6


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of the catalogue.

    Args:
        path: OBJ file.
        key: where it is from, such as "sweethome3d/scopia/cat"; unique.
        title: its name in the catalogue.
        category: "Kitchen" and so on.
        rotation: rows of the matrix that turns the file's coordinates; None to leave them.
        creator, licence, licence_url, source: for the attribution.
    """

    path: Path
    key: str
    title: str
    category: str
    rotation: NDArray[np.float64] | None
    creator: str
    licence: str
    licence_url: str
    source: str


@cache
def _names() -> dict[str, str]:
    names = {}
    for line in NAMES_FILE.read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            noun, titles = line.split(": ", 1)
            names |= dict.fromkeys(titles.split(" | "), "" if noun == "-" else noun)
    return names


def everyday_noun(title: str) -> str:
    """Return what one would call a model, by its title in the catalogue; "" where that is no everyday noun.

    >>> everyday_noun("Sitting female"), everyday_noun("Coffee mug"), everyday_noun("Parking slot 45°")
    ('woman', 'mug', '')
    """
    title = title.lower()
    endings = ("*" + title[found.start() :] for found in re.finditer(" ", f" {title}"))
    names = _names()
    return next((names[key] for key in (title, *endings) if key in names), title)


def read_catalogue(text: str) -> list[dict[str, str]]:
    """Return the entries of a catalogue, each its properties.

    >>> read_catalogue("version=1.8\\nname#1=Mug\\nmodel#1=/a/mug/mug.obj\\nname#2=Bill 10\\\\u20ac")
    [{'name': 'Mug', 'model': '/a/mug/mug.obj'}, {'name': 'Bill 10€'}]
    """
    entries: dict[int, dict[str, str]] = {}
    for name, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, flags=re.MULTILINE):
        value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), value)
        entries.setdefault(int(number), {})[name] = value.strip()
    return list(entries.values())


def read_models(folder: Path) -> Iterator[Model]:
    """Unpack the collections below a folder and return their models."""
    for collection, licence in COLLECTIONS.items():
        archive = next(folder.rglob(f"{collection}.sh3f"))
        place = archive.with_suffix("")
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(place)
        for entry in read_catalogue((place / "PluginFurnitureCatalog.properties").read_text("latin-1")):
            path = place / entry["model"].lstrip("/")
            said = "".join(file.read_text("latin-1") for file in sorted(path.parent.glob("*[lL][iI][cC][eE][nN]*")))
            named_by = "Creative Commons Attribution" in said or "creativecommons.org/licenses/by/" in said
            name, url = _BY if named_by else licence
            source = re.search(r"Downloaded from (http\S+)", said)
            turned = entry.get("modelRotation")
            yield Model(
                path=path,
                key="sweethome3d/" + path.parent.relative_to(place).as_posix(),
                title=entry["name"],
                category=entry["category"],
                rotation=np.array(turned.split(), dtype=float).reshape(3, 3) if turned else None,
                creator=entry["creator"],
                licence=name,
                licence_url=url,
                source=source[1] if source else "http://www.sweethome3d.com/",
            )


def view_angles(model: Model, count: int) -> list[tuple[float, float]]:
    """Return heading and elevation of each view in degrees: headings evenly apart, elevations spread."""
    phase = sum(model.key.encode()) * _GOLDEN % 1
    spread = 360.0 if model.category in _ALL_SIDES else 2 * _FRONT_DEG
    low, high = _PITCH_DEG
    return [
        (((place + phase) / count - 0.5) * spread, low + (high - low) * ((place * _GOLDEN + phase) % 1))
        for place in range(count)
    ]


def shows_something(sprite: NDArray[np.uint8]) -> bool:
    """Return whether a sprite (128, 128, 4) is neither nearly white, of one shade, nor mostly transparent."""
    alpha = sprite[..., 3]
    solid = alpha > 127
    if solid.sum() < _LEAST_OPAQUE * (alpha > 40).sum():
        return False
    shade = sprite[solid, :3].mean(axis=1) * 255 / alpha[solid]
    return shade.mean() < _MOST_BRIGHTNESS and shade.std() >= _LEAST_DEVIATION


def attribution_lines(models: list[Model]) -> list[str]:
    """Return the lines of the attribution file: a head, and a line for each model."""
    return [
        f"# Images rendered from 3-D models of Debian's {PACKAGE} (Sweet Home 3D, http://www.sweethome3d.com/).",
        "# Changes: rendered from several sides, cropped and scaled.",
        "# Copyright: Andrew Kator & Jennifer Legaz; Reallusion; Scopia Visual Interfaces Systems, s.l. and Emmanuel",
        "# Puybaret / eTeks; contributors to Blend Swap (http://www.blendswap.com). No warranties.",
        "key\ttitle\tcreator\tlicence\tlicence_url\tsource",
        *(
            "\t".join((model.key, model.title, model.creator, model.licence, model.licence_url, model.source))
            for model in models
        ),
    ]


@cache
def _renderer() -> "ModelRenderer":
    from research.scenes.model_renderer import ModelRenderer

    return ModelRenderer()


def _render(model: Model, views: int) -> list[NDArray[np.uint8]]:
    return _renderer().render(model.path, view_angles(model, views), model.rotation)


def _render_each(models: list[Model], views: int) -> Iterator[tuple[Model, list[NDArray[np.uint8]]]]:
    """Yield each model with its images, none for a model on which panda3d's loader crashes (it does on one)."""
    pool = None
    for model in models:
        pool = pool or ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        try:
            yield model, pool.submit(_render, model, views).result()
        except BrokenProcessPool:
            pool = None
            yield model, []
    if pool is not None:
        pool.shutdown()


def build_bank(models: list[Model], views: int) -> tuple[SpriteBank, list[Model]]:
    """Render models and return the bank and the models in it.

    A view is left out where it shows nothing, a model where fewer than half of its views are left.

    Raises:
        FetchError: panda3d is not installed.
    """
    if find_spec("panda3d") is None:
        raise FetchError("rendering needs panda3d, got no such package; run pip install panda3d")
    sprites, keys, names, kept = [], [], [], []
    for model, images in _render_each(models, views):
        cuts = [(view, cut) for view, image in enumerate(images) if (cut := normalise_sprite(image)) is not None]
        cuts = [(view, cut) for view, cut in cuts if shows_something(cut)]
        if 2 * len(cuts) < views or not cuts:
            print(f"Left out: {model.key} ({model.title}), {len(cuts)} of {views} views show something")
            continue
        kept.append(model)
        for view, cut in cuts:
            sprites.append(cut)
            keys.append(f"{model.key}#{view}")
            names.append(everyday_noun(model.title))
    return SpriteBank(np.stack(sprites), names, keys, [], []), kept


def main(
    out: Annotated[Path, typer.Argument(help="The .npz file to write; the attribution goes beside it.")],
    views: Annotated[int, typer.Option(min=1, help="Images of each model. More take more memory in training.")] = 6,
) -> None:
    """Fetch the models, render them and write the bank and its attribution."""
    with tempfile.TemporaryDirectory() as folder:
        models = list(read_models(extract_debian(PACKAGE, Path(folder))))
        bank, kept = build_bank(models, views)
    with atomic_path(out) as temporary:
        bank.save(temporary)
    attribution = out.with_name(f"{out.stem}_attribution.tsv")
    with atomic_path(attribution) as temporary:
        temporary.write_text("\n".join(attribution_lines(kept)) + "\n", "utf-8")
    print(
        f"Bank: {out} ({len(bank.keys)} views of {len(kept)} of {len(models)} models, {len(bank.classes)} names); "
        f"attribution: {attribution}"
    )


if __name__ == "__main__":
    typer.run(main)
