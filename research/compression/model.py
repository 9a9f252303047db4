"""An Elysium on kept features: position embedding, compressor, projector and language model, with losses and decoding.

All questions of a batch share their clip's visual prefix. Letters: B clips, T frames, N patches, M kept a clip,
C vision width, D text width, R questions of the batch, L tokens.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache

from elysium.modeling_elysium import ElysiumConfig, ElysiumForConditionalGeneration
from elysium.modeling_elysium.compat_elysium import cache_kwargs, output_cache
from elysium.modeling_elysium.modeling_elysium import ElysiumProjector
from research.compression.answers import AnswerCoder, Row, RowBatch
from research.compression.features import NUM_PATCHES, SIDE_PX, FeatureSet
from research.compression.variants import KeptClips, Variant, build_variant, compress_clips
from research.tiny.checkpoint import build_config, grid_waves, initialise

TEXT_WIDTH, TEXT_LAYERS = 192, 4
_ON_OBJECT = 0.25
_TEMPLATE_SHARE = 0.25
_BETA = 0.05


class PlacedFeatures(nn.Module):
    """Stands where the tower stands: kept features, normalised, with a learned embedding of each patch's place."""

    def __init__(self, num_patches: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.position_embedding = nn.Parameter(0.5 * grid_waves(round(num_patches**0.5), width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, T, N, C) to the same."""
        return F.layer_norm(features.float(), (self.width,)) + self.position_embedding


@dataclass(frozen=True, eq=False)
class Prefix:
    """Frames as the language model has read them.

    kept: what the compressor left. layers: keys and values `(B, heads, L, D / heads)` of each layer. columns (`(B,
    M)`): places of the visual tokens in it. halfway (`(B, M, D)`): these tokens behind the second layer.
    next_position: id of the token that comes next.
    """

    kept: KeptClips
    layers: list[tuple[torch.Tensor, torch.Tensor]]
    columns: torch.Tensor
    halfway: torch.Tensor
    next_position: int

    def repeated(self, clips: torch.Tensor, config: Any) -> DynamicCache:
        """A cache for rows that ask about these clips."""
        cache = DynamicCache(config=config)
        for layer, (keys, values) in enumerate(self.layers):
            cache.update(keys[clips], values[clips], layer)
        return cache


def small_config(tokenizer: Any) -> ElysiumConfig:
    """The configuration that all variants start from; each has its own compressor put in."""
    shape = {
        "tower": "",
        "image_size": SIDE_PX,
        "num_kept_tokens": NUM_PATCHES,
        "text_width": TEXT_WIDTH,
        "text_layers": TEXT_LAYERS,
    }
    return build_config(shape, tokenizer)


def build_network(variant: Variant, coder: AnswerCoder) -> "CompressionModel":
    """An untrained model of a variant, from the ordinary classes; its draws come from torch's generator."""
    config = small_config(coder.tokenizer)
    model = ElysiumForConditionalGeneration(config)
    initialise(model, coder.tokenizer)
    core, width = model.model, config.vision_config.hidden_size
    # The place is told before the compressor, where every variant can use it.
    del core.kept_position_embedding
    config.kept_position_embedding = False
    core.vision_tower, core.vision_feature_norm = PlacedFeatures(NUM_PATCHES, width), nn.Identity()
    core.selector = build_variant(variant, config)
    core.multi_modal_projector = ElysiumProjector(core.selector.output_size, config)
    for name, part in [*core.selector.named_modules(), *core.multi_modal_projector.named_modules()]:
        if isinstance(part, nn.Linear):
            # A gate that starts nearly even hands features on as they are.
            std = 0.02 if name.endswith("score_mlp.2") else part.in_features**-0.5
            nn.init.normal_(part.weight, std=std)
            nn.init.zeros_(part.bias)
    model.set_attn_implementation("eager")  # the backward pass of fused attention is several times slower on a CPU
    return CompressionModel(model, variant, coder)


class CompressionModel(nn.Module):
    """A model of one variant that trains and answers on `FeatureSet`s."""

    def __init__(self, model: ElysiumForConditionalGeneration, variant: Variant, coder: AnswerCoder) -> None:
        super().__init__()
        self.model, self.variant, self.coder = model, variant, coder
        self.text_config = model.config.text_config
        self.token_head = nn.Linear(self.text_config.hidden_size, 8)
        scale = torch.arange(coder.form.base).float()
        smooth = torch.exp(-((scale[:, None] - scale) ** 2) / 2)
        self.register_buffer("smooth_labels", smooth / smooth.sum(1, keepdim=True), persistent=False)

    def start_from(self, state: dict[str, torch.Tensor]) -> None:
        """Takes over every weight that fits in name and shape; the others stay as they were drawn.

        A projector of several patches side by side starts as that of their mean.
        """
        own, first = self.state_dict(), "model.model.multi_modal_projector.linear_1.weight"
        times = own[first].shape[1] // state[first].shape[1]
        state = state | {first: state[first].repeat(1, times) / times}
        fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
        self.load_state_dict(fitting, strict=False)

    def read(self, clips: FeatureSet) -> Prefix:
        """Compresses the frames and runs the language model over them."""
        core = self.model.model
        kept = compress_clips(core.selector, core.vision_tower(clips.features))
        tokens = core.multi_modal_projector(kept.tokens)  # (B, M, D)
        compact = torch.tensor(self.coder.prefix(clips.num_frames))
        ids, positions, next_position = self._lay_out(compact, kept)
        embeds = core.get_input_embeddings()(ids)
        visual = self._is_visual(ids)
        embeds = embeds.masked_scatter(visual.unsqueeze(-1), tokens.to(embeds.dtype))
        # A mask of ones: without one, gaps between positions read as borders between packed sequences.
        out = core.language_model(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=torch.ones_like(ids),
            use_cache=True,
            output_hidden_states=True,
        )
        layers = [(layer.keys, layer.values) for layer in output_cache(out).layers]
        columns = visual.nonzero()[:, 1].view(len(ids), -1)
        halfway = out.hidden_states[2][visual].view(len(ids), columns.shape[1], -1)
        return Prefix(kept, layers, columns, halfway, next_position)

    def _is_visual(self, ids: torch.Tensor) -> torch.Tensor:
        return (ids == self.model.config.image_token_id) | (ids == self.model.config.video_token_id)

    def _lay_out(self, compact: torch.Tensor, kept: KeptClips) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Tokens (B, L) and position ids (B, L) of the prefix, and the id of what follows it.

        Args:
            compact: the prefix with one placeholder for each frame.
        """
        visual = self._is_visual(compact)
        repeats = [torch.ones_like(compact).masked_scatter(visual, counts) for counts in kept.counts]
        ids = torch.stack([compact.repeat_interleave(times) for times in repeats])
        if not self.variant.original_positions:
            return ids, torch.arange(ids.shape[1]).expand_as(ids), ids.shape[1]
        whole = torch.where(visual, NUM_PATCHES, 1)
        start = whole.cumsum(0) - whole
        starts = torch.stack([start.repeat_interleave(times) for times in repeats])
        offsets = torch.zeros_like(ids).masked_scatter(self._is_visual(ids), kept.places % NUM_PATCHES)
        return ids, starts + offsets, int(whole.sum())

    def _continue(self, ids: torch.Tensor, cache: DynamicCache, position: int, **kwargs: Any) -> Any:
        core = self.model.model
        positions = torch.arange(position, position + ids.shape[1]).expand_as(ids)
        embeds = core.get_input_embeddings()(ids)
        return core.language_model(
            inputs_embeds=embeds, position_ids=positions, use_cache=True, **cache_kwargs(cache), **kwargs
        )

    def losses(self, clips: FeatureSet, *, guided: bool) -> dict[str, torch.Tensor]:
        """Next-token losses of all questions, and the gate's where it is supervised.

        Where the language model is guided, as one that learns from nothing has to be, attention should rest on the
        object, and visual tokens tell, behind the second layer, the box of their object now and in frame 1.
        """
        batch = self.coder.batch(self.coder.rows(clips))
        prefix = self.read(clips)
        cache = prefix.repeated(batch.clip, self.text_config)
        out = self._continue(batch.ids, cache, prefix.next_position, output_attentions=guided)
        is_number = batch.value >= 0
        # Most of an answer is its template: a part of it, drawn anew each time, will do.
        template = (batch.labels != -100) & ~is_number & (torch.rand(batch.ids.shape) < _TEMPLATE_SHARE)
        hidden = out.last_hidden_state
        losses = {"template": F.cross_entropy(self.model.lm_head(hidden[template]).float(), batch.labels[template])}
        losses |= self._number_losses(self.model.lm_head(hidden[is_number]).float(), batch.value[is_number])
        if guided:
            losses["attention"] = self._attention_loss(out.attentions[-2:], batch, prefix, clips.coverage)
            losses["tokens"] = self._token_loss(prefix, clips)
        if self.variant.supervised:
            covered = (clips.coverage.float() / 255).sum(2).clamp(0, 1)
            losses["gate"] = F.binary_cross_entropy_with_logits(prefix.kept.scores.float(), covered)
        return losses

    def _number_losses(self, logits: torch.Tensor, values: torch.Tensor) -> dict[str, torch.Tensor]:
        log_probs = logits.log_softmax(-1)[:, self.coder.number_ids]
        if not self.coder.form.scale_losses:
            return {"numbers": F.nll_loss(log_probs, values)}
        probs = log_probs.softmax(-1)
        expected = (probs * torch.arange(probs.shape[1])).sum(-1) / probs.shape[1]
        return {
            "numbers": -(self.smooth_labels[values] * log_probs).sum(-1).mean(),
            "expected": 10 * F.smooth_l1_loss(expected, values / probs.shape[1], beta=_BETA),
        }

    def _attention_loss(
        self, attentions: tuple[torch.Tensor, ...], batch: RowBatch, prefix: Prefix, coverage: torch.Tensor
    ) -> torch.Tensor:
        """Minus log of head 0's mass on the tokens of the object, in the frame whose number comes next."""
        row, position = (batch.frame >= 0).nonzero(as_tuple=True)
        clip, frame, owner = batch.clip[row], batch.frame[row, position], batch.object_index[row]
        places = prefix.kept.places[clip]  # (open numbers, M)
        parts = coverage[clip, :, owner].flatten(1).gather(1, places).float() / 255
        targets = ((parts > _ON_OBJECT) & (places // NUM_PATCHES == frame[:, None])).float()
        seen = targets.sum(-1) > 0
        loss = torch.zeros(())
        for layer in attentions:
            mass = (layer[row, 0, position].float().gather(1, prefix.columns[clip]) * targets).sum(-1)
            loss = loss - (mass[seen] + 1e-4).log().sum() / seen.sum().clamp(min=1)
        return loss

    def _token_loss(self, prefix: Prefix, clips: FeatureSet) -> torch.Tensor:
        places = prefix.kept.places
        rows = torch.arange(len(places))[:, None].expand_as(places)
        frame, patch = places // NUM_PATCHES, places % NUM_PATCHES
        part, owner = clips.coverage[rows, frame, :, patch].max(-1)  # (B, M)
        on_object = part > 255 * _ON_OBJECT
        told = self.token_head(F.rms_norm(prefix.halfway[on_object].float(), prefix.halfway.shape[-1:])) * 0.3 + 0.5
        now, first = clips.boxes_xyxy_norm[rows, frame, owner], clips.boxes_xyxy_norm[rows, 0, owner]
        loss = F.smooth_l1_loss(told[:, :4], now[on_object], beta=_BETA)
        return loss + F.smooth_l1_loss(told[:, 4:], first[on_object], beta=_BETA)

    @torch.no_grad()
    def answer(self, clips: FeatureSet) -> tuple[torch.Tensor, list[Row], KeptClips]:
        """Boxes (R, T, 4) that the model writes, greedily, each number from what it wrote before.

        What is no number is given: the grammar of boxes leaves no choice there.
        """
        prefix, rows = self.read(clips), self.coder.rows(clips)
        numbers = torch.zeros(len(rows), len(rows[0].open_at), dtype=torch.long)
        for length in sorted({len(row.asked) for row in rows}):  # equal lengths need no padding
            group = [place for place, row in enumerate(rows) if len(row.asked) == length]
            numbers[group] = self._answer_group([rows[place] for place in group], prefix)
        return self.coder.form.boxes(numbers.view(len(rows), clips.num_frames, -1)), rows, prefix.kept

    def _answer_group(self, rows: list[Row], prefix: Prefix) -> torch.Tensor:
        """Open numbers (R, S) of rows whose questions have one length."""
        cache = prefix.repeated(torch.tensor([row.clip for row in rows]), self.text_config)
        template, open_at = rows[0].answer, rows[0].open_at
        ids = torch.tensor([row.asked + template[: open_at[0]] for row in rows])
        position, chosen = prefix.next_position, []
        for place, following in zip(open_at, [*open_at[1:], None], strict=True):
            hidden = self._continue(ids, cache, position).last_hidden_state[:, -1]
            position += ids.shape[1]
            chosen.append(self.model.lm_head(hidden)[:, self.coder.number_ids].argmax(-1))
            given = torch.tensor(template[place + 1 : following]).long().expand(len(rows), -1)
            ids = torch.cat([self.coder.number_ids[chosen[-1]][:, None], given], dim=1)
        return torch.stack(chosen, dim=1)
