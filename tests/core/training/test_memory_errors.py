"""Errors of exhausted memory."""

import pytest
import torch

from core.errors import OutOfMemoryError
from core.training import memory_errors


def test_a_lack_of_memory_is_said(tiny) -> None:
    with pytest.raises(OutOfMemoryError, match="batches of 16") as caught:  # noqa: SIM117
        with memory_errors.explain_out_of_memory(tiny()):
            torch.empty(2**60, dtype=torch.uint8)
    assert caught.value.field == "train.batch_size"
