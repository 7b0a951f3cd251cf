"""Cards of timm models, made from timm's pretrained configurations when they are asked for."""

from __future__ import annotations

import difflib
from functools import lru_cache

from core.errors import ModelError, unknown_name
from core.models.backbones.card import BackboneCard

TIMM = "timm:"
FIELD = "model.backbone"

SUGGESTED = {
    "ViT-B/16 MAE, ImageNet": "timm:vit_base_patch16_224.mae",
    "ViT-B/14 DINOv2": "timm:vit_base_patch14_dinov2.lvd142m",
    "ViT-S/16 DINOv3": "timm:vit_small_patch16_dinov3.lvd1689m",
    "ViT-B/16 AugReg, ImageNet-21k": "timm:vit_base_patch16_224.augreg_in21k",
    "ConvNeXt-T, ImageNet-22k": "timm:convnext_tiny.fb_in22k",
    "Swin-B, ImageNet-22k": "timm:swin_base_patch4_window7_224.ms_in22k",
    "ResNet-50, ImageNet": "timm:resnet50.a1_in1k",
    "DenseNet-121, ImageNet": "timm:densenet121.ra_in1k",
}
"""One model of each family, pre-trained on photographs: baselines for the backbones pre-trained on
radiographs."""


@lru_cache
def card(name: str, others: tuple[str, ...] = ()) -> BackboneCard:
    """The card of a timm model.

    Args:
        name: ``timm:NAME``, with or without the tag of its weights.
        others: Names of further backbones, listed in the error.

    Raises:
        ConfigurationError: timm has no such model, or no such weights for it.
        ModelError: timm has no pretrained configuration for the model.
    """
    import timm

    model = name.removeprefix(TIMM)
    architecture = model.split(".")[0]
    if not timm.is_model(model):
        raise _unknown(name, timm.list_models(), others)
    if "." in model and model not in timm.list_pretrained(architecture + ".*"):
        raise _unknown(name, timm.list_pretrained(architecture + "*"), others)
    config = timm.get_pretrained_cfg(model)
    if config is None:
        raise ModelError(
            f"timm has no pretrained configuration of {model}.",
            "Choose another model.",
            field=FIELD,
        )
    channels, side, _ = config.input_size
    tag = f", {config.tag}" if config.tag else ""
    weights = f"timm's weights “{config.tag or 'default'}”."
    return BackboneCard(
        name=name,
        title=f"timm {architecture}{tag}",
        architecture=model,
        input_size=side,
        mean=tuple(config.mean),
        std=tuple(config.std),
        channels=channels,
        pooling="mean of the patch tokens, or the architecture's own pooling",
        source="timm",
        hub=config.hf_hub_id or "",
        hub_files=(config.hf_hub_filename,) if config.hf_hub_filename else BackboneCard.hub_files,
        licence=config.license or "Not stated; see the model's page.",
        pretraining=config.description or weights,
        paper=config.paper_name or "",
        url=f"https://huggingface.co/{config.hf_hub_id}"
        if config.hf_hub_id
        else str(config.url or ""),
    )


def _unknown(name: str, models: list[str], others: tuple[str, ...]) -> Exception:
    """The error for an unknown timm model, which lists similar names instead of two thousand."""
    known = [f"{TIMM}{model}" for model in models]
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or known[:3]
    return unknown_name("backbone", name, [*close, *others], field=FIELD)
