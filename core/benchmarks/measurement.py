"""What was measured: a row of the table, and where it was measured."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")

REPEATS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What was measured, ``benchmark/case``.
        ours: This software's figure, in ``unit``.
        baseline: What it is compared with, in the same unit.
        unit: Of both.
        device: Where it ran.
        better: Whether the higher or the lower figure is the better one.
        more: Whatever else was measured: spreads as (lowest, highest), scores, parts of the time.
    """

    name: str
    ours: float
    baseline: float
    unit: str
    device: str
    better: str = "lower"
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """How many times better ours is; below 1 where the baseline is better."""
        over, under = self.baseline, self.ours
        if self.better == "higher":
            over, under = under, over
        return over / under

    def as_json(self) -> dict[str, Any]:
        """All of it, with the ratio."""
        return {**asdict(self), "ratio": round(self.ratio, 3)}


def repeated(work: Callable[[], object], times: int = REPEATS) -> list[float]:
    """Seconds of each of so many calls, after one that does not count."""
    work()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return found


def middle(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median, and the lowest and the highest value."""
    return statistics.median(values), (min(values), max(values))


def apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process, so that neither its memory nor its threads meet another's.

    What it prints goes to standard error: standard output is for the answer.

    Args:
        function: One of a module's own, which the new process can find.
        *arguments: What it is given; it and its result are pickled.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_print_aside) as pool:
        return pool.submit(function, *arguments).result()


def _print_aside() -> None:
    os.dup2(2, 1)


def peak_bytes() -> int:
    """The most memory that this process ever had resident."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def cores() -> int:
    """Cores that this process may use."""
    found = getattr(os, "sched_getaffinity", None)
    return len(found(0)) if found else os.cpu_count() or 1


def device() -> str:
    """The GPU's name, or that of the processor with its cores."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{_processor()}, {cores()} cores"


def versions() -> dict[str, str]:
    """Of whatever decides the speed."""
    from importlib import metadata

    names = ("torch", "torchvision", "timm", "peft", "transformers", "accelerate", "pillow")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - not a file on disk
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
