# Copyright 2026 The Elysium Authors. Licensed under the Apache License, Version 2.0.
"""Key-value cache for many answers about one window, which is stored once, with the answers one after another.

Shapes: R rows (windows), Q tokens of a pass, P of a prefix, H heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

# Owners of slots; an answer has a number from 0. Padding sees the prefix, so that it stays finite, and is not kept.
PREFIX, NOBODY, PADDING = -1, -2, -3


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of the beginning of a prompt.

    Args:
        keys: for each layer `(H, P, head size)`.
        values: likewise.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]

    def __len__(self) -> int:
        return self.keys[0].shape[1]


class _PackedLayer(CacheLayerMixin):
    """Keys and values of one layer in slots that are chosen before each pass."""

    is_sliding = False

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, cache: "PackedCache"):
        super().__init__()
        self.keys, self.values, self.cache = keys, values, cache  # (R, H, slots, head size)
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing: the slots exist from the start."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple:
        """Write `(R, H, Q, head size)` to the slots of this pass and return all slots in use."""
        seen, width = self.cache.num_seen, key_states.shape[2]
        for row, first in enumerate(self.cache.used):
            self.keys[row, :, first : first + width] = key_states[row]
            self.values[row, :, first : first + width] = value_states[row]
        return self.keys[:, :, :seen], self.values[:, :, :seen]

    def move(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy the slots `source` (R, M) to the slots `target` (R, M)."""
        for states in (self.keys, self.values):
            shape = (states.shape[0], states.shape[1], source.shape[1], states.shape[3])
            kept = states.gather(2, source[:, None, :, None].expand(shape))
            states.scatter_(2, target[:, None, :, None].expand(shape), kept)

    def get_seq_length(self) -> int:
        """Return the number of slots in use."""
        return self.cache.num_seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of the keys; the mask is made by `PackedCache.mask`."""
        return self.cache.num_seen, 0

    def get_max_length(self) -> int:
        """Return the number of slots."""
        return self.keys.shape[2]


class PackedCache(Cache):
    """A row for each prefix, with the answers to its questions behind it.

    Every slot has an owner (the prefix, or an answer) and a position; a token sees the slots of the prefix and of its
    own answer up to its position. Slots of rejected tokens are given back.

    Args:
        prefixes: one for each row.
        room: slots for answers in each row.
    """

    def __init__(self, prefixes: Sequence[Prefix], room: int):
        longest = max(map(len, prefixes))
        device = prefixes[0].keys[0].device
        # The last slot takes what nobody keeps.
        size = longest + room + 1
        owners = torch.full((len(prefixes), size), NOBODY)
        for row, prefix in enumerate(prefixes):
            owners[row, : len(prefix)] = PREFIX
        self.owners = to_device(owners, device)
        self.positions = torch.arange(size, device=device).repeat(len(prefixes), 1)
        self.used = [len(prefix) for prefix in prefixes]
        self.num_seen = longest
        layers: list[Any] = []
        for level in range(len(prefixes[0].keys)):
            keys = _in_rows([prefix.keys[level] for prefix in prefixes], size)
            values = _in_rows([prefix.values[level] for prefix in prefixes], size)
            layers.append(_PackedLayer(keys, values, self))
        super().__init__(layers=layers)

    def open(self, owners: torch.Tensor, positions: torch.Tensor) -> None:
        """Choose slots for the tokens of the next pass, given their owners (R, Q) and positions (R, Q)."""
        width = owners.shape[1]
        for row, first in enumerate(self.used):
            self.owners[row, first : first + width] = owners[row]
            self.positions[row, first : first + width] = positions[row]
        self.num_seen = max(self.used) + width

    def mask(self, owners: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return what is added to the attention of each token of the pass: `(R, 1, Q, slots)`, 0 where it sees."""
        seen = self.num_seen
        own = self.owners[:, None, :seen] == owners[:, :, None]
        shared = self.owners[:, None, :seen] == PREFIX
        visible = (own | shared) & (self.positions[:, None, :seen] <= positions[:, :, None])
        mask = self.layers[0].keys.new_zeros(visible.shape)
        return mask.masked_fill_(~visible, torch.finfo(mask.dtype).min)[:, None]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows alone."""
        index = to_device(torch.tensor(rows), self.owners.device)
        self.owners, self.positions = self.owners[index], self.positions[index]
        self.used = [self.used[row] for row in rows]
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[index], layer.values[index]

    def keep(self, kept: Sequence[Sequence[int]]) -> None:
        """Keep, for each row, the tokens of the pass at these positions, and free the other slots."""
        spare = self.owners.shape[1] - 1
        moves = torch.full((2, len(kept), max(map(len, kept))), spare)
        for row, places in enumerate(kept):
            moves[0, row, : len(places)] = torch.tensor(places, dtype=torch.long) + self.used[row]
            moves[1, row, : len(places)] = torch.arange(len(places)) + self.used[row]
        if not torch.equal(*moves):
            source, target = to_device(moves, self.owners.device)
            for held in (self.owners, self.positions):
                held.scatter_(1, target, held.gather(1, source))
            for layer in self.layers:
                layer.move(source, target)
        self.used = [first + len(places) for first, places in zip(self.used, kept, strict=True)]
        for row, first in enumerate(self.used):
            self.owners[row, first:] = NOBODY


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor of the CPU to a device, without waiting for what a GPU still computes."""
    return tensor.to(device, non_blocking=device.type == "cuda")


def _in_rows(states: Sequence[torch.Tensor], size: int) -> torch.Tensor:
    """Stack states (H, P, head size) of several prefixes as (R, H, size, head size)."""
    heads, _, width = states[0].shape
    rows = states[0].new_zeros(len(states), heads, size, width)
    for row, held in zip(rows, states, strict=True):
        row[:, : held.shape[1]] = held
    return rows


__all__ = ["NOBODY", "PADDING", "PREFIX", "PackedCache", "Prefix", "to_device"]
