"""Runs of a sweep: combinations, lists, and the expected time."""

from pathlib import Path
from typing import Any

import pytest

from core.config.run import RunSpec
from core.errors import ConfigurationError, CoreError
from core.experiments import sweep
from core.runs.run import RunState
from core.runs.store import Store, open_store
from core.workspace import Workspace
from tests.support.measured import note_speed


@pytest.fixture
def store(workspace: Workspace) -> Store:
    note_speed(workspace.cache)
    return open_store(workspace, create=True)


def what(specs: list[RunSpec]) -> list[tuple[str, int, float, int]]:
    return [(s.adapter.method, s.adapter.rank, s.data.label_fraction, s.train.seed) for s in specs]


def test_a_grid_has_each_combination_once() -> None:
    base = RunSpec.of(**{"adapter.rank": 4, "train.lr": 0.01})
    specs = sweep.grid(base, ["lora", "full"], [2, 8], [0.1, 1.0], [0, 1])
    assert what(specs) == [
        ("lora", 2, 0.1, 0), ("lora", 2, 0.1, 1), ("lora", 8, 0.1, 0), ("lora", 8, 0.1, 1),
        ("lora", 2, 1.0, 0), ("lora", 2, 1.0, 1), ("lora", 8, 1.0, 0), ("lora", 8, 1.0, 1),
        ("full", 4, 0.1, 0), ("full", 4, 0.1, 1), ("full", 4, 1.0, 0), ("full", 4, 1.0, 1),
    ]  # fmt: skip
    assert {spec.train.lr for spec in specs} == {0.01}
    assert sweep.grid(base) == [base]
    assert len(sweep.grid(base, seeds=[3, 3, 3])) == 1


@pytest.mark.slow
def test_what_is_wrong_is_said_before_anything_is_queued(
    store: Store, workspace: Workspace
) -> None:
    with pytest.raises(ConfigurationError, match="Did you mean lora"):
        sweep.grid(RunSpec(), ["lroa"])
    with pytest.raises(ConfigurationError, match="label_fraction"):
        sweep.grid(RunSpec(), fractions=[0.1, 2.0])
    with pytest.raises(ConfigurationError, match=r"more than 10,000 runs"):
        sweep.grid(RunSpec(), seeds=range(10_001))
    with pytest.raises(CoreError):
        sweep.plan(sweep.grid(RunSpec(), ranks=[4, 1000]), store, workspace.cache)


def test_a_list_names_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "runs.json"
    file.write_text('[{"adapter.rank": 8}, {"adapter.method": "full", "train.lr": 0.001}]')
    specs = sweep.read_list(RunSpec.of(**{"train.epochs": 3}), file)
    assert what(specs) == [("lora", 8, 0.1, 0), ("full", 4, 0.1, 0)]
    assert [spec.train.epochs for spec in specs] == [3, 3]
    for text, words in (
        ('[{"adapter.rank": 8}, {"adapter.rank": 0}]', "Entry 2 of runs.json"),
        ('{"adapter.rank": 8}', "not a list of objects"),
        ("[", "cannot be read"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=words):
            sweep.read_list(RunSpec(), file)


def test_equal_runs_that_are_done_or_waiting_are_left_out(
    store: Store, workspace: Workspace
) -> None:
    specs = sweep.grid(RunSpec(), seeds=[0, 1, 2, 3])
    done, waiting, failed = (store.create(spec) for spec in specs[:3])
    for run, ending in ((done, RunState.COMPLETED), (failed, RunState.FAILED)):
        for state in (RunState.STARTING, RunState.RUNNING, ending):
            store.transition(run.id, state)
    planned = sweep.plan(specs, store, workspace.cache)
    assert [spec.train.seed for spec in planned.new] == [2, 3]
    assert [spec.train.seed for spec in planned.known] == [0, 1]
    assert waiting.state is RunState.QUEUED
    again = sweep.plan(specs, store, workspace.cache, again=True)
    assert len(again.new) == 4
    assert again.seconds == pytest.approx(2 * planned.seconds)
    queued = sweep.submit(store, planned, priority=3)
    assert [(run.spec.train.seed, run.priority) for run in queued] == [(2, 3), (3, 3)]
    assert not sweep.plan(specs[2:], store, workspace.cache).new


def test_the_time_adds_up(store: Store, workspace: Workspace) -> None:
    from core.resources import estimate

    specs = sweep.grid(RunSpec(), ["lora", "full"], seeds=[0, 1])
    planned = sweep.plan(specs, store, workspace.cache)
    each = [estimate.estimate(spec, workspace.cache).seconds for spec in specs[::2]]
    assert planned.seconds == pytest.approx(2 * sum(each), rel=0.05)
    assert planned.hours == planned.seconds / 3600
    assert "measured speed" in planned.basis


def test_a_method_takes_only_the_settings_that_it_heeds() -> None:
    base = RunSpec.of(**{"adapter.method": "lora+", "adapter.rate_ratio": 4.0})
    first, second = sweep.grid(base, ["lora+", "ssf"])
    assert first.adapter.rate_ratio == 4
    assert second.adapter.own() == {}


def low_rank(specs: list[RunSpec]) -> list[tuple[str, int, float]]:
    return [(s.adapter.method, s.adapter.rank, s.adapter.alpha) for s in specs]


def test_a_sweep_over_ranks_keeps_alpha_over_rank() -> None:
    base = RunSpec.of(**{"adapter.rank": 8, "adapter.alpha": 16.0})
    assert low_rank(sweep.grid(base, ["lora", "rslora", "vera"], [2, 32])) == [
        ("lora", 2, 4.0), ("lora", 32, 64.0), ("rslora", 2, 16.0), ("rslora", 32, 16.0),
        ("vera", 2, 16.0), ("vera", 32, 16.0),
    ]  # fmt: skip
    assert low_rank(sweep.grid(base, ranks=[2, 32], alphas=[16.0])) == [
        ("lora", 2, 16.0), ("lora", 32, 16.0),
    ]  # fmt: skip
    assert low_rank(sweep.grid(base, ["lora", "full"], [2, 4], alphas_over_rank=[1.0, 2.0])) == [
        ("lora", 2, 2.0), ("lora", 2, 4.0), ("lora", 4, 4.0), ("lora", 4, 8.0), ("full", 8, 16.0),
    ]  # fmt: skip


def test_learning_rates_are_an_axis() -> None:
    specs = sweep.grid(RunSpec(), ["lora", "full"], seeds=[0, 1], lrs=[0.001, 0.01])
    assert [(s.adapter.method, s.train.lr, s.train.seed) for s in specs] == [
        (method, lr, seed) for method in ("lora", "full") for lr in (0.001, 0.01) for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"alphas": [8.0], "alphas_over_rank": [1.0]}, "Both alphas"),
        ({"methods": ["full", "linear"], "alphas": [8.0]}, r"None of the methods .*full, linear"),
        ({"lrs": [0.0]}, "train.lr"),
        ({"alphas_over_rank": [-1.0]}, "adapter.alpha"),
    ],
)
def test_wrong_axes_are_refused(axes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        sweep.grid(RunSpec(), **axes)
