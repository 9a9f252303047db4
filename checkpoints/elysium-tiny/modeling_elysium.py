# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Elysium: vision tower -> token compressor -> projector -> language model.

Shapes: B samples, L tokens, ``sum T`` frames (``sum I`` images) of the whole batch, S pixels a side, N patches,
K kept tokens, C vision width, D text width. A ragged batch of videos is its frames, flattened.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple, torch_compilable_check

from .compat_elysium import CACHE_NAME, cache_kwargs, output_cache, slice_logits_to_keep
from .configuration_elysium import ElysiumConfig, ElysiumTinyViTConfig
from .generation_elysium import BoxAnswerGrammar, generate_boxes
from .hub_folder_elysium import HubFolderMixin
from .object_names_elysium import ElysiumObjectNames, ObjectNames
from .selector_elysium import ElysiumCrossAttentionCompressor, ElysiumPublicSelector, build_compressor
from .semantic_encoders_elysium import ElysiumSemanticEncoders, SemanticEvidence
from .semantic_projector_elysium import ElysiumSemanticProjector
from .tiny_vit_elysium import ElysiumTinyViT
from .vision_families_elysium import vision_family


@dataclass
class ElysiumVisionOutput(BaseModelOutputWithPooling):
    """Hold the visual features of frames.

    last_hidden_state (`torch.FloatTensor` of shape `(sum T, N, C)`): patch features before compression.
    pooler_output (`torch.FloatTensor` of shape `(sum T, K, D)`): tokens as the language model takes them.
    hidden_states, attentions (`tuple`, *optional*): of the vision tower, where asked for.
    selector_scores (`torch.FloatTensor` of shape `(sum T, N)`, *optional*): selection scores before the softmax.
    selector_indices (`torch.LongTensor` of shape `(sum T, K)`, *optional*): the patches that were kept.
    semantic_evidence (`SemanticEvidence`, *optional*): what the semantic encoders see there, `(sum T, K, ...)`.
    """

    selector_scores: torch.Tensor | None = None
    selector_indices: torch.Tensor | None = None
    semantic_evidence: SemanticEvidence | None = None


@dataclass
class VisualTokens:
    """Hold the projected visual tokens of an output.

    image_hidden_states (`torch.FloatTensor` of shape `(sum I, K, D)`, *optional*): tokens of the images.
    video_hidden_states (`torch.FloatTensor` of shape `(sum T, K, D)`, *optional*): tokens of the video frames.
    """

    image_hidden_states: torch.Tensor | None = None
    video_hidden_states: torch.Tensor | None = None


@dataclass
class ElysiumModelOutputWithPast(VisualTokens, BaseModelOutputWithPast):
    """`BaseModelOutputWithPast` plus the projected visual tokens, and the names that answers may copy."""

    object_names: ObjectNames | None = None


@dataclass
class ElysiumCausalLMOutputWithPast(VisualTokens, CausalLMOutputWithPast):
    """`CausalLMOutputWithPast` plus the projected visual tokens, and the names that answers may copy."""

    object_names: ObjectNames | None = None


class ElysiumProjector(nn.Module):
    """Map kept tokens (sum T, K, C') to the text width (sum T, K, D)."""

    def __init__(self, input_size: int, config: ElysiumConfig):
        super().__init__()
        text_size = config.text_config.hidden_size
        if config.projector_type == "identity" and input_size != text_size:
            raise ValueError(
                f"projector_type 'identity' needs equal widths, got vision {input_size} and text {text_size}; "
                "use 'linear' or 'mlp2x_gelu'"
            )
        self.projector_type = config.projector_type
        if self.projector_type == "linear":
            self.linear = nn.Linear(input_size, text_size)
        elif self.projector_type == "mlp2x_gelu":
            self.linear_1 = nn.Linear(input_size, text_size)
            self.act = ACT2FN["gelu"]
            self.linear_2 = nn.Linear(text_size, text_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.projector_type == "identity":
            return tokens
        if self.projector_type == "linear":
            return self.linear(tokens)
        return self.linear_2(self.act(self.linear_1(tokens)))


def _build_vision_tower(config: ElysiumConfig) -> nn.Module:
    """Build the vision tower without the layers after `vision_feature_layer`: unused, they would get no gradient."""
    vision = config.vision_config
    family = vision_family(vision.model_type)
    # Remote code loads config and model modules separately, so that AutoModel would not know the config's class.
    own = vision.model_type == ElysiumTinyViTConfig.model_type
    tower = ElysiumTinyViT(vision) if own else AutoModel.from_config(vision)
    del tower.get_submodule(family.layers)[vision.num_hidden_layers + config.vision_feature_layer + 1 :]
    if getattr(tower, "use_head", False):  # SigLIP's pooling
        tower.use_head = False
        del tower.head
    if family.final_norm and (config.vision_feature_layer < -1 or not family.norm_reads_patches):
        setattr(tower, family.final_norm, nn.Identity())
    return tower


class ElysiumPreTrainedModel(HubFolderMixin, PreTrainedModel):
    config: ElysiumConfig
    config_class = ElysiumConfig
    base_model_prefix = "model"
    input_modalities = ("image", "video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = [
        "ElysiumTSelector",
        "ElysiumPublicSelector",
        "ElysiumCrossAttentionCompressor",
        *ElysiumTinyViT._no_split_modules,
    ]
    _skip_keys_device_placement = [CACHE_NAME]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _can_compile_fullgraph = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ElysiumPublicSelector):
            # The public code starts with evenly spread tokens: 0, 5, 10, ... whatever the image shows.
            stride = module.trans_bias.numel() // module.num_kept_tokens
            bias = torch.zeros_like(module.trans_bias)
            bias[: stride * module.num_kept_tokens : stride] = 1.0
            init.zeros_(module.trans_weight)
            init.copy_(module.trans_bias, bias)
        elif isinstance(module, ElysiumCrossAttentionCompressor):
            init.normal_(module.queries, std=0.02)
        elif isinstance(module, ElysiumModel) and module.config.kept_position_embedding:
            init.normal_(module.kept_position_embedding.weight, std=0.02)


class ElysiumModel(ElysiumPreTrainedModel):
    """Vision tower, compressor, projector and the language model without its head (what `AutoModel` gives)."""

    _keys_to_ignore_on_load_unexpected = [r"lm_head\.", r"vision_tower\.(post_layernorm|layernorm|norm|head)\."]

    def __init__(self, config: ElysiumConfig):
        super().__init__(config)
        self.vision_tower = _build_vision_tower(config)
        # A published tower has layers after the one that is read; ignore their weights.
        family, last = vision_family(config.vision_config.model_type), config.vision_config.num_hidden_layers
        unused = "|".join(str(last - n) for n in range(1, -config.vision_feature_layer))
        self._keys_to_ignore_on_load_unexpected = [
            *self._keys_to_ignore_on_load_unexpected,
            *([rf"vision_tower\.{re.escape(family.layers)}\.({unused})\."] if unused else []),
        ]
        width = config.vision_config.hidden_size
        self.vision_feature_norm = nn.LayerNorm(width) if config.vision_feature_norm else nn.Identity()
        self.selector = build_compressor(config)
        self.multi_modal_projector = ElysiumProjector(self.selector.output_size, config)
        if config.semantic_config is not None:
            grid = config.vision_config.image_size // config.vision_config.patch_size
            self.semantic_encoders = ElysiumSemanticEncoders(grid, config.semantic_config["classes"])
            self.semantic_projector = ElysiumSemanticProjector(config)
            self.semantic_names = ElysiumObjectNames(config)
        if config.kept_position_embedding:
            self.kept_position_embedding = nn.Embedding(config.num_patches, config.text_config.hidden_size)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.FloatTensor,
        semantic_evidence: SemanticEvidence | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | ElysiumVisionOutput:
        """Return the visual tokens of images.

        Images of the vision tower's own size are encoded without the semantic encoders, where the model has them.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(sum I, 3, S, S)`): normalised images.
            semantic_evidence (`SemanticEvidence`, *optional*): in place of the semantic encoders' own.
            **kwargs: passed to the vision tower.

        Raises:
            ValueError: images of another size than the checkpoint's.
        """
        kwargs.pop("return_dict", None)
        side, (height, width) = self.config.vision_config.image_size, pixel_values.shape[-2:]
        if height != width or width not in (side, self.config.image_size):
            raise ValueError(
                f"images must be {self.config.image_size}x{self.config.image_size} pixels, which this checkpoint was "
                f"trained on, got {width}x{height}; leave size out of the processor's settings"
            )
        if width > side:
            if semantic_evidence is None:
                semantic_evidence = self.get_semantic_evidence(pixel_values)
            pixel_values = F.avg_pool2d(pixel_values, width // side)
        vision = self.vision_tower(pixel_values.to(self.vision_tower.dtype), return_dict=True, **kwargs)
        patches = vision.last_hidden_state[:, self.config.vision_prefix_tokens :]  # (sum I, N, C)
        patches = self.vision_feature_norm(patches)
        if semantic_evidence is not None:
            semantic = self.semantic_projector(semantic_evidence, self.get_input_embeddings())  # (sum I, N, D)
            patches = patches + self.semantic_projector.to_patches(semantic)
        kept = self.selector(patches)  # tokens (sum I, K, C')
        tokens = self.multi_modal_projector(kept.tokens)  # (sum I, K, D)
        if self.config.kept_position_embedding:
            tokens = tokens + self.kept_position_embedding(kept.indices)
        if semantic_evidence is not None:
            tokens = tokens + semantic.gather(1, kept.indices.unsqueeze(-1).expand(-1, -1, semantic.shape[-1]))
        return ElysiumVisionOutput(
            last_hidden_state=patches,
            pooler_output=tokens,
            hidden_states=vision.hidden_states,
            attentions=vision.attentions,
            selector_scores=kept.scores,
            selector_indices=kept.indices,
            semantic_evidence=None if semantic_evidence is None else semantic_evidence.at(kept.indices),
        )

    def get_semantic_evidence(self, pixel_values: torch.FloatTensor) -> SemanticEvidence:
        """Return what the semantic encoders say of images.

        Args:
            pixel_values (`torch.FloatTensor` of shape `(sum I, 3, S, S)`): normalised images.
        """
        config = self.config.semantic_config
        mean, std = (pixel_values.new_tensor(v).view(3, 1, 1) for v in (config["image_mean"], config["image_std"]))
        return self.semantic_encoders(pixel_values * std + mean)

    @can_return_tuple
    def get_video_features(
        self, pixel_values_videos: torch.FloatTensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple | ElysiumVisionOutput:
        """Return the visual tokens of video frames; each frame is an image.

        Args:
            pixel_values_videos (`torch.FloatTensor` of shape `(sum T, 3, S, S)`): frames of all videos, flattened.
            **kwargs: passed to the vision tower.
        """
        return self.get_image_features(pixel_values_videos, **(kwargs | {"return_dict": True}))

    def _encode_together(
        self, pixel_values: torch.FloatTensor, pixel_values_videos: torch.FloatTensor
    ) -> dict[str, ElysiumVisionOutput]:
        """Encode images and frames in one pass: in a sharded run every process calls the vision tower once a step."""
        frames = pixel_values_videos.to(pixel_values.dtype)
        both = self.get_image_features(torch.cat([pixel_values, frames]), return_dict=True)
        counts = [len(pixel_values), len(frames)]
        tokens = both.pooler_output.split(counts)
        kept: Sequence[torch.Tensor | None] = [None, None]
        evidence: list[SemanticEvidence | None] = [None, None]
        if both.semantic_evidence is not None:
            kept = both.selector_indices.split(counts)
            parts = zip(*(part.split(counts) for part in both.semantic_evidence), strict=True)
            evidence = [SemanticEvidence(*part) for part in parts]
        return {
            name: ElysiumVisionOutput(
                pooler_output=tokens[place], selector_indices=kept[place], semantic_evidence=evidence[place]
            )
            for place, name in enumerate(("image", "video"))
        }

    def mark_named(self, features: ElysiumVisionOutput, input_ids: torch.Tensor | None, token_id: int) -> torch.Tensor:
        """Return visual tokens (sum I, K, D), those marked that show what the text behind the images names.

        Args:
            features: of all images of a kind.
            input_ids (`torch.LongTensor` of shape `(B, L)`): with their placeholders; None marks nothing.
            token_id: of the placeholder.
        """
        tokens, evidence = features.pooler_output, getattr(features, "semantic_evidence", None)
        if evidence is None or input_ids is None:
            return tokens
        images = (input_ids == token_id).sum(1) // tokens.shape[1]  # (B,)
        named = self.semantic_projector.named_classes(self._questions(input_ids)).repeat_interleave(images, 0)
        return tokens + self.semantic_projector.marks(evidence, named)

    def name_objects(
        self, features: ElysiumVisionOutput, input_ids: torch.Tensor | None, token_id: int
    ) -> ObjectNames | None:
        """Return the names that answers about a box may copy; arguments are those of `mark_named`."""
        evidence = getattr(features, "semantic_evidence", None)
        if evidence is None or input_ids is None:
            return None
        images = (input_ids == token_id).sum(1) // features.pooler_output.shape[1]  # (B,)
        if not images.all():
            return None
        first = images.cumsum(0) - images
        return self.semantic_names.find(
            SemanticEvidence(*(part[first] for part in evidence)),
            features.selector_indices[first],
            self._questions(input_ids),
            self.semantic_projector.phrases[:-2],
        )

    def _questions(self, input_ids: torch.Tensor) -> list[list[int]]:
        """Return the tokens behind the images of each prompt."""
        visual = (input_ids == self.config.image_token_id) | (input_ids == self.config.video_token_id)
        return [
            ids[max((place for place, is_visual in enumerate(row) if is_visual), default=-1) + 1 :]
            for ids, row in zip(input_ids.tolist(), visual.tolist(), strict=True)
        ]

    def _placeholder_mask(
        self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor, token_id: int, features: torch.Tensor
    ) -> torch.Tensor:
        """Return the (B, L, 1) mask of the places of `features`; raise where the counts differ."""
        if input_ids is not None:
            mask = input_ids == token_id
        else:
            placeholder = self.get_input_embeddings()(torch.tensor(token_id, device=inputs_embeds.device))
            mask = (inputs_embeds == placeholder).all(dim=-1)
        torch_compilable_check(
            mask.sum() * inputs_embeds.shape[-1] == features.numel(),
            lambda: (
                f"the prompt must hold one placeholder (id {token_id}) for each visual token, got {int(mask.sum())} "
                f"placeholders and {features.numel() // features.shape[-1]} visual tokens; are the processor's and "
                "the model's num_kept_tokens equal?"
            ),
        )
        return mask.unsqueeze(-1)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        mm_encoder_outputs: dict | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | ElysiumModelOutputWithPast:
        """Return the language model's last hidden states.

        Args:
            input_ids (`torch.LongTensor` of shape `(B, L)`): text with one placeholder for each kept visual token.
            pixel_values (`torch.FloatTensor` of shape `(sum I, 3, S, S)`): images, in the order of the prompt.
            pixel_values_videos (`torch.FloatTensor` of shape `(sum T, 3, S, S)`): frames, in the order of the prompt.
            attention_mask (`torch.Tensor`): passed to the language model.
            position_ids (`torch.LongTensor`): passed to the language model.
            past_key_values (`Cache`): passed to the language model.
            inputs_embeds (`torch.FloatTensor` of shape `(B, L, D)`): in place of `input_ids`.
            use_cache (`bool`): passed to the language model.
            mm_encoder_outputs (`dict`): visual features computed beforehand, keys `image` and `video`.
            **kwargs: passed to the language model.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)  # (B, L, D)
        encoded = dict(mm_encoder_outputs or {})
        if not encoded and pixel_values is not None and pixel_values_videos is not None:
            encoded = self._encode_together(pixel_values, pixel_values_videos)
        if encoded.get("image") is None and pixel_values is not None:
            encoded["image"] = self.get_image_features(pixel_values, return_dict=True)
        if encoded.get("video") is None and pixel_values_videos is not None:
            encoded["video"] = self.get_video_features(pixel_values_videos, return_dict=True)
        tokens, names = {}, None
        for modality, token_id in (("image", self.config.image_token_id), ("video", self.config.video_token_id)):
            if encoded.get(modality) is not None:
                names = names or self.name_objects(encoded[modality], input_ids, token_id)
                features = self.mark_named(encoded[modality], input_ids, token_id)
                features = features.to(inputs_embeds.device, inputs_embeds.dtype)
                mask = self._placeholder_mask(input_ids, inputs_embeds, token_id, features)
                inputs_embeds = inputs_embeds.masked_scatter(mask, features)
                tokens[modality] = features
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **(cache_kwargs(past_key_values) | kwargs),  # from 5.24 on, `generate` gives `cache`, in kwargs
        )
        return ElysiumModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **cache_kwargs(output_cache(outputs)),
            image_hidden_states=tokens.get("image"),
            video_hidden_states=tokens.get("video"),
            object_names=names,
        )


class ElysiumForConditionalGeneration(ElysiumPreTrainedModel, GenerationMixin):
    """Elysium with its language-modelling head: `generate` answers prompts that the processor builds.

    Tracking answers in a few forward passes instead of one a token, where the code came with the checkpoint:

        grammar = model.box_grammar(processor.answer_template(num_frames))
        model.generate(**inputs, custom_generate=model.generate_boxes, states=[grammar.start()])
    """

    box_grammar = BoxAnswerGrammar
    generate_boxes = staticmethod(generate_boxes)

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: ElysiumConfig):
        super().__init__(config)
        self.model = ElysiumModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_image_features(
        self, pixel_values: torch.FloatTensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple | ElysiumVisionOutput:
        """Return the visual tokens of images; see `ElysiumModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, **kwargs)

    def get_video_features(
        self, pixel_values_videos: torch.FloatTensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple | ElysiumVisionOutput:
        """Return the visual tokens of video frames; see `ElysiumModel.get_video_features`."""
        return self.model.get_video_features(pixel_values_videos, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        pixel_values_videos: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_encoder_outputs: dict | None = None,
        object_names: ObjectNames | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple | ElysiumCausalLMOutputWithPast:
        """Return logits, and the loss where `labels` (B, L) are given, which are -100 where no loss is computed.

        Without labels, in evaluation, the last position's logits are mixed with copying `object_names`, those of the
        step before (`generate` hands them on) or those that a prompt with pixels gives. Other arguments are those of
        `ElysiumModel.forward`.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            pixel_values_videos=pixel_values_videos,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            mm_encoder_outputs=mm_encoder_outputs,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        names = outputs.object_names
        if object_names is not None and input_ids is not None:
            names = object_names.after(input_ids[:, -1])
        loss = None
        if labels is None and names is not None and not self.training:
            logits = torch.cat([logits[:, :-1], self.model.semantic_names.mix(logits[:, -1], names)[:, None]], dim=1)
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        return ElysiumCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **cache_kwargs(output_cache(outputs)),
            image_hidden_states=outputs.image_hidden_states,
            video_hidden_states=outputs.video_hidden_states,
            object_names=names,
        )

    def _update_model_kwargs_for_generation(self, outputs: Any, model_kwargs: dict[str, Any], **kwargs: Any) -> Any:
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, **kwargs)
        return model_kwargs | {"object_names": getattr(outputs, "object_names", None)}


__all__ = ["ElysiumForConditionalGeneration", "ElysiumModel", "ElysiumPreTrainedModel"]
