"""Tunings in the background: submitted, stopped, continued, and continued after a kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from core.config.run import RunSpec
from core.errors import ConfigurationError, DataError, RunError
from core.experiments.tune import background, result
from core.experiments.tune import study as studies
from core.experiments.tune.background import BackgroundTunings
from core.experiments.tune.overview import Overview, Overviews, TuningState
from core.experiments.tune.tune import Tuning
from core.runs import processes, queue
from core.runs.run import RunState
from core.runs.store import Store, open_store
from core.workspace import Workspace, open_workspace
from tests.support import tuned_run
from tests.support.paths import ROOT
from tests.support.tuned_run import plan, served

PROGRAM = ROOT / "tests" / "support" / "tuned_run.py"


def overview(store: Store, name: str) -> Overview:
    return Overviews(store, studies.open_storage(store.workspace)).get(name)


def passes(tunings: BackgroundTunings, done: Callable[[], bool], seconds: float = 60) -> None:
    """Passes of a service until something is done."""
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "the tuning does not advance"
        tunings.step()
        time.sleep(0.01)


@pytest.fixture
def name(store: Store, workspace: Workspace) -> str:
    return background.submit(plan(), store, workspace)


@pytest.fixture
def other() -> Iterator[processes.Identity]:
    """Another living process of this machine."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield processes.Identity(processes.host(), process.pid, processes.start_of(process.pid))
    process.kill()
    process.communicate()


def test_a_submitted_tuning_is_run_to_its_end(
    store: Store, workspace: Workspace, name: str
) -> None:
    assert overview(store, name).state is TuningState.QUEUED
    tunings = BackgroundTunings(store, workspace)
    version = store.version()
    with served(store, workspace):
        tunings.step()
        assert store.list() == []  # claimed; it is advanced in the next pass
        assert overview(store, name).state is TuningState.RUNNING
        passes(tunings, lambda: overview(store, name).state is TuningState.COMPLETED)
    assert store.version() > version
    seen = overview(store, name)
    assert [(each.ended, each.planned) for each in seen.methods] == [(4, 4), (4, 4)]
    assert (seen.finals, seen.planned_finals) == (4, 4)
    assert not seen.can_stop
    assert not seen.can_continue
    storage = studies.open_storage(workspace)
    assert result.result_of(Tuning.stored(name, store, storage)).complete
    runs = len(store.list())
    assert background.submit(plan(), store, workspace) == name  # nothing is left to do
    for _ in range(3):
        tunings.step()
    assert len(store.list()) == runs
    assert overview(store, name).state is TuningState.COMPLETED


def test_a_plan_that_cannot_work_adds_nothing(store: Store, workspace: Workspace) -> None:
    with pytest.raises(ConfigurationError, match="0 trials") as fault:
        background.submit(plan(trials=0), store, workspace)
    assert fault.value.field == "tune.trials"
    assert studies.existing_storage(workspace) is None
    BackgroundTunings(store, workspace).step()
    assert studies.existing_storage(workspace) is None


def test_a_stopped_tuning_starts_nothing_until_it_is_continued(
    store: Store, workspace: Workspace, name: str
) -> None:
    tunings, storage = BackgroundTunings(store, workspace), studies.open_storage(workspace)
    passes(tunings, lambda: len(store.list()) == 2)
    lora, full = sorted(store.list(), key=lambda run: run.spec.adapter.method != "lora")
    claimed = store.claim_next({"cpu": 1})  # the first trial of LoRA starts, the other waits
    assert claimed is not None
    assert claimed.id == lora.id
    background.stop(name, store, storage)
    assert overview(store, name).state is TuningState.STOPPING
    passes(tunings, lambda: store.get(full.id).state is RunState.STOPPED)
    tunings.step()
    assert overview(store, name).state is TuningState.STOPPING
    with pytest.raises(RunError, match="not running"):
        background.stop(name, store, storage)
    assert tuned_run.worker.work(store, workspace, lora.id, tuned_run.execute) == 0
    passes(tunings, lambda: overview(store, name).state is TuningState.STOPPED)
    seen = overview(store, name)
    assert [each.ended for each in seen.methods] == [1, 0]
    assert seen.can_continue
    for _ in range(3):
        tunings.step()
    assert len(store.list()) == 2

    background.resume(name, store, storage)
    with served(store, workspace):
        passes(tunings, lambda: overview(store, name).state is TuningState.COMPLETED)
    tuning = Tuning.stored(name, store, storage)
    for method in tuning.methods:
        assert len(method.study.trials(TrialState.COMPLETE)) == 4  # none failed by the stop
    assert len(store.list()) == 2 * (4 + 2)


def test_final_runs_leave_the_queue_and_return(store: Store, workspace: Workspace) -> None:
    name = background.submit(plan(trials=1), store, workspace)
    tunings, storage = BackgroundTunings(store, workspace), studies.open_storage(workspace)

    def finals() -> list[RunState]:
        tuning = Tuning.stored(name, store, storage)
        return [
            run.state for each in tuning.methods for run in tuning.final_runs(each.study).values()
        ]

    passes(tunings, lambda: len(store.list()) == 2)
    for run in store.list():
        store.claim_next({"cpu": 1})
        tuned_run.worker.work(store, workspace, run.id, tuned_run.execute)
    passes(tunings, lambda: finals() == [RunState.QUEUED] * 4)
    background.stop(name, store, storage)
    passes(tunings, lambda: overview(store, name).state is TuningState.STOPPED)
    assert finals() == [RunState.STOPPED] * 4
    background.resume(name, store, storage)
    with served(store, workspace):
        passes(tunings, lambda: overview(store, name).state is TuningState.COMPLETED)
    assert len(store.list()) == 2 * (1 + 2)


def test_a_stop_and_continue_between_two_passes_changes_nothing(
    store: Store, workspace: Workspace, name: str
) -> None:
    tunings, storage = BackgroundTunings(store, workspace), studies.open_storage(workspace)
    passes(tunings, lambda: len(store.list()) == 2)
    background.stop(name, store, storage)
    tuning = Tuning.stored(name, store, storage)
    tuning.set_state(studies.BACKGROUND)
    tunings.step()
    assert [run.state for run in store.list()] == [RunState.QUEUED] * 2


def test_a_user_s_stop_of_a_final_run_is_kept(store: Store, workspace: Workspace) -> None:
    name = background.submit(plan(trials=1), store, workspace)
    tunings, storage = BackgroundTunings(store, workspace), studies.open_storage(workspace)

    def stopping(spec: RunSpec, folder: Path, *given: object) -> dict[str, object]:
        if spec.train.seed == 2:
            queue.stop(store, folder.name)
        return tuned_run.execute(spec, folder, *given)  # type: ignore[arg-type]

    with served(store, workspace, stopping):
        passes(tunings, lambda: overview(store, name).state is TuningState.FAILED)
        for _ in range(3):
            tunings.step()
    assert overview(store, name).finals == 2
    again = BackgroundTunings(store, workspace)
    for _ in range(3):
        again.step()
    assert [run.state for run in store.list() if run.spec.train.seed == 2] == [RunState.STOPPED] * 2
    background.resume(name, store, storage)
    with served(store, workspace):
        passes(again, lambda: overview(store, name).state is TuningState.COMPLETED)


def test_what_another_process_runs_is_left_alone(
    store: Store, workspace: Workspace, name: str, other: processes.Identity,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tuning = Tuning.stored(name, store, studies.open_storage(workspace))
    tunings = BackgroundTunings(store, workspace)
    mine = {"host": other.host, "pid": other.pid, "process": other.process, "beat": 1.0}
    for owner in (mine, mine | {"host": "another machine"}):
        tuning._record(studies.OWNER, owner)
        for _ in range(3):
            store.count_change()
            tunings.step()
        assert tuning.methods[0].study.study.user_attrs[studies.OWNER] == owner
        assert overview(store, name).state is TuningState.RUNNING
    # The other machine is silent for long.
    monkeypatch.setattr(background, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(background, "LOOK_SECONDS", 0.0)
    passes(tunings, lambda: len(store.list()) == 2)


def test_a_tuning_of_the_command_line_is_not_taken_over(store: Store, workspace: Workspace) -> None:
    tuning = Tuning(plan(), store, workspace)  # as after Ctrl-C
    tunings = BackgroundTunings(store, workspace)
    for _ in range(3):
        tunings.step()
    assert store.list() == []
    seen = overview(store, tuning.name)
    assert seen.state is TuningState.STOPPED
    background.resume(tuning.name, store, studies.open_storage(workspace))
    passes(tunings, lambda: len(store.list()) == 2)


def test_a_stop_ends_a_tuning_of_the_command_line(store: Store, workspace: Workspace) -> None:
    tuning, storage = Tuning(plan(), store, workspace), studies.open_storage(workspace)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            background.stop(tuning.name, store, storage)
        time.sleep(0.01)

    assert not tuning.run(wait)
    assert tuning.stopped
    assert overview(store, tuning.name).state is TuningState.STOPPED
    with served(store, workspace):
        assert Tuning(plan(), store, workspace).run(lambda seconds: time.sleep(0.01))
    assert overview(store, tuning.name).state is TuningState.COMPLETED


def test_a_tuning_that_cannot_continue_says_why(
    store: Store, workspace: Workspace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise DataError("There are no radiographs.", "Download them.")

    with monkeypatch.context() as patched:
        patched.setattr("core.experiments.tune.tune.check", refuse)
        tunings = BackgroundTunings(store, workspace)
        passes(tunings, lambda: overview(store, name).state is TuningState.STOPPED)
    seen = overview(store, name)
    assert seen.problem == "There are no radiographs. Download them."
    background.resume(name, store, studies.open_storage(workspace))
    passes(tunings, lambda: len(store.list()) == 2)
    assert overview(store, name).problem == ""


def test_an_error_of_the_program_ends_one_tuning_only(
    store: Store, workspace: Workspace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = background.submit(replace(plan(), trials=2), store, workspace)
    step = Tuning.step

    def broken(self: Tuning) -> bool:
        if self.name == name:
            raise ZeroDivisionError("division by zero")
        return step(self)

    monkeypatch.setattr(Tuning, "step", broken)
    tunings = BackgroundTunings(store, workspace)
    with served(store, workspace):
        passes(tunings, lambda: overview(store, second).state is TuningState.COMPLETED)
    assert overview(store, name).state is TuningState.STOPPED
    assert "ZeroDivisionError" in overview(store, name).problem


@pytest.mark.slow
def test_a_killed_service_loses_and_repeats_nothing(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    workspace = open_workspace(root)
    store = open_store(workspace, create=True)
    name = background.submit(plan(), store, workspace)
    environment = os.environ | {tuned_run.EPOCH_SECONDS: "0.2", "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(PROGRAM), "background", str(root)],
            stdout=subprocess.DEVNULL,
            env=environment,
        )

    def wait(until: Callable[[], bool]) -> None:
        end = time.monotonic() + 400
        while not until():
            assert time.monotonic() < end
            time.sleep(0.05)

    service = start()
    try:
        for started in (1, 4, 9):  # in the first trials, in later ones, and in the final runs
            wait(lambda started=started: len(store.list()) >= started)  # type: ignore[misc]
            service.send_signal(signal.SIGKILL)
            service.wait()
            active = store.list(states=[RunState.RUNNING])
            for run in active if started == 4 else ():
                if run.pid is not None:
                    with contextlib.suppress(ProcessLookupError):  # it has ended
                        os.kill(run.pid, signal.SIGKILL)
            service = start()
        wait(lambda: overview(store, name).state is TuningState.COMPLETED)
    finally:
        service.kill()
        service.wait()
    tuning = Tuning.stored(name, store, studies.open_storage(workspace))
    shown = result.result_of(tuning)
    assert [(each.trials, each.failed) for each in shown.methods] == [(4, 0), (4, 0)]
    runs = store.list()
    assert {run.state for run in runs} == {RunState.COMPLETED}
    assert len(runs) == len({run.fingerprint for run in runs}) == 2 * (4 + 2)
