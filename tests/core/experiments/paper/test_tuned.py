"""Settings that the study does not print are tuned on request."""

import pytest

from core.experiments.paper import tables, tuned
from core.experiments.paper.tasks import MINIATURE, PAPER_METHODS, TASKS
from core.experiments.tune.choice import TUNING_SEED, choose_all
from core.runs.store import Store
from core.workspace import Workspace
from tests.support.tuned_run import quality, served


def test_sixteen_recipes_of_full_fine_tuning_are_assumed() -> None:
    planned = tuned.plans(TASKS)
    assert len(planned) == 16
    assert {method for _, method in planned} == {"full"}
    assert "mrm-nih-1" not in {task for task, _ in planned}
    assert {task.recipes["lora"].kind for task in TASKS} == {"published"}
    assert len(tuned.plans(MINIATURE)) == 2 * len(MINIATURE)
    for plan in planned.values():
        assert plan.search == ("lr",)
        assert min(plan.seeds) > 1000  # the seeds of the grid count from 0


def test_the_tasks_have_the_tuned_rates(
    store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.experiments.tune.tune.POLL_SECONDS", 0.02)
    task = MINIATURE[0]
    planned = tuned.plans([task], trials=3)
    assert tuned.tuned_tasks([task], planned, workspace) == (task,)
    with served(store, workspace):
        choose_all(tuned.possible(planned), store, workspace, lambda line: None)
    (changed,) = tuned.tuned_tasks([task], planned, workspace)
    for method in PAPER_METHODS:
        before, after = task.spec(method), changed.spec(method)
        assert changed.recipes[method].kind == "tuned"
        assert "3 trials" in changed.recipes[method].source
        assert after.train.lr is not None
        assert quality(after) >= quality(before)
        assert after.model_copy(update={"train": before.train}) == before
    assert {run.spec.train.seed for run in store.list()} == {TUNING_SEED}
    assert len(store.list()) == 6
    assert tables._settings(task) == "both assumed"
    assert tables._settings(changed) == "both tuned"
    assert tables._settings(TASKS[0]) == "both published"
    assert tables._settings(TASKS[1]) == "LoRA published, full assumed"
