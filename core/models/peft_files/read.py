"""Reading an adapter folder in peft's format that was made elsewhere: as data, with checks.

Names in its configuration are not looked up, imported or used as patterns. Which layers it adapts,
and with which rank, is read from its tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from core.errors import ModelError
from core.models.backbones import checkpoints

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
ABOUT = "export.json"
FILES = (CONFIG, WEIGHTS, PICKLE, ABOUT)
"""The files of an adapter folder that are read; the last two are optional."""

KINDS = {"LORA": "lora", "IA3": "ia3", "LN_TUNING": "ln-tuning"}
"""Supported adapter types by peft's name, with the tuning method of the imported run."""

REMEDY = "Give the folder as peft's save_pretrained wrote it."
MAX_JSON_BYTES = 1_000_000

_PREFIX = "base_model.model."
_UPWARDS = re.compile(r"(^|[/\\])\.\.([/\\]|$)")
_PARTS = {
    "LORA": re.compile(r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?"),
    "IA3": re.compile(r"(.+)\.(ia3_l)"),
    "LN_TUNING": re.compile(r"(.+)\.ln_tuning_layers\.(\w+)"),
}
_KEEPS_WEIGHTS = (None, True, False, "gaussian", "orthogonal")
"""Values of ``init_lora_weights`` that do not change the backbone's weights."""

_UNSUPPORTED = (
    "target_parameters", "trainable_token_indices", "layer_replication", "megatron_config",
    "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out", "bias", "alora_invocation_tokens",
    "arrow_config", "kasa_config", "monteclora_config", "velora_config",
)  # fmt: skip
"""Options with which a LoRA adapter is more than an update B·A of some layers."""


@dataclass(frozen=True)
class ForeignAdapter:
    """The content of an adapter folder.

    Attributes:
        method: ``lora``, ``rslora``, ``dora``, ``ia3`` or ``ln-tuning``.
        layers: Its tensors by layer and kind (``lora_A``, ``ia3_l``, ``weight``, …).
        scales: Factor on B·A by layer; empty for methods without B·A.
        rank: The largest rank; 1 for methods without a rank.
        alpha: The numerator of the scale at that rank.
        rest: The other tensors by name: the classifier.
        identity: Hash of its files, 16 hexadecimal digits.
        findings: Names of its outputs, if this software exported it.
        encoder: Hash of the backbone's weights, if this software exported it.
    """

    method: str
    layers: Mapping[str, Mapping[str, Tensor]]
    scales: Mapping[str, float]
    rank: int
    alpha: float
    rest: Mapping[str, Tensor]
    identity: str
    findings: tuple[str, ...] | None = None
    encoder: str | None = None


def read_adapter(folder: Path) -> ForeignAdapter:
    """Read an adapter folder without running code from it.

    Args:
        folder: A folder with ``adapter_config.json`` and the adapter's weights.

    Raises:
        ModelError: A file is missing or damaged, the adapter's type is not supported, or the
            folder names a file outside itself.
    """
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} is not an adapter folder of peft: it has no {CONFIG}.", REMEDY)
    config = _json(folder / CONFIG)
    _check_paths(folder, config)
    kind = str(config.get("peft_type"))
    if kind not in KINDS:
        raise ModelError(
            f"The adapter has peft's type {kind}, which cannot be imported.",
            f"Supported: {', '.join(KINDS)}. Merge it with peft, and use the result as --weights.",
        )
    layers: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, value in _weights(folder).items():
        match = _PARTS[kind].fullmatch(name)
        if match is None:
            rest[name.replace(".modules_to_save.", ".")] = value
        else:
            layers.setdefault(match[1], {})[match[2]] = value
    if not layers:
        raise ModelError("The adapter's weights contain no adapted layer.", REMEDY)
    about = _json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
    findings = about.get("findings")
    return ForeignAdapter(
        layers=layers,
        rest=rest,
        identity=_identity(folder),
        findings=tuple(map(str, findings)) if isinstance(findings, list) else None,
        encoder=about.get("encoder_sha256"),
        **(_low_rank(config, layers) if kind == "LORA" else _without_rank(kind)),
    )


def _without_rank(kind: str) -> dict[str, Any]:
    return {"method": KINDS[kind], "scales": {}, "rank": 1, "alpha": 1.0}


def _low_rank(
    config: Mapping[str, Any], layers: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Any]:
    """Method, scales, rank and alpha of a LoRA adapter."""
    _check_options(config)
    rslora = bool(config.get("use_rslora"))
    scales, ranks, alphas = {}, {}, {}
    for name, parts in layers.items():
        rank = _of_layer(config, "rank_pattern", name, _number(config, "r"))
        alphas[name] = _of_layer(config, "alpha_pattern", name, _number(config, "lora_alpha"))
        down, up = parts.get("lora_A"), parts.get("lora_B")
        if down is None or up is None or down.ndim < 2 or up.ndim < 2:
            raise ModelError(f"The adapter lacks lora_A or lora_B of {name}.", REMEDY)
        if not rank == len(down) == up.shape[1]:
            raise ModelError(
                f"The adapter is inconsistent: its {CONFIG} gives rank {rank:g}, but the matrices "
                f"of {name} have the shapes {list(down.shape)} and {list(up.shape)}.",
                REMEDY,
            )
        ranks[name] = len(down)
        scales[name] = alphas[name] / (math.sqrt(rank) if rslora else rank)
    highest = max(ranks, key=lambda name: ranks[name])
    method = "rslora" if rslora else "lora"
    return {
        "method": "dora" if config.get("use_dora") else method,
        "scales": scales,
        "rank": ranks[highest],
        "alpha": alphas[highest],
    }


def _check_options(config: Mapping[str, Any]) -> None:
    """Check that a LoRA adapter consists of updates B·A of the backbone's own weights."""
    start = config.get("init_lora_weights")
    if start not in _KEEPS_WEIGHTS:
        raise ModelError(
            f"The adapter starts from changed weights of the backbone (init_lora_weights={start}).",
            "Save it with path_initial_model_for_weight_conversion, which converts it to LoRA.",
        )
    used = [name for name in _UNSUPPORTED if config.get(name) not in (None, False, {}, [], "none")]
    if used:
        raise ModelError(
            f"The adapter uses the option {used[0]} of peft's LoRA, which cannot be imported.",
            "Merge it with peft, and use the result as --weights.",
        )
    _number(config, "r")


def _number(config: Mapping[str, Any], name: str) -> float:
    value = config.get(name)
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    if not 0 < number < math.inf:
        raise ModelError(
            f"The adapter's {CONFIG} has {name}={json.dumps(value)}, with which it has no effect.",
            f"{name} must be a number above 0. Save the adapter again.",
        )
    return number


def _of_layer(config: Mapping[str, Any], field: str, layer: str, default: float) -> float:
    """The value of a layer in ``rank_pattern`` or ``alpha_pattern``."""
    patterns = config.get(field) or {}
    if not isinstance(patterns, dict) or any(set(p) & set("^$*+?()[]{}|\\") for p in patterns):
        raise ModelError(
            f"The adapter's {CONFIG} has a {field} that is not a table of layer names.",
            "Use full layer names instead of patterns there.",
        )
    for name in patterns:
        if layer == name or layer.endswith(f".{name}"):
            return _number(patterns, name)
    return default


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("it is too large")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"The adapter's {path.name} cannot be read ({error}).", REMEDY) from error
    return content


def _weights(folder: Path) -> dict[str, Tensor]:
    path = next((folder / n for n in (WEIGHTS, PICKLE) if (folder / n).is_file()), None)
    if path is None:
        raise ModelError(
            f"The adapter has no weights: {WEIGHTS} is missing.",
            "Save it as one file, with save_pretrained(…, safe_serialization=True).",
        )
    state = {
        name.removeprefix(_PREFIX): value.float() for name, value in checkpoints.read(path).items()
    }
    bad = [name for name, value in state.items() if not bool(value.isfinite().all())]
    if bad:
        raise ModelError(f"The adapter contains values that are not finite in {bad[0]}.", REMEDY)
    return state


def _check_paths(folder: Path, config: Mapping[str, Any]) -> None:
    """Check that no file name and no text in the configuration leads out of the folder."""
    names = [file.name for file in folder.iterdir()]
    names += [text for file in folder.glob("*.index.json") for text in _texts(_json(file))]
    for text in [*names, *_texts(config)]:
        if _UPWARDS.search(text):
            raise ModelError(
                f"The adapter names a file outside its folder: {text[:80]}.",
                "Do not use it unless you know the reason.",
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _identity(folder: Path) -> str:
    total = hashlib.sha256()
    for name in FILES:
        if (folder / name).is_file():
            total.update(f"{name} {checkpoints.sha256(folder / name)}\n".encode())
    return total.hexdigest()[:16]
