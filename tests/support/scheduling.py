"""A scheduler in its own process that starts tiny runs: ``scheduling.py WORKSPACE SLOTS``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.runs.run import Run
from core.runs.scheduler import Scheduler
from core.runs.store import open_store
from core.workspace import open_workspace

TINY = Path(__file__).with_name("tiny_run.py")


def main() -> None:
    workspace, slots = open_workspace(sys.argv[1]), int(sys.argv[2])
    store = open_store(workspace, create=True)

    def command(run: Run) -> list[str]:
        return [sys.executable, str(TINY), run.id, str(workspace.root)]

    Scheduler(store, workspace, slots, command=command).start()
    print("serving", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
