"""Verbs on the queue: list, order, stop and resume runs, and ``serve``, the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.execution import open_scheduler
from core.cli.output import AsJson, Folder, RunName, answer, opened, summary, table

if TYPE_CHECKING:
    from core.runs.store import Store


def queue(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the queued runs in the order in which they start, and what each waits for."""
    _, store = opened(folder)
    waiting = _waiting(store)
    answer(waiting, as_json, lambda: table(
        ("id", "priority", "name", "waits for"),
        [
            (run["id"], str(run["priority"]), run["name"], run["waits"] or "a free slot")
            for run in waiting
        ],
    ))  # fmt: skip


def _waiting(store: Store) -> list[dict[str, Any]]:
    from core.runs.queue import waiting_reason
    from core.runs.run import RunState

    runs = sorted(store.list(states=[RunState.QUEUED]), key=lambda run: run.queue_key)
    return [
        summary(run)
        | {"priority": run.priority, "after": run.after, "waits": waiting_reason(store, run)}
        for run in runs
    ]


def move(
    run: RunName,
    where: Annotated[str, typer.Argument(help="first, up, down or last.")],
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Move a queued run in the queue."""
    _, store = opened(folder)
    store.move(store.get(run).id, where)
    waiting = _waiting(store)
    answer(waiting, as_json, lambda: typer.echo(
        "\n".join(f"{i}  {run['id']}  {run['name']}" for i, run in enumerate(waiting, 1))
    ))  # fmt: skip


def after(
    run: RunName,
    other: Annotated[
        str | None, typer.Argument(help="The run to wait for; without it, the run waits for none.")
    ] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Let a queued run start only after another run is completed."""
    from core.runs.queue import waiting_reason

    _, store = opened(folder)
    run_id = store.get(run).id
    store.wait_for(run_id, store.get(other).id if other else None)
    changed = store.get(run_id)
    waits = waiting_reason(store, changed) or "It waits for a free slot."
    value = summary(changed) | {"after": changed.after, "waits": waits}
    answer(value, as_json, lambda: typer.echo(f"{run_id} is {changed.state}. {waits}"))


def stop(run: RunName, folder: Folder = None, as_json: AsJson = False) -> None:
    """Stop a run within five seconds; it writes a checkpoint and can be resumed."""
    from core.runs import queue

    _, store = opened(folder)
    stopped = queue.stop_now(store, store.get(run).id)
    answer(summary(stopped), as_json, lambda: typer.echo(f"{stopped.id} is {stopped.state}."))


def resume(run: RunName, folder: Folder = None, as_json: AsJson = False) -> None:
    """Queue a stopped, failed or lost run again; it continues from its last checkpoint."""
    from core.runs import queue

    _, store = opened(folder)
    resumed = queue.resume(store, store.get(run).id)
    answer(summary(resumed), as_json, lambda: typer.echo(f"{resumed.id} is {resumed.state}."))


def serve(
    folder: Folder = None,
    slots: Annotated[
        int, typer.Option(min=1, help="Simultaneous runs on the processor and on each GPU.")
    ] = 1,
    until_idle: Annotated[
        bool, typer.Option(help="End when no run is active and none will start.")
    ] = False,
    resume_lost: Annotated[
        bool, typer.Option("--resume-lost", help="Resume runs whose process was lost.")
    ] = False,
    executor: Annotated[
        str, typer.Option(help="Where runs are executed: processes of this machine, or ray.")
    ] = "processes",
    address: Annotated[str, typer.Option(help="ray: address of the cluster.")] = "auto",
    cpus: Annotated[int, typer.Option(min=1, help="ray: cores of each run.")] = 1,
) -> None:
    """Start queued runs without the explorer, until interrupted."""
    import time

    from core.runs import queue

    workspace, store = opened(folder)
    scheduler = open_scheduler(store, workspace, executor, slots, address, cpus, resume_lost)
    where = f"with {slots} slot(s) per device"
    if executor == "ray":
        where = f"on the Ray cluster, {cpus} core(s) per run"
    scheduler.start()
    typer.echo(f"Serving {workspace.root} {where}. Ctrl-C ends; started runs continue.", err=True)
    try:
        while not (until_idle and queue.idle(store)):
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        scheduler.stop()
