"""How a verb that carries out many runs tells of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from core.config.run import RunSpec
    from core.experiments.run_grid import Ending, Planned
    from core.reporter import Reporter
    from core.runs.joint_worker import Member
    from core.runs.run import Run


def execute(
    spec: RunSpec, folder: Path, cache: Path, report: Reporter, resume: bool
) -> dict[str, Any]:
    """Carry out one run, in this process."""
    from core.training import trackers

    return trackers.run(spec, folder, cache, report, resume)


def carry_out_together(
    members: Sequence[Member], cache: Path
) -> Iterator[tuple[int, Callable[[], dict[str, Any]]]]:
    """Carry out several runs in the same forward passes, in this process."""
    from core.training.joint.run import run_together

    return run_together(members, cache)


def beside_main() -> bool:
    """Whether this process only computes for another one's run, which alone writes and reports."""
    from core.hardware.distributed import launched

    return not launched().main


def follow(spec: RunSpec, folder: Path, cache: Path) -> int:
    """Compute beside the main process of a run that ``torchrun`` or ``accelerate`` launched.

    Args:
        spec: The run.
        folder: Its folder, if it has been carried out before; nothing is written there.
        cache: Folder of decoded images.

    Returns:
        The process's exit code: 0 if the run was completed or stopped.
    """
    import signal

    from core.errors import Stopped
    from core.reporter import NullReporter
    from core.training.loop import fine_tune

    # Whether to stop is asked and decided by the main process.
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with contextlib.suppress(Stopped):
        fine_tune(spec, folder, cache, NullReporter())
    return 0


class Teller:
    """Says on standard error what is going on, with a bar for the run at work."""

    def __init__(self, wanted: Mapping[str, float | None]) -> None:
        """Take the names of the runs, in their order, with the seconds that each may take."""
        self._wanted = wanted
        self._order = list(wanted)
        self._bar: Any = None

    def begins(self, cell: Planned, run: Run) -> Reporter:
        """Open the run's bar."""
        from core.cli.progress_bar import ProgressBar

        place = self._order.index(cell.name)
        left = sum(self._wanted[name] or 0.0 for name in self._order[place:])
        self._bar = ProgressBar(
            f"[{place + 1} of {len(self._order)}, about {duration(left)} left] {run.name}"
        )
        self._bar.__enter__()
        bar: Reporter = self._bar
        return bar

    def waits(self, cell: Planned, run: Run) -> None:
        """Say that another process is at it."""
        typer.echo(f"{cell.name} is {run.state} in another process; waiting for it.", err=True)

    def ends(self, cell: Planned, run: Run) -> None:
        """Close the bar, and say what came of the run."""
        self._bar.__exit__(None, None, None)
        value = ((run.scores or {}).get("test") or {}).get("auroc")
        told = f"test AUROC {value:.3f}" if value is not None else str(run.failure_reason or "")
        took = f", {run.seconds:.0f} s" if run.seconds else ""
        typer.echo(f"{cell.name}: {run.state}, {told}{took}", err=True)


def say_ending(ending: Ending) -> None:
    """Say on standard error whether it was stopped, and which runs failed."""
    if ending.stopped:
        typer.echo("Stopped; the same command goes on from here.", err=True)
    for run in ending.failed:
        reason = f"{run.failure_reason or ''} {run.failure_remedy or ''}".strip()
        typer.echo(f"{run.name} ({run.id}) is {run.state}. {reason}", err=True)


def ending_json(ending: Ending | None) -> dict[str, Any]:
    """The same as plain values; nothing where nothing was carried out."""
    if ending is None:
        return {}
    return {
        "completed_now": ending.completed,
        "failed": [run.id for run in ending.failed],
        "stopped": ending.stopped,
    }


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
