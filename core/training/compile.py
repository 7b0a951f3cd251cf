"""A network compiled by torch.compile, which goes on uncompiled where that fails."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Compiled(nn.Module):
    """Compiles a network at its first forward pass, or says why not and runs it as it is.

    What a compiler raises cannot be foreseen: there may be none on the machine, or one that does
    not know an operation. Only the first pass may fail so; an error after that is the network's.

    Args:
        network: What is compiled; it keeps its parameters and its mode.
        tell: Told that the network runs as it is, and why.
    """

    def __init__(self, network: nn.Module, tell: Callable[[str], None]) -> None:
        super().__init__()
        self.network = network
        self._fast: Callable[[Tensor], Tensor] | None = torch.compile(network)
        self._tell, self._passed = tell, False

    def forward(self, pixels: Tensor) -> Tensor:
        """What the network makes of an input of shape (studies, channels, side, side)."""
        if self._fast is None:
            plain: Tensor = self.network(pixels)
            return plain
        try:
            found = self._fast(pixels)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if self._passed:
                raise
            self._fast = None
            why = str(error).strip().partition("\n")[0]
            self._tell(f"torch.compile failed ({why}); the network runs as it is.")
            return self.forward(pixels)
        self._passed = True
        return found
