"""Fetches transformers' own shared tests, of the installed version, from its source distribution.

    python tests/shared_transformers/fetch.py FOLDER

The package index is asked for the source distribution, and its tests/*.py become the package `transformers_tests` in
FOLDER. Three files that they import are not in the distribution; stand-ins without tests are written for them. So
transformers' shared tests of generation and export are not to be had this way. Does nothing where it was done before.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import transformers

from elysium.processing.atomic_files import atomic_folder

PACKAGE = "transformers_tests"
STAND_INS = {
    f"{PACKAGE}/__init__.py": "",
    f"{PACKAGE}/exporters/__init__.py": "",
    f"{PACKAGE}/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    f"{PACKAGE}/generation/__init__.py": "",
    f"{PACKAGE}/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    f"{PACKAGE}/utils/__init__.py": "",
    f"{PACKAGE}/utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}


def fetch(folder: Path) -> Path:
    """The folder that holds the package, made where it is not there yet."""
    place = folder / transformers.__version__
    if place.is_dir():
        return place
    with tempfile.TemporaryDirectory() as downloads:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        source = ["--no-build-isolation", "--no-binary", "transformers", f"transformers=={transformers.__version__}"]
        subprocess.run([*pip, *source, "--dest", downloads], check=True)
        (archive,) = Path(downloads).glob("transformers-*.tar.gz")
        with atomic_folder(place) as unfinished, tarfile.open(archive) as opened:
            for name, content in STAND_INS.items():
                (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
                (unfinished / name).write_text(content)
            for member in opened:
                path = Path(member.name)
                if member.isfile() and path.parent.name == "tests" and len(path.parts) == 3 and path.suffix == ".py":
                    (unfinished / PACKAGE / path.name).write_bytes(opened.extractfile(member).read())
    return place


if __name__ == "__main__":
    print(f"transformers' shared tests: {fetch(Path(sys.argv[1]))}")
