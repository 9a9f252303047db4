# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Frozen pretrained encoders that say what is where in an image: a classifier and two detectors.

Architectures: EfficientNet-Lite0 (after Tan & Le, "EfficientNet", ICML 2019, arXiv 1905.11946; all ReLU6, no
squeeze-and-excitation), and SSD (Liu et al., ECCV 2016, arXiv 1512.02325) on MobileNetV2 (Sandler et al., CVPR 2018,
arXiv 1801.04381). The published weights fit once each batch normalisation is folded into the convolution before it,
which is why the convolutions here have a bias and no normalisation.

Shapes: F images, S pixels a side, N = grid ** 2 patches in raster order, A anchors, K anchors kept, C classes.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

import torch
from torch import nn

# Expansion, kernel, stride, width and number of the blocks of a stage.
_EFFICIENTNET_LITE0 = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_MOBILENET_V2 = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 3, 2, 32, 3),
    (6, 3, 2, 64, 4),
    (6, 3, 1, 96, 3),
    (6, 3, 2, 160, 3),
    (6, 3, 1, 320, 1),
)
_STEM_WIDTH, _HEAD_WIDTH = 32, 1280
# The detectors' feature maps: cells a side at 300 pixels, and the widths of the last four: inside and out.
_DETECTOR_SIDE = 300
_MAP_SIDES = (19, 10, 5, 3, 2, 1)
_EXTRA_WIDTHS = ((256, 512), (128, 256), (128, 256), (64, 128))
_ANCHOR_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
_ANCHOR_RATIOS = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)
# How strongly the centre and the size of a box are encoded.
_CENTRE_SCALE, _SIZE_SCALE = 10.0, 5.0
_ANCHORS_KEPT, _MIN_SCORE = 100, 0.05
# Images that are encoded at once on a CPU: of three at 320 pixels the largest activation has 30 MB.
_IMAGES_AT_ONCE = 3
SEMANTIC_CLASSES = {"classifier": 1000, "coco_detector": 80, "open_images_detector": 23}


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: of an odd total, the larger part is right and below."""

    def __init__(self, wide_in: int, wide_out: int, side: int = 1, stride: int = 1, groups: int = 1):
        super().__init__(wide_in, wide_out, side, stride, side // 2, groups=groups)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stride, side = self.stride[0], self.kernel_size[0]
        if stride == side == 1:  # a product of matrices, which is faster on one thread where channels come last
            rows = nn.functional.linear(images.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
            return rows.permute(0, 3, 1, 2)
        down, across = (max((-(-n // stride) - 1) * stride + side - n, 0) for n in images.shape[-2:])
        if down == across == 2 * self.padding[0]:
            return super().forward(images)
        if down == across and down % 2 and self.weight.numel() < images.shape[1:].numel():
            # Zeros above and left in the kernel, so that the image is not copied to be padded.
            weight = nn.functional.pad(self.weight, (1, 0, 1, 0))
            return nn.functional.conv2d(images, weight, self.bias, stride, down // 2 + 1, 1, self.groups)
        images = nn.functional.pad(images, (across // 2, across - across // 2, down // 2, down - down // 2))
        return nn.functional.conv2d(images, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _activated(images: torch.Tensor) -> torch.Tensor:
    return nn.functional.relu6(images, inplace=True)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: 1x1 up, a convolution by channel, 1x1 down; added to the input where the shapes agree."""

    def __init__(self, wide_in: int, wide_out: int, expansion: int, side: int, stride: int):
        super().__init__()
        wide = expansion * wide_in
        self.expand = SameConv2d(wide_in, wide) if expansion > 1 else None
        self.depthwise = SameConv2d(wide, wide, side, stride, groups=wide)
        self.project = SameConv2d(wide, wide_out)
        self.adds = stride == 1 and wide_in == wide_out

    def widened(self, images: torch.Tensor) -> torch.Tensor:
        """Return the output of the first convolution, which the detectors read once."""
        return images if self.expand is None else _activated(self.expand(images))

    def forward(self, images: torch.Tensor, widened: torch.Tensor | None = None) -> torch.Tensor:
        hidden = self.widened(images) if widened is None else widened
        hidden = self.project(_activated(self.depthwise(hidden)))
        return images + hidden if self.adds else hidden


def _blocks(stages: tuple[tuple[int, int, int, int, int], ...]) -> nn.ModuleList:
    blocks, wide_in = nn.ModuleList(), _STEM_WIDTH
    for expansion, side, stride, wide_out, count in stages:
        for index in range(count):
            blocks.append(InvertedResidual(wide_in, wide_out, expansion, side, stride if index == 0 else 1))
            wide_in = wide_out
    return blocks


class EfficientNetLite0(nn.Module):
    """Classify cells of 32 x 32 pixels: EfficientNet-Lite0 with its last layer on every cell, not on their mean."""

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        self.stem = SameConv2d(3, _STEM_WIDTH, 3, 2)
        self.blocks = _blocks(_EFFICIENTNET_LITE0)
        self.head = SameConv2d(320, _HEAD_WIDTH)
        self.classify = nn.Linear(_HEAD_WIDTH, num_classes)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits ``(F, S / 32, S / 32, C)`` and the features ``(F, S / 32, S / 32, 1280)`` below them.

        The published network's logits are ``classify(features.mean((1, 2)))``, which equals the mean of the logits.

        Args:
            images (`torch.Tensor` of shape `(F, 3, S, S)`): RGB, 0..255.
        """
        images = ((images - 127) / 128).to(self.stem.weight.dtype)
        hidden = _activated(self.stem(images.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            hidden = block(hidden)
        features = _activated(self.head(hidden)).permute(0, 2, 3, 1)
        return self.classify(features), features


class SSDExtraMap(nn.Module):
    """Halve a feature map for larger objects, by a full convolution or by one by channel and a 1x1."""

    def __init__(self, wide_in: int, inside: int, wide_out: int, separable: bool):
        super().__init__()
        self.reduce = SameConv2d(wide_in, inside)
        self.depthwise = SameConv2d(inside, inside, 3, 2, groups=inside) if separable else None
        self.project = SameConv2d(inside, wide_out) if separable else SameConv2d(inside, wide_out, 3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = _activated(self.reduce(images))
        if self.depthwise is not None:
            hidden = _activated(self.depthwise(hidden))
        return _activated(self.project(hidden))


def ssd_anchors(device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the anchors (A, 4) of a 300 x 300 image: centre x and y, width, height, 0..1.

    >>> ssd_anchors().shape, ssd_anchors()[0].tolist()
    (torch.Size([1917, 4]), [0.02631578966975212, 0.02631578966975212, 0.10000000149011612, 0.10000000149011612])
    """
    levels = []
    for index, (cells, (scale, larger)) in enumerate(zip(_MAP_SIDES, pairwise(_ANCHOR_SCALES), strict=True)):
        shapes = [(scale * sqrt(ratio), scale / sqrt(ratio)) for ratio in _ANCHOR_RATIOS]
        # The finest map has three shapes, of which the first is a smaller square.
        shapes = [(0.1, 0.1), *shapes[1:3]] if index == 0 else [*shapes, (sqrt(scale * larger),) * 2]
        centres = (torch.arange(cells, device=device) + 0.5) / cells
        rows, columns = torch.meshgrid(centres, centres, indexing="ij")
        places = torch.stack([columns, rows], -1).view(-1, 1, 2).expand(-1, len(shapes), -1)
        sizes = torch.tensor(shapes, device=device).expand(cells * cells, -1, -1)
        levels.append(torch.cat([places, sizes], -1).flatten(0, 1))
    return torch.cat(levels)


class SSDMobileNetV2(nn.Module):
    """Detect objects: SSD on MobileNetV2, for images of 300 x 300 pixels.

    Args:
        num_classes: without the background.
        predictor_side: kernel of the convolutions that predict boxes and classes: 3 (COCO) or 1 (Open Images).
        separable: whether the extra maps have convolutions by channel (COCO) or full ones (Open Images).
    """

    def __init__(self, num_classes: int, predictor_side: int = 3, separable: bool = True):
        super().__init__()
        self.num_classes = num_classes
        self.stem = SameConv2d(3, _STEM_WIDTH, 3, 2)
        self.blocks = _blocks(_MOBILENET_V2)
        self.head = SameConv2d(320, _HEAD_WIDTH)
        # The first map is the widened input of the first block of stride 32.
        self.early_block = sum(stage[-1] for stage in _MOBILENET_V2[:5])
        widths = [6 * _MOBILENET_V2[4][3], _HEAD_WIDTH]
        self.extra_maps = nn.ModuleList()
        for inside, outside in _EXTRA_WIDTHS:
            self.extra_maps.append(SSDExtraMap(widths[-1], inside, outside, separable))
            widths.append(outside)
        shapes = [3, *(6,) * (len(widths) - 1)]
        sized = list(zip(widths, shapes, strict=True))
        self.box_predictors = nn.ModuleList(SameConv2d(wide, 4 * count, predictor_side) for wide, count in sized)
        self.class_predictors = nn.ModuleList(
            SameConv2d(wide, num_classes * count, predictor_side) for wide, count in sized
        )

    def _maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the six feature maps, fine to coarse."""
        hidden, maps = _activated(self.stem(images)), []
        for index, block in enumerate(self.blocks):
            widened = block.widened(hidden)
            if index == self.early_block:
                maps.append(widened)
            hidden = block(hidden, widened)
        maps.append(_activated(self.head(hidden)))
        for extra in self.extra_maps:
            maps.append(extra(maps[-1]))
        return maps

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return box encodings ``(F, A, 4)`` and class logits ``(F, A, C)``, for a sigmoid and without background.

        Args:
            images (`torch.Tensor` of shape `(F, 3, S, S)`): RGB, 0..255; resized to 300 x 300.
        """
        if images.shape[-2:] != (_DETECTOR_SIDE, _DETECTOR_SIDE):
            images = nn.functional.interpolate(images, (_DETECTOR_SIDE, _DETECTOR_SIDE), mode="bilinear")
        images = (images / 127.5 - 1).to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last)
        maps = self._maps(images)

        def rows(predictors: nn.ModuleList, width: int) -> torch.Tensor:
            predicted = [predict(one).permute(0, 2, 3, 1) for predict, one in zip(predictors, maps, strict=True)]
            return torch.cat([one.reshape(len(images), -1, width) for one in predicted], 1)

        return rows(self.box_predictors, 4), rows(self.class_predictors, self.num_classes)

    @staticmethod
    def decode(encodings: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        """Return boxes ``(..., 4)`` as x1, y1, x2, y2 in 0..1, not clamped.

        Args:
            encodings (`torch.Tensor` of shape `(..., 4)`): y, x, height, width, relative to the anchors.
            anchors (`torch.Tensor` of shape `(..., 4)`): of `ssd_anchors`.
        """
        places, sizes = anchors.split(2, -1)
        encodings = encodings.to(anchors.dtype)
        centres = encodings[..., [1, 0]] / _CENTRE_SCALE * sizes + places
        halves = (encodings[..., [3, 2]] / _SIZE_SCALE).exp() * sizes / 2
        return torch.cat([centres - halves, centres + halves], -1)


class SemanticEvidence(NamedTuple):
    """Store what the encoders saw, by patch, in float32.

    Attributes:
        scores (`torch.Tensor` of shape `(F, N, C)`): 0..1 for each class, the encoders' classes side by side.
        boxes (`torch.Tensor` of shape `(F, N, 4)`): the best detection that covers a patch, x1, y1, x2, y2 in 0..1.
        box_scores (`torch.Tensor` of shape `(F, N)`): its score, 0 where there is none (its box is zeros, too).
    """

    scores: torch.Tensor
    boxes: torch.Tensor
    box_scores: torch.Tensor

    def at(self, patches: torch.Tensor) -> "SemanticEvidence":
        """Return the evidence of the patches of indices `(F, K)`, with K in place of N."""
        rows = torch.arange(len(patches), device=patches.device)[:, None]
        return SemanticEvidence(*(part[rows, patches] for part in self))


def patches_covered(boxes: torch.Tensor, grid: int) -> torch.Tensor:
    """Return which patches each box covers: those whose centre it holds, and the one that holds its own centre.

    Both count by axis, so that a box narrower than a patch covers the patches along it.

    Args:
        boxes (`torch.Tensor` of shape `(F, K, 4)`): x1, y1, x2, y2 in 0..1.
        grid: patches a side.

    Returns:
        `torch.Tensor` of shape `(F, N, K)`, bool.
    """
    cells = torch.arange(grid, device=boxes.device)[:, None, None]
    first, last = boxes[:, None, :, :2], boxes[:, None, :, 2:]  # (F, 1, K, 2)
    covers = (first * grid <= cells + 0.5) & (cells + 0.5 <= last * grid)  # (F, G, K, 2)
    covers |= ((first + last) / 2 * grid).floor() == cells
    return (covers[:, :, None, :, 1] & covers[:, None, :, :, 0]).flatten(1, 2)


class ElysiumSemanticEncoders(nn.Module):
    """Collect for each patch of an image what the encoders see there. They are frozen.

    Args:
        grid: patches a side.
        classes: number of classes of each encoder wanted, of ``classifier``, ``coco_detector`` and
            ``open_images_detector``.
    """

    def __init__(self, grid: int = 10, classes: Mapping[str, int] | None = None):
        super().__init__()
        classes = SEMANTIC_CLASSES if classes is None else classes
        unknown = set(classes) - set(SEMANTIC_CLASSES)
        if unknown or not classes:
            raise ValueError(f"classes must name encoders of {sorted(SEMANTIC_CLASSES)}, got {sorted(classes)}")
        self.grid = grid
        # The order of the scores, whatever the order of the mapping.
        self.classes = {name: classes[name] for name in SEMANTIC_CLASSES if name in classes}
        if "classifier" in classes:
            self.classifier = EfficientNetLite0(classes["classifier"])
        if "coco_detector" in classes:
            self.coco_detector = SSDMobileNetV2(classes["coco_detector"])
        if "open_images_detector" in classes:
            self.open_images_detector = SSDMobileNetV2(classes["open_images_detector"], 1, separable=False)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "ElysiumSemanticEncoders":
        """Set the mode, and freeze the weights again, which `from_pretrained` makes trainable before it sets one."""
        return super().train(mode).requires_grad_(False)

    def _classified(self, images: torch.Tensor) -> torch.Tensor:
        """Return the classifier's scores (F, N, C)."""
        scores = self.classifier(images)[0].float().softmax(-1).permute(0, 3, 1, 2)
        if scores.shape[-2:] != (self.grid, self.grid):
            scores = nn.functional.interpolate(scores, (self.grid, self.grid), mode="bilinear")
        return scores.flatten(2).transpose(1, 2)

    def _detected(self, detector: SSDMobileNetV2, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a detector's best boxes (F, K, 4), clamped, and their scores (F, K, C), zeros where all are low."""
        encodings, logits = detector(images)
        index = logits.amax(-1).topk(min(_ANCHORS_KEPT, logits.shape[1])).indices  # (F, K)
        scores = logits.gather(1, index[..., None].expand(-1, -1, logits.shape[-1])).float().sigmoid()
        scores = scores.where(scores.amax(-1, keepdim=True) > _MIN_SCORE, 0)
        encodings = encodings.gather(1, index[..., None].expand(-1, -1, 4))
        return detector.decode(encodings, ssd_anchors(images.device)[index]).clamp(0, 1), scores

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> SemanticEvidence:
        """Return the evidence of images.

        Args:
            images (`torch.Tensor` of shape `(F, 3, S, S)`): RGB, 0..1. At S = 32 * grid the classifier's cells are
                the patches; at others its scores are resized.
        """
        # Else the full convolutions reorder their weights in every call.
        if not next(self.children()).stem.weight.is_contiguous(memory_format=torch.channels_last):
            with torch.inference_mode(False):
                self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        at_once = _IMAGES_AT_ONCE if images.device.type == "cpu" else len(images)
        with torch.autocast(images.device.type, enabled=False):  # in bfloat16 detections are far off
            parts = [self._evidence(part.float() * 255) for part in images.split(at_once)]
        return SemanticEvidence(*map(torch.cat, zip(*parts, strict=True)))

    def _evidence(self, images: torch.Tensor) -> SemanticEvidence:
        """Return the evidence of images in 0..255."""
        scores, boxes, box_scores = [], [], []
        for name in self.classes:
            if name == "classifier":
                scores.append(self._classified(images))
                continue
            found, found_scores = self._detected(getattr(self, name), images)
            covered = patches_covered(found, self.grid)  # (F, N, K)
            scores.append((found_scores[:, None] * covered[..., None]).amax(2))  # (F, N, C)
            boxes.append(found)
            box_scores.append(found_scores.amax(-1)[:, None] * covered)
        if not boxes:
            boxes.append(images.new_zeros(len(images), 1, 4))
            box_scores.append(images.new_zeros(len(images), self.grid**2, 1))
        best, index = torch.cat(box_scores, -1).max(-1)  # (F, N)
        chosen = torch.cat(boxes, 1).gather(1, index[..., None].expand(-1, -1, 4))
        return SemanticEvidence(torch.cat(scores, -1), chosen * (best > 0)[..., None], best)


__all__ = [
    "SEMANTIC_CLASSES",
    "EfficientNetLite0",
    "ElysiumSemanticEncoders",
    "SSDMobileNetV2",
    "SemanticEvidence",
]
