"""The queue as the terminal shows and changes it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from core.cli.app import app
from core.config.run import RunSpec
from core.errors import ConfigurationError, RunError
from core.runs.store import Store
from core.workspace import Workspace

Call = Callable[..., Any]


@pytest.fixture
def call(store: Store, workspace: Workspace) -> Call:
    """Answer of a verb: its JSON, or the fault it ends with."""

    def run(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--workspace", str(workspace.root), "--json"])
        if done.exception and not isinstance(done.exception, SystemExit):
            return done.exception
        return json.loads(done.stdout)

    return run


def test_runs_are_listed_and_moved_in_their_order(store: Store, call: Call) -> None:
    for name in "abc":
        store.create(RunSpec(), name=name)
    assert [one["name"] for one in call("queue")] == list("abc")
    assert [one["name"] for one in call("move", "c", "first")] == list("cab")
    assert [one["name"] for one in call("move", "c", "down")] == list("acb")
    wrong = call("move", "c", "frist")
    assert isinstance(wrong, RunError)
    assert "Did you mean first" in str(wrong)


def test_a_run_waits_for_another_until_it_is_told_not_to(store: Store, call: Call) -> None:
    first, second = store.create(RunSpec(), name="first"), store.create(RunSpec(), name="second")
    said = call("after", "second", "first")
    assert said["after"] == first.id
    assert "is completed" in said["waits"]
    assert call("stop", "first")["state"] == "stopped"
    waits = {one["name"]: one["waits"] for one in call("queue")}
    assert "which is stopped. Resume that run" in waits["second"]
    assert isinstance(call("after", "second", "second"), RunError)
    assert call("after", "second")["waits"] == "It waits for a free slot."
    shown = call("show", second.id)
    assert (shown["after"], shown["exit_code"], shown["slot"]) == (None, None, None)
    assert shown["log"].endswith("log.txt")


def test_an_unknown_executor_is_answered_with_the_known_ones(workspace: Workspace) -> None:
    words = ["serve", "--executor", "rai", "--workspace", str(workspace.root)]
    fault = CliRunner().invoke(app, words).exception
    assert isinstance(fault, ConfigurationError)
    assert "Did you mean ray" in str(fault)
