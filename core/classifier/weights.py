"""Read, write and hash a classifier's weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from core.errors import ModelError
from core.files import write_atomically


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of a state dict, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        total.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def write_state(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and text metadata as safetensors, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_atomically(path, safetensors.torch.save(plain, metadata=metadata))


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and metadata that ``write_state`` wrote.

    Raises:
        ModelError: The file is missing or damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(
            f"The weights in {path.name} cannot be read ({error}).", "Train the run again."
        ) from error
