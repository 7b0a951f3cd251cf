"""Dropout that stores its mask as booleans."""

import pytest
import torch
from torch import Tensor, nn

from core.config.run import AdapterSpec
from core.models.backbones.build import build_backbone
from core.models.backbones.registry import backbone_card
from core.models.tuning.apply import apply_method
from core.models.tuning.dropout import ByteDropout


def kept_bytes(layer: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """A layer's output, and the bytes that it stores for the backward pass."""
    kept = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.untyped_storage().nbytes())
        return tensor

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        return layer(x), sum(kept)


def test_it_equals_pytorchs_dropout_with_a_quarter_of_the_memory() -> None:
    x = torch.rand(4, 50, 8).add(1).requires_grad_()
    plain, factors = kept_bytes(nn.Dropout(0.3), x)
    lean, booleans = kept_bytes(ByteDropout(0.3), x)
    assert torch.equal(plain, lean)
    assert booleans == factors / 4 == x.numel()
    grads = [torch.autograd.grad(one.square().sum(), x)[0] for one in (plain, lean)]
    assert torch.equal(*grads)


@pytest.mark.parametrize("training", [True, False])
def test_under_autocast_it_casts_only_in_training(training: bool) -> None:
    layer = ByteDropout(0.5).train(training)
    with torch.autocast("cpu", torch.bfloat16):
        given = layer(torch.ones(4, 4))
    assert given.dtype == (torch.bfloat16 if training else torch.float32)


def test_only_adapters_use_it() -> None:
    model, _ = build_backbone(backbone_card("embedded-mae"), 1, pretrained=False)
    apply_method(model, AdapterSpec(method="lora", dropout=0.1))
    drops = {name: type(m) for name, m in model.named_modules() if isinstance(m, nn.Dropout)}
    of_lora = {kind for name, kind in drops.items() if ".lora_dropout." in name}
    others = {kind for name, kind in drops.items() if ".lora_dropout." not in name}
    assert of_lora == {ByteDropout}
    assert others <= {nn.Dropout}
