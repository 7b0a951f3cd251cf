"""Functions that train runs in this process, and the progress of a grid of runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from core.formatting import auroc, duration

if TYPE_CHECKING:
    from core.config.run import RunSpec
    from core.experiments.run_grid import GridCell, GridResult
    from core.experiments.tune.plan import Plan
    from core.reporter import Reporter
    from core.runs.joint_worker import Member, Result
    from core.runs.run import Run
    from core.runs.scheduler import Scheduler
    from core.runs.store import Store
    from core.workspace import Workspace

EXECUTORS = ("processes", "ray")
"""Where runs are executed: processes of this machine, or a Ray cluster."""


def execute(
    spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
) -> dict[str, Any]:
    """Train one run in this process; torch is imported only here."""
    from core.training import trackers

    return trackers.run(spec, folder, cache, report, resume)


def execute_jointly(members: Sequence[Member], cache: Path) -> Iterator[tuple[int, Result]]:
    """Train several runs in the same forward passes, in this process."""
    from core.training.joint.run import run_together

    return run_together(members, cache)


def trainable_together(specs: Sequence[RunSpec]) -> bool:
    """Whether runs can be trained jointly."""
    from core.errors import ConfigurationError
    from core.training.joint.compatibility import check_compatible

    try:
        check_compatible(specs)
    except ConfigurationError:
        return False
    return True


def open_scheduler(
    store: Store,
    workspace: Workspace,
    executor: str,
    slots: int,
    address: str,
    cpus: int,
    resume_lost: bool = False,
) -> Scheduler:
    """A scheduler that executes queued runs, not yet started.

    Args:
        store: The store.
        workspace: The workspace.
        executor: One of ``EXECUTORS``.
        slots: processes: simultaneous runs on each device.
        address: ray: address of the cluster.
        cpus: ray: cores of each run.
        resume_lost: processes: whether lost runs are resumed; on Ray they always are.

    Raises:
        ConfigurationError: The executor is unknown, or there is no cluster at the address.
    """
    from core.errors import unknown_name
    from core.runs.scheduler import Scheduler

    if executor not in EXECUTORS:
        raise unknown_name("executor", executor, EXECUTORS)
    if executor == "ray":
        from core.runs.ray_executor import RayScheduler
        from core.training import trackers

        return RayScheduler(store, workspace, execute=trackers.run, address=address, cpus=cpus)
    return Scheduler(store, workspace, slots=slots, resume_lost=resume_lost)


def choose_settings(plans: Iterable[Plan], store: Store, workspace: Workspace) -> None:
    """Run the trials of plans in processes of this machine, and print their progress.

    Args:
        plans: The plans.
        store: The store.
        workspace: The workspace.
    """
    from core.experiments.tune.choice import choose_all

    scheduler = open_scheduler(store, workspace, "processes", 1, "auto", 1)
    scheduler.start()
    try:
        choose_all(plans, store, workspace, lambda line: typer.echo(line, err=True))
    finally:
        scheduler.stop()


def is_secondary_process() -> bool:
    """Whether another process of a distributed run is the main one, which writes and reports."""
    from core.hardware.distributed import launched

    return not launched().main


def train_as_secondary(spec: RunSpec, folder: Path, cache: Path) -> int:
    """Train a run that ``torchrun`` or ``accelerate`` launched, in a process that is not the main.

    Args:
        spec: The run.
        folder: Its folder, if it was started before; nothing is written to it.
        cache: Folder of decoded images.

    Returns:
        Exit code of the process: 0 if the run was completed or stopped.
    """
    import signal

    from core.errors import Stopped
    from core.reporter import NullReporter
    from core.training.loop import fine_tune

    # The main process receives the signals and decides whether to stop.
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with contextlib.suppress(Stopped):
        fine_tune(spec, folder, cache, NullReporter())
    return 0


class GridProgress:
    """Prints the progress of a grid on standard error, with a bar for the present run.

    Args:
        expected: Expected seconds of each run by its name, in their order; None if unknown.
    """

    def __init__(self, expected: Mapping[str, float | None]) -> None:
        self._expected = expected
        self._order = list(expected)
        self._bar: Any = None

    def run_started(self, cell: GridCell, run: Run) -> Reporter:
        """Open the bar of the run."""
        from core.cli.progress_bar import ProgressBar

        index = self._order.index(cell.name)
        left = sum(self._expected[name] or 0.0 for name in self._order[index:])
        self._bar = ProgressBar(
            f"[{index + 1} of {len(self._order)}, about {duration(left)} left] {run.name}"
        )
        self._bar.__enter__()
        bar: Reporter = self._bar
        return bar

    def run_awaited(self, cell: GridCell, run: Run) -> None:
        """Print that another process executes the run."""
        typer.echo(f"{cell.name} is {run.state} in another process; waiting for it.", err=True)

    def run_ended(self, cell: GridCell, run: Run) -> None:
        """Close the bar, and print the result of the run."""
        self._bar.__exit__(None, None, None)
        result = (
            str(run.failure_reason or "")
            if run.test_auroc is None
            else f"test AUROC {auroc(run.test_auroc)}"
        )
        took = f", {duration(run.seconds)}" if run.seconds else ""
        typer.echo(f"{cell.name}: {run.state}, {result}{took}", err=True)


def print_grid_result(result: GridResult) -> None:
    """Print on standard error whether a grid was stopped, and which runs failed."""
    if result.stopped:
        typer.echo("Stopped. Run the same command again to continue.", err=True)
    for run in result.failed:
        reason = f"{run.failure_reason or ''} {run.failure_remedy or ''}".strip()
        typer.echo(f"{run.name} ({run.id}) is {run.state}. {reason}", err=True)


def grid_result_json(result: GridResult | None) -> dict[str, Any]:
    """The result of a grid as a JSON value; empty if no run was executed."""
    if result is None:
        return {}
    return {
        "completed_now": result.completed,
        "failed": [run.id for run in result.failed],
        "stopped": result.stopped,
    }
