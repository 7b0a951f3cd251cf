"""torch.compile with its fallback."""

import pytest
import torch
from torch import nn

from core.training.compile import Compiled


@pytest.mark.slow
def test_without_a_compiler_the_network_runs_uncompiled() -> None:
    network, messages = nn.Sequential(nn.Linear(4, 3), nn.GELU()), []
    pixels = torch.randn(2, 4)
    with torch._inductor.config.patch({"cpp.cxx": ("/no/such/compiler",)}):
        compiled = Compiled(network, messages.append)
        assert torch.equal(compiled(pixels), network(pixels))
    assert len(messages) == 1
    assert "runs uncompiled" in messages[0]
    compiled(pixels)
    assert len(messages) == 1


def test_an_error_after_the_first_pass_is_raised() -> None:
    compiled = Compiled(nn.Linear(4, 3), print)
    compiled._passed = True
    with pytest.raises(RuntimeError):
        compiled(torch.randn(2, 5))
