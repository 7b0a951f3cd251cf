"""BOFT's block diagonal in torch.

peft compiles a CUDA kernel for it, and without one (no GPU, no compiler) falls back to a single
factor, which is no butterfly. The kernel's work is one scatter, the same on every device.
"""

from __future__ import annotations

from torch import Tensor


class BlockDiagonal:
    """Stands in the place of peft's ``FastBlockDiag``."""

    @staticmethod
    def apply(blocks: Tensor) -> Tensor:
        """Square matrices [N, D·H, D·H] with the blocks [N, D, H, H] on their diagonals."""
        count, number, side, _ = blocks.shape
        whole = blocks.new_zeros(count, number, side, number, side)
        diagonal = whole.diagonal(dim1=1, dim2=3)
        diagonal.copy_(blocks.permute(0, 2, 3, 1))
        return whole.reshape(count, number * side, number * side)


def use_torch() -> None:
    """Let peft's BOFT take the block diagonal from here; nothing is compiled."""
    from peft.tuners.boft import layer

    layer._FBD_CUDA = BlockDiagonal
    layer.FastBlockDiag = BlockDiagonal
