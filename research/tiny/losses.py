"""What elysium-tiny is trained on beside the next token: heads and losses that exist in training only.

Each was found to matter when a tracker of this size was trained from scratch: a gate that is told where objects are,
dense answers from the patches, attention that rests on the target's tokens, integers as a scale rather than classes.
Letters: B clips, T frames, O objects, N patches, K kept, C vision width, D text width, Q questions a clip, L tokens.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache

from elysium.modeling_elysium import ElysiumForConditionalGeneration
from elysium.modeling_elysium.compat_elysium import cache_kwargs, output_cache
from elysium.modeling_elysium.semantic_encoders_elysium import SemanticEvidence
from elysium.processing.processing_elysium import ElysiumProcessor
from research.tiny.data import IGNORE

_BETA = 0.05
_FINE_BETA = 0.01
_ON_OBJECT = 0.3


class TinyTrainingModel(nn.Module):
    """The model with its training-only heads; `forward` takes a batch of `TinyBatches` and returns losses.

    Args:
        weights: the recipe's ``losses`` section, factors by name: of patches gate, dense, boxes, colours, kinds and
            contrast, of the kept tokens tokens and names, of the answers template, presence, coordinates, expected,
            attention and words; 1 where it is left out.
        colours, kinds: words that patches and tokens learn to tell, beside the language model's answers.
    """

    def __init__(
        self,
        model: ElysiumForConditionalGeneration,
        processor: ElysiumProcessor,
        weights: dict[str, float],
        *,
        colours: list[str],
        kinds: list[str],
    ):
        super().__init__()
        self.model, self.weights = model, weights
        width, text_width = model.config.vision_config.hidden_size, model.config.text_config.hidden_size
        self.patch_head = nn.Linear(width, 1 + 4 + len(colours))
        self.kind_head = nn.Linear(width, len(kinds))
        self.token_head = nn.Linear(text_width, 8)
        self.contrast_head = nn.Linear(width, 64)
        tokenizer = processor.tokenizer
        numbers = tokenizer.convert_tokens_to_ids([str(n) for n in range(100)])
        self.register_buffer("number_ids", torch.tensor(numbers), persistent=False)
        bracket = tokenizer.convert_tokens_to_ids("[")
        none_id = tokenizer.encode(" none", add_special_tokens=False)[0]
        # Behind a frame's label comes a space and a bracket, or the word " none": the choice falls at that space.
        space = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(" ")[0])
        self.register_buffer("presence_ids", torch.tensor([bracket, none_id, space]), persistent=False)
        table = torch.full((len(tokenizer),), -1)
        table[numbers] = torch.arange(100)
        self.register_buffer("number_of_id", table, persistent=False)
        scale = torch.arange(100).float()
        smooth = torch.exp(-((scale[:, None] - scale[None, :]) ** 2) / 2)
        self.register_buffer("smooth_labels", smooth / smooth.sum(1, keepdim=True), persistent=False)
        mean = torch.tensor(processor.video_processor.image_mean).view(1, 3, 1, 1) * 255
        std = torch.tensor(processor.video_processor.image_std).view(1, 3, 1, 1) * 255
        self.register_buffer("pixel_mean", mean, persistent=False)
        self.register_buffer("pixel_std", std, persistent=False)

    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        pixels = (batch["frames"].permute(0, 3, 1, 2).float() - self.pixel_mean) / self.pixel_std
        evidence = SemanticEvidence(*batch["evidence"]) if "evidence" in batch else None
        vision = self.model.get_video_features(pixels, semantic_evidence=evidence)
        losses = self._patch_losses(vision, batch) | self._language_losses(vision, batch)
        total = sum(self.weights.get(name, 1.0) * value for name, value in losses.items() if name[0] != "_")
        return {"loss": total, **{name: value.detach() for name, value in losses.items()}}

    def _language_losses(self, vision: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        num_clips, num_frames = batch["boxes"].shape[:2]
        read = partial(self._encode_prefix, vision, batch["prefix_ids"], num_clips, num_frames)
        cache, prefix_hidden, token_places = read()
        kept = vision.selector_indices.view(num_clips, num_frames, -1)
        kept_coverage = batch["coverage"].gather(3, kept.unsqueeze(2).expand(-1, -1, batch["coverage"].shape[2], -1))
        losses = self._token_losses(prefix_hidden, kept_coverage, token_places, batch)
        groups = [name for name in ("boxes_group", "glimpses_group", "words_group") if name in batch]
        caches = dict.fromkeys(groups, cache)
        if vision.semantic_evidence is not None:  # what a question names is marked: each has a prefix of its own
            caches = {name: read(self._named(batch[name]))[0] for name in groups}
        parts = [
            self._box_answer_losses(batch[name], caches[name], kept_coverage, token_places)
            for name in groups
            if name != "words_group"
        ]
        losses |= {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        return losses | self._word_answer_losses(batch["words_group"], caches["words_group"])

    def _named(self, group: dict[str, torch.Tensor]) -> torch.Tensor:
        """The classes (B * Q, C) that the questions of a group name."""
        return self.model.model.semantic_projector.named_classes(group["ids"].tolist())

    def _encode_prefix(
        self,
        vision: Any,
        prefix_ids: torch.Tensor,
        num_clips: int,
        num_frames: int,
        named: torch.Tensor | None = None,
    ) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor, torch.Tensor]:
        """Keys and values of the prefix for each layer, its hidden states after two layers, token places (T, K).

        With the classes that questions name there is a prefix for each question, not for each clip.
        """
        core = self.model.model
        config = core.config
        visual = vision.pooler_output
        if named is not None:
            per_clip = len(named) // num_clips
            visual, *evidence = (
                part.unflatten(0, (num_clips, num_frames)).repeat_interleave(per_clip, 0).flatten(0, 1)
                for part in (visual, *vision.semantic_evidence)
            )  # (B * Q * T, K, ...)
            named = named.repeat_interleave(num_frames, 0)
            visual = visual + core.semantic_projector.marks(SemanticEvidence(*evidence), named)
        embeds = core.get_input_embeddings()(prefix_ids).expand(len(visual) // num_frames, -1, -1)
        mask = (prefix_ids == config.image_token_id) | (prefix_ids == config.video_token_id)
        embeds = embeds.masked_scatter(mask[None, :, None].expand_as(embeds), visual.to(embeds.dtype))
        out = core.language_model(inputs_embeds=embeds, use_cache=True, output_hidden_states=True)
        layers = [(layer.keys, layer.values) for layer in output_cache(out).layers]
        places = mask.nonzero().squeeze(1).view(num_frames, -1)
        return layers, out.hidden_states[min(2, len(layers))], places

    def _patch_losses(self, vision: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Gate, dense answers of the patches, and the same object's likeness across frames."""
        coverage = batch["coverage"]  # (B, T, O, N)
        covered = coverage.sum(2).flatten(0, 1).clamp(0, 1)  # (sum T, N)
        losses = {"gate": F.binary_cross_entropy_with_logits(vision.selector_scores.float(), covered)}
        most, owner = coverage.max(2)
        on_object, owner = (most > _ON_OBJECT).flatten(0, 1), owner.flatten(0, 1)
        features = vision.last_hidden_state
        dense = self.patch_head(features).float()
        frame = torch.arange(len(owner), device=owner.device)[:, None].expand_as(owner)[on_object]
        owner = owner[on_object]
        boxes = batch["boxes"].flatten(0, 1)[frame, owner]
        clip = frame // coverage.shape[1]
        answer, kinds = dense[on_object], self.kind_head(features[on_object]).float()
        losses["dense"] = F.binary_cross_entropy_with_logits(dense[..., 0], covered)
        losses["boxes"] = 10 * F.smooth_l1_loss(answer[:, 1:5] + 0.5, boxes, beta=_FINE_BETA)
        for name, logits in (("colours", answer[:, 5:]), ("kinds", kinds)):
            truth = batch[name][clip, owner]
            losses[name] = F.cross_entropy(logits, truth, ignore_index=IGNORE, reduction="sum") / len(truth)
        losses["_dense_box_l1"] = (answer[:, 1:5] + 0.5 - boxes).abs().mean()
        losses["contrast"] = self._contrast_loss(features.float(), batch)
        return losses

    def _contrast_loss(self, features: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor:
        num_clips, num_frames = batch["boxes"].shape[:2]
        if num_frames == 1:
            return self.contrast_head.weight.sum() * 0
        coverage = batch["coverage"]
        features = features.view(num_clips, num_frames, *features.shape[1:])
        pooled = torch.einsum("bton,btnc->btoc", coverage, features) / (coverage.sum(-1, keepdim=True) + 1e-3)
        embedded = F.normalize(self.contrast_head(pooled).float(), dim=-1)
        area = coverage.sum(-1)
        both = (area[:, 0] > 0.7) & (area[:, -1] > 0.7)
        first, last = embedded[:, 0][both], embedded[:, -1][both]
        if len(first) < 2:
            return embedded.sum() * 0
        return F.cross_entropy(first @ last.T * 12, torch.arange(len(first), device=first.device))

    def _token_losses(
        self, hidden: torch.Tensor, kept_coverage: torch.Tensor, places: torch.Tensor, batch: dict[str, Any]
    ) -> dict[str, torch.Tensor]:
        """Every kept token on an object tells, inside the language model, its object's box now and in Frame 1, and the
        first token of its name, as which the head of the language model reads it."""
        tokens = F.rms_norm(hidden[:, places].float(), hidden.shape[-1:])  # (B, T, K, D)
        most, owner = kept_coverage.max(2)  # (B, T, K)
        clip = torch.arange(len(owner), device=owner.device)[:, None, None].expand_as(owner)
        frame = torch.arange(owner.shape[1], device=owner.device)[None, :, None].expand_as(owner)
        on_object = most > _ON_OBJECT
        seen_first = on_object & batch["visible"][clip, 0, owner]
        told = self.token_head(tokens).float() * 0.3 + 0.5
        now, first = batch["boxes"][clip, frame, owner], batch["boxes"][clip, 0, owner]
        loss = F.smooth_l1_loss(told[on_object][:, :4], now[on_object], beta=_BETA)
        loss = loss + F.smooth_l1_loss(told[seen_first][:, 4:], first[seen_first], beta=_BETA)
        first_tokens = batch["name_tokens"][clip, owner][on_object]
        named = first_tokens != IGNORE
        logits = self.model.lm_head(tokens[on_object][named]).float()
        names = F.cross_entropy(logits, first_tokens[named], reduction="sum") / named.sum().clamp(1)
        return {"tokens": loss, "names": names}

    def _answer(
        self, group: dict[str, torch.Tensor], cache: list[tuple[torch.Tensor, torch.Tensor]], **kwargs: Any
    ) -> Any:
        """The language model on the questions and answers of a group, all on the prefix of their clip."""
        per_clip = len(group["ids"]) // len(cache[0][0])
        shared = DynamicCache(config=self.model.config.text_config)
        for layer, (keys, values) in enumerate(cache):
            shared.update(keys.repeat_interleave(per_clip, 0), values.repeat_interleave(per_clip, 0), layer)
        core = self.model.model
        embeds = core.get_input_embeddings()(group["ids"])
        return core.language_model(inputs_embeds=embeds, use_cache=True, **cache_kwargs(shared), **kwargs)

    def _word_answer_losses(
        self, group: dict[str, torch.Tensor], cache: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        wanted = group["labels"] != IGNORE
        logits = self.model.lm_head(self._answer(group, cache).last_hidden_state[wanted]).float()
        labels = group["labels"][wanted]
        right = (logits.argmax(-1) == labels).float().mean()
        return {"words": F.cross_entropy(logits, labels), "_words_right": right}

    def _box_answer_losses(
        self,
        group: dict[str, torch.Tensor],
        cache: list[tuple[torch.Tensor, torch.Tensor]],
        kept_coverage: torch.Tensor,
        places: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Next-token losses of answers with boxes, and where their attention should rest."""
        out = self._answer(group, cache, output_attentions=True)
        # Most tokens of an answer are its template: a quarter of them, drawn anew each time, will do.
        decisive = (group["coordinate_frame"] >= 0) | torch.isin(group["labels"], self.presence_ids)
        wanted = (group["labels"] != IGNORE) & (decisive | (torch.rand(decisive.shape) < 0.25))
        logits = self.model.lm_head(out.last_hidden_state[wanted]).float()
        labels = group["labels"][wanted]
        is_number = group["coordinate_frame"][wanted] >= 0
        presence = torch.isin(labels, self.presence_ids)
        template = ~is_number & ~presence
        losses = {
            "template": F.cross_entropy(logits[template], labels[template], reduction="sum") / template.sum().clamp(1),
            "presence": self._presence_loss(logits[presence], labels[presence]),
        }
        losses |= self._coordinate_losses(logits[is_number], self.number_of_id[labels[is_number]])
        per_clip = len(group["ids"]) // len(kept_coverage)
        losses["attention"] = self._attention_loss(out.attentions[-2:], group, kept_coverage, places, per_clip)
        return losses

    def _presence_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Whether a box or "none" comes next, or, for none, the whole word."""
        if len(labels) == 0:
            return logits.sum() * 0
        return F.cross_entropy(logits, labels)

    def _coordinate_losses(self, logits: torch.Tensor, numbers: torch.Tensor) -> dict[str, torch.Tensor]:
        if len(numbers) == 0:
            return {"coordinates": logits.sum() * 0}
        log_probs = logits.log_softmax(-1)[:, self.number_ids]
        probs = log_probs.softmax(-1)
        expected = (probs * torch.arange(100, device=probs.device)).sum(-1)
        return {
            "coordinates": -(self.smooth_labels[numbers] * log_probs).sum(-1).mean(),
            "expected": 10 * F.smooth_l1_loss(expected / 100, numbers / 100, beta=_BETA),
            "_coordinate_l1": (log_probs.argmax(-1) - numbers).abs().float().mean(),
        }

    def _attention_loss(
        self,
        attentions: tuple[torch.Tensor, ...],
        group: dict[str, torch.Tensor],
        kept_coverage: torch.Tensor,
        places: torch.Tensor,
        per_clip: int,
    ) -> torch.Tensor:
        """Minus log of head 0's mass on the tokens of the object in the frame whose coordinate comes next."""
        row, position = (group["coordinate_frame"] >= 0).nonzero(as_tuple=True)
        if len(row) == 0:
            return attentions[0].sum() * 0
        frame, owner = group["coordinate_frame"][row, position], group["object_index"][row]
        targets = (kept_coverage[row // per_clip, frame, owner] > 0.25).float()  # (M, K)
        has_target = targets.sum(-1) > 0
        loss = torch.zeros((), device=targets.device)
        for attention in attentions:
            head = attention[row, 0, position].float()  # (M, prefix + L)
            mass = (head.gather(1, places[frame]) * targets).sum(-1)[has_target]
            loss = loss - (mass + 1e-4).log().mean() if len(mass) else loss
        return loss
