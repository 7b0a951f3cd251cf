"""The command line in this process, which has already loaded torch."""

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
class Answer:
    """Output of a verb, or the error that it raised."""

    code: int
    out: str
    fault: CoreError | None

    @property
    def json(self) -> Any:
        """The one JSON value that was printed."""
        assert self.fault is None, self.fault
        return json.loads(self.out)


Invoke = Callable[..., Answer]


@pytest.fixture
def invoke(tmp_path: Path) -> Invoke:
    """Run a verb in a workspace of the test's own."""

    def call(*words: object) -> Answer:
        env = {"CXR_WORKSPACE": str(tmp_path / "workspace")}
        result = CliRunner().invoke(app, [str(word) for word in words], env=env)
        raised = result.exception
        fault = raised if isinstance(raised, CoreError) else None
        if raised is not None and fault is None and not isinstance(raised, SystemExit):
            raise raised
        return Answer(result.exit_code, result.stdout, fault)

    return call
