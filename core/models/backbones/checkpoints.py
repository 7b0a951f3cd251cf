"""Checkpoint files: read without running code, matched key by key, with a load report."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from core.errors import ModelError
from core.models.backbones.model_map import map_model

FIELD = "model.weights"
WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that data parallelism and compilation add to every key."""

PRETRAINING_ONLY = ("decoder_", "mask_token", "norm.", "bert_")
"""Prefixes of tensors in published MAE and MRM checkpoints that are not part of the encoder. Their
final ``norm`` is not used: the classifier normalises after pooling (``fc_norm``), as the published
fine-tuning does."""

_PICKLES = (b"PK", b"\x80")
_INNER = ("teacher", "model_ema", "model", "module", "state_dict", "model_state_dict")
"""Keys under which training code stores the weights. Averaged weights, such as a teacher's, come
first, because their authors use these."""

_MAX_NESTING = 3
_COMPUTED = (
    "relative_position_index",
    "attn_mask",
    "rope.freqs_cos",
    "rope.freqs_sin",
    "num_batches_tracked",
)
"""Endings of keys that are no weights; the model computes these tensors."""

# Checkpoints of MAE's code also contain the command line and a few scores. These classes only hold
# values: creating an instance runs no code of the file.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    # NumPy before version 2 wrote the same class under another name.
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
]


@dataclass(frozen=True)
class LoadReport:
    """How every key of a checkpoint and every key of the model was treated.

    Attributes:
        matched: Keys that were loaded unchanged.
        missing: Keys of the model that the checkpoint lacks (those of the classifier).
        unexpected: Keys of the checkpoint that the model lacks.
        reshaped: Keys that were loaded after interpolation to the model's input size.
        sha256: Hash of the file; None for random weights.
    """

    matched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    sha256: str | None = None

    def __str__(self) -> str:
        if self.sha256 is None:
            return "random weights; no file was loaded"
        parts = [f"{len(self.matched) + len(self.reshaped)} tensors loaded"]
        for what, keys in (
            ("interpolated", self.reshaped),
            ("newly initialised", self.missing),
            ("not used", self.unexpected),
        ):
            if keys:
                parts.append(f"{len(keys)} {what} ({', '.join(_roots(keys))})")
        return f"{'; '.join(parts)}; SHA-256 {self.sha256[:12]}"


def sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint in safetensors or torch format, recognised by its content.

    Args:
        path: The file. In a torch file, the tensors can be nested under keys such as ``model``,
            ``state_dict`` or ``teacher``.

    Returns:
        Tensors by key, without the prefixes ``module.`` and ``_orig_mod.``.

    Raises:
        ModelError: The file is missing, empty or truncated, would run code when unpickled, or
            contains no weights.
    """
    if not path.is_file():
        raise ModelError(
            f"The checkpoint {path} does not exist.",
            "Give the path of an existing file.",
            field=FIELD,
        )
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty.", "Download it again.", field=FIELD)
    with path.open("rb") as file:
        start = file.read(9)
    content = _read_safetensors(path) if start[8:9] == b"{" else _read_torch(path, start)
    for _ in range(_MAX_NESTING):
        inner = next((key for key in _INNER if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = content[inner]
    state = {
        _unwrapped(str(key)): value for key, value in content.items() if isinstance(value, Tensor)
    }
    if not state:
        keys = ", ".join(str(key) for key in list(content)[:5]) or "none"
        raise ModelError(
            f"{path} contains no weights (its keys: {keys}).",
            "Give a file with a state dict, at the top level or under the key “model”.",
            field=FIELD,
        )
    return state


def load(model: nn.Module, state: Mapping[str, Tensor], *, name: str, digest: str) -> LoadReport:
    """Load a pre-trained encoder into a classifier and report every key.

    Args:
        model: A timm model; its classifier (head and ``fc_norm``) stays as it is.
        state: Tensors by timm's keys, as returned by ``read``.
        name: The checkpoint's name, for messages.
        digest: SHA-256 of the file, for the report.

    Returns:
        Which keys were loaded, interpolated, newly initialised and not used.

    Raises:
        ModelError: A key of the encoder is missing or has another shape, the checkpoint has keys
            that the encoder lacks, or values are not finite.
    """
    wanted, fresh = model.state_dict(), _classifier_prefixes(model)
    lacking, surplus = differences(model, state)
    for keys, problem in (
        (lacking, f"lacks {len(lacking)} of the encoder's tensors"),
        (surplus, f"has {len(surplus)} tensors that the backbone does not have"),
    ):
        if keys:
            raise _mismatch(f"{name} {problem}. The first is {keys[0]}.")
    filled = {
        key: _fitted(model, key, value, wanted[key], name)
        for key, value in state.items()
        if key in wanted and not key.startswith(fresh)
    }
    for key, value in filled.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(
                f"{name} contains values that are not finite in {key}.",
                "The file is damaged or its training diverged. Use another file.",
                field=FIELD,
            )
    model.load_state_dict(filled, strict=False)
    reshaped = tuple(key for key in filled if state[key].shape != wanted[key].shape)
    return LoadReport(
        matched=tuple(key for key in filled if key not in reshaped),
        missing=tuple(key for key in wanted if key not in filled),
        unexpected=tuple(key for key in state if key not in filled),
        reshaped=reshaped,
        sha256=digest,
    )


def differences(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Keys of the encoder that a checkpoint lacks, and keys of the checkpoint that it lacks.

    Neither list includes keys of the classifier, keys that only pre-training uses, and keys of
    components that the model does not have at all (a text encoder, a projection).

    Args:
        model: A timm model.
        state: Tensors by key.
    """
    wanted, fresh = model.state_dict(), _classifier_prefixes(model)
    encoder = [key for key in wanted if not key.startswith(fresh)]
    roots = {key.split(".")[0] for key in encoder}
    return (
        [key for key in encoder if key not in state and not key.endswith(_COMPUTED)],
        [
            key
            for key in state
            if key not in wanted
            and key.split(".")[0] in roots
            and not key.startswith((*PRETRAINING_ONLY, *fresh))
            and not key.endswith(_COMPUTED)
        ],
    )


def fits(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint fits a model's encoder, by names and shapes; values are not read.

    Args:
        model: A timm model, on the meta device or any other.
        state: Tensors by timm's keys.
    """
    if any(differences(model, state)):
        return False
    wanted, fresh = model.state_dict(), _classifier_prefixes(model)
    try:
        for key, target in wanted.items():
            if key in state and not key.startswith(fresh):
                _fitted(model, key, state[key], target, "")
    except ModelError:
        return False
    return True


def interpolate_positions(positions: Tensor, tokens: int, prefix: int) -> Tensor:
    """Resize the position embedding of a square grid, bicubic without antialiasing as in MAE.

    Args:
        positions: Shape [1, prefix + g², D].
        tokens: Number of tokens of the result, prefix included.
        prefix: Number of leading tokens outside the grid (class token, registers).

    Returns:
        Shape [1, tokens, D].
    """
    old, new = round((positions.shape[1] - prefix) ** 0.5), round((tokens - prefix) ** 0.5)
    grid = positions[:, prefix:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    grid = grid.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
    return torch.cat([positions[:, :prefix], grid], dim=1)


def _fitted(model: nn.Module, key: str, value: Tensor, target: Tensor, name: str) -> Tensor:
    if value.shape == target.shape:
        return value
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    if getattr(model, "no_embed_class", False):
        prefix = 0
    resizable = key == "pos_embed" and value.ndim == 3 and value.shape[2] == target.shape[2]
    if resizable and all(_is_square(tensor.shape[1] - prefix) for tensor in (value, target)):
        return interpolate_positions(value, target.shape[1], prefix)
    if key.endswith("relative_position_bias_table") and value.shape[1] == target.shape[1]:
        old, new = round(value.shape[0] ** 0.5), round(target.shape[0] ** 0.5)
        if old**2 == value.shape[0] and new**2 == target.shape[0]:
            return _interpolate_biases(value, old, new)
    raise _mismatch(
        f"{name}: {key} has shape {list(value.shape)}, the backbone needs {list(target.shape)}."
    )


def _interpolate_biases(table: Tensor, old: int, new: int) -> Tensor:
    """Resize the bias table [offsets², heads] of a window, which is smaller for a small input."""
    grid = table.float().T.reshape(1, -1, old, old)
    grid = functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return grid.reshape(table.shape[1], -1).T.to(table.dtype)


def _is_square(count: int) -> bool:
    return count > 0 and round(count**0.5) ** 2 == count


def _mismatch(cause: str) -> ModelError:
    remedy = "Give a checkpoint of the same architecture as the backbone."
    return ModelError(cause, remedy, field=FIELD)


def _classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the keys that are newly initialised on a pre-trained encoder."""
    return ("fc_norm.", *(f"{name}." for name in map_model(model).classifier))


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_torch(path: Path, start: bytes) -> Mapping[str, Any]:
    try:
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            # torch warns that a newer pickle protocol may fail; if it does, it raises below.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not start.startswith(_PICKLES):
            raise _damaged(path, "it starts like neither format") from error
        raise ModelError(
            f"{path} is a pickle that would run code when opened, so it was not opened.",
            "If you trust it, save its state dict as safetensors and give that file.",
            field=FIELD,
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, Mapping):
        raise ModelError(
            f"{path} contains a {type(content).__name__}, not a state dict.",
            "Save model.state_dict() and give that file.",
            field=FIELD,
        )
    return content


def _damaged(path: Path, error: Exception | str) -> ModelError:
    reason = str(error).split("\n")[0].rstrip(".")
    return ModelError(
        f"{path} is truncated or not a checkpoint ({reason}).", "Download it again.", field=FIELD
    )


def _unwrapped(key: str) -> str:
    while key.startswith(WRAPPERS):
        key = key.split(".", 1)[1]
    return key


def _roots(keys: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(key.split(".")[0] for key in keys))
