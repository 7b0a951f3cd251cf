"""Trains runs in each process that torchrun started; the main one records their curves.

Arguments: a JSON file with ``spec``, ``folder`` and ``stop`` of each run (the number of the call of
``stop_requested`` that returns True), and the cache.
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
    """Records the curves, and requests a stop at a given call."""

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
            record = {"end": end, "rows": report.rows}
            with (folder.parent / "told.jsonl").open("a") as file:
                file.write(json.dumps(record) + "\n")
        elif own.exists():
            raise SystemExit("a process that is not the main one wrote files")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
