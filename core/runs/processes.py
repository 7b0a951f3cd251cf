"""Processes of runs: identity, start, termination and exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class Identity:
    """Identity of one process of one machine.

    Attributes:
        host: Name of the machine.
        pid: Process id, which the system reuses for later processes.
        process: Distinguishes the process from others with the same id.
    """

    host: str
    pid: int
    process: str | None

    def columns(self) -> dict[str, Any]:
        """Columns of the store."""
        return {"host": self.host, "pid": self.pid, "process": self.process}


_children: dict[int, subprocess.Popen[bytes]] = {}
_exit_codes: dict[int, int] = {}
_lock = threading.Lock()


def own() -> Identity:
    """Identity of this process."""
    return Identity(host(), os.getpid(), start_of(os.getpid()))


@cache
def host() -> str:
    """Name of this machine."""
    return socket.gethostname()


def start_of(pid: int) -> str | None:
    """Start of a process, which distinguishes it from others with the same id; None if it ended.

    Where the system counts the start of a process from its own start, that count is used: setting
    the clock does not change it.
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        ticks = _start_ticks(pid)
        return f"{_boot()}:{ticks}" if ticks else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return "unknown"


def alive(pid: int | None, process: str | None) -> bool:
    """Whether the process with that id on this machine is still the same one."""
    if pid is None:
        return False
    now = start_of(pid)
    return now is not None and process in (None, now)


def _start_ticks(pid: int) -> str:
    try:
        # The second field is the program's name in brackets, which may contain spaces and brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


def start(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Identity:
    """Start a process that outlives this one and the terminal.

    Args:
        command: Program and arguments; no shell is used.
        log: File to which its output is appended.
        environment: Environment variables in addition to those of this process.

    Raises:
        OSError: The program cannot be started, or the log cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        )
    with _lock:
        _children[child.pid] = child
        _exit_codes.pop(child.pid, None)
    return Identity(host(), child.pid, start_of(child.pid) or "gone")


def terminate(pid: int, process: str | None) -> None:
    """Send SIGTERM to a process, if it is still the same one."""
    if alive(pid, process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)


def kill(pid: int, process: str | None) -> None:
    """Kill a process that ``start`` started, and all its descendants."""
    if not alive(pid, process) or pid == os.getpid():
        return
    descendants = []
    with contextlib.suppress(psutil.Error):
        descendants = psutil.Process(pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg") and os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            psutil.Process(pid).kill()
    for descendant in descendants:  # also those that left the process group
        with contextlib.suppress(psutil.Error):
            descendant.kill()


def reap() -> None:
    """Collect the exit codes of the child processes that have ended."""
    with _lock:
        for pid, child in list(_children.items()):
            code = child.poll()
            if code is not None:
                _exit_codes[pid] = code
                del _children[pid]


def exit_code(pid: int | None) -> int | None:
    """Exit code of a child of this process; negative for a signal, None if unknown."""
    return _exit_codes.get(pid) if pid is not None else None


def last_line(log: Path, size: int = 4096) -> str:
    """The last line of a log that is not blank; empty if there is none."""
    with contextlib.suppress(OSError), log.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - size))
        lines = stream.read().decode("utf-8", "replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""
