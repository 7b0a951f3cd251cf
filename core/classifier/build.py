"""Build the classifier of a run."""

from __future__ import annotations

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
from core.workspace import ADAPTER


def untuned(
    spec: RunSpec, findings: int, *, weights: bool = True
) -> tuple[BackboneCard, nn.Module, LoadReport]:
    """The classifier that a run started from, before anything was tuned.

    Args:
        spec: The run.
        findings: Outputs of the classifier.
        weights: Load the pre-trained weights where the run did; otherwise leave random ones.

    Returns:
        The backbone's card, the model, and what was loaded.

    Raises:
        ModelError: The weights cannot be found, read or matched.
    """
    card = backbone_card(spec.model.backbone)
    torch.manual_seed(spec.train.seed)  # frozen random weights are drawn as the run drew them
    model, report = build_backbone(
        card,
        findings,
        pretrained=spec.model.pretrained and weights,
        weights=spec.model.weights if weights else None,
        input_size=spec.model.input_size,
    )
    return card, model, report


def tuned(model: nn.Module, spec: RunSpec, folder: Path) -> nn.Module:
    """Prepare a backbone for a run's way of tuning, or put on it the adapter the run came with.

    Args:
        model: The classifier the run starts from; it is changed.
        spec: The run.
        folder: Its folder.

    Raises:
        ConfigurationError: The method does not suit the architecture.
        ModelError: The imported adapter is missing, damaged, or not the one the run came with.
    """
    if spec.adapter.imported is None:
        return apply_method(model, spec.adapter)
    adapter = read_adapter(folder / ADAPTER)
    if adapter.identity != spec.adapter.imported:
        raise ModelError(
            "The adapter in this run's folder is not the one that was imported.",
            "Import it again: python -m core import-adapter DIR.",
        )
    return attach_adapter(model, adapter)


def encoder_digest(model: nn.Module) -> str:
    """Hash of a plain classifier's weights, all but the classifier's own (see ``digest``)."""
    heads = tuple(f"{name}." for name in classifier_names(map_model(model)))
    return digest({k: v for k, v in model.state_dict().items() if not k.startswith(heads)})


def evaluation_transform(card: BackboneCard, size: int) -> EvalTransform:
    """How pictures become the input of an evaluation.

    Args:
        card: The backbone's card. The centre crop it asks for keeps its share of the picture.
        size: Side of the input in pixels.
    """
    resize = card.eval_resize and round(card.eval_resize * size / card.input_size)
    return EvalTransform(size, card.mean, card.std, card.channels, resize)
