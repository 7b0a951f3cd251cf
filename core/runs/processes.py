"""A run's process: how it is told from others, started on its own, and found dead or alive."""

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
    """One process of one machine.

    Attributes:
        host: Name of the machine.
        pid: Its number, which the system gives to another process some day.
        process: What tells it from others of that number.
    """

    host: str
    pid: int
    process: str | None

    def columns(self) -> dict[str, Any]:
        """As the store keeps it."""
        return {"host": self.host, "pid": self.pid, "process": self.process}


_children: dict[int, subprocess.Popen[bytes]] = {}
_exit_codes: dict[int, int] = {}
_lock = threading.Lock()


def own() -> Identity:
    """This process."""
    return Identity(host(), os.getpid(), started(os.getpid()))


@cache
def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def started(pid: int) -> str | None:
    """What tells a process from an earlier or later one of the same number; None if it is gone.

    Where the system counts a process's start from its own, that is taken: setting the clock does
    not change it.
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
    """Whether the process of that number on this machine is still the same one."""
    if pid is None:
        return False
    now = started(pid)
    return now is not None and process in (None, now)


def _start_ticks(pid: int) -> str:
    try:
        # The second field is the program's name in brackets, which may hold spaces and brackets.
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
        command: Program and arguments; there is no shell.
        log: File to which its output is added.
        environment: Variables beside those of this process.

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
    return Identity(host(), child.pid, started(child.pid) or "gone")


def ask(pid: int, process: str | None) -> None:
    """Send a process SIGTERM, if it is still the same one."""
    if alive(pid, process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)


def kill(pid: int, process: str | None) -> None:
    """End a process that ``start`` made with all that it started, at once."""
    if not alive(pid, process) or pid == os.getpid():
        return
    family = []
    with contextlib.suppress(psutil.Error):
        family = psutil.Process(pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg") and os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            psutil.Process(pid).kill()
    for one in family:  # those that left the group
        with contextlib.suppress(psutil.Error):
            one.kill()


def reap() -> None:
    """Take leave of the children that have ended; their exit codes are kept."""
    with _lock:
        for pid, child in list(_children.items()):
            code = child.poll()
            if code is not None:
                _exit_codes[pid] = code
                del _children[pid]


def exit_code(pid: int | None) -> int | None:
    """How a child of this process ended; negative for a signal, None if that is not known."""
    return _exit_codes.get(pid) if pid is not None else None


def last_line(log: Path, size: int = 4096) -> str:
    """The last line of a log that says something; empty if there is none."""
    with contextlib.suppress(OSError), log.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - size))
        lines = stream.read().decode("utf-8", "replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""
