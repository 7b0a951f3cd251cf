"""Errors of exhausted memory, with a remedy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from core.config.run import RunSpec
from core.errors import OutOfMemoryError


@contextlib.contextmanager
def memory_explained(spec: RunSpec) -> Iterator[None]:
    """Say in words, and with what to change, that a run needs more memory than there is."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(spec) from error
    except RuntimeError as error:
        if any(words in str(error) for words in ("can't allocate memory", "not enough memory")):
            raise _too_large(spec) from error
        raise


def _too_large(spec: RunSpec) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"There is not enough memory for {spec.model.backbone} with batches of "
        f"{spec.train.batch_size}.",
        "Lower the batch size, choose LoRA or linear, or a smaller backbone.",
        field="train.batch_size",
    )
