"""What the tests of curation are made of: generated videos with captions and truth, a detector that knows the truth,
and small random checkpoints of the real model classes."""

import csv
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertTokenizerFast,
    CLIPTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessor,
    Owlv2Processor,
    Sam2HieraDetConfig,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VisionConfig,
    SwinConfig,
)

from elysium.curation.detect_step import Query
from elysium.curation.video_records import Detection, Trajectory
from elysium.processing.boxes_elysium import Box
from elysium.training.synthetic.dataset import ClipShape, write_dataset

SHAPE = ClipShape(num_frames=8, width=96, height=72)
TRUTH = "truth.json"


def write_captioned_videos(folder: Path, *, count: int = 5, seed: int = 3) -> Path:
    """Generated videos with `captions.csv` beside them, and the truth that `Oracle` knows: its path is returned."""
    world = folder.with_name(f"{folder.name}-world")
    write_dataset(world, count=count, seed=seed, shape=SHAPE)
    folder.mkdir()
    names: dict[str, list[str]] = {}
    truth: dict[str, list] = {}
    for line in (world / "rows.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        names.setdefault(row["vid"], []).append(row["metadata"]["name"])
        truth[f"{row['vid']}/{row['metadata']['name']}"] = row["box"]
    with (folder / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["videoid", "video", "caption"])
        for vid, phrases in names.items():
            (world / "videos" / f"{vid}.mp4").rename(folder / f"{vid}.mp4")
            caption = "A " + " and a ".join(dict.fromkeys(phrases)) + " are moving around at sunset."
            writer.writerow([vid, f"{vid}.mp4", caption])
    path = folder.with_name(f"{folder.name}-{TRUTH}")
    path.write_text(json.dumps(truth), "utf-8")
    return path


@cache
def _truth(path: str) -> dict[str, list]:
    return json.loads(Path(path).read_text("utf-8"))


class Oracle:
    """A detector that gives the true box of a phrase, and nothing for words that it does not know.

    Args:
        path: what `write_captioned_videos` returned.
    """

    def __init__(self, path: str) -> None:
        self._truth = _truth(path)

    def detect(self, queries: Sequence[Query]) -> list[list[Detection]]:
        """The true boxes with a score of 0.9."""
        found = []
        for query in queries:
            box = self._truth.get(f"{query.video_id}/{query.text}", [None] * 1000)[query.frame_idx]
            found.append([] if box is None else [Detection(query.frame_idx, tuple(box), 0.9)])
        return found


def oracle() -> Oracle:
    """The oracle of the truth that the environment names, for commands."""
    return Oracle(os.environ["ELYSIUM_TEST_TRUTH"])


class Standing:
    """A tracker that says that nothing moves; as fast as a tracker can be."""

    def follow(self, frames: np.ndarray, boxes_xyxy_norm: Sequence[Box]) -> list[Trajectory]:
        """The first box in every frame."""
        count = len(frames)
        return [Trajectory(np.arange(count), np.tile(box, (count, 1)), np.ones(count)) for box in boxes_xyxy_norm]


def save_tiny_grounding_dino(folder: Path, words: Sequence[str]) -> Path:
    """A random checkpoint of the real Grounding DINO class, with a tokenizer that knows ``words``."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words, *letters, *(f"##{one}" for one in letters)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = BertTokenizerFast(vocab=vocabulary, do_lower_case=True, model_max_length=32)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 1, 2], window_size=4,
            out_features=["stage2", "stage3"],
        ),
        text_config=BertConfig(
            vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32,
        ),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=20, num_feature_levels=2, max_text_len=32,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).eval().save_pretrained(folder)
    pictures = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder


def save_tiny_owlv2(folder: Path) -> Path:
    """A random checkpoint of the real OWLv2 class, with a tokenizer of bytes."""
    torch.manual_seed(0)
    letters = [chr(code) for code in range(33, 127)]
    pieces = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>", "!pad"]
    tokenizer = CLIPTokenizerFast(
        vocab={piece: number for number, piece in enumerate(pieces)}, merges=[], model_max_length=16
    )
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    texts = {**small, "vocab_size": len(pieces), "max_position_embeddings": 16}
    ends = {"bos_token_id": pieces.index("<|startoftext|>"), "eos_token_id": pieces.index("<|endoftext|>")}
    config = Owlv2Config(
        text_config={**texts, **ends, "pad_token_id": 0},
        vision_config={**small, "image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    model = Owlv2ForObjectDetection(config).eval()
    for values in model.box_head.dense2.parameters():
        torch.nn.init.zeros_(values)  # boxes then have the size of a patch; at random they are thinner than a pixel
    model.save_pretrained(folder)
    Owlv2Processor(Owlv2ImageProcessor(size={"height": 64, "width": 64}), tokenizer).save_pretrained(folder)
    return folder


def save_tiny_sam2(folder: Path) -> Path:
    """A random checkpoint of the real SAM 2 video class, for pictures of 128 pixels a side."""
    torch.manual_seed(0)
    hiera = Sam2HieraDetConfig(
        hidden_size=12, image_size=[128, 128], blocks_per_stage=[1, 2, 1, 1], embed_dim_per_stage=[12, 24, 48, 96],
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[8, 4, 8, 4], global_attention_blocks=[2],
        window_positional_embedding_background_size=[7, 7],
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=[96, 48, 24, 12], fpn_hidden_size=128,
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
    )  # fmt: skip
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 128, "image_size": 128, "mask_input_channels": 8},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32},
        image_size=128, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=128, memory_encoder_output_channels=64, mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128, memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1,
    )  # fmt: skip
    Sam2VideoModel(config).eval().save_pretrained(folder)
    return folder
