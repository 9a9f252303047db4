"""List the tracking benchmarks: an entry holds title, reader, protocol, prompt and layout of result files.

A new benchmark is an entry here, a layout in `readers/tracking_benchmarks.py`, and a line in docs/evaluation.md.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from elysium.readers.elysium_track import read_elysium_track
from elysium.readers.samples import TrackingSequence
from elysium.readers.tracking_benchmarks import LAYOUTS, read_tracking

from .protocols import GOT10K, LASOT, LASOT_TEXT, OTB, TRACKINGNET, UAV123, Protocol
from .result_files import Layout


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A tracking benchmark.

    Args:
        name: argument of `elysium evaluate`.
        title: name in reports, as the benchmark's paper writes it.
        read: returns the sequences of a folder (or Hub id) and a split.
        protocol: rules of its scores.
        task: "sot" for a prompt by the first box, "rsot" for a text prompt.
        splits: allowed splits, the default first; empty for a benchmark without splits, None for any.
        layout: of its result files.
    """

    name: str
    title: str
    read: Callable[[str | Path, str], Iterator[TrackingSequence]]
    protocol: Protocol
    task: str = "sot"
    splits: tuple[str, ...] | None = ()
    layout: Layout = "flat"

    def of_data(self, data: str | Path, split: str | None) -> tuple["Benchmark", str]:
        """Return the benchmark with the title of the data, where they are a user's own, and the split.

        Args:
            data: folder, file or Hub id.
            split: name, None for the default.

        Raises:
            ValueError: the benchmark has no such split.
        """
        if self.splits is None and Path(data).exists():
            return dataclasses.replace(self, title=Path(data).resolve().stem), "all"
        return self, self.split(split)

    def split(self, name: str | None) -> str:
        """Return the split of a name, or the default for None.

        Raises:
            ValueError: the benchmark has no such split.
        """
        if self.splits is None:
            return name or "validation"
        if name is not None and name not in self.splits:
            known = ", ".join(self.splits) or "none to choose from"
            raise ValueError(f"the split of {self.name} must be one of its own ({known}), got {name!r}")
        return name or (self.splits[0] if self.splits else "all")


def _official(name: str, title: str, protocol: Protocol, *, reader: str | None = None, **facts: Any) -> Benchmark:
    """Return a benchmark that `tracking_benchmarks` reads."""
    splits, read = tuple(LAYOUTS[reader or name].files), partial(read_tracking, reader or name)
    splits = splits if len(splits) > 1 else ()
    return Benchmark(name=name, title=title, read=read, protocol=protocol, splits=splits, **facts)


_elysium_track = partial(Benchmark, title="ElysiumTrack", read=read_elysium_track, splits=None)
BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        _official("lasot", "LaSOT", LASOT),
        _official("lasot-language", "LaSOT", LASOT_TEXT, reader="lasot", task="rsot"),
        _official("got10k", "GOT-10k", GOT10K, layout="got10k"),
        _official("otb", "OTB", OTB),
        _official("uav123", "UAV123", UAV123),
        _official("nfs", "NfS", OTB),
        _official("trackingnet", "TrackingNet", TRACKINGNET),
        _official("tnl2k", "TNL2K", LASOT_TEXT, task="rsot"),
        _elysium_track(name="elysium-track-sot", protocol=LASOT),
        _elysium_track(name="elysium-track-rsot", protocol=LASOT_TEXT, task="rsot"),
    )
}
