"""Published checkpoint layouts, brought to the names that timm gives the same layers.

Each layout is known by keys of its own, so that a file may come as its authors saved it or as
others converted it: Hugging Face's Dinov2, the original DINOv2 with or without registers, EVA-02
with fused and with separate projections, Swin as first published, OpenCLIP's towers, torchvision's
CNNs. A key that no rule knows keeps its name, and the load report tells of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Tensor]

PREFIXES = ("visual.trunk.", "teacher.backbone.", "backbone.", "dinov2.", "encoder.", "model.")
"""What stands before an encoder's keys in a larger model: OpenCLIP, a DINO teacher, classifiers."""

FIRST = (
    "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.weight",
    "features.conv0.weight",
    "conv1.weight",
)
"""The first layer of a network in each layout, by which a prefix is recognised."""

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
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # DINOv2 cuts its blocks into chunks
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
    """Give a checkpoint's tensors the names and the form they have in a timm model.

    Args:
        model: The timm model that shall hold them.
        state: Tensors by the names of one of the known layouts, or by timm's.

    Returns:
        The same tensors by timm's names. Query, key and value, or the two halves of a gated MLP,
        are joined or taken apart as the model has them.
    """
    found = _without_prefix(dict(state))
    if "embeddings.patch_embeddings.projection.weight" in found:
        found = _renamed(found, _TRANSFORMERS)
    if any(key.startswith("blocks.") for key in found):
        found = _renamed(found, _BLOCKS)
        found = _with_registers(model, found)
        found = _biases_at_projections(found)
        found = _as_the_model_has_them(model, found)
    if "layers.0.downsample.reduction.weight" in found:
        found = {_later_downsample(key): value for key, value in found.items()}
    if "features.conv0.weight" in found:
        found = _renamed(found, _DENSENET)
    return found


def _without_prefix(state: State) -> State:
    for prefix in PREFIXES:
        if any(prefix + first in state for first in FIRST):
            return {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _renamed(state: State, rules: Rules) -> State:
    def name(key: str) -> str:
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        return key

    return {name(key): value for key, value in state.items()}


def _with_registers(model: nn.Module, state: State) -> State:
    """DINOv2 gives the class token a position and the registers none; timm adds it beforehand."""
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
    """EVA keeps the biases of separate projections beside them."""
    return {
        _bias_name(key) if f"{key.rpartition('.')[0]}.q_proj.weight" in state else key: value
        for key, value in state.items()
    }


def _bias_name(key: str) -> str:
    return re.sub(r"\.([qkv])_bias$", r".\1_proj.bias", key)


def _as_the_model_has_them(model: nn.Module, state: State) -> State:
    wanted = model.state_dict().keys()
    found = dict(state)
    for key in state:
        at, _, what = key.partition(".attn.")
        if what == "q_proj.weight" and f"{at}.attn.qkv.weight" in wanted:
            _join_attention(found, f"{at}.attn.", wanted)
        elif what == "qkv.weight" and f"{at}.attn.q_proj.weight" in wanted:
            _part_attention(found, f"{at}.attn.")
        elif key.endswith(".mlp.fc1_g.weight") and key.replace("fc1_g", "fc1") in wanted:
            _join_gate(found, key.removesuffix("fc1_g.weight"))
        elif key.endswith(".mlp.fc1.weight") and key.replace("fc1", "fc1_g") in wanted:
            _part_gate(found, key.removesuffix("fc1.weight"))
    return found


def _join_attention(state: State, at: str, wanted: Any) -> None:
    state[f"{at}qkv.weight"] = torch.cat([state.pop(f"{at}{part}_proj.weight") for part in "qkv"])
    biases = {part: state.pop(f"{at}{part}_proj.bias", None) for part in "qkv"}
    query = biases["q"]
    if query is None:
        return
    if f"{at}qkv.bias" in wanted:
        # A key without a bias, as EVA has it, is one whose bias is zero.
        each = [torch.zeros_like(query) if one is None else one for one in biases.values()]
        state[f"{at}qkv.bias"] = torch.cat(each)
    else:
        state |= {f"{at}{part}_bias": one for part, one in biases.items() if one is not None}


def _part_attention(state: State, at: str) -> None:
    for part, weight in zip("qkv", state.pop(f"{at}qkv.weight").chunk(3), strict=True):
        state[f"{at}{part}_proj.weight"] = weight
        if f"{at}{part}_bias" in state:
            state[f"{at}{part}_proj.bias"] = state.pop(f"{at}{part}_bias")
    if f"{at}qkv.bias" in state:
        for part, bias in zip("qkv", state.pop(f"{at}qkv.bias").chunk(3), strict=True):
            state[f"{at}{part}_proj.bias"] = bias


def _join_gate(state: State, at: str) -> None:
    for kind in ("weight", "bias"):
        halves = [state.pop(f"{at}{half}.{kind}", None) for half in ("fc1_g", "fc1_x")]
        present = [half for half in halves if half is not None]
        if present:
            state[f"{at}fc1.{kind}"] = torch.cat(present)


def _part_gate(state: State, at: str) -> None:
    for kind in ("weight", "bias"):
        if f"{at}fc1.{kind}" in state:
            gate, value = state.pop(f"{at}fc1.{kind}").chunk(2)
            state |= {f"{at}fc1_g.{kind}": gate, f"{at}fc1_x.{kind}": value}


def _later_downsample(key: str) -> str:
    """The first Swin shrank the map at the end of a stage, timm's does at the start of the next."""
    found = re.match(r"layers\.(\d+)\.downsample\.", key)
    if found is None:
        return key
    return f"layers.{int(found[1]) + 1}.downsample.{key[found.end() :]}"
