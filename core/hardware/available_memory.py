"""Memory of the GPU or the host, and the peak memory of this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

GROUPS = Path("/sys/fs/cgroup")
PROCESS = Path("/proc/self")
DRIVERS = tuple(Path("/dev") / name for name in ("nvidiactl", "nvmap", "dxg", "kfd"))
"""Device files that exist on Linux if a GPU driver that torch supports is loaded: NVIDIA's (two
kinds), that of a Windows host, AMD's."""


@dataclass(frozen=True)
class Capacity:
    """The memory of a device.

    Attributes:
        total: All bytes.
        free: Bytes that are free now.
    """

    total: int
    free: int


def of(device: str) -> Capacity:
    """The memory for a run on this machine.

    Args:
        device: Device of the run's specification: auto, cpu, cuda or cuda:N.

    Returns:
        The GPU's memory; without a GPU that of the host, within the limits of control groups.
    """
    if not gpu(device):
        return host()
    import torch

    _, _, number = device.partition(":")
    free, total = torch.cuda.mem_get_info(int(number) if number else None)
    return Capacity(total, free)


def gpu(device: str = "auto") -> bool:
    """Whether a run with this device setting has a GPU; loads torch only if there may be one."""
    if device == "cpu":
        return False
    if "torch" not in sys.modules:
        linux = sys.platform == "linux"
        if sys.platform == "darwin" or (linux and not any(file.exists() for file in DRIVERS)):
            return False
    import torch

    return torch.cuda.is_available()


def host() -> Capacity:
    """The host's memory, within the limits of this process's control groups."""
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
    """Peak memory of this process in bytes, memory-mapped files included."""
    try:
        for line in (PROCESS / "status").read_text().splitlines():
            # Preferred to getrusage, whose value may be the parent process's.
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # on Windows
        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _groups() -> Iterator[Path]:
    """Folders of the control groups that limit this process's memory, the innermost first."""
    try:
        lines = (PROCESS / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = GROUPS / "memory" if kinds else GROUPS
        group = root / path.strip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _number(group: Path, name: str) -> int | None:
    try:
        text = (group / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _reclaimable(group: Path) -> int:
    """Bytes of the group's file cache, which the system frees when memory is needed."""
    try:
        rows = [line.split() for line in (group / "memory.stat").read_text().splitlines()]
    except OSError:
        return 0
    return next((int(row[1]) for row in rows if row[0] == "inactive_file"), 0)
