"""Muon for the block matrices, AdamW for everything else, as one optimizer that a Trainer holds, saves and resumes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers behind one face: `torch.optim.Muon` (update scale of AdamW, so one learning rate serves both)
    on the 2-D weights of transformer layers, `torch.optim.AdamW` on embeddings, norms, biases and heads.

    Args:
        pretrained: part of a name that marks weights which were learnt before; they learn at `pretrained_rate` of the
            rate, their matrices by Muon, too.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float,
        weight_decay: float,
        pretrained: str | None = None,
        pretrained_rate: float = 1.0,
    ):
        rates = {False: lr, True: lr * pretrained_rate}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                known = pretrained is not None and pretrained in name
                in_block = parameter.ndim == 2 and (known or ".layers." in name)
                groups.setdefault((in_block, known), []).append(parameter)
        blocks, others = (
            [{"params": groups[kind, known], "lr": rates[known]} for known in (False, True) if (kind, known) in groups]
            for kind in (True, False)
        )
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(blocks, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay),
        ]
        super().__init__([{"params": group["params"]} for group in (*blocks, *others)], {"lr": lr})
        self._share_groups()

    def _share_groups(self) -> None:
        """A scheduler changes `param_groups`; both parts must see it."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable | None = None) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def linear_decay(
    optimizer: torch.optim.Optimizer, *, steps: int, warmup: int, hold: float, floor: float = 0.03
) -> LambdaLR:
    """Linear warm-up, the full rate until `hold` of the run, then a line towards 0 that stops at `floor`."""

    def factor(step: int) -> float:
        done = step / max(steps, 1)
        decay = 1.0 if done <= hold else max(floor, (1 - done) / (1 - hold))
        return min(1.0, (step + 1) / max(warmup, 1)) * decay

    return LambdaLR(optimizer, factor)
