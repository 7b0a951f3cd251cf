"""Distributed training: the processes of one run, started by ``torchrun`` or ``accelerate launch``.

Each process computes its part of every batch. Only the main process (rank 0) writes files, checks
whether to stop and accesses the store. Its decisions are broadcast, so that all processes take the
same step.
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

MAIN_TIMEOUT = timedelta(days=1)
"""Time-out of the other processes while the main one decodes a data set."""

DISCONNECTED = ("Connection closed", "Connection reset", "Broken pipe", "NCCL", "gloo")
"""Parts of the messages that torch raises when another process has ended."""


@dataclass(frozen=True)
class Processes:
    """This process among the processes of a run.

    Attributes:
        index: Rank of this process, from 0.
        count: Number of processes.
    """

    index: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.index == 0

    def part(self, studies: int) -> slice:
        """This process's slice of a batch: consecutive studies, of nearly equal number."""
        each, rest = divmod(studies, self.count)
        start = self.index * each + min(self.index, rest)
        return slice(start, start + each + (self.index < rest))

    def share(self, value: T) -> T:
        """The main process's value; every process must call this."""
        if self.count == 1:
            return value
        import torch

        box = [value]
        torch.distributed.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]

    def from_main(self, action: Callable[[], T]) -> T:
        """Run ``action`` in the main process only; its result or error is that of all processes."""
        if self.count == 1:
            return action()
        value: T | None = None
        error: Exception | None = None
        if self.main:
            try:
                value = action()
            except Exception as raised:
                error = raised
        outcome: tuple[Any, Exception | None] = self.share((value, error))
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result

    def main_first(self, action: Callable[[], T]) -> T:
        """Run ``action`` in the main process, then in the others; returns the main one's result."""
        result = self.from_main(action)
        if not self.main:
            action()
        return result

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.count == 1:
            return [value]
        import torch

        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes; asynchronous on a GPU."""
        if self.count == 1:
            return value
        import torch

        total = value.clone()
        torch.distributed.all_reduce(total)
        return total / self.count

    def check_supported(self, model: nn.Module, smallest: int) -> None:
        """Refuse runs that several processes cannot train as one process does.

        Args:
            model: The adapted model.
            smallest: Images in the smallest batch.

        Raises:
            ConfigurationError: A process would have no image, or batch normalisation would train.
        """
        if self.count == 1:
            return
        if smallest < self.count:
            raise ConfigurationError(
                f"{self.count} processes were started for batches of {smallest} images: each "
                "process needs at least one image.",
                f"Start at most {smallest} processes, or raise the batch size.",
                field="train.batch_size",
            )
        if any(_trains_batch_statistics(module) for module in model.modules()):
            raise ConfigurationError(
                "This backbone's batch normalisation would train, and each process would use the "
                "statistics of its own part of a batch only.",
                "Train in one process, or choose a method that keeps it frozen, such as lora.",
                field="adapter.method",
            )


def launched() -> Processes:
    """This process's rank and the number of processes, from the environment; needs no torch."""
    return Processes(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def join(device: str, gpu: bool) -> Processes:
    """Join the process group; a process that was started alone has none.

    Args:
        device: Device of the run's specification.
        gpu: Whether the run is on GPUs; each process of a machine then uses one of them.

    Raises:
        ConfigurationError: There are fewer GPUs than processes, or one GPU is set for all of them.
    """
    processes = launched()
    if processes.count == 1:
        return processes
    import torch

    local = int(os.environ.get("LOCAL_WORLD_SIZE", processes.count))
    if gpu and ":" in device:
        raise ConfigurationError(
            f"{local} processes cannot share {device}.",
            "Choose the device cuda: each process then uses one GPU.",
            field="train.device",
        )
    if gpu and local > torch.cuda.device_count():
        raise ConfigurationError(
            f"{local} processes were started for {torch.cuda.device_count()} GPUs.",
            "Start one process per GPU: torchrun --nproc-per-node N, accelerate launch "
            "--num_processes N.",
            field="train.device",
        )
    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
        torch.distributed.init_process_group(backend, timeout=MAIN_TIMEOUT)
    return processes


@contextlib.contextmanager
def explain_lost_process() -> Iterator[None]:
    """Raise a readable error if another process of the run has ended."""
    try:
        yield
    except RuntimeError as error:
        if launched().count == 1 or not any(word in str(error) for word in DISCONNECTED):
            raise
        raise CoreError(
            "Another process of this run has ended.",
            "Fix the error that it printed to the terminal, then resume the run.",
        ) from error


def _trains_batch_statistics(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return (
        hasattr(module, "num_batches_tracked") and weight is not None and bool(weight.requires_grad)
    )
