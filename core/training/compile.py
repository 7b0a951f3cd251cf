"""torch.compile with a fallback to the uncompiled network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Compiled(nn.Module):
    """A network that is compiled at its first forward pass, or runs uncompiled if that fails.

    Compilation can fail in many ways: the machine may have no compiler, or one that does not
    support an operation. Only errors of the first pass are attributed to the compiler.

    Args:
        network: The network to compile; it keeps its parameters and its mode.
        log: Receives a message if the network runs uncompiled.
    """

    def __init__(self, network: nn.Module, log: Callable[[str], None]) -> None:
        super().__init__()
        self.network = network
        self._compiled: Callable[[Tensor], Tensor] | None = torch.compile(network)
        self._log, self._passed = log, False

    def forward(self, pixels: Tensor) -> Tensor:
        """The network's output for pixels of shape (studies, channels, side, side)."""
        if self._compiled is None:
            plain: Tensor = self.network(pixels)
            return plain
        try:
            output = self._compiled(pixels)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if self._passed:
                raise
            self._compiled = None
            why = str(error).strip().partition("\n")[0]
            self._log(f"torch.compile failed ({why}); the network runs uncompiled.")
            return self.forward(pixels)
        self._passed = True
        return output
