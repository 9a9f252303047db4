# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Saving of a checkpoint for the Hub: its code, its Auto classes, its card and what its weights were trained on."""

import os
from string import Template
from typing import Any

from huggingface_hub import HfApi
from transformers.dynamic_module_utils import custom_object_save

_WHOLE = "modeling_elysium.ElysiumForConditionalGeneration"
_AUTO_MAP = {
    "AutoConfig": "configuration_elysium.ElysiumConfig",
    "AutoModel": "modeling_elysium.ElysiumModel",
    "AutoModelForImageTextToText": _WHOLE,
    "AutoModelForMultimodalLM": _WHOLE,
    "AutoModelForCausalLM": _WHOLE,
}


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


class HubFolderMixin:
    """Save a model with its code, configuration and card; stands before `PreTrainedModel` among the bases."""

    config: Any
    generation_config: Any

    def __init__(self, config: Any, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        # A sentence that was loaded with weights is about those weights alone.
        self._loaded_trained_on = config.trained_on if config.name_or_path else ""

    def save_pretrained(
        self, save_directory: str | os.PathLike, *args: Any, trained_on: str | None = None, **kwargs: Any
    ) -> None:
        """Save as `PreTrainedModel.save_pretrained` does, under our names of weights also where a release was loaded.

        Where the code is saved too, `auto_map` names every Auto class, not only the one that this is registered for.
        A folder without a card gets one.

        Args:
            save_directory: folder of the checkpoint.
            trained_on: sentence on the training data of these weights. By default that of the configuration; where it
                is still the one that was loaded, `derived from NAME` replaces it, because any trainer may have changed
                the weights since.
            *args: as of `PreTrainedModel.save_pretrained`.
            **kwargs: as of `PreTrainedModel.save_pretrained`.
        """
        self.config.trained_on = self._current_trained_on() if trained_on is None else trained_on
        wrapped = type(self)
        # FSDP2 puts a class of its own in front, whose code would be saved in place of ours.
        self.__class__ = next(kind for kind in wrapped.__mro__ if not kind.__module__.startswith("torch."))
        try:
            self._name_auto_classes()
            super().save_pretrained(save_directory, *args, **({"save_original_format": False} | kwargs))  # type: ignore[misc]
        finally:
            self.__class__ = wrapped
        if kwargs.get("is_main_process", True) and os.path.isdir(save_directory):
            self._write_card(save_directory)

    def push_to_hub(self, repo_id: str, *args: Any, **kwargs: Any) -> str:
        """Push as `PreTrainedModel.push_to_hub` does; a repository without a card gets ours, not an empty one."""
        api = HfApi(token=kwargs.get("token"))
        repo_id = api.create_repo(repo_id, private=kwargs.get("private"), exist_ok=True).repo_id
        if not api.file_exists(repo_id, "README.md"):
            card = model_card(self.config).encode()
            api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo_id)
        return super().push_to_hub(repo_id, *args, **kwargs)  # type: ignore[misc]

    def save_code_and_config(self, folder: str | os.PathLike) -> None:
        """Write what `save_pretrained` writes beside the weights: code, configurations and card."""
        self._name_auto_classes()
        self.config.architectures = [type(self).__name__]
        if self.is_remote_code():
            custom_object_save(self, folder, config=self.config)
        self.config.save_pretrained(folder)
        self.generation_config.save_pretrained(folder)
        self._write_card(folder)

    def _current_trained_on(self) -> str:
        sentence = self.config.trained_on
        is_stale = bool(sentence) and sentence == self._loaded_trained_on
        return derived_from(self.config.name_or_path, sentence) if is_stale else sentence

    def _write_card(self, folder: str | os.PathLike) -> None:
        path = os.path.join(folder, "README.md")
        if not os.path.exists(path):
            with open(path, "w", encoding="utf-8") as card:
                card.write(model_card(self.config))

    def _name_auto_classes(self) -> None:
        if self.is_remote_code():
            self.config.auto_map = dict(_AUTO_MAP)


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
        side=config.image_size,
        text=config.text_config.model_type,
        kept=config.num_kept_tokens,
        compressor=f"compressor: {config.compressor}, of {config.num_patches}",
        rounding=config.box_rounding,
        absent="\n- `none` instead of a box: the object cannot be seen in that frame." if config.allow_absent else "",
    )


__all__ = ["HubFolderMixin", "derived_from", "model_card"]
