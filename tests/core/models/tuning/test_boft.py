"""BOFT's rotation without a compiled kernel."""

from __future__ import annotations

import torch
from peft import BOFTConfig
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from torch import nn

from core.models.tuning import boft


def test_blocks_stand_on_the_diagonal() -> None:
    blocks = torch.randn(2, 3, 4, 4, requires_grad=True)
    whole = boft.BlockDiagonal.apply(blocks)
    for parts, matrix in zip(blocks, whole, strict=True):
        assert torch.equal(matrix, torch.block_diag(*parts))
    (gradient,) = torch.autograd.grad((whole * torch.arange(12.0)).sum(), blocks)
    assert torch.equal(gradient[0, 0, 0], torch.arange(4.0))


def test_factors_make_a_rotation_that_mixes_blocks() -> None:
    boft.use_torch_block_diagonal()
    model = nn.Sequential(nn.Linear(64, 8))
    config = BOFTConfig(target_modules=["0"], boft_block_size=8, boft_n_butterfly_factor=3)
    PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type](model, config, "default")
    with torch.no_grad():
        model[0].boft_R["default"].normal_()  # type: ignore[union-attr,operator,index]
    rotation, _ = model[0].get_delta_weight("default")  # type: ignore[operator,union-attr]
    assert torch.allclose(rotation @ rotation.T, torch.eye(64), atol=1e-5)
    # One factor mixes 8 inputs; each further factor doubles the number.
    assert int((rotation.abs() > 1e-7).sum(1).max()) == 32
