"""The stored run that is used for a cell of a grid."""

from collections.abc import Callable
from pathlib import Path

from core.experiments.cells import recipe_key, select_run
from core.experiments.paper.tasks import MINIATURE, find_task
from core.runs.run import Run, RunState
from core.runs.store import Store
from core.workspace import Workspace

Complete = Callable[..., Run]


def test_a_recipe_is_the_same_with_other_seeds_and_files() -> None:
    task = find_task("mrm-nih-1")
    elsewhere = task.spec("lora", seed=4, root=Path("/data"), weights=Path("/mrm.pth")).resolved()
    train = elsewhere.train.model_copy(update={"epochs": 50})
    longer = elsewhere.model_copy(update={"train": train})
    assert recipe_key(elsewhere) == recipe_key(task.spec("lora"))
    assert recipe_key(task.spec("lora")) != recipe_key(task.spec("full"))
    assert recipe_key(longer) != recipe_key(elsewhere)


def test_a_run_without_predictions_is_not_done(
    store: Store, workspace: Workspace, complete
) -> None:
    spec = MINIATURE[0].spec("lora")
    run = complete(spec)
    (workspace.run(run.id) / "predictions" / "test.npz").unlink()
    assert select_run(store.list(), workspace) is None


def test_the_furthest_run_counts(store: Store, workspace: Workspace, complete: Complete) -> None:
    spec = MINIATURE[0].spec("lora")
    stopped = store.transition(store.create(spec).id, RunState.STOPPED)
    assert select_run([stopped], workspace) == stopped
    queued = store.create(spec)
    assert select_run([stopped, queued], workspace) == queued
    active = store.create(spec, state=RunState.STARTING)
    assert select_run([stopped, queued, active], workspace) == active
    done = complete(spec)
    assert select_run([stopped, queued, active, done], workspace) == done
