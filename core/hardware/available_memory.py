"""How much memory there is for a run, and how much a process has taken."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

GROUPS = Path("/sys/fs/cgroup")
PROCESS = Path("/proc/self")
DRIVERS = tuple(Path("/dev") / name for name in ("nvidiactl", "nvmap", "dxg", "kfd"))
"""What Linux shows where a driver of a GPU is loaded that torch can use: NVIDIA's (two kinds),
that of a Windows host, AMD's."""


@dataclass(frozen=True)
class Capacity:
    """The memory of a device.

    Attributes:
        total: Bytes it has.
        free: Bytes of them that are free at the moment.
    """

    total: int
    free: int


def of(device: str) -> Capacity:
    """The memory a run has on this machine.

    Args:
        device: The device its specification names: auto, cpu, cuda or cuda:N.

    Returns:
        The GPU's, or without one the host's, of which a control group may allow only a part.
    """
    if not gpu(device):
        return host()
    import torch

    _, _, number = device.partition(":")
    free, total = torch.cuda.mem_get_info(int(number) if number else None)
    return Capacity(total, free)


def gpu(device: str = "auto") -> bool:
    """Whether a run of this device would have a GPU; loads torch only where there could be one."""
    if device == "cpu":
        return False
    if "torch" not in sys.modules:
        linux = sys.platform == "linux"
        if sys.platform == "darwin" or (linux and not any(one.exists() for one in DRIVERS)):
            return False
    import torch

    return torch.cuda.is_available()


def host() -> Capacity:
    """The host's memory, as far as this process's control groups allow."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for group in _groups():
        limit, used = _number(group, "memory.max"), _number(group, "memory.current")
        if limit is None:
            limit = _number(group, "memory.limit_in_bytes")
            used = _number(group, "memory.usage_in_bytes")
        if limit is not None:
            total = min(total, limit)
            free = min(free, max(0, limit - (used or 0) + _reclaimable(group)))
    return Capacity(total, free)


def peak() -> int:
    """The most bytes of memory that this process has had at once, mapped files included."""
    try:
        for line in (PROCESS / "status").read_text().splitlines():
            # What getrusage says of a process may be its parent's.
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # not on every system
        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


def _groups() -> Iterator[Path]:
    """Folders of the control groups that bound this process's memory, the innermost first."""
    try:
        lines = (PROCESS / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = GROUPS / "memory" if kinds else GROUPS
        place = root / path.strip("/")
        yield from (one for one in (place, *place.parents) if one.is_relative_to(root))


def _number(group: Path, name: str) -> int | None:
    try:
        text = (group / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _reclaimable(group: Path) -> int:
    """Bytes of files that the group has read and that can be dropped."""
    try:
        rows = [line.split() for line in (group / "memory.stat").read_text().splitlines()]
    except OSError:
        return 0
    return next((int(row[1]) for row in rows if row[0] == "inactive_file"), 0)
