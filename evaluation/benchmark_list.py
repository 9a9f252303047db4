"""The tracking benchmarks: reader, protocol and result files of each, and whether it asks by box or by words."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from elysium.readers.elysium_track import read_elysium_track
from elysium.readers.got10k import read_got10k
from elysium.readers.lasot import read_lasot
from elysium.readers.nfs import read_nfs
from elysium.readers.otb import read_otb
from elysium.readers.records import TrackingSequence
from elysium.readers.tnl2k import read_tnl2k
from elysium.readers.trackingnet import read_trackingnet
from elysium.readers.uav123 import read_uav123

from .protocols import GOT10K, LASOT, LASOT_WORDS, OTB, TRACKINGNET, UAV123, Protocol
from .result_files import Layout

Task = Literal["sot", "rsot"]


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
    task: Task = "sot"
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


def _whole(read: Callable[[str | Path], Iterator[TrackingSequence]]) -> Callable[..., Iterator[TrackingSequence]]:
    """A reader of a data set that has no splits."""
    return lambda root, split: read(root)


_LASOT_SPLITS = ("all", "test", "train")
_ALL = (
    Benchmark(name="lasot", read=read_lasot, protocol=LASOT, splits=_LASOT_SPLITS),
    Benchmark(name="lasot-language", read=read_lasot, protocol=LASOT_WORDS, task="rsot", splits=_LASOT_SPLITS),
    Benchmark(name="got10k", read=read_got10k, protocol=GOT10K, splits=("val", "train", "test"), layout="got10k"),
    Benchmark(name="otb", read=_whole(read_otb), protocol=OTB),
    Benchmark(name="uav123", read=read_uav123, protocol=UAV123, splits=("UAV123", "UAV20L")),
    Benchmark(name="nfs", read=read_nfs, protocol=OTB, splits=("30", "240")),
    Benchmark(name="trackingnet", read=read_trackingnet, protocol=TRACKINGNET, splits=("test", "train")),
    Benchmark(name="tnl2k", read=_whole(read_tnl2k), protocol=LASOT_WORDS, task="rsot"),
    Benchmark(name="elysium-track-sot", read=read_elysium_track, protocol=LASOT, splits=None),
    Benchmark(name="elysium-track-rsot", read=read_elysium_track, protocol=LASOT_WORDS, task="rsot", splits=None),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
