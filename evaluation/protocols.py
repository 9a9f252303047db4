"""Define the rules by which benchmarks score a track: which frames count, and what is averaged over what."""

from dataclasses import dataclass, replace
from typing import Literal


class ProtocolError(ValueError):
    """Raised for a result that breaks a rule of the protocol; the message says which, where, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Rules of one-pass evaluation on one benchmark.

    Args:
        name: in reports.
        source: of the rules.
        first_frame: the frame that a tracker starts from is "truth" (replaced by the ground truth), "left_out" (not
            counted), or "predicted" (counted as it is: for tracking from text, which is given no box).
        absent: frames in which the object is not visible are a "miss" (never a hit, but counted), or "left_out".
        without_area: a predicted box without area is taken "from_before" (the box of the frame before), or counts
            "as_given", which has no overlap with anything.
        clip_to_image: both boxes are clipped to the image first, as in GOT-10k's toolkit.
        norm_precision: the share of frames with a normalised error of at most 0.2 ("at_0.2"), or the mean over the
            thresholds 0, 0.01 … 0.5 ("area").
        average: over "sequences", each of which counts the same, or over "frames" of all sequences together.
    """

    name: str
    source: str
    first_frame: Literal["truth", "left_out", "predicted"] = "truth"
    absent: Literal["miss", "left_out"] = "miss"
    without_area: Literal["from_before", "as_given"] = "as_given"
    clip_to_image: bool = False
    norm_precision: Literal["at_0.2", "area"] = "at_0.2"
    average: Literal["sequences", "frames"] = "sequences"

    @property
    def rules(self) -> list[str]:
        """Return the rules as sentences, for the report."""
        first_frame = {
            "truth": "The first frame is set to the ground truth.",
            "left_out": "The first frame is left out.",
            "predicted": "The first frame is scored like every frame: tracking from text is given no box.",
        }
        return [
            "Success: mean over the thresholds 0, 0.05 … 1 of the share of frames with IoU above the threshold "
            "(strictly).",
            "Precision: share of frames with a centre error of at most 20 pixels.",
            "Normalised precision: centre error divided by the ground truth's width and height per axis; "
            + ("share of frames at 0.2." if self.norm_precision == "at_0.2" else "mean over 0, 0.01 … 0.5."),
            first_frame[self.first_frame],
            "Frames in which the object is not visible are "
            + ("no hits and stay in the denominator." if self.absent == "miss" else "left out."),
            "A predicted box without area "
            + ("takes the box of the frame before." if self.without_area == "from_before" else "overlaps nothing."),
            "A result with fewer boxes than frames is an error; more boxes are cut; NaN is an error.",
            *(["Both boxes are clipped to the image."] if self.clip_to_image else []),
            f"Averaged over {self.average}.",
        ]


LASOT = Protocol(
    name="LaSOT one-pass evaluation",
    source="LaSOT evaluation toolkit (Fan et al., CVPR 2019), calc_seq_err_robust",
    without_area="from_before",
)
LASOT_TEXT = replace(
    LASOT,
    name=f"{LASOT.name}, text prompt",
    source="LaSOT evaluation toolkit (Fan et al., CVPR 2019), but the first frame is predicted",
    first_frame="predicted",
)
OTB = Protocol(
    name="OTB one-pass evaluation",
    source="OTB (Wu et al., TPAMI 2015), as the got10k toolkit computes it",
)
UAV123 = replace(
    OTB,
    name="UAV123 one-pass evaluation",
    source="UAV123 (Mueller et al., ECCV 2016), as the got10k toolkit computes it: frames without a box are left out",
    absent="left_out",
)
PUBLIC_SCRIPT = Protocol(
    name="public script",
    source="Hon-Wong/Elysium, eval/otb.py: boxes in whole percent, scaled to pixels and clamped to 1..100",
    first_frame="predicted",
)
GOT10K = Protocol(
    name="GOT-10k",
    source="got10k toolkit (Huang et al., TPAMI 2021)",
    first_frame="left_out",
    absent="left_out",
    clip_to_image=True,
    average="frames",
)
TRACKINGNET = Protocol(
    name="TrackingNet one-pass evaluation",
    source="TrackingNet (Mueller et al., ECCV 2018)",
    norm_precision="area",
)
