"""Slots of this machine: how many runs the processor and each GPU take at the same time."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

CPU = "cpu"
MIN_FREE_BYTES = 2 << 30
"""No run is started on a GPU with less free memory: another program is using it."""
REFRESH_SECONDS = 5.0
"""How often the free memory of the GPUs is read."""
_MIB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One GPU of this machine.

    Attributes:
        slot: Name of its slot, ``cuda:0``; also its torch device if all GPUs are visible.
        identity: Its name in ``CUDA_VISIBLE_DEVICES``.
        free_bytes: Free memory.
    """

    slot: str
    identity: str
    free_bytes: int


class Slots(Protocol):
    """Slots in which a scheduler starts runs."""

    def slots(self) -> dict[str, int]:
        """Present number of simultaneous runs of each slot."""

    def environment(self, device: str, slot: str | None) -> dict[str, str]:
        """Environment variables of the process of a run."""


class Devices:
    """The slots of this machine.

    Args:
        each: Simultaneous runs on each device.
        gpus: The GPUs; by default those of this machine.
    """

    def __init__(self, each: int = 1, gpus: tuple[Gpu, ...] | None = None) -> None:
        self._each = each
        self._fixed = gpus is not None
        self._gpus = list_gpus() if gpus is None else gpus
        self._refreshed = time.monotonic()

    def slots(self) -> dict[str, int]:
        """Simultaneous runs of each device, GPUs first; 0 for a GPU without free memory."""
        if self._gpus and not self._fixed and time.monotonic() - self._refreshed > REFRESH_SECONDS:
            self._gpus, self._refreshed = list_gpus(), time.monotonic()
        gpus = {gpu.slot: self._each * (gpu.free_bytes >= MIN_FREE_BYTES) for gpu in self._gpus}
        return {**gpus, CPU: self._each}

    def environment(self, device: str, slot: str | None) -> dict[str, str]:
        """Environment variables that make only the GPU of its slot visible to a run's process."""
        if device not in ("auto", "cuda"):  # a device number counts all GPUs
            return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if self._gpus else {}
        chosen = [gpu.identity for gpu in self._gpus if gpu.slot == slot]
        return {"CUDA_VISIBLE_DEVICES": chosen[0]} if chosen else {}


def suitable_slots(device: str, slots: Mapping[str, int]) -> list[str]:
    """Slots that a run may take, best first.

    Args:
        device: The device in its specification: auto, cpu, cuda or cuda:N.
        slots: All slots of the machine.
    """
    gpus = [name for name in slots if name != CPU]
    if device == CPU or not gpus:
        return [CPU]  # a run that requires a GPU reports itself that there is none
    return [device] if device in slots else gpus


def list_gpus() -> tuple[Gpu, ...]:
    """List the NVIDIA GPUs that this process may use; empty if ``nvidia-smi`` is missing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, check=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines()]
    return tuple(_visible([row for row in rows if len(row) == 3]))


def _visible(rows: list[list[str]]) -> list[Gpu]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = None if visible is None else [n.strip() for n in visible.split(",") if n.strip()]
    if names is not None:
        matches = [[r for r in rows if name == r[0] or r[1].startswith(name)] for name in names]
        rows = [matching[0] for matching in matches if matching]
    return [
        Gpu(f"cuda:{i}", uuid, int(free) * _MIB if free.isdigit() else MIN_FREE_BYTES)
        for i, (_, uuid, free) in enumerate(rows)
    ]
