"""Every backbone and what has to be known about it, on one card each.

Nothing here imports torch, so that names and cards can be listed at once; only the card of a timm
model (``timm:NAME``), which comes from timm's own configuration, has to load timm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from core.errors import ModelError, unknown_name
from core.workspace import ASSETS

TIMM = "timm:"
Source = Literal["embedded", "file", "timm"]


@dataclass(frozen=True)
class BackboneCard:
    """A backbone: how it is built, fed and loaded, and where it comes from.

    Attributes:
        name: Its name in the catalogue.
        title: Its name for people.
        architecture: Name of the timm architecture.
        arguments: Further arguments of the architecture.
        input_size: Side of the square input in pixels.
        mean: Mean of the input, on grey levels from 0 to 1; one, or one a channel.
        std: Spread of the input, likewise.
        channels: Input channels; a grey radiograph is repeated to them.
        pooling: What the classifier is given.
        weights: File of the weights in ``assets/``, where they are shipped.
        source: ``embedded`` in this package, a ``file`` the user has to fetch, or ``timm``.
        licence: Under which terms the weights may be used.
        pretraining: How and on which images it was pre-trained.
        paper: Where it is described.
        url: Where the weights come from; the user is sent there when they are missing.
        leaks: What it has seen of the data sets it may be tested on; empty if nothing is known.
        eval_resize: Shorter side, in pixels, before the centre crop of an evaluation; None resizes
            to the input size.
    """

    name: str
    title: str
    architecture: str
    input_size: int
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]
    source: Source
    licence: str
    pretraining: str
    paper: str
    url: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    channels: int = 3
    pooling: str = "mean of the patch tokens"
    weights: str | None = None
    leaks: str = ""
    eval_resize: int | None = None


BACKBONES: dict[str, BackboneCard] = {
    "embedded-mae": BackboneCard(
        name="embedded-mae",
        title="ViT-Tiny MAE, embedded",
        architecture="vit_tiny_patch16_224",
        input_size=128,
        # Fixed when it was pre-trained, see core/models/pretraining.py.
        mean=0.5,
        std=0.25,
        source="embedded",
        weights="embedded-mae.safetensors",
        licence="MIT, as this software",
        pretraining="Masked autoencoding of phantom radiographs only, made with this software; "
        "embedded-mae.json beside the weights tells data, steps and command.",
        paper="He et al. 2022, Masked Autoencoders Are Scalable Vision Learners (arXiv 2111.06377)",
        url="",
        leaks="It has seen no real radiograph, and no phantom of the data sets offered here.",
    ),
    "mrm": BackboneCard(
        name="mrm",
        title="MRM ViT-B/16",
        architecture="vit_base_patch16_224",
        input_size=224,
        mean=0.4978,
        std=0.2449,
        source="file",
        licence="Not stated by the authors; the images' own terms (MIMIC-CXR-JPG) apply.",
        pretraining="Masked records: masked patches and masked words of the report, on the "
        "radiographs and reports of MIMIC-CXR-JPG.",
        paper="Zhou et al. 2023, Advancing Radiograph Representation Learning with Masked Record "
        "Modeling (arXiv 2301.13155)",
        url="https://github.com/RL4M/MRM-pytorch (the file MRM.pth)",
        leaks="Pre-trained on MIMIC-CXR alone: it has seen the images of that data set, and none "
        "of NIH, CheXpert or RSNA.",
    ),
    "cxr-mae": BackboneCard(
        name="cxr-mae",
        title="CXR-MAE ViT-B/16",
        architecture="vit_base_patch16_224",
        input_size=224,
        mean=0.4785,
        std=0.2834,
        source="file",
        licence="Not stated by the authors; the images' own terms apply.",
        pretraining="Masked autoencoding of 0.5 million radiographs of NIH ChestX-ray14, CheXpert "
        "and MIMIC-CXR.",
        paper="Xiao et al. 2023, Delving into Masked Autoencoders for Multi-Label Thorax Disease "
        "Classification (arXiv 2210.12843)",
        url="https://github.com/lambert-x/medical_mae (ViT-Base/16, X-rays 0.5M, “Pretrained”)",
        leaks="It has seen, without labels, training images of NIH ChestX-ray14 and CheXpert. Many "
        "test images of the study's NIH split are in NIH's own training list, and RSNA's images "
        "are NIH's, so it may have seen images it is tested on.",
        eval_resize=256,
    ),
}
"""The backbones with a name of their own; any other timm model is ``timm:NAME``."""


def card(name: str) -> BackboneCard:
    """Look up a backbone.

    Args:
        name: A key of ``BACKBONES``, or ``timm:NAME`` for any of timm's models.

    Raises:
        ConfigurationError: There is none of that name; the nearest known ones are told.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith(TIMM):
        return _timm_card(name)
    raise unknown_name("backbone", name, [*BACKBONES, f"{TIMM}NAME"], field="model.backbone")


def provenance(name: str) -> dict[str, Any]:
    """What the card beside shipped weights says (data, steps, loss, command); empty if none is.

    Args:
        name: A backbone's name.

    Raises:
        ModelError: The file is damaged.
    """
    weights = card(name).weights
    if weights is None:
        return {}
    path = (ASSETS / weights).with_suffix(".json")
    if not path.exists():
        return {}
    try:
        told: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}).", "Install this software anew.") from error
    return told


@lru_cache
def _timm_card(name: str) -> BackboneCard:
    import timm

    known = name.removeprefix(TIMM)
    if not timm.is_model(known):
        near = [f"{TIMM}{one}" for one in timm.list_models()]
        raise _nearest(name, near)
    tagged = "." in known
    if tagged and known not in timm.list_pretrained(known.split(".")[0] + ".*"):
        raise _nearest(
            name, [f"{TIMM}{n}" for n in timm.list_pretrained(known.split(".")[0] + "*")]
        )
    told = timm.get_pretrained_cfg(known)
    if told is None:
        raise ModelError(
            f"timm knows no configuration of {known}.",
            "Choose another model.",
            field="model.backbone",
        )
    channels, side, _ = told.input_size
    tag = f", {told.tag}" if told.tag else ""
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
        licence=told.license or "Not stated; see the model's page.",
        pretraining=told.description or f"timm's weights “{told.tag or 'default'}”.",
        paper=told.paper_name or "",
        url=f"https://huggingface.co/{told.hf_hub_id}" if told.hf_hub_id else str(told.url or ""),
    )


def _nearest(name: str, known: list[str]) -> Exception:
    """The error for an unknown timm model: three near names, not all of two thousand."""
    import difflib

    close = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or known[:3]
    return unknown_name("backbone", name, [*close, *BACKBONES], field="model.backbone")
