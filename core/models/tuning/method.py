"""What an entry of the registry of tuning methods consists of, without importing torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from core.config.defaults import CLOSED_FORM, FROZEN_BACKBONE
from core.config.run import AdapterSpec
from core.models.tuning.options import Option
from core.models.tuning.peft_configs import Arguments
from core.models.tuning.search import Searches

if TYPE_CHECKING:
    from torch import Tensor, nn

    from core.models.backbones.card import BackboneCard
    from core.models.backbones.model_map import ModelMap

LayerKind = Literal["linear", "pointwise", "convolution"]
"""Linear layers; also 1 × 1 convolutions; also any convolution that is not depthwise."""


class TrainingHook(Protocol):
    """What a method adds to the training loop, which is the same for all methods."""

    def penalty(self) -> Tensor:
        """A scalar that is added to the loss."""

    def after_step(self, step: int) -> None:
        """Called after each optimizer step, before the gradients are cleared.

        Args:
            step: Number of optimizer steps so far, from 1.
        """

    def state(self) -> dict[str, Any]:
        """State for a checkpoint: tensors, numbers, strings, and lists and dicts of them."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state`` returned."""


@dataclass(frozen=True)
class Method:
    """A tuning method.

    Attributes:
        name: Its key in ``TUNING_METHODS``.
        title: Its name as shown to users.
        sentence: What it does, as shown to users.
        paper: Reference of the paper that describes it; empty for common practice.
        options: Fields of ``AdapterSpec`` that it supports, as a form offers them.
        trains: Given a parameter's name within its module and the module, whether a parameter of
            the backbone trains; None if none of them does.
        prepare: For methods that peft does not implement: changes the model in place, before any
            parameter is frozen, and returns the names of the parameters that train.
        config: For methods of peft: name of the configuration class.
        arguments: For methods of peft: makes the keyword arguments of that class.
        kind: Which layers it can adapt.
        parts: Parts of the blocks that it adapts, if the user cannot choose them.
        skips: Layers of these parts that it does not adapt, by the last component of their names.
        freezes: Substring of the names of adapter parameters that keep their initial values.
        rates: Factor on the learning rate of a parameter, given its name.
        hook: Makes the method's training hook, given the adapted model and the number of steps.
        head: Replaces the classifier in place, before any parameter is frozen; by default the
            classifier stays linear.
        network: For methods without a backbone: makes the whole network from the card, which says
            how the input is normalised, and the number of findings.
        starts_as_backbone: Whether the outputs equal the backbone's before the first step.
        merges: Whether the adapter can be merged into the backbone's weights.
        searches: Values that ``tune`` tries, by name of the setting; empty if nothing is tuned.
    """

    name: str
    title: str
    sentence: str
    paper: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    trains: Callable[[str, nn.Module], bool] | None = field(default=None, repr=False)
    prepare: Callable[[ModelMap, AdapterSpec], set[str]] | None = field(default=None, repr=False)
    config: str | None = field(default=None, repr=False)
    arguments: Arguments = field(default=lambda spec, layers: {}, repr=False)
    kind: LayerKind = "convolution"
    parts: tuple[str, ...] = field(default=(), repr=False)
    skips: tuple[str, ...] = field(default=(), repr=False)
    freezes: str | None = field(default=None, repr=False)
    rates: Callable[[AdapterSpec, str], float] | None = field(default=None, repr=False)
    hook: Callable[[nn.Module, AdapterSpec, int], TrainingHook] | None = field(
        default=None, repr=False
    )
    head: Callable[[ModelMap], None] | None = field(default=None, repr=False)
    network: Callable[[BackboneCard, int], nn.Module] | None = field(default=None, repr=False)
    starts_as_backbone: bool = True
    merges: bool = True
    searches: Searches = field(default_factory=dict, repr=False)

    @property
    def frozen_backbone(self) -> bool:
        """Whether only the head is trained or fitted; the backbone is in evaluation mode."""
        return self.name in FROZEN_BACKBONE

    @property
    def closed_form(self) -> bool:
        """Whether it is fitted once, without epochs and without an optimizer."""
        return self.name in CLOSED_FORM
