"""Small random checkpoints as the authors of each backbone write them, and what they compute.

The expected features come from another implementation (transformers, torchvision) or from the
papers' formulas on the published names, never from the mapping under test.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention, silu

from core.models.backbones.card import BackboneCard
from core.models.backbones.registry import BACKBONES

State = dict[str, Tensor]
Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Published:
    """A checkpoint file's content and what a classifier is given when it is used.

    Attributes:
        card: The backbone's card, shrunk where its architecture allows.
        content: What the authors' code saves.
        features: Pixels → features before the classifier (and before ``fc_norm``).
        beside: Roots of the keys that are not the encoder's.
    """

    card: BackboneCard
    content: dict[str, Any]
    features: Features
    beside: frozenset[str] = frozenset()


def shrunk(name: str, size: int, **arguments: Any) -> BackboneCard:
    card = BACKBONES[name]
    return replace(card, input_size=size, arguments={**card.arguments, **arguments})


def drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    """Random tensors; scales lie around one so that a mistaken norm is seen."""
    return {
        name: torch.randn(shape) * 0.1 + (1.0 if _is_scale(name) else 0.0)
        for name, shape in shapes.items()
    }


def _is_scale(name: str) -> bool:
    return name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "ffn_ln.weight", "gamma"))


# --- plain ViT: MAE and OpenCLIP -----------------------------------------------------------------


def vit_shapes(width: int, depth: int, tokens: int, patch: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, tokens, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for i in range(depth):
        at = f"blocks.{i}."
        for norm in ("norm1", "norm2"):
            shapes |= {f"{at}{norm}.weight": (width,), f"{at}{norm}.bias": (width,)}
        for layer, (rows, columns) in {
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            shapes |= {f"{at}{layer}.weight": (rows, columns), f"{at}{layer}.bias": (rows,)}
    return shapes


def _linear(x: Tensor, state: State, at: str) -> Tensor:
    return nn.functional.linear(x, state[f"{at}.weight"], state.get(f"{at}.bias"))


def _norm(x: Tensor, state: State, at: str) -> Tensor:
    return layer_norm(x, x.shape[-1:], state[f"{at}.weight"], state[f"{at}.bias"], 1e-6)


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, -1).transpose(1, 2)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def vit_tokens(state: State, x: Tensor, heads: int) -> Tensor:
    """Tokens behind the last block of a ViT (Dosovitskiy et al. 2021) or DINOv2, not normed."""
    patch = state["patch_embed.proj.weight"].shape[-1]
    x = nn.functional.conv2d(
        x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=patch
    )
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], 1) + state["pos_embed"]
    registers = state.get("register_tokens")
    if registers is not None:
        x = torch.cat([x[:, :1], registers.expand(len(x), -1, -1), x[:, 1:]], 1)
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    for i in range(depth):
        at = f"blocks.{i}."
        parts = _linear(_norm(x, state, f"{at}norm1"), state, f"{at}attn.qkv").chunk(3, -1)
        attended = _attended(*(_heads(part, heads) for part in parts))
        x = x + _linear(attended, state, f"{at}attn.proj") * state.get(f"{at}ls1.gamma", 1.0)
        hidden = _norm(x, state, f"{at}norm2")
        if f"{at}mlp.w12.weight" in state:
            gate, value = _linear(hidden, state, f"{at}mlp.w12").chunk(2, -1)
            hidden = _linear(silu(gate) * value, state, f"{at}mlp.w3")
        else:
            hidden = _linear(gelu(_linear(hidden, state, f"{at}mlp.fc1")), state, f"{at}mlp.fc2")
        x = x + hidden * state.get(f"{at}ls2.gamma", 1.0)
    return x


def mae(name: str) -> Published:
    """MAE's code: the weights under ``model`` beside the command line, a decoder beside them."""
    state = drawn(vit_shapes(48, 2, 17, 16))
    decoder = drawn(
        {f"decoder_{key}": shape for key, shape in vit_shapes(32, 1, 17, 16).items()}
    ) | {"mask_token": torch.randn(1, 1, 32)}
    return Published(
        shrunk(name, 64, embed_dim=48, depth=2, num_heads=3),
        {"model": state | decoder, "args": argparse.Namespace(lr=1e-3), "epoch": 799},
        lambda x: vit_tokens(state, x, 3)[:, 1:].mean(1),
        frozenset({"norm", "mask_token"} | {key.split(".")[0] for key in decoder}),
    )


def mrm() -> Published:
    one = mae("mrm")
    text = drawn({"bert_encoder.embeddings.weight": (9, 8), "bert_mlp.weight": (4, 8)})
    content = {"model": one.content["model"] | text}
    return replace(one, content=content, beside=one.beside | {"bert_encoder", "bert_mlp"})


def biomedclip() -> Published:
    """OpenCLIP: timm's ViT as ``visual.trunk``, its projection and the text tower beside it."""
    state = drawn(vit_shapes(48, 2, 17, 16))
    beside = drawn(
        {
            "visual.head.proj.weight": (16, 48),
            "text.transformer.embeddings.word_embeddings.weight": (9, 8),
            "text.proj.0.weight": (8, 8),
            "logit_scale": (),
        }
    )
    return Published(
        shrunk("biomedclip", 64, embed_dim=48, depth=2, num_heads=3),
        {f"visual.trunk.{key}": value for key, value in state.items()} | beside,
        lambda x: _norm(vit_tokens(state, x, 3), state, "norm")[:, 0],
        frozenset({"visual", "text", "logit_scale"}),
    )


# --- DINOv2 --------------------------------------------------------------------------------------


def dinov2_state(width: int, depth: int, tokens: int, patch: int, registers: int) -> State:
    """The original names; with registers the SwiGLU of CheXFound, without them a plain MLP."""
    shapes = vit_shapes(width, depth, tokens, patch) | {"mask_token": (1, width)}
    if registers:
        shapes["register_tokens"] = (1, registers, width)
    for i in range(depth):
        shapes |= {f"blocks.{i}.ls1.gamma": (width,), f"blocks.{i}.ls2.gamma": (width,)}
        if registers:
            hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
            for layer in ("fc1", "fc2"):
                for kind in ("weight", "bias"):
                    del shapes[f"blocks.{i}.mlp.{layer}.{kind}"]
            shapes |= {
                f"blocks.{i}.mlp.w12.weight": (2 * hidden, width),
                f"blocks.{i}.mlp.w12.bias": (2 * hidden,),
                f"blocks.{i}.mlp.w3.weight": (width, hidden),
                f"blocks.{i}.mlp.w3.bias": (width,),
            }
    return drawn(shapes)


def rad_dino_original() -> Published:
    state = dinov2_state(48, 2, 17, 14, registers=0)
    return Published(
        shrunk("rad-dino", 56, embed_dim=48, depth=2, num_heads=3),
        dict(state),
        lambda x: _norm(vit_tokens(state, x, 3), state, "norm")[:, 0],
        frozenset({"mask_token"}),
    )


def rad_dino_in_chunks() -> Published:
    """As training saves it: blocks in chunks, under ``teacher``, the DINO head beside them."""
    one = rad_dino_original()
    chunked = {
        "backbone." + re.sub(r"^blocks\.(\d+)", r"blocks.0.\1", key): value
        for key, value in one.content.items()
    }
    heads = drawn({"dino_head.last_layer.weight": (8, 48), "ibot_head.mlp.0.weight": (8, 48)})
    student = {key: torch.full_like(value, torch.nan) for key, value in chunked.items()}
    return replace(
        one,
        content={"student": student, "teacher": chunked | heads, "iteration": 9},
        beside=one.beside | {"dino_head", "ibot_head"},
    )


def chexfound() -> Published:
    state = dinov2_state(48, 2, 17, 16, registers=4)
    hidden = (int(4 * 48 * 2 / 3) + 7) // 8 * 8
    heads = drawn({"dino_head.mlp.0.weight": (8, 48)})
    return Published(
        shrunk(
            "chexfound", 64, embed_dim=48, depth=2, num_heads=3, mlp_ratio=2 * hidden / 48 + 1e-9
        ),
        {"teacher": {f"backbone.{key}": value for key, value in state.items()} | heads},
        lambda x: _norm(vit_tokens(state, x, 3), state, "norm")[:, 0],
        frozenset({"mask_token", "dino_head"}),
    )


def saved_by_transformers(model: Any) -> State:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(Path(folder) / "model.safetensors")


def randomised(model: nn.Module) -> Any:
    """Random weights everywhere, layer scales and tokens too, and statistics that matter."""
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.is_floating_point():
                around = float(any(part in name for part in ("norm", "bn", "var", "lambda1")))
                value.copy_(torch.randn_like(value) * 0.1 + around)
                if name.endswith("var"):
                    value.abs_()
    return model.eval()


def dinov2_of_transformers(name: str, registers: int, swiglu: bool) -> Published:
    """Hugging Face's layout, written and computed by transformers itself."""
    settings: dict[str, Any] = {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": 56,
        "patch_size": 14,
        "use_swiglu_ffn": swiglu,
    }
    made: Any
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**settings, num_register_tokens=registers)
        made = transformers.Dinov2WithRegistersModel(config)
    else:
        made = transformers.Dinov2Model(transformers.Dinov2Config(**settings))
    model = randomised(made)
    more: dict[str, Any] = {}
    if registers:
        more |= {"reg_tokens": registers, "no_embed_class": True}
    if swiglu:
        hidden = (int(4 * 48 * 2 / 3) + 7) // 8 * 8
        more |= {"mlp_ratio": 2 * hidden / 48 + 1e-9, "patch_size": 14}
    card = shrunk(name, 56, embed_dim=48, depth=2, num_heads=3, **more)
    if swiglu:
        card = replace(card, architecture=BACKBONES["chexfound"].architecture)
    return Published(
        card,
        saved_by_transformers(model),
        lambda x: model(x).pooler_output,
        frozenset({"mask_token"}),
    )


# --- EVA-X ---------------------------------------------------------------------------------------


def eva_state(width: int, depth: int, tokens: int, *, separate: bool) -> State:
    """EVA-02 as pre-training saves it: fused, with xformers' SwiGLU, or apart with a sub-norm."""
    shapes = vit_shapes(width, depth, tokens, 16) | {
        "mask_token": (1, 1, width),
        "lm_head.weight": (8, width),
        "lm_head.bias": (8,),
    }
    hidden = int(width * 4 * 2 / 3)
    for i in range(depth):
        at = f"blocks.{i}."
        for gone in ("attn.qkv.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight",
                     "mlp.fc2.bias"):  # fmt: skip
            del shapes[at + gone]
        shapes |= {f"{at}attn.q_bias": (width,), f"{at}attn.v_bias": (width,)}
        shapes |= {f"{at}mlp.w3.weight": (width, hidden), f"{at}mlp.w3.bias": (width,)}
        if separate:
            del shapes[f"{at}attn.qkv.weight"]
            shapes |= {f"{at}attn.{part}_proj.weight": (width, width) for part in "qkv"}
            for half in ("w1", "w2"):
                shapes |= {f"{at}mlp.{half}.weight": (hidden, width)}
                shapes |= {f"{at}mlp.{half}.bias": (hidden,)}
            shapes |= {f"{at}mlp.ffn_ln.weight": (hidden,), f"{at}mlp.ffn_ln.bias": (hidden,)}
        else:
            shapes |= {f"{at}mlp.w12.weight": (2 * hidden, width)}
            shapes |= {f"{at}mlp.w12.bias": (2 * hidden,)}
    return drawn(shapes)


def rotation(side: int, head: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of EVA-02's rotary embedding, [side², head]; its grid is always 14 wide."""
    frequencies = 1.0 / 10000.0 ** (torch.arange(0, head // 2, 2).float() / (head // 2))
    angles = torch.outer(torch.arange(side) / side * 14, frequencies).repeat_interleave(2, -1)
    rows = angles[:, None].expand(side, side, -1)
    columns = angles[None, :].expand(side, side, -1)
    both = torch.cat([rows, columns], -1).flatten(0, 1)
    return both.cos(), both.sin()


def eva_tokens(state: State, x: Tensor, heads: int) -> Tensor:
    x = nn.functional.conv2d(
        x, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16
    )
    side = x.shape[-1]
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], 1) + state["pos_embed"]
    cos, sin = rotation(side, x.shape[-1] // heads)

    def turned(part: Tensor) -> Tensor:
        patches = part[:, :, 1:]
        pairs = patches.reshape(*patches.shape[:-1], -1, 2)
        half = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(-2)
        return torch.cat([part[:, :, :1], patches * cos + half * sin], 2)

    for i in range(1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))):
        at = f"blocks.{i}."
        if f"{at}attn.qkv.weight" in state:
            weights = list(state[f"{at}attn.qkv.weight"].chunk(3))
        else:
            weights = [state[f"{at}attn.{part}_proj.weight"] for part in "qkv"]
        hidden = _norm(x, state, f"{at}norm1")
        biases = (state[f"{at}attn.q_bias"], None, state[f"{at}attn.v_bias"])
        q, k, v = (
            _heads(nn.functional.linear(hidden, weight, bias), heads)
            for weight, bias in zip(weights, biases, strict=True)
        )
        x = x + _linear(_attended(turned(q), turned(k), v), state, f"{at}attn.proj")
        hidden = _norm(x, state, f"{at}norm2")
        if f"{at}mlp.w12.weight" in state:
            gate, value = _linear(hidden, state, f"{at}mlp.w12").chunk(2, -1)
            hidden = silu(gate) * value
        else:
            gate, value = (_linear(hidden, state, f"{at}mlp.{half}") for half in ("w1", "w2"))
            hidden = _norm(silu(gate) * value, state, f"{at}mlp.ffn_ln")
        x = x + _linear(hidden, state, f"{at}mlp.w3")
    return x


def eva_x(name: str, *, separate: bool, buffers: bool = True) -> Published:
    state = eva_state(48, 2, 17, separate=separate)
    content = dict(state)
    if buffers:
        cos, sin = rotation(14, 16)
        for at in ("", "blocks.0.attn.", "blocks.1.attn."):
            content |= {f"{at}rope.freqs_cos": cos, f"{at}rope.freqs_sin": sin}
    return Published(
        shrunk(name, 64, embed_dim=48, depth=2, num_heads=3),
        {"module": content, "epoch": 600},
        lambda x: eva_tokens(state, x, 3)[:, 1:].mean(1),
        frozenset({"norm", "mask_token", "lm_head", *({"rope", "blocks"} if buffers else ())}),
    )


# --- Ark -----------------------------------------------------------------------------------------


def ark(*, whole: bool = False) -> Published:
    """Swin as first published, with Ark's projector and heads; ``whole``: with the optimizer."""
    config = transformers.SwinConfig(
        image_size=64, embed_dim=12, depths=[2, 2, 2], num_heads=[1, 2, 4], window_size=4
    )
    model = randomised(transformers.SwinModel(config))
    state: State = {}
    for key, value in saved_by_transformers(model).items():
        name = key
        for theirs, published in (
            ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("embeddings.norm", "patch_embed.norm"),
            ("encoder.", ""),
            ("attention.output.dense", "attn.proj"),
            ("attention.self.relative_position", "attn.relative_position"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            ("layernorm", "norm"),
        ):
            name = name.replace(theirs, published)
        state[name] = value
    for key in [key for key in state if key.endswith("attention.self.query.weight")]:
        at = key.removesuffix("attention.self.query.weight")
        for kind in ("weight", "bias"):
            parts = [state.pop(f"{at}attention.self.{one}.{kind}")
                     for one in ("query", "key", "value")]  # fmt: skip
            state[f"{at}attn.qkv.{kind}"] = torch.cat(parts)
        state[f"{at}attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(16, 16, 16)
    beside = drawn(
        {
            "head.weight": (5, 48),
            "head.bias": (5,),
            "projector.0.weight": (9, 48),
            "projector.2.weight": (9, 9),
            "omni_heads.0.weight": (5, 9),
        }
    )
    content: dict[str, Any] = state | beside
    if whole:
        student = {f"module.{key}": torch.zeros_like(value) for key, value in content.items()}
        teacher = {f"module.{key}": value for key, value in content.items()}
        content = {"epoch": 200, "state_dict": student, "teacher": teacher, "optimizer": {}}
    return Published(
        shrunk("ark", 64, embed_dim=12, depths=(2, 2, 2), num_heads=(1, 2, 4), window_size=4),
        content,
        lambda x: model(x).pooler_output,
        frozenset({"head", "projector", "omni_heads", "layers"}),
    )


# --- TorchXRayVision -----------------------------------------------------------------------------


def xrv_densenet() -> Published:
    """The DenseNet of torchvision with one channel, as the library builds it."""
    model = torchvision.models.densenet121(num_classes=18)
    model.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    model = randomised(model)
    return Published(
        replace(BACKBONES["xrv-densenet121"], input_size=64),
        model.state_dict() | {"op_threshs": torch.rand(18)},
        lambda x: model.features(x).relu().mean((2, 3)),
        frozenset({"classifier", "op_threshs"}),
    )


def xrv_resnet(*, inside: bool) -> Published:
    """A ResNet of torchvision with one channel: the release, or (``inside``) a saved model."""
    model = torchvision.models.resnet50(num_classes=18)
    model.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    model = randomised(model)
    features = nn.Sequential(*list(model.children())[:-1], nn.Flatten())
    state = {f"model.{key}": one for key, one in model.state_dict().items()}
    return Published(
        replace(BACKBONES["xrv-resnet50"], input_size=64),
        state | {"op_threshs": torch.rand(18)} if inside else model.state_dict(),
        features,
        frozenset({"fc", *(("op_threshs",) if inside else ())}),
    )


PUBLISHED: dict[str, Callable[[], Published]] = {
    "mrm": mrm,
    "cxr-mae": lambda: mae("cxr-mae"),
    "medical-mae-b": lambda: mae("medical-mae-b"),
    "medical-mae-s": lambda: mae("medical-mae-s"),
    "eva-x-tiny": lambda: eva_x("eva-x-tiny", separate=False),
    "eva-x-small": lambda: eva_x("eva-x-small", separate=False, buffers=False),
    "eva-x-base": lambda: eva_x("eva-x-base", separate=True),
    "rad-dino": lambda: dinov2_of_transformers("rad-dino", 0, swiglu=False),
    "rad-dino, original layout": rad_dino_original,
    "rad-dino, a training checkpoint": rad_dino_in_chunks,
    "rad-dino-maira-2": lambda: dinov2_of_transformers("rad-dino-maira-2", 0, swiglu=False),
    "rad-dino, with registers": lambda: dinov2_of_transformers("rad-dino", 4, swiglu=False),
    "rad-dino, with SwiGLU": lambda: dinov2_of_transformers("rad-dino", 4, swiglu=True),
    "ark": ark,
    "ark, a training checkpoint": lambda: ark(whole=True),
    "chexfound": chexfound,
    "biomedclip": biomedclip,
    "xrv-densenet121": xrv_densenet,
    "xrv-resnet50": lambda: xrv_resnet(inside=False),
    "xrv-resnet50, as a saved model": lambda: xrv_resnet(inside=True),
}
"""Every published layout, by the backbone's name."""
