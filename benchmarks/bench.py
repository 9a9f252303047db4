"""Provide what the benchmarks share: the clone's folder, the hardware's name, peak memory, tables and the JSON record.

Benchmarks and research run from the root of a clone: ``python -m benchmarks.NAME``, ``python -m research.NAME``.
"""

import json
import os
import platform
import resource
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from elysium.processing.atomic_files import atomic_path

ROOT = Path(__file__).resolve().parents[1]


def hardware() -> str:
    """Return the processor's name and its number of cores."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def peak_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count the parent's memory from before exec
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table with its columns aligned.

    >>> print(markdown_table(["frames", "MB"], [[8, 1.5]]))
    | frames | MB  |
    |--------|-----|
    | 8      | 1.5 |
    """
    lines = [[str(value) for value in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = ["| " + " | ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)) + " |" for line in lines]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)


def write_record(record: dict[str, Any], output: Path | None) -> None:
    """Print a record as one line of JSON, and write it to ``output``, whole or not at all, where one is given."""
    if output is not None:
        with atomic_path(output) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record))
