"""What the grid consists of, what of it is there, and what the rest takes."""

from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.experiments import cells
from core.experiments.paper import grid as plan
from core.experiments.paper import tasks as paper
from core.runs.store import RunState, Store
from core.workspace import Workspace
from tests.support.measured import note_speed


def test_the_whole_grid_and_its_parts() -> None:
    assert plan.choose() == paper.TASKS
    assert plan.choose(embedded=True) == paper.MINIATURE
    part = plan.choose(only=["nih"], fractions=[0.01])
    assert [task.name for task in part] == ["mrm-nih-1", "cxr-mae-nih-1"]
    small = plan.choose(embedded=True, only=["nih"], backbones=["embedded-mae"])
    assert {task.data for task in small} == {"phantom-14"}
    assert plan.choose(embedded=True, only=["phantom-14"], backbones=["embedded-mae"]) == small


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"only": ["nhi"]}, "Did you mean nih"),
        ({"fractions": [0.3]}, r"0\.01, 0\.1, 1"),
        ({"backbones": ["mrn"]}, "Did you mean mrm"),
        ({"embedded": True, "backbones": ["mrm"]}, "embedded-mae"),
    ],
)
def test_what_is_in_no_task_is_refused(wanted: dict, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        plan.choose(**wanted)


def test_cells_take_the_cheap_first_and_each_seed_as_a_whole() -> None:
    grid = plan.cells(paper.TASKS, seeds=2, roots={"nih": Path("/nih")})
    assert len(grid) == 72
    assert len({cell.name for cell in grid}) == len({cells.key(cell.spec) for cell in grid}) == 72
    assert [cell.seed for cell in grid] == [0] * 36 + [1] * 36
    fractions = [cell.task.fraction for cell in grid[:36]]
    assert fractions == sorted(fractions)
    for cell in grid:
        assert cell.spec.train.seed == cell.seed
        assert (cell.spec.data.root == Path("/nih")) == (cell.task.data == "nih")
    with pytest.raises(ConfigurationError, match="lora"):
        plan.cells(paper.TASKS, ["lorra"])


def test_what_is_done_is_known_wherever_it_was_done(
    store: Store, workspace: Workspace, complete
) -> None:
    task = paper.task("mrm-nih-1")
    elsewhere = task.spec("lora", root=Path("/elsewhere"), weights=Path("/w.pth"))
    run = complete(elsewhere)
    grid = plan.cells([task], seeds=2)
    steps = plan.survey(grid, store.list(), workspace, costs=False)
    assert [step.done for step in steps] == [True, False, False, False]
    assert steps[0].run is not None
    assert steps[0].run.id == run.id
    assert all(step.obstacle is not None for step in steps[1:])
    assert not any(step.wanted for step in steps)


def test_what_is_missing_is_said_with_its_remedy(store: Store, workspace: Workspace) -> None:
    (step,) = plan.survey(
        plan.cells([paper.task("mrm-nih-1")], ["lora"]), [], workspace, costs=False
    )
    assert "--weights mrm=FILE" in str(step.obstacle)
    (step,) = plan.survey(
        plan.cells([paper.task("mrm-rsna-1")], ["lora"], weights={"mrm": Path("/w.pth")}),
        [],
        workspace,
        costs=False,
    )
    assert "--root rsna=DIR" in str(step.obstacle)


def test_a_run_without_predictions_is_not_done(
    store: Store, workspace: Workspace, complete
) -> None:
    spec = paper.MINIATURE[0].spec("lora")
    run = complete(spec)
    (workspace.run(run.id) / "predictions" / "test.npz").unlink()
    assert cells.pick(store.list(), workspace) is None


def test_the_furthest_run_counts(store: Store, workspace: Workspace, complete) -> None:
    spec = paper.MINIATURE[0].spec("lora")
    stopped = store.transition(store.create(spec).id, RunState.STOPPED)
    assert cells.pick([stopped], workspace) == stopped
    queued = store.create(spec)
    assert cells.pick([stopped, queued], workspace) == queued
    active = store.create(spec, state=RunState.STARTING)
    assert cells.pick([stopped, queued, active], workspace) == active
    done = complete(spec)
    assert cells.pick([stopped, queued, active, done], workspace) == done


def test_pictures_are_counted_once_and_earlier_runs_believed(
    store: Store, workspace: Workspace, complete
) -> None:
    note_speed(workspace.cache, cpu=1e11)
    tasks = [task for task in paper.MINIATURE if task.data == "phantom-1"][:2]
    grid = plan.cells(tasks, ["lora"])
    first, second = plan.survey(grid, [], workspace)
    assert first.seconds is not None
    assert second.seconds is not None
    assert first.disk is not None
    assert second.disk is not None
    # 1,340 pictures of 144 px for the first, 360 more for the second.
    assert first.disk > 1_340 * 144**2 > second.disk > 360 * 144**2
    complete(tasks[0].spec("lora", seed=9))
    again, _ = plan.survey(grid, store.list(), workspace)
    assert again.seconds == 60
