"""``sweep --together`` as a shell uses it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from core.classifier.trained import load_trained
from core.cli.app import app
from core.cli.execution import execute
from core.config.fields import fields
from core.config.run import RunSpec
from core.errors import ConfigurationError
from core.hardware import available_memory
from core.resources import memory
from core.runs import queue, worker
from core.runs.lost_runs import reconcile
from core.runs.run import RunState
from core.runs.scheduler import Scheduler
from core.runs.store import Store
from core.training.joint import compatibility
from core.workspace import Workspace
from tests.support.paths import ROOT

Lora = Callable[..., RunSpec]


def words(spec: RunSpec, *more: str) -> list[str]:
    """The command that trains such runs together."""
    found = ["sweep", "--together", "--yes", "--json", *more]
    for one in fields():
        section, _, field = one.path.partition(".")
        value = getattr(getattr(spec, section), field)
        if value is not None and not isinstance(value, bool) and value != one.default:
            found += [f"--{one.option}", str(value)]
    return found


@pytest.mark.slow
def test_the_runs_are_runs_of_their_own(lora: Lora, store: Store, workspace: Workspace) -> None:
    place = ["--workspace", str(workspace.root)]
    command_words = words(lora(train__epochs=1), "--ranks", "2,4", *place)
    answer = CliRunner().invoke(app, command_words)
    assert answer.exit_code == 0, answer.output
    runs = store.list()
    assert [run.state for run in runs] == ["completed"] * 2
    assert {one["id"] for one in json.loads(answer.stdout)["carried_out"]} == {r.id for r in runs}
    for run in runs:
        assert load_trained(workspace.run(run.id)).spec.adapter.rank == run.spec.adapter.rank
        assert run.scores is not None
        assert len(store.metrics(run.id)) > 5
    assert (
        "queued"
        in CliRunner().invoke(app, [one for one in command_words if one != "--json"]).output
    )
    other = CliRunner().invoke(app, [*command_words, "--methods", "lora,full"])
    assert "cannot be trained together" in str(other.exception)
    assert len(store.list()) == 2


@pytest.mark.slow
def test_those_of_a_killed_process_can_each_be_resumed_alone(
    lora: Lora, store: Store, workspace: Workspace
) -> None:
    spec = lora(train__epochs=12)
    command = [sys.executable, "-m", "core", *words(spec, "--seeds", "0,1")]
    process = subprocess.Popen(
        [*command, "--workspace", str(workspace.root)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 300
    while len([run for run in store.list() if run.best_auroc is not None]) < 2:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reconcile(store)
    runs = store.list()
    assert [run.state for run in runs] == [RunState.LOST] * 2
    queue.resume(store, runs[0].id)
    assert worker.work(store, workspace, runs[0].id, execute) == 0
    resumed = store.get(runs[0].id)
    assert (resumed.state, resumed.attempts) == (RunState.COMPLETED, 2)
    assert store.get(runs[1].id).state is RunState.LOST


@pytest.mark.slow
def test_those_that_are_queued_start_in_one_process(
    lora: Lora, store: Store, workspace: Workspace
) -> None:
    command_words = words(lora(train__epochs=1), "--queued", "--ranks", "2,4")
    answer = CliRunner().invoke(app, [*command_words, "--workspace", str(workspace.root)])
    assert answer.exit_code == 0, answer.output
    assert len(json.loads(answer.stdout)["queued"]) == 2
    assert [run.state for run in store.list()] == [RunState.QUEUED] * 2
    scheduler = Scheduler(store, workspace)
    scheduler.start()
    try:
        until = time.monotonic() + 300
        while not queue.idle(store):
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        scheduler.stop()
    one, other = store.list()
    assert [one.state, other.state] == [RunState.COMPLETED] * 2, workspace.run(one.id) / "log.txt"
    assert (one.pid, one.process) == (other.pid, other.process)
    assert {(run.environment or {})["together"] for run in (one, other)} == {2}
    assert {run.spec.adapter.rank for run in (one, other)} == {2, 4}


def test_more_than_the_memory_holds_is_refused(
    lora: Lora, store: Store, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [lora(train__seed=seed).resolved() for seed in range(3)]
    few = memory.predict_together(runs[:1])
    assert few is not None
    assert few == memory.predict_memory(runs[0], memory.MIN_FINDINGS)
    together = memory.predict_together(runs)
    assert together is not None
    assert few < together < 3 * few + 3 * memory.BYTES_PER_MEMBER
    monkeypatch.setattr(
        available_memory, "of", lambda device: available_memory.Capacity(together - 1, together - 1)
    )
    with pytest.raises(ConfigurationError, match="3 runs together need about") as caught:
        compatibility.check_compatible(runs)
    assert caught.value.field == "train.batch_size"
    compatibility.check_compatible(runs[:2])
