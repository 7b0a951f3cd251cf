"""Tune on the Launch page: what it tries, what it refuses, and real runs in the background."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import CoreError
from core.experiments.tune import study as studies
from core.experiments.tune.background import BackgroundTunings
from core.experiments.tune.overview import Overviews, TuningState
from core.reporter import Reporter
from core.runs.run import RunState
from core.runs.store import Store, open_store
from core.training.loop import fine_tune
from core.workspace import Workspace
from explorer.pages.launch import form, method_tuning
from explorer.pages.launch.method_tuning import TuneChoice
from explorer.pages.runs.tunings import Tunings
from tests.core.conftest import radiographs
from tests.support.measured import note_speed
from tests.support.tuned_run import served

__all__ = ["radiographs"]


@pytest.fixture
def store(workspace: Workspace) -> Store:
    note_speed(workspace.cache)
    return open_store(workspace, create=True)


def filled(**changed: Any) -> dict[str, Any]:
    values, _ = form.values_of(RunSpec())
    return {**values, **{path.replace("__", "."): value for path, value in changed.items()}}


def test_the_method_of_the_form_is_tuned_with_full_and_linear(store: Store) -> None:
    made = method_tuning.plan(store, filled(adapter__method="dora"), None, TuneChoice())
    assert made.methods == ("dora", "full", "linear")
    assert (made.trials, made.budget, made.seeds, made.final_seeds) == (
        8, None, (0,), (1, 2, 3, 4, 5)
    )  # fmt: skip
    made = method_tuning.plan(store, filled(adapter__method="full"), None, TuneChoice())
    assert made.methods == ("full", "linear")


def test_the_preview_shows_spaces_runs_and_time(store: Store) -> None:
    choice = TuneChoice(("lora", "logistic"), ("lr", "rank"), "3", "", "0, 1", "2")
    text = method_tuning.summary(store, filled(), None, choice)
    assert "0.0002 to 0.04, log scale" in text
    assert "<td>rank</td><td>2, 4, 8, 16, 32</td>" in text
    assert "the fit chooses its penalty" in text
    assert "<b>12 runs</b>: 8 of trials with the seeds 0, 1" in text
    assert "4 with the chosen settings and the seeds 2, 3" in text
    timed = method_tuning.summary(store, filled(), None, TuneChoice(("lora",), budget="20m"))
    assert "20 min of training for each method with the seed 0, then" in timed
    assert store.list() == []
    assert studies.existing_storage(store.workspace) is None


def test_settings_that_the_user_changed_are_kept(store: Store) -> None:
    choice = TuneChoice(("linear", "lora"), ("lr", "rank"))
    values = filled(adapter__method="linear", adapter__rank=8, train__epochs=3)
    made = method_tuning.plan(store, values, None, choice)
    assert made.base.adapter.rank == 8  # although the form's own method has none
    assert set(made.given) == {"adapter.rank", "train.epochs"}
    assert "<td>rank</td>" not in method_tuning.summary(store, values, None, choice)


@pytest.mark.parametrize(
    ("choice", "values", "field", "message"),
    [
        (TuneChoice(trials="many"), {}, "f-tune-trials", "is not a number of trials"),
        (TuneChoice(trials="0"), {}, "f-tune-trials", "with 0 trials"),
        (TuneChoice(trials="99999999"), {}, "f-tune-trials", "with 99999999 trials"),
        (TuneChoice(trials="2", budget="5m"), {}, "f-tune-budget", "Both a number of trials"),
        (TuneChoice(budget="soon"), {}, "f-tune-budget", "is not a duration"),
        (TuneChoice(seeds="one"), {}, "f-tune-seeds", "is not a list of numbers"),
        (TuneChoice(seeds="0-99999999999"), {}, "f-tune-seeds", "more than 10,000 numbers"),
        (TuneChoice(seeds="9999999999"), {}, "f-tune-seeds", "is not between 0 and"),
        (TuneChoice(final_seeds="0"), {}, "f-tune-final-seeds", "no final seeds"),
        (TuneChoice(final_seeds="999999999"), {}, "f-tune-final-seeds", "more than 100 final"),
        (TuneChoice(seeds="0,1", final_seeds="1-3"), {}, "f-tune-final-seeds", "final runs: 1"),
        (TuneChoice(search=("depth",)), {}, "", "Unknown setting to search"),
        (TuneChoice(("lroa",)), {}, "", "Did you mean lora"),
        (TuneChoice(), {"train__lr": "0.1"}, "f-adapter-method", "lr is given"),
        (TuneChoice(), {"train__seed": 3}, "f-train-seed", "one seed is given"),
        (TuneChoice(), {"train__lr": "fast"}, "f-train-lr", "valid number"),
    ],
)
def test_what_cannot_work_is_shown_at_its_field(
    store: Store, choice: TuneChoice, values: dict[str, Any], field: str, message: str
) -> None:
    text = method_tuning.summary(store, filled(**values), None, choice)
    assert message in text
    assert (f'data-beside="{field}"' in text) == bool(field)
    with pytest.raises(CoreError):
        method_tuning.submit(store, filled(**values), None, choice)
    assert studies.existing_storage(store.workspace) is None


@pytest.mark.slow
def test_real_runs_are_tuned_in_the_background(
    store: Store, workspace: Workspace, radiographs: Path
) -> None:
    def train(
        spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
    ) -> dict[str, Any]:
        return fine_tune(spec, folder, cache, report, resume=resume)

    values = filled(
        data__name="folder", data__root=str(radiographs), data__label_fraction=1.0,
        model__backbone="timm:test_vit", model__pretrained=False, model__input_size="64",
        train__epochs=2, train__batch_size="16", train__device="cpu",
    )  # fmt: skip
    choice = TuneChoice(("lora", "linear"), trials="2", final_seeds="3")
    name = method_tuning.submit(store, values, None, choice)
    tunings, overviews = (
        BackgroundTunings(store, workspace),
        Overviews(store, studies.open_storage(workspace)),
    )
    until = time.monotonic() + 300
    with served(store, workspace, train):
        while overviews.get(name).state is not TuningState.COMPLETED:
            assert time.monotonic() < until
            tunings.step()
            time.sleep(0.02)
    assert {run.state for run in store.list()} == {RunState.COMPLETED}
    assert len(store.list()) == 2 * (2 + 3)
    panel = Tunings(store, workspace).panel(name)
    assert "LoRA r 4 (tuned, 2 trials)" in panel
    assert "was not tuned" not in panel
