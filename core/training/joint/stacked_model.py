"""One model made of several adapted models: shared frozen weights, stacked adapters.

A batch contains the members' studies, one member after the other. Frozen layers process all rows at
once. In adapters and heads, each member's rows are multiplied by its own matrices in one batched
product, padded with zeros to the largest rank. The members' parameters become views of the stacked
parameters, so that each member's optimizer, checkpoint and weights file work without a change.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners import lora
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from core.errors import ConfigurationError
from core.models.backbones.model_map import map_model


class BatchRows:
    """Maps the rows of the current batch to members, with a random state for each member.

    Attributes:
        members: Numbers of the members in the batch, ascending, in the order of their rows.
        counts: Studies of each member.
        owners: Member number of each study; int64 of shape (studies,).
    """

    def __init__(self) -> None:
        self.members: tuple[int, ...] = ()
        self.counts: tuple[int, ...] = ()
        self.owners = torch.empty(0, dtype=torch.int64)
        self._chosen = torch.empty(0, dtype=torch.int64)
        self._states: dict[int, Tensor] = {}
        self._device = torch.device("cpu")

    def set(self, members: Sequence[int], counts: Sequence[int], device: torch.device) -> None:
        """Describe the next batch: ascending numbers of members, and the studies of each."""
        if (self.members, self.counts) != (tuple(members), tuple(counts)):
            self.members, self.counts = tuple(members), tuple(counts)
            each = [torch.full((n,), k) for k, n in zip(members, counts, strict=True)]
            self.owners = torch.cat(each).to(device)
            self._chosen = torch.tensor(members, device=device)
        self._states, self._device = {}, device

    def seed(self, seeds: Sequence[int]) -> None:
        """Give each member of the batch the random state that it would have alone.

        Dropout of one member must not depend on the numbers that another one draws: the same run
        would otherwise have other results in other company.
        """
        for member, seed in zip(self.members, seeds, strict=True):
            torch.manual_seed(seed)
            self._states[member] = self._state()

    @contextlib.contextmanager
    def drawing(self, member: int) -> Iterator[None]:
        """Context in which random numbers come from a member's own state."""
        generator = torch.cuda if self._device.type == "cuda" else torch
        if member in self._states:
            generator.set_rng_state(self._states[member])
        yield
        if member in self._states:
            self._states[member] = self._state()

    def _state(self) -> Tensor:
        return torch.cuda.get_rng_state() if self._device.type == "cuda" else torch.get_rng_state()

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The members' parts of x [rows, …], where every study has the same number of rows."""
        per_study = len(x) // sum(self.counts)
        return torch.split(x, [per_study * n for n in self.counts])

    def product(self, x: Tensor, weights: Tensor) -> Tensor:
        """Multiply each member's rows by that member's matrix.

        Args:
            x: Shape (rows, …, D).
            weights: Matrices of all members, shape (members, D, E).

        Returns:
            Shape (rows, …, E).
        """
        chosen = weights if len(self.members) == len(weights) else weights[self._chosen]
        if len(set(self.counts)) == 1:  # the usual case: one batched product
            result = torch.bmm(x.reshape(len(chosen), -1, x.shape[-1]), chosen)
            return result.view(*x.shape[:-1], -1)
        parts = zip(self.split(x), chosen.unbind(), strict=True)
        return torch.cat([part @ weight for part, weight in parts])


@dataclass(frozen=True)
class ParameterSlice:
    """A member's parameter as a slice of a stacked parameter.

    Attributes:
        parameter: The member's parameter.
        stacked: The stacked parameter, of shape (members, …).
        member: Number of the member.
        rank: Used length of the second dimension, where ranks differ; None for all of it.
        transposed: Whether the stacked parameter holds it transposed.
    """

    parameter: Tensor
    stacked: nn.Parameter
    member: int
    rank: int | None = None
    transposed: bool = False

    def part(self, stacked: Tensor) -> Tensor:
        """The member's slice of the stacked parameter, or of its gradient."""
        view = stacked[self.member][: self.rank]
        return view.t() if self.transposed else view

    def tie(self) -> None:
        """Make the member's parameter a view of the stacked one, with its present values.

        The member's optimizer then updates the stacked parameter in place.
        """
        view = self.part(self.stacked.data)
        view.copy_(self.parameter.data)
        self.parameter.data = view

    def assign_gradient(self) -> None:
        """Set the gradient of the member's parameter."""
        if self.stacked.grad is not None:
            self.parameter.grad = self.part(self.stacked.grad)


class StackedLora(nn.Module):
    """A frozen layer with the members' low-rank updates.

    Args:
        layers: The members' layers.
        rows: Rows of the current batch.
        slices: List to which the members' parameters are added.
    """

    def __init__(
        self, layers: Sequence[Any], rows: BatchRows, slices: list[ParameterSlice]
    ) -> None:
        super().__init__()
        self.base, self._rows = layers[0].base_layer, rows
        downs = [layer.lora_A["default"].weight for layer in layers]
        ups = [layer.lora_B["default"].weight for layer in layers]
        # Rows beyond a member's rank are zero and stay so: they have no effect on its output, and
        # no slice, so that no optimizer updates them.
        rank, like = max(map(len, downs)), downs[0]
        shapes = [(len(layers), rank, width) for width in (downs[0].shape[1], ups[0].shape[0])]
        self.down, self.up = (nn.Parameter(like.new_zeros(shape)) for shape in shapes)
        for k, (down, up) in enumerate(zip(downs, ups, strict=True)):
            slices.append(ParameterSlice(down, self.down, k, rank=len(down)))
            slices.append(ParameterSlice(up, self.up, k, rank=len(down), transposed=True))
        scales = [layer.scaling["default"] for layer in layers]
        self.scales = like.new_tensor(scales)[:, None, None]
        self.dropout = PerMember([layer.lora_dropout["default"] for layer in layers], rows)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for x [rows, …, D]."""
        result: Tensor = self.base(x)
        inner = self._rows.product(self.dropout(x.to(self.down.dtype)), self.down.mT)
        return (result + self._rows.product(inner, self.up * self.scales)).to(result.dtype)


class StackedLinear(nn.Module):
    """The members' linear classifiers; arguments as for ``StackedLora``."""

    def __init__(
        self, layers: Sequence[nn.Linear], rows: BatchRows, slices: list[ParameterSlice]
    ) -> None:
        super().__init__()
        self._rows = rows
        self.weight = nn.Parameter(torch.stack([layer.weight.data.t() for layer in layers]))
        biases = [layer.bias for layer in layers if isinstance(layer.bias, nn.Parameter)]
        self.bias = nn.Parameter(torch.stack([bias.data for bias in biases])) if biases else None
        for k, layer in enumerate(layers):
            slices.append(ParameterSlice(layer.weight, self.weight, k, transposed=True))
        if self.bias is not None:
            slices += [ParameterSlice(bias, self.bias, k) for k, bias in enumerate(biases)]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs for x [studies, D]."""
        outputs = self._rows.product(x, self.weight)
        return outputs if self.bias is None else outputs + self.bias[self._rows.owners]


class StackedNorm(nn.Module):
    """The members' layer normalisations of a feature vector; arguments as for ``StackedLora``."""

    def __init__(
        self, layers: Sequence[nn.LayerNorm], rows: BatchRows, slices: list[ParameterSlice]
    ) -> None:
        super().__init__()
        self._rows, self._eps = rows, layers[0].eps
        self.weight = nn.Parameter(torch.stack([layer.weight.data for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.data for layer in layers]))
        for k, layer in enumerate(layers):
            slices.append(ParameterSlice(layer.weight, self.weight, k))
            slices.append(ParameterSlice(layer.bias, self.bias, k))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised x [studies, D]."""
        owners = self._rows.owners
        plain = layer_norm(x, x.shape[-1:], eps=self._eps)
        return plain * self.weight[owners] + self.bias[owners]


class PerMember(nn.Module):
    """Dropout or stochastic depth of the members, called separately for each member."""

    def __init__(self, modules: Sequence[nn.Module], rows: BatchRows) -> None:
        super().__init__()
        self._rows = rows
        self.each = nn.ModuleList(modules)
        self.idle = not any(map(_is_random, modules))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs for x [rows, …]."""
        if self.idle or not self.training:
            return x
        outputs = []
        for member, part in zip(self._rows.members, self._rows.split(x), strict=True):
            with self._rows.drawing(member):
                outputs.append(self.each[member](part))
        return torch.cat(outputs)


class StackedModel:
    """The members' models as one model.

    Args:
        models: Models with the same adapted layers and equal frozen weights; ranks and scales may
            differ. They are changed: they share the frozen weights of the first, and their
            trainable parameters become views of the stacked ones.

    Raises:
        ConfigurationError: Their frozen weights differ, or some of their layers cannot be stacked.

    Attributes:
        model: Computes the logits of the batch that ``rows`` describes.
        rows: Rows of the current batch.
        random: Whether the model draws random numbers in training.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.rows = BatchRows()
        self._slices: list[ParameterSlice] = []
        first = models[0]
        for other in models[1:]:
            _share_frozen_weights(first, other)
        # The copy has modules of its own, which are replaced below, but refers to the same tensors.
        shared = [*first.parameters(), *first.buffers()]
        self.model = copy.deepcopy(first, {id(tensor): tensor for tensor in shared})
        parts = map_model(first)
        self.random = False
        for name, module in parts.modules.items():
            layers = [model.get_submodule(name) for model in models] if name else []
            stacked = self._stacked(name, module, layers, name in parts.classifier)
            if stacked is not None:
                self.model.set_submodule(name, stacked)
                self.random |= any(
                    not part.idle for part in stacked.modules() if isinstance(part, PerMember)
                )
        for part in self._slices:
            part.tie()
        by_id = {id(part.stacked): part.stacked for part in self._slices}
        self._parameters = list(by_id.values())
        self._check_complete(first)

    def backward(self, losses: Sequence[Tensor]) -> None:
        """Compute the gradients of the members' losses for the last batch.

        The members share no trainable parameter, so that the gradients of the sum of the losses
        are those of each loss alone.
        """
        for parameter in self._parameters:
            parameter.grad = None
        torch.autograd.backward(list(losses))

    def assign_gradients(self, members: Sequence[int]) -> None:
        """Set the gradients of the parameters of these members."""
        for part in self._slices:
            if part.member in members:
                part.assign_gradient()

    def _stacked(
        self, name: str, module: nn.Module, layers: Sequence[Any], in_head: bool
    ) -> nn.Module | None:
        """The stacked form of a layer; None if the members share it as it is."""
        if isinstance(module, lora.Linear) and not any(layer.lora_variant for layer in layers):
            return StackedLora(layers, self.rows, self._slices)
        if in_head and isinstance(module, nn.Linear):
            return StackedLinear(layers, self.rows, self._slices)
        if in_head and isinstance(module, nn.LayerNorm):
            return StackedNorm(layers, self.rows, self._slices)
        # The dropout inside a LoRA layer is part of StackedLora.
        if ".lora_dropout" not in name and any(map(_is_random, layers)):
            return PerMember(layers, self.rows)
        return None

    def _check_complete(self, first: nn.Module) -> None:
        """Refuse models with trainable parameters that were not stacked."""
        stacked = {id(part.parameter) for part in self._slices}
        for name, parameter in first.named_parameters():
            if parameter.requires_grad and id(parameter) not in stacked:
                raise ConfigurationError(
                    f"This backbone trains {name}, which is not part of a linear layer, so that "
                    "its runs cannot be trained together.",
                    "Queue the runs one after the other.",
                    field="model.backbone",
                )


def _is_random(module: nn.Module) -> bool:
    if isinstance(module, DropPath):
        return bool(module.drop_prob)
    return isinstance(module, nn.Dropout) and module.p > 0


def _share_frozen_weights(first: nn.Module, other: nn.Module) -> None:
    """Replace another model's frozen weights by those of the first, after a check for equality."""
    own = {**dict(first.named_parameters()), **dict(first.named_buffers())}
    for name, tensor in [*other.named_parameters(), *other.named_buffers()]:
        if tensor.requires_grad:
            continue
        if name not in own or not torch.equal(tensor, own[name]):
            raise ConfigurationError(
                f"The runs' frozen weights differ ({name}).",
                "Start from pre-trained weights, or give the runs one seed: random weights are "
                "drawn from it.",
                field="model.pretrained",
            )
        tensor.data = own[name].data
