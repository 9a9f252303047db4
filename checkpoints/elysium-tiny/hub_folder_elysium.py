# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Saving of a checkpoint for the Hub: its code, its Auto classes, its card and what its weights were trained on."""

import os
from typing import Any

from huggingface_hub import HfApi
from transformers.dynamic_module_utils import custom_object_save

from .model_card_elysium import derived_from, model_card

_WHOLE = "modeling_elysium.ElysiumForConditionalGeneration"
_AUTO_MAP = {
    "AutoConfig": "configuration_elysium.ElysiumConfig",
    "AutoModel": "modeling_elysium.ElysiumModel",
    "AutoModelForImageTextToText": _WHOLE,
    "AutoModelForMultimodalLM": _WHOLE,
    "AutoModelForCausalLM": _WHOLE,
}


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


__all__ = ["HubFolderMixin"]
