"""Pictures made ready in the background, by a process that does not outlive its reason."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

from core import prepare
from core.spec import RunSpec

STARTER = """
import subprocess, sys, time
done = subprocess.Popen([sys.executable, "-m", "core", "prepare", *sys.argv[1:]])
print(done.pid, flush=True)
time.sleep(600)
"""


def test_what_is_made_until_it_is_stopped_is_kept(tmp_path: Path) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    spec = RunSpec.of(**{"data.name": "phantom-1", "data.label_fraction": 0.01})
    found = prepare.prepare(spec, tmp_path, should_stop=stop)
    assert 0 < found["made"] < found["pictures"]


def test_in_the_background_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    words = ["--data", "phantom-1", "--background", "--workspace", str(tmp_path / "workspace")]
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert starter.stdout is not None
    worker = psutil.Process(int(starter.stdout.readline()))
    until = time.monotonic() + 240
    while not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("images/*/*")):
        assert worker.is_running()
        assert time.monotonic() < until
        time.sleep(0.1)
    starter.kill()
    starter.wait()
    worker.wait(240)
    starter.stdout.close()
