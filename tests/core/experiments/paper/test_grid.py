"""Cells of the paper's grid, the stored run of each, and the expected cost of the others."""

from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.experiments.cells import cell_key
from core.experiments.paper.grid import grid_cells, select_tasks, survey
from core.experiments.paper.tasks import MINIATURE, TASKS, find_task
from core.runs.store import Store
from core.workspace import Workspace
from tests.support.measured import note_speed


def test_the_whole_grid_and_its_parts() -> None:
    assert select_tasks() == TASKS
    assert select_tasks(embedded=True) == MINIATURE
    part = select_tasks(only=["nih"], fractions=[0.01])
    assert [task.name for task in part] == ["mrm-nih-1", "cxr-mae-nih-1"]
    small = select_tasks(embedded=True, only=["nih"], backbones=["embedded-mae"])
    assert {task.data for task in small} == {"phantom-14"}
    assert select_tasks(embedded=True, only=["phantom-14"], backbones=["embedded-mae"]) == small


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"only": ["nhi"]}, "Did you mean nih"),
        ({"fractions": [0.3]}, r"0\.01, 0\.1 or 1"),
        ({"backbones": ["mrn"]}, "Did you mean mrm"),
        ({"embedded": True, "backbones": ["mrm"]}, "embedded-mae"),
    ],
)
def test_what_is_in_no_task_is_refused(wanted: dict, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        select_tasks(**wanted)


def test_cells_take_the_cheap_first_and_each_seed_as_a_whole() -> None:
    grid = grid_cells(TASKS, seeds=2, roots={"nih": Path("/nih")})
    assert len(grid) == 72
    assert len({cell.name for cell in grid}) == len({cell_key(cell.spec) for cell in grid}) == 72
    assert [cell.seed for cell in grid] == [0] * 36 + [1] * 36
    fractions = [cell.task.fraction for cell in grid[:36]]
    assert fractions == sorted(fractions)
    for cell in grid:
        assert cell.spec.train.seed == cell.seed
        assert (cell.spec.data.root == Path("/nih")) == (cell.task.data == "nih")
    with pytest.raises(ConfigurationError, match="lora"):
        grid_cells(TASKS, ["lorra"])


def test_what_is_done_is_known_wherever_it_was_done(
    store: Store, workspace: Workspace, complete
) -> None:
    task = find_task("mrm-nih-1")
    elsewhere = task.spec("lora", root=Path("/elsewhere"), weights=Path("/w.pth"))
    run = complete(elsewhere)
    grid = grid_cells([task], seeds=2)
    statuses = survey(grid, store.list(), workspace, costs=False)
    assert [status.done for status in statuses] == [True, False, False, False]
    assert statuses[0].run is not None
    assert statuses[0].run.id == run.id
    assert all(status.obstacle is not None for status in statuses[1:])
    assert not any(status.runnable for status in statuses)


def test_what_is_missing_is_said_with_its_remedy(store: Store, workspace: Workspace) -> None:
    (status,) = survey(grid_cells([find_task("mrm-nih-1")], ["lora"]), [], workspace, costs=False)
    assert "--weights mrm=FILE" in str(status.obstacle)
    (status,) = survey(
        grid_cells([find_task("mrm-rsna-1")], ["lora"], weights={"mrm": Path("/w.pth")}),
        [],
        workspace,
        costs=False,
    )
    assert "--root rsna=DIR" in str(status.obstacle)


def test_images_are_counted_once_and_earlier_runs_believed(
    store: Store, workspace: Workspace, complete
) -> None:
    note_speed(workspace.cache, cpu=1e11)
    tasks = [task for task in MINIATURE if task.data == "phantom-1"][:2]
    grid = grid_cells(tasks, ["lora"])
    first, second = survey(grid, [], workspace)
    assert first.seconds is not None
    assert second.seconds is not None
    assert first.disk is not None
    assert second.disk is not None
    # 1,340 images of 144 px for the first, 360 more for the second.
    assert first.disk > 1_340 * 144**2 > second.disk > 360 * 144**2
    complete(tasks[0].spec("lora", seed=9))
    again, _ = survey(grid, store.list(), workspace)
    assert again.seconds == 60
