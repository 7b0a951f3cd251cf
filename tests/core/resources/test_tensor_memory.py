"""Bytes counted on the meta device, compared with those of real tensors."""

import pytest
import torch

from core.config.run import AdapterSpec
from core.models.backbones.build import checkpoint_activations, network
from core.models.backbones.registry import backbone_card
from core.models.tuning.apply import apply_method
from core.resources import tensor_memory


def model_of(method: str, device: str, *, again: bool = False) -> torch.nn.Module:
    card = backbone_card("timm:test_vit")
    with torch.device("meta"):
        model = apply_method(network(card, 2, 64), AdapterSpec(method=method))
    if again:
        checkpoint_activations(model, card)
    model = model.to_empty(device=device) if device != "meta" else model.to("meta")
    with torch.no_grad():
        for one in [*model.parameters(), *model.buffers()] if device != "meta" else []:
            one.zero_()
    return model.train()


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("half", [None, torch.bfloat16])
@pytest.mark.parametrize("again", [False, True])
def test_a_step_without_memory_counts_what_a_real_one_holds(
    method: str, half: torch.dtype | None, again: bool
) -> None:
    real, real_images = model_of(method, "cpu", again=again), torch.zeros(4, 3, 64, 64)
    with tensor_memory._Live(real) as live:
        live.add(real_images)
        with torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None):
            loss = real(real_images)
        loss.float().mean().backward()
    images = torch.empty(4, 3, 64, 64, device="meta")
    counted = tensor_memory.step(model_of(method, "meta", again=again), images, half, gpu=False)
    assert max(counted.forward, counted.backward) == pytest.approx(live.peak, rel=0.05)


def test_memory_is_a_straight_line_over_the_batch() -> None:
    def step(batch: int) -> int:
        images = torch.empty(batch, 3, 64, 64, device="meta")
        return tensor_memory.step(model_of("full", "meta"), images, None, gpu=False).forward

    assert step(24) - step(16) == step(16) - step(8) > 0
