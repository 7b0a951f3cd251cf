"""One model that several adapted models are parts of: frozen weights once, adapters stacked.

A batch holds the members' studies one member after the other. Frozen layers take all rows at once;
where the members differ, each one's rows meet its own matrices in one batched product, padded with
zeros to the largest rank. The members' parameters become views of the stacked ones, so that each
member's own optimizer, checkpoint and weights file know nothing of it.
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


class Rows:
    """Whose studies the rows of the present batch are, and what each member draws from.

    Attributes:
        members: Numbers of the members, rising, in the order of their rows.
        counts: Studies of each.
        owners: For every study, its member's number; int64 of shape (studies,).
    """

    def __init__(self) -> None:
        self.members: tuple[int, ...] = ()
        self.counts: tuple[int, ...] = ()
        self.owners = torch.empty(0, dtype=torch.int64)
        self._chosen = torch.empty(0, dtype=torch.int64)
        self._states: dict[int, Tensor] = {}
        self._device = torch.device("cpu")

    def set(self, members: Sequence[int], counts: Sequence[int], device: torch.device) -> None:
        """Describe the next batch."""
        if (self.members, self.counts) != (tuple(members), tuple(counts)):
            self.members, self.counts = tuple(members), tuple(counts)
            each = [torch.full((n,), k) for k, n in zip(members, counts, strict=True)]
            self.owners = torch.cat(each).to(device)
            self._chosen = torch.tensor(members, device=device)
        self._states, self._device = {}, device

    def seed(self, seeds: Sequence[int]) -> None:
        """Give each member of the batch the random state that it would have alone."""
        for member, seed in zip(self.members, seeds, strict=True):
            torch.manual_seed(seed)
            self._states[member] = self._state()

    @contextlib.contextmanager
    def drawing(self, member: int) -> Iterator[None]:
        """Draw from a member's own random state."""
        on = torch.cuda if self._device.type == "cuda" else torch
        if member in self._states:
            on.set_rng_state(self._states[member])
        yield
        if member in self._states:
            self._states[member] = self._state()

    def _state(self) -> Tensor:
        return torch.cuda.get_rng_state() if self._device.type == "cuda" else torch.get_rng_state()

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """The members' parts of x [rows, …], whose rows are studies or equally many a study."""
        each = len(x) // sum(self.counts)
        return torch.split(x, [each * n for n in self.counts])

    def product(self, x: Tensor, weights: Tensor) -> Tensor:
        """Multiply each member's rows by its own matrix.

        Args:
            x: Shape (rows, …, D).
            weights: Of all members, shape (members, D, E).

        Returns:
            Shape (rows, …, E).
        """
        chosen = weights if len(self.members) == len(weights) else weights[self._chosen]
        if len(set(self.counts)) == 1:
            found = torch.bmm(x.reshape(len(chosen), -1, x.shape[-1]), chosen)
            return found.view(*x.shape[:-1], -1)
        parts = zip(self.split(x), chosen.unbind(), strict=True)
        return torch.cat([part @ weight for part, weight in parts])


@dataclass(frozen=True)
class Slot:
    """A member's parameter, and the part of a stacked one that it is.

    Attributes:
        parameter: The member's own.
        stacked: Shape (members, …).
        member: The member's number.
        rank: How much of the second dimension is used; None for all.
        turned: Whether the stacked one holds it transposed.
    """

    parameter: Tensor
    stacked: nn.Parameter
    member: int
    rank: int | None = None
    turned: bool = False

    def part(self, stacked: Tensor) -> Tensor:
        """The member's part of the stacked parameter, or of its gradient."""
        found = stacked[self.member][: self.rank]
        return found.t() if self.turned else found

    def tie(self) -> None:
        """Make the member's parameter a view of the stacked one."""
        place = self.part(self.stacked.data)
        place.copy_(self.parameter.data)
        self.parameter.data = place

    def give(self) -> None:
        """Hand the member its gradient."""
        if self.stacked.grad is not None:
            self.parameter.grad = self.part(self.stacked.grad)


class StackedLora(nn.Module):
    """A frozen layer with the members' low-rank updates.

    Args:
        layers: The members' layers.
        rows: Whose rows a batch has.
        slots: Filled with the members' parameters.
    """

    def __init__(self, layers: Sequence[Any], rows: Rows, slots: list[Slot]) -> None:
        super().__init__()
        self.base, self._rows = layers[0].base_layer, rows
        downs = [layer.lora_A["default"].weight for layer in layers]
        ups = [layer.lora_B["default"].weight for layer in layers]
        widest, like = max(map(len, downs)), downs[0]
        shapes = [(len(layers), widest, one) for one in (downs[0].shape[1], ups[0].shape[0])]
        self.down, self.up = (nn.Parameter(like.new_zeros(shape)) for shape in shapes)
        for k, (down, up) in enumerate(zip(downs, ups, strict=True)):
            slots.append(Slot(down, self.down, k, rank=len(down)))
            slots.append(Slot(up, self.up, k, rank=len(down), turned=True))
        scales = [layer.scaling["default"] for layer in layers]
        self.scales = like.new_tensor(scales)[:, None, None]
        self.dropout = Apart([layer.lora_dropout["default"] for layer in layers], rows)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output for x [rows, …, D]."""
        result: Tensor = self.base(x)
        inner = self._rows.product(self.dropout(x.to(self.down.dtype)), self.down.mT)
        return (result + self._rows.product(inner, self.up * self.scales)).to(result.dtype)


class StackedLinear(nn.Module):
    """The members' classifiers; arguments as those of ``StackedLora``."""

    def __init__(self, layers: Sequence[nn.Linear], rows: Rows, slots: list[Slot]) -> None:
        super().__init__()
        self._rows = rows
        self.weight = nn.Parameter(torch.stack([one.weight.data.t() for one in layers]))
        biases = [one.bias for one in layers if isinstance(one.bias, nn.Parameter)]
        self.bias = nn.Parameter(torch.stack([one.data for one in biases])) if biases else None
        slots += [Slot(one.weight, self.weight, k, turned=True) for k, one in enumerate(layers)]
        if self.bias is not None:
            slots += [Slot(one, self.bias, k) for k, one in enumerate(biases)]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs for x [studies, D]."""
        found = self._rows.product(x, self.weight)
        return found if self.bias is None else found + self.bias[self._rows.owners]


class StackedNorm(nn.Module):
    """The members' layer normalisations of a feature vector; arguments as ``StackedLora``'s."""

    def __init__(self, layers: Sequence[nn.LayerNorm], rows: Rows, slots: list[Slot]) -> None:
        super().__init__()
        self._rows, self._eps = rows, layers[0].eps
        self.weight = nn.Parameter(torch.stack([one.weight.data for one in layers]))
        self.bias = nn.Parameter(torch.stack([one.bias.data for one in layers]))
        for k, layer in enumerate(layers):
            slots.append(Slot(layer.weight, self.weight, k))
            slots.append(Slot(layer.bias, self.bias, k))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised x [studies, D]."""
        owners = self._rows.owners
        plain = layer_norm(x, x.shape[-1:], eps=self._eps)
        return plain * self.weight[owners] + self.bias[owners]


class Apart(nn.Module):
    """Modules that draw at random in training and do nothing else: one call a member.

    Args:
        modules: The members' own.
        rows: Whose rows a batch has.
    """

    def __init__(self, modules: Sequence[nn.Module], rows: Rows) -> None:
        super().__init__()
        self._rows = rows
        self.each = nn.ModuleList(modules)
        self.idle = not any(map(_draws, modules))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs for x [rows, …]."""
        if self.idle or not self.training:
            return x
        found = []
        for member, part in zip(self._rows.members, self._rows.split(x), strict=True):
            with self._rows.drawing(member):
                found.append(self.each[member](part))
        return torch.cat(found)


class Stacked:
    """The members' models as one.

    Args:
        models: Adapted alike but for ranks and scales, with frozen weights that are equal; they
            are changed: their frozen weights become the first one's, what trains a part of the
            stacked parameters.

    Raises:
        ConfigurationError: Their frozen weights differ, or layers of theirs cannot be stacked.

    Attributes:
        model: Logits of a batch that ``rows`` describes.
        draws: Whether something in it draws at random in training.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.rows = Rows()
        self._slots: list[Slot] = []
        for other in models[1:]:
            _share(models[0], other)
        shared = [*models[0].parameters(), *models[0].buffers()]
        self.model = copy.deepcopy(models[0], {id(one): one for one in shared})
        parts = map_model(models[0])
        self.draws = False
        for name, module in parts.modules.items():
            layers = [model.get_submodule(name) for model in models] if name else []
            new = self._stacked(name, module, layers, name in parts.classifier)
            if new is not None:
                self.model.set_submodule(name, new)
                self.draws |= any(not m.idle for m in new.modules() if isinstance(m, Apart))
        for slot in self._slots:
            slot.tie()
        self._parameters = list({id(slot.stacked): slot.stacked for slot in self._slots}.values())
        self._check_rest(models[0])

    def _stacked(
        self, name: str, module: nn.Module, layers: Sequence[Any], of_head: bool
    ) -> nn.Module | None:
        if isinstance(module, lora.Linear) and not any(one.lora_variant for one in layers):
            return StackedLora(layers, self.rows, self._slots)
        if of_head and isinstance(module, nn.Linear):
            return StackedLinear(layers, self.rows, self._slots)
        if of_head and isinstance(module, nn.LayerNorm):
            return StackedNorm(layers, self.rows, self._slots)
        if ".lora_dropout" not in name and any(map(_draws, layers)):
            return Apart(layers, self.rows)
        return None

    def _check_rest(self, first: nn.Module) -> None:
        known = {id(slot.parameter) for slot in self._slots}
        for name, parameter in first.named_parameters():
            if parameter.requires_grad and id(parameter) not in known:
                raise ConfigurationError(
                    f"This backbone trains {name}, which is no part of a linear layer: it cannot "
                    "be trained together with others.",
                    "Queue the runs one after the other.",
                    field="model.backbone",
                )

    def backward(self, losses: Sequence[Tensor]) -> None:
        """Give the members of the last batch the gradients of their own losses."""
        for one in self._parameters:
            one.grad = None
        torch.autograd.backward(list(losses))

    def give(self, members: Sequence[int]) -> None:
        """Hand these members their gradients."""
        for slot in self._slots:
            if slot.member in members:
                slot.give()


def _draws(module: nn.Module) -> bool:
    if isinstance(module, DropPath):
        return bool(module.drop_prob)
    return isinstance(module, nn.Dropout) and module.p > 0


def _share(first: nn.Module, other: nn.Module) -> None:
    """Let another model's frozen weights be the first one's, once they are known to be equal."""
    ours = {**dict(first.named_parameters()), **dict(first.named_buffers())}
    its = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    for name, tensor in its.items():
        if tensor.requires_grad:
            continue
        if name not in ours or not torch.equal(tensor, ours[name]):
            raise ConfigurationError(
                f"The runs' frozen weights differ ({name}).",
                "Start from pre-trained weights, or give the runs one seed: random weights are "
                "drawn by it.",
                field="model.pretrained",
            )
        tensor.data = ours[name].data
