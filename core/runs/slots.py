"""Places for runs on this machine: so many on the processor, so many on each GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

CPU = "cpu"
ROOM_BYTES = 2 << 30
"""A GPU with less free memory is somebody else's for now: no run is started on it."""
LOOK_SECONDS = 5.0
_MIB = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One GPU of this machine.

    Attributes:
        slot: Its name as a slot, ``cuda:0``; also what torch calls it where all are visible.
        identity: Its name for ``CUDA_VISIBLE_DEVICES``.
        free_bytes: Its free memory.
    """

    slot: str
    identity: str
    free_bytes: int


class Slots(Protocol):
    """Where a scheduler can start runs."""

    def slots(self) -> dict[str, int]:
        """How many runs each slot takes, at this moment."""

    def environment(self, device: str, slot: str | None) -> dict[str, str]:
        """Variables of a run's process."""


class Devices:
    """The slots of this machine.

    Args:
        each: Runs at the same time on each device.
        gpus: The GPUs; by default those of this machine.
    """

    def __init__(self, each: int = 1, gpus: tuple[Gpu, ...] | None = None) -> None:
        self._each = each
        self._fixed = gpus is not None
        self._gpus = found() if gpus is None else gpus
        self._looked = time.monotonic()

    def slots(self) -> dict[str, int]:
        """How many runs each device takes, GPUs first; none where its memory is taken."""
        if self._gpus and not self._fixed and time.monotonic() - self._looked > LOOK_SECONDS:
            self._gpus, self._looked = found(), time.monotonic()
        roomy = {one.slot: self._each * (one.free_bytes >= ROOM_BYTES) for one in self._gpus}
        return {**roomy, CPU: self._each}

    def environment(self, device: str, slot: str | None) -> dict[str, str]:
        """Variables of a run's process that show it the GPU of its slot, and no other.

        Args:
            device: The device its specification names.
            slot: The slot it was given.
        """
        if device not in ("auto", "cuda"):  # a numbered one counts all that there are
            return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if self._gpus else {}
        chosen = [one.identity for one in self._gpus if one.slot == slot]
        return {"CUDA_VISIBLE_DEVICES": chosen[0]} if chosen else {}


def suitable(device: str, slots: Mapping[str, int]) -> list[str]:
    """The slots that a run may take, best first.

    Args:
        device: The device its specification names: auto, cpu, cuda or cuda:N.
        slots: All slots of the machine.
    """
    gpus = [name for name in slots if name != CPU]
    if device == CPU or not gpus:
        return [CPU]  # a run that asks for a GPU where there is none says so itself
    return [device] if device in slots else gpus


def found() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that this process may use; none where their driver's program is missing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=index,uuid,memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, check=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[cell.strip() for cell in line.split(",")] for line in said.stdout.splitlines()]
    return tuple(_visible([row for row in rows if len(row) == 3]))


def _visible(rows: list[list[str]]) -> list[Gpu]:
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = None if shown is None else [one.strip() for one in shown.split(",") if one.strip()]
    if names is not None:
        chosen = [[r for r in rows if name == r[0] or r[1].startswith(name)] for name in names]
        rows = [each[0] for each in chosen if each]
    return [
        Gpu(f"cuda:{i}", uuid, int(free) * _MIB if free.isdigit() else ROOM_BYTES)
        for i, (_, uuid, free) in enumerate(rows)
    ]
