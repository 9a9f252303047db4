"""Compare two box files of `elysium track`: boxes must be equal, scores within 0.00001 (rounding differs by torch).

python compare.py FIRST SECOND
"""

import json
import sys
from pathlib import Path

first, second = (
    [frame for track in json.loads(Path(file).read_text("utf-8"))["tracks"] for frame in track["frames"]]
    for file in sys.argv[1:]
)
if [frame["box_xyxy_px"] for frame in first] != [frame["box_xyxy_px"] for frame in second]:
    sys.exit(f"boxes must be equal in {sys.argv[1]} and {sys.argv[2]}, and are not")
largest = max(abs(one["score"] - other["score"]) for one, other in zip(first, second, strict=True))
if largest > 1e-5:
    sys.exit(f"scores must be within 0.00001 in {sys.argv[1]} and {sys.argv[2]}, got a difference of {largest}")
print(f"{len(first)} boxes are equal; largest difference of a score: {largest:.6f}")
