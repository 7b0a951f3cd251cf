"""Python programs in new processes, and answers of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.support.paths import ROOT


class Answer(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value that was printed."""
        assert self.code == 0, self.err
        return json.loads(self.out)


Cli = Callable[..., Answer]
"""Runs a command from its words."""


def run_python(*arguments: object) -> Answer:
    """Run Python in a new process in the root of the repository, which it can import."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout, done.stderr)


def output_of(program: str, *arguments: object) -> str:
    """Standard output of a program text in a new process; it must succeed."""
    code, out, err = run_python("-c", program, *arguments)
    assert code == 0, err
    return out


def environment() -> dict[str, str]:
    """Environment of a process that can import this repository from any folder."""
    return os.environ | {"PYTHONPATH": str(ROOT)}
