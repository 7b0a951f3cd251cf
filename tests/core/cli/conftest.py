"""The command line in this process, where everything is loaded already."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from core.cli.app import app
from core.errors import CoreError


@dataclass(frozen=True)
class Said:
    """What a verb answered, or the fault that it ended with."""

    code: int
    out: str
    fault: CoreError | None

    @property
    def json(self) -> Any:
        """The one JSON value that was printed."""
        assert self.fault is None, self.fault
        return json.loads(self.out)


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., Said]:
    """Run a verb in a workspace of the test's own."""

    def call(*words: object) -> Said:
        env = {"CXR_WORKSPACE": str(tmp_path / "workspace")}
        found = CliRunner().invoke(app, [str(one) for one in words], env=env)
        raised = found.exception
        fault = raised if isinstance(raised, CoreError) else None
        if raised is not None and fault is None and not isinstance(raised, SystemExit):
            raise raised
        return Said(found.exit_code, found.stdout, fault)

    return call
