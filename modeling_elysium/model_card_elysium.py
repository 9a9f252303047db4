# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Default model card of a saved folder."""

import os
from string import Template
from typing import Any

_CARD = Template("""---
library_name: transformers
pipeline_tag: video-text-to-text
tags:
- elysium
- object-tracking
- visual-grounding
- custom_code
---

# Elysium

A video-language model that tracks, grounds and describes objects: give a box or a text prompt and get the
object's box in every frame of a video; give a box and get a description; ask a question about the video
([paper](https://arxiv.org/abs/2403.16558)).
$trained_on
- Vision tower `$vision`, $side pixels; language model `$text`; $kept visual tokens per frame ($compressor).
- Boxes are integers `[x1,y1,x2,y2]`, percent of width and height, written with `box_rounding: $rounding`.$absent

## Use

With PyTorch, transformers, Pillow and PyAV alone:

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

checkpoint = "FOLDER_OR_HUB_ID"  # this repository
processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(checkpoint, trust_remote_code=True)
messages = processor.build_messages("rsot", video="video.mp4", text="the red car")
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    processor_kwargs={"do_sample_frames": True, "num_frames": 8},
)
tokens = model.generate(**inputs, max_new_tokens=200, do_sample=False)
answer = processor.decode(tokens[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
boxes = processor.post_process_boxes(answer, num_frames=8)[0]  # x1,y1,x2,y2 in 0..1, and a reason where there is none
```

Long videos, several objects, annotated output: the package `elysium-vlm`, which holds the command line too.

```bash
elysium track video.mp4 --text "the red car" --model FOLDER_OR_HUB_ID
```

## Citation

Wang et al., "Elysium: Exploring Object-level Perception in Videos via MLLM", ECCV 2024, arXiv 2403.16558.
""")


def derived_from(name_or_path: str | os.PathLike, trained_on: str) -> str:
    """Return the `trained_on` sentence of weights that came from another checkpoint and may have been trained since.

    Args:
        name_or_path: Hub id or folder of that checkpoint; of a folder the last name alone is written.
        trained_on: its own sentence, kept where it is such a sentence already.

    >>> derived_from("owner/model", "trained on cats"), derived_from("runs/b", "derived from owner/model")
    ('derived from owner/model', 'derived from owner/model')
    """
    if trained_on.startswith("derived from "):
        return trained_on
    path = os.path.abspath(name_or_path)
    return f"derived from {os.path.basename(path) if os.path.isdir(path) else name_or_path}"


def model_card(config: Any) -> str:
    """Return the README.md of a checkpoint, with the Hub's metadata at its head.

    Args:
        config (`ElysiumConfig`): of the model.
    """
    return _CARD.substitute(
        trained_on=f"\nThis checkpoint was {config.trained_on.rstrip('.')}.\n" if config.trained_on else "",
        vision=config.vision_config.model_type,
        side=config.vision_config.image_size,
        text=config.text_config.model_type,
        kept=config.num_kept_tokens,
        compressor=f"compressor: {config.compressor}, of {config.num_patches}",
        rounding=config.box_rounding,
        absent="\n- `none` instead of a box: the object cannot be seen in that frame." if config.allow_absent else "",
    )


__all__ = ["derived_from", "model_card"]
