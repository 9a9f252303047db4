"""List the sources of samples by name, for recipes and ``elysium data check``.

    {"source": "lasot", "path": "/data/lasot"}
    {"source": "llava-pretrain", "path": "/data/LLaVA-Pretrain", "images": "/data/LLaVA-Pretrain/images"}
    {"source": "synthetic", "count": 10000, "frames": 8}

The options of a source are the arguments of its function here.
"""

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from elysium.readers.conversations import llava_instruct_samples, llava_pretrain_samples, videochat_samples
from elysium.readers.elysium_track import elysium_track_samples
from elysium.readers.frame_sources import DatasetError
from elysium.readers.refcoco import refcoco_samples
from elysium.readers.samples import SampleList, SampleSource, tracking_samples
from elysium.readers.tracking_benchmarks import find_tracking
from elysium.readers.user_folder import folder_rows
from elysium.readers.visual_genome import visual_genome_samples

SOURCE = "source"


def open_elysium_track(path: str) -> SampleList:
    """Open ElysiumTrack-1M, or the output of `elysium synth`. ``path``: the JSONL file, or a folder with one."""
    place = Path(path)
    found = sorted(place.glob("*.jsonl")) if os.path.isdir(place) else [place]
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DatasetError(f"records must be one JSONL file, got {names} in {place}; give the path of the file")
    return elysium_track_samples("elysium-track", found[0])


def open_lasot(path: str, *, split: str = "train") -> SampleList:
    """Open LaSOT. ``path``: the folder of the classes; ``split``: train, test or all."""
    return tracking_samples("lasot", find_tracking("lasot", path, split))


def open_got10k(path: str, *, split: str = "train") -> SampleList:
    """Open GOT-10k. ``path``: the folder of the splits; ``split``: train or val (test has no ground truth)."""
    if split == "test":
        raise DatasetError("the split to train with must be train or val, got test; its truth is withheld")
    return tracking_samples("got10k", find_tracking("got10k", path, split))


def open_trackingnet(path: str) -> SampleList:
    """Open TrackingNet's training set. ``path``: the folder of TRAIN_0 to TRAIN_11; some may be missing."""
    return tracking_samples("trackingnet", find_tracking("trackingnet", path, "train"))


def open_tnl2k(path: str) -> SampleList:
    """Open TNL2K. ``path``: the folder of the sequences."""
    return tracking_samples("tnl2k", find_tracking("tnl2k", path))


def _refcoco(dataset: str) -> Callable[..., SampleSource]:
    def open_refcoco(path: str, *, split: str = "train") -> SampleList:
        """Open RefCOCO, RefCOCO+ or RefCOCOg.

        ``path``: the folder of refcoco/ and images/; ``split``: train, or several with commas; "google:train" is
        Google's partition of RefCOCOg.
        """
        return refcoco_samples(path, dataset=dataset, split=split)

    return open_refcoco


def open_synthetic(
    *, count: int, seed: int = 0, frames: int = 16, width: int = 320, height: int = 240, about: str = "objects"
) -> SampleSource:
    """Render samples of the synthetic world, which has no path. Options: see `SyntheticSamples`."""
    from .synthetic.dataset import ClipShape  # OpenCV is needed for this source alone
    from .synthetic.synthetic_samples import SyntheticSamples

    shape = ClipShape(num_frames=frames, width=width, height=height)
    return SyntheticSamples(count=count, seed=seed, shape=shape, about=about)


SOURCES: dict[str, Callable[..., SampleSource]] = {
    "elysium-track": open_elysium_track,
    "llava-pretrain": llava_pretrain_samples,
    "llava-instruct": llava_instruct_samples,
    **{name: _refcoco(name) for name in ("refcoco", "refcoco+", "refcocog")},
    "visual-genome": visual_genome_samples,
    "videochat": videochat_samples,
    "lasot": open_lasot,
    "got10k": open_got10k,
    "trackingnet": open_trackingnet,
    "tnl2k": open_tnl2k,
    "synthetic": open_synthetic,
    "folder": folder_rows,
}


def open_source(spec: Mapping[str, Any]) -> SampleSource:
    """Return the samples of an entry of a recipe.

    Args:
        spec: `source` (one of `SOURCES`) and the options of its function.

    Raises:
        DatasetError: an unknown source or option, a missing option or one of another type, or an error on opening the
            source.
    """
    name = spec.get(SOURCE)
    if not isinstance(name, str) or name not in SOURCES:
        raise DatasetError(f"a source must be one of {', '.join(SOURCES)}, got {name!r}; write it as source: NAME")
    options = {option: value for option, value in spec.items() if option != SOURCE}
    parameters, hints = inspect.signature(SOURCES[name]).parameters, get_type_hints(SOURCES[name])
    unknown = [str(option) for option in options if option not in parameters]
    if unknown:
        known = ", ".join(parameters)
        raise DatasetError(f"an option of {name} must be one of {known}, got {', '.join(unknown)}; leave it out")
    for option, parameter in parameters.items():
        if option not in options and parameter.default is parameter.empty:
            raise DatasetError(f"{name} must have the option {option}, got {', '.join(options) or 'none'}; add it")
    for option, value in options.items():
        if not isinstance(value, hints[option]) or isinstance(value, bool):
            kind = getattr(hints[option], "__name__", str(hints[option]))
            raise DatasetError(f"the option {option} of {name} must be {kind}, got {value!r}")
    return SOURCES[name](**options)
