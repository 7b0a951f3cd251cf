"""AdaLoRA's rank budget: selects during training which singular values of which layers remain.

Zhang et al. 2023 (arXiv 2303.10512), computed by peft's ``RankAllocator``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

WARMUP, FINAL = 0.1, 0.3
"""Shares of the steps before the budget starts to shrink, and after it has reached its target."""


class RankBudget:
    """Training hook that reduces the ranks of a model's AdaLoRA layers step by step.

    Args:
        model: The adapted model.
        steps: Number of optimizer steps of the run.
        weight: Weight of the penalty on factors that are not orthogonal.
    """

    def __init__(self, model: nn.Module, steps: int, weight: float) -> None:
        from peft.tuners.adalora.layer import RankAllocator

        config: Any = model.peft_config["default"]  # type: ignore[index]
        config.total_step = steps
        config.tinit, config.tfinal = int(WARMUP * steps), int(FINAL * steps)
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
        """Weighted mean distance of the factors from orthogonality, a scalar."""
        distances = []
        for factor, wide in self._factors:
            flat = factor if wide else factor.T
            unit = torch.eye(len(flat), device=flat.device, dtype=flat.dtype)
            distances.append(torch.linalg.norm(flat @ flat.T - unit))
        return self._weight * torch.stack(distances).mean()

    def after_step(self, step: int) -> None:
        """Update the importance of each singular value and mask those beyond the budget.

        Args:
            step: Number of optimizer steps so far, from 1. The gradients are still available.
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
        """The averages that define the importance, and which singular values are kept."""
        return {
            "importance": dict(self._allocator.exp_avg_ipt),
            "uncertainty": dict(self._allocator.exp_avg_unc),
            "kept": self._kept,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state`` returned."""
        parameters = dict(self._model.named_parameters())
        for name, averages in (("importance", "exp_avg_ipt"), ("uncertainty", "exp_avg_unc")):
            moved = {key: value.to(parameters[key].device) for key, value in state[name].items()}
            setattr(self._allocator, averages, moved)
        self._allocator.ipt = {
            key: torch.zeros_like(parameters[key]) for key in state["importance"]
        }
        self._kept = dict(state["kept"])
