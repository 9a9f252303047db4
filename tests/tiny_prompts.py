"""Conversations with random pictures for the tiny model, as tensors."""

from typing import Any

import numpy as np
import torch


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Random frames (T, H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, 24, 40, 3), dtype=np.uint8)


def ask(processor: Any, *conversations: list[dict], answer: bool = False) -> dict[str, torch.Tensor]:
    """Tensors of a left-padded batch of conversations."""
    return dict(
        processor.apply_chat_template(
            list(conversations),
            add_generation_prompt=not answer,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
    )


def ragged(processor: Any, answer: str | None = None) -> list[list[dict]]:
    """A video of three frames, one of a single frame, an image, and words alone."""
    build = processor.build_messages
    texts = [{"role": "user", "content": "Who are you?"}]
    if answer is not None:
        texts.append({"role": "assistant", "content": answer})
    return [
        build("rsot", video=pictures(3), text="the red car", answer=answer),
        build("video_qa", video=pictures(1, 1), question="What is it?", answer=answer),
        build("rec", image=pictures(1, 2)[0], text="the dog", answer=answer),
        texts,
    ]
