"""The processes that carry out one run together, made by ``torchrun`` or ``accelerate launch``.

Each computes its part of every batch; the main one (rank 0) alone writes, asks whether to stop and
knows the store. What it decides is shared, so that all take the same step.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from core.errors import ConfigurationError, CoreError

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")

PATIENCE = timedelta(days=1)
"""How long the others wait for the main process, which may have a data set to decode."""

GONE = ("Connection closed", "Connection reset", "Broken pipe", "NCCL", "gloo")


@dataclass(frozen=True)
class Processes:
    """One process's place among those of a run.

    Attributes:
        index: Its rank, from 0.
        count: How many there are.
    """

    index: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes and reports."""
        return self.index == 0

    def part(self, studies: int) -> slice:
        """Which studies of so many are this process's: consecutive, of nearly equal numbers."""
        each, rest = divmod(studies, self.count)
        start = self.index * each + min(self.index, rest)
        return slice(start, start + each + (self.index < rest))

    def share(self, value: T) -> T:
        """The main process's value; every process has to call this."""
        if self.count == 1:
            return value
        import torch

        box = [value]
        torch.distributed.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]

    def from_main(self, act: Callable[[], T]) -> T:
        """What ``act`` gives, or raises, in the main process; nobody else does it."""
        if self.count == 1:
            return act()
        value: T | None = None
        error: Exception | None = None
        if self.main:
            try:
                value = act()
            except Exception as raised:
                error = raised
        found: tuple[Any, Exception | None] = self.share((value, error))
        if found[1] is not None:
            raise found[1]
        given: T = found[0]
        return given

    def in_turn(self, act: Callable[[], T]) -> T:
        """Let the main process act, then the others; what the main one got counts for all."""
        found = self.from_main(act)
        if not self.main:
            act()
        return found

    def gather(self, value: T) -> list[T]:
        """Every process's value, in their order."""
        if self.count == 1:
            return [value]
        import torch

        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, value)
        return found

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes; it is not waited for where it is on a GPU."""
        if self.count == 1:
            return value
        import torch

        total = value.clone()
        torch.distributed.all_reduce(total)
        return total / self.count

    def refuse(self, model: nn.Module, smallest: int) -> None:
        """Refuse what several processes cannot do as one would.

        Args:
            model: The adapted model.
            smallest: Images of the smallest batch.

        Raises:
            ConfigurationError: A process would have no image, or normalisation by batch trains.
        """
        if self.count == 1:
            return
        if smallest < self.count:
            raise ConfigurationError(
                f"{self.count} processes were started for batches of {smallest} images: one would "
                "have nothing to do.",
                f"Start at most {smallest} processes, or raise the batch size.",
                field="train.batch_size",
            )
        if any(_counts_its_batch(module) for module in model.modules()):
            raise ConfigurationError(
                "This backbone's batch normalisation would train, and each process would count "
                "only its own part of a batch.",
                "Train in one process, or by a method that leaves it frozen, such as lora.",
                field="adapter.method",
            )


def launched() -> Processes:
    """This process's place as its environment tells it; torch is not needed."""
    return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def join(device: str, gpu: bool) -> Processes:
    """Meet the other processes; a process that was started alone has nobody to meet.

    Args:
        device: The device that the specification names.
        gpu: Whether the run is on GPUs; the processes of a machine then take one each.

    Raises:
        ConfigurationError: There are fewer GPUs than processes, or all were told to take the same.
    """
    ranks = launched()
    if ranks.count == 1:
        return ranks
    import torch

    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.count))
    if gpu and ":" in device:
        raise ConfigurationError(
            f"{here} processes cannot all work on {device}.",
            "Choose the device cuda: each process takes one GPU.",
            field="train.device",
        )
    if gpu and here > torch.cuda.device_count():
        raise ConfigurationError(
            f"{here} processes were started for {torch.cuda.device_count()} GPUs.",
            "Start one for each GPU: torchrun --nproc-per-node N, accelerate launch "
            "--num_processes N.",
            field="train.device",
        )
    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
    return ranks


@contextlib.contextmanager
def others_explained() -> Iterator[None]:
    """Say in words that another process of the run is gone."""
    try:
        yield
    except RuntimeError as error:
        if launched().count == 1 or not any(word in str(error) for word in GONE):
            raise
        raise CoreError(
            "Another process of this run has ended before it.",
            "See what it wrote to the terminal, mend that and resume the run.",
        ) from error


def _counts_its_batch(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return (
        hasattr(module, "num_batches_tracked") and weight is not None and bool(weight.requires_grad)
    )
