"""Figures of `eval_v1`: overlap, absence, the gate, and how well a box's score predicts its overlap."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elysium.processing.overlap import paired_iou

IOU_THRESHOLD = 0.5
ON_OBJECT = 0.25


@dataclass
class OverlapTally:
    """IoUs over the frames in which the target can be seen; a frame without a box counts 0."""

    clips: list[NDArray[np.float64]] = field(default_factory=list)

    def add(
        self,
        predicted_xyxy: NDArray[np.float64],
        true_xyxy: NDArray[np.float64],
        visible: NDArray[np.bool_],
        *,
        first: int = 0,
    ) -> None:
        """Takes in one clip from frame ``first`` (0-based) on; boxes (T, 4), NaN where there is none."""
        self.clips.append(paired_iou(predicted_xyxy, true_xyxy)[first:][visible[first:]])

    def summary(self, num_clips: int | None = None) -> dict[str, Any] | None:
        """Mean IoU and success (share of IoU > 0.5, as in one-pass evaluation) over the frames of the first so many
        clips; None where there is no frame."""
        chosen = self.clips[:num_clips]
        ious = np.concatenate(chosen) if chosen else np.zeros(0)
        if not len(ious):
            return None
        return {
            "mean_iou": round(float(ious.mean()), 4),
            "success_50": round(float((ious > IOU_THRESHOLD).mean()), 4),
            "clips": len(chosen),
            "frames": len(ious),
        }


@dataclass
class AbsenceTally:
    """Frames that were called absent against frames in which the target cannot be seen."""

    called: int = 0
    true: int = 0
    right: int = 0
    unreadable: int = 0
    frames: int = 0

    def add(self, reasons: Sequence[str | None], visible: NDArray[np.bool_], *, first: int = 0) -> None:
        """Takes in one clip from frame ``first`` (0-based) on; `reasons` as in `Track`."""
        called = np.array([reason == "absent" for reason in reasons[first:]], dtype=bool)
        hidden = ~visible[first:]
        self.called += int(called.sum())
        self.true += int(hidden.sum())
        self.right += int((called & hidden).sum())
        self.unreadable += sum(reason == "unreadable" for reason in reasons[first:])
        self.frames += len(called)

    def summary(self) -> dict[str, Any]:
        """Precision and recall, None where nothing was called absent or nothing was."""
        return {
            "precision": round(self.right / self.called, 4) if self.called else None,
            "recall": round(self.right / self.true, 4) if self.true else None,
            "frames_called_absent": self.called,
            "frames_truly_absent": self.true,
            "frames_unreadable": self.unreadable,
            "frames": self.frames,
        }


def patch_coverage(on_objects: NDArray[np.bool_], grid: int) -> NDArray[np.float64]:
    """Share of each patch that is covered, exact also where patches do not end on pixel borders.

    Args:
        on_objects (`np.ndarray` of shape `(T, H, W)`): pixels of objects.
        grid: patches along each side.

    Returns:
        `np.ndarray` of shape `(T, N)`, N = grid * grid in raster order.
    """
    _, height, width = on_objects.shape
    rows, columns = _bin_weights(height, grid), _bin_weights(width, grid)  # (grid, H), (grid, W)
    covered = np.einsum("gh,thw,kw->tgk", rows, on_objects.astype(np.float64), columns, optimize=True)
    return covered.reshape(len(on_objects), grid * grid)


def _bin_weights(length: int, grid: int) -> NDArray[np.float64]:
    """(grid, length): how much of each bin each pixel fills; rows add up to 1."""
    edges = np.arange(grid + 1) * length / grid
    pixels = np.arange(length)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(shared, 0, None) * grid / length


@dataclass
class GateTally:
    """Tokens that the gate kept against tokens that lie on objects (at least a quarter of the patch is covered)."""

    tokens: int = 0
    kept: int = 0
    on: int = 0
    kept_on: int = 0

    def add(self, coverage: NDArray[np.float64], kept_indices: NDArray[np.int64]) -> None:
        """Takes in frames: coverage (T, N) of the patches and the indices (T, K) that were kept."""
        on = coverage >= ON_OBJECT
        self.tokens += on.size
        self.kept += kept_indices.size
        self.on += int(on.sum())
        self.kept_on += int(np.take_along_axis(on, kept_indices, axis=1).sum())

    def summary(self) -> dict[str, Any] | None:
        """Shares and their ratios; None where there is nothing to divide by.

        Over pooled tokens the two ratios are one number, kept_on * tokens / (kept * on); no gate can exceed the
        ceiling, at which all kept tokens are on objects or all tokens on objects are kept.
        """
        if not self.kept or not self.on:
            return None
        share_on, share_kept = self.on / self.tokens, self.kept / self.tokens
        precision, recall = self.kept_on / self.kept, self.kept_on / self.on
        return {
            "share_of_kept_on_objects": round(precision, 4),
            "share_of_all_on_objects": round(share_on, 4),
            "precision_ratio": round(precision / share_on, 3),
            "recall_of_object_tokens": round(recall, 4),
            "share_kept": round(share_kept, 4),
            "recall_ratio": round(recall / share_kept, 3),
            "ratio_ceiling": round(min(1 / share_on, 1 / share_kept), 3),
            "tokens": self.tokens,
        }


@dataclass
class ScoreTally:
    """Scores of boxes beside their IoU; a box in a frame in which the target cannot be seen has IoU 0."""

    scores: list[NDArray[np.float64]] = field(default_factory=list)
    ious: list[NDArray[np.float64]] = field(default_factory=list)

    def add(
        self,
        scores: NDArray[np.float64],
        predicted_xyxy: NDArray[np.float64],
        true_xyxy: NDArray[np.float64],
        *,
        first: int = 0,
    ) -> None:
        """Takes in the boxes of one clip from frame ``first`` (0-based) on; frames without a scored box are left
        out."""
        scored = np.isfinite(scores[first:]) & np.isfinite(predicted_xyxy[first:]).all(axis=1)
        self.scores.append(np.asarray(scores[first:], np.float64)[scored])
        self.ious.append(paired_iou(predicted_xyxy, true_xyxy)[first:][scored])

    def summary(self) -> dict[str, Any] | None:
        """Spearman's rank correlation, and mean IoU by score decile from the least sure; None below ten boxes."""
        from scipy.stats import spearmanr

        scores = np.concatenate(self.scores) if self.scores else np.zeros(0)
        ious = np.concatenate(self.ious) if self.ious else np.zeros(0)
        if len(scores) < 10:
            return None
        varied = np.ptp(scores) > 0 and np.ptp(ious) > 0
        deciles = np.array_split(np.argsort(scores, kind="stable"), 10)
        return {
            "spearman": round(float(spearmanr(scores, ious).statistic), 4) if varied else None,
            "boxes": len(scores),
            "decile_mean_score": [round(float(scores[rows].mean()), 4) for rows in deciles],
            "decile_mean_iou": [round(float(ious[rows].mean()), 4) for rows in deciles],
        }
