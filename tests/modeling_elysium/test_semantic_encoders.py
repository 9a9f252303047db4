"""The pretrained encoders: shapes, padding and box painting hold for any weights, and their files are read right."""

import copy
import struct
from collections.abc import Callable

import numpy as np
import pytest
import torch

from elysium.modeling_elysium.semantic_encoders_elysium import (
    EfficientNetLite0,
    ElysiumSemanticEncoders,
    SameConv2d,
    SSDMobileNetV2,
    patches_covered,
    ssd_anchors,
)
from research.semantic.fetch_encoders import COCO_NAMES, convert_classifier, detector_layer, graph_constants

SMALL = {"classifier": 7, "coco_detector": 5, "open_images_detector": 3}


@pytest.fixture(scope="module")
def encoders() -> ElysiumSemanticEncoders:
    """Return encoders of few classes with random weights."""
    torch.manual_seed(0)
    return ElysiumSemanticEncoders(grid=10, classes=SMALL)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Return two images in 0..1."""
    return torch.rand(2, 3, 320, 320, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 6)])
@pytest.mark.parametrize(("side", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
def test_same_padding_puts_the_larger_part_right_and_below(size: tuple[int, int], side: int, stride: int) -> None:
    layer, image = SameConv2d(2, 3, side, stride), torch.randn(1, 2, *size)
    (above, below), (left, right) = (
        (total // 2, total - total // 2) for total in (max((-(-n // stride) - 1) * stride + side - n, 0) for n in size)
    )
    padded = torch.nn.functional.pad(image, (left, right, above, below))
    torch.testing.assert_close(layer(image), torch.conv2d(padded, layer.weight, layer.bias, stride))
    assert layer(image).shape[-2:] == tuple(-(-n // stride) for n in size)


def test_the_classifier_is_fully_convolutional() -> None:
    logits, features = EfficientNetLite0(7).eval()(torch.rand(2, 3, 96, 64) * 255)
    assert logits.shape == (2, 3, 2, 7)
    assert features.shape == (2, 3, 2, 1280)


@pytest.mark.parametrize(("kernel", "separable"), [(3, True), (1, False)])
def test_a_detector_predicts_a_box_and_classes_for_each_anchor(kernel: int, separable: bool) -> None:
    encodings, logits = SSDMobileNetV2(5, kernel, separable)(torch.rand(1, 3, 64, 80) * 255)
    assert encodings.shape == (1, 1917, 4)
    assert logits.shape == (1, 1917, 5)


def test_encodings_move_and_stretch_anchors() -> None:
    anchor = torch.tensor([[0.5, 0.4, 0.2, 0.1]])
    assert SSDMobileNetV2.decode(torch.zeros(1, 4), anchor)[0].tolist() == pytest.approx([0.4, 0.35, 0.6, 0.45])
    # y by 10 tenths of the height, x by -5 tenths of the width, twice as high.
    encoded = torch.tensor([[10.0, -5.0, 5 * np.log(2), 0.0]])
    assert SSDMobileNetV2.decode(encoded, anchor)[0].tolist() == pytest.approx([0.3, 0.4, 0.5, 0.6])


def test_anchors_start_small_and_end_with_the_whole_image() -> None:
    anchors = ssd_anchors()
    assert anchors[:3, 2:].tolist() == pytest.approx(
        np.array([[0.1, 0.1], [0.2 * 2**0.5, 0.2 / 2**0.5], [0.2 / 2**0.5, 0.2 * 2**0.5]])
    )
    assert anchors[-1].tolist() == pytest.approx([0.5, 0.5, 0.95**0.5, 0.95**0.5])


def test_a_patch_is_covered_by_boxes_over_its_centre_and_by_small_ones_within() -> None:
    boxes = torch.tensor(
        [
            [0.0, 0.0, 0.5, 0.5],
            [0.3, 0.0, 0.7, 0.5],  # holds no centre on one axis, its own lies in the right column
            [0.9, 0.01, 0.95, 0.03],  # smaller than a patch
            [0.52, 0.0, 0.53, 1.0],  # narrower than a patch
            [0.2, 0.2, 0.8, 0.8],
        ]
    )
    assert patches_covered(boxes[None], 2)[0].T.int().tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 0, 1],
        [1, 1, 1, 1],
    ]


def slow_painting(encodings: torch.Tensor, logits: torch.Tensor, grid: int) -> tuple[torch.Tensor, ...]:
    """Return the scores (N, C), boxes (N, 4) and box scores (N) of a detector by loops over anchors and patches."""
    found, decoded = logits.sigmoid(), SSDMobileNetV2.decode(encodings, ssd_anchors()).clamp(0, 1)
    scores, boxes, box_scores = torch.zeros(grid**2, logits.shape[1]), torch.zeros(grid**2, 4), torch.zeros(grid**2)
    for anchor in found.amax(-1).argsort(descending=True)[:100].tolist():
        if (best := found[anchor].max()) <= 0.05:
            break
        x1, y1, x2, y2 = (decoded[anchor] * grid).tolist()
        for patch in range(grid**2):
            row, column = divmod(patch, grid)
            across = x1 <= column + 0.5 <= x2 or column <= (x1 + x2) / 2 < column + 1
            down = y1 <= row + 0.5 <= y2 or row <= (y1 + y2) / 2 < row + 1
            if across and down:
                scores[patch] = torch.maximum(scores[patch], found[anchor])
                if best > box_scores[patch]:
                    boxes[patch], box_scores[patch] = decoded[anchor], best
    return scores, boxes, box_scores


@pytest.mark.parametrize("lift", [-9.0, -7.0, -3.0], ids=["few", "some", "more than are kept"])
@torch.no_grad()
def test_evidence_equals_loops_over_patches(
    encoders: ElysiumSemanticEncoders, images: torch.Tensor, lift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(2)
    predicted = []
    for detector in (encoders.coco_detector, encoders.open_images_detector):
        logits = torch.randn(2, 1917, detector.num_classes) * 2 + lift
        predicted.append((torch.randn(2, 1917, 4) * 3, logits))
        monkeypatch.setattr(detector, "forward", lambda _, both=predicted[-1]: both)
    evidence = encoders(images)
    classified = encoders.classifier(images * 255)[0].softmax(-1).flatten(1, 2)
    torch.testing.assert_close(evidence.scores[..., :7], classified)
    for index in range(2):
        painted = [slow_painting(encodings[index], logits[index], 10) for encodings, logits in predicted]
        scores, boxes, box_scores = zip(*painted, strict=True)
        torch.testing.assert_close(evidence.scores[index, :, 7:], torch.cat(scores, -1))
        torch.testing.assert_close(evidence.box_scores[index], torch.maximum(*box_scores))
        second = (box_scores[1] > box_scores[0])[:, None]
        torch.testing.assert_close(evidence.boxes[index], boxes[1].where(second, boxes[0]))
        assert evidence.box_scores[index].any()


def test_patches_without_a_detection_have_zeros(images: torch.Tensor) -> None:
    encoders = ElysiumSemanticEncoders(classes=SMALL)
    for detector in (encoders.coco_detector, encoders.open_images_detector):
        for predict in detector.class_predictors:
            predict.bias.fill_(-20)
    evidence = encoders(images)
    assert not evidence.boxes.any() and not evidence.box_scores.any() and not evidence.scores[..., 7:].any()
    torch.testing.assert_close(evidence.scores[..., :7].sum(-1), torch.ones(2, 100))


@pytest.mark.parametrize(("side", "grid"), [(224, 10), (320, 14), (160, 5)])
def test_any_size_of_image_gives_the_grid(encoders: ElysiumSemanticEncoders, side: int, grid: int) -> None:
    other = ElysiumSemanticEncoders(grid, SMALL)
    other.load_state_dict(encoders.state_dict())
    evidence = other(torch.rand(1, 3, side, side))
    assert evidence.scores.shape == (1, grid**2, 15) and evidence.boxes.shape == (1, grid**2, 4)


@torch.no_grad()
def test_the_networks_compute_what_plain_padded_convolutions_compute(
    encoders: ElysiumSemanticEncoders, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(layer: SameConv2d, images: torch.Tensor) -> torch.Tensor:
        stride, side = layer.stride[0], layer.kernel_size[0]
        down, across = (max((-(-n // stride) - 1) * stride + side - n, 0) for n in images.shape[-2:])
        images = torch.nn.functional.pad(images, (across // 2, across - across // 2, down // 2, down - down // 2))
        return torch.conv2d(images, layer.weight.contiguous(), layer.bias, stride, 0, 1, layer.groups)

    encoders(images)  # arranges the weights
    networks = [getattr(encoders, name) for name in SMALL]
    found = [output for network in networks for output in network(images * 255)]
    monkeypatch.setattr(SameConv2d, "forward", plain)
    expected = [output for network in networks for output in network(images * 255)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_evidence_of_many_images_is_that_of_each_part(encoders: ElysiumSemanticEncoders, mode: Callable) -> None:
    images = torch.rand(5, 3, 160, 160, generator=torch.Generator().manual_seed(3))
    fresh = copy.deepcopy(encoders)
    with mode():
        together, parts = fresh(images), [encoders(part) for part in images.split(3)]
    for ours, theirs in zip(together, map(torch.cat, zip(*parts, strict=True)), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(weight.is_inference() for weight in fresh.parameters())


def test_the_encoders_wanted_are_chosen_by_name(images: torch.Tensor) -> None:
    alone = ElysiumSemanticEncoders(classes={"classifier": 7})(images)
    assert alone.scores.shape == (2, 100, 7) and not alone.box_scores.any()
    detector = ElysiumSemanticEncoders(classes={"open_images_detector": 3})
    assert {name.split(".")[0] for name in detector.state_dict()} == {"open_images_detector"}
    assert detector(images).scores.shape == (2, 100, 3)
    with pytest.raises(ValueError, match="must name encoders"):
        ElysiumSemanticEncoders(classes={"segmenter": 3})


def test_weights_are_frozen_and_run_in_bfloat16(encoders: ElysiumSemanticEncoders, images: torch.Tensor) -> None:
    assert not any(weight.requires_grad for weight in encoders.parameters())
    half = ElysiumSemanticEncoders(classes=SMALL).to(torch.bfloat16)
    half.load_state_dict(encoders.state_dict())
    evidence = half(images.to(torch.bfloat16))
    for found in evidence:
        assert found.dtype == torch.float32 and not found.requires_grad and found.min() >= 0 and found.max() <= 1
    torch.testing.assert_close(evidence.scores[..., :7], encoders(images).scores[..., :7], rtol=0, atol=0.02)


def published_classifier(ours: EfficientNetLite0) -> dict[str, torch.Tensor]:
    """Return random weights by the names of the package, with batch normalisations."""
    norms = {"stem": "_bn0", "head": "_bn1", "expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    published = {"_fc.weight": torch.randn(7, 1280) / 36, "_fc.bias": torch.randn(7)}
    for name, layer in ours.named_modules():
        if isinstance(layer, SameConv2d):
            *block, last = name.split(".")
            prefix = f"_blocks.{block[1]}." if block else ""
            theirs = f"_{last}_conv" if block else f"_conv_{last}"
            published[f"{prefix}{theirs}.weight"] = layer.weight.clone()
            for part in ("weight", "bias", "running_mean", "running_var"):
                published[f"{prefix}{norms[last]}.{part}"] = torch.rand(layer.out_channels) + 0.5
    return published


@torch.no_grad()
def test_folding_keeps_what_the_classifier_computes() -> None:
    torch.manual_seed(0)
    ours = EfficientNetLite0(7)
    published = published_classifier(ours)
    converted = convert_classifier(published)
    ours.load_state_dict(converted)
    image = torch.rand(1, 3, 64, 64)
    layer = torch.nn.functional.conv2d(
        torch.nn.functional.pad(image, (0, 1, 0, 1)), published["_conv_stem.weight"], stride=2
    )
    norm = [published[f"_bn0.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    torch.testing.assert_close(ours.stem(image), torch.nn.functional.batch_norm(layer, *norm, eps=1e-3))
    assert set(converted) == set(ours.state_dict())


def test_every_convolution_of_a_detector_has_a_published_name() -> None:
    assert detector_layer("FeatureExtractor/MobilenetV2/Conv/weights") == "stem"
    assert detector_layer("FeatureExtractor/MobilenetV2/expanded_conv/project/weights") == "blocks.0.project"
    assert detector_layer("FeatureExtractor/MobilenetV2/layer_19_1_Conv2d_2_1x1_256/weights") == "extra_maps.0.reduce"
    assert detector_layer("BoxPredictor_0/BoxEncodingPredictor/weights") == "box_predictors.0"


def message(number: int, content: bytes) -> bytes:
    """Return a field of a protocol buffer that holds bytes."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def test_a_graph_gives_its_float_constants() -> None:
    values = np.arange(60, dtype=np.float32).reshape(3, 20)
    shape = b"".join(message(2, bytes([1 << 3, size])) for size in values.shape)
    tensor = bytes([1 << 3, 1]) + message(2, shape) + message(4, values.tobytes())
    other = message(5, message(1, b"dtype") + message(2, bytes([6 << 3, 1])))
    node = message(1, b"weights") + message(2, b"Const") + other
    node += message(5, message(1, b"value") + message(2, message(8, tensor)))
    integers = message(5, message(1, b"value") + message(2, message(8, bytes([1 << 3, 3]))))
    found = graph_constants(message(1, node) + message(1, message(1, b"axis") + integers) + struct.pack("<BB", 32, 7))
    assert list(found) == ["weights"]
    np.testing.assert_array_equal(found["weights"], values)


def test_coco_has_eighty_names_at_the_published_ids() -> None:
    assert len(COCO_NAMES) == 90 and len(set(COCO_NAMES)) == 81
    places = {1: "person", 13: "stop sign", 44: "bottle", 47: "cup", 62: "chair", 72: "tv", 90: "toothbrush"}
    assert {number: COCO_NAMES[number - 1] for number in places} == places
