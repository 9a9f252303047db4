"""The tracking benchmarks: reader, protocol and result files of each, and whether it asks by box or by words."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from elysium.readers.elysium_track import read_elysium_track
from elysium.readers.records import TrackingSequence
from elysium.readers.tracking_benchmarks import LAYOUTS, read_tracking

from .protocols import GOT10K, LASOT, LASOT_WORDS, OTB, TRACKINGNET, UAV123, Protocol
from .result_files import Layout


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark.

    Args:
        name: as it is typed.
        read: sequences of a folder (or Hub id) and a split.
        protocol: how it scores.
        task: "sot" where the first box is given, "rsot" where words are.
        splits: what may be asked for, the default first; empty where there is one only, and None where any is.
        layout: of its result files.
    """

    name: str
    read: Callable[[str | Path, str], Iterator[TrackingSequence]]
    protocol: Protocol
    task: str = "sot"
    splits: tuple[str, ...] | None = ()
    layout: Layout = "flat"

    def split(self, asked: str | None) -> str:
        """The split that was asked for, or the default.

        Raises:
            ValueError: the benchmark has no such split.
        """
        if self.splits is None:
            return asked or "validation"
        if asked is not None and asked not in self.splits:
            known = ", ".join(self.splits) or "none to choose from"
            raise ValueError(f"the split of {self.name} must be one of its own ({known}), got {asked!r}")
        return asked or (self.splits[0] if self.splits else "all")


def _official(name: str, reader: str, protocol: Protocol, **facts: Any) -> Benchmark:
    """Return a benchmark whose sequences a layout of `tracking_benchmarks` describes."""
    splits = tuple(LAYOUTS[reader].files)
    read = partial(read_tracking, reader)
    return Benchmark(name=name, read=read, protocol=protocol, splits=splits if len(splits) > 1 else (), **facts)


_ALL = (
    _official("lasot", "lasot", LASOT),
    _official("lasot-language", "lasot", LASOT_WORDS, task="rsot"),
    _official("got10k", "got10k", GOT10K, layout="got10k"),
    _official("otb", "otb", OTB),
    _official("uav123", "uav123", UAV123),
    _official("nfs", "nfs", OTB),
    _official("trackingnet", "trackingnet", TRACKINGNET),
    _official("tnl2k", "tnl2k", LASOT_WORDS, task="rsot"),
    Benchmark(name="elysium-track-sot", read=read_elysium_track, protocol=LASOT, splits=None),
    Benchmark(name="elysium-track-rsot", read=read_elysium_track, protocol=LASOT_WORDS, task="rsot", splits=None),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
