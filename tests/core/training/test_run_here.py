"""Runs in this process are stored like any other run and are not repeated."""

from collections.abc import Callable

import pytest

from core.config.run import RunSpec
from core.errors import RunError
from core.runs.store import open_store
from core.training.run_here import run_in_process
from core.workspace import Workspace

Tiny = Callable[..., RunSpec]


def test_a_run_ends_in_the_store_and_is_found_again(tiny: Tiny, workspace: Workspace) -> None:
    store = open_store(workspace, create=True)
    spec = tiny(adapter__method="linear", train__epochs=1)
    run = run_in_process(spec, workspace)
    assert str(run.state) == "completed"
    assert run.scores is not None
    assert run_in_process(spec, workspace).id == run.id
    assert run_in_process(spec, workspace, again=True).id != run.id
    store.close()


def test_a_run_that_fails_says_why(tiny: Tiny, workspace: Workspace) -> None:
    store = open_store(workspace, create=True)
    with pytest.raises(RunError, match="ended as failed") as caught:
        run_in_process(tiny(data__root=workspace.root / "nothing"), workspace)
    assert "does not exist" in caught.value.cause
    store.close()
