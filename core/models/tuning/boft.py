"""BOFT's block-diagonal matrices in plain PyTorch.

peft compiles a CUDA kernel for them. Without a GPU or a compiler it falls back to a single
butterfly factor, which is a different method. The kernel only scatters blocks, which PyTorch can do
on every device.
"""

from __future__ import annotations

from torch import Tensor


class BlockDiagonal:
    """Replacement of peft's ``FastBlockDiag``."""

    @staticmethod
    def apply(blocks: Tensor) -> Tensor:
        """Square matrices [N, D·H, D·H] with blocks [N, D, H, H] on their diagonals."""
        count, number, side, _ = blocks.shape
        whole = blocks.new_zeros(count, number, side, number, side)
        diagonal = whole.diagonal(dim1=1, dim2=3)
        diagonal.copy_(blocks.permute(0, 2, 3, 1))
        return whole.reshape(count, number * side, number * side)


def use_torch_block_diagonal() -> None:
    """Make peft's BOFT use ``BlockDiagonal``, so that it compiles nothing."""
    from peft.tuners.boft import layer

    layer._FBD_CUDA = BlockDiagonal
    layer.FastBlockDiag = BlockDiagonal
