"""An adapter folder of peft's that was made elsewhere: read as data and checked.

Nothing that its configuration names is looked up, imported or matched as a pattern: which layers it
adapts, and at which rank, is read from its tensors.
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
"""What is read of an adapter folder; the last two need not be there."""

KINDS = {"LORA": "lora", "IA3": "ia3", "LN_TUNING": "ln-tuning"}
"""Kinds of adapters that are read, by peft's name, with the method they become."""

REMEDY = "Give the folder as peft's save_pretrained wrote it."
LARGEST = 1_000_000

_PREFIX = "base_model.model."
_UPWARDS = re.compile(r"(^|[/\\])\.\.([/\\]|$)")
_PARTS = {
    "LORA": re.compile(r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?"),
    "IA3": re.compile(r"(.+)\.(ia3_l)"),
    "LN_TUNING": re.compile(r"(.+)\.ln_tuning_layers\.(\w+)"),
}
_SAME_START = (None, True, False, "gaussian", "orthogonal")
"""Values of ``init_lora_weights`` that leave the backbone's own weights as they are."""

_MORE = (
    "target_parameters", "trainable_token_indices", "layer_replication", "megatron_config",
    "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out", "bias", "alora_invocation_tokens",
    "arrow_config", "kasa_config", "monteclora_config", "velora_config",
)  # fmt: skip
"""Options under which an adapter of LoRA is more than B·A beside some layers."""


@dataclass(frozen=True)
class ForeignAdapter:
    """What an adapter folder holds.

    Attributes:
        method: ``lora``, ``rslora``, ``dora``, ``ia3`` or ``ln-tuning``.
        layers: Its tensors by layer and part (``lora_A``, ``ia3_l``, ``weight``, …).
        scales: What B·A is multiplied by, by layer; empty where there is no B·A.
        rank: The largest rank; 1 where there is none.
        alpha: The scale's numerator at that rank.
        rest: The other tensors, by name: the classifier.
        identity: Hash of its files, 16 hexadecimal digits.
        findings: What its outputs stand for, if this software exported it.
        encoder: Hash of the weights it goes on, likewise.
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


def read(folder: Path) -> ForeignAdapter:
    """Read an adapter folder without running anything of it.

    Args:
        folder: A folder with ``adapter_config.json`` and the adapter's weights.

    Raises:
        ModelError: Something is missing, damaged or of a kind that is not known, or names a file
            outside the folder.
    """
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} is no adapter of peft's: it has no {CONFIG}.", REMEDY)
    config = _json(folder / CONFIG)
    _check_upwards(folder, config)
    kind = str(config.get("peft_type"))
    if kind not in KINDS:
        raise ModelError(
            f"The adapter is of peft's kind {kind}, which is not read here.",
            f"Known: {', '.join(KINDS)}. Merge it elsewhere, and use the result as --weights.",
        )
    layers: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, value in _weights(folder).items():
        part = _PARTS[kind].fullmatch(name)
        if part is None:
            rest[name.replace(".modules_to_save.", ".")] = value
        else:
            layers.setdefault(part[1], {})[part[2]] = value
    if not layers:
        raise ModelError("The adapter's weights hold no adapted layer.", REMEDY)
    about = _json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
    findings = about.get("findings")
    return ForeignAdapter(
        layers=layers,
        rest=rest,
        identity=_identity(folder),
        findings=tuple(map(str, findings)) if isinstance(findings, list) else None,
        encoder=about.get("encoder_sha256"),
        **(_low_rank(config, layers) if kind == "LORA" else _no_rank(kind)),
    )


def _no_rank(kind: str) -> dict[str, Any]:
    return {"method": KINDS[kind], "scales": {}, "rank": 1, "alpha": 1.0}


def _low_rank(
    config: Mapping[str, Any], layers: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Any]:
    """Method, scales, rank and alpha of an adapter of LoRA."""
    start = config.get("init_lora_weights")
    if start not in _SAME_START:
        raise ModelError(
            f"The adapter starts from changed weights of the backbone (init_lora_weights={start}).",
            "Save it with path_initial_model_for_weight_conversion, which makes it a plain one.",
        )
    more = [name for name in _MORE if config.get(name) not in (None, False, {}, [], "none")]
    if more:
        raise ModelError(
            f"The adapter uses {more[0]} of peft's LoRA, which is not read here.",
            "Merge it elsewhere, and use the result as --weights.",
        )
    _number(config, "r")
    root = bool(config.get("use_rslora"))
    scales, ranks, alphas = {}, {}, {}
    for name, parts in layers.items():
        rank = _pattern(config, "rank_pattern", name, _number(config, "r"))
        alphas[name] = _pattern(config, "alpha_pattern", name, _number(config, "lora_alpha"))
        down, up = parts.get("lora_A"), parts.get("lora_B")
        if down is None or up is None or down.ndim < 2 or up.ndim < 2:
            raise ModelError(f"The adapter lacks lora_A or lora_B of {name}.", REMEDY)
        if not rank == len(down) == up.shape[1]:
            raise ModelError(
                f"The adapter's shapes contradict each other: rank {rank:g} by its {CONFIG}, but "
                f"{list(down.shape)} and {list(up.shape)} at {name}.",
                REMEDY,
            )
        ranks[name] = len(down)
        scales[name] = alphas[name] / (math.sqrt(rank) if root else rank)
    widest = max(ranks, key=lambda name: ranks[name])
    plain = "rslora" if root else "lora"
    return {
        "method": "dora" if config.get("use_dora") else plain,
        "scales": scales,
        "rank": ranks[widest],
        "alpha": alphas[widest],
    }


def _number(config: Mapping[str, Any], name: str) -> float:
    value = config.get(name)
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    if not 0 < number < math.inf:
        raise ModelError(
            f"The adapter's {CONFIG} says {name}={json.dumps(value)}, with which it would adapt "
            "nothing.",
            f"{name} has to be a number above 0; save the adapter again.",
        )
    return number


def _pattern(config: Mapping[str, Any], field: str, layer: str, default: float) -> float:
    patterns = config.get(field) or {}
    if not isinstance(patterns, dict) or any(set(one) & set("^$*+?()[]{}|\\") for one in patterns):
        raise ModelError(
            f"The adapter's {CONFIG} has a {field} that is no table of layers' names.",
            "Name the layers in full there.",
        )
    for name in patterns:
        if layer == name or layer.endswith(f".{name}"):
            return _number(patterns, name)
    return default


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("it is too large")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no table")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"The adapter's {path.name} cannot be read ({error}).", REMEDY) from error
    return content


def _weights(folder: Path) -> dict[str, Tensor]:
    path = next((folder / one for one in (WEIGHTS, PICKLE) if (folder / one).is_file()), None)
    if path is None:
        raise ModelError(
            f"The adapter has no weights: {WEIGHTS} is missing.",
            "Save it in one piece, with save_pretrained(…, safe_serialization=True).",
        )
    state = {
        name.removeprefix(_PREFIX): value.float() for name, value in checkpoints.read(path).items()
    }
    bad = [name for name, value in state.items() if not bool(value.isfinite().all())]
    if bad:
        raise ModelError(f"The adapter holds values that are not finite in {bad[0]}.", REMEDY)
    return state


def _check_upwards(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse names that lead out of the folder, wherever they stand."""
    named = [one.name for one in folder.iterdir()]
    named += [text for one in folder.glob("*.index.json") for text in _texts(_json(one))]
    for text in [*named, *_texts(config)]:
        if _UPWARDS.search(text):
            raise ModelError(
                f"The adapter names a file outside its folder: {text[:80]}.",
                "Do not use it unless you know why it does.",
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
