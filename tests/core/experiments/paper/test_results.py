"""What runs say to a task: which count, and the curves over label fractions."""

import pytest

from core.experiments.paper import results
from core.experiments.paper.tasks import MINIATURE, PAPER_METHODS
from core.runs.store import Store
from core.workspace import Workspace

TASKS = MINIATURE[:3]


def test_only_completed_runs_of_the_recipe_count(
    store: Store, workspace: Workspace, complete
) -> None:
    first, second, third = TASKS
    for seed in range(3):
        complete(first.spec("lora", seed=seed), skill=2.0)
        complete(first.spec("full", seed=seed), skill=0.5)
    complete(second.spec("lora"))
    store.create(second.spec("full"))
    spec = third.spec("lora")
    complete(spec.model_copy(update={"train": spec.train.model_copy(update={"epochs": 7})}))
    one, two, three = results.gather(TASKS, store.list(), workspace)
    assert one.verdict is not None
    assert one.verdict.difference.value > 0.1
    assert (one.seeds, len(one.scores["full"])) == (3, 3)
    assert one.interval == one.verdict.difference
    assert one.share == pytest.approx(40 / 5440)
    assert two.verdict is None
    assert len(two.scores["lora"]) == 1
    assert two.mean("full") is None
    assert not three.scores["lora"]


def test_one_seed_has_the_interval_over_patients(
    store: Store, workspace: Workspace, complete
) -> None:
    for method in PAPER_METHODS:
        complete(TASKS[0].spec(method), skill=2.0 if method == "lora" else 0.5)
    one = results.gather(TASKS[:1], store.list(), workspace)[0]
    assert one.verdict is not None
    assert one.verdict.evidence == "undecided"
    assert one.interval == one.verdict.over_patients


def test_damaged_predictions_are_a_fault_of_their_task_alone(
    store: Store, workspace: Workspace, complete
) -> None:
    for task in TASKS[:2]:
        runs = [complete(task.spec(method)) for method in PAPER_METHODS]
    (workspace.run(runs[0].id) / "predictions" / "test.npz").write_bytes(b"no archive")
    one, two = results.gather(TASKS[:2], store.list(), workspace)
    assert one.verdict is not None
    assert two.verdict is None
    assert two.fault is not None


def test_labels_needed_are_read_off_the_runs(store: Store, workspace: Workspace, complete) -> None:
    for task, skill in zip(TASKS, (0.5, 1.0, 2.0), strict=True):
        complete(task.spec("full"), skill=skill)
        complete(task.spec("lora"), skill=1.5)
    outcomes = results.gather(TASKS, store.list(), workspace)
    (found,) = results.efficiency(outcomes)
    assert [one.method for one in found.curves] == ["lora", "full"]
    assert all(level.over == "patients" for level in found.curves[1].levels)
    assert found.needed is not None
    assert 0.1 < found.needed.fraction.value < 1
    assert found.needed.fraction.low < found.needed.fraction.value < found.needed.fraction.high
