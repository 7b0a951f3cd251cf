"""Carries out runs in each of the processes that torchrun started; the main one tells what it saw.

Arguments: a JSON file of the runs' ``spec``, ``folder`` and ``stop`` (the question to which the
answer is yes), and the cache.
"""

import json
import sys
from pathlib import Path

from core.config.run import RunSpec
from core.errors import CoreError, Stopped
from core.hardware.distributed import launched
from core.reporter import NullReporter
from core.training.loop import fine_tune


class Notes(NullReporter):
    """Keeps the curves, and asks to stop at a given question."""

    def __init__(self, stop: int | None) -> None:
        self.rows: list[tuple[str, float]] = []
        self.asked, self.stop = 0, stop

    def metric(self, name: str, value: float, *, epoch: float, step: int) -> None:
        self.rows.append((name, value))

    def stop_requested(self) -> bool:
        self.asked += 1
        return self.stop is not None and self.asked >= self.stop


def main(jobs: Path, cache: Path) -> None:
    for job in json.loads(jobs.read_text()):
        folder = Path(job["folder"])
        report = Notes(job["stop"]) if launched().main else NullReporter()
        own = folder if launched().main else folder.with_name("others")
        try:
            fine_tune(RunSpec.from_json(job["spec"]), own, cache, report, resume=job["resume"])
            end = "completed"
        except Stopped:
            end = "stopped"
        except CoreError as error:
            end = str(error)
        if isinstance(report, Notes):
            told = {"end": end, "rows": report.rows}
            with (folder.parent / "told.jsonl").open("a") as file:
                file.write(json.dumps(told) + "\n")
        elif own.exists():
            raise SystemExit("a process beside the main one wrote something")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
