"""Compares the encoders with the runtimes that their files were published for, and times them.

    pip install --no-deps ai-edge-litert backports.strenum flatbuffers efficientnet-lite-pytorch
    python -m research.semantic.compare_encoders data/encoders.safetensors IMAGE [IMAGE …]

Each network gets the same pixels as its original: the classifier as the package's own PyTorch code, the COCO detector
as OpenCV's `dnn` on TensorFlow's graph, the Open Images detector as LiteRT. Printed is the largest difference over all
images: "single" of the folded weights as they are converted (the packages are fetched anew), "stored" of those in the
file, "bfloat16" of those cast to it. Times are processor time on one thread; the tower is that of elysium-tiny, 160
pixels a side.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from safetensors.torch import load_file

from elysium.modeling_elysium.configuration_elysium import ElysiumTinyViTConfig
from elysium.modeling_elysium.semantic_encoders_elysium import ElysiumSemanticEncoders, SSDMobileNetV2, ssd_anchors
from elysium.modeling_elysium.tiny_vit_elysium import ElysiumTinyViT
from research.semantic.fetch_encoders import (
    COCO,
    COCO_NAMES,
    fetch_classifier,
    fetch_coco_graph,
    fetch_encoders,
    fetch_open_images,
    wheel_member,
)

Pixels = NDArray[np.uint8]
Outputs = dict[str, torch.Tensor]
_CLASSIFIER_SIDE, _DETECTOR_SIDE, _MODEL_SIDE, _TOWER_SIDE = 224, 300, 320, 160
_COCO_LAYERS = ("ClassPredictor/concat/sigmoid", "BoxEncodingPredictor/concat", "PriorBox/concat")


def _batch(image: Pixels) -> torch.Tensor:
    """Return an RGB image as (1, 3, S, S), 0..255."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def original_classifier(folder: Path) -> Callable[[Pixels], Outputs]:
    """Return the network of the classifier's author."""
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(fetch_classifier(folder)[0])
    network.eval()
    return lambda image: {"probabilities": network((_batch(image) - 127) / 128)[0].softmax(-1)}


def original_coco_detector(folder: Path) -> Callable[[Pixels], Outputs]:
    """Return the graph as OpenCV runs it; its encodings are x, y, width, height, and its anchors corners."""
    layout = wheel_member(COCO, "ssd_mobilenet_v2_coco_2018_03_29.pbtxt", folder)
    network = cv2.dnn.readNetFromTensorflow(
        np.frombuffer(fetch_coco_graph(folder), np.uint8), np.frombuffer(layout, np.uint8)
    )
    used = [number for number, name in enumerate(COCO_NAMES, 1) if name]

    def run(image: Pixels) -> Outputs:
        network.setInput(cv2.dnn.blobFromImage(image))
        scores, encodings, anchors = (torch.from_numpy(network.forward(layer)).flatten() for layer in _COCO_LAYERS)
        first, last = anchors.view(2, -1, 4)[0].split(2, -1)
        return {
            "scores": scores.view(-1, 1 + len(COCO_NAMES))[:, used],
            "encodings": encodings.view(-1, 4)[:, [1, 0, 3, 2]],
            "anchors": torch.cat([(first + last) / 2, last - first], -1),
        }

    return run


def original_open_images_detector(folder: Path) -> Callable[[Pixels], Outputs]:
    """Return the file as LiteRT runs it."""
    from ai_edge_litert.interpreter import Interpreter

    network = Interpreter(model_content=fetch_open_images(folder)[0], num_threads=1)
    network.allocate_tensors()

    def run(image: Pixels) -> Outputs:
        network.set_tensor(network.get_input_details()[0]["index"], image[None].astype(np.float32) / 127.5 - 1)
        network.invoke()
        found = [torch.from_numpy(network.get_tensor(one["index"])[0]) for one in network.get_output_details()]
        return {"scores": found[1][:, 1:].sigmoid(), "encodings": found[0]}

    return run


def _ours(encoders: ElysiumSemanticEncoders, name: str, image: Pixels) -> Outputs:
    """Return what the original returns, of our module."""
    module = getattr(encoders, name)
    if isinstance(module, SSDMobileNetV2):
        encodings, logits = module(_batch(image))
        return {"scores": logits[0].float().sigmoid(), "encodings": encodings[0].float(), "anchors": ssd_anchors()}
    return {"probabilities": module(_batch(image))[0].float().mean((1, 2))[0].softmax(-1)}


def compare(path: Path, images: list[Pixels]) -> Iterator[tuple[str, str, list[float]]]:
    """Yield encoder, output, and the largest differences of the weights as converted, as stored and in bfloat16."""
    ours = [ElysiumSemanticEncoders() for _ in range(3)]
    for encoders in ours[1:]:
        encoders.load_state_dict(load_file(path))
    ours[2].to(torch.bfloat16)
    with tempfile.TemporaryDirectory() as folder:
        ours[0].load_state_dict(fetch_encoders(Path(folder))[0])
        originals = {
            "classifier": (original_classifier(Path(folder)), _CLASSIFIER_SIDE),
            "coco_detector": (original_coco_detector(Path(folder)), _DETECTOR_SIDE),
            "open_images_detector": (original_open_images_detector(Path(folder)), _DETECTOR_SIDE),
        }
    for name, (original, side) in originals.items():
        worst: dict[str, NDArray[np.floating]] = {}
        for image in images:
            pixels = cv2.resize(image, (side, side))
            found = [_ours(encoders, name, pixels) for encoders in ours]
            for output, value in original(pixels).items():
                now = np.array([float((one[output] - value).abs().max()) for one in found])
                worst[output] = np.maximum(worst.get(output, 0), now)
        yield from ((name, output, values.tolist()) for output, values in worst.items())


def _milliseconds(run: Callable[[], object], frames: int) -> float:
    """Return the least processor time a frame of ten runs."""
    run()
    times = []
    for _ in range(10):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times) / frames * 1000


def measure(path: Path, images: list[Pixels], frames: int) -> Iterator[tuple[str, float]]:
    """Yield the parts and their milliseconds a frame, the tower of elysium-tiny the last."""
    encoders = ElysiumSemanticEncoders()
    encoders.load_state_dict(load_file(path))
    sized = [cv2.resize(images[index % len(images)], (_MODEL_SIDE, _MODEL_SIDE)) for index in range(frames)]
    batch = torch.cat([_batch(image) for image in sized])
    for name, module in encoders.named_children():
        yield name, _milliseconds(partial(module, batch), frames)
    yield "all, with the patches' evidence", _milliseconds(partial(encoders, batch / 255), frames)
    tower = ElysiumTinyViT(ElysiumTinyViTConfig(image_size=_TOWER_SIDE)).eval()
    small = torch.nn.functional.interpolate(batch / 255, (_TOWER_SIDE, _TOWER_SIDE))
    yield "the model's own tower", _milliseconds(partial(tower, small), frames)


@torch.inference_mode()
def main(
    encoders: Annotated[Path, typer.Argument(help="The .safetensors file of fetch_encoders.")],
    images: Annotated[list[Path], typer.Argument(help="Images to compare on.")],
) -> None:
    """Prints the largest differences from the original runtimes, and the time each encoder takes."""
    torch.set_num_threads(1)
    loaded = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in images]
    print(f"{len(loaded)} images\n| encoder | output | single | stored | bfloat16 |\n|---|---|---|---|---|")
    for name, output, differences in compare(encoders, loaded):
        print(f"| {name} | {output} | {' | '.join(f'{value:.1e}' for value in differences)} |")
    print("| part | batch 1 | batch 8 |\n|---|---|---|")
    for (name, alone), (_, together) in zip(*(measure(encoders, loaded, count) for count in (1, 8)), strict=True):
        print(f"| {name} | {alone:.0f} ms | {together:.0f} ms |")


if __name__ == "__main__":
    typer.run(main)
