"""Build the classifier of a run: backbone, classification head and adapter."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from core.classifier.weights import digest
from core.config.run import RunSpec
from core.data.transforms import EvalTransform
from core.errors import ModelError
from core.models.backbones.build import build_backbone
from core.models.backbones.card import BackboneCard
from core.models.backbones.checkpoints import LoadReport
from core.models.backbones.model_map import map_model
from core.models.backbones.registry import backbone_card
from core.models.peft_files.attach import attach_adapter
from core.models.peft_files.read import read_adapter
from core.models.peft_files.write import classifier_names
from core.models.tuning.apply import apply_method
from core.models.tuning.registry import tuning_method
from core.workspace import ADAPTER


@dataclass(frozen=True)
class Classifier:
    """A classifier of findings on a backbone.

    Attributes:
        model: Turns float32 pixels of shape (studies, channels, side, side) into logits of shape
            (studies, findings).
        card: The backbone's card.
        loaded: Which pre-trained weights were loaded.
    """

    model: nn.Module
    card: BackboneCard
    loaded: LoadReport


def build_classifier(
    spec: RunSpec,
    findings: int,
    folder: Path | None = None,
    *,
    adapted: bool = True,
    weights: bool = True,
    drop_path: float = 0.0,
    meta: bool = False,
) -> Classifier:
    """Build the classifier of a run.

    Training, the prediction of memory, saliency and export all call this function.

    Args:
        spec: The run.
        findings: Number of outputs.
        folder: The run's folder, which holds its imported adapter; only read if there is one.
        adapted: Prepare the model for the run's tuning method, or attach its imported adapter;
            otherwise return the plain classifier that the run starts from.
        weights: Load pre-trained weights where the run does; otherwise keep random weights.
        drop_path: Rate of stochastic depth; only training needs it.
        meta: Build on the meta device: shapes only, without memory, and without setting the seed.

    Raises:
        ConfigurationError: The method does not suit the architecture.
        ModelError: The weights cannot be found, read or matched, or the imported adapter is
            missing, damaged, or not the one that was imported.
    """
    card = backbone_card(spec.model.backbone)
    if not meta:
        # Frozen random weights are not saved: the seed must draw the same ones at every build.
        torch.manual_seed(spec.train.seed)
    without_backbone = tuning_method(spec.adapter.method).network
    with torch.device("meta") if meta else contextlib.nullcontext():
        if without_backbone is not None:
            return Classifier(without_backbone(card, findings), card, LoadReport())
        model, loaded = build_backbone(
            card,
            findings,
            pretrained=spec.model.pretrained and weights,
            weights=spec.model.weights if weights else None,
            input_size=spec.model.input_size,
            drop_path=drop_path,
        )
        if adapted:
            model = _adapted(model, spec, folder)
    if meta:
        model = model.to("meta")  # peft creates some buffers on the CPU in any case
    return Classifier(model, card, loaded)


def encoder_digest(model: nn.Module) -> str:
    """SHA-256 of a plain classifier's weights without its classification head (see ``digest``)."""
    heads = tuple(f"{name}." for name in classifier_names(map_model(model)))
    return digest({k: v for k, v in model.state_dict().items() if not k.startswith(heads)})


def evaluation_transform(card: BackboneCard, size: int) -> EvalTransform:
    """The transform from images to the input of evaluation.

    Args:
        card: The backbone's card. Its centre crop keeps the same share of the image at any size.
        size: Side of the input in pixels.
    """
    resize = card.eval_resize and round(card.eval_resize * size / card.input_size)
    return EvalTransform(size, card.mean, card.std, card.channels, resize)


def _adapted(model: nn.Module, spec: RunSpec, folder: Path | None) -> nn.Module:
    if spec.adapter.imported is None:
        return apply_method(model, spec.adapter)
    if folder is None:
        raise ValueError("a run with an imported adapter needs its folder")
    adapter = read_adapter(folder / ADAPTER)
    if adapter.identity != spec.adapter.imported:
        raise ModelError(
            "The adapter in this run's folder is not the one that was imported.",
            "Import it again: python -m core import-adapter DIR.",
        )
    return attach_adapter(model, adapter)
