"""The loss over known labels, and the end of a run whose loss is not finite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import NotFiniteError
from core.models.backbones.build import network
from core.models.backbones.registry import backbone_card
from core.training.loss import masked_loss

Run = Callable[..., tuple[Path, dict[str, Any]]]


def test_the_loss_counts_only_labels_that_are_known() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    nan = float("nan")
    loss = masked_loss(logits, torch.tensor([[1.0, nan], [nan, 0.0]]))
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(3.0))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 1] == gradient[1, 0] == 0
    assert gradient[0, 0] < 0 < gradient[1, 1]
    assert masked_loss(logits, torch.full((2, 2), nan)).item() == 0


def overflowing_weights(path: Path) -> Path:
    """Weights that are finite, with outputs that are not."""
    state = network(backbone_card("timm:test_vit"), 2, 64).state_dict()
    state["patch_embed.proj.weight"].fill_(3e38)
    torch.save(state, path)
    return path


@pytest.mark.parametrize("method", ["full", "linear"])
def test_a_loss_that_is_not_a_number_ends_the_run(run: Run, tmp_path: Path, method: str) -> None:
    weights = overflowing_weights(tmp_path / "weights.pth")
    with pytest.raises(NotFiniteError, match="not finite at step 1") as caught:
        run(adapter__method=method, model__pretrained=True, model__weights=weights)
    assert "Lower the learning rate" in caught.value.remedy
    assert caught.value.field == "train.lr"
