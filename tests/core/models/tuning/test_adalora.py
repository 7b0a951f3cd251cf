"""AdaLoRA's rank budget: ranks reach the requested mean, and resuming changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from core.config.run import AdapterSpec
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.models.tuning.adalora import RankBudget
from core.models.tuning.apply import (
    apply_method,
    load_trainable_state,
    parameter_groups,
    trainable_state,
    training_hook,
)

STEPS = 12


class Tuned:
    """A small training run."""

    def __init__(self, steps: int = STEPS) -> None:
        torch.manual_seed(0)
        model = network(backbone_card("timm:test_vit"), 3, 32)
        torch.nn.init.normal_(model.get_classifier().weight)
        spec = AdapterSpec(method="adalora", rank=2, initial_rank=6, dropout=0.0)
        self.model = apply_method(model, spec)
        budget = training_hook(self.model, spec, steps)
        assert isinstance(budget, RankBudget)
        self.budget = budget
        self.optimizer = torch.optim.SGD(
            parameter_groups(self.model, lr=0.05, weight_decay=0, layer_decay=1)
        )

    def train(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            generator = torch.Generator().manual_seed(step)
            pixels = torch.randn(8, 3, 32, 32, generator=generator)
            labels = (torch.rand(8, 3, generator=generator) < 0.5).float()
            loss = binary_cross_entropy_with_logits(self.model(pixels), labels)
            self.optimizer.zero_grad()
            (loss + self.budget.penalty()).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.budget.after_step(step)

    def ranks(self) -> list[int]:
        return [int((p != 0).sum()) for n, p in self.model.named_parameters() if ".lora_E." in n]


def test_ranks_shrink_to_the_budget() -> None:
    tuned = Tuned()
    tuned.train(1, 1)
    assert set(tuned.ranks()) == {6}
    tuned.train(2, STEPS // 2)
    middle = sum(tuned.ranks())
    tuned.train(STEPS // 2 + 1, STEPS)
    layers = len(tuned.ranks())
    assert sum(tuned.ranks()) == 2 * layers < middle < 6 * layers


@pytest.mark.parametrize("stop", [2, 5, 9, 11])
def test_resuming_after_any_step_changes_nothing(stop: int) -> None:
    whole, first, second = Tuned(), Tuned(), Tuned()
    whole.train(1, STEPS)
    first.train(1, stop)
    load_trainable_state(second.model, trainable_state(first.model))
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.budget.load(first.budget.state())
    second.train(stop + 1, STEPS)
    for name, value in trainable_state(whole.model).items():
        assert torch.equal(value, second.model.get_parameter(name)), name


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_runs_work(steps: int) -> None:
    tuned = Tuned(steps)
    tuned.train(1, steps)
    assert set(tuned.ranks()) <= set(range(7))


def test_the_penalty_is_zero_for_orthogonal_factors() -> None:
    tuned = Tuned()
    with torch.no_grad():
        for name, factor in tuned.model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                torch.nn.init.orthogonal_(factor)
    assert float(tuned.budget.penalty().detach()) == pytest.approx(0, abs=1e-5)
