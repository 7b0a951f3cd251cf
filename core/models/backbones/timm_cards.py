"""Cards of timm's models, from timm's own configuration. timm is loaded only to make one."""

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
"""One model of each family, pre-trained on photographs: what radiographs are worth is seen beside
them."""


@lru_cache
def card(name: str, others: tuple[str, ...] = ()) -> BackboneCard:
    """The card of a timm model.

    Args:
        name: ``timm:NAME``, with or without the tag of its weights.
        others: Names of further backbones, for the error.

    Raises:
        ConfigurationError: timm has no such model, or no such weights of it.
        ModelError: timm knows the model and no configuration of it.
    """
    import timm

    known = name.removeprefix(TIMM)
    if not timm.is_model(known):
        raise _nearest(name, timm.list_models(), others)
    if "." in known and known not in timm.list_pretrained(known.split(".")[0] + ".*"):
        raise _nearest(name, timm.list_pretrained(known.split(".")[0] + "*"), others)
    told = timm.get_pretrained_cfg(known)
    if told is None:
        raise ModelError(
            f"timm knows no configuration of {known}.", "Choose another model.", field=FIELD
        )
    channels, side, _ = told.input_size
    tag = f", {told.tag}" if told.tag else ""
    weights = f"timm's weights “{told.tag or 'default'}”."
    return BackboneCard(
        name=name,
        title=f"timm {known.split('.')[0]}{tag}",
        architecture=known,
        input_size=side,
        mean=tuple(told.mean),
        std=tuple(told.std),
        channels=channels,
        pooling="mean of the patch tokens, or the architecture's own",
        source="timm",
        hub=told.hf_hub_id or "",
        hub_files=(told.hf_hub_filename,) if told.hf_hub_filename else BackboneCard.hub_files,
        licence=told.license or "Not stated; see the model's page.",
        pretraining=told.description or weights,
        paper=told.paper_name or "",
        url=f"https://huggingface.co/{told.hf_hub_id}" if told.hf_hub_id else str(told.url or ""),
    )


def _nearest(name: str, models: list[str], others: tuple[str, ...]) -> Exception:
    """The error for an unknown timm model: near names, not all of two thousand."""
    known = [f"{TIMM}{one}" for one in models]
    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or known[:3]
    return unknown_name("backbone", name, [*close, *others], field=FIELD)
