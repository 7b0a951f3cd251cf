"""``python -m core sweep``: asks for confirmation, and leaves out equal runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from core.cli.app import app
from core.errors import ConfigurationError
from core.runs.store import Store, open_store
from core.workspace import Workspace
from tests.support.measured import note_speed


@pytest.fixture
def store(workspace: Workspace) -> Store:
    note_speed(workspace.cache)
    return open_store(workspace, create=True)


@pytest.fixture
def terminal(store: Store, workspace: Workspace) -> Any:
    def call(*words: str, keys: str = "") -> Any:
        line = ["sweep", *words, "--workspace", str(workspace.root)]
        return CliRunner().invoke(app, line, input=keys)

    return call


def test_the_terminal_asks_first(terminal: Any, store: Store) -> None:
    words = ["--methods", "lora,linear", "--seeds", "0-2"]
    dry = json.loads(terminal(*words, "--dry-run", "--json").stdout)
    assert (dry["runs"], dry["known"], len(dry["new"])) == (6, 0, 6)
    assert dry["hours"] > 0
    assert store.list() == []
    refused = terminal(*words, keys="n\n")
    assert refused.exit_code == 1
    assert "6 runs, about" in refused.output
    assert store.list() == []
    assert "Queued 6 runs" in terminal(*words, keys="y\n").output
    assert len(store.list()) == 6
    again = json.loads(terminal(*words, "--yes", "--json").stdout)
    assert (again["runs"], again["known"], again["queued"]) == (0, 6, [])
    assert len(json.loads(terminal(*words, "--yes", "--again", "--json").stdout)["queued"]) == 6
    assert isinstance(terminal("--ranks", "4,x").exception, ConfigurationError)


def test_folds_are_a_part_of_the_grid(terminal: Any, store: Store) -> None:
    words = ["--methods", "lora,linear", "--seeds", "0,1", "--folds", "3"]
    assert len(json.loads(terminal(*words, "--yes", "--json").stdout)["queued"]) == 12
    assert {run.spec.data.fold for run in store.list()} == {"1/3", "2/3", "3/3"}
    refused = terminal("--folds", "3", "--fold", "1/5").exception
    assert "Both --fold and --folds" in str(refused)
    assert "2 folds are not possible" in str(terminal("--folds", "2").exception)


def test_the_terminal_has_axes_for_rate_and_alpha(terminal: Any, tmp_path: Path) -> None:
    words = ["--ranks", "4,8", "--lrs", "1e-3,0.01", "--alpha-over-rank", "2", "--dry-run"]
    assert json.loads(terminal(*words, "--json").stdout)["runs"] == 4
    assert json.loads(terminal("--alphas", "8,16,32", "--dry-run", "--json").stdout)["runs"] == 3
    listed = tmp_path / "runs.json"
    listed.write_text("[{}]")
    for wrong in (["--lrs", "quick"], ["--lrs", "0.1", "--list", str(listed)]):
        assert isinstance(terminal(*wrong).exception, ConfigurationError)
