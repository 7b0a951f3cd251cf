"""The frozen part of a model, whose output has to be computed only once a study."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Half = Callable[[Tensor], Tensor]


def split_at_head(model: nn.Module) -> tuple[Half, Half] | None:
    """Cut a classifier into its frozen features and the head that trains.

    Args:
        model: A timm classifier whose ``requires_grad`` flags say what trains.

    Returns:
        Two functions, pixels → features and features → logits, whose composition is the model in
        evaluation mode; None if something before the head trains or the model has no such seam.
    """
    pool, norm = getattr(model, "pool", None), getattr(model, "fc_norm", None)
    if pool is None or norm is None:
        return None
    heads = ("fc_norm.", "head.")
    if any(p.requires_grad and not n.startswith(heads) for n, p in model.named_parameters()):
        return None

    def features(pixels: Tensor) -> Tensor:
        pooled: Tensor = pool(model.forward_features(pixels))  # type: ignore[operator]
        return pooled

    def head(pooled: Tensor) -> Tensor:
        logits: Tensor = model.head(model.head_drop(norm(pooled)))  # type: ignore[operator]
        return logits

    return features, head
