"""Provenance of a run: versions, machine, commit and command line."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "accelerate",
    "gradio",
    "grad-cam",
    "numpy",
    "peft",
    "pillow",
    "scikit-learn",
    "scipy",
    "sqlalchemy",
    "timm",
    "torch",
    "torchvision",
)


def environment() -> dict[str, Any]:
    """Versions, machine, commit and command line of this process; imports none of the packages."""
    return {
        "program": _version("cxr-peft-explorer"),
        "commit": commit(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "command": sys.argv,
    }


def commit(checkout: Path) -> str | None:
    """Commit of a checkout, with ``+changes`` if files differ from it; None outside a checkout."""
    if not (checkout / ".git").exists():
        return None
    try:
        hash_ = _git(checkout, "rev-parse", "HEAD")
        changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{hash_}+changes" if changed else hash_


def _git(checkout: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(checkout), *arguments],
        capture_output=True,
        check=True,
        text=True,
        timeout=5,
    )
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
