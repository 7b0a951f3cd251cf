"""Rows of the benchmark table, and measurement of time, memory and machine."""

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
"""Default number of repetitions of a measurement."""


@dataclass(frozen=True)
class Row:
    """A row of the benchmark table.

    Attributes:
        name: Name of the measurement, ``benchmark/case``.
        ours: Value of this software, in ``unit``.
        baseline: Value of the baseline, in ``unit``.
        unit: Unit of both.
        device: Name of the GPU or CPU.
        better: Whether ``higher`` or ``lower`` values are better.
        more: Other measurements: spreads as (lowest, highest), scores, parts of the time.
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
        """Factor by which this software is better; below 1 if the baseline is better."""
        if self.better == "higher":
            return self.ours / self.baseline
        return self.baseline / self.ours

    def as_json(self) -> dict[str, Any]:
        """All values, with the ratio."""
        return {**asdict(self), "ratio": round(self.ratio, 3)}


def repeated(work: Callable[[], object], times: int = REPEATS) -> list[float]:
    """Seconds of each of several calls, after one call that is not measured."""
    work()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def median(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median, and the lowest and highest value."""
    return statistics.median(values), (min(values), max(values))


def in_new_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process, so that measurements do not share memory and threads.

    Its standard output goes to standard error, because standard output is for the result.

    Args:
        function: A function at module level, which the new process can import.
        *arguments: Its arguments; they and the result are pickled.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_redirect_output) as pool:
        return pool.submit(function, *arguments).result()


def _redirect_output() -> None:
    os.dup2(2, 1)


def peak_bytes() -> int:
    """Peak resident memory of this process in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def cores() -> int:
    """Number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def device_name() -> str:
    """Name of the GPU, or of the CPU with its number of cores."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{_processor()}, {cores()} cores"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect the speed."""
    from importlib import metadata

    names = ("torch", "torchvision", "timm", "peft", "transformers", "accelerate", "pillow")
    installed = {"python": platform.python_version()}
    for name in names:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - not a file on disk
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
