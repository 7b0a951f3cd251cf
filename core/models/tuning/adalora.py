"""AdaLoRA's budget: which singular values of which layers stay, decided while it trains.

Zhang et al. 2023 (arXiv 2303.10512); peft's allocator does the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

FIRST, LAST = 0.1, 0.3
"""Shares of the steps before the budget begins to shrink and after it has reached its end."""


class RankBudget:
    """Shrinks the ranks of a model's AdaLoRA layers from step to step.

    Args:
        model: The adapted model.
        steps: Optimizer steps of the whole run.
        weight: Weight of the penalty on factors that are not orthogonal.
    """

    def __init__(self, model: nn.Module, steps: int, weight: float) -> None:
        from peft.tuners.adalora.layer import RankAllocator

        config: Any = model.peft_config["default"]  # type: ignore[index]
        config.total_step = steps
        config.tinit, config.tfinal = int(FIRST * steps), int(LAST * steps)
        self._model, self._weight = model, weight
        self._end = steps - config.tfinal
        self._allocator: Any = RankAllocator(model, config, "default")
        self._kept: dict[str, list[bool]] = {}
        self._factors = [
            (parameter, ".lora_A." in name)
            for name, parameter in model.named_parameters()
            if ".lora_A." in name or ".lora_B." in name
        ]

    def penalty(self) -> Tensor:
        """Mean distance of the factors from orthogonal ones, a scalar."""
        apart = []
        for factor, wide in self._factors:
            flat = factor if wide else factor.T
            unit = torch.eye(len(flat), device=flat.device, dtype=flat.dtype)
            apart.append(torch.linalg.norm(flat @ flat.T - unit))
        return self._weight * torch.stack(apart).mean()

    def after_step(self, step: int) -> None:
        """Judge each singular value by its gradient; drop those beyond the budget.

        Args:
            step: Optimizer steps so far, this one included; gradients are still there.
        """
        allocator = self._allocator
        if step < self._end:
            _, kept = allocator.update_and_allocate(self._model, step)
            self._kept = kept or self._kept
        elif step == self._end and allocator.exp_avg_ipt:
            _, self._kept = allocator.update_and_allocate(self._model, step, force_mask=True)
            allocator.reset_ipt()
        elif self._kept:
            allocator.mask_using_rank_pattern(self._model, self._kept)

    def state(self) -> dict[str, Any]:
        """The averages that the importance is told by, and what was kept last."""
        return {
            "importance": dict(self._allocator.exp_avg_ipt),
            "uncertainty": dict(self._allocator.exp_avg_unc),
            "kept": self._kept,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        places = dict(self._model.named_parameters())
        for name, averages in (("importance", "exp_avg_ipt"), ("uncertainty", "exp_avg_unc")):
            found = {key: value.to(places[key].device) for key, value in state[name].items()}
            setattr(self._allocator, averages, found)
        self._allocator.ipt = {key: torch.zeros_like(places[key]) for key in state["importance"]}
        self._kept = dict(state["kept"])
