"""Translation of published checkpoint layouts to timm's layer names.

A layout is recognised by its keys, so a file can be as its authors saved it or as others converted
it. Supported: Hugging Face's Dinov2, the original DINOv2 with or without registers, EVA-02 with
fused or separate projections, Swin as first published, OpenCLIP's image towers, torchvision's CNNs.
A key that no rule matches keeps its name and appears in the load report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Tensor]

PREFIXES = ("visual.trunk.", "teacher.backbone.", "backbone.", "dinov2.", "encoder.", "model.")
"""Prefixes of an encoder's keys in a larger model: OpenCLIP, a DINO teacher, classifiers."""

FIRST_LAYER = (
    "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.weight",
    "features.conv0.weight",
    "conv1.weight",
)
"""Key of the first layer in each layout, by which a prefix is recognised."""

_TRANSFORMERS = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.query\.", ".attn.q_proj."),
    (r"\.attention\.attention\.key\.", ".attn.k_proj."),
    (r"\.attention\.attention\.value\.", ".attn.v_proj."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"\.mlp\.gate_proj\.", ".mlp.w1."),
    (r"\.mlp\.up_proj\.", ".mlp.w2."),
    (r"\.mlp\.down_proj\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
)

_BLOCKS = (
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # DINOv2 groups its blocks into chunks
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
    (r"\.mlp\.ffn_ln\.", ".mlp.norm."),
    (r"\.attn\.inner_attn_ln\.", ".attn.norm."),
)

_DENSENET = ((r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2"),)

Rules = tuple[tuple[str, str], ...]


def translate(model: nn.Module, state: Mapping[str, Tensor]) -> State:
    """Rename and reshape a checkpoint's tensors to those of a timm model.

    Args:
        model: The timm model that will hold the tensors.
        state: Tensors by the names of one of the supported layouts, or by timm's names.

    Returns:
        The same tensors by timm's names. Query, key and value, and the two halves of a gated MLP,
        are joined or split to match the model.
    """
    translated = _without_prefix(dict(state))
    if "embeddings.patch_embeddings.projection.weight" in translated:
        translated = _renamed(translated, _TRANSFORMERS)
    if any(key.startswith("blocks.") for key in translated):
        translated = _renamed(translated, _BLOCKS)
        translated = _with_registers(model, translated)
        translated = _biases_at_projections(translated)
        translated = _joined_or_split(model, translated)
    if "layers.0.downsample.reduction.weight" in translated:
        translated = {_later_downsample(key): value for key, value in translated.items()}
    if "features.conv0.weight" in translated:
        translated = _renamed(translated, _DENSENET)
    return translated


def _without_prefix(state: State) -> State:
    for prefix in PREFIXES:
        if any(prefix + first in state for first in FIRST_LAYER):
            return {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _renamed(state: State, rules: Rules) -> State:
    def name(key: str) -> str:
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        return key

    return {name(key): value for key, value in state.items()}


def _with_registers(model: nn.Module, state: State) -> State:
    """Add the class token's position to the token, as timm does.

    DINOv2 has a position embedding for the class token but none for the registers.
    """
    if "register_tokens" not in state or not getattr(model, "no_embed_class", False):
        return state
    positions = state["pos_embed"]
    changed = {
        "reg_token": state["register_tokens"],
        "cls_token": state["cls_token"] + positions[:, :1],
        "pos_embed": positions[:, 1:],
    }
    return {key: value for key, value in state.items() if key != "register_tokens"} | changed


def _biases_at_projections(state: State) -> State:
    """Move the biases of separate projections into them; EVA stores them in the attention."""
    return {
        _bias_name(key) if f"{key.rpartition('.')[0]}.q_proj.weight" in state else key: value
        for key, value in state.items()
    }


def _bias_name(key: str) -> str:
    return re.sub(r"\.([qkv])_bias$", r".\1_proj.bias", key)


def _joined_or_split(model: nn.Module, state: State) -> State:
    """Join or split projections and gated MLPs where the model's layers differ from the file's."""
    wanted = model.state_dict().keys()
    changed = dict(state)
    for key in state:
        block, _, tensor = key.partition(".attn.")
        if tensor == "q_proj.weight" and f"{block}.attn.qkv.weight" in wanted:
            _join_attention(changed, f"{block}.attn.", wanted)
        elif tensor == "qkv.weight" and f"{block}.attn.q_proj.weight" in wanted:
            _split_attention(changed, f"{block}.attn.")
        elif key.endswith(".mlp.fc1_g.weight") and key.replace("fc1_g", "fc1") in wanted:
            _join_gate(changed, key.removesuffix("fc1_g.weight"))
        elif key.endswith(".mlp.fc1.weight") and key.replace("fc1", "fc1_g") in wanted:
            _split_gate(changed, key.removesuffix("fc1.weight"))
    return changed


def _join_attention(state: State, prefix: str, wanted: Any) -> None:
    weights = [state.pop(f"{prefix}{part}_proj.weight") for part in "qkv"]
    state[f"{prefix}qkv.weight"] = torch.cat(weights)
    biases = {part: state.pop(f"{prefix}{part}_proj.bias", None) for part in "qkv"}
    query = biases["q"]
    if query is None:
        return
    if f"{prefix}qkv.bias" in wanted:
        # EVA's key projection has no bias, which equals a bias of zero.
        complete = [torch.zeros_like(query) if bias is None else bias for bias in biases.values()]
        state[f"{prefix}qkv.bias"] = torch.cat(complete)
    else:
        state |= {f"{prefix}{part}_bias": bias for part, bias in biases.items() if bias is not None}


def _split_attention(state: State, prefix: str) -> None:
    for part, weight in zip("qkv", state.pop(f"{prefix}qkv.weight").chunk(3), strict=True):
        state[f"{prefix}{part}_proj.weight"] = weight
        if f"{prefix}{part}_bias" in state:
            state[f"{prefix}{part}_proj.bias"] = state.pop(f"{prefix}{part}_bias")
    if f"{prefix}qkv.bias" in state:
        for part, bias in zip("qkv", state.pop(f"{prefix}qkv.bias").chunk(3), strict=True):
            state[f"{prefix}{part}_proj.bias"] = bias


def _join_gate(state: State, prefix: str) -> None:
    for kind in ("weight", "bias"):
        halves = [state.pop(f"{prefix}{half}.{kind}", None) for half in ("fc1_g", "fc1_x")]
        present = [half for half in halves if half is not None]
        if present:
            state[f"{prefix}fc1.{kind}"] = torch.cat(present)


def _split_gate(state: State, prefix: str) -> None:
    for kind in ("weight", "bias"):
        if f"{prefix}fc1.{kind}" in state:
            gate, value = state.pop(f"{prefix}fc1.{kind}").chunk(2)
            state |= {f"{prefix}fc1_g.{kind}": gate, f"{prefix}fc1_x.{kind}": value}


def _later_downsample(key: str) -> str:
    """Move a downsampling layer from the end of a Swin stage to the start of the next, as timm."""
    match = re.match(r"layers\.(\d+)\.downsample\.", key)
    if match is None:
        return key
    return f"layers.{int(match[1]) + 1}.downsample.{key[match.end() :]}"
