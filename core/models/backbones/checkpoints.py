"""Weights on disk: read without running code, matched key by key, and reported."""

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

FIELD = "model.weights"
WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that data parallelism and compilation leave in front of every key."""

PRETRAINING_ONLY = ("decoder_", "mask_token", "norm.", "bert_")
"""What published MAE and MRM checkpoints hold beside the encoder. Their final ``norm`` is not used:
the classifier normalises after pooling (``fc_norm``), as the published fine-tuning does."""

FRESH = ("fc_norm.", "head.")
"""What a classifier on a pre-trained encoder starts anew."""

_PICKLES = (b"PK", b"\x80")
_INNER = ("teacher", "model_ema", "model", "module", "state_dict", "model_state_dict")
"""Where training code puts the weights. An average of them, as a teacher is, comes first: that is
what its authors use."""

_NESTED = 3
_COMPUTED = (
    "relative_position_index",
    "attn_mask",
    "rope.freqs_cos",
    "rope.freqs_sin",
    "num_batches_tracked",
)
"""Ends of keys that hold no weights; the model computes them."""

# Checkpoints of MAE's code carry the command line and a few scores beside the weights. These
# classes only hold values: building one runs no code of the file.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    # NumPy before 2 wrote the same under another name.
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
]


@dataclass(frozen=True)
class LoadReport:
    """What became of every key of a checkpoint and of every key of the model.

    Attributes:
        matched: Keys that were loaded as they are.
        missing: Keys of the model that the checkpoint does not have (the classifier's).
        unexpected: Keys of the checkpoint that the model does not have.
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
            return "random weights, nothing was loaded"
        parts = [f"{len(self.matched) + len(self.reshaped)} tensors loaded"]
        for what, keys in (
            ("interpolated", self.reshaped),
            ("started anew", self.missing),
            ("left out", self.unexpected),
        ):
            if keys:
                parts.append(f"{len(keys)} {what} ({', '.join(_roots(keys))})")
        return f"{'; '.join(parts)}; SHA-256 {self.sha256[:12]}"


def sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, in safetensors or torch's format, by content not by name.

    Args:
        path: The file. Of a torch file the tensors under ``model``, ``state_dict``, ``teacher`` and
            their like are taken.

    Returns:
        Tensors by key, without the prefixes ``module.`` and ``_orig_mod.``.

    Raises:
        ModelError: The file is missing, empty, truncated, would run code when unpickled, or holds
            no weights.
    """
    if not path.is_file():
        raise ModelError(
            f"There is no checkpoint {path}.", "Give the path of an existing file.", field=FIELD
        )
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty.", "Download it again.", field=FIELD)
    with path.open("rb") as file:
        start = file.read(9)
    content = _read_safetensors(path) if start[8:9] == b"{" else _read_torch(path, start)
    for _ in range(_NESTED):
        inner = next((one for one in _INNER if isinstance(content.get(one), Mapping)), None)
        if inner is None:
            break
        content = content[inner]
    state = {
        _unwrapped(str(key)): value for key, value in content.items() if isinstance(value, Tensor)
    }
    if not state:
        held = ", ".join(str(key) for key in list(content)[:5]) or "nothing"
        raise ModelError(
            f"{path} holds no weights (it holds {held}).",
            "Give a state dict, by itself or under the key “model”.",
            field=FIELD,
        )
    return state


def load(model: nn.Module, state: Mapping[str, Tensor], *, name: str, digest: str) -> LoadReport:
    """Fill a classifier with a pre-trained encoder and account for every key.

    Args:
        model: A timm model; its classifier (and ``fc_norm``) keep what they have.
        state: Tensors by timm's keys, as ``read`` gives them.
        name: The checkpoint's name, for messages.
        digest: SHA-256 of the file, for the report.

    Returns:
        What was loaded, interpolated, started anew and left out.

    Raises:
        ModelError: A key of the encoder is missing, has another shape, is superfluous, or its
            values are not finite.
    """
    wanted = model.state_dict()
    lacking, surplus = differences(model, state)
    for keys, fault in (
        (lacking, f"lacks {len(lacking)} of the encoder's tensors"),
        (surplus, f"has {len(surplus)} tensors that the backbone has no place for"),
    ):
        if keys:
            raise _unfit(f"{name} {fault}, the first is {keys[0]}.")
    filled = {
        key: _fitted(model, key, value, wanted[key], name)
        for key, value in state.items()
        if key in wanted and not key.startswith(_fresh(model))
    }
    for key, value in filled.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(
                f"{name} holds values that are not finite in {key}.",
                "The file is damaged or its training diverged; use another one.",
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
    """Keys of the encoder that a checkpoint lacks, and keys within it that the encoder lacks.

    What belongs to the classifier or to pre-training alone is in neither list; nor is a key of a
    part that the model does not have at all (a text encoder, a projection).

    Args:
        model: A timm model.
        state: Tensors by key.
    """
    wanted, fresh = model.state_dict(), _fresh(model)
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
    """Whether a checkpoint fills a model's encoder, by names and shapes; values are not read.

    Args:
        model: A timm model, on the meta device or any other.
        state: Tensors by timm's keys.
    """
    if any(differences(model, state)):
        return False
    wanted, fresh = model.state_dict(), _fresh(model)
    try:
        for key, place in wanted.items():
            if key in state and not key.startswith(fresh):
                _fitted(model, key, state[key], place, "")
    except ModelError:
        return False
    return True


def interpolate_positions(positions: Tensor, tokens: int, prefix: int) -> Tensor:
    """Resize the position embedding of a square grid, bicubic without antialiasing as published.

    Args:
        positions: Shape [1, prefix + g², D].
        tokens: Tokens wanted, with prefix.
        prefix: Leading tokens that have no place in the grid (class token, registers).

    Returns:
        Shape [1, tokens, D].
    """
    old, new = round((positions.shape[1] - prefix) ** 0.5), round((tokens - prefix) ** 0.5)
    grid = positions[:, prefix:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    grid = grid.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
    return torch.cat([positions[:, :prefix], grid], dim=1)


def _fitted(model: nn.Module, key: str, value: Tensor, place: Tensor, name: str) -> Tensor:
    if value.shape == place.shape:
        return value
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    if getattr(model, "no_embed_class", False):
        prefix = 0
    resizable = key == "pos_embed" and value.ndim == 3 and value.shape[2] == place.shape[2]
    if resizable and all(_is_square(one.shape[1] - prefix) for one in (value, place)):
        return interpolate_positions(value, place.shape[1], prefix)
    if key.endswith("relative_position_bias_table") and value.shape[1] == place.shape[1]:
        sides = [round(one.shape[0] ** 0.5) for one in (value, place)]
        if all(side**2 == one.shape[0] for side, one in zip(sides, (value, place), strict=True)):
            return _interpolate_biases(value, *sides)
    raise _unfit(
        f"{name}: {key} has shape {list(value.shape)}, the backbone needs {list(place.shape)}."
    )


def _interpolate_biases(table: Tensor, old: int, new: int) -> Tensor:
    """Resize a window's table of [offsets², heads], where a small input makes its windows small."""
    grid = table.float().T.reshape(1, -1, old, old)
    grid = functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return grid.reshape(table.shape[1], -1).T.to(table.dtype)


def _is_square(count: int) -> bool:
    return count > 0 and round(count**0.5) ** 2 == count


def _unfit(cause: str) -> ModelError:
    remedy = "Give a checkpoint of the same architecture as the backbone."
    return ModelError(cause, remedy, field=FIELD)


def _fresh(model: nn.Module) -> tuple[str, ...]:
    head = getattr(model, "get_classifier", lambda: None)()
    named = next((key for key, module in model.named_modules() if module is head and key), None)
    return FRESH if named is None else ("fc_norm.", f"{named}.")


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
            # Of a newer pickle protocol torch only says that it may fail; then it does, below.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not start.startswith(_PICKLES):
            raise _damaged(path, "it has neither format's beginning") from error
        raise ModelError(
            f"{path} is a pickle that would run code when it is opened, so it was not opened.",
            "Save its state dict as safetensors where you trust it, and give that file.",
            field=FIELD,
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    if not isinstance(content, Mapping):
        raise ModelError(
            f"{path} holds a {type(content).__name__}, not a state dict.",
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
