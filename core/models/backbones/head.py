"""The part of a model that every method trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def parts(model: nn.Module) -> list[nn.Module]:
    """What stands behind the features: ``fc_norm``, where there is one, and the head."""
    norm = getattr(model, "fc_norm", None)
    head = model.get_classifier()  # type: ignore[operator]
    return [module for module in (norm, head) if module is not None]


def names(model: nn.Module) -> list[str]:
    """The names of these modules in the model."""
    known = [id(one) for one in parts(model)]
    return [name for name, module in model.named_modules() if id(module) in known]
