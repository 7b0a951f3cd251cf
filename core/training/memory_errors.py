"""Readable errors for exhausted memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from core.config.run import RunSpec
from core.errors import OutOfMemoryError


@contextlib.contextmanager
def explain_out_of_memory(spec: RunSpec) -> Iterator[None]:
    """Turn errors of exhausted memory into an ``OutOfMemoryError`` with a remedy."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(spec) from error
    except RuntimeError as error:
        # On a CPU, torch reports it only in the message.
        if any(text in str(error) for text in ("can't allocate memory", "not enough memory")):
            raise _out_of_memory(spec) from error
        raise


def _out_of_memory(spec: RunSpec) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"There is not enough memory for {spec.model.backbone} with batches of "
        f"{spec.train.batch_size}.",
        "Lower the batch size, or choose the method lora or linear, or a smaller backbone.",
        field="train.batch_size",
    )
