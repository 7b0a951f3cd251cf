from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.runs.store import Store, open_store
from core.workspace import Workspace
from explorer.pages.launch import form, sweep
from explorer.pages.launch.sweep import SweepChoice
from tests.support.measured import note_speed


@pytest.fixture
def store(workspace: Workspace) -> Store:
    note_speed(workspace.cache)
    return open_store(workspace, create=True)


def filled(**changed: Any) -> dict[str, Any]:
    values, _ = form.values_of(RunSpec())
    return {**values, **{path.replace("__", "."): value for path, value in changed.items()}}


CHOSEN = SweepChoice(("linear", "lora"), "2, 8", (0.1, 0.05))


def test_an_empty_choice_is_no_sweep() -> None:
    assert not SweepChoice()
    assert not SweepChoice((), "  ", ())
    assert CHOSEN


def test_summary_and_button_count_the_runs(store: Store) -> None:
    words, label = sweep.summary(store, filled(), None, 2, CHOSEN)
    assert label == "Launch 12 runs"
    assert "<b>12 runs</b>, about <b>" in words
    sweep.submit(store, filled(), None, 1, CHOSEN)
    words, label = sweep.summary(store, filled(), None, 2, CHOSEN)
    assert label == "Launch 6 runs"
    assert "6 more are already completed or queued" in words
    assert sweep.summary(store, filled(), None, 1, SweepChoice())[1] == "Launch run"


def test_the_sweep_replaces_the_values_of_the_form(store: Store) -> None:
    values = filled(adapter__method="full", data__label_fraction=1.0, adapter__alpha=8.0)
    queued = sweep.submit(store, values, None, 1, CHOSEN)
    found = {
        (r.spec.adapter.method, r.spec.adapter.rank, r.spec.data.label_fraction) for r in queued
    }
    assert found == {
        ("linear", 4, 0.1), ("linear", 4, 0.05),
        ("lora", 2, 0.1), ("lora", 2, 0.05), ("lora", 8, 0.1), ("lora", 8, 0.05),
    }  # fmt: skip
    assert {(r.spec.adapter.rank, r.spec.adapter.alpha) for r in queued} == {
        (4, 8.0), (2, 4.0), (8, 16.0),
    }  # fmt: skip
    with pytest.raises(ConfigurationError, match="already completed or queued"):
        sweep.submit(store, values, None, 1, CHOSEN)


def test_learning_rates_and_alphas_are_axes(store: Store) -> None:
    choice = SweepChoice((), "2, 8", (), lrs="0.001, 1e-2", alphas_over_rank="2")
    assert choice
    words, label = sweep.summary(store, filled(), None, 1, choice)
    assert label == "Launch 4 runs", words
    queued = sweep.submit(store, filled(), None, 1, choice)
    assert {(r.spec.adapter.rank, r.spec.adapter.alpha, r.spec.train.lr) for r in queued} == {
        (2, 4.0, 0.001), (2, 4.0, 0.01), (8, 16.0, 0.001), (8, 16.0, 0.01),
    }  # fmt: skip
    for wrong, message in (
        (SweepChoice(lrs="fast"), "is not a list of learning rates"),
        (SweepChoice(lrs="0"), "train.lr"),
        (SweepChoice(alphas="16", alphas_over_rank="2"), "Both alphas"),
        (SweepChoice(("linear",), alphas="16"), "None of the methods"),
    ):
        assert message in sweep.summary(store, filled(), None, 1, wrong)[0]


def test_an_invalid_sweep_queues_nothing(store: Store) -> None:
    words, label = sweep.summary(store, filled(), None, 1, SweepChoice((), "two"))
    assert "is not a list of ranks" in words
    assert label == "Launch run"
    with pytest.raises(ConfigurationError, match="number of seeds"):
        sweep.submit(store, filled(), None, 0.5, CHOSEN)
    assert store.list() == []


def test_compatible_runs_are_queued_as_one_group(store: Store) -> None:
    joint = SweepChoice((), "2, 8", (), joint=True)
    words, label = sweep.summary(store, filled(), None, 2, joint)
    assert label == "Launch 4 runs"
    assert "in one process with about" in words
    queued = sweep.submit(store, filled(), None, 2, joint)
    assert len(queued) == 4
    assert len({run.group for run in queued}) == 1
    assert queued[0].group is not None
    apart = sweep.submit(store, filled(), None, 1, SweepChoice((), "16", ()))
    assert apart[0].group is None


def test_incompatible_runs_cannot_be_trained_jointly(store: Store) -> None:
    mixed = SweepChoice(("linear", "lora"), "", (), joint=True)
    words, _ = sweep.summary(store, filled(), None, 1, mixed)
    assert "cannot be trained together" in words
    with pytest.raises(ConfigurationError, match="cannot be trained together"):
        sweep.submit(store, filled(), None, 1, mixed)
    assert store.list() == []


def test_each_fold_is_a_run(store: Store) -> None:
    choice = SweepChoice((), folds="5")
    assert choice
    assert sweep.summary(store, filled(), None, 2, choice)[1] == "Launch 10 runs"
    queued = sweep.submit(store, filled(), None, 1, choice)
    assert [run.spec.data.fold for run in queued] == [f"{k}/5" for k in range(1, 6)]


@pytest.mark.parametrize(
    ("folds", "fold", "field", "message"),
    [
        ("five", "", "f-folds", "is not a number of folds"),
        ("5", "1/5", "f-data-fold", "Both --fold and --folds"),
        ("1", "", "f-folds", "1 folds are not possible"),
        ("9999999999", "", "f-folds", "Give 3 to"),
    ],
)
def test_wrong_folds_are_shown_at_their_field(
    store: Store, folds: str, fold: str, field: str, message: str
) -> None:
    choice = SweepChoice((), folds=folds)
    words, label = sweep.summary(store, filled(data__fold=fold), None, 1, choice)
    assert message in words
    assert (f'data-beside="{field}"' in words) == bool(field)
    assert label == "Launch run"
    with pytest.raises(ConfigurationError):
        sweep.submit(store, filled(data__fold=fold), None, 1, choice)
    assert store.list() == []
