"""Sanity check: a map that stays the same when the model forgets everything shows no model.

Adebayo et al., “Sanity Checks for Saliency Maps”, 2018: weights are made random one layer after the
other, from the head down, and each map is compared with that of the trained model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.saliency.methods import layers
from core.saliency.scores.stability import correlation

HARDLY = 0.5
"""Mean rank correlation with the maps of an all-random model from which on a method is flagged."""

Map = NDArray[np.float32]
Explain = Callable[[nn.Module, Tensor], Map]
"""Maps of shape (batch, height, width) that one method makes of a model and its input."""


@dataclass(frozen=True)
class Sanity:
    """How a method's maps change while a model forgets.

    Attributes:
        steps: What had become random by then, the head first, everything last.
        correlations: Mean rank correlation with the trained model's maps after each step; NaN where
            a map is the same everywhere.
    """

    steps: tuple[str, ...]
    correlations: tuple[float, ...]

    @property
    def flagged(self) -> bool:
        """Whether the maps of the all-random model are still much like the trained one's."""
        return self.correlations[-1] >= HARDLY

    def sentence(self, title: str) -> str:
        """What a reader must know, in words.

        Args:
            title: The method's name for people.
        """
        last = self.correlations[-1]
        if np.isnan(last):
            return f"{title}: a model with random weights gives even maps, so nothing to compare."
        if self.flagged:
            return (
                f"{title} fails the sanity check: its maps hardly change when all weights are "
                f"random (rank correlation {last:.2f}), so they show the picture or the "
                "architecture more than what was learnt."
            )
        return (
            f"{title} passes the sanity check: with all weights random its maps are others (rank "
            f"correlation {last:.2f})."
        )


def cascade(
    model: nn.Module,
    pixels: Tensor,
    explain: Explain,
    *,
    most: int | None = None,
    seed: int = 0,
) -> Sanity:
    """Make a copy of a model random from the head down, and compare the maps at each step.

    Each weight is drawn anew from a normal distribution of its own mean and deviation, so that
    maps do not vanish for the size of the weights alone.

    Args:
        model: The classifier; it is not changed.
        pixels: Network input of shape (batch, channels, height, width).
        explain: Makes the maps.
        most: Steps at which maps are compared, evenly chosen, the first and the last among them; by
            default all.
        seed: Seed of the weights.
    """
    plain = explain(model, pixels)
    forgetful = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    groups = cascading(forgetful)
    count = len(groups)
    compared = set(range(count))
    if most is not None and most < count:
        compared = {round(i * (count - 1) / max(1, most - 1)) for i in range(most)} | {count - 1}
    steps: list[str] = []
    found: list[float] = []
    for i, (name, weights) in enumerate(groups):
        for weight in weights:
            _forget(weight, generator)
        if i in compared:
            steps.append(name)
            maps = explain(forgetful, pixels)
            found.append(_mean(correlation(a, b) for a, b in zip(plain, maps, strict=True)))
    return Sanity(tuple(steps), tuple(found))


def cascading(model: nn.Module) -> list[tuple[str, Sequence[nn.Parameter]]]:
    """A model's weights in groups from the output to the input.

    Blocks and stages are groups of their own; what stands between and behind them in the order of
    definition, such as a last norm or the head, is one by its own name.
    """
    base: Any = layers.network(model)
    if hasattr(base, "get_base_model"):  # peft's wrapper answers for the network inside it
        base = base.get_base_model()
    order: dict[str, list[nn.Parameter]] = {}
    for name, weight in base.named_parameters():
        order.setdefault(_group(base, name), []).append(weight)
    known = {id(weight) for weights in order.values() for weight in weights}
    around = [weight for weight in model.parameters() if id(weight) not in known]
    groups = list(reversed(order.items()))
    return [*([("outside", around)] if around else []), *groups]


def _group(base: nn.Module, name: str) -> str:
    """The block or stage a weight belongs to: ``blocks.3``, ``head``, ``patch_embed``."""
    parts = name.split(".")
    child = getattr(base, parts[0], None)
    several = isinstance(child, nn.Sequential | nn.ModuleList)
    return ".".join(parts[: 2 if several and len(parts) > 2 else 1])


def _forget(weight: nn.Parameter, generator: torch.Generator) -> None:
    with torch.no_grad():
        values = weight.detach().float()
        spread = float(values.std(correction=0)) if values.numel() > 1 else 0.0
        drawn = torch.randn(weight.shape, generator=generator) * spread + float(values.mean())
        weight.copy_(drawn.to(weight))


def _mean(values: Iterator[float]) -> float:
    known = [one for one in values if not np.isnan(one)]
    return float(np.mean(known)) if known else float("nan")
