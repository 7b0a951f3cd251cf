"""A process that executes several runs is not killed while one of them continues."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from core.runs import processes, queue, stop
from core.runs.run import Run, RunState
from core.runs.store import Store
from tests.support.runs import specs

DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('ready', flush=True); time.sleep(600)"
)


def test_a_process_is_not_killed_while_others_of_it_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    monkeypatch.setattr(stop, "TERMINATE_AFTER", 0.0)
    monkeypatch.setattr(stop, "KILL_AFTER", 0.0)
    with subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        at_work = {
            "host": processes.host(), "pid": process.pid, "slot": "cpu",
            "process": processes.start_of(process.pid), "heartbeat_at": time.time(),
        }  # fmt: skip
        one, other = (
            replace(queue.submit(store, spec), state=state, **at_work)
            for spec, state in zip(specs(2), [RunState.STOPPING, RunState.RUNNING], strict=True)
        )
        enforcing = stop.StopEnforcer()
        for _ in range(3):
            enforcing.enforce([one, other])
            time.sleep(0.05)
        assert process.poll() is None

        def ended() -> bool:
            gone: list[Run] = [one, replace(other, state=RunState.STOPPING)]
            enforcing.enforce(gone)
            return process.poll() is not None

        until(ended)
