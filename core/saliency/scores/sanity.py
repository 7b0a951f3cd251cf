"""Sanity check by model randomisation: a map that does not change does not show the model.

Adebayo et al., “Sanity Checks for Saliency Maps”, 2018: weights are replaced by random ones, layer
by layer from the head to the input, and each map is compared with that of the trained model.
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

FAILING_CORRELATION = 0.5
"""Mean rank correlation with the maps of an all-random model from which on a method fails."""

Map = NDArray[np.float32]
ExplainModel = Callable[[nn.Module, Tensor], Map]
"""Computes maps of shape (batch, height, width) from a model and its input by one method."""


@dataclass(frozen=True)
class Sanity:
    """How the maps of a method change while the weights of a model become random.

    Attributes:
        steps: The group of weights that became random at each step, the head first.
        correlations: Mean rank correlation with the trained model's maps after each step; NaN if a
            map has the same value everywhere.
    """

    steps: tuple[str, ...]
    correlations: tuple[float, ...]

    @property
    def failed(self) -> bool:
        """Whether the maps of the all-random model are similar to those of the trained model."""
        return self.correlations[-1] >= FAILING_CORRELATION

    def sentence(self, title: str) -> str:
        """The result in words."""
        last = self.correlations[-1]
        if np.isnan(last):
            return (
                f"{title}: with random weights the maps have the same value everywhere, so that "
                "the sanity check cannot compare them."
            )
        if self.failed:
            return (
                f"{title} fails the sanity check: its maps hardly change if all weights are random "
                f"(rank correlation {last:.2f}), so that they show the image or the architecture "
                "more than what the model learnt."
            )
        return (
            f"{title} passes the sanity check: its maps change if all weights are random (rank "
            f"correlation {last:.2f})."
        )


def cascading_randomisation(
    model: nn.Module,
    pixels: Tensor,
    explain: ExplainModel,
    *,
    max_steps: int | None = None,
    seed: int = 0,
) -> Sanity:
    """Randomise a copy of a model from the head to the input, and compare the maps at each step.

    Each weight is drawn from a normal distribution of its own mean and standard deviation, so that
    maps do not vanish because of the scale of the weights.

    Args:
        model: The classifier; it is not changed.
        pixels: Network input of shape (batch, channels, height, width).
        explain: Computes the maps.
        max_steps: Steps at which maps are compared, evenly spaced, including the first and the
            last; by default all.
        seed: Seed of the weights.
    """
    originals = explain(model, pixels)
    randomised = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    groups = weight_groups(randomised)
    count = len(groups)
    compared = set(range(count))
    if max_steps is not None and max_steps < count:
        spacing = (count - 1) / max(1, max_steps - 1)
        compared = {round(i * spacing) for i in range(max_steps)} | {count - 1}
    steps: list[str] = []
    correlations: list[float] = []
    for i, (name, weights) in enumerate(groups):
        for weight in weights:
            _randomise(weight, generator)
        if i in compared:
            steps.append(name)
            maps = explain(randomised, pixels)
            correlations.append(
                _mean(correlation(a, b) for a, b in zip(originals, maps, strict=True))
            )
    return Sanity(tuple(steps), tuple(correlations))


def weight_groups(model: nn.Module) -> list[tuple[str, Sequence[nn.Parameter]]]:
    """The weights of a model in groups, from the output to the input.

    Each block or stage is a group. Other modules, such as the last norm or the head, are groups of
    their own, in the order of their definition.
    """
    base: Any = layers.network(model)
    if hasattr(base, "get_base_model"):  # peft's wrapper forwards attributes of the network inside
        base = base.get_base_model()
    by_group: dict[str, list[nn.Parameter]] = {}
    for name, weight in base.named_parameters():
        by_group.setdefault(_group(base, name), []).append(weight)
    known = {id(weight) for weights in by_group.values() for weight in weights}
    # Weights of a wrapper belong to no layer; they come first, with the head.
    outside = [weight for weight in model.parameters() if id(weight) not in known]
    groups = list(reversed(by_group.items()))
    return [*([("outside", outside)] if outside else []), *groups]


def _group(base: nn.Module, name: str) -> str:
    """The block or stage of a weight: ``blocks.3``, ``head``, ``patch_embed``."""
    parts = name.split(".")
    child = getattr(base, parts[0], None)
    several = isinstance(child, nn.Sequential | nn.ModuleList)
    return ".".join(parts[: 2 if several and len(parts) > 2 else 1])


def _randomise(weight: nn.Parameter, generator: torch.Generator) -> None:
    with torch.no_grad():
        values = weight.detach().float()
        # A single number has no deviation, and would become NaN.
        deviation = float(values.std(correction=0)) if values.numel() > 1 else 0.0
        drawn = torch.randn(weight.shape, generator=generator) * deviation + float(values.mean())
        weight.copy_(drawn.to(weight))


def _mean(values: Iterator[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
